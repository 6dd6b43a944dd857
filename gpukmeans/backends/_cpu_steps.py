"""The iterations of the CPU backend: assign, and keep the sums."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import exact
from ..exact import Encoding, Float64Array, FloatArray, Int64Array
from . import _numba_assign, _threads
from ._numba_compiler import NO_WEIGHT, weights_of
from ._simd import BLOCKS, GROUPS, LANES, TILE
from .base import Backend, Partial, Rows

REBUILD_SHARE = 0.5  # sums are added up afresh when more rows than this moved: one addition a row instead of two


class _Sums:
    """Running sums of one block, one array a worker; rows are moved between clusters, never summed again."""

    def __init__(self, n_clusters: int, n_features: int, two_limbs: bool) -> None:
        self.shape = (n_clusters, n_features)
        self.low_shape = self.shape if two_limbs else (n_clusters, 0)
        self.parts: list[tuple[Int64Array, Int64Array, Int64Array, Int64Array]] = []
        self.moved_share = 1.0

    def for_workers(self, n_workers: int) -> None:
        k = self.shape[0]
        while len(self.parts) < n_workers:
            shapes = (self.shape, self.low_shape, (k,), (k,))
            sums, sums_low, weights, weights_low = (np.zeros(shape, dtype=np.int64) for shape in shapes)
            self.parts.append((sums, sums_low, weights, weights_low))

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


class Packed(NamedTuple):
    """Centers as the fast pass wants them: what `_numba_assign.assign` takes."""

    shift: FloatArray
    groups: NDArray[np.float32]
    blocks: NDArray[np.float32]
    half: NDArray[np.float32]
    bound: NDArray[np.float32]


def pack(centers: Float64Array, dtype: np.dtype[Any], precision: str) -> Packed:
    """Pack the centers for rows of the given dtype, in the form that `features_in_lanes` chooses."""
    k, d = centers.shape
    # any shift gives the same labels; this one keeps the scores small
    shift = np.zeros(max(d, LANES), dtype=dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        shift[:d] = centers.mean(axis=0)
    in_lanes = features_in_lanes(d, k)
    width = best_width(k, BLOCKS if in_lanes else GROUPS)
    n_parts = -(-k // width)
    half = np.full(n_parts * width, np.inf, dtype=np.float32)
    norm, _ = _numba_assign.half_norms(centers, shift, half)
    if in_lanes:
        n_chunks = -(-d // LANES)
        groups = np.zeros((0, 0, 0), dtype=np.float32)
        blocks = np.zeros((n_parts, n_chunks, width, LANES), dtype=np.float32)
        _numba_assign.pack_blocks(centers, shift, blocks)
        # one lane, the tree over the lanes, the half norm
        bound = exact.score_bound(d, norm, steps=n_chunks + LANES.bit_length())
    else:
        blocks = np.zeros((0, 0, 0, 0), dtype=np.float32)
        groups = np.zeros((n_parts, d, width), dtype=np.float32)
        _numba_assign.pack_groups(centers, np.arange(k), shift, groups)
        bound = exact.score_bound(d, norm, chain=exact.CHAIN)
    if precision == "exact":
        bound32 = np.nextafter(np.array(bound, dtype=np.float32), np.float32(np.inf))
    else:
        bound32 = np.array([-np.inf, 0, 0], dtype=np.float32)  # every row passes
    return Packed(shift, groups, blocks, half, bound32)


def features_in_lanes(n_features: int, n_clusters: int) -> bool:
    """Whether rows are scored in place, features in the lanes: where transposing them would cost more (measured)."""
    return n_features >= max(LANES, 32) and n_clusters <= 8 + n_features // 32


def best_width(n_clusters: int, widths: tuple[int, ...]) -> int:
    """Centers side by side in registers: what wastes the least on padding (4 cost 6 % more a center than 6)."""
    return min(widths, key=lambda width: -(-n_clusters // width) * width * (1 + 0.03 * (6 - width)))


class Steps(Backend):
    """Verbs of the loop."""

    def assign(self, rows: Rows, centers: Float64Array) -> int:
        return self._assign(rows, centers, None, None, _numba_assign.LABELS)[1]

    def step(self, rows: Rows, centers: Float64Array, encoding: Encoding) -> Partial:
        n_clusters, n_features = centers.shape
        running = rows.running
        if running is None:
            running = rows.running = _Sums(n_clusters, n_features, encoding.two_limbs)
        mode = _numba_assign.REBUILD if running.moved_share > REBUILD_SHARE else _numba_assign.MOVED
        moved, rechecked = self._assign(rows, centers, encoding, running, mode)
        running.moved_share = moved / rows.n_samples
        return Partial(
            running.total(0),
            running.total(1) if encoding.two_limbs else None,
            running.total(2),
            running.total(3) if rows.sample_weight is not None else None,
            moved,
            rechecked,
        )

    def _assign(
        self, rows: Rows, centers: Float64Array, encoding: Encoding | None, sums: _Sums | None, mode: int
    ) -> tuple[int, int]:
        X = rows.dense()
        n, d = X.shape
        packed = pack(centers, X.dtype, self.precision)
        workers = _threads.n_workers(n, d * len(centers))
        counts = np.zeros((workers, 16), dtype=np.int64)  # a cache line apart
        if encoding is None or sums is None:
            matrix, vector = np.empty((0, 0), dtype=np.int64), np.empty(0, dtype=np.int64)
            parts = [(matrix, matrix, vector, vector)] * workers
            scale, weight_scale, low_scale, two_limbs = NO_WEIGHT, 0.0, 0.0, False
        else:
            sums.for_workers(workers)
            if mode == _numba_assign.REBUILD:
                sums.clear()
            parts = sums.parts
            scale, low_scale = encoding.features.scale, encoding.features.low_scale
            weight_scale, two_limbs = float(encoding.weights.scale[0]), encoding.two_limbs
        weight = weights_of(rows)

        def task(worker: int, low: int, high: int) -> None:
            _numba_assign.assign(
                X, low, high, rows.labels, weight, centers, *packed,
                mode, scale, weight_scale, low_scale, two_limbs, *parts[worker], counts[worker],
            )  # fmt: skip

        _threads.run(task, n, workers, multiple=TILE)
        return int(counts[:, 0].sum()), int(counts[:, 1].sum())
