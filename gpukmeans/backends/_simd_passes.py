"""Vector code of the passes over all rows: moments of columns, and distances in the canonical order of additions.

LLVM vector code is emitted directly: LLVM's own vectoriser reorders no additions, so it leaves a sum over features
scalar, and it checks at every row whether the arrays overlap. Nothing is fused: every operation is rounded on its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils as _cgutils
from numba.extending import intrinsic

from ._simd import LANES as _LANES32

cgutils: Any = _cgutils  # untyped
LANES = _LANES32 // 2
"""float64 values of a vector."""

ROWS = 8
"""Rows of a call of `own_rows`: enough chains of additions side by side to hide their latency."""

MAGIC = 1.5 * 2.0**52
MOST_BITS = 50
"""Where ``|y| <= 2**50``, the float64 sum ``y + MAGIC`` is rounded to a whole number, ties to even as `rint`, and
its last bits are that number: codes of at most so many bits (2048 rows or more) are rounded and converted at once."""

_F64, _I32, _I64 = ir.DoubleType(), ir.IntType(32), ir.IntType(64)
_VECTOR, _INTEGERS = ir.VectorType(_F64, LANES), ir.VectorType(_I64, LANES)


def _const(value: int) -> Any:
    return ir.Constant(_I64, value)


def _at(b: Any, base: Any, offset: Any, kind: Any) -> Any:
    return b.inttoptr(b.add(base, offset), kind.as_pointer())


def _splat(b: Any, scalar: Any, kind: Any) -> Any:
    undefined = ir.Constant(kind, ir.Undefined)
    lane = b.insert_element(undefined, scalar, ir.Constant(_I32, 0))
    return b.shuffle_vector(lane, undefined, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))


def _load_values(b: Any, base: Any, offset: Any, double: bool) -> Any:
    """LANES values of float64 if `double`, else of float32, as float64."""
    if double:
        return b.load(_at(b, base, offset, _VECTOR), align=8)
    narrow = ir.VectorType(ir.FloatType(), LANES)
    return b.fpext(b.load(_at(b, base, offset, narrow), align=4), _VECTOR)


def make_moment_rows(double: bool) -> Callable[..., None]:
    """Numba intrinsic ``(rows, row_bytes, n_rows, n_chunks, pivot, scale1, scale2, sum1, sum2)``; arrays by address.

    Adds ``rint(q scale1)`` and ``rint(q q scale2)``, ``q = x - pivot``, to sum1 and sum2 by column, for the first
    ``n_chunks LANES`` columns. rows: `n_rows` rows `row_bytes` apart, of float64 if `double`, else float32; pivot,
    scale1, scale2: float64; sum1, sum2: int64. Results must not pass MOST_BITS.
    """
    size = 8 if double else 4
    magic_bits = int(np.array(MAGIC).view(np.int64))

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        rows, row_bytes, n_rows, n_chunks, pivot, scale1, scale2, sum1, sum2 = args
        magic = ir.Constant(_VECTOR, [MAGIC] * LANES)
        total1, total2 = cgutils.alloca_once(b, _INTEGERS), cgutils.alloca_once(b, _INTEGERS)
        surplus = _splat(b, b.mul(n_rows, _const(magic_bits)), _INTEGERS)
        with cgutils.for_range(b, n_chunks) as chunks:
            offset = b.mul(chunks.index, _const(LANES * 8))
            p, s1, s2 = (b.load(_at(b, base, offset, _VECTOR), align=8) for base in (pivot, scale1, scale2))
            start = b.add(rows, b.mul(chunks.index, _const(LANES * size)))
            for total in (total1, total2):
                b.store(ir.Constant(_INTEGERS, [0] * LANES), total)
            with cgutils.for_range(b, n_rows) as loop:
                q = b.fsub(_load_values(b, start, b.mul(loop.index, row_bytes), double), p)
                for total, y in ((total1, b.fmul(q, s1)), (total2, b.fmul(b.fmul(q, q), s2))):
                    code = b.bitcast(b.fadd(y, magic), _INTEGERS)
                    b.store(b.add(b.load(total), code), total)
            for total, base in ((total1, sum1), (total2, sum2)):
                place = _at(b, base, offset, _INTEGERS)
                code = b.sub(b.load(total), surplus)
                b.store(b.add(b.load(place, align=8), code), place, align=8)
        return context.get_dummy_value()

    @intrinsic
    def moment_rows(typing: Any, rows: Any, nbytes: Any, n: Any, m: Any, p: Any, s1: Any, s2: Any, t1: Any, t2: Any):  # type: ignore[no-untyped-def] # fmt: skip
        return types.void(*[types.intp] * 9), codegen

    kernel: Callable[..., None] = moment_rows
    return kernel


def make_own_rows(double: bool) -> Callable[..., None]:
    """Numba intrinsic ``(rows, row_bytes, labels, centers, center_bytes, n_chunks, sq)``; all arrays by address.

    sq, of shape (ROWS,) and float64: squared distance of each row to its own center over the first
    ``n_chunks LANES`` features, added in their order. rows: ROWS rows `row_bytes` apart, of float64 if `double`, else
    float32; labels: int32; centers: rows of float64, `center_bytes` apart. Squares are taken with the features in the
    lanes and transposed, so that the additions have the rows in the lanes.
    """
    size = 8 if double else 4
    mask_type = ir.VectorType(_I32, LANES)

    def transposed(b: Any, block: list[Any]) -> list[Any]:
        bit = 1
        while bit < LANES:  # exchange one bit of the row number with the same bit of the lane number
            keep = [lane if not lane & bit else LANES + (lane ^ bit) for lane in range(LANES)]
            take = [lane ^ bit if not lane & bit else LANES + lane for lane in range(LANES)]
            for r in range(LANES):
                if not r & bit:
                    even, odd = block[r], block[r | bit]
                    block[r] = b.shuffle_vector(even, odd, ir.Constant(mask_type, keep))
                    block[r | bit] = b.shuffle_vector(even, odd, ir.Constant(mask_type, take))
            bit *= 2
        return block

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        rows, row_bytes, labels, centers, center_bytes, n_chunks, sq = args
        x = [b.add(rows, b.mul(row_bytes, _const(r))) for r in range(ROWS)]
        label = [b.sext(b.load(_at(b, labels, _const(4 * r), _I32), align=4), _I64) for r in range(ROWS)]
        c = [b.add(centers, b.mul(center_bytes, label[r])) for r in range(ROWS)]
        total = [cgutils.alloca_once(b, _VECTOR) for _ in range(ROWS // LANES)]
        for part in total:
            b.store(ir.Constant(_VECTOR, [0.0] * LANES), part)
        with cgutils.for_range(b, n_chunks) as chunks:
            x_offset = b.mul(chunks.index, _const(LANES * size))
            c_offset = b.mul(chunks.index, _const(LANES * 8))
            for g, part in enumerate(total):
                block = []
                for r in range(g * LANES, (g + 1) * LANES):
                    center = b.load(_at(b, c[r], c_offset, _VECTOR), align=8)
                    t = b.fsub(_load_values(b, x[r], x_offset, double), center)
                    block.append(b.fmul(t, t))
                value = b.load(part)
                for square in transposed(b, block):
                    value = b.fadd(value, square)
                b.store(value, part)
        for g, part in enumerate(total):
            b.store(b.load(part), _at(b, sq, _const(g * LANES * 8), _VECTOR), align=8)
        return context.get_dummy_value()

    @intrinsic
    def own_rows(typing: Any, rows: Any, nbytes: Any, labels: Any, centers: Any, cbytes: Any, n: Any, sq: Any):  # type: ignore[no-untyped-def] # fmt: skip
        return types.void(*[types.intp] * 7), codegen

    kernel: Callable[..., None] = own_rows
    return kernel
