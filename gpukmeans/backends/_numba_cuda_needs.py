"""What is needed to compute on an NVIDIA card through Numba, and which part of it is missing here."""

from __future__ import annotations

import functools
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from . import _launch
from ._cuda import DEVICE_VARIABLE, INSTALL, chosen_device


def why_unavailable() -> str | None:
    """None if Numba can compile and run kernels on a card, else what is missing and what to do."""
    try:
        device = chosen_device()
    except ValueError as error:
        return str(error)
    return examine(device)


@functools.cache
def examine(device: int | None) -> str | None:
    """Look once for each card that is chosen."""
    if find_spec("numba") is None or find_spec("numba_cuda") is None:  # Numba's own CUDA target is deprecated
        return f"numba-cuda is not installed: {INSTALL}"
    try:
        from numba import config, cuda
    except ImportError as error:
        return f"numba-cuda does not import ({error}): {INSTALL}"
    if getattr(config, "ENABLE_CUDASIM", 0):
        return None
    from numba.cuda.cudadrv.error import CudaSupportError, NvvmSupportError

    try:
        devices = cuda.gpus.lst
        if not devices:
            return "there is a driver but no card: see `nvidia-smi`"
        if device is not None and device >= len(devices):
            return f"{DEVICE_VARIABLE}={device}, but the cards here are numbered from 0 to {len(devices) - 1}"
        major, minor = devices[device or 0].compute_capability
    except CudaSupportError as error:
        return f"there is no usable NVIDIA driver ({_in_one_line(error)}): install one, or see `nvidia-smi`"
    if 10 * major + minor < _launch.OLDEST:
        return f"the card has compute capability {major}.{minor}, the kernels want {_launch.OLDEST / 10}"
    nvvm: Any = import_module("numba.cuda.cudadrv.nvvm")
    try:
        nvvm.NVVM()
    except (NvvmSupportError, OSError, RuntimeError) as error:
        return f"the compiler NVVM is missing ({_in_one_line(error)}): {INSTALL}"
    return None


def _in_one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
