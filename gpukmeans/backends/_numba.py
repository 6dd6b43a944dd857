"""The CPU backend: compiled kernels on all cores."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import numpy as np

from .. import exact
from ..exact import Encoding, FixedPoint, Float64Array, FloatArray, Int64Array, Moments
from . import _threads
from .base import Backend, Partial, Rows, Summary

NO_WEIGHT = np.empty(0)
REBUILD_SHARE = 0.5  # sums are added up afresh when more rows than this moved: one addition a row instead of two
WORTH_A_THREAD = 1 << 16  # multiply-adds (or values read) below which a second thread costs more than it saves


@functools.cache
def why_unavailable() -> str | None:
    """None where Numba imports."""
    if importlib.util.find_spec("numba") is None:
        return "Numba is not installed: pip install numba"
    try:
        from . import _numba_kernels  # noqa: F401
    except ImportError as error:
        return f"Numba does not import ({error}): pip install --upgrade numba numpy"
    return None


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


class _Writable:
    """The memory of a read-only array as a writable one: Numba would compile every kernel again for the other type.

    The kernels do not write to it.
    """

    def __init__(self, array: FloatArray) -> None:
        self.owner = array
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface


def _writable(array: Any) -> Any:
    if isinstance(array, np.ndarray) and not array.flags.writeable:
        return np.asarray(_Writable(array))
    return array


class NumbaBackend(Backend):
    """Numba on all cores: float32 scores in registers with a certificate, moved rows, integer sums."""

    name = "numba"

    def __init__(self, precision: str = "exact") -> None:
        super().__init__(precision)
        from . import _numba_kernels

        self._k = _numba_kernels

    @staticmethod
    def _workers(n_samples: int, cost_per_row: int) -> int:
        return _threads.n_workers(n_samples, max(1, WORTH_A_THREAD // max(1, cost_per_row)))

    def rows(self, data: Any, sample_weight: Float64Array | None = None, start: int = 0) -> Rows:
        return super().rows(_writable(data), _writable(sample_weight), start)

    # ---- before the loop
    def summary(self, rows: Rows) -> Summary:
        X = rows.dense()
        n, d = X.shape
        period = d * max(1, 64 // d)  # rows of a few features are read several at a time, to fill the vectors
        workers = self._workers(n, d)
        smallest = np.full((workers, period), np.inf, dtype=X.dtype)
        largest = np.full((workers, period), -np.inf, dtype=X.dtype)
        finite = np.ones(workers, dtype=bool)

        def task(worker: int, low: int, high: int) -> None:
            finite[worker] &= self._k.extent(X, low, high, period, smallest[worker], largest[worker])

        _threads.run(task, n, workers)
        return Summary(
            smallest.reshape(-1, d).min(axis=0).astype(np.float64),
            largest.reshape(-1, d).max(axis=0).astype(np.float64),
            bool(finite.all()),
        )

    def weighted_peaks(self, rows: Rows) -> Float64Array:
        X = rows.dense()
        n, d = X.shape
        workers = self._workers(n, d)
        peaks = np.zeros((workers, d))

        def task(worker: int, low: int, high: int) -> None:
            self._k.weighted_extent(X, rows.sample_weight, low, high, peaks[worker])

        _threads.run(task, n, workers)
        highest: Float64Array = peaks.max(axis=0)
        return highest

    def moments(self, rows: Rows, codes: Moments) -> tuple[Int64Array, Int64Array]:
        X = rows.dense()
        n, d = X.shape
        repeat = max(1, 64 // d)
        workers = self._workers(n, d)
        first, second = np.zeros((2, workers, repeat * d), dtype=np.int64)
        pivot, scale1, scale2 = (np.tile(a, repeat) for a in (codes.pivot, codes.first.scale, codes.second.scale))

        def task(worker: int, low: int, high: int) -> None:
            self._k.moment_sums(X, low, high, repeat * d, pivot, scale1, scale2, first[worker], second[worker])

        _threads.run(task, n, workers)
        return first.reshape(-1, d).sum(axis=0), second.reshape(-1, d).sum(axis=0)

    # ---- the loop
    def assign(self, rows: Rows, centers: Float64Array) -> int:
        return self._assign(rows, centers, None, None, self._k.LABELS)[1]

    def step(self, rows: Rows, centers: Float64Array, encoding: Encoding) -> Partial:
        n_clusters, n_features = centers.shape
        running = rows.running
        if running is None:
            running = rows.running = _Sums(n_clusters, n_features, encoding.two_limbs)
        mode = self._k.REBUILD if running.moved_share > REBUILD_SHARE else self._k.MOVED
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
        k = self._k
        X = rows.dense()
        n, d = X.shape
        n_clusters = len(centers)
        with np.errstate(over="ignore", invalid="ignore"):
            # any shift gives the same labels; this one keeps the scores small
            shift = centers.mean(axis=0).astype(X.dtype)
            group = k.choose_group(n_clusters)
            n_groups = -(-n_clusters // group)
            packed = np.zeros((n_groups, d, group), dtype=np.float32)
            half = np.empty(n_groups * group, dtype=np.float32)
            norm = k.pack_centers(centers, shift.astype(np.float64), packed, half, np.empty(n_clusters, dtype=np.int64))
            bound = exact.score_bound(d, norm, chain=exact.CHAIN)
            bound32 = np.nextafter(np.array(bound, dtype=np.float32), np.float32(np.inf))
        if self.precision != "exact":
            bound32 = np.array([-np.inf, 0, 0], dtype=np.float32)  # every row passes
        workers = self._workers(n, d * n_clusters)
        counts = np.zeros((workers, 16), dtype=np.int64)  # a cache line apart
        if encoding is None or sums is None:
            matrix, vector = np.empty((0, 0), dtype=np.int64), np.empty(0, dtype=np.int64)
            parts = [(matrix, matrix, vector, vector)] * workers
            scale, weight_scale, low_scale, two_limbs = NO_WEIGHT, 0.0, 0.0, False
        else:
            sums.for_workers(workers)
            if mode == k.REBUILD:
                sums.clear()
            parts = sums.parts
            scale, low_scale = encoding.features.scale, encoding.features.low_scale
            weight_scale, two_limbs = float(encoding.weights.scale[0]), encoding.two_limbs
        weight = NO_WEIGHT if rows.sample_weight is None else rows.sample_weight

        def task(worker: int, low: int, high: int) -> None:
            k.assign(
                X, low, high, rows.labels, weight, centers, shift, packed, half, bound32,
                mode, scale, weight_scale, low_scale, two_limbs, *parts[worker], counts[worker],
            )  # fmt: skip

        _threads.run(task, n, workers, multiple=k.TILE)
        return int(counts[:, 0].sum()), int(counts[:, 1].sum())

    # ---- after the loop
    def own_sqdist(self, rows: Rows, centers: Float64Array) -> float:
        X = rows.dense()
        n, d = X.shape
        out = rows.sqdist = np.empty(n) if rows.sqdist is None else rows.sqdist
        workers = self._workers(n, d)
        weight = NO_WEIGHT if rows.sample_weight is None else rows.sample_weight
        top = np.zeros(workers)

        def task(worker: int, low: int, high: int) -> None:
            self._k.own_sqdist(X, low, high, rows.labels, centers, out)
            top[worker] = max(top[worker], self._k.weighted_max(out, weight, low, high))

        _threads.run(task, n, workers)
        return float(top.max())

    def inertia(self, rows: Rows, code: FixedPoint) -> tuple[int, int]:
        values = rows.sqdist
        n = rows.n_samples
        workers = self._workers(n, 1)
        weight = NO_WEIGHT if rows.sample_weight is None else rows.sample_weight
        out = np.zeros((workers, 16), dtype=np.int64)
        scale = float(code.scale[0])

        def task(worker: int, low: int, high: int) -> None:
            self._k.weighted_sum(values, weight, low, high, scale, code.low_scale, out[worker])

        _threads.run(task, n, workers)
        return int(out[:, 0].sum()), int(out[:, 1].sum())

    def transform(self, rows: Rows, centers: Float64Array) -> FloatArray:
        data = rows.dense()
        n, d = data.shape
        out = np.empty((n, len(centers)), dtype=data.dtype)
        centers_t = np.ascontiguousarray(centers.T)
        workers = self._workers(n, d * len(centers))

        def task(worker: int, low: int, high: int) -> None:
            self._k.transform(data, low, high, centers_t, out)

        _threads.run(task, n, workers)
        return out

    # ---- seeding
    def seed_update(self, rows: Rows, center: FloatArray, first: bool) -> float:
        X = rows.dense()
        n, d = X.shape
        closest = rows.closest = np.empty(n, dtype=X.dtype) if rows.closest is None else rows.closest
        weight = NO_WEIGHT if rows.sample_weight is None else rows.sample_weight
        workers = self._workers(n, d)
        top = np.zeros(workers)

        def task(worker: int, low: int, high: int) -> None:
            self._k.seed_update(X, low, high, center, first, closest)
            top[worker] = max(top[worker], self._k.weighted_max(closest, weight, low, high))

        _threads.run(task, n, workers)
        return float(top.max())

    def seed_total(self, rows: Rows, code: FixedPoint) -> int:
        return int(self._seed_chunks(rows, code).sum())

    @staticmethod
    def _chunk_rows(n_samples: int) -> int:
        return max(256, int(n_samples**0.5))

    def _seed_chunks(self, rows: Rows, code: FixedPoint) -> Int64Array:
        """Potential of every chunk of rows: a search looks through the chunks, then through one chunk."""
        n = rows.n_samples
        size = self._chunk_rows(n)
        weight = NO_WEIGHT if rows.sample_weight is None else rows.sample_weight
        chunks = np.zeros(-(-n // size), dtype=np.int64)
        scale = float(code.scale[0])

        def task(worker: int, low: int, high: int) -> None:
            for chunk in range(low // size, -(-high // size)):
                chunks[chunk] = self._k.seed_sum(rows.closest, weight, chunk * size, min(n, (chunk + 1) * size), scale)

        _threads.run(task, n, self._workers(n, 1), multiple=size)
        return chunks

    def seed_find(self, rows: Rows, code: FixedPoint, values: list[int]) -> list[int]:
        n = rows.n_samples
        size = self._chunk_rows(n)
        weight = NO_WEIGHT if rows.sample_weight is None else rows.sample_weight
        ends = np.cumsum(self._seed_chunks(rows, code))
        found = []
        for value in values:
            chunk = min(int(np.searchsorted(ends, value, side="right")), len(ends) - 1)
            before = int(ends[chunk - 1]) if chunk else 0
            low, high = chunk * size, min(n, (chunk + 1) * size)
            scale = float(code.scale[0])
            found.append(int(self._k.seed_scan(rows.closest, weight, low, high, scale, before, value)))
        return found

    def seed_trials(self, rows: Rows, candidates: FloatArray, code: FixedPoint) -> list[int]:
        X = rows.dense()
        n, d = X.shape
        weight = NO_WEIGHT if rows.sample_weight is None else rows.sample_weight
        workers = self._workers(n, d * len(candidates))
        out = np.zeros((workers, max(16, len(candidates))), dtype=np.int64)
        scale = float(code.scale[0])

        def task(worker: int, low: int, high: int) -> None:
            self._k.seed_trials(X, low, high, weight, rows.closest, candidates, scale, out[worker])

        _threads.run(task, n, workers)
        totals: list[int] = out.sum(axis=0)[: len(candidates)].tolist()
        return totals
