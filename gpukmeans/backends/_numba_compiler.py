"""How the CPU backend compiles its kernels: without the GIL, cached on disk, plain NumPy semantics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba as nb
import numpy as np

from ..exact import Float64Array
from .base import Rows

NO_WEIGHT = np.empty(0)
"""What kernels take where there are no weights: one type for both."""


def weights_of(rows: Rows) -> Float64Array:
    """Weights of the rows, or NO_WEIGHT."""
    return NO_WEIGHT if rows.sample_weight is None else rows.sample_weight


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """The function compiled by Numba.

    No fastmath unless `options` say so: every float64 operation of a canonical result is rounded on its own.
    """
    try:
        return nb.njit(nogil=True, cache=True, error_model="numpy", **options)(function)
    except RuntimeError:  # no directory that a cache could be written to: compile in every process
        return nb.njit(nogil=True, error_model="numpy", **options)(function)
