"""The fast pass of the CPU in registers: score a tile of rows against all centers, keep the two smallest.

`make_pack_tile` transposes rows into a tile, `make_score_tile` scores it. Rows lie in the SIMD lanes (a tile is
n_features x TILE float32), centers are packed `group` at a time; VECTORS x group vectors of scores are accumulated in
registers and no matrix of distances is ever written. LLVM vector code is emitted directly, because LLVM's own
vectoriser does not block for registers.

score = half_c + sum_j fma(-c'_j, x'_j), one chain of fused multiply-adds, or one chain for each CHAIN features
whose sums are then added (a shorter chain has a smaller error bound, see `exact.score_bound`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils as _cgutils
from numba.extending import intrinsic

from ..exact import CHAIN


def _layout(features: Any) -> tuple[int, int]:
    """(lanes, vectors) so that `vectors` x 6 accumulators, `vectors` rows and one center fit the registers."""
    if features.get("avx512f"):
        return 16, 4
    if features.get("avx2") or features.get("avx"):
        return 8, 2
    if features.get("neon"):
        return 4, 4
    return 4, 2


cgutils: Any = _cgutils  # untyped
LANES, VECTORS = _layout(binding.get_host_cpu_features())
TILE = LANES * VECTORS
"""Rows of one tile."""

GROUPS = (6, 4)
"""Sizes of a group of centers for which kernels exist."""


def make_score_tile(group: int, chained: bool) -> Callable[..., None]:
    """Numba intrinsic ``(rows, centers, half, best, label, second, n_features, n_groups)``; all arrays by address.

    rows: (n_features, TILE) float32; centers: (n_groups, n_features, group) float32, negated; half: (n_groups * group,)
    float32, infinite in the padding; best, second: (TILE,) float32; label: (TILE,) int32.
    """
    f32, i32, i64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
    vector, ivector = ir.VectorType(f32, LANES), ir.VectorType(i32, LANES)
    lane_bytes, tile_bytes = LANES * 4, TILE * 4
    pairs = [(c, v) for c in range(group) for v in range(VECTORS)]

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        rows, centers, half, best_out, label_out, second_out, n_features, n_groups = args
        fma_type = ir.FunctionType(vector, [vector] * 3)
        fma = cgutils.get_or_insert_function(b.module, fma_type, f"llvm.fma.v{LANES}f32")
        first_lane = ir.Constant(ivector, [0] * LANES)
        zero = ir.Constant(vector, [0.0] * LANES)
        infinity = ir.Constant(vector, [float("inf")] * LANES)

        def const(value: int) -> Any:
            return ir.Constant(i64, value)

        def at(base: Any, offset: int, kind: Any) -> Any:
            return b.inttoptr(b.add(base, const(offset)), kind.as_pointer())

        def load(base: Any, offset: int, kind: Any) -> Any:
            return b.load(at(base, offset, kind), align=4)

        def store(value: Any, base: Any, offset: int, kind: Any) -> None:
            b.store(value, at(base, offset, kind), align=4)

        def splat(scalar: Any, kind: Any) -> Any:
            undefined = ir.Constant(kind, ir.Undefined)
            return b.shuffle_vector(b.insert_element(undefined, scalar, ir.Constant(i32, 0)), undefined, first_lane)

        score = {pair: cgutils.alloca_once(b, vector) for pair in pairs}
        best = [cgutils.alloca_once(b, vector) for _ in range(VECTORS)]
        second = [cgutils.alloca_once(b, vector) for _ in range(VECTORS)]
        label = [cgutils.alloca_once(b, ivector) for _ in range(VECTORS)]
        total = b.ptrtoint(cgutils.alloca_once(b, ir.ArrayType(f32, group * TILE)), i64) if chained else None
        for v in range(VECTORS):
            b.store(infinity, best[v])
            b.store(infinity, second[v])
            b.store(ir.Constant(ivector, [0] * LANES), label[v])

        def multiply_add(packed: Any, start: Any, count: Any) -> None:
            with cgutils.for_range(b, count) as loop:
                j = b.add(start, loop.index)
                row = b.add(rows, b.mul(j, const(tile_bytes)))
                center = b.add(packed, b.mul(j, const(group * 4)))
                x = [load(row, v * lane_bytes, vector) for v in range(VECTORS)]
                for c in range(group):
                    value = splat(load(center, c * 4, f32), vector)
                    for v in range(VECTORS):
                        b.store(b.call(fma, [value, x[v], b.load(score[c, v])]), score[c, v])

        with cgutils.for_range(b, n_groups) as outer:
            g = outer.index
            halves = b.add(half, b.mul(g, const(group * 4)))
            packed = b.add(centers, b.mul(g, b.mul(n_features, const(group * 4))))
            for c in range(group):
                value = splat(load(halves, c * 4, f32), vector)
                for v in range(VECTORS):
                    if chained:
                        store(value, total, (c * VECTORS + v) * lane_bytes, vector)
                    else:
                        b.store(value, score[c, v])
            if chained:
                n_chains = b.sdiv(b.add(n_features, const(CHAIN - 1)), const(CHAIN))
                with cgutils.for_range(b, n_chains) as chains:
                    start = b.mul(chains.index, const(CHAIN))
                    left = b.sub(n_features, start)
                    for pair in pairs:
                        b.store(zero, score[pair])
                    multiply_add(packed, start, b.select(b.icmp_signed("<", left, const(CHAIN)), left, const(CHAIN)))
                    for c, v in pairs:
                        offset = (c * VECTORS + v) * lane_bytes
                        part = b.fadd(load(total, offset, vector), b.load(score[c, v]))
                        store(part, total, offset, vector)
                for c, v in pairs:
                    b.store(load(total, (c * VECTORS + v) * lane_bytes, vector), score[c, v])
            else:
                multiply_add(packed, const(0), n_features)
            first_label = b.trunc(b.mul(g, const(group)), i32)
            for c in range(group):
                number = splat(b.add(first_label, ir.Constant(i32, c)), ivector)
                for v in range(VECTORS):
                    new, old = b.load(score[c, v]), b.load(best[v])
                    less = b.fcmp_ordered("<", new, old)
                    loser, runner_up = b.select(less, old, new), b.load(second[v])
                    b.store(b.select(b.fcmp_ordered("<", loser, runner_up), loser, runner_up), second[v])
                    b.store(b.select(less, new, old), best[v])
                    b.store(b.select(less, number, b.load(label[v])), label[v])
        for v in range(VECTORS):
            store(b.load(best[v]), best_out, v * lane_bytes, vector)
            store(b.load(second[v]), second_out, v * lane_bytes, vector)
            store(b.load(label[v]), label_out, v * lane_bytes, ivector)
        return context.get_dummy_value()

    @intrinsic
    def score_tile(
        typing: Any, rows: Any, centers: Any, half: Any, best: Any, label: Any, second: Any, d: Any, groups: Any
    ) -> Any:
        return types.void(*[types.intp] * 8), codegen

    kernel: Callable[..., None] = score_tile
    return kernel


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
    """Numba intrinsic ``(rows, row_bytes, shift, tile, n_chunks)``: tile = (rows - shift) transposed, as float32.

    rows: TILE rows `row_bytes` apart, of float64 if `double`, else float32; shift: (n_features,) of the same type;
    tile: (n_features, TILE) float32. Handles ``n_chunks * LANES`` features, LANES x LANES values at a time.
    """
    i32, i64 = ir.IntType(32), ir.IntType(64)
    scalar = ir.DoubleType() if double else ir.FloatType()
    source, target = ir.VectorType(scalar, LANES), ir.VectorType(ir.FloatType(), LANES)
    size = 8 if double else 4
    mask_type = ir.VectorType(i32, LANES)

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        rows, row_bytes, shift, tile, n_chunks = args

        def load(base: Any) -> Any:
            return b.load(b.inttoptr(base, source.as_pointer()), align=4)

        with cgutils.for_range(b, n_chunks) as chunks:
            offset = b.mul(chunks.index, ir.Constant(i64, LANES * size))
            chunk_shift = load(b.add(shift, offset))
            chunk_tile = b.add(tile, b.mul(chunks.index, ir.Constant(i64, LANES * TILE * 4)))
            with cgutils.for_range(b, ir.Constant(i64, VECTORS)) as groups:
                first = b.add(b.add(rows, offset), b.mul(b.mul(groups.index, ir.Constant(i64, LANES)), row_bytes))
                block = []
                for r in range(LANES):
                    x = b.fsub(load(b.add(first, b.mul(row_bytes, ir.Constant(i64, r)))), chunk_shift)
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
                column = b.add(chunk_tile, b.mul(groups.index, ir.Constant(i64, LANES * 4)))
                for r in range(LANES):
                    pointer = b.inttoptr(b.add(column, ir.Constant(i64, r * TILE * 4)), target.as_pointer())
                    b.store(block[r], pointer, align=4)
        return context.get_dummy_value()

    @intrinsic
    def pack_tile(typing: Any, rows: Any, row_bytes: Any, shift: Any, tile: Any, n_chunks: Any) -> Any:
        return types.void(*[types.intp] * 5), codegen

    kernel: Callable[..., None] = pack_tile
    return kernel
