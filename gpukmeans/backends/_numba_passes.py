"""Compiled kernels beside the assignment: ranges, moments, distances to the own center, their sum, new centers.

Each but the last works on rows low..high of a block.
"""

from __future__ import annotations

import numpy as np

from ._numba_assign import distance
from ._numba_compiler import compiled
from ._simd_passes import LANES, ROWS, make_moment_rows, make_own_rows

MOMENT_VALUES = 1024  # of a block of rows that is summed by columns: it stays in the first cache
PIECE = 512  # rows whose distances are kept at a time: 4 KB

_moment_rows32, _moment_rows64 = make_moment_rows(double=False), make_moment_rows(double=True)
_own_rows32, _own_rows64 = make_own_rows(double=False), make_own_rows(double=True)


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


def _moment_sums(X, low, high, period, n_chunks, pivot, scale1, scale2, sum1, sum2):  # type: ignore[no-untyped-def]
    """Add rint(q 2**e1) and rint(q q 2**e2), q = x - pivot, by column of X seen as rows of `period` values.

    The first ``n_chunks LANES`` columns in vectors, for codes of at most MOST_BITS; the others one by one.
    """
    flat = X[low:high].reshape(-1)
    n = flat.size // period
    first = n_chunks * LANES
    step = max(8, MOMENT_VALUES // period)
    for start in range(0, n, step):
        m = min(step, n - start)
        if n_chunks:
            address = flat[start * period :].ctypes.data
            if X.itemsize == 8:
                _moment_rows64(
                    address, period * 8, m, n_chunks, pivot.ctypes.data, scale1.ctypes.data, scale2.ctypes.data,
                    sum1.ctypes.data, sum2.ctypes.data,
                )  # fmt: skip
            else:
                _moment_rows32(
                    address, period * 4, m, n_chunks, pivot.ctypes.data, scale1.ctypes.data, scale2.ctypes.data,
                    sum1.ctypes.data, sum2.ctypes.data,
                )  # fmt: skip
        if first < period:
            for i in range(start, start + m):
                x = flat[i * period : (i + 1) * period]
                for c in range(first, period):
                    q = np.float64(x[c]) - pivot[c]
                    sum1[c] += np.int64(np.rint(q * scale1[c]))
                    sum2[c] += np.int64(np.rint(q * q * scale2[c]))
    for c in range(flat.size - n * period):  # the period is a multiple of n_features: columns still agree
        q = np.float64(flat[n * period + c]) - pivot[c]
        sum1[c] += np.int64(np.rint(q * scale1[c]))
        sum2[c] += np.int64(np.rint(q * q * scale2[c]))


def _own_sqdist(X, low, high, labels, centers, out):  # type: ignore[no-untyped-def]
    """Fill out[: high - low] with D to the own center."""
    n_features = X.shape[1]
    n_chunks = n_features // LANES
    first = n_chunks * LANES
    i = low
    while i + ROWS <= high:
        sq = out[i - low : i - low + ROWS]
        address, row_bytes = X[i:].ctypes.data, n_features * X.itemsize
        if n_chunks == 0:
            sq[:] = 0.0
        elif X.itemsize == 8:
            _own_rows64(
                address, row_bytes, labels[i:].ctypes.data, centers.ctypes.data, n_features * 8, n_chunks,
                sq.ctypes.data,
            )  # fmt: skip
        else:
            _own_rows32(
                address, row_bytes, labels[i:].ctypes.data, centers.ctypes.data, n_features * 8, n_chunks,
                sq.ctypes.data,
            )  # fmt: skip
        if first < n_features:
            for r in range(ROWS):
                x, c = X[i + r], centers[labels[i + r]]
                total = sq[r]
                for j in range(first, n_features):
                    t = np.float64(x[j]) - c[j]
                    total += t * t
                sq[r] = total
        i += ROWS
    while i < high:
        out[i - low] = distance(X[i], centers[labels[i]])
        i += 1


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
    sums, sums_low, weights, low_unit, unscale, narrow, before, after, sq
):
    """Fill `after` with the new centers, as `exact.new_centers`; returns the shift, as `exact.shift_sq`, and `changed`.

    `sums_low` is empty for one limb. low_unit: 2**-bits; unscale: 2**-e of each feature; narrow: centers of float32
    data; sq: scratch, n_clusters values rounded up to a power of two.
    """
    n_clusters, n_features = before.shape
    heaviest = np.argmax(weights)
    for k in range(n_clusters):
        weight = weights[k] if weights[k] > 0 else 1.0
        row, center = sums[k], after[k]
        if sums_low.size:
            low = sums_low[k]
            for j in range(n_features):
                center[j] = ((np.float64(row[j]) + np.float64(low[j]) * low_unit) / weight) * unscale[j]
        else:
            for j in range(n_features):
                center[j] = (np.float64(row[j]) / weight) * unscale[j]
        if narrow:
            for j in range(n_features):
                center[j] = np.float64(np.float32(center[j]))
    for k in range(n_clusters):
        if weights[k] == 0:
            after[k] = after[heaviest]
    changed = False
    for k in range(n_clusters):
        new, old = after[k], before[k]
        for j in range(n_features):
            changed |= new[j] != old[j]
    sq[:] = 0
    own_sqdist(after, 0, n_clusters, np.arange(n_clusters).astype(np.int32), before, sq)
    size = sq.size
    while size > 1:
        size //= 2
        for k in range(size):
            sq[k] = sq[2 * k] + sq[2 * k + 1]
    return sq[0], changed


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


extent = compiled(_extent)
weighted_extent = compiled(_weighted_extent)
moment_sums = compiled(_moment_sums)
own_sqdist = compiled(_own_sqdist)
weighted_max = compiled(_weighted_max)
own_inertia = compiled(_own_inertia)
recenter = compiled(_recenter)
transform = compiled(_transform)
