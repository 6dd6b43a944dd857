"""Compiled kernels of the assignment: the fast pass, its certificate, the recheck, and the rows that moved.

The one place where the order of adding is left to the compiler (`_any_order`) only chooses candidates, with a margin.
"""

from __future__ import annotations

import math

import numpy as np

from ..exact import CHAIN
from ._numba_compiler import compiled
from ._simd import GROUPS, LANES, TILE, make_pack_narrow, make_pack_tile, make_score_tile

LABELS, REBUILD, MOVED = 0, 1, 2
"""What `assign` does with the sums: leaves them, adds every row, or moves the rows that changed."""


_pack32 = make_pack_tile(double=False)
_pack64 = make_pack_tile(double=True)
_pack32_2, _pack32_3, _pack32_4 = (make_pack_narrow(d, double=False) for d in (2, 3, 4))
_pack64_2, _pack64_3, _pack64_4 = (make_pack_narrow(d, double=True) for d in (2, 3, 4))
_score6 = make_score_tile(6, chained=False)
_score4 = make_score_tile(4, chained=False)
_score6_chained = make_score_tile(6, chained=True)
_score4_chained = make_score_tile(4, chained=True)


def choose_group(n_clusters: int) -> int:
    """Size of the center groups that wastes the least on padding (a group of 4 costs 6 % more a center)."""
    return min(GROUPS, key=lambda size: -(-n_clusters // size) * size * (1 + 0.03 * (6 - size)))


def _pack_centers(centers, shift, packed, half, order):  # type: ignore[no-untyped-def]
    """Fill `packed` (n_groups, n_features, group) with -c' and `half` with |c'|^2 / 2; returns max |c'|.

    Of equal centers all but the first get an infinite half norm: the label is the first one's anyway, and a row
    between two equal centers could never be certified. `order`: int64 scratch of size n_clusters.
    """
    n_clusters, n_features = centers.shape
    group = packed.shape[2]
    norms = np.empty(n_clusters)
    top = 0.0
    half[:] = np.inf
    for k in range(n_clusters):
        total = 0.0
        for j in range(n_features):
            c = centers[k, j] - shift[j]
            total += c * c
            packed[k // group, j, k % group] = -np.float32(c)
        norms[k] = total
        half[k] = np.float32(0.5 * total)
        top = max(top, total)
    order[:] = np.argsort(norms, kind="mergesort")  # stable: equal norms stay in the order of their index
    for a in range(n_clusters):
        k = order[a]
        b = a - 1
        while b >= 0 and norms[order[b]] == norms[k]:
            same = True
            for j in range(n_features):
                if centers[order[b], j] != centers[k, j]:
                    same = False
                    break
            if same:
                half[k] = np.inf
                break
            b -= 1
    return math.sqrt(top) * (1.0 + (n_features + 8) * 2.0**-53)


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


distance = compiled(_distance)
any_order = compiled(_any_order, fastmath={"reassoc", "contract", "nsz"})


def _recheck(x, centers):  # type: ignore[no-untyped-def]
    """Canonical label of one row. Canonical D, a slow chain of additions, only where rounding could decide."""
    n_clusters, n_features = centers.shape
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


def _add_row(sums, sums_low, x, w, scale, low_scale, two_limbs, sign):  # type: ignore[no-untyped-def]
    """Add (or take away, `sign` -1) the code of ``w x``."""
    if two_limbs:
        for j in range(x.size):
            y = w * np.float64(x[j]) * scale[j]
            high = np.rint(y)
            sums[j] += sign * np.int64(high)
            sums_low[j] += sign * np.int64(np.rint((y - high) * low_scale))
    else:
        for j in range(x.size):
            sums[j] += sign * np.int64(np.rint(w * np.float64(x[j]) * scale[j]))


recheck = compiled(_recheck)
add_row = compiled(_add_row)


def _pack_narrow(rows, itemsize, n_features, shift, tile):  # type: ignore[no-untyped-def]
    if itemsize == 4:
        if n_features == 2:
            _pack32_2(rows, shift, tile)
        elif n_features == 3:
            _pack32_3(rows, shift, tile)
        else:
            _pack32_4(rows, shift, tile)
    elif n_features == 2:
        _pack64_2(rows, shift, tile)
    elif n_features == 3:
        _pack64_3(rows, shift, tile)
    else:
        _pack64_4(rows, shift, tile)


pack_narrow = compiled(_pack_narrow)


def _assign(  # type: ignore[no-untyped-def]
    X, low, high, labels, weight, centers, shift, packed, half, bound,
    mode, scale, weight_scale, low_scale, two_limbs, sums, sums_low, weights, weights_low, counts,
):  # fmt: skip
    """Renew the labels of rows low..high and bring the sums of this worker up to date (see LABELS, REBUILD, MOVED).

    shift: in the dtype of X, so that x - shift is rounded once. bound: (const, linear, quadratic) in float32, rounded
    up. counts: (moved, rechecked), added to.
    sums, sums_low: (n_clusters, n_features); weights, weights_low: (n_clusters,). `weight` is empty without weights.
    """
    n_features = X.shape[1]
    n_groups, _, group = packed.shape
    weighted = weight.size > 0
    const, linear, quadratic = bound[0], bound[1], bound[2]
    tile = np.zeros((n_features, TILE), np.float32)
    norm = np.empty(TILE, np.float32)
    best = np.empty(TILE, np.float32)
    second = np.empty(TILE, np.float32)
    label = np.empty(TILE, np.int32)
    inflate = np.float32(1.0 + (n_features + 8) * 2.0**-24)  # |x'| rounded up: its own sum and root are rounded
    tiny = np.float32(2.0**-60)  # squares that vanish
    for start in range(low, high, TILE):
        m = min(TILE, high - start)
        packed_features = 0
        if m == TILE and 2 <= n_features <= 4:
            packed_features = n_features
            pack_narrow(X[start:].ctypes.data, X.itemsize, n_features, shift.ctypes.data, tile.ctypes.data)
        elif m == TILE and n_features >= LANES:
            n_chunks = n_features // LANES
            packed_features = n_chunks * LANES
            address = X[start:].ctypes.data
            if X.itemsize == 8:
                _pack64(address, X.strides[0], shift.ctypes.data, tile.ctypes.data, n_chunks)
            else:
                _pack32(address, X.strides[0], shift.ctypes.data, tile.ctypes.data, n_chunks)
        for i in range(m):
            x = X[start + i]
            for j in range(packed_features, n_features):
                tile[j, i] = np.float32(x[j] - shift[j])
        norm[:] = 0
        for j in range(n_features):
            for i in range(TILE):
                norm[i] += tile[j, i] * tile[j, i]
        if n_features > 2 * CHAIN:
            if group == 6:
                _score6_chained(
                    tile.ctypes.data, packed.ctypes.data, half.ctypes.data, best.ctypes.data, label.ctypes.data,
                    second.ctypes.data, n_features, n_groups,
                )  # fmt: skip
            else:
                _score4_chained(
                    tile.ctypes.data, packed.ctypes.data, half.ctypes.data, best.ctypes.data, label.ctypes.data,
                    second.ctypes.data, n_features, n_groups,
                )  # fmt: skip
        elif group == 6:
            _score6(
                tile.ctypes.data, packed.ctypes.data, half.ctypes.data, best.ctypes.data, label.ctypes.data,
                second.ctypes.data, n_features, n_groups,
            )  # fmt: skip
        else:
            _score4(
                tile.ctypes.data, packed.ctypes.data, half.ctypes.data, best.ctypes.data, label.ctypes.data,
                second.ctypes.data, n_features, n_groups,
            )  # fmt: skip
        is_open = np.int32(0)
        for i in range(TILE):
            v = np.sqrt(norm[i]) * inflate + tiny
            norm[i] = const + v * (linear + quadratic * v)
            # as a difference: an infinity or a NaN is never certified
            is_open |= np.int32(0) if second[i] - best[i] > norm[i] else np.int32(1)
        if is_open:
            for i in range(m):
                if not (second[i] - best[i] > norm[i]):
                    label[i] = recheck(X[start + i], centers)
                    counts[1] += 1
        moved = 0
        for i in range(m):
            moved += label[i] != labels[start + i]
        counts[0] += moved
        if mode == LABELS:
            for i in range(m):
                labels[start + i] = label[i]
            continue
        if mode == MOVED and moved == 0:
            continue
        w = 1.0
        weight_high = np.int64(1)
        weight_low = np.int64(0)
        for i in range(m):
            new = label[i]
            old = labels[start + i]
            if new == old and mode != REBUILD:
                continue
            if weighted:
                w = weight[start + i]
                y = w * weight_scale
                weight_high = np.int64(np.rint(y))
                weight_low = np.int64(np.rint((y - np.rint(y)) * low_scale))
                weights_low[new] += weight_low
            weights[new] += weight_high
            add_row(sums[new], sums_low[new], X[start + i], w, scale, low_scale, two_limbs, 1)
            if mode == MOVED and old >= 0:
                weights[old] -= weight_high
                if weighted:
                    weights_low[old] -= weight_low
                add_row(sums[old], sums_low[old], X[start + i], w, scale, low_scale, two_limbs, -1)
            labels[start + i] = new


pack_centers = compiled(_pack_centers)
assign = compiled(_assign)
