"""What is needed to compute on an NVIDIA card through CuPy, and which part of it is missing here."""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from . import _launch

DEVICE_VARIABLE = "GPUKMEANS_DEVICE"
INSTALL = "pip install 'gpukmeans[cuda12]' (or cuda13: `nvidia-smi` shows which CUDA version the driver takes)"


def why_unavailable() -> str | None:
    """None if kernels can be compiled and run on a card through CuPy, else what is missing and what to do."""
    return of_chosen_device(examine)


def why_not_all() -> str | None:
    """As `why_unavailable`, of all cards that CUDA shows; the one at fault is named."""
    reason = examine(None)  # of the first
    for i in range(0 if reason else n_cards()):
        if (reason := examine(i)) is not None:
            return f"card {i}: {reason}; CUDA_VISIBLE_DEVICES can hide it"
    return reason


def n_cards() -> int:
    """How many cards CUDA shows."""
    from cupy.cuda import runtime

    return int(runtime.getDeviceCount())


def of_chosen_device(look: Callable[[int | None], str | None]) -> str | None:
    """What `look` says of the card that is chosen; a choice that is none is said, too."""
    try:
        device = chosen_device()
    except ValueError as error:
        return str(error)
    return look(device)


def no_such_card(device: int, n_devices: int) -> str:
    """What is said of a number that no card has."""
    return (
        f"{DEVICE_VARIABLE}={device}, but the cards here are numbered from 0 to {n_devices - 1}: set it to one "
        "that `gpukmeans doctor` lists, or unset it"
    )


def no_card() -> str:
    """What is said where a driver sees no card."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    hint = "" if hidden is None else f" (CUDA_VISIBLE_DEVICES={hidden!r} may hide it)"
    return f"there is a driver but no card{hint}: see `nvidia-smi`"


def too_old(name: str, capability: int) -> str:
    """What is said of a card that the kernels are not compiled for."""
    return (
        f"the card {name} is too old: it has compute capability {capability / 10}, the kernels want "
        f"{_launch.OLDEST / 10}: use a newer card (if there is one, {DEVICE_VARIABLE} chooses it) or backend='numba'"
    )


@functools.cache
def examine(device: int | None) -> str | None:
    """Look once for each card that is chosen: it takes a while, and small calls ask too."""
    return _package_problem() or _driver_problem(device) or _device_problem(device) or _compiler_problem()


def chosen_device() -> int | None:
    """Index of the card that the environment variable GPUKMEANS_DEVICE names; None: CuPy's current one."""
    text = os.environ.get(DEVICE_VARIABLE, "")
    if not text:
        return None
    if not text.isdecimal():
        raise ValueError(f"{DEVICE_VARIABLE}={text!r} must be the index of a card, as `gpukmeans doctor` lists them")
    return int(text)


def installed_cupys() -> list[str]:
    """Distributions that bring the package cupy."""
    names = {str(d.metadata["Name"]).lower().replace("_", "-") for d in distributions()}
    return sorted(n for n in names if n == "cupy" or n.startswith(("cupy-cuda", "cupy-rocm")))


def _package_problem() -> str | None:
    if "cupy" not in sys.modules and find_spec("cupy") is None:
        return f"CuPy is not installed: {INSTALL}"
    found = installed_cupys()
    if len(found) > 1:
        listed = " and ".join(found)
        return f"{listed} are both installed and overwrite each other: pip uninstall {' '.join(found)}, then {INSTALL}"
    _, problem = cache_problem()
    if problem is not None and "cupy" not in sys.modules and not Path(cache_directory()).is_dir():
        return f"CuPy does not import without a directory for compiled kernels: {problem}"
    try:
        import cupy  # noqa: F401
    except (ImportError, OSError) as error:
        return f"CuPy does not import ({_first_line(error)}): {INSTALL}"
    return None


def _driver_problem(device: int | None) -> str | None:
    from cupy.cuda import runtime

    if runtime.driverGetVersion() == 0:
        return "there is no NVIDIA driver: install one (in a container: start it with `--gpus all`)"
    try:
        n_devices = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        if "InsufficientDriver" in str(error):
            has, wants = (_dotted(v) for v in (runtime.driverGetVersion(), runtime.runtimeGetVersion()))
            return f"the driver is too old: it knows CUDA {has}, the installed CuPy wants {wants}: update the driver"
        if "NoDevice" in str(error):
            n_devices = 0
        else:
            return f"the driver does not answer ({_first_line(error)}): try `nvidia-smi`, or restart the machine"
    if n_devices == 0:
        return no_card()
    if device is not None and device >= n_devices:
        return no_such_card(device, n_devices)
    return None


def _device_problem(device: int | None) -> str | None:
    import cupy

    capability = int(cupy.cuda.Device(device).compute_capability)
    if capability < _launch.OLDEST:
        return too_old(device_name(cupy.cuda.Device(device).id), capability)
    return None


def _compiler_problem() -> str | None:
    try:
        _compiler_version()
    except (RuntimeError, OSError, ImportError) as error:
        return f"the compiler NVRTC is missing ({_first_line(error)}): {INSTALL}"
    return None


def _compiler_version() -> str:
    from cupy.cuda import nvrtc

    return ".".join(str(part) for part in nvrtc.getVersion())


def cache_directory() -> str:
    """Where CuPy keeps compiled kernels; it is made when CuPy is imported."""
    return os.environ.get("CUPY_CACHE_DIR") or os.path.expanduser("~/.cupy/kernel_cache")


def cache_problem() -> tuple[str, str | None]:
    """That directory, and what is wrong with it, or None."""
    directory = cache_directory()
    try:
        Path(directory).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return directory, None
    except OSError as error:
        return directory, f"{directory}: {error.strerror}; set CUPY_CACHE_DIR to a directory that can be written to"


def device_name(device_id: int) -> str:
    """Name of a card, as its maker calls it."""
    from cupy.cuda import runtime

    name: Any = runtime.getDeviceProperties(device_id)["name"]
    return name.decode() if isinstance(name, bytes) else str(name)


def describe() -> dict[str, str]:
    """Versions and cards, for a report; nothing where there is no card that CuPy can see."""
    if _package_problem() or _driver_problem(None):
        return {}
    import cupy
    from cupy.cuda import runtime

    found = {
        "CUDA driver": _dotted(runtime.driverGetVersion()),
        "CUDA runtime": _dotted(runtime.runtimeGetVersion()),
        "NVRTC": "missing" if _compiler_problem() else _compiler_version(),
    }
    for i in range(runtime.getDeviceCount()):
        device = cupy.cuda.Device(i)
        found[f"card {i}"] = (
            f"{device_name(i)}, compute capability {int(device.compute_capability) / 10}, "
            f"{device.attributes['MultiProcessorCount']} multiprocessors, {_memory(device)}"
        )
    return found


def _memory(device: Any) -> str:
    try:
        free, total = device.mem_info
    except RuntimeError as error:  # the card belongs to another process alone, or is full
        return f"memory unknown ({_first_line(error)})"
    return f"{free >> 20} of {total >> 20} MB free"


def _dotted(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _first_line(error: BaseException) -> str:
    """The line that tells most; CuPy frames its own ones, and says what it caught under "Original error:"."""
    lines = [line.strip() for line in str(error).splitlines() if any(c.isalnum() for c in line)]
    at = lines.index("Original error:") + 1 if "Original error:" in lines[:-1] else 0
    return lines[at] if lines else type(error).__name__
