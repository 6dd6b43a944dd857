"""The tensor cores at work in whole fits, on the stand-in for CuPy: verified without a GPU."""

import itertools
import logging
from collections import Counter

import numpy as np
import pytest
import support
from kernel_checks import machine, problem

import naive
from gpukmeans import KMeans, exact
from gpukmeans.backends import _cuda_labels, _cuda_rows, _launch, _tensor_config

# n, d, k and dtype of the rows: small, with instances that tests/kernel_checks/tensor.py has built already.
LONG = (150, 300, 23, "f4")
PROBLEMS = {"bf16": (300, 61, 23, "f4"), "tf32": (150, 13, 37, "f8"), "fp16": (200, 32, 37, "f4")}


@pytest.fixture
def control():
    """A small card of compute capability 8.0."""
    with machine(seed=1) as knobs:
        yield knobs


@pytest.fixture
def first_stages(monkeypatch):
    """Stages that are chosen one after the other, the last one from then on; None is float32."""

    def force(*kinds):
        order = itertools.chain(kinds, itertools.repeat(kinds[-1]))

        def choose(problem, card, types, left_open):
            kind = next(order)
            config = None if kind is None else _tensor_config.config(problem, card, kind)
            return config, {} if kind is None else {kind: left_open(config)}

        monkeypatch.setattr(_tensor_config, "choose", choose)

    return force


@pytest.fixture
def lists(monkeypatch):
    """How many rows of each block tensor cores left open."""
    seen, label = [], _cuda_labels.LabelVerbs._label

    def spy(self, rows, *args):
        label(self, rows, *args)
        seen.append(int(rows.scratch().count.get()[0]))

    monkeypatch.setattr(_cuda_labels.LabelVerbs, "_label", spy)
    return seen


def result(X, C, **parameters):
    """A fit from given centers."""
    return support.run(X, C, **({"max_iter": 3, "tol": 0} | parameters))


def launched(control):
    """Launches of each kernel."""
    return {name.partition("<")[0]: n for name, n in control.log.launches.items()}


# ------------------------------------------------------------------------------------------------ precision


def between(C, n, share):
    """Rows near the middle of a center and its nearest one: off by up to that share of their distance."""
    rng = np.random.default_rng(0)
    a, D = rng.integers(0, len(C), n), naive.distances(C, C)
    np.fill_diagonal(D, np.inf)
    A, B = C[a], C[D.argmin(axis=1)[a]]
    return ((A + B) / 2 + rng.uniform(-share, share, (n, 1)) * (B - A)).astype(C.dtype)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_a_precision_of_tensor_cores_keeps_its_bound_and_no_more(control, precision):
    n, d, k, dtype = PROBLEMS[precision]
    X, C, w = problem(n, d, k, dtype, "noise", weights=True)
    model = KMeans(k, init=C, n_init=1, max_iter=3, tol=0, precision=precision, backend="cupy")
    support.quiet_fit(model, X, sample_weight=w)
    X = between(model.cluster_centers_, n, 2.0**-11 if precision == "tf32" else 2.0**-8)
    D = naive.distances(X, model.cluster_centers_)
    excess = D[np.arange(n), model.predict(X)] - D.min(axis=1)
    reach = np.sqrt(d) * np.ptp(model.cluster_centers_)  # of no row or center is the norm larger
    size, with_norm = exact.offset_size(d, reach, precision)
    offset = exact.binade(size + with_norm * reach, 3)
    half, linear, quadratic = exact.tensor_bound(d, reach, precision, 3, offset=offset)
    assert 0 < excess.max() <= 2 * (half + reach * (linear + quadratic * reach))
    count = launched(control)
    assert count["assign_sm80"] > 3
    assert not {"recheck", "resolve", "assign_tiled", "assign_small"} & count.keys()
    assert model.n_rechecked_ == 0


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_without_tensor_cores_a_precision_is_float32(precision):
    X, C, _ = problem(90, 20, 7, "f4", "noise")
    with machine(seed=1, compute_capability="75") as knobs:
        fits = [
            result(X, C, precision=p, backend=backend) for p in (precision, "float32") for backend in ("cupy", "numpy")
        ]
        assert "assign_tiled" in launched(knobs)
        assert not {"assign_sm80", "resolve", "recheck"} & launched(knobs).keys()
    support.assert_same_fit(fits[0], fits[2])
    support.assert_same_fit(fits[1], fits[3])


# ------------------------------------------------------------------------------------------------ exact


def hard(kind, weights=True):
    """Rows that each stage leaves open: between centers, equally far from two, and duplicates of centers."""
    n, d, k, dtype = LONG if kind == "long" else PROBLEMS[kind]
    X, C, w = problem(n, d, k, dtype, "noise", weights=weights)
    C[-1], C[k // 2] = C[0], C[1]
    near = between(C[: k // 2], n // 4, 2.0**-9)
    middle = np.repeat(C[2:4], 3, axis=0)
    middle[:, 0] = C[2:4, 0].mean()  # the others are equal
    middle[:, 1:] = C[2, 1:]
    C[3, 1:] = C[2, 1:]
    X[: len(near)], X[-len(middle) :] = near, middle
    return X, C, w


@pytest.mark.usefixtures("control")
@pytest.mark.parametrize("kind", PROBLEMS)
def test_a_fit_has_the_oracles_bits_whatever_its_first_stage(first_stages, lists, kind):
    X, C, w = hard(kind)
    first_stages(kind)
    with support.blocks_of(64):  # several blocks; no graphs, so that the lists can be read
        fit = KMeans(len(C), init=C, n_init=1, max_iter=4, tol=0, backend="cupy")
        support.quiet_fit(fit, X, sample_weight=w)
    support.assert_same_fit(support.result_of(fit), naive.fit(X, C, sample_weight=w, max_iter=4, tol=0))
    assert sum(lists) > fit.n_rechecked_ > 0
    assert len(lists) > 4


def test_so_it_has_where_centers_share_keys(control, first_stages, monkeypatch):
    monkeypatch.setattr(_tensor_config, "groups_pay", lambda problem, card: True)
    X, C, w = hard("tf32")
    first_stages("tf32")
    got = result(X, C, sample_weight=w, max_iter=20, backend="cupy")
    support.assert_same_fit(got, naive.fit(X, C, sample_weight=w, max_iter=20, tol=0))
    assert control.log.graphs > 0
    assert all(name.endswith(", 1, 4>") for name in control.log.launches if name.startswith("assign_sm80"))


def test_long_rows_take_a_pass_in_chunks(control, first_stages):
    X, C, w = hard("long")
    first_stages("bf16")
    reference = naive.fit(X, C, sample_weight=w, max_iter=20, tol=0)
    for rows in (64, 1 << 20):
        with support.blocks_of(rows):
            fit = KMeans(len(C), init=C, n_init=1, max_iter=20, tol=0, backend="cupy")
            support.quiet_fit(fit, X, sample_weight=w)
        support.assert_same_fit(support.result_of(fit), reference)
        assert 0 < fit.n_rechecked_ < fit.n_iter_ * len(X)
    assert control.log.graphs > 0
    assert launched(control)["assign_sm80_wide"] > 6
    assert not {"recheck", "assign_tiled"} & launched(control).keys()


def test_a_fit_may_change_its_first_stage_between_graphs(control, first_stages):
    X, C, w = hard("bf16")
    first_stages("bf16", None, "bf16")
    got = result(X, C, sample_weight=w, max_iter=30, backend="cupy")
    support.assert_same_fit(got, naive.fit(X, C, sample_weight=w, max_iter=30, tol=0))
    count = launched(control)
    assert control.log.graphs > 0
    assert count["assign_tiled"] > 1
    assert count["resolve"] > 8, "the graph that was made with float32 went on"


def test_an_iteration_is_four_launches_with_tensor_cores_too(control, first_stages, monkeypatch):
    monkeypatch.setattr(_launch, "GRAPH_CLOCKS", 0)
    X, C, w = hard("bf16")
    first_stages("bf16")
    counts = []
    for max_iter in (3, 6):
        control.log.clear()
        assert result(X, C, sample_weight=w, max_iter=max_iter, backend="cupy").n_iter == max_iter
        counts.append(Counter(launched(control)))
    more = counts[1] - counts[0]
    # where the stage is chosen again a sample is labelled, with centers that are packed for it
    n_chosen = more.pop("publish_centers")
    assert n_chosen == 1
    assert more == {"assign_sm80": 3 + n_chosen, "resolve": 3, "move_rows": 3, "recenter": 3}


@pytest.mark.parametrize("kind", ["bf16"])
def test_rows_that_do_not_fit_are_streamed_through_all_stages(control, first_stages, monkeypatch, kind):
    X, C, w = hard(kind)
    first_stages(kind)
    monkeypatch.setattr(_cuda_rows, "STAGE_BYTES", 64 * X[0].nbytes)
    monkeypatch.setattr(_cuda_rows.CudaRows, "_reside", lambda self: None)
    got = result(X, C, sample_weight=w, backend="cupy")
    support.assert_same_fit(got, naive.fit(X, C, sample_weight=w, max_iter=3, tol=0))
    assert launched(control)["resolve"] >= 3 * -(-len(X) // 64)


def test_predict_begins_with_tensor_cores_too(control, first_stages):
    X, C, _ = hard("bf16", weights=False)
    fit = support.quiet_fit(KMeans(len(C), init=C, n_init=1, max_iter=2, backend="cupy"), X)
    assert "resolve" not in launched(control)
    first_stages("bf16")
    support.assert_same_array(fit.predict(X), naive.labels(X, fit.cluster_centers_))
    assert launched(control)["resolve"] == 1


# ------------------------------------------------------------------------------------------------ the choice


@pytest.fixture
def nothing_is_too_small(monkeypatch):
    monkeypatch.setattr(_tensor_config, "WORTHWHILE", 0)
    monkeypatch.setattr(_tensor_config, "READ", 0)


@pytest.mark.usefixtures("control", "nothing_is_too_small")
def test_the_first_stage_follows_what_a_sample_shows(caplog):
    n, d, k, dtype = PROBLEMS["fp16"]
    C = problem(k, d, k, dtype, "noise")[0]
    for X, chosen in ((np.repeat(C, n // k, axis=0), "fp16"), (between(C, n, 0.0), "float32")):
        caplog.clear()
        with caplog.at_level(logging.DEBUG, "gpukmeans"):
            got = result(X, C, max_iter=1, backend="cupy")
        assert f"iteration 0: first stage {chosen} (fp16 would leave " in caplog.text
        support.assert_same_fit(got, naive.fit(X, C, max_iter=1, tol=0))


@pytest.mark.usefixtures("nothing_is_too_small")
def test_the_first_stage_is_chosen_again_after_2_4_8_iterations(control, first_stages, caplog):
    X, C, _ = problem(*PROBLEMS["bf16"], "noise")
    first_stages(None)
    with caplog.at_level(logging.DEBUG, "gpukmeans"):
        result(X, C, max_iter=1, backend="cupy")
    assert "first stage" not in caplog.text  # float32, and nothing was sampled
    first_stages("bf16")
    with caplog.at_level(logging.DEBUG, "gpukmeans"):
        n_iter = result(X, C, max_iter=30, backend="cupy").n_iter
    assert n_iter > 4
    at = [int(line.split()[1][:-1]) for line in caplog.messages if "first stage bf16" in line]
    assert at[:3] == [0, 2, 4] if control.log.graphs == 0 else at[:2] == [0, 2]


@pytest.mark.usefixtures("nothing_is_too_small")
def test_where_there_is_no_memory_for_tensor_cores_float32_does(control, first_stages, caplog):
    X, C, _ = hard("bf16", weights=False)
    first_stages("bf16")
    reference = naive.fit(X, C, max_iter=1, tol=0)
    reconsider = _cuda_labels.LabelVerbs._reconsider
    for i in (1, 4, 6):

        def out_of_memory(self, rows, centers, i=i):
            control.fail_allocation = i
            reconsider(self, rows, centers)
            assert control.fail_allocation is None, "nothing was allocated"

        with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.DEBUG, "gpukmeans"):
            patch.setattr(_cuda_labels.LabelVerbs, "_reconsider", out_of_memory)
            support.assert_same_fit(result(X, C, max_iter=1, backend="cupy"), reference)
        assert "no memory for tensor cores" in caplog.text
        caplog.clear()
    assert "assign_tiled" in launched(control)
    assert "resolve" not in launched(control)
