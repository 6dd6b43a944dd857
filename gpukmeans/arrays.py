"""Where arrays live: in NumPy, CuPy, Numba, torch or any CUDA memory; results go back in the kind that data came in.

No library is imported to look at an array: its own can only be involved if it has been imported already.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from .errors import OutOfMemoryError

_CUDA = (2, 13)  # kDLCUDA, kDLCUDAManaged


def _is_instance(x: Any, library: str, name: str) -> bool:
    module = sys.modules.get(library)
    kind = getattr(module, name, None)
    return kind is not None and isinstance(x, kind)


def is_cupy(x: Any) -> bool:
    """Whether `x` is a CuPy array."""
    return _is_instance(x, "cupy", "ndarray")


def is_torch(x: Any) -> bool:
    """Whether `x` is a torch tensor, on any device."""
    return _is_instance(x, "torch", "Tensor")


def is_numba(x: Any) -> bool:
    """Whether `x` is a device array of Numba."""
    module = sys.modules.get("numba.cuda.cudadrv.devicearray")
    return module is not None and bool(module.is_cuda_ndarray(x))


def on_device(x: Any) -> bool:
    """Whether `x` lies in the memory of a CUDA device."""
    if isinstance(x, np.ndarray | list | tuple):
        return False
    if is_torch(x):
        return bool(x.is_cuda)
    if is_cupy(x) or is_numba(x) or hasattr(x, "__cuda_array_interface__"):
        return True
    return hasattr(x, "__dlpack_device__") and x.__dlpack_device__()[0] in _CUDA


def as_cupy(x: Any) -> Any:
    """The memory of a device array as a CuPy array, without a copy; its owner is kept alive.

    A producer with a stream of its own is waited for on the current stream, as its protocol says.
    """
    if is_cupy(x):
        return x
    import cupy

    x = _detached(x)
    return cupy.from_dlpack(x) if hasattr(x, "__dlpack__") else cupy.asarray(x)


def as_numba(x: Any) -> Any:
    """The memory of a device array as an array of Numba, without a copy; its owner is kept alive."""
    if is_numba(x):
        return x
    return import_module("numba.cuda").as_cuda_array(_detached(x))


def _place(x: Any) -> Any:
    """On the card where `x` lies: itself, or some of a tensor, as one of bfloat16 would be copied."""
    return on_card(x[:1] if is_torch(x) and len(x) else x)


def _detached(x: Any) -> Any:
    if not is_torch(x):
        return x
    x = x.detach()
    return x.float() if str(x.dtype) == "torch.bfloat16" else x  # which neither NumPy nor CuPy has


def on_card(x: Any, name: str = "X") -> Any:
    """A device array as one of CuPy or, where it is one already or CuPy is not installed, of Numba; no copy."""
    if is_numba(x):
        return x
    for library, convert in (("cupy", as_cupy), ("numba_cuda", as_numba)):
        if library in sys.modules or find_spec(library) is not None:
            return convert(x)
    raise TypeError(
        f"{name} lies on a CUDA device ({type(x).__module__}.{type(x).__qualname__}), and neither CuPy nor numba-cuda "
        "is installed to read it there. Install them (pip install 'gpukmeans[cuda12]' or 'gpukmeans[cuda13]'), or pass "
        "the data as a NumPy array."
    )


def with_layout(x: Any, dtype: Any) -> Any:
    """An array in a dtype and C-contiguous: itself if it is so, else a copy where it lies."""
    if not is_numba(x):
        return namespace(x).ascontiguousarray(x, dtype=dtype)
    if x.dtype == dtype and x.is_c_contiguous():
        return x
    # Numba has no function for it
    return import_module("numba.cuda").to_device(np.ascontiguousarray(x.copy_to_host(), dtype=dtype))


def to_host(x: Any) -> Any:
    """`x` as a NumPy array if it lies on a device (copied) or in a torch tensor; anything else as it is."""
    if is_torch(x):
        return _detached(x).cpu().numpy()
    if is_numba(x):
        return x.copy_to_host()
    if is_cupy(x):
        return x.get()
    return to_host(on_card(x)) if on_device(x) else x


def like(result: Any, x: Any) -> Any:
    """An array in the kind of `x`: NumPy for host data, torch (on its device) for torch, Numba for Numba, else CuPy.

    Without CuPy what lies on a card comes back as an array of Numba.
    """
    if is_torch(x):
        torch = sys.modules["torch"]
        if not x.is_cuda:
            return torch.from_numpy(np.ascontiguousarray(to_host(result)))
        with caller(x):
            result = _on_device_of(result, x)
            return torch.from_dlpack(result) if is_cupy(result) else torch.as_tensor(result, device=x.device)
    if is_numba(x):
        return as_numba(_on_device_of(result, x))
    if on_device(x):
        return _on_device_of(result, x)
    return to_host(result)


def _on_device_of(result: Any, x: Any) -> Any:
    """A result on the card of `x`, as an array of the library that `on_card` chooses for `x`."""
    there = _place(x)
    if not is_cupy(there):
        return as_numba(result) if on_device(result) else import_module("numba.cuda").to_device(result)
    import cupy

    with there.device:
        return as_cupy(result) if on_device(result) else cupy.asarray(result)


def namespace(x: Any) -> Any:
    """The module whose functions take `x`: cupy or numpy (which copies arrays of Numba to the host)."""
    return sys.modules["cupy"] if is_cupy(x) else np


class _Stream:
    """A stream of another library by its pointer, in the protocol that CuPy takes."""

    def __init__(self, pointer: int) -> None:
        self.pointer = pointer

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.pointer


@contextmanager
def caller(x: Any) -> Iterator[None]:
    """Work as the caller of a function that was given `x`: on its device, for torch on torch's current stream too."""
    with ExitStack() as stack:
        if on_device(x):
            there = _place(x)
            if is_cupy(there):
                stack.enter_context(there.device)
            if is_torch(x):
                stream = sys.modules["torch"].cuda.current_stream(x.device)
                if is_cupy(there):
                    stack.enter_context(sys.modules["cupy"].cuda.Stream.from_external(_Stream(stream.cuda_stream)))
                else:  # Numba's work goes to the default stream
                    stream.synchronize()
        try:
            yield
        except MemoryError as error:
            cupy = sys.modules.get("cupy")
            if cupy is None or not isinstance(error, cupy.cuda.memory.OutOfMemoryError):
                raise
            raise OutOfMemoryError(
                f"Out of memory on the card, for a result or a copy of the data in another dtype or layout: {error} "
                "Free memory of the card, or pass the data as a NumPy array: then it is streamed where it does not fit."
            ) from error
