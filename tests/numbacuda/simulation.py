"""Every Numba-CUDA kernel in Numba's simulator against the oracle; tiles and blocks so small that all borders are met.

Needs a process of its own with NUMBA_ENABLE_CUDASIM=1. Prints a line of JSON for each check: its name and what failed.
"""

import json
import math
import sys
import time
import traceback
import warnings

import numba
import numpy as np
import simulator

import naive
from gpukmeans import exact
from gpukmeans.backends import (
    _numba_cuda_assign,
    _numba_cuda_centers,
    _numba_cuda_exact,
    _numba_cuda_kernels,
    _numba_cuda_seeding,
)

KERNELS, UNCERTAIN, FAR = _numba_cuda_kernels.KERNELS, _numba_cuda_kernels.UNCERTAIN, _numba_cuda_kernels.FAR
MODULES = (_numba_cuda_assign, _numba_cuda_centers, _numba_cuda_kernels, _numba_cuda_seeding)
RECORD = np.dtype(
    [("shift_sq", "f8"), *((f"n_{name}", "u8") for name in ("moved", "rechecked", "empty", "changed")), ("state", "i8")]
)
I4, I8, U4, U8, F4, F8 = np.int32, np.int64, np.uint32, np.uint64, np.float32, np.float64
DTYPES = (np.float32, np.float64)


def set_threads(threads):
    """Blocks of so many threads; a shared array has no room for more."""
    for module in MODULES:
        module.MAX_THREADS = threads


def set_tiles(side, depth):
    """Sizes of `assign`."""
    tiles = _numba_cuda_assign
    tiles.SIDE, tiles.ROWS, tiles.DEPTH, tiles.PITCH = side, 4 * side, depth, 4 * side + 1


def launch(name, grid, block, *args):
    KERNELS[name][grid, block](*args)


def problem(n, d, k, dtype, kind="noise", weights=False):
    """Rows, centers among them, weights; `wide`: entries spread over 2^+-14, where a fused multiply-add shows."""
    rng = np.random.default_rng((n, d, k))
    X = rng.normal(size=(n, d))
    if kind == "wide":
        X *= 2.0 ** rng.integers(-14, 15, (n, d))
    elif kind == "ties":
        X = rng.integers(0, 3, (n, d)).astype(float)
    elif kind == "duplicates":
        X = X[rng.integers(0, max(1, n // 4), n)]
    elif kind == "offset":
        X += 1e6
    elif kind == "subnormal":
        X *= np.where(rng.random((n, d)) < 0.5, 2.0 ** (-141 if dtype == F4 else -1060), 1.0)
    X = X.astype(dtype)
    w = rng.uniform(0, 3, n) * (rng.random(n) < 0.8) if weights else None
    if w is not None:
        w[rng.integers(n)] = 1.5
    return X, np.ascontiguousarray(X[rng.choice(n, min(n, k), replace=False)]), w


def same(got, expected, what="array"):
    """Equal dtype, shape and bits."""
    got, expected = np.ascontiguousarray(got), np.ascontiguousarray(expected)
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape), f"{what}: {got.dtype}{got.shape}"
    different = np.argwhere(got.view(f"u{got.itemsize}") != expected.view(f"u{got.itemsize}"))
    assert not len(different), (
        f"{what}: at {different[0]}: {got[tuple(different[0])]}, not {expected[tuple(different[0])]}"
    )


def never():
    return np.zeros(1, I4)


def product(X, w):
    """W x in float64."""
    return X.astype(F8) if w is None else w[:, None] * X.astype(F8)


def encoding_of(X, w):
    peaks = np.abs(product(X, w)).max(axis=0)
    return exact.Encoding.for_peaks(peaks, None if w is None else float(w.max()), len(X), X.dtype)


# ---- centers ---------------------------------------------------------------------------------------------------------
class Loaded:
    """Centers as the host prepares them for a fast pass, by the kernels."""

    def __init__(self, values, block=4, chain=exact.CHAIN, certify=1):
        self.values = np.array(values, order="C")
        k, d = self.values.shape
        self.k, self.d, self.ldc, self.kp = I4(k), I4(d), I4(-(-d // 4) * 4), I4(-(-k // 4) * 4)
        self.shift = np.zeros(self.ldc, values.dtype)
        self.cs, self.half = np.zeros((self.kp, self.ldc), F4), np.full(self.kp, np.inf, F4)
        self.cs[:, d:] = np.nan  # the kernels do not rely on the padding of columns
        self.hash, self.norm, self.bound = np.zeros(k, U8), np.zeros(1, U4), np.zeros(3, F4)
        launch("mean_center", 2, block, self.values, self.shift, never(), self.d, self.k)
        tail = (self.hash, self.norm, self.d, self.ldc)
        launch("publish_centers", k, block, self.values, *self.for_scores, *tail)
        self.finish(block, chain, certify)

    def finish(self, block, chain, certify=1):
        self.published_norm = self.norm.view(F4)[0]
        launch("hide_duplicates", 2, block, self.values, self.hash, self.half, never(), self.d, self.k)
        launch("bound_terms", 1, 1, self.norm, *constants(int(self.d), chain), I4(certify), self.bound, never())

    @property
    def for_scores(self):
        return self.shift, self.cs, self.half


def constants(d, chain=exact.CHAIN):
    at_0, at_1 = (exact.score_bound(d, norm, chain=chain) for norm in (0.0, 1.0))
    return F8(at_1.linear - at_0.linear), F8(at_0.quadratic), F8(at_0.linear)


def assert_loaded(loaded, values, chain=exact.CHAIN):
    same(loaded.values, values, "centers")
    k, d = values.shape
    with np.errstate(all="ignore"):
        c = (values - loaded.shift[:d]).astype(F4)
    same(loaded.cs[:k, :d], c, "shifted centers")
    first = np.unique(values, axis=0, return_index=True)[1]
    assert np.flatnonzero(np.isfinite(loaded.half)).tolist() == sorted(first), "the lowest of equal centers"
    norms_sq = (c.astype(F8) ** 2).sum(axis=1)
    np.testing.assert_allclose(loaded.half[first], norms_sq[first] / 2, rtol=1e-7, atol=1e-45)
    assert loaded.published_norm >= math.sqrt(norms_sq.max()), "norm"
    assert loaded.published_norm <= math.sqrt(norms_sq.max()) * (1 + 1e-6) + 2e-45, "norm"
    expected = np.array(exact.score_bound(d, float(loaded.published_norm), chain=chain))
    assert (loaded.bound >= expected).all(), "bound"
    assert (loaded.bound <= expected * (1 + 2e-7)).all(), "bound"
    assert loaded.norm[0] == 0


def check_publish(dtype):
    """Shifted centers, half norms, the bound; duplicates; centers that differ in the last bit or among subnormals."""
    for n, d, k, kind in ((3, 1, 3, "noise"), (9, 5, 9, "wide"), (9, 3, 9, "duplicates"), (5, 9, 1, "offset")):
        _, C, _ = problem(n, d, k, dtype, kind)
        loaded = Loaded(C)
        assert_loaded(loaded, C)
        mean = C.astype(F8).mean(axis=0)
        assert np.abs(loaded.shift[:d] - mean).max() <= 1e-6 * np.abs(C).max(), "mean"
    C = np.random.default_rng(0).normal(size=(5, 3))[[0, 1, 0, 2, 3, 1, 0, 4, 4]].astype(dtype)
    C[6, 2] = np.nextafter(C[6, 2], dtype(9))
    assert_loaded(Loaded(C), C)
    tiny = np.finfo(dtype).smallest_subnormal
    C = np.array([[5 * tiny], [2 * tiny], [5 * tiny]], dtype)
    assert_loaded(Loaded(C), C)


def check_bound():
    """As exact.score_bound, rounded up; nothing is certified from 2^55 on, or for NaN; certify 0 certifies all."""

    def bound_of(norm, d, certify=1):
        cmax, bound = np.array([norm], F4).view(U4), np.zeros(3, F4)
        launch("bound_terms", 1, 2, cmax, *constants(d), I4(certify), bound, never())
        assert cmax[0] == 0
        return bound

    for d in (1, 257):
        for norm in (0.0, 1e-40, 1e-20, 0.37, 1e6, 2.0**55):
            expected = np.array(exact.score_bound(d, float(F4(norm)), chain=exact.CHAIN))
            assert (bound_of(norm, d) >= expected).all()
            assert (bound_of(norm, d) <= expected * (1 + 2e-7)).all()
        for norm in (2.0**56, np.inf, np.nan):
            assert bound_of(norm, d).tolist() == [np.inf, 0, 0]
            assert bound_of(norm, d, certify=0).tolist() == [-np.inf, 0, 0]
    values = np.array([[np.inf, 1], [-np.inf, np.nan], [3, 4]])  # a norm that is NaN is not lost
    norm, cs, half = np.zeros(1, U4), np.zeros((4, 4), F4), np.zeros(4, F4)
    launch("publish_centers", 3, 2, values, np.zeros(4), cs, half, np.zeros(3, U8), norm, I4(2), I4(4))
    assert np.isnan(norm.view(F4)[0])


# ---- assign, recheck -------------------------------------------------------------------------------------------------
def fma32(a, b, c):
    return F4(F8(a) * F8(b) + F8(c))


def expected_scores(X, loaded, chain):
    """Float32 scores bit by bit: one chain from the half norm on, or parts from 0 that are added to it."""
    d, k = int(loaded.d), int(loaded.k)
    x = (loaded.shift[:d] - X).astype(F4)
    scores = np.zeros((len(X), k), F4)
    for i in range(len(X)):
        total = loaded.half[:k].copy()
        part = chain if d > 2 * chain else d
        for begin in range(0, d, part):
            acc = total if part == d else np.zeros(k, F4)
            for j in range(begin, min(d, begin + part)):
                acc = (F8(x[i, j]) * loaded.cs[:k, j].astype(F8) + acc.astype(F8)).astype(F4)
            total = acc if part == d else total + acc
        scores[i] = total
    return x, scores


def expected_gap(x, bound, depth, chain):
    """2 E bit by bit: squares of `depth` features at a time."""
    x2, d = F4(0), len(x)
    part = chain if d > 2 * chain else d
    for begin in range(0, d, part):
        for j0 in range(begin, min(begin + part, d), depth):
            squares = F4(0)
            for v in x[j0 : min(j0 + depth, d)]:
                squares = fma32(v, v, squares)
            x2 += squares
    norm = np.sqrt(x2 + F4(d) * F4(2.0**-125))
    return bound[0] + norm * (bound[1] + bound[2] * norm)


def fast_pass(X, loaded, bound, grid=2):
    n = len(X)
    labels, found, count = np.full(n, -7, I4), np.zeros(n, UNCERTAIN), np.zeros(1, U8)
    tail = (never(), I8(n), loaded.d, loaded.ldc, loaded.kp)
    name = "assign_small" if n % 2 else "assign_tiled"
    launch(name, grid, _numba_cuda_assign.SIDE**2, X, *loaded.for_scores, bound, labels, found, count, *tail)
    return labels, found, count


def open_rows(X, loaded, labels, found, count, block=4):
    tally = np.array([1, 2, 3, 4], U8)
    tail = (found, count, labels, tally, never(), loaded.d, loaded.ldc, loaded.k)
    launch("recheck", 2, block, X, loaded.values, *loaded.for_scores, *tail)
    assert tally.tolist() == [1, 2 + int(count[0]), 3, 4]
    return labels


def assert_assign(X, C, chain=exact.CHAIN):
    """Bits of the scores and of the bound, the list and no more, the labels of the oracle after the recheck."""
    loaded, depth = Loaded(C, chain=chain), _numba_cuda_assign.DEPTH
    x, scores = expected_scores(X, loaded, chain)
    n, k = scores.shape
    best = scores.min(axis=1)
    second = np.partition(scores, 1, axis=1)[:, 1] if k > 1 else np.full(n, np.inf, F4)
    for bound in (np.array([np.inf, 0, 0], F4), loaded.bound):
        labels, found, count = fast_pass(X, loaded, bound)
        same(scores[np.arange(n), labels], best, "score of the label")
        gaps = np.array([expected_gap(row, bound, depth, chain) for row in x])
        listed = found[: int(count[0])]
        expected = np.flatnonzero(~(second - best > gaps))
        assert sorted(listed["row"].tolist()) == expected.tolist(), "the list"
        same(listed["best"], best[listed["row"]], "scores of the list")
        same(listed["gap"], gaps[listed["row"]], "bounds of the list")
        same(open_rows(X, loaded, labels, found, count), naive.labels(X, C), "labels")
    return int(count[0])


def between(C, n):
    """Rows in the middle between two centers, off by about what float32 can tell."""
    rng = np.random.default_rng(len(C))
    a, b = rng.integers(0, len(C), n), rng.integers(0, len(C), n)
    A, B = C[a].astype(F8), C[b].astype(F8)
    return ((A + B) / 2 + rng.uniform(-1e-6, 1e-6, n)[:, None] * (B - A)).astype(C.dtype)


def check_assign(dtype):
    """Tiles of 8 rows and centers and 2 features: less, all, and more of each."""
    set_tiles(2, 2)
    for n, d, k, kind in (
        (1, 1, 1, "noise"),
        (9, 1, 8, "ties"),
        (8, 3, 9, "noise"),
        (19, 5, 17, "wide"),
        (25, 2, 7, "offset"),
        (16, 4, 8, "duplicates"),
        (10, 7, 3, "subnormal"),
    ):
        X, C, _ = problem(n, d, k, dtype, kind)
        assert_assign(np.concatenate([X, between(C, 4)]), C)
    C = np.array([[-4, 4], [4, 4], [4, -4], [-3.5, -3.5]], dtype)  # the row is certain, unless padding is scored
    assert assert_assign(C.mean(axis=0)[None], C) == 0
    set_tiles(4, 2)
    X, C, _ = problem(35, 3, 18, dtype, "noise")
    assert_assign(X, C)


def check_cut(dtype):
    """Chains that are cut: every 4 features, and as shipped, where a chain that is not cut would break the bound."""
    set_tiles(2, 2)
    _numba_cuda_exact.CHAIN = 4
    for d in (8, 9, 11, 16):
        X, C, _ = problem(9, d, 9, dtype, "wide")
        assert_assign(X, C, chain=4)
    _numba_cuda_exact.CHAIN = exact.CHAIN
    set_tiles(2, 32)
    X, C, _ = problem(2, 260, 3, dtype, "noise")
    assert_assign(X, C)
    if dtype == F8:  # once is enough
        return
    set_tiles(2, 128)
    c = np.full(2000, 2.0**-12)
    c[0] = 1
    near = c.copy()
    near[1999] *= 1 - 2.0**-12
    x = np.full((1, 2000), 0.49 * 2.0**-12)
    x[0, 0] = 1
    assert_assign(x.astype(F4), np.stack([near, c, -c, -near]).astype(F4))


def check_overflow():
    """Scores that are infinite or NaN certify nothing."""
    set_tiles(2, 2)
    for X, C in (
        (np.array([[2.0**75]]), np.array([[2.0**53], [2.0**54], [-(2.0**54)]])),
        (np.array([[1e300, 1.0], [1.0, 1.0]]), np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 1.0]])),
        (np.array([[1.0, 2.0]]), np.array([[1e200, 1.0], [2e200, 1.0], [1.0, 1.0]])),
    ):
        loaded = Loaded(C)
        labels, found, count = fast_pass(X, loaded, loaded.bound)
        assert 0 in found["row"][: int(count[0])]
        same(open_rows(X, loaded, labels, found, count), naive.labels(X, C), "labels")


def check_recheck(dtype):
    """All centers as candidates, some rows listed in any order; more centers than threads; several rows a block."""
    for block, n, d, k, kind in (
        (8, 13, 3, 2, "ties"),
        (4, 9, 2, 9, "ties"),
        (8, 9, 5, 1, "noise"),
        (2, 5, 3, 5, "wide"),
    ):
        set_threads(block)
        X, C, _ = problem(n, d, k, dtype, kind)
        loaded = Loaded(C, block=2)
        listed = np.random.default_rng(n).permutation(n)[1:]
        found = np.array([(row, 0, np.inf) for row in listed], UNCERTAIN)
        labels = open_rows(X, loaded, np.full(n, -7, I4), found, np.array([len(found)], U8), block)
        expected = np.where(np.isin(np.arange(n), listed), naive.labels(X, C), -7).astype(I4)
        same(labels, expected, "labels of the rows in the list")


# ---- sums ------------------------------------------------------------------------------------------------------------
def sums_of(X, w, labels, k, encoding):
    """Integer sums in the order of the kernels' arguments; a row with label -1 is in no cluster."""
    y = product(X, w)
    limbs = [
        encoding.features.high(y),
        encoding.features.low(y) if encoding.two_limbs else None,
        np.ones(len(X), I8) if w is None else encoding.weights.high(w),
        None if w is None else encoding.weights.low(w),
    ]
    sums = []
    for limb in limbs:
        total = None if limb is None else np.zeros((k, *limb.shape[1:]), I8)
        if total is not None:
            np.add.at(total, labels[labels >= 0], limb[labels >= 0])
        sums.append(total)
    return sums


def assert_sums(got, expected):
    for name, a, b in zip(("sums", "low", "weights", "low weights"), got, expected, strict=True):
        if b is not None:
            same(a, b, name)


def check_sums(dtype):
    """All rows at once, then some that move; rows that are in no cluster; as many lanes as features, and fewer."""
    for n, d, k, kind, weights, lanes in (
        (11, 1, 5, "noise", False, 1),
        (9, 3, 4, "wide", True, 2),
        (7, 5, 2, "offset", False, 4),
        (6, 3, 6, "subnormal", True, 32),
    ):
        X, _, w = problem(n, d, k, dtype, kind, weights)
        rng, encoding = np.random.default_rng(d), encoding_of(X, w)
        for first in ("add_all_rows", "move_rows"):
            sums = sums_of(X, w, np.full(n, -1), k, encoding)
            label, tally, moved = np.full(n, -1, I4), np.array([0, 5, 6, 7], U8), 0
            fresh = rng.integers(0, k, n).astype(I4)
            for verb, share in ((first, 1.0), ("move_rows", 0.4), ("move_rows", 0.0)):
                then = np.where(rng.random(n) < share, rng.integers(0, k, n), fresh).astype(I4)
                moved += int((then != label).sum())
                code = (encoding.features.scale, encoding.weights.scale[0], F8(encoding.features.low_scale))
                sizes = (I8(n), I4(d), *([I4(k)] if verb == "add_all_rows" else []), I4(lanes))
                launch(verb, 2, 4, X, w, then, label, *code, *sums, tally, never(), *sizes)
                assert_sums(sums, sums_of(X, w, then, k, encoding))
                same(label, then, "labels")
                assert tally.tolist() == [moved, 5, 6, 7]
                fresh = then


def check_recenter(dtype):
    """Centers of sums, what is prepared with them; clusters that stay empty; shift in feature order."""
    for n, d, k, kind, weights in ((9, 3, 7, "wide", True), (8, 9, 4, "noise", False), (8, 5, 8, "duplicates", True)):
        X, C, w = problem(n, d, k, dtype, kind, weights)
        encoding, some = encoding_of(X, w), max(1, k - 2)  # two clusters stay empty
        labels = np.arange(n) % some if w is None else np.random.default_rng(n).integers(0, some, n)
        sums = sums_of(X, w, labels, k, encoding)
        weight = exact.cluster_weights(encoding, sums[2], sums[3])
        expected = exact.new_centers(encoding, sums[0], sums[1], weight, X.dtype)
        before, after, moved_sq, tally = Loaded(C), Loaded(C), np.zeros(k), np.array([3, 4, 0, 0], U8)
        after.values[:] = 0
        inverses = (np.ldexp(1.0, -encoding.features.exponents), F8(1 / encoding.features.low_scale))
        inverses = (*inverses, 1 / encoding.weights.scale[0])
        tail = (after.hash, after.norm, moved_sq, tally, never(), after.d, after.ldc, after.k)
        launch("recenter", k, 4, *sums, *inverses, before.values, after.values, *after.for_scores, *tail)
        same(after.values, expected.astype(dtype), "centers")
        same(moved_sq, exact.sq_distances(expected, C), "shift of each center")
        assert tally.tolist() == [3, 4, (weight == 0).sum(), (expected != C).any(axis=1).sum()]
        after.finish(4, exact.CHAIN)
        assert_loaded(after, expected.astype(dtype))


def check_small_moves():
    """A center that moves by less than a square can tell has changed; what only the second limb knows."""
    X, w = np.array([[1.0], [-1.0], [3 * 2.0**-60], [0.5], [1.0]]), np.array([1, 1, 1, 2.0**-60, 1])
    encoding = encoding_of(X, w)
    sums = sums_of(X, w, np.array([0, 0, 0, 1, 2]), 3, encoding)
    inverses = (np.ldexp(1.0, -encoding.features.exponents), F8(1 / encoding.features.low_scale))
    before = Loaded(np.array([[2.0**-60], [0.5], [1.0 - 2.0**-53]]))
    after, moved_sq, tally = Loaded(np.zeros((3, 1))), np.zeros(3), np.zeros(4, U8)
    tail = (after.hash, after.norm, moved_sq, tally, never(), after.d, after.ldc, after.k)
    args = (*sums, *inverses, 1 / encoding.weights.scale[0], before.values, after.values, *after.for_scores, *tail)
    launch("recenter", 3, 2, *args)
    assert after.values.ravel().tolist() == [2.0**-60, 0.5, 1.0]
    assert tally.tolist() == [0, 0, 0, 1]
    before.values[:] = [[2.0**-60], [0.5], [1.0]]
    before.values[0, 0] = np.nextafter(2.0**-60, 0)
    sums[0][:], sums[1][:] = 0, 0
    before.values[:] = [[5e-324], [0.0], [0.0]]
    tally[:] = 0
    launch("recenter", 3, 2, *args)
    assert moved_sq.tolist() == [0, 0, 0]
    assert tally.tolist() == [0, 0, 0, 1]


def finish(values, tally, threshold, relocated=0, state=0, block=2):
    values, tally, state = np.array(values, F8), np.array(tally, U8), np.array([state], I4)
    record = np.full(1, 7, RECORD)
    launch("finish_iteration", 1, block, values, tally, F8(threshold), I4(relocated), record, state, I4(len(values)))
    return record[0].tolist(), int(state[0]), tally.tolist()


def check_state():
    """The shift is summed over the tree; the state follows; the tally is 0 again, or waits for the relocation."""
    for k in (1, 2, 3, 7, 9, 21):
        rng = np.random.default_rng(k)
        values = rng.normal(size=k) ** 2 * 2.0 ** rng.integers(-14, 15, k)
        total = exact.tree_sum(values)
        below = np.nextafter(total, 0)
        for tally, threshold, relocated, state in (
            ([0, 2, 0, 3], total, 0, 1),
            ([3, 2, 0, 3], total, 0, 2),
            ([3, 2, 0, 3], below, 0, 0),
            ([0, 2, 1, 3], below, 0, 3),
            ([3, 2, 1, 3], total, 1, 2),
            ([0, 2, 1, 3], below, 1, 1),
        )[: 6 if k < 8 else 2]:
            left = [*tally[:2], 0, 0] if state == 3 else [0] * 4
            assert finish(values, tally, threshold, relocated) == ((total, *tally, state), state, left)
    assert finish([1.0], [0, 2, 0, 3], 1.0, state=2) == ((7.0, 7, 7, 7, 7, 7), 2, [0, 2, 0, 3])
    assert finish([np.nan, 1.0], [3, 2, 0, 3], np.inf)[1] == 0


def check_halted():
    """Every kernel of the loop leaves everything as it is once the state is not 0."""
    set_tiles(2, 2)
    X, C, w = problem(9, 3, 5, F4, "noise", weights=True)
    C[3] = C[1]
    encoding, loaded, halted = encoding_of(X, w), Loaded(C), np.array([2], I4)
    sums = [None if s is None else s + 1 for s in sums_of(X, w, np.arange(9) % 5, 5, encoding)]
    label, fresh = np.arange(9, dtype=I4) % 5, np.zeros(9, I4)
    found, count = np.full(9, 3, UNCERTAIN), np.array([3], U8)
    tally, moved_sq, record = np.array([1, 2, 3, 4], U8), np.full(5, 9.0), np.full(1, 7, RECORD)
    norm, after = np.array([77], U4), np.full_like(C, 8)
    kept = [*(s for s in sums if s is not None), label, fresh, found, count, tally, moved_sq, record, norm, after]
    kept += [loaded.values, loaded.shift, loaded.cs, loaded.half, loaded.bound, halted]
    loaded.half[3], loaded.shift[:] = 5, 7  # not hidden; not the mean
    was = [a.tobytes() for a in kept]
    n, d, k, ldc = I8(9), loaded.d, loaded.k, loaded.ldc
    scores, code = loaded.for_scores, (encoding.features.scale, encoding.weights.scale[0], F8(2.0))
    move = (X, w, fresh, label, *code, *sums, tally, halted, n, d)
    tail = (loaded.hash, norm, moved_sq, tally, halted, d, ldc, k)
    for name, grid, block, *args in (
        ("assign_tiled", 2, 4, X, *scores, loaded.bound, fresh, found, count, halted, n, d, ldc, loaded.kp),
        ("recheck", 2, 4, X, C, *scores, found, count, label, tally, halted, d, ldc, k),
        ("move_rows", 2, 4, *move, I4(4)),
        ("add_all_rows", 2, 4, *move, k, I4(4)),
        ("mean_center", 2, 4, C, loaded.shift, halted, d, k),
        ("recenter", 5, 4, *sums, code[0], F8(1), F8(1), C, after, *scores, *tail),
        ("hide_duplicates", 2, 4, C, loaded.hash, loaded.half, halted, d, k),
        ("bound_terms", 1, 1, norm, *constants(3), I4(1), loaded.bound, halted),
        ("finish_iteration", 1, 4, moved_sq, tally, F8(1), I4(0), record, halted, k),
    ):
        launch(name, grid, block, *args)
        assert [a.tobytes() for a in kept] == was, name


# ---- passes over rows ------------------------------------------------------------------------------------------------
def check_inertia(dtype):
    """Distances, the largest weighted one, the sum in two limbs; a row that is infinitely far and weighs 0."""
    for n, d, k, kind, weights in ((1, 1, 1, "noise", False), (11, 3, 5, "wide", True), (7, 5, 3, "subnormal", False)):
        X, C, w = problem(n, d, k, dtype, kind, weights)
        if dtype == F8 and w is not None:
            w[4], X[4, 0] = 0.0, 1e300
        labels = np.random.default_rng(n).integers(0, k, n).astype(I4)
        own, top = np.zeros(n), np.zeros(1)
        launch("own_distance", 2, 4, X, C, labels, w, own, top, I8(n), I4(d))
        same(own, naive.distances(X, C)[np.arange(n), labels], "distances")
        with np.errstate(invalid="ignore"):
            y = own if w is None else np.where(w > 0, w * own, 0.0)
        assert top[0] == y.max()
        code, limbs = exact.FixedPoint.for_peaks(top[0], n), np.zeros(2, I8)
        launch("inertia_sum", 2, 4, own, w, code.scale[0], F8(code.low_scale), limbs, I8(n))
        assert limbs.tolist() == [code.high(y[:, None]).sum(), code.low(y[:, None]).sum()]


def check_farthest():
    """In the order of relocation; ties to the lowest row; no row of weight 0; fewer rows than asked for."""
    rng = np.random.default_rng(0)
    many = rng.integers(0, 9, 23).astype(float)
    many[[3, 20, 7]] = np.inf
    for own, w, m in (
        (many, None, 5),
        (many, (rng.random(23) < 0.7).astype(float), 5),
        (np.array([2.0, 5, 5, 0, 1]), np.array([1.0, 1, 0, 2, 0]), 5),
        (np.array([1.0, 7]), np.zeros(2), 2),
    ):
        found, best = np.zeros(m, FAR), np.zeros(3, FAR)
        for at in range(m):
            launch("farthest_of_block", 3, 4, own, w, found, I4(at), best, I8(len(own)))
            launch("farthest_of_all", 1, 2, best, I4(3), found, I4(at))
        counts = np.arange(len(own)) if w is None else np.flatnonzero(w > 0)
        order = sorted(counts.tolist(), key=lambda i: (-own[i], i))[:m]
        assert found["row"].tolist() == order + [-1] * (m - len(order))
        assert found["own"][: len(order)].tolist() == own[order].tolist()


def check_transform(dtype):
    """Square roots of the canonical distances, rounded once."""
    for n, d, k, kind in ((1, 1, 1, "noise"), (9, 5, 3, "wide"), (6, 3, 6, "subnormal")):
        X, C, _ = problem(n, d, k, dtype, kind)
        got = np.zeros((n, k), dtype)
        launch("transform", 2, 4, X, C, got, I8(n), I4(d), I4(k))
        same(got, np.sqrt(naive.distances(X, C)).astype(dtype), "distances")


def check_scale(dtype):
    """Powers that no float64 holds; subnormals on the way in and out."""
    info = np.finfo(dtype)
    X = problem(13, 1, 1, dtype, "subnormal")[0].ravel()
    X[:5] = [info.smallest_subnormal, -info.smallest_subnormal, -0.0, info.max, info.tiny]
    for exponent in (1, -150, 1034, -1074, 2040):
        half = exponent // 2 if abs(exponent) > 1000 else 0
        got = np.zeros_like(X)
        launch("scale_values", 2, 4, X, got, np.ldexp(1.0, exponent - half), np.ldexp(1.0, half), I8(13))
        with np.errstate(all="ignore"):
            same(got, np.ldexp(X, exponent), f"times 2^{exponent}")


def value_of(keys):
    top = U8(1 << 63)
    return np.where(keys & top, keys ^ top, ~keys).view(F8)


def check_summary(dtype):
    """Range, also of zeros and negative columns; what is not finite; weighted peaks; moments."""
    for n, d, kind, lanes in ((11, 1, "wide", 1), (9, 3, "subnormal", 2), (6, 7, "wide", 32), (1, 5, "noise", 4)):
        X, _, w = problem(n, d, 1, dtype, kind, weights=True)
        X[:, 0] = -np.abs(X[:, 0]) - 1
        if d > 2:
            X[:, 1], X[:, 2] = -0.0, np.where(np.arange(n) % 2, 0.0, -0.0)
        sizes = (I8(n), I4(d), I4(lanes))

        def summary(X, d=d, sizes=sizes):
            low, high, bad = np.full(d, 2**64 - 1, U8), np.zeros(d, U8), np.zeros(1, U4)
            launch("summary", 2, 4, X, low, high, bad, *sizes)
            return value_of(low), value_of(high), int(bad[0])

        low, high, bad = summary(X)
        expected_low, expected_high = X.min(axis=0).astype(F8), X.max(axis=0).astype(F8)
        if d > 2:
            expected_low[2], expected_high[2] = -0.0, 0.0 if n > 1 else -0.0
        same(low, expected_low, "low")
        same(high, expected_high, "high")
        assert bad == 0
        for value, (i, j) in ((np.nan, (0, d - 1)), (np.inf, (n - 1, 0)), (-np.inf, (n // 2, d // 2))):
            worse = X.copy()
            worse[i, j] = value
            assert summary(worse)[2] == 1
        for weight in (w, None):
            peaks = np.zeros(d)
            launch("weighted_peaks", 2, 4, X, weight, peaks, *sizes)
            same(peaks, np.abs(product(X, weight)).max(axis=0), "peaks")
        codes = exact.Moments.for_range(low, high, n)
        q = X.astype(F8) - codes.pivot
        first, second = np.zeros(d, I8), np.zeros(d, I8)
        launch("moments", 2, 4, X, codes.pivot, codes.first.scale, codes.second.scale, first, second, *sizes)
        same(first, codes.first.high(q).sum(axis=0), "first moments")
        same(second, codes.second.high(q * q).sum(axis=0), "second moments")


# ---- k-means++ -------------------------------------------------------------------------------------------------------
def check_seed(dtype):
    """Nearest distances, potentials, trials, and the row that a prefix sum passes."""
    _numba_cuda_seeding.SEED_ROWS = 8
    for n, d, kind, weights in ((1, 1, "noise", False), (37, 2, "wide", True), (17, 5, "subnormal", False)):
        X, _, w = problem(n, d, 1, dtype, kind, weights)
        weight = np.ones(n) if w is None else w
        closest, expected, code = np.zeros(n, dtype), np.full(n, np.inf, dtype), None
        for first, row in ((1, 0), (0, n // 2)):
            top = np.zeros(1)
            launch("seed_update", 2, 4, X, X[row].copy(), w, closest, top, I4(first), I8(n), I4(d))
            expected = np.minimum(expected, naive.seeding_distance(X, X[row]))
            same(closest, expected, "closest")
            assert top[0] == (weight * closest.astype(F8)).max()
            code = exact.FixedPoint.for_peaks(top[0], n) if code is None else code

        def potentials(values, weight=weight, code=code):
            return code.high((weight * values.astype(F8))[:, None])[:, 0]

        scale, groups = code.scale[0], -(-n // 8)
        ends = np.zeros(groups, I8)
        launch("seed_potentials", groups, 4, closest, w, scale, ends, I8(n))
        same(ends, np.add.reduceat(potentials(closest), np.arange(0, n, 8)), "groups")
        launch("seed_scan", 1, 2, ends, I8(groups))
        prefix = np.cumsum(potentials(closest))
        same(ends, prefix[np.minimum(np.arange(8, 8 * groups + 1, 8), n) - 1], "ends")
        if prefix[-1] > 0:
            near = [prefix[i] + e for i in range(0, n, 5) for e in (-1, 0)]
            wanted = np.array(sorted({int(v) for v in [0, *near, prefix[-1] - 1] if 0 <= v < prefix[-1]}))
            rows = np.full(len(wanted), -1, I8)
            launch("seed_find", len(wanted), 4, closest, w, scale, ends, wanted, rows, I8(n))
            assert rows.tolist() == np.searchsorted(prefix, wanted, side="right").tolist()
        few = X[: min(n, 3)].copy()
        totals = np.zeros(len(few), I8)
        launch("seed_trials", 2, 4, X, few, closest, w, scale, totals, I8(n), I4(d), I4(len(few)))
        assert totals.tolist() == [potentials(np.minimum(closest, naive.seeding_distance(X, c))).sum() for c in few]
    for m in (1, 4, 11):
        ends = np.random.default_rng(m).integers(0, 1 << 50, m)
        scanned = ends.copy()
        launch("seed_scan", 1, 4, scanned, I8(m))
        same(scanned, np.cumsum(ends), "prefix sums")


OF_EACH_TYPE = (
    *(check_publish, check_assign, check_cut, check_recheck, check_sums, check_recenter),
    *(check_inertia, check_transform, check_scale, check_summary, check_seed),
)
OF_ONE_TYPE = (check_bound, check_overflow, check_small_moves, check_state, check_halted, check_farthest)
CHECKS = {
    **{f"{check.__name__[6:]}[{np.dtype(t).name}]": (check, (t,)) for check in OF_EACH_TYPE for t in DTYPES},
    **{check.__name__[6:]: (check, ()) for check in OF_ONE_TYPE},
}


def main(wanted):
    assert numba.config.ENABLE_CUDASIM
    simulator.mend()
    warnings.simplefilter("ignore")  # of NumPy, about overflows that are meant
    for name, (check, args) in CHECKS.items():
        if wanted and not any(name.startswith(w) for w in wanted):
            continue
        set_threads(4)
        start, error = time.perf_counter(), None
        try:
            check(*args)
        except Exception:
            error = traceback.format_exc()
        seconds = round(time.perf_counter() - start, 2)
        print(json.dumps({"check": name, "error": error, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
