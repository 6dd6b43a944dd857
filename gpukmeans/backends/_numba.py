"""The CPU backend: compiled kernels on all cores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import exact
from ..exact import FixedPoint, Float64Array, FloatArray, Int64Array, Moments
from . import _numba_passes, _threads
from ._cpu_centers import both_types
from ._cpu_steps import Steps
from ._layout import LANES64 as LANES
from ._layout import ROWS
from ._numba_compiler import NO_WEIGHT, weights_of, writable
from ._tiles import VECTOR_CODE
from .base import Rows, Small, SmallFit, Summary

if VECTOR_CODE:
    from ._cpu_seeding import Seeding
else:
    from ._numpy import NumpyBackend as Seeding  # type: ignore[assignment]

FEW_ROWS = 1 << 13  # whose distances are kept and summed by NumPy sooner than kernels are called twice
FEW_VALUES = 1 << 12  # looked through by NumPy sooner than kernels are called
SAMPLED_PLACES, SAMPLED_ROWS, SAMPLED_SHARE = 16, 64, 1 / 128
"""Places from which the largest distance is guessed, the fewest rows of each, and the share of all rows. Among a
thousand rows of a normal cluster of two features the largest square is half of that among a million, which may then
need a second pass.
"""


def _flat(X: FloatArray) -> tuple[FloatArray, FloatArray]:
    return both_types(X.reshape(-1))


def _buffers(workers: int, n_features: int) -> Float64Array:
    return np.empty((workers, _numba_passes.buffer_size(n_features)))


class NumbaBackend(Steps, Seeding):
    """Numba on all cores: float32 scores in registers with a certificate, moved rows, integer sums."""

    name = "numba"
    most_small = 1 << 21

    def rows(self, data: Any, sample_weight: Float64Array | None = None, start: int = 0) -> Rows:
        return super().rows(writable(data), writable(sample_weight), start)

    # ---- before the loop
    def summary(self, rows: Rows) -> Summary:
        X = rows.dense()
        n, d = X.shape
        # rows of a few features are read several at a time, to fill the vectors
        period = -(-_numba_passes.FULL // d) * d
        workers = _threads.n_workers(n, d)
        extents = np.empty((workers, 2, period), X.dtype)
        extents[:, 0], extents[:, 1] = np.inf, -np.inf
        data, finite = X.reshape(-1), [True] * workers

        def task(worker: int, low: int, high: int) -> None:
            finite[worker] &= _numba_passes.extents(data, low * d, high * d, extents[worker])

        _threads.run(task, n, workers)
        by_feature = extents.astype(np.float64).transpose(1, 0, 2).reshape(2, -1, d)
        return Summary(by_feature[0].min(axis=0), by_feature[1].max(axis=0), all(finite))

    def is_finite(self, rows: Rows) -> bool:
        if rows.n_samples * rows.data.shape[1] <= FEW_VALUES:
            return bool(np.isfinite(rows.dense()).all())
        return super().is_finite(rows)

    def weighted_peaks(self, rows: Rows) -> Float64Array:
        X = rows.dense()
        n, d = X.shape
        workers = _threads.n_workers(n, d)
        peaks = np.zeros((workers, d))
        data, buffers = _flat(X), _buffers(workers, d)

        def task(worker: int, low: int, high: int) -> None:
            _numba_passes.weighted_extent(data, rows.sample_weight, low, high, peaks[worker], buffers[worker])

        _threads.run(task, n, workers)
        highest: Float64Array = peaks.max(axis=0)
        return highest

    def moments(self, rows: Rows, codes: Moments) -> tuple[Int64Array, Int64Array]:
        X = rows.dense()
        n, d = X.shape
        # rows of a few features are read several at a time, to fill the vectors
        repeat = 1 if d >= 64 else LANES // math.gcd(d, LANES)
        period = repeat * d
        workers = _threads.n_workers(n, d)
        first, second = np.zeros((2, workers, period), dtype=np.int64)
        data = _flat(X)
        pivot, scale1, scale2 = (np.tile(a, repeat) for a in (codes.pivot, codes.first.scale, codes.second.scale))

        def task(worker: int, low: int, high: int) -> None:
            _numba_passes.moment_sums(
                data, low * d, high * d, period, pivot, scale1, scale2, first[worker], second[worker]
            )

        _threads.run(task, n, workers)
        return first.reshape(-1, d).sum(axis=0), second.reshape(-1, d).sum(axis=0)

    # ---- after the loop
    def own_sqdist(self, rows: Rows, centers: Float64Array) -> float:
        X = rows.dense()
        n, d = X.shape
        out = rows.sqdist = np.empty(n) if rows.sqdist is None else rows.sqdist
        workers = _threads.n_workers(n, d)
        weight = weights_of(rows)
        top = np.zeros(workers)
        data, distances, buffers = _flat(X), both_types(out), _buffers(workers, d)

        def task(worker: int, low: int, high: int) -> None:
            peak = _numba_passes.own_sqdist(
                data, low, high, rows.labels, centers, distances, weight, buffers[worker]
            )
            top[worker] = max(top[worker], peak)

        _threads.run(task, n, workers)
        return float(top.max())

    def total_inertia(self, blocks: Sequence[Rows], centers: Float64Array) -> float:
        """In one pass over the rows (seldom two), without a distance kept for each of them.

        The code depends on the largest ``w D``. It is guessed from a few rows, and a pass sums in two codes: that of
        the guess and that of twice as much. If the largest ``w D`` turns out to need another one, it is known by then.
        """
        n_samples = sum(rows.n_samples for rows in blocks)
        if n_samples <= FEW_ROWS:
            return super().total_inertia(blocks, centers)
        guess = self._sampled_peak(blocks[0], centers)
        while True:
            codes = [FixedPoint.for_peaks(peak, n_samples) for peak in (guess, 2 * guess)]
            scale = np.array([code.scale[0] for code in codes])
            sums = [self._inertia_limbs(rows, centers, scale, codes[0].low_scale) for rows in blocks]
            peak = max(top for top, _ in sums)
            if peak == np.inf:
                return peak
            wanted = FixedPoint.for_peaks(peak, n_samples)
            for s, code in enumerate(codes):
                if code.exponents[0] == wanted.exponents[0]:
                    return exact.inertia(code, *(sum(int(limbs[s, i]) for _, limbs in sums) for i in (0, 1)))
            guess = peak

    @staticmethod
    def _sampled_peak(rows: Rows, centers: Float64Array) -> float:
        """Largest ``w D`` of some rows."""
        X = rows.dense()
        size = max(SAMPLED_ROWS, int(rows.n_samples * SAMPLED_SHARE / SAMPLED_PLACES))
        step = max(size, -(-rows.n_samples // SAMPLED_PLACES))
        ranges = [(low, min(low + size, rows.n_samples)) for low in range(0, rows.n_samples, step)]
        weight, no_limbs = weights_of(rows), np.empty((0, 2), dtype=np.int64)
        data, sq, (buffer,) = _flat(X), np.empty(_numba_passes.PIECE), _buffers(1, X.shape[1])
        return max(
            float(
                _numba_passes.own_inertia(
                    data, *part, rows.labels, weight, centers, NO_WEIGHT, 1.0, no_limbs, sq, buffer
                )
            )
            for part in ranges
        )

    @staticmethod
    def _inertia_limbs(
        rows: Rows, centers: Float64Array, scale: Float64Array, low_scale: float
    ) -> tuple[float, Int64Array]:
        """Largest ``w D`` of all rows, and the limbs of their sum for each scale."""
        X = rows.dense()
        n, d = X.shape
        weight = weights_of(rows)
        workers = _threads.n_workers(n, d)
        limbs = np.zeros((workers, 8, 2), dtype=np.int64)  # two cache lines apart
        top = np.zeros(workers)
        data, sq, buffers = _flat(X), np.empty((workers, _numba_passes.PIECE)), _buffers(workers, d)

        def task(worker: int, low: int, high: int) -> None:
            peak = _numba_passes.own_inertia(
                data, low, high, rows.labels, weight, centers, scale, low_scale, limbs[worker], sq[worker],
                buffers[worker],
            )  # fmt: skip
            top[worker] = max(top[worker], peak)

        _threads.run(task, n, workers)
        return float(top.max()), limbs.sum(axis=0)

    def transform(self, rows: Rows, centers: Float64Array) -> FloatArray:
        data = rows.dense()
        n, d = data.shape
        out = np.empty((n, len(centers)), dtype=data.dtype)
        padded = np.zeros((-(-len(centers) // LANES) * LANES, d))
        padded[: len(centers)] = centers
        packed = np.ascontiguousarray(padded.reshape(-1, LANES, d).transpose(0, 2, 1))
        workers = _threads.n_workers(n, d * len(centers))
        X, result, buffers = _flat(data), both_types(out), _buffers(workers, d)
        parts = np.empty((workers, ROWS, len(padded)))

        def task(worker: int, low: int, high: int) -> None:
            _numba_passes.transform(X, low, high, centers, packed, result, parts[worker], buffers[worker])

        _threads.run(task, n, workers)
        return out

    def fit_small(self, problems: Sequence[Small], tol: float, max_iter: int) -> list[SmallFit]:
        from ._cpu_ragged import fit_small

        return fit_small(problems, tol, max_iter)

    def distance_sums(
        self, others: Float64Array, low: int, high: int, ends: Int64Array, code: FixedPoint
    ) -> Int64Array:
        (n, d), columns = others.shape, _numba_passes.COLUMNS
        n_tiles, own = -(-n // columns), (low // columns, -(-high // columns))
        padded = np.zeros((n_tiles * columns, d))
        padded[:n] = others
        packed = np.ascontiguousarray(padded.reshape(-1, LANES, d).transpose(0, 2, 1))
        clusters = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))
        workers = min(_threads.n_workers(high - low, d * n), own[1] - own[0])
        sums = np.zeros((workers, high - low, len(ends)), dtype=np.int64)
        parts, column = np.empty((workers, ROWS, columns)), np.empty((workers, columns), dtype=np.int64)
        flat, scale = padded.reshape(-1), float(code.scale[0])

        def task(worker: int, first: int, last: int) -> None:
            tiles = (own[0] + first, own[0] + last)
            _numba_passes.distance_sums(
                flat, packed, ends, clusters, tiles, own, scale, sums[worker], parts[worker],
                parts[worker].view(np.int64), column[worker],
            )  # fmt: skip

        _threads.run(task, own[1] - own[0], workers)
        total: Int64Array = sums[0]
        for more in sums[1:]:
            total += more
        return total
