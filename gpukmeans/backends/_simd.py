"""The fast pass of the CPU in registers: score a tile of rows against all centers, keep the two smallest.

`make_score_tile` scores a tile of `_simd_rows`. Rows lie in the SIMD lanes (a tile is n_features x TILE float32),
centers are packed `group` at a time; VECTORS x group vectors of scores are accumulated in registers and no matrix of
distances is ever written. `make_dot_tile` is for few centers of many features, where transposing the rows would cost
more than scoring them. LLVM vector code is emitted directly, as LLVM's own vectoriser does not block for registers.

score = half_c + sum_j fma(-c'_j, x'_j), one chain of fused multiply-adds, or one chain for each CHAIN features
whose sums are then added (a shorter chain has a smaller error bound, see `exact.score_bound`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils as _cgutils
from numba.extending import intrinsic

from ..exact import CHAIN
from ._layout import LANES, TILE, VECTORS

cgutils: Any = _cgutils  # untyped


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
            base = splat(b.trunc(b.mul(g, const(group)), i32), ivector)
            for v in range(VECTORS):  # one after the other: both at once do not fit the registers
                before = least = b.load(best[v])
                runner_up, number = b.load(second[v]), ir.Constant(ivector, [0] * LANES)
                for c in range(group):
                    new = b.load(score[c, v])
                    less = b.fcmp_ordered("<", new, least)
                    loser = b.select(less, least, new)
                    runner_up = b.select(b.fcmp_ordered("<", loser, runner_up), loser, runner_up)
                    least = b.select(less, new, least)
                    number = b.select(less, ir.Constant(ivector, [c] * LANES), number)
                b.store(least, best[v])
                b.store(runner_up, second[v])
                less = b.fcmp_ordered("<", least, before)
                b.store(b.select(less, b.add(base, number), b.load(label[v])), label[v])
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


def make_dot_tile(width: int, double: bool) -> Callable[..., None]:
    """Numba intrinsic ``(rows, ahead, shift, centers, scores, norms, n_features, n_blocks)``; all arrays by address.

    For few centers of many features: here the features lie in the lanes, rows are read as they are, in place, and no
    lane and no center is padding but in the last features. VECTORS rows x `width` centers are accumulated in registers.
    A block of centers stays in the innermost cache for all rows, which come from the next one after the first block.
    What lies at `ahead`, the next rows, is fetched into that cache, spread over all the work, so that arithmetic and
    memory do not wait for each other.

    rows: (TILE,) int64, the address of each row, of float64 if `double`, else float32; shift: of the same type;
    centers: (n_blocks, n_chunks, width, LANES) float32, negated, where the last chunk holds the last LANES features
    and zeros where they are in the chunk before as well; scores: (n_blocks * width, TILE) float32, the sums of
    x' (-c'); norms: (TILE,) float32, at least the sum of x' x'. n_features is at least LANES.
    """
    f32, i8, i32, i64 = ir.FloatType(), ir.IntType(8), ir.IntType(32), ir.IntType(64)
    scalar = ir.DoubleType() if double else f32
    vector, source = ir.VectorType(f32, LANES), ir.VectorType(scalar, LANES)
    mask_type = ir.VectorType(i32, LANES)
    part_type = ir.VectorType(f32, VECTORS)
    size = 8 if double else 4

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        rows, ahead, shift, centers, scores, norms, n_features, n_blocks = args
        fma_type = ir.FunctionType(vector, [vector] * 3)
        fma = cgutils.get_or_insert_function(b.module, fma_type, f"llvm.fma.v{LANES}f32")
        prefetch_type = ir.FunctionType(ir.VoidType(), [i8.as_pointer(), i32, i32, i32])
        prefetch = cgutils.get_or_insert_function(b.module, prefetch_type, "llvm.prefetch.p0")
        zero = ir.Constant(vector, [0.0] * LANES)

        def const(value: int) -> Any:
            return ir.Constant(i64, value)

        def load(base: Any, kind: Any) -> Any:
            return b.load(b.inttoptr(base, kind.as_pointer()), align=4)

        def sums(vectors: list[Any]) -> list[Any]:
            """The sum of the lanes of each vector, LANES sums to a vector: a tree of neighbours."""
            vectors = vectors + [zero] * (-len(vectors) % LANES)
            even = ir.Constant(mask_type, [2 * lane for lane in range(LANES)])
            odd = ir.Constant(mask_type, [2 * lane + 1 for lane in range(LANES)])
            for _ in range(LANES.bit_length() - 1):
                pairs = zip(vectors[::2], vectors[1::2], strict=True)
                vectors = [b.fadd(b.shuffle_vector(x, y, even), b.shuffle_vector(x, y, odd)) for x, y in pairs]
            return vectors

        n_chunks = b.add(b.sdiv(b.sub(n_features, const(1)), const(LANES)), const(1))
        last = b.sub(n_features, const(LANES))
        fetches = max(1, VECTORS * LANES * size // 64)  # a line each, in all: of the rows once for every block
        step = b.add(b.udiv(const(VECTORS * LANES * size // fetches - 1), n_blocks), const(1))
        accumulators = [cgutils.alloca_once(b, vector) for _ in range((width + 1) * VECTORS)]
        coming = cgutils.alloca_once_value(b, ahead)
        with cgutils.for_range(b, n_blocks) as blocks:
            packed = b.add(centers, b.mul(b.mul(blocks.index, n_chunks), const(width * LANES * 4)))
            first_center = b.mul(blocks.index, const(width))
            with cgutils.for_range(b, const(TILE // VECTORS)) as parts:
                first_row = b.mul(parts.index, const(VECTORS))
                row = [load(b.add(rows, b.mul(b.add(first_row, const(r)), const(8))), i64) for r in range(VECTORS)]
                for accumulator in accumulators:
                    b.store(zero, accumulator)
                with cgutils.for_range(b, n_chunks) as chunks:
                    first = b.mul(chunks.index, const(LANES))
                    offset = b.mul(b.select(b.icmp_signed("<", first, last), first, last), const(size))
                    center = b.add(packed, b.mul(chunks.index, const(width * LANES * 4)))
                    chunk_shift = load(b.add(shift, offset), source)
                    moved = [b.fsub(load(b.add(row[r], offset), source), chunk_shift) for r in range(VECTORS)]
                    x = [b.fptrunc(m, vector) if double else m for m in moved]
                    for _ in range(fetches):
                        place = b.load(coming)
                        hints = (ir.Constant(i32, hint) for hint in (0, 2, 1))
                        b.call(prefetch, [b.inttoptr(place, i8.as_pointer()), *hints])
                        b.store(b.add(place, step), coming)
                    for c in range(width):
                        value = load(b.add(center, const(c * LANES * 4)), vector)
                        for r in range(VECTORS):
                            slot = accumulators[c * VECTORS + r]
                            b.store(b.call(fma, [value, x[r], b.load(slot)]), slot)
                    for r in range(VECTORS):
                        slot = accumulators[width * VECTORS + r]
                        b.store(b.call(fma, [x[r], x[r], b.load(slot)]), slot)
                totals = sums([b.load(accumulator) for accumulator in accumulators])
                for c in range(width + 1):
                    lanes = [(c * VECTORS + r) % LANES for r in range(VECTORS)]
                    mask = ir.Constant(ir.VectorType(i32, VECTORS), lanes)
                    part = b.shuffle_vector(totals[c * VECTORS // LANES], zero, mask)
                    line = b.mul(b.add(first_center, const(c)), const(TILE * 4))
                    base = b.add(b.add(scores, line) if c < width else norms, b.mul(first_row, const(4)))
                    b.store(part, b.inttoptr(base, part_type.as_pointer()), align=4)
        return context.get_dummy_value()

    @intrinsic
    def dot_tile(
        typing: Any, rows: Any, ahead: Any, shift: Any, centers: Any, scores: Any, norms: Any, d: Any, blocks: Any
    ) -> Any:
        return types.void(*[types.intp] * 8), codegen

    kernel: Callable[..., None] = dot_tile
    return kernel
