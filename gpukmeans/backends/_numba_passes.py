"""Compiled kernels that look at every row once: ranges, moments, distances to the own center, their sum, transform.

Each works on rows low..high of a block.
"""

from __future__ import annotations

import numpy as np

from ._numba_assign import distance
from ._numba_compiler import compiled


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


extent = compiled(_extent)
weighted_extent = compiled(_weighted_extent)
moment_sums = compiled(_moment_sums)
own_sqdist = compiled(_own_sqdist)
weighted_max = compiled(_weighted_max)
weighted_sum = compiled(_weighted_sum)
transform = compiled(_transform)
