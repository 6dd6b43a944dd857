"""Kernels before the loop: k-means++ as in ``seed.cu``, and what a fit must know of its data as in ``summary.cu``."""

# Numba types what is in this file, mypy cannot.
# mypy: disable-error-code="attr-defined, no-untyped-call, no-untyped-def"
from __future__ import annotations

import numpy as np
from numba import cuda

from ._launch import TILES
from ._numba_cuda_exact import (
    MAX_THREADS,
    add,
    bits64,
    block_max,
    block_scan,
    block_sum,
    device,
    fixed_high,
    kernel,
    mul,
    sub,
    weighted,
)

SEED_ROWS = TILES.seed_block_rows
LARGEST_KEY = np.uint64(2**64 - 1)
SIGN = np.int64(-(2**63))


# ------------------------------------------------------------------------------------------------ k-means++
@device
def _distance(x, i, center, d):
    """Squared distance of row i of x (n, d) to center (d,) in T, features in order, each operation rounded in T.

    For float32 each operation is done in float64 and then rounded: 53 bits are more than 2 * 24 + 1, so the two
    roundings give what one would, also among the subnormals: sums are exact there, and so is every product in float64.
    """
    acc = x.dtype.type(0)
    for j in range(d):
        t = x.dtype.type(sub(np.float64(x[i, j]), np.float64(center[j])))
        square = x.dtype.type(mul(np.float64(t), np.float64(t)))
        acc = x.dtype.type(add(np.float64(acc), np.float64(square)))
    return acc


@device
def _potential(closest, weight, i, scale):
    """rint(w closest 2^e) of row i, for the distance `closest` to its nearest center."""
    return fixed_high(weighted(weight, i, np.float64(closest)), scale)


@kernel
def seed_update(x, center, weight, closest, top, first, n, d):
    """Each of closest (n,) T becomes the smaller of itself and the distance to center (d,); with `first` the distance.

    x (n, d) T; weight (n,) or None; top (1,) float64 grows to the largest w closest. Any number of blocks.
    """
    scratch = cuda.shared.array(MAX_THREADS, np.float64)
    largest = 0.0
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        distance = _distance(x, i, center, d)
        if first == 0 and not distance < closest[i]:
            distance = closest[i]
        closest[i] = distance
        y = weighted(weight, i, np.float64(distance))
        if y > largest:
            largest = y
    largest = block_max(largest, scratch)
    if cuda.threadIdx.x == 0:
        cuda.atomic.max(top, 0, largest)  # the atomic: every block has a maximum


@kernel
def seed_potentials(closest, weight, scale, ends, n):
    """Sums of the potentials of SEED_ROWS rows, a block each, to ends (ceil(n / SEED_ROWS),) int64."""
    scratch = cuda.shared.array(MAX_THREADS, np.int64)
    begin = np.int64(cuda.blockIdx.x) * SEED_ROWS
    part = np.int64(0)
    for i in range(begin + cuda.threadIdx.x, min(begin + SEED_ROWS, n), cuda.blockDim.x):
        part += _potential(closest[i], weight, i, scale)
    part = block_sum(part, scratch)
    if cuda.threadIdx.x == 0:
        ends[cuda.blockIdx.x] = part


@kernel
def seed_scan(ends, m):
    """Inclusive prefix sums of ends (m,) int64, in place. One block."""
    scratch = cuda.shared.array(MAX_THREADS, np.int64)
    carry = np.int64(0)
    for i0 in range(0, m, cuda.blockDim.x):
        i = i0 + cuda.threadIdx.x
        v = block_scan(ends[i] if i < m else np.int64(0), scratch)
        if i < m:
            ends[i] = carry + v
        carry += scratch[cuda.blockDim.x - 1]


@kernel
def seed_find(closest, weight, scale, ends, values, rows, n):
    """For each of values (t,) the first row whose prefix sum of potentials exceeds it, to rows (t,); a block each."""
    scratch = cuda.shared.array(MAX_THREADS, np.int64)
    value = values[cuda.blockIdx.x]
    low, high = np.int64(0), (n + SEED_ROWS - 1) // SEED_ROWS - 1  # the first group of rows whose end exceeds value
    while low < high:
        middle = (low + high) // 2
        if ends[middle] > value:
            high = middle
        else:
            low = middle + 1
    prefix = ends[low - 1] if low > 0 else np.int64(0)
    for i0 in range(low * SEED_ROWS, n, cuda.blockDim.x):
        i = i0 + cuda.threadIdx.x
        own = _potential(closest[i], weight, i, scale) if i < n else np.int64(0)
        after = prefix + block_scan(own, scratch)
        if after - own <= value and after > value:  # of one thread: potentials are not negative
            rows[cuda.blockIdx.x] = i
        prefix += scratch[cuda.blockDim.x - 1]
        if prefix > value:
            return


@kernel
def seed_trials(x, candidates, closest, weight, scale, potentials, n, d, trials):
    """Each of potentials (trials,) grows by the total potential if that one of candidates (trials, d) were chosen.

    One pass over the rows for each candidate. Any number of blocks.
    """
    scratch = cuda.shared.array(MAX_THREADS, np.int64)
    for t in range(trials):
        part = np.int64(0)
        for i in range(cuda.grid(1), n, cuda.gridsize(1)):
            distance = _distance(x, i, candidates[t], d)
            if not distance < closest[i]:
                distance = closest[i]
            part += _potential(distance, weight, i, scale)
        part = block_sum(part, scratch)
        if cuda.threadIdx.x == 0:
            cuda.atomic.add(potentials, t, part)  # the atomic: every block has a sum


# ------------------------------------------------------------------------------------------------ summary
@device
def _key(v):
    """uint64 that orders like the float64 v, -0.0 below 0.0."""
    u = bits64(v)
    return np.uint64(u ^ ((u >> 63) | SIGN))


@kernel
def summary(x, low, high, not_finite, n, d, lanes):
    """Keys of the smallest and largest value of each feature; not_finite (1,) uint32 becomes 1 at a NaN or infinity.

    x (n, d) T; low, high (d,) uint64, at first all ones and all zeros. lanes: threads a row. Any number of blocks.
    """
    lanes = min(lanes, cuda.blockDim.x)
    rows = cuda.blockDim.x // lanes
    begin = np.int64(cuda.blockIdx.x) * rows + cuda.threadIdx.x // lanes
    bad = False
    for j in range(cuda.threadIdx.x % lanes, d, lanes):
        smallest, largest = LARGEST_KEY, np.uint64(0)
        for i in range(begin, n, np.int64(cuda.gridDim.x) * rows):
            v = np.float64(x[i, j])
            if v - v != 0.0:  # NaN, also of two infinities
                bad = True
            key = _key(v)
            smallest, largest = min(smallest, key), max(largest, key)
        cuda.atomic.min(low, j, smallest)  # the atomics: threads of all blocks share a feature
        cuda.atomic.max(high, j, largest)
    if bad:
        cuda.atomic.max(not_finite, 0, np.uint32(1))  # the atomic: any thread of the grid may find one


@kernel
def weighted_peaks(x, weight, peaks, n, d, lanes):
    """The largest |w x| of each feature of x (n, d), to peaks (d,) float64, at first 0. lanes: threads a row."""
    lanes = min(lanes, cuda.blockDim.x)
    rows = cuda.blockDim.x // lanes
    begin = np.int64(cuda.blockIdx.x) * rows + cuda.threadIdx.x // lanes
    for j in range(cuda.threadIdx.x % lanes, d, lanes):
        largest = 0.0
        for i in range(begin, n, np.int64(cuda.gridDim.x) * rows):
            largest = max(largest, abs(weighted(weight, i, np.float64(x[i, j]))))
        cuda.atomic.max(peaks, j, largest)  # the atomic: threads of all blocks share a feature


@kernel
def moments(x, pivot, scale1, scale2, first, second, n, d, lanes):
    """The sums of the codes of q = x - pivot and of q q, to first, second (d,) int64, at first 0. lanes: as above."""
    lanes = min(lanes, cuda.blockDim.x)
    rows = cuda.blockDim.x // lanes
    begin = np.int64(cuda.blockIdx.x) * rows + cuda.threadIdx.x // lanes
    for j in range(cuda.threadIdx.x % lanes, d, lanes):
        a = b = np.int64(0)
        for i in range(begin, n, np.int64(cuda.gridDim.x) * rows):
            q = sub(np.float64(x[i, j]), pivot[j])
            a += fixed_high(q, scale1[j])
            b += fixed_high(mul(q, q), scale2[j])
        cuda.atomic.add(first, j, a)  # the atomics: threads of all blocks share a feature
        cuda.atomic.add(second, j, b)
