"""Compiled kernels of k-means++ on the CPU. Each works on rows low..high of a block."""

from __future__ import annotations

import numpy as np

from ._numba_compiler import compiled


def _seed_tile(X, start, m, tile):  # type: ignore[no-untyped-def]
    """Rows of one tile with the rows in the lanes, in the dtype of X."""
    for i in range(m):
        x = X[start + i]
        for j in range(x.size):
            tile[j, i] = x[j]


def _seed_distance(tile, center, sq):  # type: ignore[no-untyped-def]
    """Fill `sq` with the squared distance of each row of the tile, in its own dtype, features in order."""
    sq[:] = 0
    for j in range(center.size):
        c = center[j]
        for i in range(sq.size):
            t = tile[j, i] - c
            sq[i] += t * t


seed_tile = compiled(_seed_tile)
seed_distance = compiled(_seed_distance)


def _seed_update(X, low, high, center, first, closest):  # type: ignore[no-untyped-def]
    tile = np.zeros((X.shape[1], 64), X.dtype)
    sq = np.empty(64, X.dtype)
    for start in range(low, high, 64):
        m = min(64, high - start)
        seed_tile(X, start, m, tile)
        seed_distance(tile, center, sq)
        for i in range(m):
            old = closest[start + i]
            closest[start + i] = sq[i] if first or sq[i] < old else old


def _seed_trials(X, low, high, weight, closest, candidates, scale, out):  # type: ignore[no-untyped-def]
    """Add to `out` the potential of rows low..high with each candidate as one more center."""
    tile = np.zeros((X.shape[1], 64), X.dtype)
    sq = np.empty(64, X.dtype)
    for start in range(low, high, 64):
        m = min(64, high - start)
        seed_tile(X, start, m, tile)
        for t in range(candidates.shape[0]):
            seed_distance(tile, candidates[t], sq)
            total = np.int64(0)
            if weight.size:
                for i in range(m):
                    nearest = min(sq[i], closest[start + i])
                    total += np.int64(np.rint(weight[start + i] * np.float64(nearest) * scale))
            else:
                for i in range(m):
                    nearest = min(sq[i], closest[start + i])
                    total += np.int64(np.rint(np.float64(nearest) * scale))
            out[t] += total


def _seed_sum(closest, weight, low, high, scale):  # type: ignore[no-untyped-def]
    total = np.int64(0)
    for i in range(low, high):
        y = np.float64(closest[i])
        if weight.size:
            y = weight[i] * y
        total += np.int64(np.rint(y * scale))
    return total


def _seed_scan(closest, weight, low, high, scale, before, value):  # type: ignore[no-untyped-def]
    """First row of low..high at which the running sum, `before` on entry, exceeds `value`."""
    total = before
    for i in range(low, high):
        y = np.float64(closest[i])
        if weight.size:
            y = weight[i] * y
        total += np.int64(np.rint(y * scale))
        if total > value:
            return i
    return high - 1


seed_update = compiled(_seed_update)
seed_trials = compiled(_seed_trials)
seed_sum = compiled(_seed_sum)
seed_scan = compiled(_seed_scan)
