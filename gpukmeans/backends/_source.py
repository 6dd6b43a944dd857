"""The CUDA sources: their text, the template instances that are launched, and how they are compiled and kept.

CuPy compiles (NVRTC) and keeps the result on disk, under a key of the text, the options and the architecture. It does
not look into headers that are reached by a path, so the headers are put into the text: the key covers them.
"""

from __future__ import annotations

import functools
import logging
import re
import threading
from importlib.resources import files
from typing import Any

from ..errors import KernelCompileError
from . import _cuda, _launch, _tensor_config

_log = logging.getLogger("gpukmeans")
_TYPES = ("float", "double")
_ROWS = tuple(_launch.ROW_TYPES.values())


def _of_types(*verbs: str) -> tuple[str, ...]:
    return tuple(f"{verb}<{t}>" for verb in verbs for t in _TYPES)


def _of_rows(*verbs: str) -> tuple[str, ...]:
    return tuple(f"{verb}<{t}>" for verb in verbs for t in _ROWS)


INSTANCES: dict[str, tuple[str, ...]] = {
    "assign": (
        *(f"assign_tiled<{t}, true, {c}>" for t in _TYPES for c in ("true", "false")),
        *(f"assign_tiled<{t}, false, {c}>" for t in _ROWS for c in ("true", "false")),
        *(f"assign_small<{t}, {size}, {_launch.SMALL_ROWS}>" for t in _ROWS for size in (4, 8, 16)),
    ),
    "assign_sm80": _tensor_config.instances(),
    "assign_sm80_wide": _tensor_config.wide_instances(),
    "resolve": _of_rows("resolve"),
    "recheck": _of_rows("recheck"),
    "prune": _of_rows("prune"),
    "accumulate": _of_rows("add_all_rows", "move_rows"),
    "recenter": _of_types("publish_centers", "recenter"),
    "inertia": (*_of_rows("own_distance"), "inertia_sum"),
    "farthest": ("farthest_of_block", "farthest_of_all"),
    "transform": _of_rows("transform"),
    "seed": (*_of_rows("seed_update", "seed_trials"), *_of_types("seed_potentials", "seed_find"), "seed_scan"),
    "summary": _of_rows("summary", "weighted_peaks", "moments"),
    "scale": _of_rows("scale_values"),
    "small": _of_types("fit_small"),
}
"""Every instance that may be launched, by the file that it stands in."""

OLDEST = dict.fromkeys(("assign_sm80", "assign_sm80_wide"), _tensor_config.OLDEST)
"""Compute capability that a file needs, where it is not `_launch.OLDEST`."""

FILE_OF = {instance: file for file, instances in INSTANCES.items() for instance in instances}


def read(name: str) -> str:
    """Text of one source file."""
    folder = files("gpukmeans.kernels")
    return (folder / name).read_text(encoding="utf-8")


@functools.cache
def source(file: str) -> str:
    """One translation unit: ``file.cu`` with its headers in place of their ``#include``, each once."""
    included: set[str] = set()

    def expand(name: str) -> str:
        lines = [f'#line 1 "{name}"']
        for number, line in enumerate(read(name).splitlines(), 1):
            wanted = re.fullmatch(r'#include "([\w.]+)"', line.strip())
            if wanted is None:
                lines.append("" if line.strip() == "#pragma once" else line)
            elif wanted[1] not in included:
                included.add(wanted[1])
                lines += [expand(wanted[1]), f'#line {number + 1} "{name}"']
            else:
                lines.append("")
        return "\n".join(lines)

    return expand(f"{file}.cu") + "\n"


def options() -> tuple[str, ...]:
    """What the sources are compiled with; CuPy adds the architecture and ``-ftz=true``."""
    return ("-std=c++17", *_launch.TILES.options)


class Kernels:
    """Compiled kernels of one device; each instance is compiled when it is first asked for."""

    def __init__(self, device_id: int) -> None:
        self.device_id = device_id
        self._loaded: dict[tuple[str, tuple[str, ...]], Any] = {}
        self._lock = threading.Lock()

    def __call__(self, instance: str, shared: int = 0) -> Any:
        """The function, allowed to use `shared` bytes of dynamic shared memory. The device must be the current one."""
        key = instance, options()
        with self._lock:
            function = self._loaded.get(key)
            if function is None:
                function = self._loaded[key] = _compile(instance)
        if shared > _launch.STATIC_SHARED and shared > function.max_dynamic_shared_size_bytes:
            function.max_dynamic_shared_size_bytes = shared
        return function


def _compile(instance: str) -> Any:
    import cupy

    file = FILE_OF[instance]
    names = (instance,) if "<" in instance else None  # extern "C" functions have their own name
    module = cupy.RawModule(code=source(file), options=options(), name_expressions=names)
    architecture = f"sm_{cupy.cuda.Device().compute_capability}"
    _log.debug("kernel %s of %s.cu for %s", instance, file, architecture)
    try:
        return module.get_function(instance)
    except OSError as error:
        directory, problem = _cuda.cache_problem()
        raise KernelCompileError(f"CuPy cannot keep compiled kernels: {problem or f'{directory}: {error}'}") from error
    except cupy.cuda.compiler.CompileException as error:
        raise KernelCompileError(
            f"{file}.cu, instance {instance}, does not compile for {architecture}. This is a defect of gpukmeans or of "
            f"the installed NVRTC: please report it, with the output of `gpukmeans doctor`. The compiler says:\n{error}"
        ) from error


@functools.cache
def kernels(device_id: int) -> Kernels:
    """The kernels of a device, shared by all fits of the process."""
    return Kernels(device_id)
