"""Where arrays live: in NumPy, CuPy, torch or any CUDA memory; results go back in the kind that the data came in.

No library is imported to look at an array: its own can only be involved if it has been imported already.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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


def on_device(x: Any) -> bool:
    """Whether `x` lies in the memory of a CUDA device."""
    if isinstance(x, np.ndarray | list | tuple):
        return False
    if is_torch(x):
        return bool(x.is_cuda)
    if is_cupy(x) or hasattr(x, "__cuda_array_interface__"):
        return True
    return hasattr(x, "__dlpack_device__") and x.__dlpack_device__()[0] in _CUDA


def as_cupy(x: Any, name: str = "X") -> Any:
    """The memory of a device array as a CuPy array, without a copy; its owner is kept alive.

    A producer with a stream of its own is waited for on the current stream, as its protocol says.
    """
    if is_cupy(x):
        return x
    try:
        import cupy
    except ImportError as error:
        raise TypeError(
            f"{name} lies on a CUDA device ({type(x).__module__}.{type(x).__qualname__}), and CuPy, which gpukmeans "
            f"needs to read it there, does not import ({error}). Install it (pip install 'gpukmeans[cuda12]' or "
            "'gpukmeans[cuda13]'), or pass the data as a NumPy array."
        ) from error
    if is_torch(x):
        x = x.detach()
        if str(x.dtype) == "torch.bfloat16":  # which neither NumPy nor CuPy has
            x = x.float()
    return cupy.from_dlpack(x) if hasattr(x, "__dlpack__") else cupy.asarray(x)


def to_host(x: Any) -> Any:
    """`x` as a NumPy array if it lies on a device (copied) or in a torch tensor; anything else as it is."""
    if is_torch(x):
        x = x.detach().cpu()
        return (x.float() if str(x.dtype) == "torch.bfloat16" else x).numpy()
    return as_cupy(x).get() if on_device(x) else x


def like(result: Any, x: Any) -> Any:
    """An array in the kind of `x`: NumPy for host data, CuPy for CUDA data, torch (on its device) for torch."""
    if is_torch(x):
        torch = sys.modules["torch"]
        if not x.is_cuda:
            return torch.from_numpy(np.ascontiguousarray(to_host(result)))
        with caller(x):
            return torch.from_dlpack(_on_device_of(result, x))
    if on_device(x):
        return _on_device_of(result, x)
    return to_host(result)


def _on_device_of(result: Any, x: Any) -> Any:
    if is_cupy(result):
        return result
    import cupy

    with cupy.cuda.Device(as_cupy(x).device.id):
        return cupy.asarray(result)


def namespace(x: Any) -> Any:
    """The module whose functions take `x`: cupy or numpy."""
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
        if on_device(x) and is_torch(x):
            import cupy

            stack.enter_context(cupy.cuda.Device(x.device.index))
            stream = sys.modules["torch"].cuda.current_stream(x.device)
            stack.enter_context(cupy.cuda.Stream.from_external(_Stream(stream.cuda_stream)))
        elif on_device(x):
            stack.enter_context(as_cupy(x).device)
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
