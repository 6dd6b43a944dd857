"""Host memory: what is pinned, and what an asynchronous copy does with it.

A copy from pageable memory takes the values at the call; one from pinned memory takes them when the queue runs, so
overwriting the buffer before that gives wrong numbers. A pinned buffer that dies is poisoned at once: CuPy's pool may
hand it out again at once.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from typing import Any

import numpy as np

from .errors import need_device

POISON = 0xFF  # NaN for floats, -1 for integers
_listing = threading.Lock()
_live: weakref.WeakValueDictionary[int, PinnedMemoryPointer] = weakref.WeakValueDictionary()


class PinnedMemoryPointer:
    """Usable with np.frombuffer, which keeps it alive."""

    ptr: int
    mem: Any
    _raw: np.ndarray

    def size(self) -> int:
        return ctypes.sizeof(self)

    def __del__(self) -> None:
        self._raw[:] = POISON


def alloc_pinned_memory(size: int) -> PinnedMemoryPointer:
    need_device()
    raw = np.full(max(size, 1) + 512, POISON, np.uint8)
    raw = raw[-raw.ctypes.data % 512 :][: max(size, 1)]
    kind = type("PinnedMemoryPointer", (PinnedMemoryPointer, ctypes.c_ubyte * max(size, 1)), {})
    pinned = kind.from_buffer(raw)
    pinned._raw, pinned.mem, pinned.ptr = raw, pinned, raw.ctypes.data
    pinned.mem = None
    with _listing:
        _live[pinned.ptr] = pinned
    return pinned


def pinned_bytes(ptr: int, size: int) -> np.ndarray | None:
    """The bytes [ptr, ptr + size) if they are pinned memory; they outlive its object."""
    with _listing:
        live = list(_live.items())
    for start, pinned in live:
        if start <= ptr < start + pinned.size():
            if ptr + size > start + pinned.size():
                raise ValueError("stand-in: a copy past the end of pinned memory")
            return pinned._raw[ptr - start : ptr - start + size]
    return None


def pageable_bytes(ptr: int, size: int) -> np.ndarray:
    """A view of ordinary host memory."""
    return np.frombuffer((ctypes.c_ubyte * size).from_address(ptr), np.uint8)


class PinnedMemoryPool:
    def malloc(self, size: int) -> PinnedMemoryPointer:
        return alloc_pinned_memory(size)

    def free_all_blocks(self) -> None:
        """Nothing is kept."""

    def n_free_blocks(self) -> int:
        return 0
