"""Vector code of the passes over all rows: moments of columns, and distances in the canonical order of additions.

LLVM vector code is emitted directly: LLVM's own vectoriser reorders no additions, so it leaves a sum over features
scalar, and it checks at every row whether the arrays overlap. Nothing is fused: every operation is rounded on its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils as _cgutils
from numba.extending import intrinsic

from ._layout import LANES64 as LANES
from ._layout import ROWS

cgutils: Any = _cgutils  # untyped
FEW = (2, 3)  # features for which `own_rows` has code of their own
MAGIC = 1.5 * 2.0**52  # see exact.MOST_BITS
_MAGIC_BITS = int(np.array(MAGIC).view(np.int64))

_F64, _I32, _I64 = ir.DoubleType(), ir.IntType(32), ir.IntType(64)
_VECTOR, _INTEGERS = ir.VectorType(_F64, LANES), ir.VectorType(_I64, LANES)


def _const(value: int) -> Any:
    return ir.Constant(_I64, value)


def _at(b: Any, base: Any, offset: Any, kind: Any) -> Any:
    return b.inttoptr(b.add(base, offset), kind.as_pointer())


def _address(context: Any, b: Any, kind: Any, array: Any) -> Any:
    return b.ptrtoint(context.make_array(kind)(context, b, array).data, _I64)


def _splat(b: Any, scalar: Any, kind: Any) -> Any:
    undefined = ir.Constant(kind, ir.Undefined)
    lane = b.insert_element(undefined, scalar, ir.Constant(_I32, 0))
    return b.shuffle_vector(lane, undefined, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))


def _load_values(b: Any, base: Any, offset: Any) -> Any:
    return b.load(_at(b, base, offset, _VECTOR), align=8)


def _gathered(b: Any, bases: list[Any], offset: Any) -> Any:
    """A value from behind each of LANES addresses."""
    values = ir.Constant(_VECTOR, ir.Undefined)
    for lane, base in enumerate(bases):
        value = b.load(_at(b, base, offset, _F64), align=8)
        values = b.insert_element(values, value, ir.Constant(_I32, lane))
    return values


def _prefetch(b: Any, base: Any, offset: Any) -> None:
    pointer = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, _I32, _I32, _I32])
    function = cgutils.get_or_insert_function(b.module, kind, "llvm.prefetch.p0")
    b.call(function, [b.inttoptr(b.add(base, offset), pointer), *(ir.Constant(_I32, hint) for hint in (0, 2, 1))])


def _code(typing: Any, y: Any) -> Any:
    """``rint(y)`` as an integer: a code of at most MOST_BITS."""

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        return b.sub(b.bitcast(b.fadd(args[0], ir.Constant(_F64, MAGIC)), _I64), _const(_MAGIC_BITS))

    return types.int64(types.float64), codegen


def _extent_codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
    values, smallest, largest = (
        _address(context, b, kind, array) for kind, array in zip(signature.args[:3], args[:3], strict=True)
    )
    period, n_rows = args[3:]
    size = signature.args[0].dtype.bitwidth // 8
    lanes = LANES * 8 // size
    vector = ir.VectorType(_F64 if size == 8 else ir.FloatType(), lanes)
    bits = ir.VectorType(ir.IntType(8 * size), lanes)
    low, high, bad = (cgutils.alloca_once(b, kind) for kind in (vector, vector, bits))
    b.store(ir.Constant(bits, [0] * lanes), bad)
    row_bytes, last = b.mul(period, _const(size)), b.sub(period, _const(lanes))
    with cgutils.for_range(b, b.add(b.sdiv(b.sub(period, _const(1)), _const(lanes)), _const(1))) as chunks:
        first = b.mul(chunks.index, _const(lanes))
        offset = b.mul(b.select(b.icmp_signed("<", first, last), first, last), _const(size))
        places = [_at(b, base, offset, vector) for base in (smallest, largest)]
        for total, place in zip((low, high), places, strict=True):
            b.store(b.load(place, align=size), total)
        rows = b.add(values, offset)
        with cgutils.for_range(b, n_rows) as loop:
            _prefetch(b, rows, b.mul(b.add(loop.index, n_rows), row_bytes))
            x = b.load(_at(b, rows, b.mul(loop.index, row_bytes), vector), align=size)
            for total, order in ((low, "<"), (high, ">")):
                before = b.load(total)
                b.store(b.select(b.fcmp_ordered(order, x, before), x, before), total)
            b.store(b.or_(b.load(bad), b.bitcast(b.fsub(x, x), bits)), bad)  # 0, or NaN
        for total, place in zip((low, high), places, strict=True):
            b.store(b.load(total), place, align=size)
    any_bad = ir.Constant(bits.element, 0)
    for lane in range(lanes):
        any_bad = b.or_(any_bad, b.extract_element(b.load(bad), ir.Constant(_I32, lane)))
    return any_bad if size == 8 else b.zext(any_bad, _I64)


def _extent_rows(typing: Any, values: Any, smallest: Any, largest: Any, period: Any, n_rows: Any) -> Any:
    """Renew the smallest and largest value of each column of `n_rows` rows of `period` values; 0 if all are finite.

    All of float32 or all of float64; values: flat. `period` is at least a vector: the last one overlaps with that
    before. As many rows behind these are fetched into the cache.
    """
    return types.int64(values, smallest, largest, types.intp, types.intp), _extent_codegen


def _moment_codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
    values, pivot, scale1, scale2, sum1, sum2 = (
        _address(context, b, kind, array) for kind, array in zip(signature.args[:6], args[:6], strict=True)
    )
    period, n_rows, n_chunks = args[6:]
    magic = ir.Constant(_VECTOR, [MAGIC] * LANES)
    surplus = _splat(b, b.mul(n_rows, _const(_MAGIC_BITS)), _INTEGERS)
    total1, total2 = cgutils.alloca_once(b, _INTEGERS), cgutils.alloca_once(b, _INTEGERS)
    size = signature.args[0].dtype.bitwidth // 8
    source = _VECTOR if size == 8 else ir.VectorType(ir.FloatType(), LANES)
    row_bytes = b.mul(period, _const(size))
    with cgutils.for_range(b, n_chunks) as chunks:
        offset = b.mul(chunks.index, _const(LANES * 8))
        p, s1, s2 = (b.load(_at(b, base, offset, _VECTOR), align=8) for base in (pivot, scale1, scale2))
        rows = b.add(values, b.mul(chunks.index, _const(LANES * size)))
        for total in (total1, total2):
            b.store(ir.Constant(_INTEGERS, [0] * LANES), total)
        with cgutils.for_range(b, n_rows) as loop:
            _prefetch(b, rows, b.mul(b.add(loop.index, n_rows), row_bytes))
            x = b.load(_at(b, rows, b.mul(loop.index, row_bytes), source), align=size)
            q = b.fsub(x if size == 8 else b.fpext(x, _VECTOR), p)
            for total, y in ((total1, b.fmul(q, s1)), (total2, b.fmul(b.fmul(q, q), s2))):
                code = b.bitcast(b.fadd(y, magic), _INTEGERS)
                b.store(b.add(b.load(total), code), total)
        for total, base in ((total1, sum1), (total2, sum2)):
            place = _at(b, base, offset, _INTEGERS)
            code = b.sub(b.load(total), surplus)
            b.store(b.add(b.load(place, align=8), code), place, align=8)
    return context.get_dummy_value()


def _moment_rows(
    typing: Any, values: Any, pivot: Any, scale1: Any, scale2: Any, sum1: Any, sum2: Any,
    period: Any, n_rows: Any, n_chunks: Any,
) -> Any:  # fmt: skip
    """Add ``rint(q scale1)`` and ``rint(q q scale2)``, ``q = x - pivot``, to sum1 and sum2 by column.

    For the first ``n_chunks LANES`` columns of `n_rows` rows of `period` values. values: float32 or float64, flat; sum1
    and sum2: int64, the others float64. As many rows behind these are fetched into the cache.
    """
    numbers = (types.intp,) * 3
    return types.void(values, pivot, scale1, scale2, sum1, sum2, *numbers), _moment_codegen


def _transposed(b: Any, block: list[Any]) -> list[Any]:
    mask_type = ir.VectorType(_I32, LANES)
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


def _own_few(b: Any, n_features: int, X: Any, labels: Any, centers: Any, out: Any, row: Any) -> None:
    """Rows of so few features that they fill no vector: LANES are read as one, and each feature is a shuffle of it."""
    long, mask = ir.VectorType(_F64, LANES * n_features), ir.VectorType(_I32, LANES)
    for group in range(0, ROWS, LANES):
        first = b.add(row, _const(group))
        rows = b.load(_at(b, X, b.mul(first, _const(8 * n_features)), long), align=8)
        own = []
        for lane in range(LANES):
            label = b.load(_at(b, labels, b.mul(b.add(first, _const(lane)), _const(4)), _I32), align=4)
            own.append(b.add(centers, b.mul(b.sext(label, _I64), _const(8 * n_features))))
        total = ir.Constant(_VECTOR, [0.0] * LANES)
        for j in range(n_features):
            lanes = ir.Constant(mask, [j + n_features * lane for lane in range(LANES)])
            x = b.shuffle_vector(rows, ir.Constant(long, ir.Undefined), lanes)
            t = b.fsub(x, _gathered(b, own, _const(8 * j)))
            total = b.fadd(total, b.fmul(t, t))
        b.store(total, _at(b, out, b.mul(first, _const(8)), _VECTOR), align=8)


def _own_many(b: Any, X: Any, labels: Any, centers: Any, out: Any, row: Any, n_features: Any) -> None:
    row_bytes = b.mul(n_features, _const(8))
    x, c = [], []
    for r in range(ROWS):
        i = b.add(row, _const(r))
        label = b.sext(b.load(_at(b, labels, b.mul(i, _const(4)), _I32), align=4), _I64)
        x.append(b.add(X, b.mul(i, row_bytes)))
        c.append(b.add(centers, b.mul(label, row_bytes)))
    groups = [range(g, g + LANES) for g in range(0, ROWS, LANES)]
    totals = [cgutils.alloca_once(b, _VECTOR) for _ in groups]
    for total in totals:
        b.store(ir.Constant(_VECTOR, [0.0] * LANES), total)
    n_chunks = b.sdiv(n_features, _const(LANES))
    with cgutils.for_range(b, n_chunks) as chunks:
        offset = b.mul(chunks.index, _const(LANES * 8))
        for group, total in zip(groups, totals, strict=True):
            block = []
            for r in group:
                center = b.load(_at(b, c[r], offset, _VECTOR), align=8)
                t = b.fsub(_load_values(b, x[r], offset), center)
                block.append(b.fmul(t, t))
            value = b.load(total)
            for square in _transposed(b, block):
                value = b.fadd(value, square)
            b.store(value, total)
    # features that fill no vector: a value of each row at a time
    first = b.mul(n_chunks, _const(LANES))
    for group, total in zip(groups, totals, strict=True):
        with cgutils.for_range(b, b.sub(n_features, first)) as loop:
            offset = b.mul(b.add(first, loop.index), _const(8))
            t = b.fsub(*(_gathered(b, [bases[r] for r in group], offset) for bases in (x, c)))
            b.store(b.fadd(b.load(total), b.fmul(t, t)), total)
    for group, total in zip(groups, totals, strict=True):
        place = b.mul(b.add(row, _const(group[0])), _const(8))
        b.store(b.load(total), _at(b, out, place, _VECTOR), align=8)


def _own_codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
    X, labels, centers, out = (
        _address(context, b, kind, array) for kind, array in zip(signature.args[:4], args[:4], strict=True)
    )
    row, n_features = args[4:]
    is_many = ir.Constant(ir.IntType(1), 1)
    for few in FEW:
        is_few = b.icmp_signed("==", n_features, _const(few))
        is_many = b.and_(is_many, b.not_(is_few))
        with b.if_then(is_few):
            _own_few(b, few, X, labels, centers, out, row)
    with b.if_then(is_many):
        _own_many(b, X, labels, centers, out, row, n_features)
    return context.get_dummy_value()


def _own_rows(typing: Any, X: Any, labels: Any, centers: Any, out: Any, row: Any, n_features: Any) -> Any:
    """Fill out[row : row + ROWS] with D of these rows of X, each to its own center.

    X: float64, flat; labels: int32; centers, out: float64; all C-contiguous. Squares are taken with the features in the
    lanes and transposed, so that the additions have the rows in the lanes.
    """
    return types.void(X, labels, centers, out, types.intp, types.intp), _own_codegen


def _distance_codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
    X, packed, out = (
        _address(context, b, kind, array) for kind, array in zip(signature.args[:3], args[:3], strict=True)
    )
    n_features, n_chunks = args[3:]
    root = cgutils.get_or_insert_function(b.module, ir.FunctionType(_VECTOR, [_VECTOR]), f"llvm.sqrt.v{LANES}f64")
    n_clusters = b.mul(n_chunks, _const(LANES))
    x = [b.add(X, b.mul(n_features, _const(r * 8))) for r in range(ROWS)]
    totals = [cgutils.alloca_once(b, _VECTOR) for _ in range(ROWS)]
    with cgutils.for_range(b, n_chunks) as chunks:
        first = b.mul(chunks.index, _const(LANES))
        centers = b.add(packed, b.mul(b.mul(first, n_features), _const(8)))
        for total in totals:
            b.store(ir.Constant(_VECTOR, [0.0] * LANES), total)
        with cgutils.for_range(b, n_features) as loop:
            center = b.load(_at(b, centers, b.mul(loop.index, _const(LANES * 8)), _VECTOR), align=8)
            offset = b.mul(loop.index, _const(8))
            for r, total in enumerate(totals):
                value = b.load(_at(b, x[r], offset, _F64), align=8)
                t = b.fsub(_splat(b, value, _VECTOR), center)
                b.store(b.fadd(b.load(total), b.fmul(t, t)), total)
        for r, total in enumerate(totals):
            place = b.add(b.mul(_const(r), n_clusters), first)
            b.store(b.call(root, [b.load(total)]), _at(b, out, b.mul(place, _const(8)), _VECTOR), align=8)
    return context.get_dummy_value()


def _distance_rows(typing: Any, X: Any, packed: Any, out: Any, n_features: Any, n_chunks: Any) -> Any:
    """Fill `out` with the distances (not squared) of ROWS rows, X, to ``n_chunks LANES`` centers.

    All of float64. X: flat; packed: (n_chunks, n_features, LANES); out: (ROWS, n_chunks LANES).
    """
    return types.void(X, packed, out, types.intp, types.intp), _distance_codegen


code: Any = intrinsic(_code)
extent_rows: Any = intrinsic(_extent_rows)
moment_rows: Any = intrinsic(_moment_rows)
own_rows: Any = intrinsic(_own_rows)
distance_rows: Any = intrinsic(_distance_rows)
