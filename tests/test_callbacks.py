"""scikit-learn's callbacks: what they are told of a fit, that they may end it, and that they change no bits."""

import contextlib
import io

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support import assert_same_array, assert_same_fit, result_of

from gpukmeans import KMeans, _callbacks

try:
    from sklearn.callback import ProgressBar, ScoringMonitor
except ImportError:
    pytest.skip("this scikit-learn has no callbacks", allow_module_level=True)

X, _ = make_blobs(300, 3, centers=6, random_state=0)


class Record:
    """A callback that keeps what it is told, and may wish to stop."""

    def __init__(self, stops_at=None):
        self.events, self.models, self.stops_at = [], [], stops_at

    def setup(self, estimator, context):
        self.events.append("setup")

    def on_fit_task_begin(self, estimator, context, *, X=None):
        self.events.append(f"begin {context.task_name}")
        assert X is not None

    def on_fit_task_end(self, estimator, context, *, metadata=None, fitted_estimator=None):
        self.events.append(f"end {context.task_name}")
        self.models.append((context.task_name, fitted_estimator, metadata))
        return self.stops_at == (context.task_name, context.task_id)

    def teardown(self, estimator, context):
        self.events.append("teardown")


def model(backend, **parameters):
    return KMeans(6, random_state=3, **{"init": "random", "n_init": 2, "backend": backend, **parameters})


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_callback_is_told_of_starts_and_iterations_and_changes_no_bits(backend, dtype):
    data, record = (X * 1e20).astype(dtype), Record()
    expected = model(backend).fit(data)
    got = model(backend).set_callbacks(record).fit(data)
    assert_same_fit(result_of(got), result_of(expected))
    runs = " ".join(record.events).split("begin start")
    assert record.events[:2] == ["setup", "begin fit"]
    assert record.events[-2:] == ["end fit", "teardown"]
    assert len(runs) == 3
    iterations = [run.count("begin iteration") for run in runs[1:]]
    assert got.n_iter_ in iterations
    assert record.events.count("end iteration") == sum(iterations)
    for name, fitted, metadata in record.models:
        assert metadata is None
        if name == "fit":
            assert_same_array(fitted.predict(data), got.labels_)
    scores = [-fitted.score(data) for name, fitted, _ in record.models[: iterations[0]]]
    assert scores == sorted(scores, reverse=True)


def test_the_model_of_an_iteration_is_that_of_a_fit_of_so_many_iterations(backend):
    record = Record()
    fitted = model(backend, n_init=1, tol=0).set_callbacks(record).fit(X, sample_weight=np.arange(300.0))
    assert fitted.n_iter_ > 3
    for i, (_, so_far, metadata) in enumerate(record.models[:3]):
        short = model(backend, n_init=1, tol=0, max_iter=i + 1).fit(X, sample_weight=np.arange(300.0))
        assert_same_array(so_far.cluster_centers_, short.cluster_centers_)
        assert_same_array(metadata["sample_weight"], np.arange(300.0))


def test_a_callback_may_end_a_run_and_the_fit(backend):
    stopped = model(backend, n_init=1, tol=0).set_callbacks(Record(("iteration", 1))).fit(X)
    assert_same_fit(result_of(stopped), result_of(model(backend, n_init=1, tol=0, max_iter=2).fit(X)))
    assert_same_array(stopped.predict(X), stopped.labels_)
    record = Record(("start", 0))
    assert_same_fit(
        result_of(model(backend, n_init=5).set_callbacks(record).fit(X)), result_of(model(backend, n_init=1).fit(X))
    )
    assert record.events.count("begin start") == 1


def test_callbacks_are_torn_down_after_an_error_and_can_be_taken_away():
    record = Record()
    kmeans = model("numpy", init=lambda X, n_clusters, random_state: X[:1]).set_callbacks(record)
    with pytest.raises(ValueError, match="initial centers"):
        kmeans.fit(X)
    assert record.events == ["setup", "begin fit", "begin start", "teardown"]
    kmeans.set_callbacks()
    assert not [name for name in vars(kmeans) if "callback" in name]
    with pytest.raises(TypeError, match="FitCallback"):
        kmeans.set_callbacks("progress")


def test_callbacks_of_scikit_learn_work_also_in_a_pipeline():
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        make_pipeline(StandardScaler(), model("numpy")).set_callbacks(ProgressBar()).fit(X)
    assert "KMeans" in said.getvalue()
    monitor = ScoringMonitor(scoring={"score": lambda estimator, X, y: estimator.score(X)})
    fitted = clone(model("numpy", n_init=1).set_callbacks(monitor)).fit(X, np.zeros(300))  # it scores only with a y
    log = monitor.get_logs().data
    assert [entry["score"] for entry in log if entry["task_name"] in ("fit", "start")] == [-fitted.inertia_] * 2
    assert [entry["task_name"] for entry in log].count("iteration") == fitted.n_iter_


def test_without_callbacks_in_scikit_learn_the_error_says_so(monkeypatch):
    monkeypatch.setattr(_callbacks, "import_module", lambda name: __import__("sklearn.no_such_module"))
    with pytest.raises(ImportError, match="Callbacks need scikit-learn 1.9 or newer"):
        model("numpy").set_callbacks(Record())
