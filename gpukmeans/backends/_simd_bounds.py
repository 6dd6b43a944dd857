"""The arithmetic of the bounds of pruning on whole tiles, as vector code: it runs for every group that is scored.

Written in LLVM's vectors because the compiler leaves such short loops over several arrays scalar. Nothing is fastmath;
every result is rounded outward by MARGIN, and a NaN becomes the infinity that proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils as _cgutils
from numba.extending import intrinsic

from ._layout import LANES, MARGIN, TINY, VECTORS

cgutils: Any = _cgutils  # untyped

_F32, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_VECTOR, _LABELS = ir.VectorType(_F32, LANES), ir.VectorType(_I32, LANES)


class _Code:
    """Vector code at the end of a block; arrays of one tile are given by address."""

    def __init__(self, builder: Any) -> None:
        self.b = builder
        self.zero, self.infinity = self.constant(0.0), self.constant(float("inf"))

    @staticmethod
    def constant(value: float) -> Any:
        return ir.Constant(_VECTOR, [value] * LANES)

    def _pointer(self, base: Any, v: int, kind: Any) -> Any:
        return self.b.inttoptr(self.b.add(base, ir.Constant(_I64, v * LANES * 4)), kind.as_pointer())

    def load(self, base: Any, v: int, kind: Any = _VECTOR) -> Any:
        return self.b.load(self._pointer(base, v, kind), align=4)

    def store(self, value: Any, base: Any, v: int) -> None:
        self.b.store(value, self._pointer(base, v, value.type), align=4)

    def splat(self, scalar: Any, kind: Any) -> Any:
        undefined = ir.Constant(kind, ir.Undefined)
        first = self.b.insert_element(undefined, scalar, ir.Constant(_I32, 0))
        return self.b.shuffle_vector(first, undefined, ir.Constant(_LABELS, [0] * LANES))

    def less(self, x: Any, y: Any) -> Any:
        return self.b.fcmp_ordered("<", x, y)

    def smaller(self, x: Any, y: Any) -> Any:
        return self.b.select(self.less(x, y), x, y)

    def call(self, name: str, x: Any) -> Any:
        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        return self.b.call(cgutils.get_or_insert_function(self.b.module, kind, f"llvm.{name}.v{LANES}f32"), [x])

    def distance(self, score: Any, norm: Any, error: Any, margin: float) -> Any:
        """Root of ``2 score + norm^2 + error``, times ``1 + margin``."""
        b = self.b
        sq = b.fadd(b.fadd(b.fadd(score, score), b.fmul(norm, norm)), error)
        sq = b.select(self.less(sq, self.zero), self.zero, sq)
        return b.fmul(self.call("sqrt", sq), self.constant(1 + margin))

    def gap(self, low: Any, high: Any) -> Any:
        """Lower bound of ``low - high``; -inf for a NaN."""
        b = self.b
        margin = b.fmul(b.fadd(self.call("fabs", low), self.call("fabs", high)), self.constant(MARGIN))
        value = b.fsub(b.fsub(low, high), margin)
        return b.select(b.fcmp_ordered("ord", value, value), value, self.constant(float("-inf")))

    def lowest(self, vectors: list[Any]) -> Any:
        """Smallest lane of all vectors."""
        value = vectors[0]
        for other in vectors[1:]:
            value = self.smaller(value, other)
        step = LANES // 2
        while step:
            swapped = ir.Constant(_LABELS, [lane ^ step for lane in range(LANES)])
            value = self.smaller(value, self.b.shuffle_vector(value, value, swapped))
            step //= 2
        return self.b.extract_element(value, ir.Constant(_I32, 0))


def _make_merge() -> Callable[..., None]:
    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        group_best, group_second, group_label, first, best, second, label = args
        code = _Code(b)
        shift = code.splat(b.trunc(first, _I32), _LABELS)
        for v in range(VECTORS):
            new, old = code.load(group_best, v), code.load(best, v)
            place = b.add(code.load(group_label, v, _LABELS), shift)
            is_less = code.less(new, old)
            loser = b.select(is_less, old, new)
            runner_up = code.smaller(code.load(group_second, v), code.load(second, v))
            code.store(place, group_label, v)
            code.store(code.smaller(loser, runner_up), second, v)
            code.store(b.select(is_less, place, code.load(label, v, _LABELS)), label, v)
            code.store(b.select(is_less, new, old), best, v)
        return context.get_dummy_value()

    @intrinsic
    def merge(
        typing: Any, group_best: Any, group_second: Any, places: Any, first: Any, best: Any, second: Any, label: Any
    ) -> Any:
        return types.void(*[types.intp] * 7), codegen

    kernel: Callable[..., None] = merge
    return kernel


def _make_excess() -> Callable[..., float]:
    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        best, norm, error, anchor, u = args
        code = _Code(b)
        gaps = []
        for v in range(VECTORS):
            distance = code.distance(code.load(best, v), code.load(norm, v), code.load(error, v), MARGIN)
            distance = b.fadd(distance, code.constant(TINY))
            code.store(distance, u, v)
            gaps.append(code.gap(code.load(anchor, v), distance))
        return b.fsub(ir.Constant(_F32, -0.0), code.lowest(gaps))

    @intrinsic
    def excess(typing: Any, best: Any, norm: Any, error: Any, anchor: Any, u: Any) -> Any:
        return types.float32(*[types.intp] * 5), codegen

    kernel: Callable[..., float] = excess
    return kernel


def _make_slack() -> Callable[..., float]:
    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        group_best, group_second, group_label, label, norm, error, u = args
        code = _Code(b)
        gaps = []
        for v in range(VECTORS):
            is_own = b.icmp_signed("==", code.load(group_label, v, _LABELS), code.load(label, v, _LABELS))
            score = b.select(is_own, code.load(group_second, v), code.load(group_best, v))
            error_v = b.fsub(code.zero, code.load(error, v))
            distance = b.fsub(code.distance(score, code.load(norm, v), error_v, -MARGIN), code.constant(TINY))
            gaps.append(code.gap(distance, code.load(u, v)))
        return code.lowest(gaps)

    @intrinsic
    def slack(
        typing: Any, group_best: Any, group_second: Any, group_label: Any, label: Any, norm: Any, error: Any, u: Any
    ) -> Any:
        return types.float32(*[types.intp] * 7), codegen

    kernel: Callable[..., float] = slack
    return kernel


merge = _make_merge()
"""``(group_best, group_second, group_label, first, best, second, label)``: add the two smallest scores of a group whose
places begin at `first` to those of the groups before; `group_label` becomes places."""

excess = _make_excess()
"""``(best, norm, error, anchor, u)``: fill u with upper bounds of the distance to the center of the best score and
return an upper bound of the largest ``u - anchor``."""

slack = _make_slack()
"""``(group_best, group_second, group_label, label, norm, error, u)``: lower bound of the smallest ``l - u``, where l is
the distance to the nearest center of the group that is not the row's own (`label`)."""
