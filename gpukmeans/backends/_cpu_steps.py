"""The iterations of the CPU backend: assign, keep the sums, new centers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..exact import Encoding, Float64Array, FloatArray, Int64Array
from . import _numba_assign, _numba_centers, _threads
from ._cpu_centers import Packed, both_types, packed_for, packed_groups
from ._cpu_pruning import Pruning, Tiles
from ._layout import TILE
from ._numba_assign import ASSIGN_LINES, LABELS, MOVED, PASS, REBUILD, REBUILD_SHARE, SIZE, TEAM_SIZE
from ._numba_compiler import NO_WEIGHT, weights_of, writable
from ._scratch import Scratch, scratch
from ._tiles import VECTOR_CODE
from .base import Backend, Outcome, Partial, Rows, Started, State

LONGEST_LOOP = 1 << 32
"""Multiply-adds (some tens of milliseconds) of the iterations that are made in one call."""
MOST_AT_ONCE = 64
"""Such iterations."""
LONGEST_PASS = 1 << 34
"""Multiply-adds that are made in one call: Python sees Ctrl-C after it."""
RANGES = 16
"""Of rows, for each worker: small enough for a worker that loses its core for a moment."""

_NO_CODES = np.empty((0, 0), dtype=np.int64)
_NO_SUMS = (NO_WEIGHT, NO_WEIGHT, _NO_CODES)
_NO_LOOP = (0, 0.0, 0.0, NO_WEIGHT, np.empty((0, 6)))


class _Running:
    """What a block keeps between the passes of a fit: sums, one array a worker, and the state of the pruning.

    Rows are moved between clusters, never summed again.
    """

    def __init__(self, rows: Rows, n_clusters: int, encoding: Encoding, n_workers: int) -> None:
        n_features = rows.data.shape[1]
        self.weight, self.scale, self.unscale = weights_of(rows), *scales_of(encoding)
        width = 2 * n_features + 2 if encoding.two_limbs else n_features + 2
        # workers share no line of the cache
        self.sums = np.zeros((n_workers, n_clusters + -(-8 // width), width), dtype=np.int64)
        self.n_clusters = n_clusters
        self.moved_share = -1.0  # no pass yet
        self.packed = packed_for(n_clusters, n_features, rows.data.dtype)
        self.scratch = [_scratch_for(self.packed) for _ in range(n_workers)]
        in_memory = isinstance(rows.data, np.ndarray)  # the rows of a sparse block are not
        self.pruning = Pruning(rows.n_samples if in_memory else 0, n_features, n_clusters, n_workers)

    def partial(self, rows: Rows, moved: int, rechecked: int) -> Partial:
        """The sums as they are now."""
        # a worker's share alone may wrap around; the total cannot, and integer addition brings it back
        total: Int64Array = self.sums.sum(axis=0)[: self.n_clusters]
        d = rows.data.shape[1]
        low = total[:, d + 2 :] if total.shape[1] > d + 2 else None
        weights_low = None if rows.sample_weight is None else total[:, d + 1]
        return Partial(total[:, :d], low, total[:, d], weights_low, moved, rechecked)


def scales_of(encoding: Encoding) -> tuple[Float64Array, Float64Array]:
    """What the kernels make codes with, and numbers of their sums: for each feature, the weights, and the low limb."""
    features, weights = encoding.features, float(encoding.weights.scale[0])
    scale = np.append(features.scale, [weights, features.low_scale])
    return scale, np.append(np.ldexp(1.0, -features.exponents), [1 / weights, 1 / features.low_scale])


class Steps(Backend):
    """Verbs of the loop."""

    def assign(self, rows: Rows, centers: Float64Array) -> int:
        return self._renew(rows, centers, rows.running, LABELS)[1]

    def step(self, rows: Rows, centers: Float64Array, encoding: Encoding) -> Partial:
        running = self._running(rows, centers, encoding)
        is_first = running.moved_share < 0
        mode = REBUILD if is_first or running.moved_share > REBUILD_SHARE else MOVED
        moved, rechecked = self._renew(rows, centers, running, mode)
        # all rows "move" in the first pass; that says nothing of the second
        running.moved_share = 0.0 if is_first else moved / rows.n_samples
        return running.partial(rows, moved, rechecked)

    def recenter(
        self, partial: Partial, centers: Float64Array, encoding: Encoding, threshold: float, *, relocated: bool = False
    ) -> tuple[Float64Array, Outcome]:
        after = np.empty_like(centers)
        weights_low = np.zeros_like(partial.weights) if partial.weights_low is None else partial.weights_low
        columns = [partial.sums, partial.weights, weights_low]
        if partial.sums_low is not None:
            columns.append(partial.sums_low)
        n_empty, shift_sq, changed = _numba_centers.recenter_alone(
            np.column_stack(columns), scales_of(encoding)[1], relocated, centers, after, np.empty(3 * len(centers))
        )
        n_moved, n_rechecked = partial.n_moved, partial.n_rechecked
        if n_empty and not relocated:
            return centers, Outcome(State.EMPTY, 0.0, n_moved, n_rechecked, n_empty, False)
        state = State.STRICT if n_moved == 0 else State.WITHIN_TOL if shift_sq <= threshold else State.GO_ON
        return after, Outcome(state, shift_sq, n_moved, n_rechecked, n_empty, changed)

    def iterate(
        self, blocks: Sequence[Rows], centers: Float64Array, encoding: Encoding, threshold: float, most: int
    ) -> list[Started]:
        rows = blocks[0]
        operations = rows.n_samples * centers.size
        at_once = min(most, MOST_AT_ONCE, LONGEST_LOOP // max(1, operations))
        running = self._running(rows, centers, encoding)
        # where pruning could pay, a pass takes so long that Python between two of them costs nothing
        alone = len(blocks) == 1 and isinstance(rows.data, np.ndarray) and not running.pruning.is_worth_it
        if at_once < 2 or not alone:
            return super().iterate(blocks, centers, encoding, threshold, most)
        pair, records = np.empty((2, *centers.shape)), np.empty((at_once, 6))
        pair[0] = centers
        loop = (at_once, running.moved_share, threshold, running.unscale, records)
        n, counts = self._together(
            rows.data, rows, 0, rows.n_samples, pair, running.packed, REBUILD, running, running.scratch, loop
        )
        is_first = running.moved_share < 0 and n == 1
        running.moved_share = 0.0 if is_first else int(counts[0, 0]) / rows.n_samples
        before, after = (pair[i % 2] for i in (n - 1, n))
        started = []
        for state, shift_sq, moved, rechecked, n_empty, changed in records[:n].tolist():
            outcome = Outcome(State(int(state)), shift_sq, int(moved), int(rechecked), int(n_empty), bool(changed))
            # only after the last of them does the loop look at sums and centers
            partial = running.partial(rows, int(moved), int(rechecked)) if n_empty else None
            started.append(Started(partial, before, before if n_empty else after, outcome))
        return started

    def _running(self, rows: Rows, centers: Float64Array, encoding: Encoding) -> _Running:
        if rows.running is None:
            rows.running = _Running(rows, len(centers), encoding, _n_workers(rows.n_samples, centers))
        running: _Running = rows.running
        return running

    def _renew(self, rows: Rows, centers: Float64Array, running: _Running | None, mode: int) -> tuple[int, int]:
        """Renew the labels, and the sums as `mode` says; returns how many rows moved and were rechecked."""
        X, centers = rows.dense(), writable(centers)
        if running is None:
            packed = packed_for(len(centers), X.shape[1], X.dtype)
            memory = [_scratch_for(packed) for _ in range(_n_workers(len(X), centers))]
            return self._dense(X, rows, centers, packed, mode, None, memory)
        sums = [
            _NO_SUMS if mode == LABELS else (running.weight, running.scale, running.sums[worker])
            for worker in range(len(running.scratch))
        ]

        def in_tiles(tiles: Tiles, *, keep: bool = False) -> Int64Array | None:
            packed = packed_groups(tiles.center_at, X.shape[1], tiles.packed, tiles.width, X.dtype)
            # of equal centers all but the first are left out of the scores, which is no bound for where they go
            if packed.pack(centers, self.precision) or not np.isfinite(packed.bound[0]):
                return None
            return tiles.assign(X, rows.labels, centers, packed, sums, keep=keep)

        pruning = running.pruning
        tiles = pruning.before(rows, centers, in_tiles) if mode == MOVED else pruning.tiles if mode == LABELS else None
        counts = in_tiles(tiles, keep=True) if tiles is not None else None
        if counts is None:
            pruning.forget()
            if mode == REBUILD:
                running.sums.fill(0)
            moved, rechecked = self._dense(X, rows, centers, running.packed, mode, running, running.scratch)
        else:
            moved, rechecked = int(counts[0]), int(counts[1])
        if mode != LABELS:
            pruning.after(rows, centers, moved / len(X), counts, in_tiles)
        return moved, rechecked

    def _dense(
        self,
        X: FloatArray,
        rows: Rows,
        centers: Float64Array,
        packed: Packed,
        mode: int,
        running: _Running | None,
        memory: list[Scratch],
    ) -> tuple[int, int]:
        """Compare every row with every center."""
        moved = rechecked = 0
        size = max(TILE, LONGEST_PASS // centers.size)
        for low in range(0, len(X), size):
            high = min(low + size, len(X))
            _, counts = self._together(X, rows, low, high, centers[None], packed, mode, running, memory, _NO_LOOP)
            moved, rechecked = moved + int(counts[:, 0].sum()), rechecked + int(counts[:, 1].sum())
        return moved, rechecked

    def _together(
        self,
        X: FloatArray,
        rows: Rows,
        low: int,
        high: int,
        centers: Float64Array,
        packed: Packed,
        mode: int,
        running: _Running | None,
        memory: list[Scratch],
        loop: tuple[Any, ...],
    ) -> tuple[int, Int64Array]:
        """Call `_numba_assign.iterate` in as many threads as there is memory for; its result, and their counts."""
        n_workers = len(memory)
        counts = np.zeros((n_workers, 16), dtype=np.int64)  # a cache line apart
        sums = (NO_WEIGHT, NO_WEIGHT, _NO_CODES[None])
        if running is not None:
            sums = (running.weight, running.scale, running.sums)
        team = np.zeros(TEAM_SIZE, dtype=np.int64)
        n_tiles = -(-(high - low) // TILE)
        team[SIZE] = max(1, n_tiles // (n_workers * RANGES)) * TILE
        data, is_exact = both_types(X), self.precision == "exact"
        done = [0] * n_workers

        def work(worker: int) -> None:
            done[worker] = _numba_assign.iterate(
                data, low, high, rows.labels, centers, *packed, is_exact, mode, *sums, counts, memory[worker],
                *loop, team, worker,
            )  # fmt: skip

        def stop() -> None:
            team[PASS] = -1

        _threads.together(work, n_workers, stop)
        return done[0], counts


def _n_workers(n_samples: int, centers: Float64Array) -> int:
    """Threads for a pass: to add up the sums of n of them takes n times as long as to find the new centers."""
    if not VECTOR_CODE:  # nor atomic instructions
        return 1
    return min(_threads.n_workers(n_samples, _cost(centers)), 1 + int((n_samples / 32) ** 0.5))


def _cost(centers: Float64Array) -> int:
    """Of a row in a dense pass, in values read; a thread is woken for many passes, or for one with much arithmetic."""
    return int(centers.shape[1]) * (4 + len(centers) // 4)


def _scratch_for(packed: Packed) -> Scratch:
    """Of a worker, for a dense pass over these centers."""
    n_scores = packed.half.size if packed.blocks.size else 0
    n_features = packed.work.size - 3 * len(packed.order)
    return scratch(n_features, ASSIGN_LINES + n_scores, ASSIGN_LINES, tile=n_scores == 0)


def compile_pruning() -> None:
    """Compile what only a large fit would come to."""
    X = np.arange(64, dtype=np.float32).reshape(32, 2)
    labels, centers = np.zeros(len(X), dtype=np.int32), X[:8].astype(np.float64)
    tiles = Tiles(labels, centers)
    packed = packed_groups(tiles.center_at, X.shape[1], tiles.packed, tiles.width, X.dtype)
    packed.pack(centers, "exact")
    tiles.assign(X, labels, centers, packed, [_NO_SUMS], keep=True)
