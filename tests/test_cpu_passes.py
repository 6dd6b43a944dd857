"""What the CPU backend does beside the assignment, verb by verb: the bits of the plain backend at every border."""

import tracemalloc

import numpy as np
import pytest
from support import assert_same_array, threads

from gpukmeans.backends import get_backend
from gpukmeans.backends.base import Backend, Partial
from gpukmeans.exact import Encoding, FixedPoint, Moments

WIDTHS = [1, 2, 3, 4, 5, 7, 8, 9, 16, 19, 63, 64, 65, 130]


@pytest.fixture(scope="module")
def plain():
    return get_backend("numpy")


@pytest.fixture
def fast(numba_backend, monkeypatch):
    from gpukmeans.backends import _numba

    monkeypatch.setattr(_numba, "FEW_ROWS", 0)  # whose inertia is the plain backend's
    return get_backend(numba_backend)


def data(rng, n, d, dtype, kind):
    X = rng.normal(size=(n, d))
    if kind == "scales":
        X *= 10.0 ** rng.integers(-9, 10, d)
    if kind == "halves":  # codes in the middle between two whole numbers
        X = (rng.integers(-(2**20), 2**20, (n, d)) * 2 + 1) * 2.0**-40
        X[0] = 2.0**20
    if kind == "spread":
        X *= 2.0 ** rng.integers(-30, 31, (n, d))
    return X.astype(dtype)


# ---- ranges
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(("n", "d"), [(1, 1), (3, 2), (7, 600), (65, 3), (1000, 3), (5001, 130), (64, 40_000)])
def test_ranges_are_those_of_numpy_and_a_bad_value_shows_wherever_it_is(plain, fast, n, d, dtype):
    X = np.random.default_rng(n).normal(size=(n, d)).astype(dtype)
    with threads(3):
        expected, got = plain.summary(plain.rows(X)), fast.summary(fast.rows(X))
        assert_same_array(got.low, expected.low, "low")
        assert_same_array(got.high, expected.high, "high")
        assert got.finite
        for bad in (np.nan, np.inf, -np.inf):
            for place in {0, X.size // 2, X.size - 1}:
                there = X.copy()
                there.flat[place] = bad
                assert not fast.summary(fast.rows(there)).finite


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_range_is_found_wherever_its_ends_are(fast, dtype):
    for n, d in [(5, 1), (67, 3), (3, 70)]:
        for place in range(n * d):
            X = np.ones((n, d), dtype)
            X.flat[place] = -2.0
            X.flat[place - d] = 3.0
            got = fast.summary(fast.rows(X))
            assert_same_array(got.low, X.min(axis=0).astype(float), "low")
            assert_same_array(got.high, X.max(axis=0).astype(float), "high")


def test_the_range_of_wide_rows_takes_no_memory_for_each(fast):
    X = np.ones((200, 1 << 16), dtype=np.float32)
    tracemalloc.start()
    fast.summary(fast.rows(X))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < X.nbytes / 8


# ---- moments
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("kind", ["noise", "scales", "halves", "spread"])
@pytest.mark.parametrize("n", [1, 9, 2047, 4095, 4099])  # from 4096 rows on, codes have fewer bits
def test_moments_have_the_bits_of_numpy(plain, fast, n, kind, dtype):
    rng = np.random.default_rng(n)
    for d in WIDTHS:
        X = data(rng, n, d, dtype, kind)
        codes = Moments.for_range(X.min(axis=0).astype(float), X.max(axis=0).astype(float), n)
        expected = plain.moments(plain.rows(X), codes)
        for n_threads in (1, 3):
            with threads(n_threads):
                for got, wanted in zip(fast.moments(fast.rows(X), codes), expected, strict=True):
                    assert_same_array(got, wanted, f"moments of {d} features")


# ---- distances and inertia
def labelled(device, X, labels, weight):
    rows = device.rows(X, weight)
    rows.labels[:] = labels
    return rows


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("weights", [None, "random", "zeros", "extreme"])
@pytest.mark.parametrize("n", [1, 7, 8, 9, 511, 513, 2000])
def test_distances_and_inertia_have_the_bits_of_numpy(plain, fast, n, weights, dtype):
    rng = np.random.default_rng(n)
    for d in WIDTHS:
        k = int(rng.integers(1, 9))
        X = data(rng, n, d, dtype, rng.choice(["noise", "scales", "spread"]))
        centers = data(rng, k, d, dtype, "noise").astype(float)
        labels = rng.integers(0, k, n)
        weight = {
            None: None,
            "random": rng.random(n) + 0.01,
            "zeros": rng.integers(0, 2, n) * 1.5,
            "extreme": rng.random(n) * 10.0 ** rng.choice([-30, 0, 30], n),
        }[weights]
        one, other = labelled(plain, X, labels, weight), labelled(fast, X, labels, weight)
        assert plain.own_sqdist(one, centers) == fast.own_sqdist(other, centers)
        assert_same_array(other.sqdist, one.sqdist, "distances")
        expected = plain.total_inertia([one], centers)
        for n_threads in (1, 3):
            with threads(n_threads):
                assert fast.total_inertia([other], centers).hex() == expected.hex()


@pytest.mark.parametrize("far", [1.0, 1.5, 3.0, 1e3, 1e30])
@pytest.mark.parametrize("near", [0.0, 1.0])
def test_a_row_much_farther_than_the_sampled_ones_gives_the_same_inertia(plain, fast, near, far):
    n = 16 * 200
    X = np.full((n, 3), near) * np.linspace(1, 1.1, n)[:, None]
    X[150] = far  # between the 64 rows at 0 and those at 200
    centers = np.zeros((1, 3))
    expected = plain.total_inertia([labelled(plain, X, 0, None)], centers)
    got = fast.total_inertia([labelled(fast, X, 0, None)], centers)
    assert got.hex() == expected.hex()


def test_an_infinite_distance_counts_only_with_a_weight(plain, fast):
    X = np.array([[1.0], [1e200], [3.0]])
    centers = np.zeros((1, 1))
    for weight, expected in ((None, np.inf), (np.array([1.0, 0.0, 2.0]), 19.0)):
        for device in (plain, fast):
            assert device.total_inertia([labelled(device, X, 0, weight)], centers) == expected


def test_the_inertia_of_rows_on_their_centers_is_zero(plain, fast):
    X = np.ones((5, 4))
    for device in (plain, fast):
        assert device.total_inertia([labelled(device, X, 0, None)], np.ones((1, 4))) == 0.0


def test_no_distance_is_kept_for_the_inertia(fast):
    rows = labelled(fast, np.ones((5, 4)), 0, None)
    fast.total_inertia([rows], np.zeros((1, 4)))
    assert rows.sqdist is None


# ---- new centers
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("with_weights", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3, 7, 8, 9, 33, 200])
def test_new_centers_have_the_bits_of_the_definition(fast, k, with_weights, dtype):
    rng = np.random.default_rng(k)
    n = 5000
    for d in WIDTHS:
        peaks = 10.0 ** rng.integers(-12, 12, d)
        encoding = Encoding.for_peaks(peaks, 1e3 if with_weights else None, n, np.dtype(dtype))
        largest = 1 << encoding.features.bits
        sums = rng.integers(-largest, largest, (k, d)) >> rng.integers(0, 40, (k, d))
        low = rng.integers(-largest, largest, (k, d)) if dtype == "f8" else None
        weights = rng.integers(1, n, k)
        weights_low = rng.integers(-largest, largest, k) if with_weights else None
        before = (rng.normal(size=(k, d)) * peaks).astype(dtype).astype(float)
        for relocated in (False, True):
            if relocated:
                weights[rng.random(k) < 0.3] = 0
                if weights_low is not None:
                    weights_low[weights == 0] = 0
                weights[-1] = n
            partial = Partial(sums, low, weights, weights_low, 5, 7)
            threshold = float(rng.choice([0.0, 1e30]))
            after, outcome = fast.recenter(partial, before, encoding, threshold, relocated=relocated)
            wanted, expected = Backend.recenter(fast, partial, before, encoding, threshold, relocated=relocated)
            assert_same_array(after, wanted, "centers")
            assert outcome == expected
            again = fast.recenter(partial, after, encoding, 0.0, relocated=relocated)[1]
            assert (again.shift_sq, again.changed) == (0.0, False)


def test_an_empty_cluster_is_told_and_a_step_without_moves_is_strict(fast):
    encoding = Encoding.for_peaks(np.ones(2), None, 10, np.dtype("f4"))
    sums, centers = np.ones((2, 2), dtype=np.int64), np.zeros((2, 2))
    for weights, n_moved in (([1, 0], 3), ([1, 1], 0)):
        partial = Partial(sums, None, np.array(weights), None, n_moved, 0)
        expected = Backend.recenter(fast, partial, centers, encoding, 0.0)
        got = fast.recenter(partial, centers, encoding, 0.0)
        assert got[1] == expected[1]
        assert_same_array(got[0], expected[0])


def test_codes_are_those_of_the_largest_distance_of_all_blocks(plain, fast):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 5)) * np.linspace(0.1, 50, 300)[:, None]
    centers = rng.normal(size=(4, 5))
    labels = rng.integers(0, 4, 300)
    parts = [slice(0, 100), slice(100, 101), slice(101, 300)]
    whole = plain.total_inertia([labelled(plain, X, labels, None)], centers)
    for device in (plain, fast):
        blocks = [labelled(device, X[part], labels[part], None) for part in parts]
        assert device.total_inertia(blocks, centers).hex() == whole.hex()
    peak = plain.own_sqdist(labelled(plain, X, labels, None), centers)
    assert FixedPoint.for_peaks(peak, 300).exponents[0] != FixedPoint.for_peaks(1.0, 300).exponents[0]


@pytest.mark.parametrize("n", [5, 40_000])
def test_clusters_with_a_row_are_counted_wherever_it_is(plain, n):
    labels = np.zeros(n, dtype=np.int32)
    labels[-1] = 6
    assert plain.n_used(labels, [], 8) == 2
    labels[:8] = range(8) if n > 8 else labels[:8]
    assert plain.n_used(labels, [], 8) == (8 if n > 8 else 2)


# ---- transform
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("n", [1, 7, 8, 9, 130])
@pytest.mark.parametrize("k", [1, 2, 7, 8, 9, 30])
def test_transform_has_the_bits_of_numpy(plain, fast, n, k, dtype):
    rng = np.random.default_rng(n)
    for d in WIDTHS:
        X = data(rng, n, d, dtype, rng.choice(["noise", "scales", "spread"]))
        centers = data(rng, k, d, dtype, "noise").astype(float)
        expected = plain.transform(plain.rows(X), centers)
        for n_threads in (1, 3):
            with threads(n_threads):
                assert_same_array(fast.transform(fast.rows(X), centers), expected, f"distances of {d} features")
