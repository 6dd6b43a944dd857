"""Several cards as one device, on the stand-in for CuPy: the bits of one, and what goes from card to card.

Verified without a GPU. Memory of the stand-in belongs to a device, and so do its streams and events: what touches
memory of another card than the current one is an error there, and what does not wait for another card's stream sees
old bytes.
"""

import functools
import logging
from contextlib import contextmanager

import numpy as np
import problems
import pytest
import scipy.sparse as sp
import support
from hypothesis import example, given, settings
from hypothesis import strategies as st
from problems import Recipe
from support import assert_same_array, assert_same_fit, quiet_fit, result_of, run

import gpukmeans
import naive
from gpukmeans import KMeans, memory
from gpukmeans.backends import _cards, _cuda_rows

N, D, K = 400, 5, 9
ROWS = "rows"
"""A start: the first rows."""


@contextmanager
def machine(n_cards=3, least_rows=1, **settings):
    """Cards that are given a share however few rows there are."""
    knobs = {"n_devices": n_cards, "properties": {"MultiProcessorCount": 2}}
    with support.standin_cupy(**(knobs | settings)) as control, pytest.MonkeyPatch.context() as patch:
        patch.setattr(_cards, "LEAST_ROWS", least_rows)
        yield control


@pytest.fixture
def control():
    with machine() as knobs:
        yield knobs


def data(dtype="f4", n=N, d=D, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(dtype)


def model(k=K, **parameters):
    return KMeans(k, **({"random_state": 0, "backend": "cupy:all"} | parameters))


@functools.cache
def reference(dtype="f4", n=N, d=D, k=K, **parameters):
    """A fit of `data` by the backend that is nothing but NumPy."""
    if parameters.get("init") == ROWS:
        parameters |= {"init": data(dtype, n, d)[:k], "n_init": 1}
    return quiet_fit(KMeans(k, random_state=0, backend="numpy", **parameters), data(dtype, n, d))


# ---------------------------------------------------------------------------------------------- bits


@settings(max_examples=25)
@given(
    recipe=problems.recipes(max_n=130).filter(lambda recipe: recipe.d <= 40),
    n_cards=st.sampled_from([2, 3, 5]),
    streams=st.sampled_from(["lazy", "ahead"]),
)
@example(recipe=Recipe(0, 2, 1, 2, kind="constant", start="repeated rows"), n_cards=3, streams="lazy")
@example(recipe=Recipe(3, 120, 2, 11, kind="duplicates", start="repeated rows"), n_cards=3, streams="ahead")
@example(recipe=Recipe(2, 100, 4, 20, start="far", weights="zeros", dtype="f8"), n_cards=2, streams="ahead")
@example(recipe=Recipe(2, 101, 4, 20, start="very far", weights="random"), n_cards=3, streams="lazy")
@example(recipe=Recipe(4, 100, 3, 9, dtype="f8", scale=1e300), n_cards=2, streams="ahead")
def test_a_fit_on_several_cards_gives_the_bits_of_the_oracle(recipe, n_cards, streams):
    p = recipe.build()
    options = {"sample_weight": p.sample_weight, "tol": p.tol, "max_iter": p.max_iter}
    with machine(n_cards, streams=streams):
        got = run(p.X, p.centers, backend="cupy:all", **options)
    assert_same_fit(got, naive.fit(p.X, p.centers, **options))


@pytest.mark.parametrize("init", ["k-means++", "k-means||", "random"])
@pytest.mark.parametrize("weighted", [False, True])
def test_starts_and_what_follows_a_fit_are_those_of_one_card(control, init, weighted):
    X, w = data("f8"), np.random.default_rng(1).integers(0, 3, N).astype(float) if weighted else None
    options = {"init": init, "n_init": 2, "max_iter": 6, "random_state": 0}
    alone = quiet_fit(KMeans(K, backend="numpy", **options), X, sample_weight=w)
    fitted = quiet_fit(model(**options), X, sample_weight=w)
    assert fitted.backend_ == "cupy:all"
    assert_same_fit(result_of(fitted), result_of(alone))
    assert [(a.shift_sq, a.n_moved) for a in fitted.history_] == [(a.shift_sq, a.n_moved) for a in alone.history_]
    other = data("f8", n=77, seed=2)
    for method in ("predict", "transform"):
        assert_same_array(getattr(fitted, method)(other), getattr(alone, method)(other))
    assert fitted.score(other, sample_weight=None if w is None else w[:77]) == alone.score(
        other, sample_weight=None if w is None else w[:77]
    )
    chosen = gpukmeans.kmeans_plusplus(X, 4, random_state=0, backend="cupy:all", sample_weight=w)
    assert_same_array(chosen[1], gpukmeans.kmeans_plusplus(X, 4, random_state=0, backend="numpy", sample_weight=w)[1])


def test_the_history_goes_on_where_a_cluster_was_filled_after_the_loop_had_run_ahead(control):
    p = Recipe(3, 120, 2, 11, kind="duplicates", start="repeated rows").build()
    options = {"init": p.centers, "n_init": 1, "tol": 0, "max_iter": 30}
    alone = quiet_fit(KMeans(11, backend="numpy", **options), p.X)
    fitted = quiet_fit(model(11, **options), p.X)
    assert len(np.unique(p.centers, axis=0)) < 11, "no cluster was empty"
    assert [(a.shift_sq, a.n_moved) for a in fitted.history_] == [(a.shift_sq, a.n_moved) for a in alone.history_]


@pytest.mark.parametrize("name", ["MiniBatchKMeans", "BisectingKMeans"])
def test_other_estimators_give_the_bits_of_one_card(control, name):
    X = data("f8", n=150, d=3)
    fits = [getattr(gpukmeans, name)(4, random_state=0, backend=b).fit(X) for b in ("numpy", "cupy:all")]
    assert_same_array(fits[1].labels_, fits[0].labels_)
    assert_same_array(fits[1].cluster_centers_, fits[0].cluster_centers_)


# ---------------------------------------------------------------------------------------------- where rows lie


@pytest.mark.parametrize(("n", "expected"), [(7, [2, 2, 3]), (2, [1, 1]), (1, [1]), (9, [3, 3, 3])])
def test_shares_are_consecutive_and_about_equal(n, expected):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_cards, "LEAST_ROWS", 1)
        ends = _cards.ends_of_shares(np.empty((n, 2)), 3)
    assert np.diff(ends, prepend=0).tolist() == expected


def test_few_rows_are_worked_on_by_one_card():
    with machine(least_rows=200) as control:
        fitted = model(3, max_iter=2).fit(data(n=399))
        assert control.log.between_devices == []
        assert_same_array(fitted.labels_, reference(n=399, k=3, max_iter=2).labels_)


def test_rows_that_lie_on_a_card_stay_there_and_so_do_results(control):
    import cupy

    with cupy.cuda.Device(1):
        on_card = cupy.asarray(data())
    control.log.clear()
    fitted = model().fit(on_card)
    assert fitted.backend_ == "cupy"
    assert (fitted.labels_.device.id, fitted.predict(on_card).device.id) == (1, 1)
    assert control.log.between_devices == []
    assert_same_array(fitted.labels_.get(), reference().labels_)


def test_one_card_is_the_backend_of_one_card():
    with machine(n_cards=1):
        assert model(3).fit(data()).backend_ == "cupy"


class Sequential:
    """Rows that can only be read from the first one on; how often they are is counted."""

    def __init__(self, X):
        self.X, self.shape, self.dtype, self.n_passes = X, X.shape, X.dtype, 0

    def blocks(self):
        self.n_passes += 1
        for low in range(0, len(self.X), 30):
            yield self.X[low : low + 30]


@pytest.mark.parametrize("kind", ["array", "CSR", "source"])
def test_rows_that_do_not_fit_are_streamed_through_each_card(control, monkeypatch, kind):
    monkeypatch.setattr(_cuda_rows, "STAGE_BYTES", 40 * 16 * 4)
    X = data(n=3000, d=16)
    given = {"array": X, "CSR": sp.csr_array(X), "source": Sequential(X)}[kind]
    control.device_memory = 95_000
    fitted = quiet_fit(model(init=X[:K], n_init=1, max_iter=3, tol=0), given)
    assert sum(control.log.to_device) > 4 * X.nbytes, "the rows stayed on the cards"
    assert control.log.between_devices, "there was one card at work"
    assert_same_fit(result_of(fitted), result_of(reference(n=3000, d=16, init=ROWS, max_iter=3, tol=0)))


def test_a_source_is_read_once_a_pass_whatever_the_number_of_cards(control, monkeypatch):
    monkeypatch.setattr(_cuda_rows, "STAGE_BYTES", 40 * D * 4)
    monkeypatch.setattr(memory.Job, "card", lambda self, block_rows, resident: 10**9 if resident else 10**6)
    seen = []
    for backend in ("cupy", "cupy:all"):
        for cap in (None, "40MB"):  # the rows stay on the cards; they are streamed
            source = Sequential(data())
            options = {"init": data()[:K], "n_init": 1, "max_iter": 3, "max_memory": cap, "backend": backend}
            fitted = quiet_fit(model(**options), source)
            seen.append(source.n_passes)
            assert_same_array(fitted.labels_, reference(init=ROWS, max_iter=3).labels_)
    assert seen[:2] == seen[2:]
    assert seen[0] < seen[1]


# ---------------------------------------------------------------------------------------------- the loop


@pytest.mark.parametrize(("dtype", "weighted"), [("f4", False), ("f8", True)])
def test_an_iteration_moves_sums_between_cards_and_one_record_to_the_host(control, dtype, weighted):
    X, w = data(dtype, n=3000), np.random.default_rng(0).random(3000) if weighted else None
    logs = []
    for max_iter in (5, 15):
        control.log.clear()
        quiet_fit(model(40, max_iter=max_iter, tol=0, init=X[:40], n_init=1), X, sample_weight=w)
        log = control.log
        logs.append((log.launches.total(), dict(log.syncs), sum(log.to_device), list(log.between_devices)))
    short, long = logs
    assert long[0] - short[0] == 3 * 10 * 4
    assert {name: long[1][name] - short[1][name] for name in long[1]} == {"event": 10, "get": 0, "stream": 0}
    assert long[2] == short[2]
    limbs = 2 if dtype == "f8" else 1
    words = 8 * (limbs * 40 * D + (2 if weighted else 1) * 40 + 5)
    assert set(long[3]) == {words}
    assert len(long[3]) - len(short[3]) == 10 * 2 * 2  # to the first card and back, for each of the others


def test_work_on_the_wrong_card_is_seen(control, monkeypatch):
    on = _cards.CardsBackend._on
    monkeypatch.setattr(_cards.CardsBackend, "_on", lambda self, i: on(self, 0))
    with pytest.raises(ValueError, match="stand-in: memory of device 0 on device 1"):
        model().fit(data())


@pytest.mark.parametrize("forgotten", range(4))
def test_a_card_that_does_not_wait_for_another_one_is_seen(control, monkeypatch, forgotten):
    """Two waits of the first card, for the sums of the others; one of each of the others, for the total."""
    from gpukmeans.backends import _cupy

    waited, wait = [], _cupy.CupyDevice.wait
    monkeypatch.setattr(_cuda_rows.CudaRows, "_staged", _copied_at_once)

    def spy(self, stream, event):
        waited.append(self.id)
        if (len(waited) - 1) % 4 != forgotten:
            wait(self, stream, event)

    alone = reference(init=ROWS, max_iter=3, tol=0).cluster_centers_

    def is_right(streams):
        control.streams = streams
        fitted = quiet_fit(model(init=data()[:K], n_init=1, max_iter=3, tol=0), data())
        return np.array_equal(fitted.cluster_centers_, alone)

    assert is_right("lazy")
    assert is_right("ahead")
    monkeypatch.setattr(_cupy.CupyDevice, "wait", spy)
    assert not (is_right("lazy") and is_right("ahead"))
    assert waited[:4] == [0, 0, 1, 2]


def _copied_at_once(self, most, into=None):
    """In place of blocks that are waited for."""
    into.set(self.data)
    yield slice(0, self.n_samples), into


# ---------------------------------------------------------------------------------------------- what is said


def test_memory_that_runs_out_names_the_card(control):
    import cupy

    with cupy.cuda.Device(1):
        cupy.get_default_memory_pool().set_limit(size=4096)
    with pytest.raises(gpukmeans.OutOfMemoryError, match=r"Card 1, 2 of 3 with rows 1000 to 1999: Out of memory on"):
        model(3).fit(data(n=3000, d=16))
    with cupy.cuda.Device(1):
        cupy.get_default_memory_pool().set_limit(size=1 << 30)
    assert_same_array(model(3, max_iter=2).fit(data()).labels_, reference(k=3, max_iter=2).labels_)


def test_memory_that_runs_out_on_one_card_makes_that_card_stream(control, caplog):
    import cupy

    X = data(n=3000, d=16)
    with cupy.cuda.Device(2):
        cupy.get_default_memory_pool().set_limit(size=60_000)
    with caplog.at_level(logging.DEBUG, logger="gpukmeans"):
        fitted = quiet_fit(model(3, max_iter=3), X)
    assert "out of memory on the card: blocks of" in caplog.text
    assert_same_fit(result_of(fitted), result_of(reference(n=3000, d=16, k=3, max_iter=3)))


def test_a_plan_says_how_rows_are_spread():
    with machine(n_cards=4, least_rows=_cards.LEAST_ROWS):
        X = np.zeros((1_000_000, 8), np.float32)
        plan = model().plan(X)
        assert (plan.n_cards, plan.backend) == (4, "cupy:all")
        assert "rows are: in memory; about 250,000 rows on each of 4 cards" in str(plan)
        alone = model(backend="cupy").plan(X)
        assert plan.card_bytes < alone.card_bytes / 2
        assert model().plan(X[:20_000]).n_cards == 1


def test_a_card_that_cannot_be_used_is_named(control, monkeypatch):
    import cupy

    assert gpukmeans.available_backends()["cupy:all"] is None
    capability = cupy.cuda.Device.compute_capability
    old = property(lambda self: "70" if self.id == 2 else capability.fget(self))
    monkeypatch.setattr(cupy.cuda.Device, "compute_capability", old)
    gpukmeans.backends._cuda.examine.cache_clear()
    with pytest.raises(gpukmeans.BackendUnavailableError, match=r"card 2: .* is too old.*CUDA_VISIBLE_DEVICES can"):
        model().fit(data())
    assert gpukmeans.available_backends()["cupy"] is None
