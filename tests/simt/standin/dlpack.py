"""Memory that is shared: DLPack (a capsule is an object of ours, taken once) and __cuda_array_interface__."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import array as arrays
from .control import control
from .device import Device, getDevice
from .memory import MemoryPointer, UnownedMemory
from .queues import find
from .stream import _BaseStream, get_current_stream

CPU, CUDA = 1, 2


class Capsule:
    """Holds an object with __cuda_array_interface__ until it is taken."""

    def __init__(self, owner: Any) -> None:
        self.owner = owner

    def take(self) -> Any:
        if self.owner is None:
            raise ValueError("A DLPack tensor object cannot be consumed multiple times (or object was not a capsule).")
        owner, self.owner = self.owner, None
        return owner


def export(array: Any, stream: Any, dl_device: Any, copy: Any) -> Capsule:
    """What ndarray.__dlpack__ does: the consumer's stream waits for the current one."""
    if dl_device not in (None, array.__dlpack_device__()):
        raise BufferError("unsupported device requested.")
    if copy is True:
        raise BufferError("copy=True only supported for copy to CPU.")
    stream = 1 if stream is None else stream
    if not isinstance(stream, int) or stream < -1 or stream == 0:
        raise ValueError(
            "On CUDA, the valid stream for the DLPack protocol is -1, 1, 2, or any larger value,"
            f" but {stream} was provided"
        )
    current = get_current_stream()
    if stream not in (-1, current.ptr or 1):
        _BaseStream(stream, -1).wait_event(current.record())
    return Capsule(array)


def from_dlpack(array: Any, *, device: Any = None, copy: bool | None = None) -> Any:
    """The producer is told the current stream, and orders its own before it; the host does not wait."""
    if device is not None:
        raise NotImplementedError("from_dlpack() does not support device yet.")
    kind, where = array.__dlpack_device__()
    if kind == CPU:
        raise TypeError(
            "CPU arrays cannot be directly imported to CuPy. Use `cupy.array(numpy.from_dlpack(input))` instead."
        )
    if kind != CUDA:
        raise TypeError(f"Unsupported array type: {kind}")
    with Device(where):
        stream = get_current_stream().ptr or 1
        try:
            capsule = array.__dlpack__(stream=stream, max_version=(1, 0), copy=copy)
        except TypeError:
            if copy is not None:
                raise
            capsule = array.__dlpack__(stream=stream)
    owner = capsule.take()
    return _share(owner, owner.__cuda_array_interface__)


def from_interface(owner: Any) -> Any:
    """What asarray does: the host waits for the stream that the interface names."""
    interface = owner.__cuda_array_interface__
    result = _share(owner, interface)
    if interface.get("stream") is not None:
        queue = find(result.device.id, interface["stream"])
        control.log.syncs["interface"] += 1
        queue.run()
    return result


def _share(owner: Any, interface: dict[str, Any]) -> Any:
    """An array on the memory of another object, which stays alive."""
    shape, strides, dtype = interface["shape"], interface.get("strides"), np.dtype(interface["typestr"])
    if interface.get("mask") is not None:
        raise ValueError("CuPy currently does not support masked arrays.")
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if strides is not None and size:
        size = sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + dtype.itemsize
    memory = UnownedMemory(interface["data"][0], size, owner, -1 if size else getDevice())
    return arrays.ndarray(shape, dtype, MemoryPointer(memory, 0), strides)
