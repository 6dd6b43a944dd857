"""Compiled kernels of the CPU backend. Each works on rows low..high of a block, releases the GIL and is cached on disk.

Plain NumPy semantics, no fastmath: every float64 operation of a canonical result is rounded on its own. The one place
where the order of adding is left to the compiler (`_any_order`) only chooses candidates, with a margin.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba as nb
import numpy as np

from ..exact import CHAIN
from ._simd import GROUPS, LANES, TILE, make_pack_narrow, make_pack_tile, make_score_tile

LABELS, REBUILD, MOVED = 0, 1, 2
"""What `assign` does with the sums: leaves them, adds every row, or moves the rows that changed."""


def _compile(function: Callable[..., Any], **options: Any) -> Any:
    try:
        return nb.njit(nogil=True, cache=True, error_model="numpy", **options)(function)
    except RuntimeError:  # no directory that a cache could be written to: compile in every process
        return nb.njit(nogil=True, error_model="numpy", **options)(function)


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


# ------------------------------------------------------------------------------------------------ summary
def _extent(X, low, high, period, smallest, largest):  # type: ignore[no-untyped-def]
    """Per column of X seen as rows of `period` values: min and max of rows low..high. Returns False at a NaN or inf."""
    flat = X[low:high].reshape(-1)
    n = flat.size // period
    bad = np.int64(0)
    limit = np.finfo(X.dtype).max
    for i in range(n):
        x = flat[i * period : (i + 1) * period]
        for q in range(period):
            v = x[q]
            smallest[q] = v if v < smallest[q] else smallest[q]
            largest[q] = v if v > largest[q] else largest[q]
            bad |= np.int64(0) if abs(v) <= limit else np.int64(1)
    for q in range(flat.size - n * period):  # the period is a multiple of n_features: columns still agree
        v = flat[n * period + q]
        smallest[q] = v if v < smallest[q] else smallest[q]
        largest[q] = v if v > largest[q] else largest[q]
        bad |= np.int64(0) if abs(v) <= limit else np.int64(1)
    return bad == 0


def _weighted_extent(X, weight, low, high, peaks):  # type: ignore[no-untyped-def]
    for i in range(low, high):
        w = weight[i]
        for j in range(X.shape[1]):
            y = abs(w * np.float64(X[i, j]))
            peaks[j] = y if y > peaks[j] else peaks[j]


def _moment_sums(X, low, high, period, pivot, scale1, scale2, sum1, sum2):  # type: ignore[no-untyped-def]
    """Add rint(q 2**e1) and rint(q q 2**e2), q = x - pivot, by column of X seen as rows of `period` values."""
    flat = X[low:high].reshape(-1)
    n = flat.size // period
    for i in range(n):
        x = flat[i * period : (i + 1) * period]
        for c in range(period):
            q = np.float64(x[c]) - pivot[c]
            sum1[c] += np.int64(np.rint(q * scale1[c]))
            sum2[c] += np.int64(np.rint(q * q * scale2[c]))
    for c in range(flat.size - n * period):
        q = np.float64(flat[n * period + c]) - pivot[c]
        sum1[c] += np.int64(np.rint(q * scale1[c]))
        sum2[c] += np.int64(np.rint(q * q * scale2[c]))


# ------------------------------------------------------------------------------------------------ assign
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


distance = _compile(_distance)
any_order = _compile(_any_order, fastmath={"reassoc", "contract", "nsz"})


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


recheck = _compile(_recheck)
add_row = _compile(_add_row)


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


pack_narrow = _compile(_pack_narrow)


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


def _own_sqdist(X, low, high, labels, centers, out):  # type: ignore[no-untyped-def]
    """D to the own center. Four rows at a time hide the latency of the chain of additions."""
    i = low
    while i + 4 <= high:
        x0, x1, x2, x3 = X[i], X[i + 1], X[i + 2], X[i + 3]
        c0, c1, c2, c3 = (
            centers[labels[i]], centers[labels[i + 1]], centers[labels[i + 2]], centers[labels[i + 3]],
        )  # fmt: skip
        a0 = a1 = a2 = a3 = 0.0
        for j in range(X.shape[1]):
            t0 = np.float64(x0[j]) - c0[j]
            t1 = np.float64(x1[j]) - c1[j]
            t2 = np.float64(x2[j]) - c2[j]
            t3 = np.float64(x3[j]) - c3[j]
            a0 += t0 * t0
            a1 += t1 * t1
            a2 += t2 * t2
            a3 += t3 * t3
        out[i], out[i + 1], out[i + 2], out[i + 3] = a0, a1, a2, a3
        i += 4
    while i < high:
        out[i] = distance(X[i], centers[labels[i]])
        i += 1


def _weighted_max(values, weight, low, high):  # type: ignore[no-untyped-def]
    top = 0.0
    for i in range(low, high):
        y = np.float64(values[i])
        if weight.size:
            y = weight[i] * y if weight[i] > 0 else np.float64(0)  # also where the distance is infinite
        top = y if y > top else top
    return top


def _weighted_sum(values, weight, low, high, scale, low_scale, out):  # type: ignore[no-untyped-def]
    """Add both limbs of the sum of ``w values`` to `out`."""
    a = np.int64(0)
    b = np.int64(0)
    for i in range(low, high):
        y = np.float64(values[i])
        if weight.size:
            y = weight[i] * y if weight[i] > 0 else np.float64(0)  # also where the distance is infinite
        y *= scale
        limb = np.rint(y)
        a += np.int64(limb)
        b += np.int64(np.rint((y - limb) * low_scale))
    out[0] += a
    out[1] += b


def _transform(X, low, high, centers_t, out):  # type: ignore[no-untyped-def]
    n_features, n_clusters = centers_t.shape
    total = np.empty(n_clusters)
    for i in range(low, high):
        total[:] = 0.0
        for j in range(n_features):
            x = np.float64(X[i, j])
            for k in range(n_clusters):
                t = x - centers_t[j, k]
                total[k] += t * t
        for k in range(n_clusters):
            out[i, k] = np.sqrt(total[k])


# ------------------------------------------------------------------------------------------------ seeding
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


seed_tile = _compile(_seed_tile)
seed_distance = _compile(_seed_distance)


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


extent = _compile(_extent)
weighted_extent = _compile(_weighted_extent)
moment_sums = _compile(_moment_sums)
pack_centers = _compile(_pack_centers)
assign = _compile(_assign)
own_sqdist = _compile(_own_sqdist)
weighted_max = _compile(_weighted_max)
weighted_sum = _compile(_weighted_sum)
transform = _compile(_transform)
seed_update = _compile(_seed_update)
seed_trials = _compile(_seed_trials)
seed_sum = _compile(_seed_sum)
seed_scan = _compile(_seed_scan)
