"""Kernels of ``recenter.cu``: integer sums to new centers, and what the next fast pass needs of them."""

# Numba types what is in this file, mypy cannot.
# mypy: disable-error-code="attr-defined, no-untyped-call, no-untyped-def"
from __future__ import annotations

import numpy as np
from numba import cuda

from ._numba_cuda_exact import (
    INFINITY,
    MAX_THREADS,
    add,
    add_square,
    bits32,
    block_sum,
    device,
    div,
    from_bits32,
    kernel,
    limb,
    mantissa,
    mul,
    root,
    rounded_up,
    sub,
)

CLEAR_SIGN = 0x7FFFFFFF
LARGEST_NORM = 2.0**55  # exact.score_bound: from here on a score could overflow
GO_ON, STRICT, WITHIN_TOL, EMPTY = 0, 1, 2, 3  # base.State


@kernel
def mean_center(c, shift, halted, d, k):
    """Mean of the centers c (k, d), to shift (ldc,) T: it decides no bits, only how many rows are rechecked.

    A block takes a feature at a time: d blocks are best, any number will do.
    """
    if halted[0] != 0:
        return
    scratch = cuda.shared.array(MAX_THREADS, np.float64)
    for j in range(cuda.blockIdx.x, d, cuda.gridDim.x):
        part = 0.0
        for i in range(cuda.threadIdx.x, k, cuda.blockDim.x):
            part += np.float64(c[i, j])
        total = block_sum(part, scratch)
        if cuda.threadIdx.x == 0:
            shift[j] = c.dtype.type(total / k)


@device
def _publish(c, shift, cs, half, cmax, scratch, d):
    """Shifted center c' and half norm, of this block's center; cmax grows to |c'|.

    A thread reads of c (k, d) only what it has itself written in `recenter`.
    """
    at = cuda.blockIdx.x
    part = 0.0
    for j in range(cuda.threadIdx.x, d, cuda.blockDim.x):
        v = np.float32(c[at, j] - shift[j])
        cs[at, j] = v
        part = add_square(part, v, 0.0)
    norm_sq = block_sum(part, scratch)
    if cuda.threadIdx.x == 0:
        half[at] = np.float32(0.5 * norm_sq)
        # Bits of floats order like the floats, and a NaN is above infinity, so it is never lost.
        # 1.0000002: c' is rounded. The atomic: one value for all blocks.
        norm = rounded_up(root(norm_sq) * 1.0000002)
        cuda.atomic.max(cmax, 0, np.uint32(bits32(norm) & CLEAR_SIGN))


@kernel
def publish_centers(c, shift, cs, half, hashes, cmax, d, ldc):
    """Given centers c (k, d) T, laid out for `assign`: one block a center.

    shift (ldc,) T; cs (kp, ldc), half (kp,) float32; cmax (1,) uint32: bits of a float32. hashes (k,): not used here.
    """
    scratch = cuda.shared.array(MAX_THREADS, np.float64)
    _publish(c, shift, cs, half, cmax, scratch, d)


@device
def _cluster_weight(weights, weights_low, c, inverse_bits, inverse_wscale):
    return mul(mantissa(weights[c], limb(weights_low, c), inverse_bits), inverse_wscale)


@kernel
def recenter(
    sums, sums_low, weights, weights_low, inverse_scale, inverse_bits, inverse_wscale,
    before, after, shift, cs, half, hashes, cmax, moved_sq, tally, halted, d, ldc, k,
):  # fmt: skip
    """New centers ((hi + lo 2^-bits) / W) 2^-e, rounded to T, and what `publish_centers` gives: one block a center.

    sums, sums_low (k, d), weights, weights_low (k,) int64, the low ones or None; inverse_scale (d,);
    before, after (k, d) T; moved_sq (k,) float64: |after - before|^2; tally (4,) uint64: [2] grows by the clusters
    without weight, [3] by the centers that changed.
    """
    if halted[0] != 0:
        return
    scratch = cuda.shared.array(MAX_THREADS, np.float64)
    at, tid = cuda.blockIdx.x, cuda.threadIdx.x
    source = np.int64(at)
    w = _cluster_weight(weights, weights_low, source, inverse_bits, inverse_wscale)
    if w == 0.0:  # still empty: to the heaviest cluster's center (rare, so every thread looks)
        if tid == 0:
            cuda.atomic.add(tally, 2, np.uint64(1))  # the atomic: blocks of all clusters count
        for i in range(k):
            v = _cluster_weight(weights, weights_low, i, inverse_bits, inverse_wscale)
            if v > w:
                w, source = v, np.int64(i)
    sq = 0.0
    changed = 0
    for j0 in range(0, d, cuda.blockDim.x):
        j = j0 + tid
        if j < d:
            mean = div(mantissa(sums[source, j], _low_sum(sums_low, source, j), inverse_bits), w)
            v = after.dtype.type(mul(mean, inverse_scale[j]))
            after[at, j] = v
            t = sub(np.float64(v), np.float64(before[at, j]))
            if t != 0.0:
                changed = 1
            scratch[tid] = mul(t, t)
        cuda.syncthreads()  # all squares are there before thread 0 adds them in order
        if tid == 0:
            for i in range(min(cuda.blockDim.x, d - j0)):
                sq = add(sq, scratch[i])
        cuda.syncthreads()  # they are added before the next ones are written
    if tid == 0:
        moved_sq[at] = sq
    if cuda.syncthreads_or(changed) and tid == 0:  # of all threads; not sq: squares may vanish
        cuda.atomic.add(tally, 3, np.uint64(1))  # the atomic: blocks of all clusters count
    _publish(after, shift, cs, half, cmax, scratch, d)


@device
def _low_sum(sums_low, c, j):
    if sums_low is None:
        return 0
    return sums_low[c, j]


@device
def _same(c, a, b, d):
    j = 0
    while j < d and c[a, j] == c[b, j]:
        j += 1
    return j == d


@kernel
def hide_duplicates(c, hashes, half, halted, d, k):
    """Half norm +inf for all but the lowest of equal centers c (k, d), which alone can win. half (kp,) float32.

    Nearly all pairs differ in their first feature, so no hash is needed. Any number of blocks.
    """
    if halted[0] != 0:
        return
    for mine in range(cuda.blockIdx.x, k, cuda.gridDim.x):
        for i in range(cuda.threadIdx.x, mine, cuda.blockDim.x):
            if _same(c, i, mine, d):
                half[mine] = INFINITY  # by several threads, perhaps: the same value


@kernel
def bound_terms(cmax, chain, canonical_share, tiny, certify, bound, halted):
    """The bound (3,) float32 of `assign` from cmax (1,) and score_bound's constants; cmax back to 0. One block.

    certify 0: a bound that certifies everything.
    """
    if halted[0] != 0 or cuda.grid(1) != 0:
        return
    c = np.float64(from_bits32(cmax[0]))
    bound[1] = bound[2] = np.float32(0)
    if certify == 0:
        bound[0] = -INFINITY
    elif c <= LARGEST_NORM:  # which a NaN is not
        bound[0] = rounded_up(chain * (c * c / 2.0) + canonical_share * c * c + tiny * (1.0 + c))
        bound[1] = rounded_up(chain * c + tiny)
        bound[2] = rounded_up(canonical_share)
    else:
        bound[0] = INFINITY
    cmax[0] = 0


@kernel
def finish_iteration(moved_sq, tally, threshold, relocated, record, state, k):
    """Record (1,) of an iteration, and state (1,) int32; the tally (4,) uint64 starts anew. One block.

    moved_sq (k,) is overwritten by a binary tree over neighbours: v[j] = v[2j] + v[2j + 1] until one is left, an odd
    one out as it is. Padding with zeros to a power of two gives the same sums.
    """
    halted = state[0] != 0
    cuda.syncthreads()  # all have read the state before thread 0 changes it
    if halted:
        return
    tid = cuda.threadIdx.x
    m = np.int64(k)
    while m > 1:
        left = (m + 1) // 2
        for j0 in range(0, left, cuda.blockDim.x):
            j = j0 + tid
            v = 0.0
            if 2 * j + 1 < m:
                v = add(moved_sq[2 * j], moved_sq[2 * j + 1])
            elif j < left:
                v = moved_sq[2 * j]
            cuda.syncthreads()  # all have read their pair before one of them is overwritten
            if j < left:
                moved_sq[j] = v
            cuda.syncthreads()  # the level is written before the next one reads it
        m = left
    if tid != 0:
        return
    moved, empty = tally[0], tally[2]
    following = GO_ON
    if empty != 0 and relocated == 0:
        following = EMPTY
    elif moved == 0:
        following = STRICT
    elif moved_sq[0] <= threshold:
        following = WITHIN_TOL
    record[0]["shift_sq"] = moved_sq[0]
    record[0]["n_moved"] = moved
    record[0]["n_rechecked"] = tally[1]
    record[0]["n_empty"] = empty
    record[0]["n_changed"] = tally[3]
    record[0]["state"] = following
    if following != EMPTY:  # else the same iteration goes on after the relocation
        tally[0] = 0
        tally[1] = 0
    tally[2] = 0
    tally[3] = 0
    state[0] = following
