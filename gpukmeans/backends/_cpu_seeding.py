"""k-means++ of the CPU backend."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..exact import FixedPoint, Float64Array, FloatArray, Int64Array
from . import _numba_seeding, _threads
from ._numba_compiler import weights_of
from ._numba_seeding import TRIALS
from .base import Backend, Rows

PROBED = 64
"""Rows that are looked at to see whether testing all of them would pay."""
TEST_COST = 5
"""Cost of testing a row, in features of a row that is tried."""
MOST_GROUPS = 2
"""Groups of trials whose bits are kept; a winner among later ones is tried again."""


@functools.cache
def triangle_margin(n_features: int, dtype: np.dtype[np.floating]) -> tuple[float, float]:
    """(shrink, tiny) so that no row of a center c improves by a trial t if ``closest <= S(c, t) * shrink - tiny``.

    S is the computed distance, D the exact one, both squared. A difference, its square and the additions round d + 2
    times, and each of the d squares may lose half a subnormal h, so with unit roundoff u and g = (d + 2) u /
    (1 - (d + 2) u)

        (1 - g) D - d h <= S <= (1 + g) D + d h.

    Let q = closest = S(x, c). By the triangle inequality sqrt D(x, t) >= sqrt D(c, t) - sqrt D(x, c), so
    D(x, t) >= (q + d h) / (1 - g), and with it S(x, t) >= q, if D(c, t) >= 4 max(D(x, c), (q + d h) / (1 - g)). The
    latter is the larger one, and D(c, t) >= (S(c, t) - d h) / (1 + g). So

        q <= (S(c, t) - d h) (1 - g) / (1 + g) / 4 - d h

    is enough. To this come roundings of the test itself: less than 6 u (d + 8 instead of d + 2) and h.
    """
    info = np.finfo(dtype)
    r = (n_features + 8) * float(info.eps) / 2
    g = r / (1 - r) if r < 0.5 else 1.0
    return (1 - g) / (1 + g) / 4, 2 * (n_features + 1) * float(info.smallest_subnormal)


def pays(share: float, n_samples: int, n_centers: int, n_features: int) -> bool:
    """Whether to test all rows against bounds of their centers, where that spares this share of them.

    The test reads two numbers of each row, and its bounds need the distances of all centers to the trials. Costs are
    counted in features of a row that is tried: measured for 2 to 64 of them.
    """
    row = n_features + 4
    return share * n_samples * row > n_samples * TEST_COST + n_centers * row


@dataclass
class Seeds:
    """What is kept of a block while its centers are chosen: 4 bytes a row, and 1 for each 8 trials (at most 8).

    Attributes
    ----------
    chunk : int
        Rows of a chunk: a search looks through the chunks, then through one chunk.
    sums : ndarray of int64, shape (n_chunks,)
        Potentials by `scale`.
    peaks : ndarray of float64, shape (n_chunks,)
        Largest ``w closest``.
    owner : ndarray of int32, shape (n_samples,)
        Number of the center that `closest` belongs to.
    listed, bits, counts : ndarray
        Of `seed_trials`: which rows are closer to one of `tried` than to any center.
    tried : ndarray, shape (n_trials, n_features), or None
    centers : list of ndarray, shape (n_features,)
    addresses : ndarray of int64, shape (n_centers,)
    """

    chunk: int
    sums: Int64Array
    peaks: Float64Array
    owner: NDArray[np.int32]
    listed: NDArray[np.int32] = field(default_factory=lambda: np.empty((0, 0), dtype=np.int32))
    bits: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, 0), dtype=np.uint8))
    counts: Int64Array = field(default_factory=lambda: np.empty((0, 0), dtype=np.int64))
    tried: FloatArray | None = None
    scale: float = 0.0
    centers: list[FloatArray] = field(default_factory=list)
    addresses: Int64Array = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @classmethod
    def of(cls, n_samples: int, chunk: int) -> Seeds:
        """Nothing known yet."""
        n_chunks = -(-n_samples // chunk)
        sums, peaks = np.zeros(n_chunks, dtype=np.int64), np.zeros(n_chunks)
        seeds = cls(chunk, sums, peaks, np.zeros(n_samples, np.int32))
        seeds.make_room(1)
        return seeds

    def make_room(self, n_groups: int) -> None:
        """Lists for this many groups of trials, or for as many as are kept."""
        n_groups = min(n_groups, MOST_GROUPS)
        if n_groups > len(self.counts):
            self.listed = np.empty((n_groups, len(self.owner)), dtype=np.int32)
            self.bits = np.empty((n_groups, len(self.owner)), dtype=np.uint8)
            self.counts = np.empty((n_groups, len(self.sums)), dtype=np.int64)

    def trial_of(self, center: FloatArray) -> int | None:
        """Number of the trial of the last step that is this center, if its rows are known."""
        if self.tried is None:
            return None
        same = np.flatnonzero((self.tried == center).all(axis=1))
        return int(same[0]) if len(same) and same[0] < MOST_GROUPS * TRIALS else None


class Seeding(Backend):
    """Verbs of k-means++ over one block."""

    @staticmethod
    def _chunk_rows(n_samples: int) -> int:
        return max(1024, int(n_samples**0.5))

    def seed_update(self, rows: Rows, center: FloatArray, first: bool) -> float:
        X, weight = rows.dense(), weights_of(rows)
        n, d = X.shape
        if first or rows.seeding is None:
            rows.closest, rows.seeding = np.full(n, np.inf, dtype=X.dtype), Seeds.of(n, self._chunk_rows(n))
        seeds, closest = rows.seeding, rows.closest
        t = seeds.trial_of(center)
        if t is None:
            t = 0
            self._try(rows, X, center[None], 1.0)
        number = len(seeds.centers)
        trial, group, bit, size = _lanes(center[None])[0], t // TRIALS, 1 << t % TRIALS, seeds.chunk
        listed, bits, counts = seeds.listed[group], seeds.bits[group], seeds.counts[group]

        def task(worker: int, low: int, high: int) -> None:
            _numba_seeding.seed_update(
                X, low // size, -(-high // size), size, weight, closest, seeds.owner, number, trial,
                bit, listed, bits, counts, seeds.scale, seeds.sums, seeds.peaks,
            )  # fmt: skip

        _threads.run(task, n, _threads.n_workers(n, 1 + 2 * d // (number + 1)), multiple=size)
        seeds.tried = None
        seeds.centers.append(np.ascontiguousarray(center))
        seeds.addresses = np.append(seeds.addresses, seeds.centers[-1].ctypes.data)
        return float(seeds.peaks.max())

    def seed_total(self, rows: Rows, code: FixedPoint) -> int:
        return int(self._seed_chunks(rows, code).sum())

    def _seed_chunks(self, rows: Rows, code: FixedPoint) -> Int64Array:
        """Potential of every chunk of rows; all anew only where the code is another one than before."""
        seeds, weight, scale = rows.seeding, weights_of(rows), float(code.scale[0])
        if scale != seeds.scale:
            size = seeds.chunk

            def task(worker: int, low: int, high: int) -> None:
                _numba_seeding.seed_sums(
                    rows.closest, weight, low // size, -(-high // size), size, scale, seeds.sums
                )

            _threads.run(task, rows.n_samples, _threads.n_workers(rows.n_samples, 1), multiple=size)
            seeds.scale = scale
        sums: Int64Array = seeds.sums
        return sums

    def seed_find(self, rows: Rows, code: FixedPoint, values: list[int]) -> list[int]:
        ends = np.cumsum(self._seed_chunks(rows, code))
        wanted = np.array(values, dtype=np.int64)
        found = np.empty_like(wanted)
        _numba_seeding.seed_find(
            rows.closest, weights_of(rows), rows.seeding.chunk, rows.seeding.scale, ends, wanted, found
        )
        numbers: list[int] = found.tolist()
        return numbers

    def seed_trials(self, rows: Rows, candidates: FloatArray, code: FixedPoint) -> list[int]:
        total = self.seed_total(rows, code)
        gains = self._try(rows, rows.dense(), candidates, float(code.scale[0]))
        return [total - gain for gain in gains[: len(candidates)].tolist()]

    def _try(self, rows: Rows, X: FloatArray, candidates: FloatArray, scale: float) -> Int64Array:
        """Gain of each candidate; which rows it improves is kept."""
        seeds, weight = rows.seeding, weights_of(rows)
        n, d = X.shape
        trials = _lanes(candidates)
        seeds.make_room(len(trials))
        bounds, size = self._bounds(rows, trials), seeds.chunk
        workers = _threads.n_workers(n, d * trials.shape[0] * TRIALS)
        gains = np.zeros((workers, len(trials) + 1, TRIALS), dtype=np.int64)  # workers share no line of the cache

        def task(worker: int, low: int, high: int) -> None:
            _numba_seeding.seed_trials(
                X, low // size, -(-high // size), size, weight, rows.closest, seeds.owner, bounds, trials, scale,
                seeds.listed, seeds.bits, seeds.counts, gains[worker],
            )  # fmt: skip

        _threads.run(task, n, workers, multiple=size)
        seeds.tried = candidates
        return gains.sum(axis=0).reshape(-1)

    def _bounds(self, rows: Rows, trials: FloatArray) -> FloatArray:
        """Bounds of `closest` by owner that spare rows, or none where testing would not pay."""
        seeds, closest = rows.seeding, rows.closest
        n, n_centers = rows.n_samples, len(seeds.centers)
        shrink, tiny = triangle_margin(trials.shape[1], trials.dtype)

        def bounds_of(centers: Int64Array) -> FloatArray:
            bounds = np.empty(len(centers), dtype=trials.dtype)
            if len(centers):
                _numba_seeding.seed_bounds(centers, trials, shrink, tiny, bounds)
            return bounds

        probed = slice(0, n if n_centers else 0, max(PROBED // 2, n // PROBED))
        bounds = bounds_of(seeds.addresses[seeds.owner[probed]])
        share = np.count_nonzero(closest[probed] <= bounds) / max(1, len(bounds))
        worth = pays(share, n, n_centers, trials.shape[1] * len(trials))
        return bounds_of(seeds.addresses if worth else seeds.addresses[:0])


def _lanes(candidates: FloatArray) -> FloatArray:
    """Candidates as the kernels take them, (n_groups, n_features, TRIALS); the last one fills the last group."""
    n_groups = -(-len(candidates) // TRIALS)
    padded = candidates[np.minimum(np.arange(n_groups * TRIALS), len(candidates) - 1)]
    return np.ascontiguousarray(padded.reshape(n_groups, TRIALS, -1).transpose(0, 2, 1))
