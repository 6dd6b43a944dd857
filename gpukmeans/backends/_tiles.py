"""A tile of rows loaded, scored and bounded: by vector code where it compiles, else by plain loops; chosen once."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any

import numpy as np
from numba.core.errors import NumbaError

from ._layout import TILE

_log = logging.getLogger("gpukmeans")


def _choose() -> Any:
    """The module of the vector code if what it is made of compiles here."""
    try:
        tiles = import_module("._tiles_simd", __package__)
        a, b, c = np.zeros((3, TILE), dtype=np.float32)
        label, group = np.zeros(TILE, dtype=np.int32), np.zeros((1, 1, 4), dtype=np.float32)
        tiles.score_groups(a[None], group, 0, 1, group[0, 0], b, label, c)
    # what a version of Numba or LLVM that does not know the code raises
    except (ImportError, AttributeError, TypeError, ValueError, RuntimeError, NumbaError) as error:
        _log.warning("the CPU runs without vector code, and slower: %s: %s", type(error).__name__, error)
        return import_module("._tiles_plain", __package__)
    return tiles


_tiles = _choose()
VECTOR_CODE: bool = _tiles.__name__.endswith("simd")
"""Whether vector code compiles."""

load_tile = _tiles.load_tile
score_groups = _tiles.score_groups
score_blocks = _tiles.score_blocks
merge_group = _tiles.merge_group
excess_over = _tiles.excess_over
slack_under = _tiles.slack_under
