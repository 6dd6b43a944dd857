"""Compiled kernels beside the assignment: ranges, peaks, moments, distances to the own center, their sum.

Each works on rows low..high of a block, most in float64: where there is much to do, rows of float32 are widened a piece
at a time, in the cache, so that one kernel does for both. X: the rows as float32 and as float64, both flat, one of them
empty, see `both_types`; buffer: `buffer_size` float64.
"""

from __future__ import annotations

import numpy as np

from ._layout import LANES64 as LANES
from ._layout import ROWS
from ._numba_compiler import compiled
from ._numba_distance import distance
from ._tiles import VECTOR_CODE
from .base import SUM_ROWS

if VECTOR_CODE:
    from ._simd_passes import code, distance_rows, extent_rows, moment_rows, own_rows
else:
    from ._plain_passes import code, distance_rows, extent_rows, moment_rows, own_rows

BLOCK = 1024  # values looked at, or widened, at a time: they stay in the first cache
COLUMNS = SUM_ROWS  # distances of a row at a time: 32 KB for ROWS rows
FULL = 64  # values of a row that `extents` looks at: some vectors
PIECE = 512  # rows whose distances are kept at a time: 4 KB


def buffer_size(n_features: int) -> int:
    """Values of float64 that a pass widens at a time."""
    return max(BLOCK, ROWS * n_features)


def _wide(X, first, last, buffer):  # type: ignore[no-untyped-def]
    """Values first..last of X as float64."""
    if X[1].size:
        return X[1][first:last]
    values = X[0][first:last]
    for i in range(values.size):
        buffer[i] = values[i]
    return buffer[: values.size]


wide = compiled(_wide, inline="always")


def _extents(X, low, high, extent):  # type: ignore[no-untyped-def]
    """Renew smallest and largest by column of values low..high of X seen as rows; returns whether all are finite.

    X: flat, of float32 or of float64; extent: (2, period), a row has so many values, at least FULL. If a part of a row
    is left, the last values are looked at as a row of their own: their columns are then others, but belong to the same
    features, if both numbers of values are multiples of n_features.
    """
    smallest, largest = extent[0], extent[1]
    period = smallest.size
    step = max(ROWS, BLOCK // period) * period
    bad = np.int64(0)
    for start in range(low, high, step):
        bad |= extent_rows(X[start:], smallest, largest, period, min(step, high - start) // period)
    if (high - low) % period == 0:
        return bad == 0
    if high - low >= period:
        bad |= extent_rows(X[high - period :], smallest, largest, period, 1)
        return bad == 0
    for q in range(low, high):
        x, c = X[q], q - low
        smallest[c] = x if x < smallest[c] else smallest[c]
        largest[c] = x if x > largest[c] else largest[c]
        bad |= np.int64(x - x != 0)
    return bad == 0


def _weighted_extent(X, weight, low, high, peaks, buffer):  # type: ignore[no-untyped-def]
    n_features = peaks.size
    for i in range(low, high):
        w = weight[i]
        x = wide(X, i * n_features, (i + 1) * n_features, buffer)
        for j in range(n_features):
            y = abs(w * x[j])
            peaks[j] = y if y > peaks[j] else peaks[j]


def _moment_sums(X, low, high, period, pivot, scale1, scale2, sum1, sum2):  # type: ignore[no-untyped-def]
    """Add rint(q 2**e1) and rint(q q 2**e2), q = x - pivot, by column of X seen as rows of `period` values.

    The columns that fill vectors in vectors, the others one by one. low, high: values.
    """
    n_chunks = period // LANES
    step = max(ROWS, BLOCK // period) * period
    for start in range(low, high, step):
        size = min(step, high - start)
        n = size // period
        if X[1].size:
            moment_rows(X[1][start:], pivot, scale1, scale2, sum1, sum2, period, n, n_chunks)
        else:
            moment_rows(X[0][start:], pivot, scale1, scale2, sum1, sum2, period, n, n_chunks)
        if n_chunks * LANES == period and n * period == size:
            continue
        for i in range(n + 1):
            begin = n_chunks * LANES if i < n else 0
            for q in range(i * period + begin, min((i + 1) * period, size)):
                c = q - i * period
                y = (X[1][start + q] if X[1].size else np.float64(X[0][start + q])) - pivot[c]
                sum1[c] += code(y * scale1[c])
                sum2[c] += code(y * y * scale2[c])


def _sqdist_to_own(X, low, high, labels, centers, out, buffer):  # type: ignore[no-untyped-def]
    """Fill out[: high - low] with D to the own center."""
    n_features = centers.shape[1]
    step = max(ROWS, BLOCK // n_features // ROWS * ROWS)
    for first in range(low, high, step):
        m = min(step, high - first)
        X_part = wide(X, first * n_features, (first + m) * n_features, buffer)
        own, sq = labels[first : first + m], out[first - low : first - low + m]
        last = m - m % ROWS
        for row in range(0, last, ROWS):
            own_rows(X_part, own, centers, sq, row, n_features)
        for r in range(last, m):
            sq[r] = distance(X_part[r * n_features : (r + 1) * n_features], centers[own[r]])


sqdist_to_own = compiled(_sqdist_to_own, inner=True)


def _weighted_max(values, weight, low, high):  # type: ignore[no-untyped-def]
    """Largest ``w v`` of values low..high, which are given in both types."""
    top = 0.0
    for i in range(low, high):
        y = values[1][i] if values[1].size else np.float64(values[0][i])
        if weight.size:
            y = weight[i] * y if weight[i] > 0 else np.float64(0)  # also where the distance is infinite
        top = y if y > top else top
    return top


weighted_max = compiled(_weighted_max, inner=True)


def _own_sqdist(X, low, high, labels, centers, values, weight, buffer):  # type: ignore[no-untyped-def]
    """Fill low..high of `values`, given in both types, with D to the own center; returns the largest ``w D``."""
    sqdist_to_own(X, low, high, labels, centers, values[1][low:high], buffer)
    return weighted_max(values, weight, low, high)


def _own_inertia(X, low, high, labels, weight, centers, scale, low_scale, limbs, sq, buffer):  # type: ignore[no-untyped-def]
    """Largest ``w D`` of rows low..high; adds to limbs[s] both limbs of their sum in a code of the scale scale[s].

    sq: PIECE values, D of so many rows at a time. Where a scale is too large for a ``w D``, its limbs mean nothing.
    """
    top = 0.0
    bits = sq.view(np.int64)
    for start in range(low, high, PIECE):
        m = min(PIECE, high - start)
        sqdist_to_own(X, start, start + m, labels, centers, sq, buffer)
        if weight.size:
            for i in range(m):
                w = weight[start + i]
                sq[i] = w * sq[i] if w > 0 else np.float64(0)  # also where the distance is infinite
        # none is negative, so their order is that of their bits, which vectors compare
        largest = np.int64(0)
        for i in range(m):
            largest = max(largest, bits[i])
        for s in range(scale.size):
            a = np.int64(0)
            b = np.int64(0)
            for i in range(m):
                y = sq[i] * scale[s]
                a += code(y)
                b += code((y - np.rint(y)) * low_scale)
            limbs[s, 0] += a
            limbs[s, 1] += b
        bits[0] = largest
        top = sq[0] if sq[0] > top else top
    return top


def _transform(X, low, high, centers, packed, out, part, buffer):  # type: ignore[no-untyped-def]
    """Fill out[low:high], given in both types, with distances.

    packed: the centers, (n_chunks, n_features, LANES); part: (ROWS, n_chunks LANES) float64, scratch.
    """
    n_clusters, n_features = centers.shape
    n_chunks = packed.shape[0]
    for start in range(low, high, ROWS):
        m = min(ROWS, high - start)
        x = wide(X, start * n_features, (start + m) * n_features, buffer)
        if m == ROWS:
            distance_rows(x, packed, part, n_features, n_chunks)
        else:
            for r in range(m):
                for k in range(n_clusters):
                    part[r, k] = np.sqrt(distance(x[r * n_features : (r + 1) * n_features], centers[k]))
        for r in range(m):
            for k in range(n_clusters):
                if out[1].size:
                    out[1][start + r, k] = part[r, k]
                else:
                    out[0][start + r, k] = part[r, k]


def _add_column(sums, low, n, cluster, column):  # type: ignore[no-untyped-def]
    """Move what is in `column` to that column of the sums of n rows from `low` on."""
    for q in range(n):
        sums[low + q, cluster] += column[q]
        column[q] = 0


add_column = compiled(_add_column, inner=True)


def _distance_sums(  # type: ignore[no-untyped-def]
    X, packed, ends, clusters, tiles, own, scale, sums, part, codes, column
):
    """Add to sums[row, c] the codes ``rint(distance 2**e)`` of rows to the others of cluster c.

    For the rows in the tiles of COLUMNS rows from tiles[0] to tiles[1]; row 0 of sums is the first row of tile own[0].
    A pair of rows in the tiles from own[0] to own[1] counts for both: it is looked at for the earlier tile only.

    X: the others, sorted by cluster, flat; packed: the same, (n_chunks, n_features, LANES), a multiple of COLUMNS of
    them, zeros after the last; ends: where each cluster ends; clusters: of each of them; part: (ROWS, COLUMNS) float64,
    codes: the same memory as int64, column: (COLUMNS,) int64, scratch.
    """
    n_features, chunks, n = packed.shape[1], COLUMNS // LANES, clusters.size
    for tile in range(tiles[0], tiles[1]):
        first_cluster = 0
        for other in range(packed.shape[0] // chunks):
            first, last = other * COLUMNS, min((other + 1) * COLUMNS, n)
            while ends[first_cluster] <= first:
                first_cluster += 1
            is_own = own[0] <= other < own[1]
            if is_own and other < tile:
                continue
            for_both = is_own and other > tile
            now = clusters[tile * COLUMNS]
            for q in range(COLUMNS):
                column[q] = 0
            for start in range(tile * COLUMNS, min((tile + 1) * COLUMNS, n), ROWS):
                x = X[start * n_features : (start + ROWS) * n_features]
                distance_rows(x, packed[other * chunks : (other + 1) * chunks], part, n_features, chunks)
                for row in range(start, min(start + ROWS, n)):
                    values, coded = part[row - start], codes[row - start]
                    for q in range(COLUMNS):  # those after the last mean nothing, and are not looked at
                        coded[q] = code(values[q] * scale)
                    begin, cluster = first, first_cluster
                    while begin < last:
                        end = min(ends[cluster], last)
                        total = np.int64(0)
                        for q in range(begin - first, end - first):
                            total += coded[q]
                        sums[row - own[0] * COLUMNS, cluster] += total
                        begin = end
                        cluster += 1
                    if for_both:
                        if clusters[row] != now:
                            add_column(sums, first - own[0] * COLUMNS, last - first, now, column)
                            now = clusters[row]
                        for q in range(COLUMNS):
                            column[q] += coded[q]
            if for_both:
                add_column(sums, first - own[0] * COLUMNS, last - first, now, column)


extents = compiled(_extents)
weighted_extent = compiled(_weighted_extent)
moment_sums = compiled(_moment_sums)
own_sqdist = compiled(_own_sqdist)
own_inertia = compiled(_own_inertia)
transform = compiled(_transform)
distance_sums = compiled(_distance_sums)
