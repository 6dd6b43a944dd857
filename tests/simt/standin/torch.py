"""A small stand-in for PyTorch, enough to hand arrays over: install() puts it into sys.modules as `torch`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from . import creation, dlpack
from .array import ndarray
from .device import Device, getDevice
from .stream import Stream, _BaseStream, get_current_stream

_saved: list[Any] = []
_streams: dict[int, _BaseStream] = {}


class dtype:  # noqa: N801
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"torch.{self.name}"


_NAMES = ("float16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64", "bool")
_dtypes = {np.dtype(name): dtype(name) for name in _NAMES} | {np.dtype("uint16"): dtype("bfloat16")}  # by its bits


class device:  # noqa: N801
    def __init__(self, type: str, index: int | None = None) -> None:
        kind, _, number = type.partition(":")
        self.type, self.index = kind, int(number) if number else index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"


class Tensor:
    """Over an array of the stand-in cupy, or of NumPy where it is on the CPU."""

    def __init__(self, values: Any, requires_grad: bool = False) -> None:
        self._values, self.requires_grad = values, requires_grad

    is_cuda = property(lambda self: isinstance(self._values, ndarray))
    dtype = property(lambda self: _dtypes[self._values.dtype])
    shape = property(lambda self: self._values.shape)
    ndim = property(lambda self: self._values.ndim)

    @property
    def device(self) -> device:
        return device("cuda", self._values.device.id) if self.is_cuda else device("cpu")

    def detach(self) -> Tensor:
        return Tensor(self._values)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice) -> Tensor:
        return Tensor(self._values[key], self.requires_grad)

    def view(self, dtype: dtype) -> Tensor:
        """The same bits in another dtype."""
        return Tensor(self._values.view(dtype.name), self.requires_grad)

    def float(self) -> Tensor:
        """A copy in float32."""
        if self._values.dtype != np.uint16:
            return Tensor(self._values.astype(np.float32))
        bits = self._values.get() if self.is_cuda else self._values
        values = (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return Tensor(creation.array(values) if self.is_cuda else values)

    def contiguous(self) -> Tensor:
        values = self._values
        same = values.flags.c_contiguous
        return self if same else Tensor(values.copy() if self.is_cuda else np.ascontiguousarray(values))

    def is_contiguous(self) -> bool:
        return self._values.flags.c_contiguous

    def data_ptr(self) -> int:
        return self._values.data.ptr if self.is_cuda else self._values.ctypes.data

    def t(self) -> Tensor:
        return Tensor(self._values.T, self.requires_grad)

    def fill_(self, value: float) -> Tensor:
        """On PyTorch's current stream."""
        with Device(self._values.device.id), current_stream()._stream:
            self._values.fill(value)
        return self

    def cpu(self) -> Tensor:
        return Tensor(self._values.get(), self.requires_grad) if self.is_cuda else self

    def numpy(self) -> np.ndarray:
        if self.requires_grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        if self.is_cuda:
            raise TypeError(
                f"can't convert {self.device} device type tensor to numpy. "
                "Use Tensor.cpu() to copy the tensor to host memory first."
            )
        return self._values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = self.numpy()
        return values if dtype is None else values.astype(dtype, copy=bool(copy))

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if not self.is_cuda:
            raise AttributeError("Can't get __cuda_array_interface__ on non-CUDA tensor type")
        if self.requires_grad:
            raise RuntimeError(
                "Can't get __cuda_array_interface__ on Variable that requires grad. "
                "If gradients aren't required, use var.detach() to get Variable that doesn't require grad."
            )
        interface = {**self._values.__cuda_array_interface__, "version": 2}  # version 2 names no stream
        del interface["stream"]
        return interface

    def __dlpack__(
        self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: Any = None
    ) -> Any:
        if self.requires_grad:
            raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
        if not self.is_cuda:
            return self._values.__dlpack__()
        with current_stream()._stream:
            return dlpack.export(self._values, stream, dl_device, copy)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._values.__dlpack_device__()


class _Stream:
    """torch.cuda.Stream."""

    def __init__(self, device: Any = None, *, _stream: _BaseStream | None = None) -> None:
        self._stream = Stream(non_blocking=True) if _stream is None else _stream
        self.cuda_stream = self._stream.ptr

    def synchronize(self) -> None:
        self._stream.synchronize()


def current_stream(device: Any = None) -> _Stream:
    """PyTorch has its own current stream, which is not CuPy's."""
    where = getDevice() if device is None else getattr(device, "index", device)
    return _Stream(_stream=_streams.get(where, Stream.null))


@contextmanager
def _use(stream: _Stream) -> Iterator[None]:
    before = _streams.get(getDevice(), Stream.null)
    _streams[getDevice()] = stream._stream
    try:
        yield
    finally:
        _streams[getDevice()] = before


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    values = data._values if isinstance(data, Tensor) else np.asarray(data)
    if dtype is not None:
        values = values.astype(dtype.name)
    if device is not None and str(device).startswith("cuda") and not isinstance(values, ndarray):
        with Device(int(str(device).partition(":")[2] or getDevice())), current_stream()._stream:
            values = creation.array(values)
    return Tensor(values)


def from_numpy(ndarray: np.ndarray) -> Tensor:
    return Tensor(ndarray)


def from_dlpack(ext_tensor: Any) -> Tensor:
    if ext_tensor.__dlpack_device__()[0] == dlpack.CPU:
        return Tensor(np.from_dlpack(ext_tensor))
    with current_stream()._stream:
        capsule = ext_tensor.__dlpack__(stream=get_current_stream().ptr or 1)
    return Tensor(capsule.take())


def install() -> None:
    """Make `import torch` give this."""
    module = ModuleType("torch")
    module.__spec__ = ModuleSpec("torch", None)
    cuda = SimpleNamespace(current_stream=current_stream, Stream=_Stream, stream=_use, is_available=lambda: True)
    names = dict(Tensor=Tensor, device=device, dtype=dtype, cuda=cuda, as_tensor=as_tensor)
    names |= dict(from_numpy=from_numpy, from_dlpack=from_dlpack, **{d.name: d for d in _dtypes.values()})
    vars(module).update(names)
    _saved.append(sys.modules.get("torch"))
    sys.modules["torch"] = module


def uninstall() -> None:
    """Put back what was there."""
    before = _saved.pop()
    sys.modules.pop("torch") if before is None else sys.modules.update(torch=before)
    _streams.clear()
