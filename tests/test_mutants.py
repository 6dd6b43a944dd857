"""One-line defects of the kernels: each must be seen, by its bits or by checked mode. The kernels as they are pass."""

import numpy as np
import pytest
import support
from simt import build, drive
from simt.backend import Centers, SimtBackend
from simt.device import Device
from test_kernels import SHRUNK, problem

import naive


def labels(device):
    """assign and recheck: noise, ties, entries spread wide, more than one tile of everything."""
    for n, d, k, kind in (
        (70, 4, 37, "wide"),
        (70, 17, 35, "wide"),
        (40, 3, 12, "ties"),
        (40, 18, 33, "ties"),
        (33, 19, 40, "duplicates"),
    ):
        X, C, _ = problem(n, d, min(n, k), "f4", kind)
        centers = Centers(device, *C.shape, C.dtype)
        centers.publish(C)
        backend = SimtBackend(device)
        support.assert_same_array(backend.label(backend.rows(X), centers)[0].copy(), naive.labels(X, C))
        device.free()
    # the last center is nearer by less than float32 can tell
    X, C = np.zeros((1, 2), np.float32), np.array([[1 + 2.0**-23, 0], [1, 0]], np.float32)
    centers = Centers(device, 2, 2, C.dtype)
    centers.publish(C)
    assert SimtBackend(device).label(SimtBackend(device).rows(X), centers)[0].tolist() == [1]


def fits(device):
    """Whole fits, all rows at once and incremental."""
    for dtype, n, d, k in (("f4", 600, 3, 4), ("f8", 60, 3, 7)):
        X, C, w = problem(n, d, k, dtype, "wide", weights=dtype == "f8")
        for incremental in (False, True):
            backend = SimtBackend(device, incremental=incremental)
            rows = backend.rows(X, w)
            assert backend.step(rows, C.astype(np.float64), drive.encoding_of(backend, rows)).n_moved == n
            got = drive.fit(backend, X, C, w, max_iter=3, tol=1e-3)
            support.assert_same_fit(got, naive.fit(X, C, sample_weight=w, max_iter=3, tol=1e-3))
            device.free()


def loop(device):
    """recenter.cu: the loop on the device, centers of empty clusters, duplicates, the tree."""
    for dtype, shape in (("f4", (60, 3, 7)), ("f8", (60, 130, 9))):
        X, C, w = problem(*shape, dtype, "wide", weights=dtype == "f8")
        got = drive.fit_on_device(SimtBackend(device), X, C, w, max_iter=3)
        support.assert_same_fit(got, naive.lloyd(X, C, np.ones(len(X)) if w is None else w, 3, 1e-4))
        device.free()
    C = np.array([[1, 2], [3, 4], [1, 2], [1, 5], [3, 4]] * 8, np.float32)
    centers = Centers(device, *C.shape, C.dtype)
    centers.publish(C)
    assert np.flatnonzero(np.isfinite(centers.half[: len(C)])).tolist() == [0, 1, 3]
    sums = [device.array(np.arange(k * 2).reshape(-1, 2), np.int64) for k in (3,)]
    moved_sq, after = device.zeros(3, np.float64), Centers(device, 3, 2, np.float32)
    args = (
        None,
        device.array([1, 3, 0], np.int64),
        None,
        device.array([1.0, 1.0]),
        1.0,
        1.0,
        after.values.copy(),
        after.values,
    )
    out = (after.shift, after.cs, after.half, after.hash, after.cmax, moved_sq, 2, after.ldc, 3)
    args = (*args[:6], device.zeros((3, 2), np.float32), *args[7:])
    device.launch("recenter<float>", 3, 128, sums[0], *args, *out)
    assert after.values.tolist() == [[0, 1], [np.float32(2 / 3), 1], [np.float32(2 / 3), 1]]
    device.free()


def seeding(device):
    """seed.cu: the rows that k-means++ chooses."""
    for dtype, n, d, kind in (("f4", 150, 3, "wide"), ("f8", 90, 2, "ties"), ("f4", 300, 2, "subnormal")):
        X, _, w = problem(n, d, 1, dtype, kind, weights=True)
        got = drive.plus_plus(SimtBackend(device), X, 6, np.random.RandomState(3), w)
        assert got.tolist() == naive.plus_plus(X, 6, np.random.RandomState(3), w, None)
        device.free()


CHECKS = {"assign.cu": labels, "recheck.cu": labels, "accumulate.cu": fits, "inertia.cu": fits, "summary.cu": fits}
CHECKS |= {"recenter.cu": loop, "seed.cu": seeding, "warp.cuh": fits, "exact.cuh": labels}
MUTANTS = [
    ("recheck.cu", "c < arg)", "c > arg)"),
    ("recheck.cu", "D < best ||", "D > best ||"),
    ("recheck.cu", "if (!above(score", "if (above(score"),
    ("recheck.cu", "c < k; c += 32", "c <= k; c += 32"),
    ("recheck.cu", "int o = 16; o;", "int o = 8; o;"),
    ("recheck.cu", "item < total", "item < total - 1"),
    ("recheck.cu", "item < total", "item <= total"),
    ("recheck.cu", "x + u.row * d", "x + item * d"),
    ("recheck.cu", "% 32 == 0) label[u.row]", "% 32 == 1) label[item]"),
    ("recheck.cu", "if (threadIdx.x % 32 == 0) label[u.row] = arg;", "label[u.row] = arg;"),
    ("recheck.cu", "centers + (size_t)c * d, d), c)", "centers + (size_t)c * d, d - 1), c)"),
    ("accumulate.cu", "= r;\n    __syncwarp();", "= r;\n"),
    ("accumulate.cu", "r < n && label[r]", "r <= n && label[r]"),
    ("accumulate.cu", "lane == 0) add_global(moved, m)", "lane == 0) add_global(moved, 1)"),
    ("accumulate.cu", "if (from >= 0) add_global(&sums[", "if (from > 0) add_global(&sums["),
    ("accumulate.cu", "if (from >= 0) add_global(&sums_low", "if (from > 0) add_global(&sums_low"),
    (
        "accumulate.cu",
        "if (from >= 0) add_global(&weights[from], -high)",
        "if (from >= 0) add_global(&weights[from], high)",
    ),
    ("accumulate.cu", "i < 2 * all; i += SUM_THREADS) low[i] = 0", "i < all; i += SUM_THREADS) low[i] = 0"),
    ("accumulate.cu", "__syncthreads();                                  // every cell", "// every cell"),
    ("accumulate.cu", "__syncthreads();                                  // all rows", "// all rows"),
    ("accumulate.cu", "(u64)high[i] << 32", "(u64)high[i] << 31"),
    ("accumulate.cu", "wts_low = wts + k", "wts_low = wts + k - 1"),
]


@pytest.fixture(scope="module", autouse=True)
def gpp():
    if build.compiler() is None:
        support.missing("simt", "it needs g++ on x86-64 Linux")


def device(file="", old="", new="", *, seed=2):
    only = "<float" if CHECKS.get(file) is labels else ""  # assign.cu takes long to build
    return Device(checked=True, seed=seed, defines=SHRUNK, edits={file: (old, new)} if file else None, only=only)


@pytest.mark.parametrize("check", [labels, fits, loop, seeding], ids=lambda f: f.__name__)
@pytest.mark.parametrize("seed", [0, 2, 9])
def test_the_kernels_as_they_are_pass(check, seed):
    check(device(seed=seed))


@pytest.mark.parametrize(("file", "old", "new"), MUTANTS, ids=lambda v: " ".join(v.split())[:40])
def test_a_defect_is_seen(file, old, new):
    with pytest.raises((build.SimtError, AssertionError, pytest.fail.Exception)) as seen:  # noqa: PT012
        for seed in (0, 2, 9):
            CHECKS[file](device(file, old, new, seed=seed))
    assert "compile failed" not in str(seen.value), seen.value
    assert "has no line" not in str(seen.value), seen.value
