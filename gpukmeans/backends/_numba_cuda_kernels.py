"""The kernels of ``kernels/*.cu`` once more, in Python for Numba: the same verbs, arguments and bits.

Written for reading rather than for speed, with nothing but barriers, shared arrays and atomics, which Numba's simulator
knows too. They take any number of blocks of up to `MAX_THREADS` threads, a power of two, with these exceptions:

* `assign`: SIDE * SIDE threads; ROWS rows a block and turn;
* `recenter`, `publish_centers`: a block a center; `seed_find`: a block a value;
* `seed_potentials`: a block for each `_launch.TILES.seed_block_rows` rows;
* `bound_terms`, `finish_iteration`, `seed_scan`, `farthest_of_all`: one block.
"""

# Numba types what is in this file, mypy cannot.
# mypy: disable-error-code="attr-defined, no-untyped-call, no-untyped-def"
from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from ._numba_cuda_assign import assign, recheck
from ._numba_cuda_centers import (
    bound_terms,
    finish_iteration,
    hide_duplicates,
    mean_center,
    publish_centers,
    recenter,
)
from ._numba_cuda_exact import (
    MAX_THREADS,
    block_max,
    block_sum,
    canonical,
    device,
    fixed_high,
    fixed_low,
    kernel,
    mul,
    root,
    weighted,
)
from ._numba_cuda_seeding import (
    moments,
    seed_find,
    seed_potentials,
    seed_scan,
    seed_trials,
    seed_update,
    summary,
    weighted_peaks,
)

# aligned: else Numba reads and writes the fields byte by byte
UNCERTAIN = np.dtype([("row", "i8"), ("best", "f4"), ("gap", "f4")], align=True)
"""`Uncertain` of exact.cuh: an entry of the list of `assign`."""
FAR = np.dtype([("own", "f8"), ("row", "i8")], align=True)
"""`Far` of farthest.cu."""


# ------------------------------------------------------------------------------------------------ sums
@device
def _move_feature(x, weight, i, j, label, to, scale, two_bits, sums, sums_low):
    """Move w x of row i and feature j from cluster `label` (< 0: none) to cluster `to`."""
    y = weighted(weight, i, np.float64(x[i, j]))
    high = fixed_high(y, scale[j])
    # the atomics, here and below: rows of all threads add to one cluster. Integers add exactly in any order
    cuda.atomic.add(sums, (to, j), high)
    if label >= 0:
        cuda.atomic.add(sums, (label, j), -high)
    if sums_low is not None:
        low = fixed_low(y, scale[j], high, two_bits)
        cuda.atomic.add(sums_low, (to, j), low)
        if label >= 0:
            cuda.atomic.add(sums_low, (label, j), -low)


@device
def _move_weight(weight, i, label, to, wscale, two_bits, weights, weights_low):
    """Move the weight of row i, or without weights a count of one, from cluster `label` (< 0: none) to cluster `to`."""
    if weight is None:
        cuda.atomic.add(weights, to, np.int64(1))
        if label >= 0:
            cuda.atomic.add(weights, label, np.int64(-1))
    else:
        high = fixed_high(weight[i], wscale)
        low = fixed_low(weight[i], wscale, high, two_bits)
        cuda.atomic.add(weights, to, high)
        cuda.atomic.add(weights_low, to, low)
        if label >= 0:
            cuda.atomic.add(weights, label, -high)
            cuda.atomic.add(weights_low, label, -low)


@device
def _move(x, weight, fresh, label, scale, wscale, two_bits, sums, sums_low, weights, weights_low, tally, n, d, lanes):
    """Rows whose label changed leave their old cluster and join the new one, and `label` becomes `fresh`.

    A block looks at a row a thread, then works through those that changed, `lanes` threads a row.
    """
    queue = cuda.shared.array(MAX_THREADS, np.int32)
    length = cuda.shared.array(1, np.int32)
    tid = cuda.threadIdx.x
    lanes = min(lanes, cuda.blockDim.x)
    for base in range(np.int64(cuda.blockIdx.x) * cuda.blockDim.x, n, cuda.gridsize(1)):
        if tid == 0:
            length[0] = 0
        cuda.syncthreads()  # the queue is empty before a row takes a place
        mine = base + tid
        changed = False
        if mine < n:
            changed = fresh[mine] != label[mine]
        if changed:
            queue[cuda.atomic.add(length, 0, 1)] = tid  # the atomic: a place for each row of the block
        cuda.syncthreads()  # the queue is whole before any thread reads it
        if tid == 0:
            cuda.atomic.add(tally, 0, np.uint64(length[0]))  # the atomic: every block counts
        for q in range(tid // lanes, length[0], cuda.blockDim.x // lanes):
            i = base + queue[q]
            old, to = np.int64(label[i]), np.int64(fresh[i])
            for j in range(tid % lanes, d, lanes):
                _move_feature(x, weight, i, j, old, to, scale, two_bits, sums, sums_low)
            if tid % lanes == 0:
                _move_weight(weight, i, old, to, wscale, two_bits, weights, weights_low)
        cuda.syncthreads()  # all are done with the queue and the old labels before either is overwritten
        if changed:
            label[mine] = fresh[mine]


@kernel
def move_rows(
    x, weight, fresh, label, scale, wscale, two_bits, sums, sums_low, weights, weights_low,
    tally, halted, n, d, lanes,
):  # fmt: skip
    """Rows whose label changed leave their old cluster and join the new one, and `label` becomes `fresh`.

    x (n, d) T; weight (n,) or None; fresh, label (n,) int32, < 0: in no cluster yet; scale (d,); sums (k, d), weights
    (k,) int64, sums_low and weights_low likewise or None, weights_low None without weights; tally (4,) uint64: [0]
    grows by the rows that moved; lanes: threads a row, a power of two.
    """
    if halted[0] != 0:
        return
    _move(
        x, weight, fresh, label, scale, wscale, two_bits, sums, sums_low, weights, weights_low, tally, n, d, lanes
    )  # fmt: skip


@kernel
def add_all_rows(
    x, weight, fresh, label, scale, wscale, two_bits, sums, sums_low, weights, weights_low,
    tally, halted, n, d, k, lanes,
):  # fmt: skip
    """As `move_rows`, for rows that are in no cluster yet: all of them move."""
    if halted[0] != 0:
        return
    _move(
        x, weight, fresh, label, scale, wscale, two_bits, sums, sums_low, weights, weights_low, tally, n, d, lanes
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ inertia
@kernel
def own_distance(x, centers, label, weight, own, top, n, d):
    """D of each row of x (n, d) to its own of centers (k, d), to own (n,); top (1,) grows to the largest w D."""
    scratch = cuda.shared.array(MAX_THREADS, np.float64)
    largest = 0.0
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        distance = canonical(x, i, centers, label[i], d)
        own[i] = distance
        y = weighted(weight, i, distance)
        if y > largest:
            largest = y
    largest = block_max(largest, scratch)
    if cuda.threadIdx.x == 0:
        cuda.atomic.max(top, 0, largest)  # the atomic: every block has a maximum


@kernel
def inertia_sum(own, weight, scale, two_bits, limbs, n):
    """Two limbs (2,) int64 grow by the sums of w D, for own (n,) and weight (n,) or None."""
    scratch = cuda.shared.array(MAX_THREADS, np.int64)
    high = low = np.int64(0)
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        y = weighted(weight, i, own[i])
        first = fixed_high(y, scale)
        high += first
        low += fixed_low(y, scale, first, two_bits)
    high = block_sum(high, scratch)
    low = block_sum(low, scratch)
    if cuda.threadIdx.x == 0:
        cuda.atomic.add(limbs, 0, high)  # the atomics: every block has two sums
        cuda.atomic.add(limbs, 1, low)


# ------------------------------------------------------------------------------------------------ empty clusters
@device
def _before(own_a, row_a, own_b, row_b):
    """Whether row a comes before row b in the order of relocation; row -1 is behind all others."""
    if row_a < 0 or row_b < 0:
        return row_b < 0 and row_a >= 0
    return own_a > own_b or (own_a == own_b and row_a < row_b)


@device
def _first_of_block(own, row, out):
    """The first of a candidate of each thread, to the record `out`."""
    owns = cuda.shared.array(MAX_THREADS, np.float64)
    rows = cuda.shared.array(MAX_THREADS, np.int64)
    tid = cuda.threadIdx.x
    owns[tid], rows[tid] = own, row
    cuda.syncthreads()  # all candidates are there before any are compared
    step = cuda.blockDim.x // 2
    while step > 0:
        if tid < step and _before(owns[tid + step], rows[tid + step], owns[tid], rows[tid]):
            owns[tid], rows[tid] = owns[tid + step], rows[tid + step]
        cuda.syncthreads()  # this level is decided before the next one reads it
        step //= 2
    if tid == 0:
        out["own"] = owns[0]
        out["row"] = rows[0]


@kernel
def farthest_of_block(own, weight, found, at, best, n):
    """The first row of each block in the order of relocation that comes after found[at - 1], to best (blocks,) FAR.

    own (n,) float64; weight (n,) or None: rows of weight 0 do not count; found (m,) FAR, row -1: there is no such row.
    """
    farthest, row = 0.0, np.int64(-1)
    if at == 0 or found[at - 1]["row"] >= 0:
        for i in range(cuda.grid(1), n, cuda.gridsize(1)):
            counts = True
            if weight is not None:
                counts = weight[i] > 0.0
            if counts and at > 0:
                counts = _before(found[at - 1]["own"], found[at - 1]["row"], own[i], i)
            if counts and _before(own[i], i, farthest, row):
                farthest, row = own[i], np.int64(i)
    _first_of_block(farthest, row, best[cuda.blockIdx.x])


@kernel
def farthest_of_all(best, blocks, found, at):
    """found[at]: the first of best (blocks,) FAR. One block."""
    farthest, row = 0.0, np.int64(-1)
    for b in range(cuda.threadIdx.x, blocks, cuda.blockDim.x):
        if _before(best[b]["own"], best[b]["row"], farthest, row):
            farthest, row = best[b]["own"], best[b]["row"]
    _first_of_block(farthest, row, found[at])


# ------------------------------------------------------------------------------------------------ the rest
@kernel
def transform(x, centers, distance, n, d, k):
    """The root of D of every row of x (n, d) and every one of centers (k, d), rounded once, to distance (n, k) T."""
    for pair in range(cuda.grid(1), n * k, cuda.gridsize(1)):
        i, c = pair // k, pair % k
        distance[i, c] = distance.dtype.type(root(canonical(x, i, centers, c, d)))


@kernel
def scale_values(x, y, first, second, size):
    """Values x (size,) times first times second, which are powers of two, to y, which may be x."""
    for i in range(cuda.grid(1), size, cuda.gridsize(1)):
        y[i] = y.dtype.type(mul(mul(np.float64(x[i]), first), second))


KERNELS: dict[str, Any] = {
    "assign_tiled": assign,
    "assign_small": assign,
    "recheck": recheck,
    "move_rows": move_rows,
    "add_all_rows": add_all_rows,
    "mean_center": mean_center,
    "publish_centers": publish_centers,
    "recenter": recenter,
    "hide_duplicates": hide_duplicates,
    "bound_terms": bound_terms,
    "finish_iteration": finish_iteration,
    "own_distance": own_distance,
    "inertia_sum": inertia_sum,
    "farthest_of_block": farthest_of_block,
    "farthest_of_all": farthest_of_all,
    "transform": transform,
    "seed_update": seed_update,
    "seed_potentials": seed_potentials,
    "seed_scan": seed_scan,
    "seed_find": seed_find,
    "seed_trials": seed_trials,
    "summary": summary,
    "weighted_peaks": weighted_peaks,
    "moments": moments,
    "scale_values": scale_values,
}
"""By the name that `_launch` gives each, without its template arguments."""
