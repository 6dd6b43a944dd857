"""The CUDA kernels, run on the CPU by tests/simt, give the oracle's bits. Verified without a GPU."""

import numpy as np
import pytest
import support
from simt import build, drive
from simt.backend import Centers, SimtBackend, bound_constants
from simt.device import Device

import naive
from gpukmeans import exact

SHRUNK = {"ASSIGN_SIDE": 4, "ASSIGN_SMALL_FLOATS": 64, "SEED_BLOCK_ROWS": 32, "RECENTER_TREE": 4}
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


def problem(n, d, k, dtype, kind, *, weights=False, seed=0):
    """Rows, starting centers, weights. `wide`: entries spread over 2^+-14, where a fused multiply-add shows."""
    rng = np.random.default_rng((n, d, k, seed))
    X = rng.normal(size=(n, d))
    if kind == "wide":
        X *= 2.0 ** rng.integers(-14, 15, (n, d))
    elif kind == "ties":
        X = rng.integers(0, 3, (n, d)).astype(float)
    elif kind == "duplicates":
        X = X[rng.integers(0, max(1, n // 4), n)]
    elif kind == "offset":
        X += 1e6
    elif kind == "subnormal":  # some entries so small that a flush to zero would show in sums and distances
        X *= np.where(rng.random((n, d)) < 0.5, 2.0 ** (-141 if dtype == "f4" else -1060), 1.0)
    X = X.astype(dtype)
    w = rng.uniform(0, 3, n) * (rng.random(n) < 0.9) if weights else None
    if w is not None:
        w[rng.integers(n)] = 1.5
    return X, X[rng.choice(n, k, replace=False)], w


@pytest.fixture(scope="module", autouse=True)
def gpp():
    if build.compiler() is None:
        support.missing("simt", "it needs g++ on x86-64 Linux")


_devices = {}


@pytest.fixture(params=["as shipped", "shrunk"])
def device(request):
    """Fast mode, in a random order, with tiles of both sizes."""
    if request.param not in _devices:
        _devices[request.param] = Device(seed=1, defines=SHRUNK if request.param == "shrunk" else None)
    yield _devices[request.param]
    _devices[request.param].free()


@pytest.fixture
def checked():
    """Checked mode with small tiles."""
    if "checked" not in _devices:
        _devices["checked"] = Device(checked=True, seed=1, defines=SHRUNK)
    yield _devices["checked"]
    _devices["checked"].free()


def assert_fit(device, X, C, w, *, tiled=None, incremental=True, max_iter=4, tol=0.0):
    backend = SimtBackend(device, tiled=tiled, incremental=incremental)
    got = drive.fit(backend, X, C, w, max_iter=max_iter, tol=tol)
    support.assert_same_fit(got, naive.fit(X, C, sample_weight=w, max_iter=max_iter, tol=tol))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_fit_has_the_oracles_bits_at_every_shape(device, shape, dtype):
    for weights in (False, True):
        X, C, w = problem(*shape, dtype, "wide", weights=weights)
        assert_fit(device, X, C, w, incremental=weights)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_has_the_oracles_bits_on_every_kind_of_data(device, kind, dtype):
    for (n, d, k), weights in (((140, 5, 9), True), ((200, 24, 40), False), ((150, 7, 140), True)):
        X, C, w = problem(n, d, k, dtype, kind, weights=weights)
        for incremental in (False, True):
            assert_fit(device, X, C, w, incremental=incremental, max_iter=50, tol=1e-3)


@pytest.mark.parametrize("d", [1, 3, 9])
def test_the_tiled_kernel_serves_few_features_too(device, d):
    X, C, w = problem(150, d, 33, "f4", "noise")
    assert_fit(device, X, C, w, tiled=True)


@pytest.mark.parametrize("seed", [0, 5, 6, 7])
def test_the_order_of_threads_and_blocks_changes_nothing(device, seed):
    device.seed = seed
    for dtype, d in (("f4", 20), ("f8", 6)):
        X, C, w = problem(300, d, 25, dtype, "wide", weights=True)
        assert_fit(device, X, C, w, max_iter=20)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (70, 3, 17), (37, 17, 35), (40, 4, 9), (34, 257, 3)], ids=str)
def test_checked_mode_has_nothing_to_report(checked, shape, dtype):
    X, C, w = problem(*shape, dtype, "noise", weights=shape[0] % 2 == 0)
    for incremental in (False, True):
        assert_fit(checked, X, C, w, incremental=incremental, max_iter=2, tol=1e-3)
    drive.fit_on_device(SimtBackend(checked), X, C, w, max_iter=2)
    drive.plus_plus(SimtBackend(checked), X, min(6, shape[2]), np.random.RandomState(0), w)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shape", [(97, 1, 1), (130, 3, 7), (300, 17, 5), (200, 257, 9), (150, 2, 13)], ids=str)
def test_the_loop_on_the_device_has_the_oracles_bits(device, shape, dtype):
    for weights in (False, True):
        X, C, w = problem(*shape, dtype, "wide", weights=weights)
        if w is not None:
            w[w == 0] = 0.25  # no cluster is empty: the host would have to fill it
        got = drive.fit_on_device(SimtBackend(device), X, C, w, max_iter=30, tol=1e-2)
        weight = np.ones(len(X)) if w is None else w
        support.assert_same_fit(got, naive.lloyd(X, C, weight, 30, 1e-2))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("kind", KINDS)
def test_seeding_chooses_the_oracles_rows(device, kind, dtype):
    for (n, d, k), weights in (((300, 3, 20), True), ((140, 17, 30), False), ((1, 1, 1), False)):
        X, _, w = problem(n, d, k, dtype, kind, weights=weights)
        got = drive.plus_plus(SimtBackend(device), X, k, np.random.RandomState(3), w)
        expected = naive.plus_plus(X, k, np.random.RandomState(3), np.ones(n) if w is None else w, None)
        assert got.tolist() == expected


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_many_trials_take_more_than_one_pass(device, dtype):
    X, _, _ = problem(200, 3, 1, dtype, "wide")
    backend = SimtBackend(device)
    rows = backend.rows(X)
    code = exact.FixedPoint.for_peaks(backend.seed_update(rows, X[0], True), len(X))
    closest = naive.seeding_distance(X, X[0])
    support.assert_same_array(np.array(rows.closest), closest)
    expected = [
        int(code.high(np.minimum(closest, naive.seeding_distance(X, c)).astype(np.float64)).sum()) for c in X[:19]
    ]
    assert backend.seed_trials(rows, X[:19], code) == expected


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_summary_is_that_of_numpy(device, dtype):
    X, _, w = problem(300, 40, 1, dtype, "wide", weights=True)
    backend = SimtBackend(device)
    rows = backend.rows(X, w)
    summary = backend.summary(rows)
    support.assert_same_array(summary.low, X.min(axis=0).astype(np.float64))
    support.assert_same_array(summary.high, X.max(axis=0).astype(np.float64))
    support.assert_same_array(
        np.array(backend.weighted_peaks(rows)), np.abs(w[:, None] * X.astype(np.float64)).max(axis=0)
    )
    assert summary.finite
    for bad in (np.nan, np.inf, -np.inf):
        X[123, 17] = bad
        assert not backend.summary(backend.rows(X)).finite


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 8, 9, 31, 64, 65, 1000])
def test_the_shift_is_summed_over_the_tree_and_the_state_follows(device, k):
    values = np.random.default_rng(k).normal(size=k) ** 2 * 2.0 ** np.random.default_rng(k).integers(-14, 15, k)
    total = exact.tree_sum(values)
    for moved, threshold, expected in ((0, total, 1), (3, total, 2), (3, np.nextafter(total, 0), 0)):
        shift, state = device.zeros(1, np.float64), device.zeros(1, np.int32)
        count, tree = device.array([moved], np.uint64), device.define("RECENTER_TREE", 1024)
        device.launch("finish_iteration", 1, tree, device.array(values), count, threshold, shift, state, k)
        assert shift[0] == total
        assert state[0] == expected


@pytest.mark.parametrize("d", [1, 17, 256, 257, 1000])
def test_the_bound_is_that_of_exact_rounded_up(device, d):
    for norm in (0.0, 1e-20, 0.37, 1e6, 2.0**55):
        cmax, bound = device.array([norm], np.float32).view(np.uint32), device.zeros(3, np.float32)
        expected = np.array(exact.score_bound(d, float(cmax.view(np.float32)[0]), chain=exact.CHAIN))
        device.launch("bound_terms", 1, 1, cmax, *bound_constants(d), bound)
        assert (bound >= expected).all()
        assert (bound <= expected * (1 + 2e-7)).all()
        assert cmax[0] == 0


@pytest.mark.parametrize("norm", [2.0**56, np.inf, np.nan])
def test_nothing_is_certified_where_a_score_could_overflow(device, norm):
    cmax, bound = device.array([norm], np.float32).view(np.uint32), device.zeros(3, np.float32)
    device.launch("bound_terms", 1, 1, cmax, *bound_constants(5), bound)
    assert bound.tolist() == [np.inf, 0, 0]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_of_equal_centers_only_the_lowest_is_scored(device, dtype):
    C = np.random.default_rng(0).normal(size=(9, 5)).astype(dtype)[[0, 1, 0, 2, 3, 1, 0, 4, 4] * 9]
    C[40, 2] = np.nextafter(C[40, 2], 9)
    centers = Centers(device, *C.shape, C.dtype)
    centers.publish(C)
    first = np.unique(C, axis=0, return_index=True)[1]
    assert np.flatnonzero(np.isfinite(centers.half[: len(C)])).tolist() == sorted(first)


def test_subnormal_centers_that_differ_are_not_duplicates(device):
    C = np.array([[1e-44], [3e-45], [1e-44]], np.float32)
    centers = Centers(device, 3, 1, C.dtype)
    centers.publish(C)
    assert np.isfinite(centers.half[:3]).tolist() == [True, True, False]


@pytest.mark.parametrize("d", [2, 40])
def test_blobs_are_certified_and_ties_are_not(device, d):
    rng = np.random.default_rng(0)
    C = (rng.normal(size=(20, d)) * 50).astype(np.float32)
    X = C[rng.integers(0, 20, 300)] + rng.normal(size=(300, d)).astype(np.float32)
    X[7] = (C[0] + C[1]) / 2
    backend = SimtBackend(device)
    centers = Centers(device, *C.shape, C.dtype)
    centers.publish(C)
    rows = backend.rows(X)
    _, found, count = backend.fast_labels(rows, centers)
    assert 7 in found["row"][: int(count[0])]
    assert count[0] <= 3
    support.assert_same_array(backend.label(rows, centers)[0].copy(), naive.labels(X, C))


def test_a_row_that_is_infinitely_far_from_all_centers_gets_label_0(device):
    X = np.array([[1e300, 0.0], [0.0, 1.0]])
    centers = Centers(device, 2, 2, X.dtype)
    centers.publish(np.array([[0.0, 0.0], [0.0, 1.0]]))
    backend = SimtBackend(device)
    assert backend.label(backend.rows(X), centers)[0].tolist() == [0, 1]
