"""k-means++ of the CPU backend."""

from __future__ import annotations

import numpy as np

from ..exact import FixedPoint, FloatArray, Int64Array
from . import _numba_passes, _numba_seeding, _threads
from ._numba_compiler import weights_of
from .base import Backend, Rows


class Seeding(Backend):
    """Verbs of k-means++ over one block."""

    def seed_update(self, rows: Rows, center: FloatArray, first: bool) -> float:
        X = rows.dense()
        n, d = X.shape
        closest = rows.closest = np.empty(n, dtype=X.dtype) if rows.closest is None else rows.closest
        weight = weights_of(rows)
        workers = _threads.n_workers(n, d)
        top = np.zeros(workers)

        def task(worker: int, low: int, high: int) -> None:
            _numba_seeding.seed_update(X, low, high, center, first, closest)
            top[worker] = max(top[worker], _numba_passes.weighted_max(closest, weight, low, high))

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
        weight = weights_of(rows)
        chunks = np.zeros(-(-n // size), dtype=np.int64)
        scale = float(code.scale[0])

        def task(worker: int, low: int, high: int) -> None:
            for chunk in range(low // size, -(-high // size)):
                chunks[chunk] = _numba_seeding.seed_sum(
                    rows.closest, weight, chunk * size, min(n, (chunk + 1) * size), scale
                )

        _threads.run(task, n, _threads.n_workers(n, 1), multiple=size)
        return chunks

    def seed_find(self, rows: Rows, code: FixedPoint, values: list[int]) -> list[int]:
        n = rows.n_samples
        size = self._chunk_rows(n)
        weight = weights_of(rows)
        ends = np.cumsum(self._seed_chunks(rows, code))
        found = []
        for value in values:
            chunk = min(int(np.searchsorted(ends, value, side="right")), len(ends) - 1)
            before = int(ends[chunk - 1]) if chunk else 0
            low, high = chunk * size, min(n, (chunk + 1) * size)
            scale = float(code.scale[0])
            found.append(int(_numba_seeding.seed_scan(rows.closest, weight, low, high, scale, before, value)))
        return found

    def seed_trials(self, rows: Rows, candidates: FloatArray, code: FixedPoint) -> list[int]:
        X = rows.dense()
        n, d = X.shape
        weight = weights_of(rows)
        workers = _threads.n_workers(n, d * len(candidates))
        out = np.zeros((workers, max(16, len(candidates))), dtype=np.int64)
        scale = float(code.scale[0])

        def task(worker: int, low: int, high: int) -> None:
            _numba_seeding.seed_trials(X, low, high, weight, rows.closest, candidates, scale, out[worker])

        _threads.run(task, n, workers)
        totals: list[int] = out.sum(axis=0)[: len(candidates)].tolist()
        return totals
