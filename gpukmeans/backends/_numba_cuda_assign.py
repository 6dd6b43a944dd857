"""Kernels of the fast pass: `assign` as in ``assign.cu`` (tiled and small), `recheck` as in ``recheck.cu``."""

# Numba types what is in this file, mypy cannot.
# mypy: disable-error-code="attr-defined, no-untyped-call, no-untyped-def"
from __future__ import annotations

import numpy as np
from numba import cuda

from ._numba_cuda_exact import (
    INFINITY,
    MAX_THREADS,
    above,
    canonical,
    chain_of,
    device,
    fma32,
    higher,
    kernel,
    lower,
    two_errors,
)

SIDE = 16
"""`assign` runs in blocks of SIDE * SIDE threads, no others; a thread has 4 x 4 scores."""
ROWS = 4 * SIDE  # rows, and centers, of a tile
DEPTH = 16  # features of a tile; divides exact.CHAIN
PITCH = ROWS + 1  # no two threads of a warp store to one bank
ZEROS = (np.float32(0), np.float32(0), np.float32(0), np.float32(0))
NOBODY = (INFINITY, INFINITY, np.int32(0))  # best score, second best, center of the best
NO_CENTER = np.int32(2**31 - 1)


# Four scores of a row are a tuple, and its best and second best with the center are another: they live in registers.
# Local arrays would live in memory.
@device
def _add4(a, b):
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]


@device
def _multiply_add4(x, c, acc):
    return fma32(x, c[0], acc[0]), fma32(x, c[1], acc[1]), fma32(x, c[2], acc[2]), fma32(x, c[3], acc[3])


@device
def _squares4(tile, p, row, acc):
    a, b, c, d = tile[p, row], tile[p, row + SIDE], tile[p, row + 2 * SIDE], tile[p, row + 3 * SIDE]
    return fma32(a, a, acc[0]), fma32(b, b, acc[1]), fma32(c, c, acc[2]), fma32(d, d, acc[3])


@device
def _merge(kept, best, second, arg):
    """Best and second best of both; equal scores need no rule: they leave second == best, and the recheck decides."""
    second = lower(lower(kept[1], second), higher(kept[0], best))
    return lower(kept[0], best), second, arg if best < kept[0] else kept[2]


@device
def _take(kept, score, c):
    second = lower(kept[1], higher(kept[0], score))
    return lower(kept[0], score), second, np.int32(c) if score < kept[0] else kept[2]


@device
def _take4(kept, scores, c):
    """Scores of the centers c, c + SIDE, c + 2 SIDE, c + 3 SIDE."""
    kept = _take(_take(kept, scores[0], c), scores[1], c + SIDE)
    return _take(_take(kept, scores[2], c + 2 * SIDE), scores[3], c + 3 * SIDE)


@device
def _half_norm(half, c, kp):
    return half[c] if c < kp else INFINITY


@device
def _load_rows(tile, x, shift, r0, j0, n, d):
    """Tile (DEPTH, PITCH) of shift - x from row r0 and feature j0 on, subtracted in T, rounded to float32."""
    for q in range(cuda.threadIdx.x, ROWS * DEPTH, SIDE * SIDE):
        row, p = q // DEPTH, q % DEPTH
        value = np.float32(0)
        if r0 + row < n and j0 + p < d:
            value = np.float32(shift[j0 + p] - x[r0 + row, j0 + p])
        tile[p, row] = value


@device
def _load_centers(tile, cs, k0, j0, kp, d):
    """Tile (DEPTH, PITCH) of c' from center k0 and feature j0 on."""
    for q in range(cuda.threadIdx.x, ROWS * DEPTH, SIDE * SIDE):
        row, p = q // DEPTH, q % DEPTH
        value = np.float32(0)
        if k0 + row < kp and j0 + p < d:
            value = cs[k0 + row, j0 + p]
        tile[p, row] = value


@device
def _keep(bests, seconds, args, row, kept):
    tx = cuda.threadIdx.x % SIDE
    bests[tx, row], seconds[tx, row], args[tx, row] = kept


@device
def _finish(i, kept, x2, bound, d, label, found, count):
    """The label of row i, and its place in the list if it is not certain."""
    label[i] = kept[2]
    gap = two_errors(bound, x2, d)
    if not above(kept[1], kept[0], gap):
        at = cuda.atomic.add(count, 0, np.uint64(1))  # the atomic: rows of all blocks take places in one list
        found[at]["row"] = i
        found[at]["best"] = kept[0]
        found[at]["gap"] = gap


@kernel
def assign(x, shift, cs, half, bound, label, found, count, halted, n, d, ldc, kp):
    """The label of every row of x (n, d), and the list of those that are not certain.

    x (n, d), shift (ldc,) T; cs (kp, ldc), half (kp,), bound (3,) float32; label (n,) int32; found (n,) UNCERTAIN;
    count (1,) uint64; halted (1,) int32. SIDE * SIDE threads a block, any number of blocks; any padding of kp and ldc.
    """
    if halted[0] != 0:
        return
    xs = cuda.shared.array((DEPTH, PITCH), np.float32)
    bs = cuda.shared.array((DEPTH, PITCH), np.float32)
    bests = cuda.shared.array((SIDE, PITCH), np.float32)
    seconds = cuda.shared.array((SIDE, PITCH), np.float32)
    args = cuda.shared.array((SIDE, PITCH), np.int32)
    norms = cuda.shared.array(ROWS, np.float32)
    tid = cuda.threadIdx.x
    tx, ty = tid % SIDE, tid // SIDE
    part = chain_of(d)
    for r0 in range(np.int64(cuda.blockIdx.x) * ROWS, n, np.int64(cuda.gridDim.x) * ROWS):
        kept0 = kept1 = kept2 = kept3 = NOBODY
        x2 = ZEROS
        for k0 in range(0, kp, ROWS):
            c = k0 + tx
            h0, h1 = _half_norm(half, c, kp), _half_norm(half, c + SIDE, kp)
            h2, h3 = _half_norm(half, c + 2 * SIDE, kp), _half_norm(half, c + 3 * SIDE, kp)
            total0 = total1 = total2 = total3 = (h0, h1, h2, h3)
            for begin in range(0, d, part):
                # one chain starts at the half norm; the parts of a chain that is cut start at 0
                acc0 = acc1 = acc2 = acc3 = total0 if part == d else ZEROS
                for j0 in range(begin, min(begin + part, d), DEPTH):
                    _load_rows(xs, x, shift, r0, j0, n, d)
                    _load_centers(bs, cs, k0, j0, kp, d)
                    cuda.syncthreads()  # both tiles are whole before any thread reads them
                    for p in range(DEPTH):
                        b = (bs[p, tx], bs[p, tx + SIDE], bs[p, tx + 2 * SIDE], bs[p, tx + 3 * SIDE])
                        acc0 = _multiply_add4(xs[p, ty], b, acc0)
                        acc1 = _multiply_add4(xs[p, ty + SIDE], b, acc1)
                        acc2 = _multiply_add4(xs[p, ty + 2 * SIDE], b, acc2)
                        acc3 = _multiply_add4(xs[p, ty + 3 * SIDE], b, acc3)
                    if k0 == 0:  # once a row; in parts, so that its rounding is far below the 1.002 of the bound
                        squares = ZEROS
                        for p in range(DEPTH):
                            squares = _squares4(xs, p, ty, squares)
                        x2 = _add4(x2, squares)
                    cuda.syncthreads()  # they are read before the next ones overwrite them
                if part == d:
                    total0, total1, total2, total3 = acc0, acc1, acc2, acc3
                else:
                    total0, total1 = _add4(total0, acc0), _add4(total1, acc1)
                    total2, total3 = _add4(total2, acc2), _add4(total3, acc3)
            kept0, kept1 = _take4(kept0, total0, c), _take4(kept1, total1, c)
            kept2, kept3 = _take4(kept2, total2, c), _take4(kept3, total3, c)
        _keep(bests, seconds, args, ty, kept0)
        _keep(bests, seconds, args, ty + SIDE, kept1)
        _keep(bests, seconds, args, ty + 2 * SIDE, kept2)
        _keep(bests, seconds, args, ty + 3 * SIDE, kept3)
        if tx == 0:
            norms[ty], norms[ty + SIDE], norms[ty + 2 * SIDE], norms[ty + 3 * SIDE] = x2
        cuda.syncthreads()  # all threads of a row have written what they kept before one of them merges it
        for row in range(tid, min(ROWS, n - r0), SIDE * SIDE):
            kept = NOBODY
            for q in range(SIDE):
                kept = _merge(kept, bests[q, row], seconds[q, row], args[q, row])
            _finish(r0 + row, kept, norms[row], bound, d, label, found, count)
        # no barrier: the next rows pass those of their tiles before they overwrite what is merged here


# ------------------------------------------------------------------------------------------------ recheck
@device
def _score(x, i, shift, cs, half, c, d):
    """The score of row i and center c as in `assign`: with chains no longer the same bound covers it."""
    part = chain_of(d)
    total = half[c]
    for begin in range(0, d, part):
        acc = total if part == d else np.float32(0)
        for j in range(begin, min(begin + part, d)):
            acc = fma32(np.float32(shift[j] - x[i, j]), cs[c, j], acc)
        total = acc if part == d else total + acc
    return total


@device
def _nearer(distance, c, best, arg):
    return distance < best or (distance == best and c < arg)


@kernel
def recheck(x, centers, shift, cs, half, found, count, label, tally, halted, d, ldc, k):
    """The labels that `assign` left open: of the candidates the one with the smallest D, the lowest index on ties.

    x (n, d), centers (k, d), shift (ldc,) T; cs (kp, ldc), half (kp,) float32; found (n,) UNCERTAIN; count (1,) uint64;
    label (n,) int32; tally (4,) uint64: [1] grows by the length of the list. Any number of blocks.
    """
    if halted[0] != 0:
        return
    nearest = cuda.shared.array(MAX_THREADS, np.float64)
    args = cuda.shared.array(MAX_THREADS, np.int32)
    tid = cuda.threadIdx.x
    if cuda.blockIdx.x == 0 and tid == 0:
        tally[1] += count[0]
    width = 1  # threads a row
    while width < k and width < cuda.blockDim.x:
        width *= 2
    lane, rows = tid % width, cuda.blockDim.x // width
    total = np.int64(count[0])
    for first in range(np.int64(cuda.blockIdx.x) * rows, total, np.int64(cuda.gridDim.x) * rows):
        item = first + tid // width
        i, best, arg = np.int64(0), np.inf, NO_CENTER
        if item < total:
            i = found[item]["row"]
            for c in range(lane, k, width):
                if not above(_score(x, i, shift, cs, half, c, d), found[item]["best"], found[item]["gap"]):
                    distance = canonical(x, i, centers, c, d)
                    if _nearer(distance, c, best, arg):
                        best, arg = distance, np.int32(c)
        nearest[tid], args[tid] = best, arg
        cuda.syncthreads()  # the candidates of all threads are there before any are compared
        step = width // 2
        while step > 0:
            if lane < step and _nearer(nearest[tid + step], args[tid + step], nearest[tid], args[tid]):
                nearest[tid], args[tid] = nearest[tid + step], args[tid + step]
            cuda.syncthreads()  # this level is decided before the next one, or the next rows, use these cells
            step //= 2
        if lane == 0 and item < total:
            label[i] = args[tid]
