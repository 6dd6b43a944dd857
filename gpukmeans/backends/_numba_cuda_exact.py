"""The definitions that all backends share, as device functions of Numba: canonical distance, fixed point, certificate.

gpukmeans/exact.py says the same on the host, and why. Numba contracts ``a * b + c`` to one fused operation even without
fastmath, so whatever decides a bit of the result goes through these functions and never through a plain expression.
Numba never flushes a subnormal (it does not pass -ftz to NVVM), so plain conversions and comparisons are exact.

A kernel is cached under its own file alone: after a change of this file remove ``__pycache__``.
"""

# Numba types what is in this file, mypy cannot.
# mypy: disable-error-code="attr-defined, no-untyped-call, no-untyped-def"
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import cuda

from ..exact import CHAIN

MAX_THREADS = 256
"""Most threads of a block: the size of what a block shares. A launch takes a power of two up to it."""
INFINITY = np.float32(np.inf)
A_FEATURE = np.float32(2.0**-125)  # what the square of a feature may have lost among the subnormals


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a kernel for the types it is called with, and keep it on disk."""
    try:
        return cuda.jit(cache=True)(function)
    except RuntimeError:  # no directory that a cache could be written to: compile in every process
        return cuda.jit(function)


def device(function: Callable[..., Any]) -> Any:
    """A function that kernels call."""
    return cuda.jit(device=True)(function)


# ------------------------------------------------------------------------------------------------ operations
if numba.config.ENABLE_CUDASIM:
    # The simulator runs kernels as Python, where libdevice is not to be had and NumPy rounds each operation anyway.

    def add(a, b):
        """Sum of two values in float64, rounded on its own."""
        return np.float64(a) + np.float64(b)

    def sub(a, b):
        """Difference of two values in float64, rounded on its own."""
        return np.float64(a) - np.float64(b)

    def mul(a, b):
        """Product of two values in float64, rounded on its own."""
        return np.float64(a) * np.float64(b)

    def div(a, b):
        """Quotient in float64, rounded to nearest."""
        return np.float64(a) / np.float64(b)

    def root(a):
        """Square root in float64, rounded to nearest."""
        return np.sqrt(np.float64(a))

    def rint(a):
        """The nearest integer as int64, ties to even."""
        return np.int64(np.rint(a))

    def fma32(a, b, c):
        """``a * b + c`` in float32; here it may be rounded twice, which the bound of the fast pass covers."""
        return np.float32(np.float64(a) * np.float64(b) + np.float64(c))

    def lower(a, b):
        """The smaller of two float32 values; a NaN gives way."""
        return np.fmin(a, b)

    def higher(a, b):
        """The larger of two float32 values; a NaN gives way."""
        return np.fmax(a, b)

    def rounded_up(a):
        """The smallest float32 that is not below a float64."""
        near = np.float32(a)
        return np.nextafter(near, INFINITY) if near < a else near

    def bits32(a):
        """The bits of a float32 as int32."""
        return np.float32(a).view(np.int32)

    def from_bits32(a):
        """The float32 of these bits."""
        return np.uint32(a).view(np.float32)

    def bits64(a):
        """The bits of a float64 as int64."""
        return np.float64(a).view(np.int64)

else:
    from numba.cuda import libdevice

    @device
    def add(a, b):
        """Sum of two values in float64, rounded on its own."""
        return libdevice.dadd_rn(a, b)

    @device
    def sub(a, b):
        """Difference of two values in float64, rounded on its own."""
        return libdevice.dadd_rn(a, -b)

    @device
    def mul(a, b):
        """Product of two values in float64, rounded on its own."""
        return libdevice.dmul_rn(a, b)

    @device
    def div(a, b):
        """Quotient in float64, rounded to nearest."""
        return libdevice.ddiv_rn(a, b)

    @device
    def root(a):
        """Square root in float64, rounded to nearest."""
        return libdevice.dsqrt_rn(a)

    @device
    def rint(a):
        """The nearest integer as int64, ties to even."""
        return libdevice.double2ll_rn(a)

    @device
    def fma32(a, b, c):
        """``a * b + c`` in float32, rounded once."""
        return libdevice.fmaf_rn(a, b, c)

    @device
    def lower(a, b):
        """The smaller of two float32 values; a NaN gives way."""
        return libdevice.fminf(a, b)

    @device
    def higher(a, b):
        """The larger of two float32 values; a NaN gives way."""
        return libdevice.fmaxf(a, b)

    @device
    def rounded_up(a):
        """The smallest float32 that is not below a float64."""
        return libdevice.double2float_ru(a)

    @device
    def bits32(a):
        """The bits of a float32 as int32."""
        return libdevice.float_as_int(a)

    @device
    def from_bits32(a):
        """The float32 of these bits."""
        return libdevice.int_as_float(np.int32(a))

    @device
    def bits64(a):
        """The bits of a float64 as int64."""
        return libdevice.double_as_longlong(a)


# ------------------------------------------------------------------------------------------------ distance
@device
def add_square(acc, x, c):
    """One feature of D: acc + (x - c)^2 in float64, three separate roundings."""
    t = sub(np.float64(x), np.float64(c))
    return add(acc, mul(t, t))


@device
def canonical(x, i, centers, c, d):
    """D between row i of x (n, d) and row c of centers (k, d): features in order."""
    acc = 0.0
    for j in range(d):
        acc = add_square(acc, x[i, j], centers[c, j])
    return acc


@device
def weighted(weight, i, v):
    """Product w v for weight (n,) or None; without weights v, and 0 for weight 0, also where v is infinite."""
    if weight is None:
        return v
    w = weight[i]
    return mul(w, v) if w > 0.0 else 0.0


# ------------------------------------------------------------------------------------------------ fixed point
@device
def fixed_high(y, scale):
    """First limb of y: rint(y 2^e), scale = 2^e, so the product is exact and the conversion alone rounds."""
    return rint(mul(y, scale))


@device
def fixed_low(y, scale, high, two_bits):
    """Second limb: what the first one left, times 2^bits."""
    return rint(mul(sub(mul(y, scale), np.float64(high)), two_bits))


@device
def mantissa(high, low, inverse_bits):
    """The sum that two limbs stand for, hi + lo 2^-bits, still times 2^e."""
    return add(np.float64(high), mul(np.float64(low), inverse_bits))


@device
def limb(limbs, c):
    """Element c of limbs (k,) or None: without the second limbs they are 0."""
    if limbs is None:
        return 0
    return limbs[c]


# ------------------------------------------------------------------------------------------------ certificate
@device
def two_errors(bound, x2, d):
    """2 E(x) for x2 = |x'|^2 and bound (3,) float32: constant + |x'| (linear + quadratic |x'|), all in float32."""
    norm = math.sqrt(x2 + np.float32(d) * A_FEATURE)
    return bound[0] + norm * (bound[1] + bound[2] * norm)


@device
def above(score, best, gap):
    """Whether a score is above the best one by more than 2 E, which NaN and infinity are not.

    A DIFFERENCE of scores against 2 E, never score against best + 2 E: the rounding of that sum is up to u |score|,
    which 2 E does not cover when d is small.
    """
    return score - best > gap


@device
def chain_of(d):
    """Features in one chain of multiply-adds, as `exact.score_bound` has it."""
    return CHAIN if d > 2 * CHAIN else d


# ------------------------------------------------------------------------------------------------ a block of threads
@device
def block_sum(v, scratch):
    """Sum of a value of each thread, known to all: exact for integers. scratch (MAX_THREADS,) is shared."""
    tid = cuda.threadIdx.x
    cuda.syncthreads()  # what was in scratch has been read before it is overwritten
    scratch[tid] = v
    cuda.syncthreads()  # all values are there before any is added
    step = cuda.blockDim.x // 2
    while step > 0:
        if tid < step:
            scratch[tid] += scratch[tid + step]
        cuda.syncthreads()  # this level is summed before the next one reads it
        step //= 2
    return scratch[0]


@device
def block_max(v, scratch):
    """Largest of a value of each thread, known to all; no value is NaN. scratch (MAX_THREADS,) is shared."""
    tid = cuda.threadIdx.x
    cuda.syncthreads()  # what was in scratch has been read before it is overwritten
    scratch[tid] = v
    cuda.syncthreads()  # all values are there before any is compared
    step = cuda.blockDim.x // 2
    while step > 0:
        if tid < step and scratch[tid + step] > scratch[tid]:
            scratch[tid] = scratch[tid + step]
        cuda.syncthreads()  # this level is decided before the next one reads it
        step //= 2
    return scratch[0]


@device
def block_scan(v, scratch):
    """Inclusive prefix sums of a value of each thread; scratch (MAX_THREADS,), which is shared, holds them all."""
    tid = cuda.threadIdx.x
    cuda.syncthreads()  # what was in scratch has been read before it is overwritten
    scratch[tid] = v
    cuda.syncthreads()  # all values are there before any is added
    step = 1
    while step < cuda.blockDim.x:
        if tid >= step:
            v += scratch[tid - step]
        cuda.syncthreads()  # this level is read before it is overwritten
        scratch[tid] = v
        cuda.syncthreads()  # and written before the next one reads it
        step *= 2
    return v
