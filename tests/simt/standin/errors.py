"""CuPy's exceptions."""

from typing import Any, NoReturn

from .control import control

RUNTIME = {
    1: "cudaErrorInvalidValue: invalid argument",
    2: "cudaErrorMemoryAllocation: out of memory",
    35: "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version",
    100: "cudaErrorNoDevice: no CUDA-capable device is detected",
    101: "cudaErrorInvalidDevice: invalid device ordinal",
    400: "cudaErrorInvalidResourceHandle: invalid resource handle",
    600: "cudaErrorNotReady: device not ready",
}
DRIVER = {
    1: "CUDA_ERROR_INVALID_VALUE: invalid argument",
    400: "CUDA_ERROR_INVALID_HANDLE: invalid resource handle",
    500: "CUDA_ERROR_NOT_FOUND: named symbol not found",
}


class CUDARuntimeError(RuntimeError):
    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(RUNTIME[status])


class CUDADriverError(RuntimeError):
    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(DRIVER[status])


class OutOfMemoryError(MemoryError):
    def __init__(self, size: int, total: int, limit: int = 0) -> None:
        self._size, self._total, self._limit = size, total, limit
        limited = f", limit set to: {limit:,} bytes" if limit else ""
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes{limited}).")


class CompileException(Exception):  # noqa: N818
    def __init__(self, msg: str, source: str, name: str, options: tuple[str, ...], backend: str = "nvrtc") -> None:
        self._msg, self.source, self.name, self.options, self.backend = msg, source, name, options, backend
        super().__init__()

    def __str__(self) -> str:
        return self.get_message()

    def get_message(self) -> str:
        return self._msg

    def dump(self, f: Any) -> None:
        f.write(f"{self.backend.upper()} compilation error: {self}\n-----\nName: {self.name}\n{self.source}\n-----\n")


def need_device() -> None:
    """Raise what CUDA says if there is no device or no driver for it."""
    if control.status():
        raise CUDARuntimeError(control.status())


def need_compiler() -> None:
    """Raise what CuPy says if NVRTC is not installed."""
    if control.nvrtc_version is None:
        library = "libnvrtc.so.12"
        raise RuntimeError(f"CuPy failed to load {library}: OSError: {library}: cannot open shared object file")


def invalid(error: type[CUDARuntimeError] | type[CUDADriverError], why: str, status: int = 1) -> NoReturn:
    """Raise CUDA's short error, with what it does not say as a note."""
    raised = error(status)
    raised.add_note(f"stand-in: {why}")
    raise raised
