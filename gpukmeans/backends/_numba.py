"""The CPU backend: compiled kernels on all cores."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..exact import FixedPoint, Float64Array, FloatArray, Int64Array, Moments
from . import _numba_passes, _threads
from ._cpu_seeding import Seeding
from ._cpu_steps import Steps
from ._numba_compiler import weights_of
from .base import Rows, Summary


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


class NumbaBackend(Steps, Seeding):
    """Numba on all cores: float32 scores in registers with a certificate, moved rows, integer sums."""

    name = "numba"

    def rows(self, data: Any, sample_weight: Float64Array | None = None, start: int = 0) -> Rows:
        return super().rows(_writable(data), _writable(sample_weight), start)

    # ---- before the loop
    def summary(self, rows: Rows) -> Summary:
        X = rows.dense()
        n, d = X.shape
        period = d * max(1, 64 // d)  # rows of a few features are read several at a time, to fill the vectors
        workers = _threads.n_workers(n, d)
        smallest = np.full((workers, period), np.inf, dtype=X.dtype)
        largest = np.full((workers, period), -np.inf, dtype=X.dtype)
        finite = np.ones(workers, dtype=bool)

        def task(worker: int, low: int, high: int) -> None:
            finite[worker] &= _numba_passes.extent(X, low, high, period, smallest[worker], largest[worker])

        _threads.run(task, n, workers)
        return Summary(
            smallest.reshape(-1, d).min(axis=0).astype(np.float64),
            largest.reshape(-1, d).max(axis=0).astype(np.float64),
            bool(finite.all()),
        )

    def weighted_peaks(self, rows: Rows) -> Float64Array:
        X = rows.dense()
        n, d = X.shape
        workers = _threads.n_workers(n, d)
        peaks = np.zeros((workers, d))

        def task(worker: int, low: int, high: int) -> None:
            _numba_passes.weighted_extent(X, rows.sample_weight, low, high, peaks[worker])

        _threads.run(task, n, workers)
        highest: Float64Array = peaks.max(axis=0)
        return highest

    def moments(self, rows: Rows, codes: Moments) -> tuple[Int64Array, Int64Array]:
        X = rows.dense()
        n, d = X.shape
        repeat = max(1, 64 // d)
        workers = _threads.n_workers(n, d)
        first, second = np.zeros((2, workers, repeat * d), dtype=np.int64)
        pivot, scale1, scale2 = (np.tile(a, repeat) for a in (codes.pivot, codes.first.scale, codes.second.scale))

        def task(worker: int, low: int, high: int) -> None:
            _numba_passes.moment_sums(X, low, high, repeat * d, pivot, scale1, scale2, first[worker], second[worker])

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

        def task(worker: int, low: int, high: int) -> None:
            _numba_passes.own_sqdist(X, low, high, rows.labels, centers, out)
            top[worker] = max(top[worker], _numba_passes.weighted_max(out, weight, low, high))

        _threads.run(task, n, workers)
        return float(top.max())

    def inertia(self, rows: Rows, code: FixedPoint) -> tuple[int, int]:
        values = rows.sqdist
        n = rows.n_samples
        workers = _threads.n_workers(n, 1)
        weight = weights_of(rows)
        out = np.zeros((workers, 16), dtype=np.int64)
        scale = float(code.scale[0])

        def task(worker: int, low: int, high: int) -> None:
            _numba_passes.weighted_sum(values, weight, low, high, scale, code.low_scale, out[worker])

        _threads.run(task, n, workers)
        return int(out[:, 0].sum()), int(out[:, 1].sum())

    def transform(self, rows: Rows, centers: Float64Array) -> FloatArray:
        data = rows.dense()
        n, d = data.shape
        out = np.empty((n, len(centers)), dtype=data.dtype)
        centers_t = np.ascontiguousarray(centers.T)
        workers = _threads.n_workers(n, d * len(centers))

        def task(worker: int, low: int, high: int) -> None:
            _numba_passes.transform(data, low, high, centers_t, out)

        _threads.run(task, n, workers)
        return out
