"""Checks of the kernels that pass over the rows once: farthest.cu, transform.cu, scale.cu, summary.cu."""

from typing import Any

import numpy as np
import support

import naive
from gpukmeans import exact
from gpukmeans.backends import get_backend

from .machine import on_card, problem


def check_farthest() -> None:
    """In the order of relocation; ties to the lowest row; no row of weight 0; fewer rows than asked for."""
    backend = get_backend("cupy")
    rng = np.random.default_rng(0)
    many = rng.integers(0, 400, 1300).astype(float)
    many[[3, 1200, 700]] = np.inf
    for own, w, m in (
        (many, None, 12),
        (many, (rng.random(1300) < 0.7).astype(float), 12),
        (np.array([2.0, 5, 5, 0, 1]), np.array([1.0, 1, 0, 2, 0]), 5),
        (np.zeros(4), None, 6),
        (np.array([1.0, 7]), np.zeros(2), 2),
        (np.repeat(np.arange(300.0), 2), None, 9),
    ):
        n = len(own)
        rows = backend.rows(on_card(np.zeros((n, 1)), np.float32), w)
        rows.sqdist, rows.labels = on_card(own), on_card(np.arange(n), np.int32)
        counts = np.arange(n) if w is None else np.flatnonzero(w > 0)
        order = sorted(counts.tolist(), key=lambda i: (-own[i], i))[:m]
        assert backend.farthest(rows, m) == [(own[i], i, i) for i in order]


def check_transform(dtypes: Any = ("f4", "f8")) -> None:
    """Square roots of the canonical distances, rounded once."""
    for dtype in dtypes:
        for n, d, k, kind in ((1, 1, 1, "noise"), (33, 5, 17, "wide"), (50, 37, 33, "wide"), (40, 16, 32, "subnormal")):
            X, _, _ = problem(n, d, 1, dtype, kind)
            C, _, _ = problem(k, d, 1, dtype, kind, seed=1)
            backend = get_backend("cupy")
            got = backend.transform(backend.rows(X), C.astype(np.float64))
            support.assert_same_array(got, np.sqrt(naive.distances(X, C)).astype(dtype), "distances")


def check_scale(dtypes: Any = ("f4", "f8")) -> None:
    """Powers that no float64 holds; subnormals on the way in and out; as NumPy, which rounds once."""
    backend = get_backend("cupy")
    for dtype in dtypes:
        info = np.finfo(dtype)
        X = problem(1100, 1, 1, dtype, "subnormal")[0]
        X[:5, 0] = [info.smallest_subnormal, -info.smallest_subnormal, -0.0, info.max, info.tiny]
        for exponent in (1, -1, 40, -150, 999, 1000, -1000, 1001, -1001, 1034, -1074, 2040):
            with np.errstate(all="ignore"):
                expected = np.ldexp(X, exponent)
            support.assert_same_array(backend.scaled(on_card(X), exponent).get(), expected, f"times 2^{exponent}")


def check_summary(dtypes: Any = ("f4", "f8")) -> None:
    """Range, also of zeros and negative columns; what is not finite; weighted peaks; moments."""
    backend = get_backend("cupy")
    for dtype in dtypes:
        for n, d, kind in ((600, 1, "wide"), (300, 3, "subnormal"), (90, 40, "wide"), (1, 5, "noise")):
            X, _, w = problem(n, d, 1, dtype, kind, weights=True)
            X[:, 0] = -np.abs(X[:, 0]) - 1
            if d > 2:
                X[:, 1], X[:, 2] = -0.0, np.where(np.arange(n) % 2, 0.0, -0.0)
            rows = backend.rows(on_card(X), w)
            summary = backend.summary(rows)
            low, high = X.min(axis=0).astype(np.float64), X.max(axis=0).astype(np.float64)
            if d > 2:
                low[2], high[2] = -0.0, 0.0 if n > 1 else -0.0
            support.assert_same_array(summary.low, low, "low")
            support.assert_same_array(summary.high, high, "high")
            assert summary.finite
            y = np.abs(w[:, None] * X.astype(np.float64))
            support.assert_same_array(backend.weighted_peaks(rows), y.max(axis=0), "peaks")
            codes = exact.Moments.for_range(low, high, n)
            q = X.astype(np.float64) - codes.pivot
            first, second = backend.moments(rows, codes)
            support.assert_same_array(first, codes.first.high(q).sum(axis=0), "first moments")
            support.assert_same_array(second, codes.second.high(q * q).sum(axis=0), "second moments")
            for bad, (i, j) in ((np.nan, (0, d - 1)), (np.inf, (n - 1, 0)), (-np.inf, (n // 2, d // 2))):
                worse = X.copy()
                worse[i, j] = bad
                assert not backend.summary(backend.rows(on_card(worse))).finite
            assert not backend.summary(backend.rows(on_card(X * X.dtype.type(np.nan)))).finite
