"""What is needed to compute on an NVIDIA card through Numba, and which part of it is missing here."""

from __future__ import annotations

import functools
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from . import _cuda, _launch
from ._cuda import INSTALL


def why_unavailable() -> str | None:
    """None if Numba can compile and run kernels on a card, else what is missing and what to do."""
    return _cuda.of_chosen_device(examine)


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
            return _cuda.no_card()
        if device is not None and device >= len(devices):
            return _cuda.no_such_card(device, len(devices))
        card = devices[device or 0]
        major, minor = card.compute_capability
    except CudaSupportError as error:
        return f"there is no usable NVIDIA driver ({_in_one_line(error)}): install one, or see `nvidia-smi`"
    if 10 * major + minor < _launch.OLDEST:
        return _cuda.too_old(str(card.name), 10 * major + minor)
    nvvm: Any = import_module("numba.cuda.cudadrv.nvvm")
    try:
        nvvm.NVVM()
    except (NvvmSupportError, OSError, RuntimeError) as error:
        return f"the compiler NVVM is missing ({_in_one_line(error)}): {INSTALL}"
    return None


def _in_one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
