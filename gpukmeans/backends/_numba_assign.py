"""Compiled kernels of the assignment: the fast pass, its certificate, the recheck, and the rows that moved.

The one place where the order of adding is left to the compiler (`_any_order`) only chooses candidates, with a margin.
"""

from __future__ import annotations

import numpy as np

from ._layout import LANES, TILE
from ._numba_compiler import compiled
from ._tiles import load_tile, score_blocks, score_groups

LABELS, REBUILD, MOVED = 0, 1, 2
"""What `assign` does with the sums: leaves them, adds every row, or moves the rows that changed."""

ASSIGN_LINES = 3
"""Lines of scratch memory that `assign` needs of each kind."""


# ------------------------------------------------------------------------------------------------ centers
def _squared_norms(centers, shift, norms):  # type: ignore[no-untyped-def]
    """Fill `norms` with |c'|^2."""
    n_clusters, n_features = centers.shape
    for k in range(n_clusters):
        total = 0.0
        for j in range(n_features):
            c = centers[k, j] - shift[j]
            total += c * c
        norms[k] = total


def _drop_equal(centers, norms, order, half):  # type: ignore[no-untyped-def]
    """Make `half` infinite for all but the first of equal centers; returns how many that are.

    The label is the first one's anyway, and a row between two equal centers could never be certified. order: of the
    norms, stable, so that equal ones stay in the order of their index.
    """
    n_equal = 0
    for a in range(order.size):
        k = order[a]
        b = a - 1
        while b >= 0 and norms[order[b]] == norms[k]:
            same = True
            for j in range(centers.shape[1]):
                if centers[order[b], j] != centers[k, j]:
                    same = False
                    break
            if same:
                half[k] = np.inf
                n_equal += 1
                break
            b -= 1
    return n_equal


def _pack_groups(centers, order, shift, packed):  # type: ignore[no-untyped-def]
    """Fill `packed` (n_groups, n_features, width) with -c' of the centers in the given order, for the score kernels."""
    width = packed.shape[2]
    for p in range(order.size):
        for j in range(centers.shape[1]):
            packed[p // width, j, p % width] = -np.float32(centers[order[p], j] - shift[j])


def _pack_blocks(centers, shift, packed):  # type: ignore[no-untyped-def]
    """Fill `packed` (n_blocks, n_chunks, width, LANES) with -c', for the dot kernels."""
    n_clusters, n_features = centers.shape
    n_chunks, width = packed.shape[1:3]
    overlap = n_chunks * LANES - n_features  # lanes of the last chunk whose features are in the chunk before
    for k in range(n_clusters):
        for j in range(n_features):
            lane = j if j < (n_chunks - 1) * LANES else j + overlap
            packed[k // width, lane // LANES, k % width, lane % LANES] = -np.float32(centers[k, j] - shift[j])


# ------------------------------------------------------------------------------------------------ canonical
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


# ------------------------------------------------------------------------------------------------ assign
def _assign(  # type: ignore[no-untyped-def]
    X, low, high, labels, centers, shift, groups, blocks, half, bound, mode,
    weight, scale, weight_scale, low_scale, two_limbs, sums, sums_low, weights, weights_low, counts, scratch,
):  # fmt: skip
    """Renew the labels of rows low..high and bring the sums of this worker up to date (see LABELS, REBUILD, MOVED).

    X: the rows as float32 and as float64, one of them empty: so there is one kernel for both. shift: likewise, so that
    x - shift is rounded once. groups or blocks: the packed centers, the other one
    is empty. bound: (const, linear, quadratic) in float32, rounded up. counts: (moved, rechecked), added to.
    sums, sums_low: (n_clusters, n_features); weights, weights_low: (n_clusters,). `weight` is empty without weights.
    scratch: `_scratch.Scratch` with ASSIGN_LINES lines of float32 and of int32, one more a center for `blocks`.
    """
    n_features = centers.shape[1]
    in_blocks = blocks.size > 0
    const, linear, quadratic = bound[0], bound[1], bound[2]
    tile, doubles, longs, floats, ints = scratch
    x = doubles[:n_features]
    rows, address = longs[0], longs[1]
    norm, best, second, scores = floats[0], floats[1], floats[2], floats[3:]
    label, old, new = ints[0], ints[1], ints[2]
    for start in range(low, high, TILE):
        m = min(TILE, high - start)
        for i in range(TILE):
            rows[i] = min(start + i, high - 1)  # the last row fills the last tile
        if in_blocks:
            score_blocks(X, rows, address, shift, blocks, half, scores, norm, best, label, second)
        else:
            load_tile(X, rows, m == TILE, address, doubles, shift, tile, norm)
            score_groups(tile, groups, 0, groups.shape[0], half, best, label, second)
        is_open = np.int32(0)
        for i in range(TILE):
            v = norm[i]
            norm[i] = const + v * (linear + quadratic * v)
            # as a difference: an infinity or a NaN is never certified
            is_open |= np.int32(0) if second[i] - best[i] > norm[i] else np.int32(1)
        if is_open:
            for i in range(m):
                if not (second[i] - best[i] > norm[i]):
                    label[i] = recheck(X, start + i, centers, x)
                    counts[1] += 1
        before = labels[start : start + m]  # an index that might be negative would be gathered
        moved = np.int64(0)
        for i in range(m):
            moved += before[i] != label[i]
        counts[0] += moved
        if mode == REBUILD:
            moved = np.int64(m)
            for i in range(m):
                old[i], new[i] = -1, label[i]
        elif mode == MOVED and moved > 0:
            moved = np.int64(0)
            for i in range(m):
                if before[i] != label[i]:
                    rows[moved], old[moved], new[moved] = rows[i], before[i], label[i]
                    moved += 1
        if mode != LABELS and moved > 0:
            move_rows(
                X, rows, moved, old, new, weight, scale, weight_scale, low_scale, two_limbs,
                sums, sums_low, weights, weights_low,
            )  # fmt: skip
        for i in range(m):
            before[i] = label[i]


def _move_rows(  # type: ignore[no-untyped-def]
    X, rows, m, old, new, weight, scale, weight_scale, low_scale, two_limbs, sums, sums_low, weights, weights_low
):  # fmt: skip
    """Take each of the first m rows out of the sums of its old cluster (-1: of none) and add it to the new one's.

    Data of float64 has two limbs, data of float32 one.
    """
    n_features = sums.shape[1]
    for i in range(m):
        a, b, row = old[i], new[i], rows[i]
        w = 1.0
        high = np.int64(1)
        if weight.size > 0:
            w = weight[row]
            y = w * weight_scale
            high = np.int64(np.rint(y))
            low = np.int64(np.rint((y - np.rint(y)) * low_scale))
            weights_low[b] += low
            if a >= 0:
                weights_low[a] -= low
        weights[b] += high
        if a >= 0:
            weights[a] -= high
        if two_limbs:
            for j in range(n_features):
                y = w * X[1][row, j] * scale[j]
                limb = np.rint(y)
                high = np.int64(limb)
                low = np.int64(np.rint((y - limb) * low_scale))
                sums[b, j] += high
                sums_low[b, j] += low
                if a >= 0:
                    sums[a, j] -= high
                    sums_low[a, j] -= low
        elif a >= 0:
            for j in range(n_features):
                high = np.int64(np.rint(w * np.float64(X[0][row, j]) * scale[j]))
                sums[b, j] += high
                sums[a, j] -= high
        else:
            for j in range(n_features):
                sums[b, j] += np.int64(np.rint(w * np.float64(X[0][row, j]) * scale[j]))


move_rows = compiled(_move_rows, inner=True)
squared_norms = compiled(_squared_norms)
drop_equal = compiled(_drop_equal)
pack_groups = compiled(_pack_groups)
pack_blocks = compiled(_pack_blocks)
assign = compiled(_assign)
