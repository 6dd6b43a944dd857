"""Compiled kernels of k-means++ on the CPU.

A candidate improves few rows once there are some centers, and only those change a potential: the trials of a step
are worth the current total less what each gains. Which rows a trial improves is kept as one bit a trial.

Rows are named by number or, where the vector code reads them, by address.
"""

from __future__ import annotations

import numpy as np

from ._numba_compiler import compiled
from ._numba_passes import weighted_max
from ._simd import address_of
from ._simd_seeding import DENSE, ROWS, TRIALS, make_add_gains, make_fetch, make_try_rows

BATCH = 1024
"""Rows listed at a time."""

fetch = make_fetch()
_try32, _gains32 = make_try_rows(double=False), make_add_gains(double=False)
_try64, _gains64 = make_try_rows(double=True), make_add_gains(double=True)


def _try_rows(rows, limits, m, trials, places, bits, sqdist):  # type: ignore[no-untyped-def]
    """Rows that are closer to a trial than their limit: `make_try_rows`, in the dtype of X."""
    a, b, c, e = address_of(rows, 0), address_of(limits, 0), address_of(trials, 0), address_of(places, 0)
    if trials.itemsize == 4:
        return _try32(a, b, m, c, trials.shape[0], e, address_of(bits, 0), address_of(sqdist, 0))
    return _try64(a, b, m, c, trials.shape[0], e, address_of(bits, 0), address_of(sqdist, 0))


def _add_gains(before, after, weights, m, scale, gains):  # type: ignore[no-untyped-def]
    """By how much the trials lower the potentials: `make_add_gains`, in the dtype of X."""
    a, b, c = address_of(before, 0), address_of(after, 0), address_of(weights, 0)
    if before.itemsize == 4:
        _gains32(a, b, c, m, scale, address_of(gains, 0))
    else:
        _gains64(a, b, c, m, scale, address_of(gains, 0))


def _potential(weight, i, sq, scale):  # type: ignore[no-untyped-def]
    y = np.float64(sq)
    if weight.size:
        y = weight[i] * y
    return np.int64(np.rint(y * scale))


def _gather(X, closest, numbers, m, stop, rows, limits):  # type: ignore[no-untyped-def]
    """Address and limit of each row listed, behind them of row `stop`, with a limit that nothing is below.

    Where few rows are listed (less than 1 in DENSE) they are fetched here, all at once.
    """
    base = address_of(X, 0)
    for a in range(m):
        rows[a] = base + numbers[a] * X.strides[0]
        limits[a] = closest[numbers[a]]
    if m and m * DENSE < stop - numbers[0]:
        for a in range(m):
            fetch(rows[a], X.strides[0])
    rows[m : m + ROWS] = base + stop * X.strides[0]
    limits[m : m + ROWS] = 0


try_rows = compiled(_try_rows)
add_gains = compiled(_add_gains)
potential = compiled(_potential)
gather = compiled(_gather)


def _seed_bounds(centers, trials, shrink, tiny, bounds):  # type: ignore[no-untyped-def]
    """For each center the largest `closest` of its own rows that surely none of the trials improves.

    Parameters
    ----------
    centers : ndarray of int64, shape (n,)
        Addresses.
    trials : ndarray in the dtype of X, shape (n_groups, n_features, TRIALS)
    shrink, tiny : float
        Of `triangle_margin`.
    bounds : ndarray in the dtype of X, shape (n,)
        The largest number on entry, which stays where all distances overflow.
    """
    n = centers.size
    rows, limits = np.empty(n + ROWS, np.int64), np.empty(n + ROWS, bounds.dtype)
    places, bits = np.empty(n + ROWS, np.int64), np.empty(n + ROWS, np.uint8)
    sqdist = np.empty((n + ROWS, TRIALS), bounds.dtype)
    for c in range(n + ROWS):
        rows[c] = centers[min(c, n - 1)]
        limits[c] = np.inf if c < n else 0.0
    for g in range(trials.shape[0]):
        n_found = try_rows(rows, limits, n, trials[g], places, bits, sqdist)
        for f in range(n_found):
            for t in range(TRIALS):
                bounds[places[f]] = min(bounds[places[f]], sqdist[f, t])
    for c in range(n):
        bounds[c] = max(np.float64(bounds[c]) * shrink - tiny, 0.0)


def _seed_trials(X, low, high, size, weight, closest, owner, bounds, trials, scale, listed, bits, counts, gains):  # type: ignore[no-untyped-def]
    """List the rows that a trial improves, and add to `gains` by how much.

    Parameters
    ----------
    low, high, size : int
        Chunks, of `size` rows.
    bounds : ndarray in the dtype of X, shape (n_centers,) or (0,)
        Of `seed_bounds`; empty: every row is tried.
    trials : ndarray in the dtype of X, shape (n_groups, n_features, TRIALS)
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
    room = BATCH + ROWS
    numbers, rows, limits = np.empty(BATCH, np.int64), np.empty(room, np.int64), np.empty(room, X.dtype)
    places, found, after = np.empty(room, np.int64), np.empty(room, np.uint8), np.empty((room, TRIALS), X.dtype)
    before, weights = np.empty(BATCH, X.dtype), np.ones(BATCH)  # 1.0 * y is y
    for chunk in range(low, high):
        first, end = chunk * size, min((chunk + 1) * size, closest.size)
        counts[:, chunk] = 0
        for start in range(first, end, BATCH):
            stop = min(start + BATCH, end)
            m = np.int64(0)
            if bounds.size:
                for i in range(start, stop):
                    numbers[m] = i
                    m += np.int64(closest[i] > bounds[owner[i]])  # without a branch, which would be mispredicted
            else:
                m += stop - start
                for a in range(m):
                    numbers[a] = start + a
            gather(X, closest, numbers, m, stop, rows, limits)
            for g in range(trials.shape[0]):
                n_found = try_rows(rows, limits, m, trials[g], places, found, after)
                for f in range(n_found):
                    before[f] = limits[places[f]]
                    if weight.size:
                        weights[f] = weight[numbers[places[f]]]
                add_gains(before, after, weights, n_found, scale, gains[g])
                if g < counts.shape[0]:
                    at = first + counts[g, chunk]
                    counts[g, chunk] += n_found
                    for f in range(n_found):
                        listed[g, at + f] = numbers[places[f]] - first
                        bits[g, at + f] = found[f]


def _seed_update(  # type: ignore[no-untyped-def]
    X, low, high, size, weight, closest, owner, number, trial, bit, listed, bits, counts, scale, sums, peaks
):  # fmt: skip
    """Make a trial a center: renew what is kept of the rows that it improves.

    Parameters
    ----------
    low, high, size : int
        Chunks, of `size` rows.
    number : int
        Of the center; the rows' `owner` from now on.
    trial : ndarray in the dtype of X, shape (n_features, TRIALS)
        The center in every lane.
    bit, listed, bits, counts
        Of `seed_trials`, for the trial's group: the rows beside which this bit is set.
    sums : ndarray of int64, shape (n_chunks,)
        Potentials by `scale`; kept up to date.
    peaks : ndarray of float64, shape (n_chunks,)
        Largest ``w closest``; likewise.
    """
    room = BATCH + ROWS
    numbers, rows, limits = np.empty(BATCH, np.int64), np.empty(room, np.int64), np.empty(room, X.dtype)
    places, found, after = np.empty(room, np.int64), np.empty(room, np.uint8), np.empty((room, TRIALS), X.dtype)
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
            gather(X, closest, numbers, m, numbers[m - 1], rows, limits)
            try_rows(rows, limits, m, trial, places, found, after)  # finds them all
            for a in range(m):
                i = numbers[a]
                w = weight[i] if weight.size else 1.0  # 1.0 * y is y
                before = w * np.float64(limits[a])
                top = before if before > top else top  # not where 0 times infinity is NaN
                change += np.int64(np.rint(w * np.float64(after[a, 0]) * scale)) - np.int64(np.rint(before * scale))
                closest[i] = after[a, 0]
                owner[i] = number
        sums[chunk] += change
        if top >= peaks[chunk] or number == 0:
            peaks[chunk] = weighted_max(closest, weight, first, min(first + size, closest.size))


def _seed_sums(closest, weight, low, high, size, scale, sums):  # type: ignore[no-untyped-def]
    """Potential of each of the chunks low..high of `size` rows."""
    for chunk in range(low, high):
        total = np.int64(0)
        for i in range(chunk * size, min((chunk + 1) * size, closest.size)):
            total += potential(weight, i, closest[i], scale)
        sums[chunk] = total


def _seed_find(closest, weight, size, scale, chunks, before, values, found):  # type: ignore[no-untyped-def]
    """For each value the first row of its chunk at which the running sum, `before` the chunk on entry, exceeds it."""
    for v in range(values.size):
        i = chunks[v] * size
        last = min(i + size, closest.size) - 1
        total = before[v] + potential(weight, i, closest[i], scale)
        while total <= values[v] and i < last:
            i += 1
            total += potential(weight, i, closest[i], scale)
        found[v] = i


seed_bounds = compiled(_seed_bounds, allocates=True)
seed_trials = compiled(_seed_trials, allocates=True)
seed_update = compiled(_seed_update, allocates=True)
seed_sums = compiled(_seed_sums)
seed_find = compiled(_seed_find)
