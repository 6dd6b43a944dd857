"""cupy.ndarray."""

from __future__ import annotations

import operator
from types import SimpleNamespace
from typing import Any

import numpy as np

from . import compute, dlpack
from .control import control
from .device import Device, getDevice
from .memory import MemoryPointer, alloc
from .stream import get_current_stream, queue_for


class ndarray:  # noqa: N801
    __hash__ = None
    __array_priority__ = 100

    def __init__(
        self,
        shape: Any,
        dtype: Any = float,
        memptr: MemoryPointer | None = None,
        strides: tuple[int, ...] | None = None,
        order: str | None = "C",
    ) -> None:
        shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
        dtype = np.dtype(dtype)
        if dtype.kind not in "biufc" or dtype.byteorder == ">":
            raise ValueError(f"Unsupported dtype {dtype}")
        if strides is not None and memptr is None:
            raise ValueError("memptr is required if strides is given.")
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        self.data, self.base = alloc(size) if memptr is None else memptr, None
        if strides is not None and size:
            size = sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + dtype.itemsize
        buffer = self.data._view(size) if size else None
        self._a = np.ndarray(shape, dtype, buffer, 0, strides, None if strides else order or "C")

    @classmethod
    def _of(cls, view: np.ndarray, base: ndarray) -> ndarray:
        """An array that is a NumPy view of another one's memory."""
        self = cls.__new__(cls)
        self.base, self._a = base if base.base is None else base.base, view
        block = base.data.mem._block
        self.data = base.data if block is None or not view.size else base.data + (view.ctypes.data - base.data.ptr)
        return self

    shape = property(lambda self: self._a.shape)
    dtype = property(lambda self: self._a.dtype)
    ndim = property(lambda self: self._a.ndim)
    size = property(lambda self: self._a.size)
    nbytes = property(lambda self: self._a.nbytes)
    itemsize = property(lambda self: self._a.itemsize)
    strides = property(lambda self: self._a.strides)
    T = property(lambda self: self if self.ndim < 2 else ndarray._of(self._a.T, self))

    @property
    def flags(self) -> SimpleNamespace:
        f = self._a.flags
        return SimpleNamespace(c_contiguous=f.c_contiguous, f_contiguous=f.f_contiguous, owndata=self.base is None)

    @property
    def device(self) -> Device:
        return self.data.device

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "descr": self.dtype.descr,
            "stream": get_current_stream().ptr or 1,
            "version": 3,
            "strides": None if self.flags.c_contiguous else self.strides,
            "data": (self.data.ptr if self.size else 0, False),
        }

    def __dlpack__(
        self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: Any = None
    ) -> Any:
        return dlpack.export(self, stream, dl_device, copy)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, self.device.id)

    def __array__(self, dtype: Any = None) -> Any:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """CuPy would run its own ufunc; the backend is to say cupy.add if it means it."""
        return NotImplemented

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return NotImplemented

    def get(self, stream: Any = None, order: str = "C", out: np.ndarray | None = None, blocking: bool = True) -> Any:
        stream = get_current_stream() if stream is None else stream
        if out is not None:
            if not isinstance(out, np.ndarray):
                raise TypeError("Only numpy.ndarray can be obtained fromcupy.ndarray")
            if out.dtype != self.dtype:
                raise TypeError(f"{out.dtype} array cannot be obtained from {self.dtype} array")
            if out.shape != self.shape:
                raise ValueError(f"Shape mismatch. Expected shape: {self.shape}, actual shape: {out.shape}")
            if not (out.flags.c_contiguous or out.flags.f_contiguous):
                raise RuntimeError("`out` cannot be specified when copying to non-contiguous ndarray")
        elif self.size == 0:
            return np.ndarray(self.shape, dtype=self.dtype)
        result = np.zeros(self.shape, self.dtype, order="C" if order == "A" else order) if out is None else out
        source = self._a
        control.log.to_host.append(self.nbytes)
        with self.device:
            queue = queue_for(stream, self.device.id)
            queue.submit(lambda: result.__setitem__(..., source), touches=compute.blocks([self]))
            if blocking:
                control.log.syncs["get"] += 1
                queue.run()
        return result

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if arr.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not (self.flags.c_contiguous or self.flags.f_contiguous):
            raise RuntimeError("Cannot set to non-contiguous array")
        arr = np.ascontiguousarray(arr) if self.flags.c_contiguous else np.asfortranarray(arr)
        stream = get_current_stream() if stream is None else stream
        with self.device:
            self.data.copy_from_host_async(arr.ctypes.data, self.nbytes, stream)

    def fill(self, value: Any) -> None:
        self[...] = value

    def item(self) -> Any:
        return self.get().item()

    def tolist(self) -> Any:
        return self.get().tolist()

    def view(self, dtype: Any = None, type: Any = None) -> ndarray:
        return ndarray._of(self._a.view() if dtype is None else self._a.view(dtype), self)

    def reshape(self, *shape: Any, order: str = "C", copy: bool | None = None) -> ndarray:
        view = self._a.reshape(*shape, order=order)
        if self.size and not np.shares_memory(view, self._a):
            return compute.lazily(np.reshape, self, view.shape, order=order)
        return ndarray._of(view, self)

    def ravel(self, order: str = "C") -> ndarray:
        return self.reshape(-1, order=order)

    def copy(self, order: str = "C") -> ndarray:
        if self.device.id == getDevice():
            return compute.lazily(np.copy, self, order=order)
        result = ndarray(self.shape, self.dtype)  # as CuPy: onto the current device
        control.log.between_devices.append(self.nbytes)
        with self.device:
            source = queue_for(None, self.device.id).here()
        into, values = result._a, self._a
        queue_for(None, getDevice()).submit(
            lambda: into.__setitem__(..., values), needs=[source], touches=compute.blocks([self, result])
        )
        return result

    def astype(
        self, dtype: Any, order: str = "K", casting: Any = None, subok: Any = None, copy: bool = True
    ) -> ndarray:
        if not copy and self.dtype == dtype:
            return self
        return compute.lazily(lambda a: a.astype(dtype), self)

    def __len__(self) -> int:
        return len(self._a)

    def __int__(self) -> int:
        return int(self.get())

    def __float__(self) -> float:
        return float(self.get())

    def __bool__(self) -> bool:
        return bool(self.get())

    def __index__(self) -> int:
        return operator.index(self.get())

    def __repr__(self) -> str:
        return repr(self.get())

    def __getitem__(self, index: Any) -> ndarray:
        parts = index if isinstance(index, tuple) else (index,)
        if all(p is None or p is ... or isinstance(p, (int, np.integer, slice)) for p in parts):
            view = self._a[index]
            if np.ndim(view) == 0 and not isinstance(view, np.ndarray):
                view = self._a[(*parts, ...)]
            return ndarray._of(view, self)
        parts = tuple(_index(p) for p in parts)
        if any(isinstance(p, ndarray) and p.dtype == bool for p in parts):
            return compute.at_once(lambda a, *i: a[i], self, *parts)
        return compute.lazily(lambda a, *i: a[i], self, *parts)

    def __setitem__(self, index: Any, value: Any) -> None:
        parts = tuple(_index(p) for p in (index if isinstance(index, tuple) else (index,)))
        found = compute.check(self, parts, value)
        into, where, given = self._a, compute.views(parts), compute.views(value)
        get_current_stream()._queue.submit(lambda: into.__setitem__(where, given), touches=compute.blocks(found))


def _index(part: Any) -> Any:
    """CuPy takes lists and NumPy arrays as indices; they are copied to the device."""
    from .creation import asarray

    return asarray(part) if isinstance(part, (list, np.ndarray)) else part


def _operator(name: str) -> Any:
    function = getattr(operator, name, None) or getattr(operator, f"{name}_")

    def forward(self: ndarray, other: Any) -> Any:
        return compute.lazily(function, self, other)

    return forward


def _in_place(name: str) -> Any:
    function = _operator(name)

    def change(self: ndarray, other: Any) -> ndarray:
        self[...] = function(self, other)
        return self

    return change


def _reflected(name: str) -> Any:
    function = getattr(operator, name)
    return lambda self, other: compute.lazily(lambda a, b: function(b, a), self, other)


def _unary(name: str) -> Any:
    return lambda self: compute.lazily(getattr(operator, name), self)


def _reduction(name: str) -> Any:
    def reduce(self: ndarray, axis: Any = None) -> ndarray:
        if name == "sum" and self.dtype.kind == "f":
            raise TypeError("stand-in: a sum of floats depends on the order of additions, which CuPy does not promise")
        return compute.lazily(getattr(np, name), self, axis=axis)

    return reduce


for _n in ("lt", "le", "gt", "ge", "eq", "ne", "add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(ndarray, f"__{_n}__", _operator(_n))
for _n in ("and", "or", "xor", "lshift", "rshift"):
    setattr(ndarray, f"__{_n}__", _operator(_n))
for _n in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(ndarray, f"__r{_n}__", _reflected(_n))
for _n in ("add", "sub", "mul", "and", "or", "xor"):
    setattr(ndarray, f"__i{_n}__", _in_place(_n))
for _n in ("neg", "abs", "invert"):
    setattr(ndarray, f"__{_n}__", _unary(_n))
for _n in ("any", "all", "sum", "min", "max"):
    setattr(ndarray, _n, _reduction(_n))
