"""Compiled distances: the canonical one, one with its additions in any order, and the label of a row by both.

The one place where the order of adding is left to the compiler (`any_order`) only chooses candidates, with a margin.
"""

from __future__ import annotations

import numpy as np

from ._numba_compiler import compiled


def _distance(x, c):  # type: ignore[no-untyped-def]
    """Canonical D: features in order, each operation rounded."""
    total = 0.0
    for j in range(x.size):
        t = np.float64(x[j]) - c[j]
        total += t * t
    return total


def _any_order(x, c):  # type: ignore[no-untyped-def]
    """D with the additions in any order: within (d + 3) 2**-53 of it, all terms being positive."""
    total = 0.0
    for j in range(x.size):
        t = np.float64(x[j]) - c[j]
        total += t * t
    return total


distance = compiled(_distance, inner=True)
any_order = compiled(_any_order, fastmath={"reassoc", "contract", "nsz"}, inner=True)


def _recheck(X, row, centers, x):  # type: ignore[no-untyped-def]
    """Canonical label of one row. Canonical D, a slow chain of additions, only where rounding could decide.

    x: scratch for the row in float64.
    """
    n_clusters, n_features = centers.shape
    for j in range(n_features):
        x[j] = X[1][row, j] if X[1].size else np.float64(X[0][row, j])
    margin = 1.0 + 8.0 * (n_features + 4) * 2.0**-53
    closest = np.inf
    label = 0
    rivals = 0
    for k in range(n_clusters):
        sq = any_order(x, centers[k])
        if sq * margin < closest:
            closest = sq
            label = k
            rivals = 0
        elif sq <= closest * margin:
            rivals += 1
            closest = min(closest, sq)
    if rivals == 0 and closest < np.inf:
        return label
    limit = closest * margin
    best = np.inf
    label = 0
    for k in range(n_clusters):
        if any_order(x, centers[k]) <= limit:
            sq = distance(x, centers[k])
            if sq < best:
                best = sq
                label = k
    return label


recheck = compiled(_recheck, inner=True)
