"""The shape of a tile of rows on this processor, and the constants of what is done to it."""

from __future__ import annotations

from typing import Any

from llvmlite import binding


def _layout(features: Any) -> tuple[int, int]:
    """(lanes, vectors) so that `vectors` x 6 accumulators, `vectors` rows and one center fit the registers."""
    if features.get("avx512f"):
        return 16, 4
    if features.get("avx2") or features.get("avx"):
        return 8, 2
    if features.get("neon"):
        return 4, 4
    return 4, 2


LANES, VECTORS = _layout(binding.get_host_cpu_features())
TILE = LANES * VECTORS
"""Rows of one tile."""

GROUPS = (6, 4)
"""Sizes of a group of centers for which kernels exist."""

BLOCKS = (5, 4)
"""Sizes of a block of centers for which kernels exist where the features lie in the lanes."""

LANES64 = LANES // 2
"""float64 values of a vector."""

ROWS = 8
"""Rows whose distances are added up side by side: enough chains of additions to hide their latency."""

MARGIN = 2.0**-20
"""Of a bound of the pruning: covers a few roundings of a sum of float32, relative to its terms."""

TINY = 2.0**-62
"""Of a bound of the pruning: what is added to a distance, or taken from it, that could be 0."""

VANISHED = 2.0**-60
"""Of the norm of a row: what is added to it, for squares that vanish."""
