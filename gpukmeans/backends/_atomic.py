"""Numbers that several threads read and write while kernels run: every access is one step, in one order for all."""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils as _cgutils
from numba.extending import intrinsic

cgutils: Any = _cgutils  # untyped

_INT64 = ir.IntType(64)


def _pointer(context: Any, b: Any, kind: Any, array: Any, index: Any) -> Any:
    return b.gep(context.make_array(kind)(context, b, array).data, [index])


def _fetch_add(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Add to the element of a C-contiguous array of int64 with that number; returns what it was."""

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        return b.atomic_rmw("add", _pointer(context, b, signature.args[0], args[0], args[1]), args[2], "seq_cst")

    return types.int64(array, types.intp, types.int64), codegen


def _read(typing: Any, array: Any, index: Any) -> Any:
    """The element of a C-contiguous array of int64 with that number."""

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        return b.load_atomic(_pointer(context, b, signature.args[0], args[0], args[1]), "seq_cst", 8)

    return types.int64(array, types.intp), codegen


def _write(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Set the element of a C-contiguous array of int64 with that number."""

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        b.store_atomic(args[2], _pointer(context, b, signature.args[0], args[0], args[1]), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), codegen


def _pause(typing: Any) -> Any:
    """Let the other thread of the core go first for a moment, where the processor can."""

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        if platform.machine().lower() in ("x86_64", "amd64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            b.call(cgutils.get_or_insert_function(b.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), codegen


fetch_add: Any = intrinsic(_fetch_add)
read: Any = intrinsic(_read)
write: Any = intrinsic(_write)
pause: Any = intrinsic(_pause)
