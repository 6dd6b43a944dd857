"""The CUDA kernels, run on the CPU by tests/simt under the backend's own code, give the oracle's bits.

Verified without a GPU: in fast mode with tiles as shipped and small ones, and in checked mode, which reports races,
bounds and uninitialised reads.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import support
from kernel_checks import CHECKS, SHRUNK, machine, problem, tensor
from kernel_checks.centers import check_bound, check_state
from kernel_checks.labels import assert_labels, fast_pass
from kernel_checks.machine import on_card

import gpukmeans
import naive
from gpukmeans.backends import _launch, _source, get_backend

SHAPES = [  # n, d, k: one of everything, primes, one more than a tile, k = n, every variant of assign
    (1, 1, 1),
    (129, 1, 129),
    (513, 2, 31),
    (131, 3, 131),
    (97, 4, 1),
    (257, 8, 130),
    (101, 16, 13),
    (129, 17, 129),
    (260, 40, 129),
    (65, 257, 33),
    (67, 300, 67),
]
KINDS = ("noise", "wide", "ties", "duplicates", "offset", "subnormal")
MODES = {
    "as shipped": {"tiles": _launch.Tiles(), "checked": False},
    "shrunk": {"tiles": SHRUNK, "checked": False},
    "checked": {"tiles": SHRUNK, "checked": True},
}
_is_built = set()


def built(name):
    """Settings of a machine whose kernels are built: all at once, as many as there are cores.

    Those on tensor cores are many, and few are used: they are built when they are, as those for rows of 16 bits.
    """
    if name not in _is_built:
        kept = {i: file for i, file in _source.FILE_OF.items() if "sm80" not in file and "loat16" not in i}
        one_a_module = {i if "<" in i else file: i for i, file in kept.items()}
        with machine(**MODES[name]), ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(_source._compile, one_a_module.values()))
        _is_built.add(name)
    return MODES[name]


@pytest.fixture(params=MODES)
def mode(request):
    """The settings of each mode."""
    return built(request.param)


@pytest.fixture
def running(mode):
    """A machine in each mode, with threads and blocks in a random order."""
    with machine(**mode, seed=1):
        yield


@pytest.fixture(params=["as shipped", "shrunk"])
def fast(request):
    """The same, not in checked mode."""
    with machine(**built(request.param), seed=1):
        yield


def assert_fit(X, C, w, *, max_iter=4, tol=0.0):
    got = support.run(X, C, sample_weight=w, max_iter=max_iter, tol=tol, backend="cupy")
    support.assert_same_fit(got, naive.fit(X, C, sample_weight=w, max_iter=max_iter, tol=tol))


@pytest.mark.parametrize("seed", [0, 2, 9])
@pytest.mark.parametrize("check", [check for check in CHECKS if check != "halves"])
def test_a_check_passes_in_every_order_of_threads_and_blocks(mode, check, seed):
    with machine(**mode, seed=seed):
        CHECKS[check](("f4", "f8")) if check in ("assign", "halted", "small") else CHECKS[check]()


def test_rows_of_16_bits_are_those_of_float32_to_every_kernel():
    """As shipped: tests/test_halves.py."""
    with machine(**built("checked"), seed=1):
        CHECKS["halves"]()


# ---- whole fits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_fit_has_the_oracles_bits_at_every_shape(fast, shape, dtype):
    for weights in (False, True):
        assert_fit(*problem(*shape, dtype, "wide", weights=weights))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_has_the_oracles_bits_on_every_kind_of_data(fast, kind, dtype):
    for (n, d, k), weights in (((140, 5, 9), True), ((200, 24, 40), False), ((150, 7, 140), True)):
        assert_fit(*problem(n, d, k, dtype, kind, weights=weights), max_iter=50, tol=1e-3)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (70, 3, 17), (37, 17, 35), (40, 4, 9), (34, 257, 3)], ids=str)
def test_a_fit_has_nothing_to_report(running, shape, dtype):
    for kind in ("noise", "duplicates"):
        assert_fit(*problem(*shape, dtype, kind, weights=shape[0] % 2 == 0), max_iter=3, tol=1e-3)


@pytest.mark.parametrize("seed", [0, 5, 6, 7])
def test_the_order_of_threads_and_blocks_changes_nothing(mode, seed):
    with machine(**mode, seed=seed):
        for dtype, d in (("f4", 20), ("f8", 6)):
            assert_fit(*problem(100, d, 25, dtype, "wide", weights=True), max_iter=5)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_sums_are_the_same_where_the_first_pass_has_no_room_in_shared_memory(mode, dtype):
    with machine(**mode, seed=1, properties={"MaxSharedMemoryPerBlockOptin": 0}) as control:
        assert_fit(*problem(70, 3, 7, dtype, "wide", weights=True), max_iter=5)
        assert not any(name.startswith("add_all_rows") for name in control.log.launches)
        assert any(name.startswith("move_rows") for name in control.log.launches)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("d", [3, 20])
def test_the_origin_of_the_scores_changes_no_bit(mode, d, dtype):
    def elsewhere(source):
        assert source.count("mean[j] = round_to<T>(sum / k);") == 1
        return source.replace("mean[j] = round_to<T>(sum / k);", "mean[j] = round_to<T>(30.0 * (j % 3) - sum);")

    with machine(**mode, edit=elsewhere, kernels=("recenter",)):
        assert_fit(*problem(90, d, 12, dtype, "wide", weights=True), max_iter=6)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("kind", KINDS)
def test_seeding_chooses_the_oracles_rows(fast, kind, dtype):
    for (n, d, k), weights in (((300, 3, 20), True), ((140, 17, 30), False), ((1, 1, 1), False)):
        X, _, w = problem(n, d, k, dtype, kind, weights=weights)
        got = gpukmeans.kmeans_plusplus(X, k, random_state=3, sample_weight=w, backend="cupy")
        expected = naive.kmeans_plusplus(X, k, np.random.RandomState(3), w)
        support.assert_same_array(got[0], expected[0], "centers")
        assert got[1].tolist() == expected[1].tolist()


# ---- the tensor pass -------------------------------------------------------------------------------------------

WIDTHS = [(kind, d) for kind in ("bf16", "fp16") for d in (29, 61, 125, 253)]  # all sizes of a row
WIDTHS += [("tf32", d) for d in (13, 29, 61, 125)]


@pytest.mark.parametrize("n", [530, 100], ids=["many rows", "few rows"])
@pytest.mark.parametrize(("kind", "d"), WIDTHS)
def test_every_shape_of_the_tensor_pass_gives_the_oracles_labels(n, kind, d):
    with machine(**MODES["as shipped"], seed=1):
        card = tensor.OFFSET if kind == "bf16" else tensor.LARGE
        tensor.check(kind, n, d, 150, "f8" if kind == "fp16" else "f4", "noise", card=card)


@pytest.mark.parametrize(
    ("kind", "n", "d", "k", "model"),
    [
        ("bf16", 270, 257, 140, 0),  # two tiles of rows and of centers, where registers hold most rows
        ("bf16", 240, 768, 20, 2),
        ("tf32", 100, 129, 140, 1),
        ("tf32", 20, 4096, 20, 2),
        ("fp16", 100, 300, 20, 0),
        ("fp16", 20, 1000, 129, 1),
    ],
)
def test_the_tensor_pass_gives_the_oracles_labels_for_long_rows(kind, n, d, k, model):
    with machine(**MODES["as shipped"], seed=1):
        tensor.check(kind, n, d, k, "f8" if kind == "fp16" else "f4", "noise", models=(model,))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("model", [0, 1, 2])
@pytest.mark.parametrize("kind", tensor.KINDS)
def test_rows_made_to_be_labelled_wrongly_by_the_tensor_pass_are_not(kind, model, seed):
    rng = np.random.default_rng(seed)
    with machine(**MODES["shrunk"], seed=1):
        for spread, power in ((0, 0), (6, -10), (3, -60)):
            C = (rng.normal(size=(20, 30)) * 2.0 ** (power + rng.integers(-spread, spread + 1, (20, 30)))).astype("f4")
            C = np.concatenate([C, -C])
            a, b = rng.integers(0, 40, (2, 200))
            X = ((C[a] + C[b]) / 2 + rng.normal(size=(200, 1)) * 2.0**-11 * (C[a] - C[b])).astype("f4")
            p = tensor.Pass(X, C, kind, tensor.LARGE)
            p.pack()
            tensor.assert_pass(p, model)


# ---- single kernels: more sizes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [3, 4, 5, 8, 31, 64, 65, 1000])
def test_the_shift_is_summed_over_the_tree_and_the_state_follows(running, k):
    check_state([k])


@pytest.mark.parametrize("d", [17, 256, 1000])
def test_the_bound_is_that_of_exact_rounded_up(running, d):
    check_bound([d])


@pytest.mark.parametrize("d", [2, 40])
def test_blobs_are_certified_and_ties_are_not(running, d):
    rng = np.random.default_rng(0)
    C = (rng.normal(size=(20, d)) * 50).astype(np.float32)
    X = C[rng.integers(0, 20, 300)] + rng.normal(size=(300, d)).astype(np.float32)
    X[7] = (C[0] + C[1]) / 2
    backend = get_backend("cupy")
    _, _, found = fast_pass(backend, X, C)
    assert 7 in found["row"]
    assert len(found) <= 3
    assert backend.assign(backend.rows(on_card(X)), C.astype(np.float64)) == len(found)
    assert_labels(backend, X, C)


def test_without_exactness_nothing_is_rechecked(running):
    X, C, _ = problem(60, 3, 20, "f4", "ties")
    backend = get_backend("cupy", "float32")
    _, labels, found = fast_pass(backend, X, C)
    assert len(found) == 0
    D = naive.distances(X, C)
    np.testing.assert_allclose(D[np.arange(60), labels], D.min(axis=1), atol=1e-5)


def test_a_row_that_is_infinitely_far_from_all_centers_gets_label_0(running):
    X = np.array([[1e300, 0.0], [0.0, 1.0]])
    backend = get_backend("cupy")
    rows = backend.rows(on_card(X))
    backend.assign(rows, np.array([[0.0, 0.0], [0.0, 1.0]]))
    assert rows.labels.get().tolist() == [0, 1]
