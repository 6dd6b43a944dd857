"""The functions of the module cupy: making arrays, and the few that compute."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import compute
from .array import ndarray
from .device import getDevice
from .dlpack import from_interface
from .memory import MemoryPool
from .pinned import PinnedMemoryPool
from .stream import get_current_stream

_pool, _pinned_pool = MemoryPool(), PinnedMemoryPool()


def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return ndarray(shape, dtype, order=order)


def zeros(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    result = ndarray(shape, dtype, order=order)
    if result.size:
        result.data.memset_async(0, result.nbytes)
    return result


def full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C") -> ndarray:
    result = ndarray(shape, np.asarray(fill_value).dtype if dtype is None else dtype, order=order)
    result.fill(fill_value)
    return result


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> ndarray:
    start, stop = (0, start) if stop is None else (start, stop)
    return compute.lazily(lambda: np.arange(start, stop, step, dtype))


def array(
    obj: Any,
    dtype: Any = None,
    copy: bool | None = True,
    order: str | None = "K",
    subok: bool = False,
    ndmin: int = 0,
    *,
    blocking: bool = False,
) -> ndarray:
    if subok:
        raise NotImplementedError
    if not isinstance(obj, ndarray) and hasattr(obj, "__cuda_array_interface__"):
        obj = from_interface(obj)
    if isinstance(obj, ndarray):
        return _from_device(obj, dtype, copy, order, ndmin)
    if isinstance(obj, (list, tuple)) and any(isinstance(v, ndarray) for v in obj):
        raise TypeError("stand-in: a list of device arrays; use concatenate")
    host = np.array(obj, dtype, copy=None, order=order, ndmin=ndmin)
    if not (host.flags.c_contiguous or host.flags.f_contiguous):
        host = np.ascontiguousarray(host)
    host = host.astype(host.dtype.newbyteorder("<"), copy=False)
    result = ndarray(host.shape, host.dtype, order="C" if host.flags.c_contiguous else "F")
    result.set(host)  # as CuPy: pageable values are staged at the call, pinned ones are read when the queue runs
    if blocking:
        get_current_stream().synchronize()
    return result


def _from_device(a: ndarray, dtype: Any, copy: bool | None, order: str | None, ndmin: int) -> ndarray:
    if a.device.id != getDevice():
        a, copy = a.copy(), None
    dtype = a.dtype if dtype is None else np.dtype(dtype)
    laid_out = order in (None, "K", "A") or getattr(a.flags, f"{order.lower()}_contiguous")
    if copy or dtype != a.dtype or not laid_out:
        if copy is False:
            raise ValueError("Unable to avoid copy while creating an array as requested.")
        a = compute.lazily(lambda v: v.astype(dtype, order=order or "K"), a)
    return a.reshape((1,) * (ndmin - a.ndim) + a.shape) if ndmin > a.ndim else a


def asarray(
    a: Any, dtype: Any = None, order: str | None = None, *, copy: bool | None = None, blocking: bool = False
) -> ndarray:
    return array(a, dtype, copy, order, blocking=blocking)


def ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    a = asarray(a, dtype)
    a = a if a.flags.c_contiguous else compute.lazily(np.ascontiguousarray, a)
    return a.reshape(1) if a.ndim == 0 else a


def asnumpy(
    a: Any, stream: Any = None, order: str = "C", out: np.ndarray | None = None, *, blocking: bool = True
) -> np.ndarray:
    if isinstance(a, ndarray):
        return a.get(stream=stream, order=order, out=out, blocking=blocking)
    if hasattr(a, "__cuda_array_interface__"):
        return asarray(a).get(stream=stream, order=order, out=out, blocking=blocking)
    return np.asarray(a)


def bincount(x: ndarray, weights: ndarray | None = None, minlength: int | None = None) -> ndarray:
    return compute.at_once(lambda x, w: np.bincount(x, w, minlength or 0), x, weights)


def array_equal(a1: ndarray, a2: ndarray, equal_nan: bool = False) -> ndarray:
    """An array of one bool, as CuPy's: bool() of it waits."""
    if a1.shape != a2.shape:
        return array(False)
    return compute.lazily(lambda a, b: np.array(np.array_equal(a, b, equal_nan)), a1, a2)


def count_nonzero(a: ndarray, axis: Any = None) -> ndarray:
    return compute.lazily(lambda v: np.asarray(np.count_nonzero(v, axis)), a)


def concatenate(tup: Any, axis: int = 0, out: Any = None, *, dtype: Any = None, casting: str = "same_kind") -> ndarray:
    if out is not None:
        raise NotImplementedError("stand-in: out")
    return compute.lazily(lambda *a: np.concatenate(a, axis, dtype=dtype, casting=casting), *tup)


def isfinite(x: ndarray) -> ndarray:
    return compute.lazily(np.isfinite, x)


def sqrt(x: ndarray) -> ndarray:
    return compute.lazily(np.sqrt, x)


def any_of(a: ndarray, axis: Any = None) -> ndarray:
    return a.any(axis)


def all_of(a: ndarray, axis: Any = None) -> ndarray:
    return a.all(axis)


def unique(
    ar: ndarray,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    *,
    equal_nan: bool = True,
) -> Any:
    return compute.at_once(
        lambda v: np.unique(v, return_index, return_inverse, return_counts, axis, equal_nan=equal_nan), ar
    )


def get_default_memory_pool() -> MemoryPool:
    return _pool


def get_default_pinned_memory_pool() -> PinnedMemoryPool:
    return _pinned_pool
