"""The CUDA backend on the stand-in for CuPy: where data lives, what crosses the bus, memory that runs out.

Verified without a GPU. That its results have the oracle's bits is the business of all tests with the fixture `backend`.
"""

import logging
import pickle
import sys
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import support
from problems import Recipe
from simt.standin import torch as standin_torch
from sklearn.exceptions import ConvergenceWarning
from support import assert_same_array, assert_same_fit, quiet_fit, result_of

import gpukmeans
from gpukmeans import KMeans
from gpukmeans.arrays import to_host

N, D, K = 400, 5, 9


@pytest.fixture(autouse=True)
def control():
    """The stand-in's knobs and its log."""
    with support.standin_cupy(properties={"MultiProcessorCount": 2}) as knobs:
        yield knobs


@pytest.fixture
def torch():
    standin_torch.install()
    yield sys.modules["torch"]
    standin_torch.uninstall()


def data(dtype="f4", n=N, d=D, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(dtype)


def model(k=K, **parameters):
    return KMeans(k, **({"random_state": 0, "backend": "cupy"} | parameters))


def on_host(fitted):
    """The result of a fit, with its arrays on the host."""
    return result_of(fitted)._replace(labels=to_host(fitted.labels_), centers=to_host(fitted.cluster_centers_))


def expected(X, k=K, **options):
    parameters = {"random_state": 0, "backend": "numpy"}
    weights = options.pop("sample_weight", None)
    return quiet_fit(KMeans(k, **(parameters | options)), X, sample_weight=weights)


# ------------------------------------------------------------------------------------------------ in kind


def test_cupy_arrays_are_used_in_place_and_results_are_cupy_arrays(control):
    import cupy

    X, reference = data(), expected(data())
    on_card = cupy.asarray(X)
    control.log.clear()
    fitted = model().fit(on_card)
    assert X.nbytes not in control.log.to_device
    assert max(control.log.within_device, default=0) < X.nbytes
    assert isinstance(fitted.labels_, cupy.ndarray)
    assert isinstance(fitted.cluster_centers_, cupy.ndarray)
    assert_same_fit(on_host(fitted), result_of(reference))
    for method in ("predict", "transform"):
        result = getattr(fitted, method)(on_card)
        assert isinstance(result, cupy.ndarray)
        assert_same_array(result.get(), getattr(reference, method)(X))
    assert fitted.score(on_card) == reference.score(X)
    assert isinstance(fitted.predict(X), np.ndarray)  # the kind of what it was given, not of what it was fitted to


def test_functions_give_results_in_kind():
    import cupy

    X, Y = data(), data(seed=1)[:7]
    for of_x, kind in ((X, np.ndarray), (cupy.asarray(X), cupy.ndarray)):
        centers, _ = gpukmeans.kmeans_plusplus(of_x, 4, random_state=0, backend="cupy")
        assert isinstance(centers, kind)
        assert_same_array(to_host(centers), gpukmeans.kmeans_plusplus(X, 4, random_state=0, backend="numpy")[0])
        argmin, distances = gpukmeans.pairwise_distances_argmin_min(of_x, cupy.asarray(Y), backend="cupy")
        assert isinstance(argmin, kind)
        reference = gpukmeans.pairwise_distances_argmin_min(X, Y, backend="numpy")
        assert_same_array(to_host(argmin), reference[0])
        assert_same_array(to_host(distances), reference[1])
        swapped = gpukmeans.pairwise_distances_argmin(Y, of_x, axis=0, backend="cupy")
        assert_same_array(to_host(swapped), reference[0])


@pytest.mark.parametrize("name", ["MiniBatchKMeans", "BisectingKMeans", "KernelKMeans"])
def test_other_estimators_give_results_in_kind_with_the_bits_of_numpy(name):
    import cupy

    X = data("f8", n=200, d=3)
    options = {"n_components": 20} if name == "KernelKMeans" else {}
    reference = getattr(gpukmeans, name)(4, random_state=0, backend="numpy", **options).fit(X)
    fitted = getattr(gpukmeans, name)(4, random_state=0, backend="cupy", **options).fit(cupy.asarray(X))
    assert isinstance(fitted.labels_, cupy.ndarray)
    assert isinstance(fitted.predict(cupy.asarray(X)), cupy.ndarray)
    assert_same_array(fitted.labels_.get(), reference.labels_)
    assert_same_array(fitted.predict(X), reference.labels_)
    assert fitted.inertia_ == reference.inertia_
    if name != "KernelKMeans":
        assert_same_array(fitted.cluster_centers_.get(), reference.cluster_centers_)
    if name == "MiniBatchKMeans":
        for model in (reference, fitted):
            model.partial_fit(X[:50] if model is reference else cupy.asarray(X[:50]))
        assert_same_array(fitted.cluster_centers_.get(), reference.cluster_centers_)
    copy = pickle.loads(pickle.dumps(fitted))
    assert_same_array(copy.set_params(backend="numpy").predict(X), fitted.predict(X))


class Exporter:
    """An array of another library: only the CUDA array interface."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    @property
    def __cuda_array_interface__(self):
        return self.array.__cuda_array_interface__


class Capsule(Exporter):
    """An array of another library: only DLPack."""

    __cuda_array_interface__ = property(lambda self: self.missing)

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


@pytest.mark.parametrize("kind", [Exporter, Capsule])
def test_arrays_of_other_libraries_are_used_in_place_and_give_cupy_arrays(control, kind):
    import cupy

    X = data("f8")
    on_card = kind(cupy.asarray(X))
    control.log.clear()
    fitted = model().fit(on_card)
    assert X.nbytes not in control.log.to_device + control.log.within_device
    assert isinstance(fitted.labels_, cupy.ndarray)
    assert_same_fit(on_host(fitted), result_of(expected(X)))


@pytest.mark.parametrize("where", ["cuda", "cpu"])
def test_torch_in_torch_out(torch, where):
    import cupy

    X = data()
    tensor = torch.Tensor(cupy.asarray(X), requires_grad=True) if where == "cuda" else torch.from_numpy(X.copy())
    fitted = model().fit(tensor)
    for result in (fitted.labels_, fitted.cluster_centers_, fitted.predict(tensor), fitted.transform(tensor)):
        assert isinstance(result, torch.Tensor)
        assert result.device == tensor.device
    assert_same_fit(on_host(fitted), result_of(expected(X)))


def test_a_torch_tensor_is_read_on_torchs_current_stream(torch):
    import cupy

    X = data()
    on_card = cupy.empty(X.shape, X.dtype)
    cupy.cuda.get_current_stream().synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        # written by work that only a reader on the same stream, or one that waits for it, sees
        on_card.set(X, stream=cupy.cuda.Stream.from_external(_Pointer(stream.cuda_stream)))
        fitted = model().fit(torch.Tensor(on_card))
        labels = fitted.predict(torch.Tensor(on_card))
    assert_same_fit(on_host(fitted), result_of(expected(X)))
    assert_same_array(to_host(labels), expected(X).labels_)


class _Pointer:
    def __init__(self, pointer):
        self.pointer = pointer

    def __cuda_stream__(self):
        return 0, self.pointer


@pytest.mark.parametrize("streams", ["lazy", "ahead"])
def test_work_is_on_the_callers_current_stream(control, streams):
    import cupy

    control.streams = streams
    X = data()
    for _ in range(2):
        with cupy.cuda.Stream(non_blocking=True):
            on_card = cupy.empty(X.shape, X.dtype)
            on_card.set(X)
            fitted = model().fit(on_card)
            labels = fitted.predict(on_card)
            distances = fitted.transform(on_card)
            assert_same_array(labels.get(), expected(X).labels_)
            assert_same_array(distances.get(), expected(X).transform(X))


@pytest.mark.parametrize(("dtype", "as_dtype"), [("f2", "f4"), ("i4", "f8"), ("u1", "f8"), ("?", "f8")])
def test_other_dtypes_on_the_card_become_what_they_become_on_the_host(dtype, as_dtype):
    import cupy

    X = (data() * 3).astype(dtype)
    fitted = quiet_fit(model(3), cupy.asarray(X))
    assert fitted.cluster_centers_.dtype == as_dtype
    assert_same_fit(on_host(fitted), result_of(expected(X, 3)))


def test_views_of_any_layout_give_the_same_bits(control):
    import cupy

    control.checked = True  # reports a misaligned load
    X = data(d=20, n=150)
    flat = cupy.empty(X.size + 1, X.dtype)
    flat[1:] = cupy.asarray(X.ravel())
    wide = cupy.asarray(np.repeat(X, 2, axis=1))
    for view in (flat[1:].reshape(X.shape), wide[:, ::2], cupy.asarray(np.asfortranarray(X)), cupy.asarray(X)[::1]):
        assert_same_fit(on_host(model(max_iter=3).fit(view)), result_of(expected(X, max_iter=3)))


def test_weights_starts_and_a_callable_may_live_on_the_card():
    import cupy

    X, w = data("f8"), np.random.default_rng(1).random(N)
    reference = expected(X, init=X[:K].copy(), n_init=1, sample_weight=w)
    for init in (cupy.asarray(X[:K]), lambda X, k, random_state: X[:k]):
        fitted = model(init=init, n_init=1).fit(cupy.asarray(X), sample_weight=cupy.asarray(w))
        assert_same_fit(on_host(fitted), result_of(reference))


def test_a_cpu_backend_copies_device_data_and_gives_it_back_in_kind():
    import cupy

    X = data()
    fitted = KMeans(K, random_state=0, backend="numpy").fit(cupy.asarray(X))
    assert isinstance(fitted.labels_, cupy.ndarray)
    assert_same_fit(on_host(fitted), result_of(expected(X)))


def test_a_model_fitted_on_a_card_can_be_loaded_without_one(tmp_path):
    import cupy

    X = data()
    fitted = model().fit(cupy.asarray(X))
    copy = pickle.loads(pickle.dumps(fitted))
    assert isinstance(copy.cluster_centers_, np.ndarray)
    assert_same_array(copy.set_params(backend="numpy").predict(X), fitted.labels_.get())
    gpukmeans.model_file.save(fitted, tmp_path / "model.npz")
    assert_same_array(gpukmeans.model_file.load(tmp_path / "model.npz").cluster_centers_, copy.cluster_centers_)


# ------------------------------------------------------------------------------------------------ bad input on the card


def test_bad_values_on_the_card_are_named_by_row_and_column():
    import cupy

    X = data()
    X[123, 2] = np.nan
    with pytest.raises(ValueError, match=r"X contains NaN: row 123, column 2"):
        model().fit(cupy.asarray(X))
    good = model().fit(cupy.asarray(data()))
    X[123, 2] = -np.inf
    with pytest.raises(ValueError, match=r"X contains infinity: row 123, column 2"):
        good.predict(cupy.asarray(X))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda X: X[0], "Expected 2D array, got 1D array"),
        (lambda X: X[:0], r"Found array with 0 sample\(s\)"),
        (lambda X: X[:, :0], r"Found array with 0 feature\(s\)"),
        (lambda X: X.astype("c8"), "dtype complex64"),
        (lambda X: X[:3], "n_samples=3 should be >= n_clusters=9"),
    ],
)
def test_what_cannot_be_clustered_is_refused(bad, message):
    import cupy

    with pytest.raises(ValueError, match=message):
        model().fit(bad(cupy.asarray(data())))


def test_predict_refuses_another_number_of_features():
    import cupy

    fitted = model().fit(data())
    with pytest.raises(ValueError, match="has 4 features, but KMeans is expecting 5"):
        fitted.predict(cupy.asarray(data()[:, :4]))


# ------------------------------------------------------------------------------------------------ the loop


def differences(control, fit):
    """What ten more iterations add to the log."""
    logs = []
    for max_iter in (5, 15):
        control.log.clear()
        fit(max_iter)
        log = control.log
        logs.append((log.launches.total(), dict(log.syncs), list(log.to_device), list(log.to_host), log.allocations))
    return logs


@pytest.mark.usefixtures("one_by_one")
@pytest.mark.parametrize("weighted", [False, True])
def test_an_iteration_sends_one_small_record_and_waits_for_one_event(control, weighted):
    import cupy

    X = cupy.asarray(data("f8", n=3000))
    w = np.random.default_rng(0).random(3000) if weighted else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        short, long = differences(control, lambda m: model(40, max_iter=m, tol=0).fit(X, sample_weight=w))
    assert long[0] - short[0] == 10 * 4
    assert {name: long[1][name] - short[1][name] for name in long[1]} == {"event": 10, "get": 0}
    assert long[2] == short[2]  # nothing goes to the card
    assert sorted(long[3]) == sorted(short[3] + [56] * 10)  # a record of 56 bytes comes back
    assert long[4] == short[4]  # no memory is allocated


@pytest.fixture
def one_by_one(monkeypatch):
    """No iterations are launched as a graph."""
    from gpukmeans.backends import _launch

    monkeypatch.setattr(_launch, "GRAPH_CLOCKS", 0)


class Spy:
    """In place of a function: what `look` says at each of its calls."""

    def __init__(self, function, look):
        self.function, self.look, self.seen = function, look, []

    def __call__(self, *args):
        self.seen.append(self.look())
        return self.function(*args)


def ended(control, fit):
    """Launches of each kernel of the loop, graphs, and the fit."""
    control.log.clear()
    fitted = fit()
    count = {name.partition("<")[0]: n for name, n in control.log.launches.items()}
    return count, control.log.graphs, fitted


@pytest.mark.parametrize("max_iter", [1, 2, 9, 10, 11, 17, 18, 19, 300])
def test_small_problems_are_launched_as_graphs_and_stop_where_they_must(control, max_iter):
    X = data(n=900)
    count, graphs, fitted = ended(control, lambda: quiet_fit(model(20, max_iter=max_iter, tol=0), X))
    reference = expected(X, 20, max_iter=max_iter, tol=0)
    assert_same_fit(result_of(fitted), result_of(reference))
    assert [(a.shift_sq, a.n_moved) for a in fitted.history_] == [(a.shift_sq, a.n_moved) for a in reference.history_]
    assert reference.n_iter_ > 19 or max_iter < 300
    assert count["recenter"] <= max_iter
    assert graphs == max(0, max_iter - 2) // 8 if max_iter < 300 else graphs >= 2
    assert count.get("move_rows", 0) == count["recenter"] - 1


@pytest.mark.parametrize("streams", ["lazy", "ahead"])
def test_a_graph_is_launched_on_the_callers_stream_and_ends_with_the_run(control, streams):
    import cupy

    control.streams = streams
    X = data()
    with cupy.cuda.Stream(non_blocking=True):
        on_card = cupy.empty(X.shape, X.dtype)
        on_card.set(X)
        for n_init in (1, 3):  # runs that follow each other on the same rows
            fitted = model(tol=0, n_init=n_init, init="random").fit(on_card)
            assert_same_fit(on_host(fitted), result_of(expected(X, tol=0, n_init=n_init, init="random")))
    assert control.log.graphs > 2


def test_an_empty_cluster_is_filled_in_the_middle_of_a_graph(control):
    from gpukmeans import lloyd

    seen, rng = [], np.random.default_rng(5)
    X = np.r_[rng.normal(size=(60, 2)), rng.normal(size=(3, 2)) * 60].astype("f4")
    for seed in range(30):
        start = np.random.default_rng(seed).normal(size=(12, 2)).astype("f4") * 3
        parameters = {"init": start, "n_init": 1, "tol": 0}
        before = control.log.graphs
        with pytest.MonkeyPatch.context() as patch:
            spy = Spy(lloyd._relocated, lambda before=before: control.log.graphs - before)
            patch.setattr(lloyd, "_relocated", spy)
            fitted = quiet_fit(model(12, **parameters), X)
        assert_same_fit(result_of(fitted), result_of(expected(X, 12, **parameters)))
        seen += spy.seen
        if seen and max(seen) > 0:
            return
    pytest.fail(f"no cluster was empty in a graph: {seen}")


def test_large_problems_are_not_launched_as_graphs():
    from gpukmeans.backends import _launch

    card = _launch.Card(90, 132, 227 << 10, 2048)
    assert _launch.iterations_at_once(_launch.Problem(100_000, 32, 64, "f4"), card) == 8
    assert _launch.iterations_at_once(_launch.Problem(1_000_000, 128, 1024, "f4"), card) == 1
    assert _launch.GRAPH_ITERATIONS % 2 == 0


@pytest.mark.usefixtures("one_by_one")
def test_the_record_is_read_one_iteration_late(control, monkeypatch):
    from gpukmeans.backends import _cuda_centers

    started, read = [], _cuda_centers.Pending.read

    def spy(self):
        started.append(control.log.launches["recenter<float>"])
        return read(self)

    monkeypatch.setattr(_cuda_centers.Pending, "read", spy)
    fitted = model(tol=0).fit(data())
    control.log.launches.clear()
    started.clear()
    fitted.fit(data())
    assert fitted.n_iter_ > 4
    assert started[0] == 2
    assert started == list(range(2, fitted.n_iter_ + 2))


def test_an_empty_cluster_is_filled_after_the_loop_has_run_ahead():
    p = Recipe(3, 120, 2, 11, kind="duplicates", start="repeated rows").build()
    parameters = {"init": p.centers, "n_init": 1, "tol": 0, "max_iter": 30}
    fitted = quiet_fit(model(11, **parameters), p.X)
    assert_same_fit(result_of(fitted), result_of(expected(p.X, 11, **parameters)))


def test_the_history_is_that_of_the_other_backends():
    X = data()
    ours, theirs = model(verbose=0).fit(X).history_, expected(X).history_
    for a, b in zip(ours, theirs, strict=True):
        assert (a.shift_sq, a.n_moved) == (b.shift_sq, b.n_moved)


def test_verbose_gives_the_inertia_of_every_iteration(capsys):
    X = data()
    fitted = model(verbose=1).fit(X)
    printed = capsys.readouterr().out
    expected(X, verbose=1)
    assert printed == capsys.readouterr().out
    assert all(record.inertia is not None for record in fitted.history_)


def test_float32_precision_rechecks_nothing(control):
    fitted = model(precision="float32").fit(data())
    assert fitted.n_rechecked_ == 0
    assert not [name for name in control.log.launches if name.startswith("recheck")]


# ------------------------------------------------------------------------------------------------ rows on their way


def test_numpy_data_is_copied_once_in_blocks(control, monkeypatch):
    from gpukmeans.backends import _cuda_rows

    monkeypatch.setattr(_cuda_rows, "STAGE_BYTES", 64 * D * 4)
    X = data()
    fitted = model().fit(X)
    blocks = [size for size in control.log.to_device if size in (64 * D * 4, (N % 64) * D * 4)]
    assert sum(blocks) == X.nbytes
    assert len(blocks) == -(-N // 64)
    assert_same_fit(result_of(fitted), result_of(expected(X)))


@pytest.fixture
def too_large(control):
    """Data of which the card holds less than a third, beside what is kept for each row."""
    X = data(n=3000, d=16)
    control.device_memory = 3000 * 16 + X.nbytes // 3
    return X


@pytest.mark.parametrize("streams", ["lazy", "ahead"])
@pytest.mark.parametrize("weighted", [False, True])
def test_rows_that_do_not_fit_are_streamed_in_every_pass(control, too_large, streams, weighted):
    control.streams = streams
    X, w = too_large, np.random.default_rng(0).random(3000) if weighted else None
    if weighted:
        control.device_memory += 2 * w.nbytes
    fitted = model(max_iter=4, tol=0).fit(X, sample_weight=w)
    assert sum(control.log.to_device) > 20 * X.nbytes
    reference = expected(X, max_iter=4, tol=0, sample_weight=w)
    assert_same_fit(result_of(fitted), result_of(reference))
    assert_same_array(fitted.predict(X), reference.predict(X))
    assert_same_array(fitted.transform(X), reference.transform(X))
    assert fitted.score(X, sample_weight=w) == reference.score(X, sample_weight=w)


def test_a_streamed_loop_does_not_run_ahead(control, too_large):
    fitted = model(3).fit(too_large)
    assert control.log.launches["recenter<float>"] == fitted.n_iter_


def test_sparse_rows_are_expanded_block_by_block(control, too_large):
    X = np.where(np.random.default_rng(0).random(too_large.shape) < 0.3, too_large, 0)
    for memory in (control.device_memory, 1 << 30):
        control.device_memory = memory
        fitted = model(max_iter=3).fit(sp.csr_array(X))
        assert_same_fit(result_of(fitted), result_of(expected(X, max_iter=3)))


def test_distances_larger_than_a_block_come_in_blocks(monkeypatch):
    from gpukmeans.backends import _cuda_verbs

    monkeypatch.setattr(_cuda_verbs, "RESULT_BYTES", 50 * K * 4)
    X = data()
    assert_same_array(model().fit(X).transform(X), expected(X).transform(X))


# ------------------------------------------------------------------------------------------------ out of memory


def everything(X, w=None):
    """A fit that fills empty clusters, and every other verb."""
    start = np.repeat(to_host(X)[:3], 4, axis=0)
    fitted = quiet_fit(model(12, init=start, n_init=1, max_iter=4, tol=0), X, sample_weight=w)
    seeded = gpukmeans.kmeans_plusplus(X, 4, random_state=0, backend="cupy", sample_weight=w)
    return (
        to_host(fitted.labels_),
        to_host(fitted.cluster_centers_),
        np.float64(fitted.inertia_),
        to_host(fitted.transform(X)),
        np.float64(fitted.score(X, sample_weight=w)),
        seeded[1],
    )


@pytest.mark.parametrize("where", ["host", "card"])
def test_memory_may_run_out_at_any_allocation(control, where):
    import cupy

    X, w = data("f8", n=90, d=3), np.random.default_rng(0).integers(0, 3, 90).astype(float)
    reference = everything(X, w)
    given = X if where == "host" else cupy.asarray(X)
    before = control.log.allocations
    everything(given, w)
    n_allocations = control.log.allocations - before
    assert n_allocations > 50
    refused = 0
    for i in range(1, n_allocations + 1):
        control.fail_allocation = i
        try:
            results = everything(given, w)
        except gpukmeans.OutOfMemoryError as error:
            refused += "for a result" in str(error)  # nothing is left that could be made smaller
            continue
        for got, wanted in zip(results, reference, strict=True):
            assert_same_array(got, wanted, f"allocation {i} of {n_allocations}")
        assert control.fail_allocation is None, "it did not fail"
    assert refused == (0 if where == "host" else 2)  # the centers of the fit, and those of kmeans_plusplus


@pytest.mark.parametrize("where", ["host", "card"])
@pytest.mark.parametrize("when", ["before a graph is made", "between two graphs"])
def test_memory_may_run_out_where_iterations_are_launched_as_a_graph(control, monkeypatch, where, when):
    import cupy

    from gpukmeans.backends import _cuda_graph, _cuda_verbs

    class Greedy(_cuda_graph.Batch):
        n_made = n_graphs = 0

        def __init__(self, start, iterate):
            Greedy.n_made += 1
            if when.startswith("before") and Greedy.n_made == 1:
                control.fail_allocation = 1
            super().__init__(start, iterate)

        def launch(self):
            Greedy.n_graphs += 1
            if when.startswith("between") and Greedy.n_graphs == 2:
                control.fail_allocation = 1
                cupy.empty(1)
            return super().launch()

    monkeypatch.setattr(_cuda_verbs, "Batch", Greedy)
    X = data(n=900)
    fitted = quiet_fit(model(20, tol=0), X if where == "host" else cupy.asarray(X))
    assert control.fail_allocation is None
    assert Greedy.n_made == (2 if where == "card" else 1)
    assert_same_fit(on_host(fitted), result_of(expected(X, 20, tol=0)))


@pytest.mark.parametrize(("dtype", "cell"), [("f4", 24), ("f8", 40)])
def test_a_fit_takes_no_more_memory_than_the_documentation_says(control, dtype, cell):
    X = data(dtype, n=5000, d=24)
    small = 60 * 512  # scalars, codes of features, and what allocations are rounded up by
    control.device_memory = X.nbytes + (12 + 20) * 5000 + cell * 128 * 24 + small
    control.log.clear()
    fitted = model(100, max_iter=3, tol=0, init="random", n_init=1).fit(X)
    assert sum(control.log.to_device) < 2 * X.nbytes, "the rows did not stay on the card"
    assert_same_fit(result_of(fitted), result_of(expected(X, 100, max_iter=3, tol=0, init="random", n_init=1)))


def test_what_cannot_fit_says_what_would(control):
    X = data(n=3000, d=16)
    control.device_memory = 20_000
    with pytest.raises(gpukmeans.OutOfMemoryError) as error:
        model(3).fit(X)
    text = str(error.value)
    for part in ("Stand-in for NVIDIA A100", "3,000 rows of 16 features", "rows would fit", "backend='numba'"):
        assert part in text
    control.device_memory = 1 << 30
    assert_same_fit(result_of(model(3).fit(X)), result_of(expected(X, 3)))  # nothing is left behind


# ------------------------------------------------------------------------------------------------ which card


def test_data_on_another_card_is_worked_on_there(control):
    import cupy

    control.n_devices = 2
    X = data()
    with cupy.cuda.Device(1):
        on_card = cupy.asarray(X)
    fitted = model().fit(on_card)
    assert fitted.labels_.device.id == 1
    assert fitted.cluster_centers_.device.id == 1
    assert_same_fit(on_host(fitted), result_of(expected(X)))


def test_the_environment_chooses_the_card(control, monkeypatch):
    import cupy

    control.n_devices = 2
    used = []
    launch = cupy.RawModule.get_function
    monkeypatch.setattr(
        cupy.RawModule, "get_function", lambda self, name: used.append(cupy.cuda.Device().id) or launch(self, name)
    )
    monkeypatch.setenv("GPUKMEANS_DEVICE", "1")
    model().fit(data())
    assert set(used) == {1}
    monkeypatch.setenv("GPUKMEANS_DEVICE", "2")
    with pytest.raises(gpukmeans.BackendUnavailableError, match="=2, but the cards here are numbered from 0 to 1"):
        model().fit(data())
    monkeypatch.setenv("GPUKMEANS_DEVICE", "first")
    with pytest.raises(gpukmeans.BackendUnavailableError, match="GPUKMEANS_DEVICE='first' must be the index"):
        model().fit(data())


def test_auto_weighs_size_and_place_and_says_why(caplog):
    import cupy

    with caplog.at_level(logging.DEBUG, "gpukmeans"):
        assert KMeans(K, random_state=0).fit(data()).backend_ != "cupy"
    assert "less work than moving it to a card" in caplog.text
    assert KMeans(K, random_state=0).fit(cupy.asarray(data())).backend_ == "cupy"
    work = gpukmeans.backends.Work(1_000_000, 64, 1000, 4, 20, on_device=False)
    assert gpukmeans.backends.get_backend("auto", work=work).name == "cupy"


def test_the_environment_chooses_the_backend(monkeypatch):
    monkeypatch.setenv("GPUKMEANS_BACKEND", "cupy")
    assert KMeans(K, random_state=0).fit(data()).backend_ == "cupy"
    assert KMeans(K, random_state=0, backend="numpy").fit(data()).backend_ == "numpy"
    monkeypatch.setenv("GPUKMEANS_BACKEND", "coda")
    with pytest.raises(ValueError, match="no backend 'coda' .from the environment variable GPUKMEANS_BACKEND"):
        KMeans(K).fit(data())


# ------------------------------------------------------------------------------------------------ compiling


def test_a_kernel_that_does_not_compile_names_file_instance_architecture_and_log(control):
    control.edits = lambda source: source.replace("add_square(acc, xs[ty][q], cs[tx][q])", "no_such_thing(acc)")
    fitted = model().fit(data())
    with pytest.raises(gpukmeans.KernelCompileError) as error:
        fitted.transform(data())
    for part in ("transform.cu", "transform<float>", "sm_80", "no_such_thing", "gpukmeans doctor"):
        assert part in str(error.value)


def test_the_text_of_a_kernel_contains_its_headers_once():
    from gpukmeans.backends import _source

    for file in _source.INSTANCES:
        text = _source.source(file)
        assert "#include" not in text
        assert "#pragma once" not in text
        assert text.count("double canonical(") <= 1
    assert "double canonical(" in _source.source("recheck")


def test_a_kernel_is_compiled_once_for_all_shapes(control, monkeypatch):
    import cupy

    made = []
    compile_again = cupy.RawModule.get_function
    monkeypatch.setattr(
        cupy.RawModule, "get_function", lambda self, name: made.append(name) or compile_again(self, name)
    )
    model().fit(data())
    first = len(made)
    assert first > 10
    model(4).fit(data(n=333, d=6))
    model(30).fit(data(n=200, d=7))
    assert len(made) == first
