"""What is done to a tile of rows besides vector code."""

from __future__ import annotations

import numpy as np

from ._layout import TILE
from ._numba_compiler import compiled


def _nothing_scored(best, second, label):  # type: ignore[no-untyped-def]
    """Best and second best score before the first center; a loop compiles sooner than slices."""
    for i in range(TILE):
        best[i] = np.inf
        second[i] = np.inf
        label[i] = 0


def _smallest_two(scores, half, best, label, second):  # type: ignore[no-untyped-def]
    """The two smallest of ``half[k] + scores[k]`` for each row of the tile, and the place of the smallest."""
    nothing_scored(best, second, label)
    for k in range(half.size):
        h = half[k]
        for i in range(TILE):
            score = h + scores[k, i]
            old = best[i]
            loser = old if score < old else score
            second[i] = loser if loser < second[i] else second[i]
            label[i] = np.int32(k) if score < old else label[i]
            best[i] = score if score < old else old


nothing_scored = compiled(_nothing_scored, inner=True)
smallest_two = compiled(_smallest_two, inner=True)
