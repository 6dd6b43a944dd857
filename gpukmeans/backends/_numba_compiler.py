"""How the CPU backend compiles its kernels: without the GIL, cached on disk, plain NumPy semantics."""

from __future__ import annotations

import gc
import logging
import pickle
from collections.abc import Callable
from typing import Any

import numba as nb
import numpy as np
from numba.core.caching import FunctionCache

from ..exact import Float64Array, FloatArray
from ._numba_pipeline import inner_pipeline, kernel_pipeline
from .base import Rows

_log = logging.getLogger("gpukmeans")

NO_WEIGHT = np.empty(0)
"""What kernels take where there are no weights: one type for both."""

_FAILURES = (OSError, EOFError, pickle.UnpicklingError)  # a full disk, a directory taken away, a file cut short


def weights_of(rows: Rows) -> Float64Array:
    """Weights of the rows, or NO_WEIGHT."""
    return NO_WEIGHT if rows.sample_weight is None else rows.sample_weight


class _Writable:
    """The memory of a read-only array as a writable one: Numba would compile every kernel again for the other type.

    The kernels do not write to it.
    """

    def __init__(self, array: FloatArray) -> None:
        self.owner = array
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface


def writable(array: Any) -> Any:
    """The array itself, or where it is read-only its memory as an array that is not."""
    if isinstance(array, np.ndarray) and not array.flags.writeable:
        return np.asarray(_Writable(array))
    return array


class _Cache(FunctionCache):
    """The cache of one kernel on disk, without which everything works too.

    Numba finds out whether it can write when a function is defined; where that is no longer so when the function has
    been compiled, it fails the call. And before it reads the first kernel it sets up all that it compiles with, which
    takes longer than to read all kernels of a fit: machine code needs nothing of that, unless it `allocates`.
    """

    def __init__(self, function: Callable[..., Any], *, allocates: bool) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        load = super().load_overload
        self._load = load if allocates else getattr(self, "_load_overload", load)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return self._load(sig, target_context)
        except _FAILURES as error:
            _log.debug("a compiled kernel cannot be read from %s: %s", self.cache_path, error)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]
        except _FAILURES as error:
            _log.debug("a compiled kernel cannot be kept in %s: %s", self.cache_path, error)


def _without_collector(compile_: Callable[..., Any]) -> Callable[..., Any]:
    """The same, with Python's search for cycles put off: the compiler makes millions of objects that it needs."""

    def compile_kernel(signature: Any) -> Any:
        was_on = gc.isenabled()
        gc.disable()
        try:
            return compile_(signature)
        finally:
            if was_on:
                gc.enable()

    return compile_kernel


def compiled(function: Callable[..., Any], *, allocates: bool = False, inner: bool = False, **options: Any) -> Any:
    """The function compiled by Numba.

    No fastmath unless `options` say so: every float64 operation of a canonical result is rounded on its own. Only a
    function that `allocates` counts references to its arrays: the counters are atomic and shared by all threads, so
    in the loop over the tiles they would cost more than the smaller passes. An `inner` function is called by kernels
    only, becomes a part of each, and is not kept on disk by itself. Python's arguments need not be turned into its own,
    which takes as long to compile as many a kernel.
    """
    options = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True, "_nrt": allocates, **options}
    options |= {"no_cpython_wrapper": inner, "pipeline_class": inner_pipeline if inner else kernel_pipeline}
    kernel = nb.njit(**options)(function)
    kernel.compile = _without_collector(kernel.compile)
    if inner:
        return kernel
    try:
        kernel._cache = _Cache(function, allocates=allocates)  # as njit(cache=True) does
    except RuntimeError as error:  # no directory that could be written to
        _log.debug("compiled in every process: %s", error)
    return kernel
