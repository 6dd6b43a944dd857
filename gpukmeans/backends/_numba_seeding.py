"""Compiled kernels of k-means++ on the CPU.

A candidate improves few rows once there are some centers, and only those change a potential: the trials of a step
are worth the current total less what each gains. Which rows a trial improves is kept as one bit a trial.

Rows are named by number or, where the vector code reads them, by address. Only that code computes in the dtype of X;
its distances are kept as float64 here, so one kernel does for both. X, closest, trials: as float32 and as float64, one
of them empty, see `both_types`. scratch: `Scratch`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..exact import Float64Array, Int64Array
from ._numba_compiler import compiled
from ._numba_passes import weighted_max
from ._simd_rows import address_of
from ._simd_seeding import DENSE, ROWS, TRIALS, make_add_gains, make_fetch, make_try_rows

BATCH = 1024
"""Rows listed at a time."""


class Scratch(NamedTuple):
    """Memory of one worker, for BATCH rows and some behind them.

    Attributes
    ----------
    longs : ndarray of int64, shape (3, .)
        Numbers of rows, their addresses, and places in these lists of the rows that are closer to a trial.
    doubles : ndarray of float64, shape (4, .)
        `closest`, all or of the rows listed, once more of those that are closer to a trial, and their weights.
    found : ndarray of uint8
        Bits of such rows.
    after : ndarray of float64, shape (., TRIALS)
        Distances of such rows.
    """

    longs: Int64Array
    doubles: Float64Array
    found: NDArray[np.uint8]
    after: Float64Array


def scratch() -> Scratch:
    """Memory for a worker."""
    room = BATCH + ROWS
    return Scratch(
        np.empty((3, room), dtype=np.int64),
        np.ones((4, room)),  # without weights they stay ones: 1.0 * y is y
        np.empty(room, dtype=np.uint8),
        np.empty((room, TRIALS)),
    )


fetch = make_fetch()
_try32, _try64 = make_try_rows(double=False), make_try_rows(double=True)
_add_gains = make_add_gains()


def _try_rows(rows, limits, m, trials, group, places, bits, sqdist):  # type: ignore[no-untyped-def]
    """Rows that are closer to a trial of this group than their limit: `make_try_rows`, in the dtype of X."""
    n_features = trials[0].shape[1]
    first = group * n_features * TRIALS
    a, b, c = address_of(rows, 0), address_of(limits, 0), address_of(places, 0)
    if trials[1].size:
        trial = address_of(trials[1], first)
        return _try64(a, b, m, trial, n_features, c, address_of(bits, 0), address_of(sqdist, 0))
    trial = address_of(trials[0], first)
    return _try32(a, b, m, trial, n_features, c, address_of(bits, 0), address_of(sqdist, 0))


def _value(values, i):  # type: ignore[no-untyped-def]
    return values[1][i] if values[1].size else np.float64(values[0][i])


def _potential(weight, i, sq, scale):  # type: ignore[no-untyped-def]
    y = weight[i] * sq if weight.size else sq
    return np.int64(np.rint(y * scale))


def _gather(X, numbers, m, stop, rows, limits):  # type: ignore[no-untyped-def]
    """Address of each row listed, behind them of row `stop`, with a limit that nothing is below.

    Where few rows are listed (less than 1 in DENSE) they are fetched here, all at once.
    """
    double = X[1].size > 0
    base = address_of(X[1], 0) if double else address_of(X[0], 0)
    row_bytes = X[0].shape[1] * (8 if double else 4)
    for a in range(m):
        rows[a] = base + numbers[a] * row_bytes
    if m and m * DENSE < stop - numbers[0]:
        for a in range(m):
            fetch(rows[a], row_bytes)
    for a in range(m, m + ROWS):
        rows[a] = base + stop * row_bytes
        limits[a] = 0


try_rows = compiled(_try_rows, inner=True)
value = compiled(_value, inline="always")
potential = compiled(_potential, inner=True)
gather = compiled(_gather, inner=True)


def _seed_bounds(centers, trials, shrink, tiny, bounds, scratch):  # type: ignore[no-untyped-def]
    """For each center the largest `closest` of its own rows that surely none of the trials improves.

    Parameters
    ----------
    centers : ndarray of int64, shape (n,)
        Addresses.
    trials : pair of ndarrays, shape (n_groups, n_features, TRIALS)
    shrink, tiny : float
        Of `triangle_margin`.
    bounds : ndarray of float64, shape (n,)
        The largest number of the dtype of X on entry, which stays where all distances overflow.
    """
    longs, doubles, found, after = scratch
    rows, places, limits = longs[1], longs[2], doubles[0]
    n_groups = trials[0].shape[0] + trials[1].shape[0]
    for first in range(0, centers.size, BATCH):
        n = min(BATCH, centers.size - first)
        for c in range(n + ROWS):
            rows[c] = centers[first + min(c, n - 1)]
            limits[c] = np.inf if c < n else 0.0
        for g in range(n_groups):
            n_found = try_rows(rows, limits, n, trials, g, places, found, after)
            for f in range(n_found):
                for t in range(TRIALS):
                    sq = after[f, t]
                    bounds[first + places[f]] = min(bounds[first + places[f]], sq)
    for c in range(centers.size):
        bounds[c] = max(bounds[c] * shrink - tiny, 0.0)


def _seed_trials(  # type: ignore[no-untyped-def]
    X, low, high, size, weight, closest, owner, bounds, trials, scale, listed, bits, counts, gains, scratch
):  # fmt: skip
    """List the rows that a trial improves, and add to `gains` by how much.

    Parameters
    ----------
    low, high, size : int
        Chunks, of `size` rows.
    bounds : ndarray of float64, shape (n_centers,) or (0,)
        Of `seed_bounds`; empty: every row is tried.
    trials : pair of ndarrays, shape (n_groups, n_features, TRIALS)
    listed : ndarray of uint16, shape (n_kept, n_samples)
        For each group that is kept the rows that any of its trials improves, counted from the start of their chunk,
        where the list of the chunk starts, too.
    bits : ndarray of uint8, shape (n_kept, n_samples)
        Bit t beside such a row: closer to that trial than to any center.
    counts : ndarray of int64, shape (n_kept, n_chunks)
        Length of the list.
    gains : ndarray of int64, shape (n_groups, TRIALS)
        Potentials before less potentials after.
    """
    longs, doubles, found, after = scratch
    numbers, rows, places = longs[0], longs[1], longs[2]
    near, limits, before, weights = doubles[0], doubles[1], doubles[2], doubles[3]
    n_samples = owner.size
    for chunk in range(low, high):
        first, end = chunk * size, min((chunk + 1) * size, n_samples)
        for g in range(counts.shape[0]):
            counts[g, chunk] = 0
        for start in range(first, end, BATCH):
            stop = min(start + BATCH, end)
            own = owner[start:stop]
            for i in range(own.size):
                near[i] = value(closest, start + i)
            m = np.int64(0)
            if bounds.size:
                for i in range(own.size):
                    numbers[m] = start + i
                    limits[m] = near[i]
                    m += np.int64(near[i] > bounds[own[i]])  # without a branch, which would be mispredicted
            else:
                m += own.size
                for i in range(own.size):
                    numbers[i] = start + i
                    limits[i] = near[i]
            gather(X, numbers, m, stop, rows, limits)
            for g in range(gains.shape[0]):
                n_found = try_rows(rows, limits, m, trials, g, places, found, after)
                for f in range(n_found):
                    before[f] = limits[places[f]]
                    if weight.size:
                        weights[f] = weight[numbers[places[f]]]
                _add_gains(
                    address_of(before, 0), address_of(after, 0), address_of(weights, 0), n_found, scale,
                    address_of(gains, g * TRIALS),
                )  # fmt: skip
                if g < counts.shape[0]:
                    at = first + counts[g, chunk]
                    counts[g, chunk] += n_found
                    for f in range(n_found):
                        listed[g, at + f] = numbers[places[f]] - first
                        bits[g, at + f] = found[f]


def _seed_update(  # type: ignore[no-untyped-def]
    X, low, high, size, weight, closest, owner, number, trial, bit, listed, bits, counts, scale, sums, peaks, scratch
):  # fmt: skip
    """Make a trial a center: renew what is kept of the rows that it improves.

    Parameters
    ----------
    low, high, size : int
        Chunks, of `size` rows.
    number : int
        Of the center; the rows' `owner` from now on.
    trial : pair of ndarrays, shape (1, n_features, TRIALS)
        The center in every lane.
    bit, listed, bits, counts
        Of `seed_trials`, for the trial's group: the rows beside which this bit is set.
    sums : ndarray of int64, shape (n_chunks,)
        Potentials by `scale`; kept up to date.
    peaks : ndarray of float64, shape (n_chunks,)
        Largest ``w closest``; likewise.
    """
    longs, doubles, found, after = scratch
    numbers, rows, places, limits = longs[0], longs[1], longs[2], doubles[0]
    group = np.int64(0)  # for a literal `try_rows` would be compiled once more
    for chunk in range(low, high):
        first = chunk * size
        end = first + counts[chunk]
        top = -1.0  # what the largest of them was
        change = np.int64(0)
        for start in range(first, end, BATCH):
            m = np.int64(0)
            stop = min(start + BATCH, end)
            for e in range(start, stop):
                numbers[m] = first + listed[e]
                m += np.int64(bits[e] & bit != 0)
            if m == 0:
                continue
            for a in range(m):
                limits[a] = value(closest, numbers[a])
            gather(X, numbers, m, numbers[m - 1], rows, limits)
            try_rows(rows, limits, m, trial, group, places, found, after)  # finds them all
            for a in range(m):
                i = numbers[a]
                w = weight[i] if weight.size else 1.0  # 1.0 * y is y
                before = w * limits[a]
                top = before if before > top else top  # not where 0 times infinity is NaN
                change += np.int64(np.rint(w * after[a, 0] * scale)) - np.int64(np.rint(before * scale))
                if closest[1].size:
                    closest[1][i] = after[a, 0]
                else:
                    closest[0][i] = after[a, 0]
                owner[i] = number
        sums[chunk] += change
        if top >= peaks[chunk] or number == 0:
            peaks[chunk] = weighted_max(closest, weight, first, min(first + size, owner.size))


def _seed_sums(closest, weight, low, high, n_samples, size, scale, sums):  # type: ignore[no-untyped-def]
    """Potential of each of the chunks low..high of `size` rows."""
    for chunk in range(low, high):
        total = np.int64(0)
        for i in range(chunk * size, min((chunk + 1) * size, n_samples)):
            total += potential(weight, i, value(closest, i), scale)
        sums[chunk] = total


def _seed_find(closest, weight, n_samples, size, scale, chunks, before, values, found):  # type: ignore[no-untyped-def]
    """For each value the first row of its chunk at which the running sum, `before` the chunk on entry, exceeds it."""
    for v in range(values.size):
        i = chunks[v] * size
        last = min(i + size, n_samples) - 1
        total = before[v] + potential(weight, i, value(closest, i), scale)
        while total <= values[v] and i < last:
            i += 1
            total += potential(weight, i, value(closest, i), scale)
        found[v] = i


seed_bounds = compiled(_seed_bounds)
seed_trials = compiled(_seed_trials)
seed_update = compiled(_seed_update)
seed_sums = compiled(_seed_sums)
seed_find = compiled(_seed_find)
