"""Rows of the data into the tile that `_simd` scores: gathered, shifted, transposed, and their norms.

Whatever is called for every tile takes addresses: an array would be seven arguments, and for few features and few
centers handing them over would last as long as the work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils as _cgutils
from numba.extending import intrinsic

from ._layout import LANES, TILE, VANISHED, VECTORS

cgutils: Any = _cgutils  # untyped


def _address_of(typing: Any, array: Any, index: Any) -> Any:
    """Address of the element of a C-contiguous array with that number; Numba takes long to compile `ctypes.data`."""

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        kind = signature.args[0]
        data = b.ptrtoint(context.make_array(kind)(context, b, args[0]).data, ir.IntType(64))
        return b.add(data, b.mul(args[1], ir.Constant(ir.IntType(64), kind.dtype.bitwidth // 8)))

    return types.intp(array, types.intp), codegen


def _row_addresses(typing: Any, rows: Any, data: Any, row_bytes: Any, out: Any) -> Any:
    """Fill `out` with the addresses of a tile's rows, by their numbers; returns the largest number."""

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        rows, data, row_bytes, out = args
        i64 = ir.IntType(64)
        last = None
        for i in range(TILE):
            place = ir.Constant(i64, 8 * i)
            row = b.load(b.inttoptr(b.add(rows, place), i64.as_pointer()), align=8)
            last = row if last is None else b.select(b.icmp_signed(">", row, last), row, last)
            b.store(b.add(data, b.mul(row, row_bytes)), b.inttoptr(b.add(out, place), i64.as_pointer()), align=8)
        return last

    return types.intp(*[types.intp] * 4), codegen


def _copy_rows(typing: Any, addresses: Any, row_bytes: Any, padded: Any) -> Any:
    """Copy a tile's rows of less than LANES features to where LANES can be read of each; `addresses` become those."""

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        addresses, row_bytes, padded = args
        i8, i64 = ir.IntType(8), ir.IntType(64)
        with cgutils.for_range(b, ir.Constant(i64, TILE)) as loop:
            address = b.inttoptr(b.add(addresses, b.mul(loop.index, ir.Constant(i64, 8))), i64.as_pointer())
            target = b.add(padded, b.mul(loop.index, ir.Constant(i64, LANES * 8)))
            source = b.inttoptr(b.load(address, align=8), i8.as_pointer())
            cgutils.raw_memcpy(b, b.inttoptr(target, i8.as_pointer()), source, row_bytes, 1)
            b.store(target, address, align=8)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 3), codegen


address_of: Any = intrinsic(_address_of)
row_addresses: Any = intrinsic(_row_addresses)
copy_rows: Any = intrinsic(_copy_rows)


def make_pack_narrow(n_features: int, double: bool) -> Callable[..., None]:
    """Numba intrinsic ``(rows, shift, tile)``: as `make_pack_tile`, for TILE contiguous rows of 2 to 4 features.

    LANES rows are read as one long vector, and each feature is a shuffle of it.
    """
    i32, i64 = ir.IntType(32), ir.IntType(64)
    scalar = ir.DoubleType() if double else ir.FloatType()
    target, mask_type = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(i32, LANES)
    long = ir.VectorType(scalar, LANES * n_features)
    size = 8 if double else 4

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        rows, shift, tile = args

        def at(base: Any, offset: int, kind: Any) -> Any:
            return b.inttoptr(b.add(base, ir.Constant(i64, offset)), kind.as_pointer())

        first_lane = ir.Constant(mask_type, [0] * LANES)
        for v in range(VECTORS):
            values = b.load(at(rows, v * LANES * n_features * size, long), align=4)
            for j in range(n_features):
                mask = ir.Constant(mask_type, [j + n_features * lane for lane in range(LANES)])
                x = b.shuffle_vector(values, ir.Constant(long, ir.Undefined), mask)
                s = b.load(at(shift, j * size, scalar), align=4)
                undefined = ir.Constant(x.type, ir.Undefined)
                moved = b.fsub(
                    x, b.shuffle_vector(b.insert_element(undefined, s, ir.Constant(i32, 0)), undefined, first_lane)
                )
                moved = b.fptrunc(moved, target) if double else moved
                b.store(moved, at(tile, (j * TILE + v * LANES) * 4, target), align=4)
        return context.get_dummy_value()

    @intrinsic
    def pack_narrow(typing: Any, rows: Any, shift: Any, tile: Any) -> Any:
        return types.void(*[types.intp] * 3), codegen

    kernel: Callable[..., None] = pack_narrow
    return kernel


def make_pack_tile(double: bool) -> Callable[..., None]:
    """Numba intrinsic ``(rows, ahead, shift, tile, n_features)``: tile = (rows - shift) transposed, as float32.

    rows: (TILE,) int64, the address of each row, of float64 if `double`, else float32; shift: of the same type;
    tile: (n_features, TILE) float32. What lies `ahead` bytes behind the rows is fetched into the cache: the next tile,
    if they are in order; so many streams at once are more than the processor foresees. LANES x LANES values at a time
    are transposed in registers; the last of them overlap with those before. Below LANES features, LANES are read of
    every row and of `shift`, and the tile has LANES rows: what lies behind a row must be readable; it is not used.
    """
    i32, i64 = ir.IntType(32), ir.IntType(64)
    scalar = ir.DoubleType() if double else ir.FloatType()
    source, target = ir.VectorType(scalar, LANES), ir.VectorType(ir.FloatType(), LANES)
    size = 8 if double else 4
    mask_type = ir.VectorType(i32, LANES)

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        rows, ahead, shift, tile, n_features = args
        i8 = ir.IntType(8)
        prefetch_type = ir.FunctionType(ir.VoidType(), [i8.as_pointer(), i32, i32, i32])
        prefetch = cgutils.get_or_insert_function(b.module, prefetch_type, "llvm.prefetch.p0")

        def const(value: int) -> Any:
            return ir.Constant(i64, value)

        def load(base: Any) -> Any:
            return b.load(b.inttoptr(base, source.as_pointer()), align=4)

        one_short = b.sub(n_features, const(1))
        n_chunks = b.add(b.sdiv(one_short, const(LANES)), const(1))
        last = b.sub(n_features, const(LANES))
        last = b.select(b.icmp_signed("<", last, const(0)), const(0), last)
        with cgutils.for_range(b, n_chunks) as chunks:
            first = b.mul(chunks.index, const(LANES))
            first = b.select(b.icmp_signed("<", first, last), first, last)
            offset = b.mul(first, const(size))
            chunk_shift = load(b.add(shift, offset))
            chunk_tile = b.add(tile, b.mul(first, const(TILE * 4)))
            with cgutils.for_range(b, const(VECTORS)) as groups:
                addresses = b.add(rows, b.mul(groups.index, const(LANES * 8)))
                block = []
                for r in range(LANES):
                    row = b.load(b.inttoptr(b.add(addresses, const(r * 8)), i64.as_pointer()), align=8)
                    place = b.add(row, offset)
                    for line in range(0, LANES * size, 64):
                        coming = b.inttoptr(b.add(b.add(place, ahead), const(line)), i8.as_pointer())
                        b.call(prefetch, [coming, *(ir.Constant(i32, hint) for hint in (0, 2, 1))])
                    x = b.fsub(load(place), chunk_shift)
                    block.append(b.fptrunc(x, target) if double else x)
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
                column = b.add(chunk_tile, b.mul(groups.index, const(LANES * 4)))
                for r in range(LANES):
                    pointer = b.inttoptr(b.add(column, const(r * TILE * 4)), target.as_pointer())
                    b.store(block[r], pointer, align=4)
        return context.get_dummy_value()

    @intrinsic
    def pack_tile(typing: Any, rows: Any, ahead: Any, shift: Any, tile: Any, n_features: Any) -> Any:
        return types.void(*[types.intp] * 5), codegen

    kernel: Callable[..., None] = pack_tile
    return kernel


def make_square_norms() -> Callable[..., None]:
    """Numba intrinsic ``(tile, norms, n_features)``: the sum of squares of each row of a tile, in feature order.

    The sums stay in registers; a compiler that must think that `norms` is part of the tile would store every one.
    """
    i64 = ir.IntType(64)
    vector = ir.VectorType(ir.FloatType(), LANES)

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        tile, norms, n_features = args
        fma_type = ir.FunctionType(vector, [vector] * 3)
        fma = cgutils.get_or_insert_function(b.module, fma_type, f"llvm.fma.v{LANES}f32")

        def at(base: Any, v: int) -> Any:
            return b.inttoptr(b.add(base, ir.Constant(i64, v * LANES * 4)), vector.as_pointer())

        totals = [cgutils.alloca_once(b, vector) for _ in range(VECTORS)]
        for total in totals:
            b.store(ir.Constant(vector, [0.0] * LANES), total)
        with cgutils.for_range(b, n_features) as loop:
            row = b.add(tile, b.mul(loop.index, ir.Constant(i64, TILE * 4)))
            for v, total in enumerate(totals):
                x = b.load(at(row, v), align=4)
                b.store(b.call(fma, [x, x, b.load(total)]), total)
        for v, total in enumerate(totals):
            b.store(b.load(total), at(norms, v), align=4)
        return context.get_dummy_value()

    @intrinsic
    def square_norms(typing: Any, tile: Any, norms: Any, n_features: Any) -> Any:
        return types.void(*[types.intp] * 3), codegen

    kernel: Callable[..., None] = square_norms
    return kernel


def make_round_up_norms() -> Callable[..., None]:
    """Numba intrinsic ``(norms, n_features)``: squares of |x'|, rounded while they were added, to bounds of |x'|.

    The compiler takes such roots one at a time, which lasts as long as scoring two features against eight centers.
    """
    f32, f64, i32, i64 = ir.FloatType(), ir.DoubleType(), ir.IntType(32), ir.IntType(64)
    vector = ir.VectorType(f32, LANES)

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        norms, n_features = args
        root = cgutils.get_or_insert_function(b.module, ir.FunctionType(vector, [vector]), f"llvm.sqrt.v{LANES}f32")
        roundings = b.uitofp(b.add(n_features, ir.Constant(i64, 8)), f64)
        factor = b.fadd(ir.Constant(f64, 1.0), b.fmul(roundings, ir.Constant(f64, 2.0**-24)))
        undefined = ir.Constant(vector, ir.Undefined)
        first = b.insert_element(undefined, b.fptrunc(factor, f32), ir.Constant(i32, 0))
        inflate = b.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(i32, LANES), [0] * LANES))
        for v in range(VECTORS):
            pointer = b.inttoptr(b.add(norms, ir.Constant(i64, v * LANES * 4)), vector.as_pointer())
            norm = b.fmul(b.call(root, [b.load(pointer, align=4)]), inflate)
            b.store(b.fadd(norm, ir.Constant(vector, [VANISHED] * LANES)), pointer, align=4)
        return context.get_dummy_value()

    @intrinsic
    def round_up_norms(typing: Any, norms: Any, n_features: Any) -> Any:
        return types.void(*[types.intp] * 2), codegen

    kernel: Callable[..., None] = round_up_norms
    return kernel
