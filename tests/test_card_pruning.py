"""Bounds on a card: whole fits that skip what they prove, on the stand-in for CuPy; and when they pay.

Verified without a GPU. The kernel by itself: tests/kernel_checks/pruning.py.
"""

import logging
from collections import Counter

import numpy as np
import pytest
import support
from kernel_checks import machine
from problems import Recipe

import naive
from gpukmeans import KMeans, datasets, lloyd
from gpukmeans.backends import _cards, _cuda_labels, _cuda_pruning, _cuda_rows, _launch, _tensor_config
from gpukmeans.backends._launch import Card, Problem


@pytest.fixture
def control():
    """A small card."""
    with machine(seed=1) as knobs:
        yield knobs


@pytest.fixture
def always(monkeypatch):
    """Bounds from the third iteration on, whether they pay or not."""
    monkeypatch.setattr(_cuda_pruning, "pays", lambda *args: True)
    monkeypatch.setattr(_cuda_pruning, "LOSSES", 1 << 30)


@pytest.fixture
def one_by_one(monkeypatch):
    """No iterations are launched as a graph."""
    monkeypatch.setattr(_launch, "GRAPH_CLOCKS", 0)


def launched(control):
    """Launches of each kernel."""
    return Counter({name.partition("<")[0]: n for name, n in control.log.launches.items()})


def assert_fit(p, **options):
    options = {"sample_weight": p.sample_weight, "tol": 0, "max_iter": p.max_iter} | options
    got = support.run(p.X, p.centers, backend="cupy", **options)
    support.assert_same_fit(got, naive.fit(p.X, p.centers, **options))
    return got


# ---------------------------------------------------------------------------------------------- the bits


RECIPES = [
    Recipe(0, 600, 5, 20, kind="blobs", max_iter=30),
    Recipe(2, 300, 40, 12, kind="noise", dtype="f8", max_iter=20),
    Recipe(3, 900, 2, 40, kind="grid", max_iter=20),
    Recipe(4, 400, 17, 30, kind="duplicates", start="far", weights="zeros", dtype="f8", max_iter=20),
    Recipe(5, 500, 8, 20, kind="blobs", offset=1e6, weights="random", max_iter=20),
    Recipe(6, 300, 300, 5, kind="uniform", dtype="f8", weights="integer", max_iter=12),
    Recipe(8, 400, 1, 30, kind="uniform", dtype="f8", offset=1e3, max_iter=40),
]


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("graphs", [True, False], ids=["graphs", "one by one"])
@pytest.mark.parametrize("recipe", RECIPES, ids=repr)
def test_a_fit_with_bounds_has_the_oracles_bits(control, monkeypatch, recipe, graphs):
    if not graphs:
        monkeypatch.setattr(_launch, "GRAPH_CLOCKS", 0)
    fit = assert_fit(recipe.build())
    count = launched(control)
    assert fit.n_iter > 4
    assert count["prune"] > 4
    assert (control.log.graphs > 0) == graphs


@pytest.mark.usefixtures("always", "one_by_one")
def test_equal_centers_that_part_take_their_rows_along(control):
    """What is learned while two centers are equal says nothing of the one that is left out of the scores."""
    near, far = np.linspace(-10, 10, 64), np.full(700, -1000.0)
    X = np.concatenate([near, far, [10.5, 10.5]]).astype(np.float32)[:, None]
    # the two last ones are in a cluster by themselves for some iterations, and clusters that lose theirs go there
    for seed in range(3):
        C = np.random.default_rng(seed).choice(X, 9, replace=False)
        C[-1] = C[0]
        C[-2] = C[1]
        options = {"tol": 0, "max_iter": 12}
        got = support.run(X, C, backend="cupy", **options)
        support.assert_same_fit(got, naive.fit(X, C, **options))
    assert launched(control)["prune"] > 6


@pytest.mark.usefixtures("always")
def test_bounds_survive_that_an_empty_cluster_is_filled(control, monkeypatch):
    seen, relocated = [], lloyd._relocated

    def spy(backend, blocks, *args):
        seen.append(blocks[0].bounds is not None)
        return relocated(backend, blocks, *args)

    monkeypatch.setattr(lloyd, "_relocated", spy)
    rng = np.random.default_rng(5)
    X = np.r_[rng.normal(size=(60, 2)), rng.normal(size=(3, 2)) * 60].astype("f4")
    for seed in range(40):
        start = np.random.default_rng(seed).normal(size=(12, 2)).astype("f4") * 3
        got = support.run(X, start, tol=0, max_iter=30, backend="cupy")
        support.assert_same_fit(got, naive.fit(X, start, tol=0, max_iter=30))
        if sum(seen) > 1:
            return
    pytest.fail("no cluster was empty while there were bounds")


@pytest.mark.usefixtures("always")
def test_a_run_knows_nothing_of_the_run_before(control):
    X = Recipe(1, 400, 3, 9, kind="uniform").build().X
    fits = [
        support.result_of(support.quiet_fit(KMeans(9, init="random", n_init=3, tol=0, random_state=0, backend=b), X))
        for b in ("cupy", "numpy")
    ]
    support.assert_same_fit(*fits)
    assert launched(control)["prune"] > 6


@pytest.mark.usefixtures("always", "one_by_one")
@pytest.mark.parametrize("kind", [None, "bf16"])
def test_an_iteration_with_bounds_is_three_launches(control, monkeypatch, kind):
    """Whatever pass was there before; centers are packed on, for the day when bounds are given up."""
    p = Recipe(0, 600, 20, 20, kind="noise").build()

    def choose(problem, card, types, left_open):
        config = None if kind is None else _tensor_config.config(problem, card, kind)
        return config, {} if kind is None else {kind: left_open(config)}

    monkeypatch.setattr(_tensor_config, "choose", choose)
    counts = []
    for max_iter in (4, 7):
        control.log.clear()
        assert assert_fit(p, max_iter=max_iter).n_iter == max_iter
        counts.append(launched(control))
    more = counts[1] - counts[0]
    for name in ("publish_centers", "assign_sm80"):  # the type is chosen again, from a sample
        assert more.pop(name, 0) == (kind is not None)
    assert more == {"prune": 3, "move_rows": 3, "recenter": 3}


@pytest.mark.usefixtures("always", "one_by_one")
def test_blocks_have_their_own_bounds(control):
    with support.blocks_of(64):
        assert_fit(RECIPES[0].build(), max_iter=8)
    assert launched(control)["prune"] >= 6 * 10


@pytest.mark.usefixtures("always", "one_by_one")
@pytest.mark.parametrize("kind", _tensor_config.KINDS)
def test_bounds_follow_every_type_of_tensor_cores(control, monkeypatch, kind):
    monkeypatch.setattr(_tensor_config, "FORCED", kind)
    p = Recipe(0, 600, 20, 20, kind="blobs").build()
    assert_fit(p, max_iter=8)
    assert launched(control)["assign_sm80"] >= 2
    assert launched(control)["resolve"] >= 2
    assert launched(control)["prune"] > 4


@pytest.mark.usefixtures("always", "one_by_one")
def test_long_rows_have_bounds_after_tensor_cores(control, monkeypatch):
    monkeypatch.setattr(_tensor_config, "FORCED", "tf32")
    p = Recipe(0, 200, 140, 9, kind="blobs").build()
    assert_fit(p, max_iter=7)
    assert launched(control)["assign_sm80_wide"] >= 2
    assert launched(control)["prune"] >= 3


@pytest.mark.usefixtures("always")
def test_several_cards_have_none(monkeypatch):
    p = RECIPES[0].build()
    monkeypatch.setattr(_cards, "LEAST_ROWS", 1)
    with support.standin_cupy(n_devices=2, properties={"MultiProcessorCount": 2}) as control:
        got = support.run(p.X, p.centers, tol=0, max_iter=8, backend="cupy:all")
        assert "prune" not in launched(control)
    support.assert_same_fit(got, naive.fit(p.X, p.centers, tol=0, max_iter=8))


# ---------------------------------------------------------------------------------------------- memory


@pytest.mark.usefixtures("always")
def test_rows_that_are_streamed_have_no_bounds(control, monkeypatch):
    p = RECIPES[0].build()
    monkeypatch.setattr(_cuda_rows, "STAGE_BYTES", 64 * p.X[0].nbytes)
    monkeypatch.setattr(_cuda_rows.CudaRows, "is_streamed", True)
    monkeypatch.setattr(_cuda_rows.CudaRows, "_reside", lambda self: None)
    assert_fit(p, max_iter=5)
    assert "prune" not in launched(control)


@pytest.mark.usefixtures("always", "one_by_one")
def test_where_there_is_no_memory_for_bounds_there_are_none(control, monkeypatch, caplog):
    no_bounds = _cuda_labels.LabelVerbs._no_bounds

    def out_of_memory(self, n):
        if n > _cuda_rows.SAMPLE_ROWS:
            control.fail_allocation = 1
        return no_bounds(self, n)

    monkeypatch.setattr(_cuda_labels.LabelVerbs, "_no_bounds", out_of_memory)
    monkeypatch.setattr(_cuda_rows, "SAMPLE_ROWS", 100)
    with caplog.at_level(logging.DEBUG, "gpukmeans"):
        assert_fit(RECIPES[0].build(), max_iter=6)
    assert "no memory for bounds" in caplog.text
    count = launched(control)
    assert count["assign_small"] >= 6
    assert count["prune"] == 4  # on the sample, twice


@pytest.mark.usefixtures("always", "one_by_one")
def test_bounds_are_given_up_before_rows_are_streamed(control, monkeypatch):
    import cupy

    prune, n_calls, p = _cuda_labels.LabelVerbs._prune, [], RECIPES[0].build()

    def out_of_memory(self, centers, x, *args):
        n_calls.append(len(x))
        if n_calls.count(len(p.X)) == 3 and n_calls[-1] == len(p.X):
            control.fail_allocation = 1
            cupy.empty(1)
        return prune(self, centers, x, *args)

    monkeypatch.setattr(_cuda_labels.LabelVerbs, "_prune", out_of_memory)
    monkeypatch.setattr(_cuda_rows, "SAMPLE_ROWS", 100)
    control.log.clear()
    assert_fit(p, max_iter=7)
    assert n_calls == [100, 100, 600, 600, 600]  # before the next look no more
    assert sum(control.log.to_device) < 2 * p.X.nbytes, "the rows did not stay on the card"


# ---------------------------------------------------------------------------------------------- when they pay


CARD, SIZES = Card(90, 132, 227 << 10, 2048), Problem(10**6, 64, 256, "f4")


def test_bounds_pay_where_few_rows_are_open():
    dense = _tensor_config.clocks(SIZES, CARD, None)
    costs = [_cuda_pruning.clocks(SIZES, CARD, share) for share in np.linspace(0, 1, 21)]
    assert costs == sorted(costs)
    assert costs[0] < 0.1 * dense
    assert costs[-1] > 1.3 * dense
    assert [_cuda_pruning.pays(SIZES, CARD, dense, share) for share in (0, 0.3, 0.6, 1)] == [True, True, False, False]
    # beside tensor cores they pay later
    fast = _tensor_config.clocks(SIZES, CARD, _tensor_config.config(SIZES, CARD, "fp16"), 0.02)
    assert fast < dense / 3
    assert [_cuda_pruning.pays(SIZES, CARD, fast, share) for share in (0, 0.02, 0.3)] == [True, True, False]


def test_where_little_can_be_gained_nothing_is_tried():
    for sizes in (Problem(10**4, 16, 64, "f4"), Problem(10**6, 2, 1, "f4")):
        assert not _cuda_pruning.pays(sizes, CARD, _tensor_config.clocks(sizes, CARD, None), 0.0)


def test_bounds_are_given_up_after_three_losses_in_a_row():
    dense, n = _tensor_config.clocks(SIZES, CARD, None), SIZES.n_samples
    watch = _cuda_pruning.Watch(SIZES, CARD, dense)
    for n_open in (n, n, n // 10, 0, n, n):
        watch.hear(n_open)
        assert not watch.is_over
    watch.hear(n)
    assert watch.is_over


@pytest.fixture
def nothing_is_too_small(monkeypatch):
    monkeypatch.setattr(_cuda_pruning, "WORTHWHILE", 0)
    monkeypatch.setattr(_cuda_pruning, "READ", 0)


@pytest.mark.usefixtures("nothing_is_too_small")
def test_a_sample_decides_and_its_labels_are_those_of_numpy(control, caplog):
    blobs, _ = datasets.make_blobs(3000, 16, centers=30, random_state=0)
    noise = np.random.default_rng(0).normal(size=(500, 60)).astype("f4")
    for X, k, begins in ((blobs, 30, True), (noise, 30, False)):
        control.log.clear()
        caplog.clear()
        with caplog.at_level(logging.DEBUG, "gpukmeans"):
            got = support.run(X, X[:k], tol=0, max_iter=10, backend="cupy")
        support.assert_same_fit(got, support.run(X, X[:k], tol=0, max_iter=10, backend="numpy"))
        assert "iteration 2: bounds would leave" in caplog.text
        assert (launched(control)["prune"] > 2 * caplog.text.count("bounds would leave")) == begins


@pytest.mark.usefixtures("nothing_is_too_small", "one_by_one")
def test_bounds_that_prove_too_little_are_given_up(control, monkeypatch, caplog):
    monkeypatch.setattr(_cuda_pruning, "pays", lambda *args: True)
    X = np.random.default_rng(0).normal(size=(300, 60)).astype("f4")
    with caplog.at_level(logging.DEBUG, "gpukmeans"):
        got = support.run(X, X[:30], tol=0, max_iter=12, backend="cupy")
    support.assert_same_fit(got, naive.fit(X, X[:30], tol=0, max_iter=12))
    assert "bounds are given up" in caplog.text
