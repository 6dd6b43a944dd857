"""Compiled kernels beside the assignment: ranges, moments, distances to the own center, their sum, new centers.

Each but the last works on rows low..high of a block.
"""

from __future__ import annotations

import numpy as np

from ._layout import LANES64 as LANES
from ._layout import ROWS
from ._numba_assign import distance
from ._numba_compiler import compiled
from ._tiles import VECTOR_CODE

if VECTOR_CODE:
    from ._simd_passes import distance_rows, moment_rows, own_rows
else:
    from ._plain_passes import distance_rows, moment_rows, own_rows

MOMENT_VALUES = 1024  # of a block of rows that is summed by columns: it stays in the first cache
PIECE = 512  # rows whose distances are kept at a time: 4 KB


def _extent(X, low, high, period, smallest, largest):  # type: ignore[no-untyped-def]
    """Per column of X seen as rows of `period` values: min and max of rows low..high. Returns False at a NaN or inf."""
    flat = X[low:high].reshape(-1)
    bad = np.int64(0)
    limit = np.finfo(X.dtype).max
    for start in range(0, flat.size, period):
        x = flat[start : start + period]  # the period is a multiple of n_features: columns agree in the last one too
        for q in range(x.size):
            v = x[q]
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


def _moment_sums(X, low, high, period, n_chunks, pivot, scale1, scale2, sum1, sum2):  # type: ignore[no-untyped-def]
    """Add rint(q 2**e1) and rint(q q 2**e2), q = x - pivot, by column of X seen as rows of `period` values.

    The first ``n_chunks LANES`` columns in vectors, for codes of at most MOST_BITS; the others one by one.
    """
    flat = X[low:high].reshape(-1)
    n = flat.size // period
    step = max(8, MOMENT_VALUES // period)
    for start in range(0, n + 1, step):
        m = min(step, n - start)
        moment_rows(flat, pivot, scale1, scale2, sum1, sum2, start * period, period, m, n_chunks)
        if n_chunks * LANES == period and start + step <= n:
            continue
        for i in range(start, min(start + step, n + 1)):
            x = flat[i * period : (i + 1) * period]  # columns agree in the last one, which is shorter, too
            for c in range(n_chunks * LANES if i < n else 0, x.size):
                q = np.float64(x[c]) - pivot[c]
                sum1[c] += np.int64(np.rint(q * scale1[c]))
                sum2[c] += np.int64(np.rint(q * q * scale2[c]))


def _own_sqdist(X, low, high, labels, centers, out):  # type: ignore[no-untyped-def]
    """Fill out[: high - low] with D to the own center."""
    n_features = X.shape[1]
    n_chunks = n_features // LANES
    last = high - (high - low) % ROWS
    for start in range(low, last, ROWS):
        sq = out[start - low : start - low + ROWS]
        if n_chunks:
            own_rows(X, labels, centers, sq, start, n_features, n_chunks)
        else:
            sq[:] = 0.0
        if n_chunks * LANES < n_features:
            for r in range(ROWS):
                x, c = X[start + r], centers[labels[start + r]]
                total = sq[r]
                for j in range(n_chunks * LANES, n_features):
                    t = np.float64(x[j]) - c[j]
                    total += t * t
                sq[r] = total
    for i in range(last, high):
        out[i - low] = distance(X[i], centers[labels[i]])


def _weighted_max(values, weight, low, high):  # type: ignore[no-untyped-def]
    top = 0.0
    for i in range(low, high):
        y = np.float64(values[i])
        if weight.size:
            y = weight[i] * y if weight[i] > 0 else np.float64(0)  # also where the distance is infinite
        top = y if y > top else top
    return top


def _own_inertia(X, low, high, labels, weight, centers, scale, low_scale, limbs):  # type: ignore[no-untyped-def]
    """Largest ``w D`` of rows low..high; adds to limbs[s] both limbs of their sum in a code of the scale scale[s].

    D is kept for a piece of rows at a time. Where a scale is too large for a ``w D``, its limbs mean nothing.
    """
    sq = np.empty(PIECE)
    top = 0.0
    for start in range(low, high, PIECE):
        m = min(PIECE, high - start)
        own_sqdist(X, start, start + m, labels, centers, sq)
        if weight.size:
            for i in range(m):
                w = weight[start + i]
                sq[i] = w * sq[i] if w > 0 else np.float64(0)  # also where the distance is infinite
        for i in range(m):
            top = sq[i] if sq[i] > top else top
        for s in range(scale.size):
            a = np.int64(0)
            b = np.int64(0)
            for i in range(m):
                y = sq[i] * scale[s]
                limb = np.rint(y)
                a += np.int64(limb)
                b += np.int64(np.rint((y - limb) * low_scale))
            limbs[s, 0] += a
            limbs[s, 1] += b
    return top


def _recenter(  # type: ignore[no-untyped-def]
    sums, sums_low, weights, heaviest, low_unit, unscale, narrow, before, after, every, sq
):
    """Fill `after` with the new centers, as `exact.new_centers`; returns the shift, as `exact.shift_sq`, and `changed`.

    `sums_low` is empty for one limb; heaviest: index of the largest weight; low_unit: 2**-bits; unscale: 2**-e of each
    feature; narrow: centers of float32 data; every: 0 .. n_clusters - 1; sq: scratch, n_clusters values rounded up to a
    power of two.
    """
    n_clusters, n_features = before.shape
    changed = False
    for k in range(n_clusters):
        source = k if weights[k] > 0 else heaviest
        weight = weights[source] if weights[source] > 0 else 1.0
        for j in range(n_features):
            mantissa = np.float64(sums[source, j])
            if sums_low.size:
                mantissa += np.float64(sums_low[source, j]) * low_unit
            center = (mantissa / weight) * unscale[j]
            if narrow:
                center = np.float64(np.float32(center))
            changed |= center != before[k, j]
            after[k, j] = center
    sq[:] = 0.0
    own_sqdist(after, every[0], n_clusters, every, before, sq)
    size = sq.size
    while size > 1:
        size //= 2
        for k in range(size):
            sq[k] = sq[2 * k] + sq[2 * k + 1]
    return sq[0], changed


def _transform(X, low, high, centers, packed, out):  # type: ignore[no-untyped-def]
    """Fill out[low:high] with distances. packed: the centers, (n_chunks, n_features, LANES)."""
    n_clusters, n_features = centers.shape
    n_chunks = packed.shape[0]
    part = np.empty((ROWS, n_chunks * LANES), X.dtype)
    last = high - (high - low) % ROWS
    for start in range(low, last, ROWS):
        distance_rows(X, packed, part, start, n_features, n_chunks)
        for r in range(ROWS):
            for k in range(n_clusters):
                out[start + r, k] = part[r, k]
    for i in range(last, high):
        for k in range(n_clusters):
            out[i, k] = np.sqrt(distance(X[i], centers[k]))


extent = compiled(_extent)
weighted_extent = compiled(_weighted_extent)
moment_sums = compiled(_moment_sums)
own_sqdist = compiled(_own_sqdist)
weighted_max = compiled(_weighted_max)
own_inertia = compiled(_own_inertia, allocates=True)
recenter = compiled(_recenter)
transform = compiled(_transform, allocates=True)
