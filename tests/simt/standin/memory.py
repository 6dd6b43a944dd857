"""Memory of devices: poisoned when new, poisoned again in stream order when freed.

CuPy's pool gives a freed block back to the stream on which it was allocated, at once; the next allocation there may
reuse it. That is right for work queued earlier on that stream, and a race with any other stream.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from . import device, queues
from .control import control
from .errors import CUDARuntimeError, OutOfMemoryError, invalid
from .pinned import POISON, pageable_bytes, pinned_bytes
from .stream import get_current_stream, queue_for

MARGIN, MARGIN_BYTE = 512, 0xA5  # behind every block; written to by a kernel that runs past its end


class Block:
    """Some bytes of a device, from allocation to the poison after its end."""

    def __init__(self, size: int, device_id: int, queue: queues.Queue) -> None:
        raw = np.full(size + MARGIN + 512, MARGIN_BYTE, np.uint8)
        start = -raw.ctypes.data % 512
        self.bytes, self.margin = raw[start : start + size], raw[start + size : start + size + MARGIN]
        self.bytes[:] = POISON
        self.ptr, self.size, self.device_id = self.bytes.ctypes.data, size, device_id
        self.queue, self.generation = queue, device.generation()
        self.freed: queues.Place | None = None
        blocks[self.ptr] = self

    def free(self) -> None:
        with queues.running:
            if self.generation == device.generation():
                pool_of(self.device_id).used -= rounded(self.size)
                self.freed = self.queue.submit(self._end)

    def _end(self) -> None:
        self.check_margin()
        self.bytes[:] = POISON

    def check_margin(self) -> None:
        if (self.margin != MARGIN_BYTE).any():
            self.margin[:] = MARGIN_BYTE
            raise RuntimeError(f"stand-in: written past the end of {self.size} bytes of device memory")


blocks: weakref.WeakValueDictionary[int, Block] = weakref.WeakValueDictionary()


def block_at(ptr: int) -> Block | None:
    """The device memory in which an address lies."""
    return next((b for b in list(blocks.values()) if b.ptr <= ptr < b.ptr + max(b.size, 1)), None)


def rounded(size: int) -> int:
    """What the pool takes for a request."""
    return -(-size // 512) * 512


class _DevicePool:
    used = total = limit = 0


_pools: dict[int, _DevicePool] = {}


def reset() -> None:
    """All memory is free again."""
    _pools.clear()


def pool_of(device_id: int) -> _DevicePool:
    """The account of one device."""
    return _pools.setdefault(device_id, _DevicePool())


class BaseMemory:
    _block: Block | None = None

    def __init__(self, ptr: int, size: int, device_id: int) -> None:
        self.ptr, self.size, self.device_id = ptr, size, device_id

    @property
    def device(self) -> device.Device:
        return device.Device(self.device_id)


class Memory(BaseMemory):
    def __init__(self, size: int) -> None:
        here = device.getDevice()
        super().__init__(0, size, here)
        if size == 0:
            return
        if get_current_stream()._queue.captured is not None:
            raise RuntimeError("stand-in: memory is allocated while a stream is captured")
        with queues.running:
            pool, limit = pool_of(here), pool_of(here).limit
            most = min(limit or control.device_memory, control.device_memory)
            if control.allocation_fails() or pool.used + rounded(size) > most:
                raise OutOfMemoryError(rounded(size), pool.used, limit)
            pool.used += rounded(size)
            pool.total = max(pool.total, pool.used)
            control.log.allocated_bytes += size
        self._block = Block(size, here, get_current_stream()._queue)
        self.ptr = self._block.ptr

    def __del__(self) -> None:
        if self._block is not None:
            self._block.free()


class UnownedMemory(BaseMemory):
    def __init__(self, ptr: int, size: int, owner: object, device_id: int = -1) -> None:
        self._owner, self._block = owner, block_at(ptr) if ptr else None
        if self._block is None and size:
            invalid(CUDARuntimeError, f"{ptr:#x} is no device memory")
        if self._block is not None and ptr + size > self._block.ptr + self._block.size:
            invalid(CUDARuntimeError, "past the end of the memory")
        if device_id == -1:
            device_id = self._block.device_id if self._block else device.getDevice()
        super().__init__(ptr, size, device_id)


class MemoryPointer:
    def __init__(self, mem: BaseMemory, offset: int) -> None:
        self.mem, self.ptr, self.device_id = mem, mem.ptr + offset, mem.device_id
        if not 0 <= offset <= mem.size:
            raise ValueError(f"stand-in: offset {offset} in {mem.size} bytes")

    @property
    def device(self) -> device.Device:
        return self.mem.device

    def __int__(self) -> int:
        return self.ptr

    def __add__(self, offset: int) -> MemoryPointer:
        return MemoryPointer(self.mem, self.ptr - self.mem.ptr + offset)

    def __sub__(self, offset: int) -> MemoryPointer:
        return self + -offset

    def _view(self, size: int) -> np.ndarray:
        """The bytes from here on."""
        block = self.mem._block
        if block is None:
            return np.empty(0, np.uint8)
        start = self.ptr - block.ptr
        if self.ptr + size > self.mem.ptr + self.mem.size:
            raise ValueError(f"stand-in: {size} bytes from offset {start} on, in {self.mem.size} bytes")
        return block.bytes[start : start + size]

    def _submit(self, run: Callable[[], Any], stream: Any, *others: MemoryPointer) -> queues.Queue:
        queue = queue_for(stream, self.device_id)
        queue.submit(run, touches=[p.mem._block for p in (self, *others) if p.mem._block])
        return queue

    def memset_async(self, value: int, size: int, stream: Any = None) -> None:
        to = self._view(size)
        self._submit(lambda: to.fill(value), stream)

    def copy_from_host_async(self, mem: Any, size: int, stream: Any = None) -> None:
        if size == 0:
            return
        ptr, to = mem if isinstance(mem, int) else mem.value, self._view(size)
        source = pinned_bytes(ptr, size)
        if source is None and queue_for(stream, self.device_id).captured is not None:
            raise RuntimeError("stand-in: memory that is not page-locked is copied while a stream is captured")
        if source is None:
            source = pageable_bytes(ptr, size).copy()  # staged: the caller may overwrite it at once
        control.log.to_device.append(size)
        self._submit(lambda: to.__setitem__(slice(None), source), stream)

    def copy_to_host_async(self, mem: Any, size: int, stream: Any = None) -> None:
        if size == 0:
            return
        ptr, source = mem if isinstance(mem, int) else mem.value, self._view(size)
        to = pinned_bytes(ptr, size)
        wait = to is None  # CUDA itself waits where the memory is pageable
        to = pageable_bytes(ptr, size) if to is None else to
        control.log.to_host.append(size)
        queue = self._submit(lambda: to.__setitem__(slice(None), source), stream)
        if wait:
            control.log.syncs["stream"] += 1
            queue.run()

    def copy_from_device_async(self, src: MemoryPointer, size: int, stream: Any = None) -> None:
        """From any device: on a stream of this one's, which alone is ordered by it."""
        to, source = self._view(size), src._view(size)
        near = src.device_id == self.device_id
        (control.log.within_device if near else control.log.between_devices).append(size)
        self._submit(lambda: to.__setitem__(slice(None), source), stream, src)


def alloc(size: int) -> MemoryPointer:
    return MemoryPointer(Memory(size), 0)


class MemoryPool:
    def malloc(self, size: int) -> MemoryPointer:
        return alloc(size)

    def used_bytes(self) -> int:
        return pool_of(device.getDevice()).used

    def total_bytes(self) -> int:
        return pool_of(device.getDevice()).total

    def free_bytes(self) -> int:
        return self.total_bytes() - self.used_bytes()

    def free_all_blocks(self, stream: Any = None) -> None:
        pool_of(device.getDevice()).total = self.used_bytes()

    def set_limit(self, size: int | None = None, fraction: float | None = None) -> None:
        if (size is None) == (fraction is None):
            raise ValueError("size and fraction are mutually exclusive; set either")
        pool_of(device.getDevice()).limit = int(control.device_memory * fraction) if size is None else size

    def get_limit(self) -> int:
        return pool_of(device.getDevice()).limit
