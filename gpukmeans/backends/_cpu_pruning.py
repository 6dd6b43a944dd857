"""Exact pruning on the CPU: tiles of rows with bounds on their distances, and the rule for when they pay.

References
----------
.. [1] Y. Ding et al., "Yinyang k-means: a drop-in replacement of the classic k-means with consistent speedup",
   ICML 2015. Here the bounds belong to tiles of rows, not to rows, and are certified for the distances in float64.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..exact import Float64Array, FloatArray, Int64Array
from . import _numba_pruning, _threads
from ._cpu_centers import Packed, both_types, group_width
from ._layout import TILE
from ._pruning_rule import Rule
from ._scratch import scratch
from .base import Rows

PACKED = 6  # a group is so many centers, or a multiple
MOST_GROUPS = TILE - 4  # so that all bounds of a row cost 16 bytes at most
SMALLEST = 1 << 29  # multiply-adds of a pass (some milliseconds) below which a fit is over before pruning could pay
SAMPLE_SHARE, SAMPLE_ROWS = 1 / 32, 1 << 14  # of the rows that a trial looks at
_log = logging.getLogger("gpukmeans")

Run = Callable[["Tiles"], "Int64Array | None"]
"""A pass over tiles that gives their counts, or None where they prove nothing (equal or enormous centers)."""


class Tiles:
    """Rows of a block, sorted by label into tiles, and what is known of their distances to groups of centers.

    Takes 16 bytes a row: its index, its label, its anchor and a share of the bounds of its tile (see
    `_numba_pruning`); 8 bytes more an index from 2**31 rows on.

    Parameters
    ----------
    labels : ndarray of int32, shape (n_samples,)
        Where the rows are now.
    centers : ndarray of float64, shape (n_clusters, n_features)
    only_some : bool
        A sample, for a trial: whole clusters spread over space, every so many of their rows.
    """

    def __init__(self, labels: NDArray[np.int32], centers: Float64Array, *, only_some: bool = False) -> None:
        k, d = centers.shape
        self.width = parts_of_group(d, k) * PACKED
        self.packed = group_width(self.width, d) if self.width % 4 == 0 else PACKED  # centers side by side
        self.center_at = neighbours(centers, self.width)
        self.position_of = np.empty(k, dtype=np.int32)
        self.position_of[self.center_at] = np.arange(k, dtype=np.int32)
        self.group_of = self.position_of // np.int32(self.width)
        rank, stride = self.position_of, 1
        if only_some:
            rank, stride = _sample(len(labels), self.center_at)
        index = np.int32 if len(labels) < 2**31 else np.int64
        order = np.empty(-(-len(labels) // stride), dtype=index)
        n_rows = _numba_pruning.sort_rows(labels, rank, stride, np.zeros(k + 1, dtype=np.int64), order)
        self.order = order[:n_rows]
        self.own = labels[self.order]
        self.anchor = np.zeros(n_rows, dtype=np.float32)
        self.n_tiles, self.n_groups = -(-n_rows // TILE), -(-k // self.width)
        self.common = np.full(self.n_tiles, -1, dtype=np.int32)
        self.offset = np.zeros(self.n_tiles, dtype=np.float32)
        self.slack = np.zeros((self.n_tiles, self.n_groups), dtype=np.float32)
        self.moved_by = np.zeros(self.n_groups, dtype=np.float32)
        self.centers: Float64Array | None = None  # of the last pass

    def assign(
        self,
        X: FloatArray,
        labels: NDArray[np.int32],
        centers: Float64Array,
        packed: Packed,
        sums: Sequence[tuple[Any, ...]],
        *,
        keep: bool,
    ) -> Int64Array:
        """Renew the labels of these rows for new centers.

        Parameters
        ----------
        X, labels : ndarray
            Of the whole block.
        centers : ndarray of float64, shape (n_clusters, n_features)
        packed : Packed
            The centers, packed in the order `center_at`.
        sums : sequence of tuples
            For each worker how rows that move are added up, and where.
        keep : bool
            False for a trial: neither labels nor sums are touched.

        Returns
        -------
        counts : ndarray of int64
            Rows moved, rows rechecked, groups scored, tiles read.
        """
        drift, data = self._drift(centers), both_types(X)
        fresh, self.centers = self.centers is None, centers.copy()
        counts = np.zeros((len(sums), 16), dtype=np.int64)  # a cache line apart
        n_floats = _numba_pruning.PRUNED_FLOATS + 2 * self.n_groups
        memory = [scratch(X.shape[1], n_floats, _numba_pruning.PRUNED_INTS + self.n_groups) for _ in sums]

        def task(worker: int, low: int, high: int) -> None:
            _numba_pruning.assign_pruned(
                data, low // TILE, -(-high // TILE), self.order, self.own, self.common, self.anchor, self.slack,
                self.offset, fresh, labels, keep, centers, packed.shift, packed.groups, packed.half, packed.bound,
                packed.bound[3], self.width // self.packed, self.center_at, self.position_of, self.group_of,
                self.moved_by, drift, *sums[worker], counts[worker], memory[worker],
            )  # fmt: skip

        _threads.run(task, len(self.order), len(sums), multiple=TILE)
        total: Int64Array = counts.sum(axis=0)[:4]
        return total

    def shares(self, counts: Int64Array) -> tuple[float, float]:
        """Groups scored a tile and share of tiles read, for the counts of a pass."""
        n_tiles = max(1, self.n_tiles)
        return float(counts[2]) / n_tiles, float(counts[3]) / n_tiles

    def _drift(self, centers: Float64Array) -> NDArray[np.float32]:
        """How far each center has moved since the last pass, rounded up; adds to what the groups have moved by."""
        k = len(centers)
        if self.centers is None:
            return np.zeros(k, dtype=np.float32)
        moved = np.sqrt(((centers - self.centers) ** 2).sum(axis=1))
        with np.errstate(over="ignore"):
            drift = _up(moved.astype(np.float32) * np.float32(1 + 2.0**-20))
        drift[moved == 0] = 0
        of_group = np.maximum.reduceat(drift[self.center_at], np.arange(0, k, self.width))
        summed = _up((self.moved_by + of_group) * np.float32(1 + 2.0**-22))
        self.moved_by = np.where(of_group > 0, summed, self.moved_by)
        return drift


def _up(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.nextafter(values, np.float32(np.inf))


def _sample(n_samples: int, center_at: NDArray[np.int32]) -> tuple[NDArray[np.int32], int]:
    """Rank of the clusters of a sample (-1: not in it), and every which row to take."""
    k = len(center_at)
    n_chosen = min(k, max(4, k // 32))
    chosen = center_at[np.arange(n_chosen) * k // n_chosen]
    rank = np.full(k, -1, dtype=np.int32)
    rank[chosen] = np.arange(n_chosen, dtype=np.int32)
    wanted = max(TILE, min(SAMPLE_ROWS, int(n_samples * SAMPLE_SHARE)))
    return rank, max(1, n_samples * n_chosen // k // wanted)


def neighbours(centers: Float64Array, size: int) -> NDArray[np.int32]:
    """Order of the centers in which each run of `size` are neighbours: halved at the widest feature, repeatedly."""
    done: list[NDArray[Any]] = []
    waiting = [np.arange(len(centers))]
    while waiting:
        part = waiting.pop()
        if len(part) <= size:
            done.append(part)
            continue
        widest = int(centers[part].var(axis=0).argmax())
        part = part[np.argsort(centers[part, widest], kind="stable")]
        half = max(1, len(part) // size // 2) * size
        waiting += [part[half:], part[:half]]
    return np.concatenate(done).astype(np.int32)


def parts_of_group(n_features: int, n_clusters: int) -> int:
    """Packed centers to a group: as few as memory allows, but enough that their scores cost more than their bounds."""
    return max(2 if n_features < 32 else 1, -(-n_clusters // (PACKED * MOST_GROUPS)))


class Pruning:
    """Chooses between the dense and the pruned pass for one block, from what the passes before did."""

    def __init__(self, n_samples: int, n_features: int, n_clusters: int, n_workers: int) -> None:
        groups = -(-n_clusters // (PACKED * parts_of_group(n_features, n_clusters)))
        self.rule = Rule(n_features, n_clusters, groups, n_workers)
        self.is_worth_it = n_samples * n_features * n_clusters >= SMALLEST and n_clusters > 1
        self.tiles: Tiles | None = None
        self.trial: Tiles | None = None

    def before(self, rows: Rows, centers: Float64Array, run: Run) -> Tiles | None:
        """Tiles for the coming pass, or None if it is to be dense. `run` does a pass over tiles and keeps nothing."""
        if self.trial is not None:
            trial, self.trial = self.trial, None
            counts = run(trial)
            if counts is not None and self.rule.enters(*trial.shares(counts)):
                _log.debug("pruning begins: %.2f groups a tile scored, %.3f of tiles read", *trial.shares(counts))
                self.tiles = Tiles(rows.labels, centers)
        elif self.tiles is not None and self.rule.sorts_again():
            _log.debug("pruning: rows are sorted again")
            self.tiles = None  # or there would be two of them for a moment
            self.tiles = Tiles(rows.labels, centers)
        return self.tiles

    def after(self, rows: Rows, centers: Float64Array, moved_share: float, counts: Int64Array | None, run: Run) -> None:
        """Take note of a pass; `counts` of a pruned one, None for a dense one."""
        if counts is not None and self.tiles is not None:
            if not self.rule.stays(*self.tiles.shares(counts), moved_share):
                _log.debug("pruning ends: it costs more than it saves")
                self.tiles = None
        elif self.is_worth_it and self.rule.tries(moved_share):
            self.trial = Tiles(rows.labels, centers, only_some=True)
            if self.trial.n_tiles == 0 or run(self.trial) is None:
                self.trial = None

    def forget(self) -> None:
        """A dense pass comes, after which the tiles will not know the labels."""
        self.tiles = self.trial = None
