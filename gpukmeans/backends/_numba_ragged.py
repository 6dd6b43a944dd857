"""Compiled kernel of small problems: each of them a whole fit by one thread, start, iterations, inertia and all.

Every row is compared with every center by the canonical distance itself, in vectors of rows: for a few thousand values
that is less work than a fast pass with its certificate and its recheck. Rows are float64 here, by rows and by columns;
of data of float32 (`single`) the columns are kept as that, too: k-means++ measures in the dtype of the data.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..exact import Float64Array, Int64Array
from ._numba_centers import recenter
from ._numba_compiler import compiled
from ._problem_table import (
    BITS,
    CENTERS,
    INERTIA,
    ITERATIONS,
    LABELS,
    RUNS,
    SINGLE,
    STARTS,
    TRIALS,
    USED,
    VALUES,
    WEIGHTS,
    D,
    K,
    N,
)

TILE = 256
"""Rows whose distances are added up side by side: 2 KB."""


class Memory(NamedTuple):
    """Of one worker, for the largest of its problems; what is in it means nothing between two of them.

    Attributes
    ----------
    columns : ndarray of float64, shape (n_values,)
        The rows by columns, tile by tile.
    single_columns : ndarray of float32, shape (n_values,)
    sq : ndarray of float64, shape (3, n_samples)
        Distances: to the nearest center; to that of a tile, or of a trial; of the best trial.
    single_sq : ndarray of float32, shape (TILE,)
    single_center : ndarray of float32, shape (n_features,)
    scale : ndarray of float64, shape (2, n_features + 2)
        `_cpu_steps.scales_of`.
    codes : ndarray of int64, shape (n_samples * (2 n_features + 2),)
        Of each row what it adds to the sums.
    nearest : ndarray of int64, shape (TILE,)
    labels : ndarray of int32, shape (n_samples,)
    sums : ndarray of int64, shape (2, n_clusters * (2 n_features + 2))
        As `_numba_assign.move_rows` leaves them; those of an iteration that fills empty clusters.
    centers : ndarray of float64, shape (2, n_clusters * n_features)
    work : ndarray of float64, shape (3 n_clusters,)
    renamed : ndarray of int32, shape (n_clusters,)
    """

    columns: Float64Array
    single_columns: NDArray[np.float32]
    sq: Float64Array
    single_sq: NDArray[np.float32]
    single_center: NDArray[np.float32]
    scale: Float64Array
    codes: Int64Array
    nearest: Int64Array
    labels: NDArray[np.int32]
    sums: Int64Array
    centers: Float64Array
    work: Float64Array
    renamed: NDArray[np.int32]


def memory(problems: Int64Array) -> Memory:
    """Memory for these lines of the table."""
    n, d, k = problems[:, N], problems[:, D], problems[:, K]
    return Memory(
        np.empty((n * d).max()),
        np.empty((n * d * problems[:, SINGLE]).max(), np.float32),
        np.empty((3, n.max())),
        np.empty(TILE, np.float32),
        np.empty(d.max(), np.float32),
        np.empty((2, d.max() + 2)),
        np.empty((n * (2 * d + 2)).max(), np.int64),
        np.empty(TILE, np.int64),
        np.empty(n.max(), np.int32),
        np.empty((2, (k * (2 * d + 2)).max()), np.int64),
        np.empty((2, (k * d).max())),
        np.empty(3 * k.max()),
        np.empty(k.max(), np.int32),
    )


# ------------------------------------------------------------------------------------------------ distances
def _by_columns(X, single, memory):  # type: ignore[no-untyped-def]
    """Lay rows out by columns, tile by tile."""
    n, d = X.shape
    for start in range(0, n, TILE):
        m = min(TILE, n - start)
        for j in range(d):
            first = start * d + j * m
            for i in range(m):
                memory.columns[first + i] = X[start + i, j]
    if single:
        for i in range(n * d):
            memory.single_columns[i] = np.float32(memory.columns[i])


def _sq_tile(columns, start, m, center, sq):  # type: ignore[no-untyped-def]
    """Squared distances of m rows from `start` on to a center: in one dtype, features in order, each step rounded."""
    d = center.size
    tile, total = columns[start * d : (start + m) * d], sq[:m]
    for i in range(m):
        total[i] = 0
    for j in range(0, d - d % 4, 4):
        a, b, c, e = center[j], center[j + 1], center[j + 2], center[j + 3]
        x, y = tile[j * m : (j + 1) * m], tile[(j + 1) * m : (j + 2) * m]
        z, w = tile[(j + 2) * m : (j + 3) * m], tile[(j + 3) * m : (j + 4) * m]
        for i in range(m):
            s, t, u, v = x[i] - a, y[i] - b, z[i] - c, w[i] - e
            total[i] = (((total[i] + s * s) + t * t) + u * u) + v * v
    for j in range(d - d % 4, d):
        a, x = center[j], tile[j * m : (j + 1) * m]
        for i in range(m):
            t = x[i] - a
            total[i] += t * t


def _sq_to_row(X, row, single, memory, sq):  # type: ignore[no-untyped-def]
    """Fill sq with the distances of all rows to one of them, in the dtype of the data."""
    n, center = sq.size, memory.single_center[: X.shape[1]]
    for j in range(center.size):
        center[j] = np.float32(X[row, j])
    for start in range(0, n, TILE):
        m = min(TILE, n - start)
        if single:
            sq_tile(memory.single_columns, start, m, center, memory.single_sq)
            for i in range(m):
                sq[start + i] = memory.single_sq[i]
        else:
            sq_tile(memory.columns, start, m, X[row], sq[start:])


by_columns = compiled(_by_columns, inner=True)
sq_tile = compiled(_sq_tile, inner=True)
sq_to_row = compiled(_sq_to_row, inner=True)


# ------------------------------------------------------------------------------------------------ codes
def _exponent(peak, bits):  # type: ignore[no-untyped-def]
    """As `FixedPoint.for_peaks`."""
    return 0 if peak == 0 else min(bits - math.frexp(peak)[1], 1000)


def _peak(sq, weight):  # type: ignore[no-untyped-def]
    """Largest ``w sq``, which is 0 for the weight 0."""
    top = 0.0
    for i in range(sq.size):
        w = weight[i] if weight.size else 1.0
        y = w * sq[i]
        top = y if y > top else top  # not where 0 times infinity is NaN
    return top


def _total(values, weight, scale):  # type: ignore[no-untyped-def]
    """Sum of the codes of ``w value``."""
    total = np.int64(0)
    for i in range(values.size):
        w = weight[i] if weight.size else 1.0  # 1.0 * y is y
        total += np.int64(np.rint(w * values[i] * scale))
    return total


def _first_above(values, weight, scale, u, total):  # type: ignore[no-untyped-def]
    """The first row whose prefix sum of the codes of ``w value`` exceeds u times their total."""
    target = min(np.int64(np.floor(u * np.float64(total))), total - 1)
    prefix = np.int64(0)
    for i in range(values.size - 1):
        w = weight[i] if weight.size else 1.0
        prefix += np.int64(np.rint(w * values[i] * scale))
        if prefix > target:
            return i
    return values.size - 1


exponent = compiled(_exponent, inner=True)
peak_of = compiled(_peak, inner=True)
total_of = compiled(_total, inner=True)
first_above = compiled(_first_above, inner=True)


def _encode(X, weight, bits, scale, unscale, codes):  # type: ignore[no-untyped-def]
    """Fill the codes of the rows, and what codes are made with and decoded by (`_cpu_steps.scales_of`)."""
    n, d = X.shape
    low_scale, top = math.ldexp(1.0, bits), 0.0
    for j in range(d):
        peak = 0.0
        for i in range(n):
            w = weight[i] if weight.size else 1.0
            peak = max(peak, abs(w * X[i, j]))
        e = exponent(peak, bits)
        scale[j], unscale[j] = math.ldexp(1.0, e), math.ldexp(1.0, -e)
    for i in range(weight.size):
        top = max(top, weight[i])
    e = exponent(top, bits) if weight.size else 0
    scale[d], unscale[d] = math.ldexp(1.0, e), math.ldexp(1.0, -e)
    scale[d + 1], unscale[d + 1] = low_scale, 1 / low_scale
    for i in range(n):
        w = weight[i] if weight.size else 1.0
        y = w * scale[d]
        codes[i, d], codes[i, d + 1] = np.int64(np.rint(y)), np.int64(np.rint((y - np.rint(y)) * low_scale))
        for j in range(d):
            y = w * X[i, j] * scale[j]
            codes[i, j] = np.int64(np.rint(y))
            if codes.shape[1] > d + 2:
                codes[i, d + 2 + j] = np.int64(np.rint((y - np.rint(y)) * low_scale))


def _mean_variance(X, bits):  # type: ignore[no-untyped-def]
    """As `prepare.mean_variance`."""
    n, d = X.shape
    mean = 0.0
    for j in range(d):
        low, high = np.inf, -np.inf
        for i in range(n):
            low, high = min(low, X[i, j]), max(high, X[i, j])
        pivot = low / 2 + high / 2
        reach = max(abs(low - pivot), abs(high - pivot))
        e1, e2 = exponent(reach, bits), exponent(reach * reach, bits)
        scale1, scale2 = math.ldexp(1.0, e1), math.ldexp(1.0, e2)
        sum1, sum2 = np.int64(0), np.int64(0)
        for i in range(n):
            q = X[i, j] - pivot
            sum1 += np.int64(np.rint(q * scale1))
            sum2 += np.int64(np.rint(q * q * scale2))
        a, b = np.float64(sum1) * math.ldexp(1.0, -e1), np.float64(sum2) * math.ldexp(1.0, -e2)
        mean += max((b - a * a / n) / n, 0.0)
    return mean / d


encode = compiled(_encode, inner=True)
mean_variance = compiled(_mean_variance, inner=True)


# ------------------------------------------------------------------------------------------------ a fit
def _plus_plus(X, single, weight, weight_scale, draws, n_trials, bits, memory, centers):  # type: ignore[no-untyped-def]
    """Fill `centers` by greedy k-means++ with these draws, as `seeding.kmeans_plusplus`."""
    n = X.shape[0]
    closest, tried, best = memory.sq[0, :n], memory.sq[1, :n], memory.sq[2, :n]
    fallback = 0
    while weight.size and weight[fallback] == 0:
        fallback += 1
    for i in range(n):
        closest[i] = 1.0
    chosen = first_above(closest, weight, weight_scale, draws[0], total_of(closest, weight, weight_scale))
    sq_to_row(X, chosen, single, memory, closest)
    for k in range(centers.shape[0]):
        if k > 0:
            scale = math.ldexp(1.0, exponent(peak_of(closest, weight), bits))
            total = total_of(closest, weight, scale)
            least = np.int64(-1)
            for t in range(n_trials):
                trial = fallback
                if total > 0:
                    trial = first_above(closest, weight, scale, draws[1 + (k - 1) * n_trials + t], total)
                sq_to_row(X, trial, single, memory, tried)
                for i in range(n):
                    tried[i] = min(closest[i], tried[i])
                left = total_of(tried, weight, scale)
                if least < 0 or left < least:
                    least, chosen = left, trial
                    tried, best = best, tried
            closest, best = best, closest
        for j in range(centers.shape[1]):
            centers[k, j] = X[chosen, j]


def _assign(centers, codes, sums, memory):  # type: ignore[no-untyped-def]
    """Renew labels and distances, move the rows that change cluster among the sums, and return how many do."""
    n, width = codes.shape
    nearest, sq = memory.nearest, memory.sq[1]
    n_moved = np.int64(0)
    for start in range(0, n, TILE):
        m = min(TILE, n - start)
        closest, label = memory.sq[0, start : start + m], memory.labels[start : start + m]
        for i in range(m):
            closest[i] = np.inf
            nearest[i] = 0
        for k in range(centers.shape[0]):
            sq_tile(memory.columns, start, m, centers[k], sq)
            for i in range(m):
                nearest[i] = k if sq[i] < closest[i] else nearest[i]
                closest[i] = sq[i] if sq[i] < closest[i] else closest[i]
        for i in range(m):
            old, new = label[i], nearest[i]
            if old != new:
                n_moved += 1
                label[i] = new
                for j in range(width):
                    sums[new, j] += codes[start + i, j]
                if old >= 0:
                    for j in range(width):
                        sums[old, j] -= codes[start + i, j]
    return n_moved


def _relocate(weight, codes, sums, memory):  # type: ignore[no-untyped-def]
    """Give each empty cluster the row of positive weight farthest from its own center, as `lloyd`, in `sums` alone.

    The weights of the clusters are where `recenter` has left them.
    """
    n, width = codes.shape
    far, any_moved = memory.sq[1, :n], False
    for i in range(n):
        far[i] = memory.sq[0, i] if weight.size == 0 or weight[i] > 0 else -1.0
    for k in range(sums.shape[0]):
        if memory.work[k] == 0:
            row = 0
            for i in range(n):
                row = i if far[i] > far[row] else row
            if far[row] < 0 or (far[row] == 0 and not any_moved):
                return
            any_moved = True
            far[row] = -1.0
            for j in range(width):
                sums[memory.labels[row], j] -= codes[row, j]
                sums[k, j] += codes[row, j]


plus_plus = compiled(_plus_plus, inner=True)
assign = compiled(_assign, inner=True)
relocate = compiled(_relocate, inner=True)


def _lloyd(k, d, weight, codes, unscale, threshold, max_iter, memory):  # type: ignore[no-untyped-def]
    """Lloyd's loop from the centers in the memory, as `lloyd.fit_lloyd`; returns (iterations, place of the centers)."""
    n, width = codes.shape
    sums = memory.sums[0, : k * width].reshape((k, width))
    filled = memory.sums[1, : k * width].reshape((k, width))
    for i in range(n):
        memory.labels[i] = -1
    for a in range(k):
        for j in range(width):
            sums[a, j] = 0
    n_iter, place = 0, 0
    while True:
        before = memory.centers[place, : k * d].reshape((k, d))
        after = memory.centers[1 - place, : k * d].reshape((k, d))
        n_moved = assign(before, codes, sums, memory)
        n_empty, shift_sq, changed = recenter(sums, unscale, np.bool_(False), before, after, memory.work)
        if n_empty > 0:
            for a in range(k):
                for j in range(width):
                    filled[a, j] = sums[a, j]
            relocate(weight, codes, filled, memory)
            _, shift_sq, changed = recenter(filled, unscale, np.bool_(True), before, after, memory.work)
        n_iter += 1
        place = 1 - place
        if n_moved == 0 or shift_sq <= threshold or n_iter == max_iter:
            break
    if changed:
        assign(after, codes, sums, memory)
    return n_iter, place


def _inertia(sq, weight, bits):  # type: ignore[no-untyped-def]
    """As `base.Backend.total_inertia`."""
    peak = peak_of(sq, weight)
    if peak == np.inf:
        return peak
    e = exponent(peak, bits)
    scale, low_scale = math.ldexp(1.0, e), math.ldexp(1.0, bits)
    high, low = np.int64(0), np.int64(0)
    for i in range(sq.size):
        w = weight[i] if weight.size else 1.0
        y = w * sq[i] * scale if w > 0 else 0.0
        high += np.int64(np.rint(y))
        low += np.int64(np.rint((y - np.rint(y)) * low_scale))
    return (np.float64(high) + np.float64(low) / low_scale) * math.ldexp(1.0, -e)


def _differs(labels, others, renamed):  # type: ignore[no-untyped-def]
    """Whether `others` is another clustering than `labels`: not `kmeans._is_same_clustering`."""
    for a in range(renamed.size):
        renamed[a] = -1
    for i in range(labels.size):
        renamed[labels[i]] = others[i]
    n_different = 0
    for i in range(labels.size):
        n_different += renamed[labels[i]] != others[i]
    return n_different > 0


lloyd = compiled(_lloyd, inner=True)
inertia_of = compiled(_inertia, inner=True)
differs = compiled(_differs, inner=True)


def _fit(values, weights, starts, problems, tol, max_iter, labels, centers, found, memory):  # type: ignore[no-untyped-def]
    """Fit each of the problems in the table; fills labels, centers and found."""
    for p in range(problems.shape[0]):
        line = problems[p]
        n, d, k, single, bits, n_trials = line[N], line[D], line[K], line[SINGLE] != 0, line[BITS], line[TRIALS]
        X = values[line[VALUES] : line[VALUES] + n * d].reshape((n, d))
        weight = weights[line[WEIGHTS] : line[WEIGHTS] + n] if line[WEIGHTS] >= 0 else weights[:0]
        scale, unscale = memory.scale[0, : d + 2], memory.scale[1, : d + 2]
        by_columns(X, single, memory)
        width = d + 2 if single else 2 * d + 2
        codes = memory.codes[: n * width].reshape((n, width))
        encode(X, weight, bits, scale, unscale, codes)
        threshold = tol * mean_variance(X, bits) if tol > 0 else 0.0
        start = memory.centers[0, : k * d].reshape((k, d))
        own, kept = memory.labels[:n], labels[line[LABELS] : line[LABELS] + n]
        best, renamed = centers[line[CENTERS] : line[CENTERS] + k * d], memory.renamed[:k]
        for run in range(line[RUNS]):
            if n_trials > 0:
                first = line[STARTS] + run * (1 + (k - 1) * n_trials)
                plus_plus(X, single, weight, scale[d], starts[first:], n_trials, bits, memory, start)
            else:
                for i in range(k * d):
                    memory.centers[0, i] = starts[line[STARTS] + run * k * d + i]
            n_iter, place = lloyd(k, d, weight, codes, unscale, threshold, max_iter, memory)
            inertia = inertia_of(memory.sq[0, :n], weight, bits)
            if run == 0 or (inertia < found[p, INERTIA] and differs(own, kept, renamed)):
                found[p, INERTIA], found[p, ITERATIONS] = inertia, n_iter
                for i in range(n):
                    kept[i] = own[i]
                for i in range(k * d):
                    best[i] = memory.centers[place, i]
        for a in range(k):
            renamed[a] = 0
        for i in range(n):
            renamed[kept[i]] = 1
        n_used = 0
        for a in range(k):
            n_used += renamed[a]
        found[p, USED] = n_used


fit = compiled(_fit)
