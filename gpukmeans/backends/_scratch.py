"""What the kernels of the assignment write while they work on a tile, allocated before them.

A kernel that allocates would count the references to all its arrays, see `_numba_compiler.compiled`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..exact import Float64Array, Int64Array
from ._layout import LANES, TILE

CACHE_LINE = 64  # bytes; a vector in two of them is read or written twice


class Scratch(NamedTuple):
    """Memory of one worker; what is in it means nothing between two tiles.

    Attributes
    ----------
    tile : ndarray of float32, shape (max(n_features, LANES), TILE)
    doubles : ndarray of float64, shape (max(n_features, TILE * LANES),)
        A row, or a tile of rows of less than LANES features.
    longs, floats, ints : ndarray, shape (n, TILE)
        Numbers of rows and their addresses; scores and bounds; labels.
    """

    tile: NDArray[np.float32]
    doubles: Float64Array
    longs: Int64Array
    floats: NDArray[np.float32]
    ints: NDArray[np.int32]


def scratch(n_features: int, n_floats: int, n_ints: int, *, tile: bool = True) -> Scratch:
    """Memory for kernels that need so many lines; `tile`: rows are transposed."""

    def lines(n: int, dtype: Any) -> Any:
        return aligned(n * TILE, dtype).reshape(n, TILE)

    return Scratch(
        lines(max(n_features, LANES) if tile else 0, np.float32),
        np.empty(max(n_features, TILE * LANES)),
        lines(3, np.int64),
        lines(n_floats, np.float32),
        lines(n_ints, np.int32),
    )


def aligned(size: int, dtype: Any) -> Any:
    """Memory that begins with a line of the cache."""
    n_bytes = size * np.dtype(dtype).itemsize
    memory = np.empty(n_bytes + CACHE_LINE, dtype=np.uint8)
    first = -memory.ctypes.data % CACHE_LINE
    return memory[first : first + n_bytes].view(dtype)
