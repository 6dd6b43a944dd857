"""What `_simd_passes` does, in plain loops: slower, and compiled wherever Numba is."""

from __future__ import annotations

import numpy as np

from ._layout import LANES64, ROWS
from ._numba_compiler import compiled


def _code(y):  # type: ignore[no-untyped-def]
    return np.int64(np.rint(y))


def _extent_rows(values, smallest, largest, period, n_rows):  # type: ignore[no-untyped-def]
    bad = np.int64(0)
    for i in range(n_rows):
        for c in range(period):
            x = values[i * period + c]
            smallest[c] = x if x < smallest[c] else smallest[c]
            largest[c] = x if x > largest[c] else largest[c]
            bad |= np.int64(x - x != 0)
    return bad


def _moment_rows(values, pivot, scale1, scale2, sum1, sum2, period, n_rows, n_chunks):  # type: ignore[no-untyped-def]
    for i in range(n_rows):
        for c in range(n_chunks * LANES64):
            q = values[i * period + c] - pivot[c]
            sum1[c] += np.int64(np.rint(q * scale1[c]))
            sum2[c] += np.int64(np.rint(q * q * scale2[c]))


def _own_rows(X, labels, centers, out, row, n_features):  # type: ignore[no-untyped-def]
    for r in range(ROWS):
        total = 0.0
        for j in range(n_features):
            t = X[(row + r) * n_features + j] - centers[labels[row + r], j]
            total += t * t
        out[row + r] = total


def _distance_rows(X, packed, out, n_features, n_chunks):  # type: ignore[no-untyped-def]
    for r in range(ROWS):
        for k in range(n_chunks * LANES64):
            total = 0.0
            for j in range(n_features):
                t = X[r * n_features + j] - packed[k // LANES64, j, k % LANES64]
                total += t * t
            out[r, k] = np.sqrt(total)


code = compiled(_code, inline="always")
extent_rows = compiled(_extent_rows, inner=True)
moment_rows = compiled(_moment_rows, inner=True)
own_rows = compiled(_own_rows, inner=True)
distance_rows = compiled(_distance_rows, inner=True)
