"""k-means++ on the CPU in registers: rows against all trials of a step at once.

The trials lie in the SIMD lanes, so rows need not be transposed and any rows can be taken, one beside another or
scattered. LLVM vector code is emitted directly: sums stay in registers, and nothing is contracted into a fused
multiply-add, so that each operation is rounded as the definition of the seeding distance says.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils as _cgutils
from numba.extending import intrinsic

from ._simd_passes import MAGIC

cgutils: Any = _cgutils  # untyped

TRIALS = 8
"""Trials side by side: LLVM makes of 8 lanes whatever vectors the processor has."""
ROWS = 4
"""Rows worked on at once: as many independent sums hide the latency of an addition."""
STRIDE = 16
"""Features between two looks at whether any of the sums is still below its limit."""
AHEAD = 1 << 14
"""Bytes between the rows worked on and those being fetched."""
DENSE = 8
"""Rows are fetched ahead, with all that lies between them, where at least one of so many is listed: the processor
foresees only rows without gaps, and memory gives a stretch faster than some of its rows.
"""

i8, i32, i64, f64 = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.DoubleType()


def _const(value: int) -> Any:
    return ir.Constant(i64, value)


def _at(b: Any, base: Any, offset: Any, kind: Any) -> Any:
    """Pointer to the value `offset` bytes behind an address."""
    return b.inttoptr(b.add(base, offset), kind.as_pointer())


def _splat(b: Any, value: Any) -> Any:
    """The value in every lane."""
    undefined = ir.Constant(ir.VectorType(value.type, TRIALS), ir.Undefined)
    mask = ir.Constant(ir.VectorType(i32, TRIALS), [0] * TRIALS)
    return b.shuffle_vector(b.insert_element(undefined, value, ir.Constant(i32, 0)), undefined, mask)


def _fetch(b: Any, address: Any) -> None:
    """Begin to read a line of memory into the second cache (the first is too small for what is fetched ahead)."""
    pointer = i8.as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, i32, i32, i32])
    function = b.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
    b.call(function, [b.inttoptr(address, pointer), *(ir.Constant(i32, how) for how in (0, 2, 1))])


def make_fetch() -> Callable[..., None]:
    """Numba intrinsic ``(address, n_bytes)``: begin to read what is there."""

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        address, n_bytes = args
        last = b.sub(n_bytes, _const(1))
        n_lines = b.add(b.sdiv(b.add(last, _const(63)), _const(64)), _const(1))  # it may begin within a line
        with cgutils.for_range(b, n_lines) as loop:
            offset = b.mul(loop.index, _const(64))
            _fetch(b, b.add(address, b.select(b.icmp_signed("<", offset, last), offset, last)))
        return context.get_dummy_value()

    @intrinsic
    def fetch(typing: Any, address: Any, n_bytes: Any) -> Any:
        return types.void(types.intp, types.intp), codegen

    kernel: Callable[..., None] = fetch
    return kernel


def make_try_rows(double: bool) -> Callable[..., int]:
    """Numba intrinsic ``(rows, limits, n_rows, trials, n_features, places, bits, sqdist)``; all arrays by address.

    Squared distances of rows to TRIALS trials. Entries are written for those rows only that are closer to a trial
    than their limit; the intrinsic returns how many. The features of other rows need not all have been read: a sum of
    squares never becomes smaller, rounded or not.

    rows, limits: (n_rows + ROWS,) int64 and float64, the address of each row and its limit, 0 from n_rows on; rows
    behind the last are where the next list will begin; trials: (n_features, TRIALS); places: int64, the row's place in
    the list; bits: uint8, bit t is set if it is closer to trial t; sqdist: (., TRIALS) float64, its distances; the last
    three have room for n_rows + ROWS entries. Rows and trials are float64 if `double`, else float32, and so is the
    arithmetic: the limits must be values of that type.
    """
    scalar = f64 if double else ir.FloatType()
    vector, wide = ir.VectorType(scalar, TRIALS), ir.VectorType(f64, TRIALS)
    size = 8 if double else 4

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        rows, limits, n_rows, trials, n_features, places, bits, sqdist = args
        n_found = cgutils.alloca_once_value(b, _const(0))
        sums = [cgutils.alloca_once(b, vector) for _ in range(ROWS)]
        dense = b.mul(n_features, _const(ROWS * DENSE * size))
        n_strides = b.sdiv(b.sub(n_features, _const(1)), _const(STRIDE))
        end = b.mul(n_strides, _const(STRIDE))

        def row_of(number: Any) -> Any:
            return b.load(_at(b, rows, b.mul(number, _const(8)), i64))

        with cgutils.for_range(b, b.sdiv(b.add(n_rows, _const(ROWS - 1)), _const(ROWS))) as calls:
            first = b.mul(calls.index, _const(ROWS))
            numbers = [b.add(first, _const(r)) for r in range(ROWS)]
            begin = row_of(first)
            gap = b.sub(row_of(b.add(first, _const(ROWS))), begin)
            n_lines = b.sdiv(b.add(gap, _const(63)), _const(64))
            n_lines = b.select(b.icmp_unsigned("<=", gap, dense), n_lines, _const(0))
            with cgutils.for_range(b, n_lines) as lines:
                offset = b.add(b.mul(lines.index, _const(64)), _const(AHEAD))
                _fetch(b, b.add(begin, offset))
            last = b.sub(n_rows, _const(1))
            row = [row_of(b.select(b.icmp_signed("<", number, last), number, last)) for number in numbers]
            limit = [b.load(_at(b, limits, b.mul(number, _const(8)), f64), align=8) for number in numbers]
            limit = [_splat(b, value if double else b.fptrunc(value, scalar)) for value in limit]
            for r in range(ROWS):
                b.store(ir.Constant(vector, [0.0] * TRIALS), sums[r])

            def add_features(start: Any, count: Any, row: Any = row) -> None:
                with cgutils.for_range(b, count) as loop:
                    j = b.add(start, loop.index)
                    trial = b.load(_at(b, trials, b.mul(j, _const(TRIALS * size)), vector), align=size)
                    for r in range(ROWS):
                        x = b.load(_at(b, row[r], b.mul(j, _const(size)), scalar), align=size)
                        t = b.fsub(_splat(b, x), trial)
                        b.store(b.fadd(b.load(sums[r]), b.fmul(t, t)), sums[r])

            def below(limit: Any = limit) -> list[Any]:
                return [b.bitcast(b.fcmp_ordered("<", b.load(sums[r]), limit[r]), i8) for r in range(ROWS)]

            is_open = cgutils.alloca_once_value(b, cgutils.true_bit)
            with cgutils.for_range(b, n_strides) as strides:
                add_features(b.mul(strides.index, _const(STRIDE)), _const(STRIDE))
                some = functools.reduce(b.or_, below())
                b.store(b.icmp_unsigned("!=", some, ir.Constant(i8, 0)), is_open)
                with b.if_then(b.not_(b.load(is_open))):
                    strides.do_break()
            with b.if_then(b.load(is_open)):
                add_features(end, b.sub(n_features, end))
                bytes_ = below()
                # every row is written, and the next one over it if it has no bits: no branch to mispredict
                for r in range(ROWS):
                    place = b.load(n_found)
                    b.store(numbers[r], _at(b, places, b.mul(place, _const(8)), i64))
                    b.store(bytes_[r], _at(b, bits, place, i8))
                    total = b.load(sums[r]) if double else b.fpext(b.load(sums[r]), wide)
                    b.store(total, _at(b, sqdist, b.mul(place, _const(TRIALS * 8)), wide), align=8)
                    is_found = b.zext(b.icmp_unsigned("!=", bytes_[r], ir.Constant(i8, 0)), i64)
                    b.store(b.add(place, is_found), n_found)
        return b.load(n_found)

    @intrinsic
    def try_rows(
        typing: Any, rows: Any, limits: Any, n_rows: Any, trials: Any, d: Any, places: Any, bits: Any, sqdist: Any
    ) -> Any:
        return types.int64(*[types.intp] * 8), codegen

    kernel: Callable[..., int] = try_rows
    return kernel


def make_add_gains() -> Callable[..., None]:
    """Numba intrinsic ``(before, after, weights, n_rows, scale, gains)``; all arrays by address.

    Adds to gains, (TRIALS,) int64, by how much each trial lowers the potentials ``rint(w D scale)`` of the rows.

    before: (n_rows,) float64; after: (n_rows, TRIALS) float64, distances, used where they are smaller; weights:
    (n_rows,) float64.
    """
    vector, integers = ir.VectorType(f64, TRIALS), ir.VectorType(i64, TRIALS)

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        before, after, weights, n_rows, scale, gains = args
        total = cgutils.alloca_once_value(b, b.load(_at(b, gains, _const(0), integers), align=8))
        with cgutils.for_range(b, n_rows) as loop:
            place = b.mul(loop.index, _const(8))
            old, weight = (b.load(_at(b, base, place, f64), align=8) for base in (before, weights))
            new = b.load(_at(b, after, b.mul(loop.index, _const(TRIALS * 8)), vector), align=8)
            olds = _splat(b, old)
            nearest = b.select(b.fcmp_ordered("<", new, olds), new, olds)
            # what MAGIC adds to the integers is gone in the difference
            one = b.bitcast(b.fadd(b.fmul(b.fmul(weight, old), scale), ir.Constant(f64, MAGIC)), i64)
            each = b.fmul(b.fmul(_splat(b, weight), nearest), _splat(b, scale))
            each = b.bitcast(b.fadd(each, ir.Constant(vector, [MAGIC] * TRIALS)), integers)
            b.store(b.add(b.load(total), b.sub(_splat(b, one), each)), total)
        b.store(b.load(total), _at(b, gains, _const(0), integers), align=8)
        return context.get_dummy_value()

    @intrinsic
    def add_gains(typing: Any, before: Any, after: Any, weights: Any, n_rows: Any, scale: Any, gains: Any) -> Any:
        return types.void(*[types.intp] * 4, types.float64, types.intp), codegen

    kernel: Callable[..., None] = add_gains
    return kernel
