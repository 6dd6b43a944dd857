"""The iterations of the CPU backend: assign, and keep the sums."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..exact import Encoding, Float64Array, Int64Array
from . import _numba_assign, _threads
from ._cpu_centers import Packed, both_types, pack, pack_groups
from ._cpu_pruning import PACKED, Pruning, Tiles
from ._layout import TILE
from ._numba_assign import LABELS, MOVED, REBUILD
from ._numba_compiler import NO_WEIGHT, weights_of
from ._scratch import scratch
from .base import Backend, Partial, Rows

REBUILD_SHARE = 0.5  # sums are added up afresh when more rows than this moved: one addition a row instead of two

_MATRIX, _VECTOR = np.empty((0, 0), dtype=np.int64), np.empty(0, dtype=np.int64)
_NO_SUMS = (NO_WEIGHT, NO_WEIGHT, 0.0, 0.0, False, _MATRIX, _MATRIX, _VECTOR, _VECTOR)


class _Running:
    """What a block keeps between the passes of a fit: sums, one array a worker, and the state of the pruning.

    Rows are moved between clusters, never summed again.
    """

    def __init__(self, rows: Rows, n_clusters: int, encoding: Encoding, n_workers: int) -> None:
        n_features = rows.data.shape[1]
        self.encoding, self.weight = encoding, weights_of(rows)
        self.shape = (n_clusters, n_features)
        self.low_shape = self.shape if encoding.two_limbs else (n_clusters, 0)
        self.parts: list[tuple[Int64Array, Int64Array, Int64Array, Int64Array]] = []
        self.moved_share = 1.0
        in_memory = isinstance(rows.data, np.ndarray)  # the rows of a sparse block are not
        self.pruning = Pruning(rows.n_samples if in_memory else 0, n_features, n_clusters, n_workers)

    def arguments(self, n_workers: int) -> list[tuple[Any, ...]]:
        """For each worker what the kernels need to add rows up."""
        k = self.shape[0]
        while len(self.parts) < n_workers:
            shapes = (self.shape, self.low_shape, (k,), (k,))
            sums, sums_low, weights, weights_low = (np.zeros(shape, dtype=np.int64) for shape in shapes)
            self.parts.append((sums, sums_low, weights, weights_low))
        code = self.encoding
        first = (
            self.weight,
            code.features.scale,
            float(code.weights.scale[0]),
            code.features.low_scale,
            code.two_limbs,
        )
        return [(*first, *part) for part in self.parts[:n_workers]]

    def clear(self) -> None:
        for part in self.parts:
            for array in part:
                array.fill(0)

    def total(self, index: int) -> Int64Array:
        # a worker's share alone may wrap around; the total cannot, and integer addition brings it back
        result = self.parts[0][index].copy()
        for part in self.parts[1:]:
            result += part[index]
        return result


class Steps(Backend):
    """Verbs of the loop."""

    def assign(self, rows: Rows, centers: Float64Array) -> int:
        return self._renew(rows, centers, rows.running, LABELS)[1]

    def step(self, rows: Rows, centers: Float64Array, encoding: Encoding) -> Partial:
        running = rows.running
        if running is None:
            n_workers = _threads.n_workers(rows.n_samples, _cost(centers))
            running = rows.running = _Running(rows, len(centers), encoding, n_workers)
        is_first = not running.parts
        mode = REBUILD if running.moved_share > REBUILD_SHARE else MOVED
        moved, rechecked = self._renew(rows, centers, running, mode)
        # all rows "move" in the first pass; that says nothing of the second
        running.moved_share = 0.0 if is_first else moved / rows.n_samples
        return Partial(
            running.total(0),
            running.total(1) if encoding.two_limbs else None,
            running.total(2),
            running.total(3) if rows.sample_weight is not None else None,
            moved,
            rechecked,
        )

    def _renew(self, rows: Rows, centers: Float64Array, running: _Running | None, mode: int) -> tuple[int, int]:
        """Renew the labels, and the sums as `mode` says; returns how many rows moved and were rechecked."""
        X = rows.dense()
        n_workers = _threads.n_workers(len(X), _cost(centers))
        sums = [_NO_SUMS] * n_workers if running is None or mode == LABELS else running.arguments(n_workers)
        if running is None:
            moved, rechecked = _dense(X, rows, centers, pack(centers, X.dtype, self.precision), mode, sums)
            return moved, rechecked

        def in_tiles(tiles: Tiles, *, keep: bool = False) -> Int64Array | None:
            packed = pack_groups(centers, tiles.center_at, PACKED, tiles.width, X.dtype, self.precision)
            # of equal centers all but the first are left out of the scores, which is no bound for where they go
            if packed.n_equal or not np.isfinite(packed.bound[0]):
                return None
            return tiles.assign(X, rows.labels, centers, packed, sums, keep=keep)

        pruning = running.pruning
        tiles = pruning.before(rows, centers, in_tiles) if mode == MOVED else pruning.tiles if mode == LABELS else None
        counts = in_tiles(tiles, keep=True) if tiles is not None else None
        if counts is None:
            pruning.forget()
            if mode == REBUILD:
                running.clear()
            moved, rechecked = _dense(X, rows, centers, pack(centers, X.dtype, self.precision), mode, sums)
        else:
            moved, rechecked = int(counts[0]), int(counts[1])
        if mode != LABELS:
            pruning.after(rows, centers, moved / len(X), counts, in_tiles)
        return moved, rechecked


def _cost(centers: Float64Array) -> int:
    """Of a row in a dense pass, in values read."""
    return int(centers.shape[1]) * (1 + len(centers) // 16)


def _dense(
    X: Any, rows: Rows, centers: Float64Array, packed: Packed, mode: int, sums: list[tuple[Any, ...]]
) -> tuple[int, int]:
    """Compare every row with every center."""
    data = both_types(X)
    counts = np.zeros((len(sums), 16), dtype=np.int64)  # a cache line apart
    lines, n_scores = _numba_assign.ASSIGN_LINES, packed.half.size if packed.blocks.size else 0
    memory = [scratch(X.shape[1], lines + n_scores, lines, tile=n_scores == 0) for _ in sums]

    def task(worker: int, low: int, high: int) -> None:
        _numba_assign.assign(
            data, low, high, rows.labels, centers, packed.shift, packed.groups, packed.blocks, packed.half,
            packed.bound, mode, *sums[worker], counts[worker], memory[worker],
        )  # fmt: skip

    _threads.run(task, len(X), len(sums), multiple=TILE)
    return int(counts[:, 0].sum()), int(counts[:, 1].sum())
