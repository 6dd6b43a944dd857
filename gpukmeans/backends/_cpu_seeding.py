"""k-means++ of the CPU backend.

Each step asks what every trial would gain, and only the rows that a trial improves gain anything. So those are listed,
the winner's list is all that the next update has to read, and where the triangle inequality shows that most rows are
not improved by any trial, the others are found by two numbers of each row (`triangle_margin`).
"""

from __future__ import annotations

import functools

import numpy as np

from ..exact import FixedPoint, Float64Array, FloatArray, Int64Array
from . import _numba_seeding, _threads
from ._cpu_centers import both_types
from ._numba_compiler import weights_of
from ._simd_seeding import TRIALS
from .base import Backend, Rows

PROBED = 64
"""Rows that are tested to see whether testing all of them would pay."""
TEST_COST = 5
"""Cost of testing a row, in features of a row that is tried."""
MOST_GROUPS = 4
"""Groups of trials whose lists are kept; a winner among later ones is tried again."""


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


class Seeds:
    """What is kept of a block while its centers are chosen, beside `Rows.closest`.

    It takes 4 bytes a row, and 3 more for each TRIALS trials, at most 16.

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
    centers : list of ndarray, shape (n_features,)
    addresses : ndarray of int64, shape (n_centers,)
        Where they are.
    tried : ndarray, shape (n_trials, n_features), or None
        Trials since the last center.
    listed, bits, counts : ndarray
        Which rows are closer to a trial than to any center: see `seed_trials` of the kernels.
    """

    def __init__(self, n_samples: int, chunk: int) -> None:
        n_chunks = -(-n_samples // chunk)
        self.chunk = chunk
        self.scale = 0.0
        self.sums = np.zeros(n_chunks, dtype=np.int64)
        self.peaks = np.zeros(n_chunks)
        self.owner = np.zeros(n_samples, dtype=np.int32)
        self.centers: list[FloatArray] = []
        self.addresses = np.empty(0, dtype=np.int64)
        self.tried: FloatArray | None = None
        self.make_room(1)

    def make_room(self, n_groups: int) -> None:
        """Lists for this many groups of trials."""
        self.listed = np.empty((n_groups, len(self.owner)), dtype=np.uint16)
        self.bits = np.empty((n_groups, len(self.owner)), dtype=np.uint8)
        self.counts = np.empty((n_groups, len(self.sums)), dtype=np.int64)

    def add(self, center: FloatArray) -> None:
        """One more center, whose rows are known."""
        self.tried = None
        self.centers.append(np.ascontiguousarray(center))
        self.addresses = np.append(self.addresses, self.centers[-1].ctypes.data)

    def trial_of(self, center: FloatArray) -> int | None:
        """Number of the trial that is this center, if its list is kept."""
        if self.tried is None:
            return None
        same = np.flatnonzero((self.tried == center).all(axis=1))
        return int(same[0]) if len(same) and same[0] < len(self.counts) * TRIALS else None


def _closest(rows: Rows) -> tuple[FloatArray, FloatArray]:
    assert rows.closest is not None
    return both_types(rows.closest)


class Seeding(Backend):
    """Verbs of k-means++ over one block."""

    @staticmethod
    def _chunk_rows(n_samples: int) -> int:
        return min(1 << 16, max(1024, int(n_samples**0.5)))  # `Seeds.listed` counts from the start of a chunk

    def seed_update(self, rows: Rows, center: FloatArray, first: bool) -> float:
        X, weight = rows.dense(), weights_of(rows)
        n, d = X.shape
        if first or rows.seeding is None:
            rows.closest, rows.seeding = np.full(n, np.inf, dtype=X.dtype), Seeds(n, self._chunk_rows(n))
        seeds, closest = rows.seeding, _closest(rows)
        t = seeds.trial_of(center)
        if t is None:
            t = 0
            self._try(rows, X, center[None], 1.0)
        number, size, trial, bit = len(seeds.centers), seeds.chunk, both_types(_lanes(center[None])), 1 << t % TRIALS
        data, workers = both_types(X), _threads.n_workers(n // (number + 1), 2 * d + TRIALS)
        memory = [_numba_seeding.scratch() for _ in range(workers)]
        listed, bits, counts = seeds.listed[t // TRIALS], seeds.bits[t // TRIALS], seeds.counts[t // TRIALS]

        def task(worker: int, low: int, high: int) -> None:
            _numba_seeding.seed_update(
                data, low // size, -(-high // size), size, weight, closest, seeds.owner, number, trial,
                bit, listed, bits, counts, seeds.scale, seeds.sums, seeds.peaks, memory[worker],
            )  # fmt: skip

        _threads.run(task, n, workers, multiple=size)
        seeds.add(center)
        return float(seeds.peaks.max())

    def seed_total(self, rows: Rows, code: FixedPoint) -> int:
        return int(self._seed_chunks(rows, code).sum())

    def _seed_chunks(self, rows: Rows, code: FixedPoint) -> Int64Array:
        """Potential of every chunk of rows; all anew only if the code is another one than before."""
        seeds, weight, scale = rows.seeding, weights_of(rows), float(code.scale[0])
        if scale != seeds.scale:
            size, n, closest = seeds.chunk, rows.n_samples, _closest(rows)

            def task(worker: int, low: int, high: int) -> None:
                _numba_seeding.seed_sums(closest, weight, low // size, -(-high // size), n, size, scale, seeds.sums)

            _threads.run(task, n, _threads.n_workers(n, 1), multiple=size)
            seeds.scale = scale
        sums: Int64Array = seeds.sums
        return sums

    def seed_find(self, rows: Rows, code: FixedPoint, values: list[int]) -> list[int]:
        sums, weight, size, scale = self._seed_chunks(rows, code), weights_of(rows), rows.seeding.chunk, code.scale[0]
        ends, wanted = np.cumsum(sums), np.array(values, dtype=np.int64)
        chunks = np.minimum(np.searchsorted(ends, wanted, side="right"), len(ends) - 1)
        found = np.empty_like(wanted)
        before = ends[chunks] - sums[chunks]
        closest = _closest(rows)
        _numba_seeding.seed_find(
            closest, weight, rows.n_samples, size, float(scale), chunks, before, wanted, found
        )
        numbers: list[int] = found.tolist()
        return numbers

    def seed_trials(self, rows: Rows, candidates: FloatArray, code: FixedPoint) -> list[int]:
        total = self.seed_total(rows, code)
        gains = self._try(rows, rows.dense(), candidates, float(code.scale[0]))
        return [total - gain for gain in gains.tolist()]

    def _try(self, rows: Rows, X: FloatArray, candidates: FloatArray, scale: float) -> Int64Array:
        """By how much each candidate lowers the potential; which rows it improves is kept."""
        seeds, weight = rows.seeding, weights_of(rows)
        n, d = X.shape
        trials = _lanes(candidates)
        if len(seeds.counts) < min(len(trials), MOST_GROUPS):
            seeds.make_room(min(len(trials), MOST_GROUPS))
        bounds, size = self._bounds(rows, trials), seeds.chunk
        workers = _threads.n_workers(n, d * len(trials) * TRIALS)
        gains = np.zeros((workers, len(trials) + 1, TRIALS), dtype=np.int64)  # workers share no line of the cache
        memory = [_numba_seeding.scratch() for _ in range(workers)]
        data, closest, lanes = both_types(X), _closest(rows), both_types(trials)

        def task(worker: int, low: int, high: int) -> None:
            _numba_seeding.seed_trials(
                data, low // size, -(-high // size), size, weight, closest, seeds.owner, bounds, lanes, scale,
                seeds.listed, seeds.bits, seeds.counts, gains[worker, : len(trials)], memory[worker],
            )  # fmt: skip

        _threads.run(task, n, workers, multiple=size)
        seeds.tried = candidates
        total: Int64Array = gains.sum(axis=0).reshape(-1)[: len(candidates)]
        return total

    def _bounds(self, rows: Rows, trials: FloatArray) -> Float64Array:
        """Bound of each center, at or below which `closest` of its rows stays, or none where testing would not pay."""
        seeds, closest = rows.seeding, rows.closest
        n, n_centers = rows.n_samples, len(seeds.centers)
        assert closest is not None
        shrink, tiny = triangle_margin(trials.shape[1], trials.dtype)

        def bounds_of(centers: Int64Array) -> Float64Array:
            bounds = np.full(len(centers), float(np.finfo(trials.dtype).max))
            if len(centers):
                _numba_seeding.seed_bounds(
                    centers, both_types(trials), shrink, tiny, bounds, _numba_seeding.scratch()
                )
            return bounds

        probed = slice(0, n if n_centers else 0, max(PROBED // 2, n // PROBED))
        bounds = bounds_of(seeds.addresses[seeds.owner[probed]])
        share = np.count_nonzero(closest[probed] <= bounds) / max(1, len(bounds))
        worth = n_centers > 0 and pays(share, n, n_centers, trials.shape[1] * len(trials))
        return bounds_of(seeds.addresses if worth else seeds.addresses[:0])


def _lanes(candidates: FloatArray) -> FloatArray:
    """Candidates as the kernels take them, (n_groups, n_features, TRIALS); the last one fills the last group."""
    n_groups = -(-len(candidates) // TRIALS)
    padded = candidates[np.minimum(np.arange(n_groups * TRIALS), len(candidates) - 1)]
    return np.ascontiguousarray(padded.reshape(n_groups, TRIALS, -1).transpose(0, 2, 1))
