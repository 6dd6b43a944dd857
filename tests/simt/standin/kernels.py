"""RawModule and RawKernel: CUDA C++ compiled by g++ and launched on the CPU, checked as CuPy and CUDA would not."""

from __future__ import annotations

import re
import threading
from typing import Any

import numpy as np

from ..build import Library, SimtError, build
from .array import ndarray
from .control import control
from .device import generation, getDevice
from .errors import CompileException, CUDADriverError, invalid, need_compiler, need_device
from .memory import Block, MemoryPointer
from .stream import queue_for

DEFAULT_SHARED = 48 << 10
IGNORED = ("-std=", "--std=", "-lineinfo", "--generate-line-info", "-fmad=false", "--fmad=false")
C_KERNEL = re.compile(r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\(')
PYTHON = {bool: np.bool_, int: np.int64, float: np.float64}
_built: dict[Any, Library] = {}
_building = threading.Lock()  # one at a time, whoever asks


def _library(code: str, options: tuple[str, ...], names: tuple[str, ...]) -> Library:
    """Built once in this process for a source, as `control` says at the first use."""
    code = control.edits(code) if control.edits else code
    defines, key = {}, (code, options, names, control.checked)
    for option in options:
        if option.startswith("-D"):
            name, _, value = option[2:].partition("=")
            defines[name] = value or 1
        elif not option.startswith(IGNORED):
            message = f"nvrtc: error: unrecognized option {option} found"
            raise CompileException(message, code, "kernel.cu", options)
    with _building:
        if key not in _built:
            try:
                _built[key] = build(code, names, defines=defines, checked=control.checked)
            except SimtError as error:
                raise CompileException(str(error), code, "kernel.cu", options) from None
    return _built[key]


class RawModule:
    def __init__(
        self,
        code: str | None = None,
        *,
        path: str | None = None,
        options: tuple[str, ...] = (),
        backend: str = "nvrtc",
        name_expressions: Any = None,
    ) -> None:
        if path is not None or not isinstance(code, str):
            raise TypeError("stand-in: `code`, a str, is needed")
        if not isinstance(options, tuple):
            raise TypeError(f"Argument 'options' has incorrect type (expected tuple, got {type(options).__name__})")
        self.code, self.options, self.backend = code, options, backend
        self.name_expressions = None if name_expressions is None else tuple(name_expressions)
        self._shared: dict[Any, int] = {}  # CUDA keeps it with the function of a module on a device
        self._library: tuple[Any, Library] | None = None

    def compile(self, log_stream: Any = None) -> None:
        need_device()
        need_compiler()
        self._current_library()

    def _current_library(self) -> Library:
        state = (control.checked, control.edits)
        if self._library is None or self._library[0] != state:
            names = self.name_expressions or tuple(C_KERNEL.findall(self.code))
            self._library = state, _library(self.code, self.options, names)
        return self._library[1]

    def get_function(self, name: str) -> RawKernel:
        self.compile()
        if name not in self._current_library().signature:
            invalid(CUDADriverError, f"no kernel {name!r}", 500)
        return RawKernel._of(self, name)


class RawKernel:
    name: str
    _module: RawModule

    @classmethod
    def _of(cls, module: RawModule, name: str) -> RawKernel:
        self = cls.__new__(cls)
        self._module, self.name = module, name
        return self

    num_regs = property(lambda self: control.num_regs)
    local_size_bytes = property(lambda self: control.local_size_bytes)
    max_threads_per_block = property(lambda self: control.attributes()["MaxThreadsPerBlock"])

    @property
    def attributes(self) -> dict[str, int]:
        names = ("max_threads_per_block", "local_size_bytes", "num_regs", "max_dynamic_shared_size_bytes")
        return {name: getattr(self, name) for name in names}

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        return self._module._shared.get((generation(), getDevice(), self.name), DEFAULT_SHARED)

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, value: int) -> None:
        if value > control.attributes()["MaxSharedMemoryPerBlockOptin"]:
            invalid(CUDADriverError, f"{value} bytes of shared memory")
        self._module._shared[generation(), getDevice(), self.name] = value

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: Any, *, shared_mem: int = 0) -> None:
        for which, size in (("grid", grid), ("block", block)):
            if not isinstance(size, tuple):
                raise TypeError(f"Argument '{which}' has incorrect type (expected tuple, got {type(size).__name__})")
            if any(n != 1 for n in size[1:]) or not 1 <= len(size) <= 3:
                raise NotImplementedError(f"stand-in: {which} {size} is not of one dimension")
            if size[0] < 1:
                raise ValueError(f"stand-in: {which} {size}; CuPy would launch 1")
        limits = control.attributes()
        if grid[0] > limits["MaxGridDimX"] or block[0] > limits["MaxThreadsPerBlock"]:
            invalid(CUDADriverError, f"grid {grid}, block {block}")
        if shared_mem > self.max_dynamic_shared_size_bytes:
            invalid(CUDADriverError, f"{self.name}: {shared_mem} bytes of shared memory were not opted into")
        library = self._module._current_library()
        values, found = _pack(self.name, args, library.signature[self.name])
        ranges = _ranges(found)
        name, checked = self.name, control.checked
        queue = queue_for(None, getDevice())
        if queue.captured is None:
            control.log.launches[name] += 1

        def run() -> None:
            if checked:  # a kernel may touch what it was given, and no more
                library.clear_allocations()
                for start, end in ranges:
                    library.add_allocation(start, end - start)
            library.launch(
                name, int(grid[0]), int(block[0]), values, shared=shared_mem, seed=control.next_seed(), checked=checked
            )
            for used in blocks:
                used.check_margin()

        blocks: list[Block] = [p.mem._block for p, _ in found]
        queue.submit(run, touches=blocks, kernel=name)


def _pack(name: str, args: Any, wants: list[str]) -> tuple[list[bytes], list[tuple[MemoryPointer, int]]]:
    """The bytes of arguments by CuPy's rules, refused where the kernel wants another type; and the memory in them."""
    if len(args) != len(wants):
        raise TypeError(f"stand-in: {name} takes {len(wants)} arguments, got {len(args)}")
    values, found = [], []
    for i, (a, want) in enumerate(zip(args, wants, strict=True)):
        kind, value = _argument(a, found)
        if kind != want:
            raise TypeError(f"stand-in: argument {i} of {name} is {kind}, where the kernel wants {want}: {type(a)}")
        values.append(value)
    return values, found


def _argument(a: Any, found: list[tuple[MemoryPointer, int]]) -> tuple[str, bytes]:
    if a is None:
        return "p8", bytes(8)
    if isinstance(a, (ndarray, MemoryPointer)):
        pointer = a.data if isinstance(a, ndarray) else a
        if isinstance(a, ndarray) and not a.flags.c_contiguous:
            raise TypeError("stand-in: an array that is not C-contiguous; the kernel would not know")
        if pointer.device_id != getDevice():
            raise ValueError(f"stand-in: memory of device {pointer.device_id} on device {getDevice()}")
        if pointer.mem._block is not None:
            rest = pointer.mem.ptr + pointer.mem.size - pointer.ptr
            found.append((pointer, a.nbytes if isinstance(a, ndarray) else rest))
        return "p8", np.uint64(pointer.ptr).tobytes()
    if isinstance(a, np.ndarray):
        raise TypeError("stand-in: a NumPy array as a kernel argument; CuPy takes one of size 1 by value")
    if type(a) in PYTHON:
        a = np.uint64(a) if type(a) is int and a >= 1 << 63 else PYTHON[type(a)](a)
    if not isinstance(a, np.generic):
        raise TypeError(f"Unsupported type {type(a)}")
    kind = {"b": "u"}.get(a.dtype.kind, a.dtype.kind)
    return f"{kind}{a.dtype.itemsize}", a.tobytes()


def _ranges(found: list[tuple[MemoryPointer, int]]) -> list[tuple[int, int]]:
    """What a kernel may touch: arrays that overlap count as one, neighbours do not."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted((p.ptr, p.ptr + size) for p, size in found if size):
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged
