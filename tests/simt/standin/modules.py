"""The modules `cupy`, `cupy.cuda` ... and putting them into sys.modules and out again.

`cupy.cuda.driver` and `nvrtc` are attributes and not importable modules, as in CuPy.
"""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import numpy as np

from . import array, creation, device, dlpack, errors, kernels, memory, pinned, stream
from .control import control

CHECKED_AGAINST = "14.2.0"  # tests/test_drift.py compares with the one that is installed
_DTYPES = ("bool_", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "intp")
_DTYPES += ("float16", "float32", "float64", "dtype", "inf", "nan", "newaxis")
_FUNCTIONS = "empty zeros full arange array asarray ascontiguousarray asnumpy bincount array_equal count_nonzero"
_FUNCTIONS += " concatenate isfinite sqrt unique get_default_memory_pool get_default_pinned_memory_pool"
_RUNTIME = "getDeviceCount getDevice setDevice runtimeGetVersion driverGetVersion deviceSynchronize streamSynchronize"
_RUNTIME += " memGetInfo getDeviceProperties deviceCanAccessPeer is_hip streamLegacy streamPerThread"


def is_available() -> bool:
    """CuPy keeps the first answer of a process; this one does not."""
    try:
        return device.getDeviceCount() > 0
    except errors.CUDARuntimeError:
        return False


def _nvrtc_version() -> tuple[int, int]:
    errors.need_compiler()
    return control.nvrtc_version


def _module(name: str, **names: object) -> ModuleType:
    made = ModuleType(name)
    made.__spec__ = ModuleSpec(name, None)  # importlib.util.find_spec answers
    vars(made).update(names)
    return made


def _take(source: object, names: str) -> dict[str, object]:
    return {name: getattr(source, name) for name in names.split()}


runtime = _module("cupy.cuda.runtime", CUDARuntimeError=errors.CUDARuntimeError, **_take(device, _RUNTIME))
driver = _module("cupy.cuda.driver", CUDADriverError=errors.CUDADriverError)
nvrtc = _module("cupy.cuda.nvrtc", getVersion=_nvrtc_version)
compiler = _module("cupy.cuda.compiler", CompileException=errors.CompileException)
_MEMORY = _take(memory, "BaseMemory Memory UnownedMemory MemoryPointer MemoryPool alloc")
memory_module = _module("cupy.cuda.memory", OutOfMemoryError=errors.OutOfMemoryError, **_MEMORY)
cuda = _module(
    "cupy.cuda",
    runtime=runtime,
    driver=driver,
    nvrtc=nvrtc,
    compiler=compiler,
    memory=memory_module,
    is_available=is_available,
    Device=device.Device,
    **_MEMORY,
    **_take(pinned, "PinnedMemoryPointer PinnedMemoryPool alloc_pinned_memory"),
    **_take(stream, "Stream ExternalStream Event Graph get_current_stream get_elapsed_time"),
)
cupy = _module(
    "cupy",
    __version__=CHECKED_AGAINST,
    cuda=cuda,
    ndarray=array.ndarray,
    from_dlpack=dlpack.from_dlpack,
    any=creation.any_of,
    all=creation.all_of,
    **_take(kernels, "RawModule RawKernel"),
    **_take(creation, _FUNCTIONS),
    **{name: getattr(np, name) for name in _DTYPES},
)
cupy.__path__ = []  # a package, as far as `import cupy.cuda` is concerned
cuda.__path__ = []
array.ndarray.__module__ = "cupy"  # what callers look at

_MODULES = {m.__name__: m for m in (cupy, cuda, runtime, memory_module, compiler)}
_replaced: dict[str, ModuleType] | None = None


def install() -> None:
    """Make `import cupy` give the stand-in."""
    global _replaced
    if _replaced is None:
        # cupyx and cupy_backends too: half of the real one must not be found beside the stand-in
        names = [name for name in sys.modules if name.split(".")[0] in ("cupy", "cupyx", "cupy_backends")]
        _replaced = {name: sys.modules.pop(name) for name in names}
        sys.modules.update(_MODULES)


def uninstall() -> None:
    """Put back what was there."""
    global _replaced
    if _replaced is not None:
        for name in _MODULES:
            sys.modules.pop(name, None)
        sys.modules.update(_replaced)
        _replaced = None
