"""Where the centers start, in a few passes: k-means||, which draws many candidates a round and chooses among them.

A row is drawn by a number that belongs to (seed, round, row), and against integer potentials: neither blocks nor
threads nor backends are seen.

References
----------
.. [1] B. Bahmani, B. Moseley, A. Vattani, R. Kumar, S. Vassilvitskii, "Scalable k-means++", VLDB 2012.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from . import exact, seeding
from .arrays import to_host
from .backends.base import Backend, Rows
from .exact import Encoding, FixedPoint, Float64Array, FloatArray, Int64Array

N_ROUNDS = 5
MOST_ROUNDS = 20
OVERSAMPLING = 2
"""Candidates that a round draws, for each cluster: as in [1]_, where 5 rounds of 2 are as good as k-means++."""

PART_ROWS = 1 << 16
"""Rows whose potentials are kept at a time."""

WORDS = 4
"""Of a step of Philox."""


class _Nearest:
    """What is kept of a block: D of each row to the nearest candidate, and which that is."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.sqdist = np.full(rows.n_samples, np.inf)
        self.candidate = np.zeros(rows.n_samples, dtype=np.int32)

    def parts(self) -> Iterator[slice]:
        """Ranges of rows."""
        for low in range(0, self.rows.n_samples, PART_ROWS):
            yield slice(low, min(low + PART_ROWS, self.rows.n_samples))

    def weighted(self, part: slice) -> Float64Array:
        """``w D``, which is 0 for the weight 0."""
        w = self.rows.sample_weight
        return self.sqdist[part] if w is None else w[part] * self.sqdist[part]

    def meet(self, backend: Backend, candidates: Float64Array, first: int) -> float:
        """Compare with more candidates, of which the first has this number; returns the largest ``w D``."""
        backend.forget(self.rows)
        backend.assign(self.rows, candidates)
        backend.own_sqdist(self.rows, candidates)
        sqdist, label = (np.asarray(to_host(kept([self.rows]))) for kept in (backend.sqdist, backend.labels))
        peak = 0.0
        for part in self.parts():
            closer = sqdist[part] < self.sqdist[part]
            self.sqdist[part][closer] = sqdist[part][closer]
            self.candidate[part][closer] = label[part][closer] + first
            peak = max(peak, float(self.weighted(part).max()))
        return peak

    def total(self, code: FixedPoint) -> int:
        """Sum of the potentials ``rint(w D 2**e)``."""
        return sum(int(code.high(self.weighted(part)).sum()) for part in self.parts())

    def drawn(self, code: FixedPoint, key: Int64Array, number: int, total: int, expected: int) -> NDArray[np.intp]:
        """Rows that a round draws: where ``u total < expected potential``, each side one product in float64."""
        found = []
        for part in self.parts():
            start = self.rows.start + part.start
            u = uniforms(key, number, start, part.stop - part.start)
            potential = code.high(self.weighted(part)).astype(np.float64)
            found.append(start + np.flatnonzero(u * float(total) < expected * potential))
        return np.concatenate(found)

    def add_weights(self, encoding: Encoding, high: Int64Array, low: Int64Array) -> None:
        """Add the limbs of the weights of the rows to those of the candidates that are nearest to them."""
        w = self.rows.sample_weight
        if w is None:
            high += np.bincount(self.candidate, minlength=len(high))
            return
        for part in self.parts():
            np.add.at(high, self.candidate[part], encoding.weights.high(w[part]))
            np.add.at(low, self.candidate[part], encoding.weights.low(w[part]))


def kmeans_parallel(
    backend: Backend, blocks: Sequence[Rows], n_clusters: int, rng: seeding.RandomState, encoding: Encoding
) -> tuple[FloatArray, NDArray[np.intp]]:
    """k-means||: in each round every row is drawn with probability ``min(1, 2 n_clusters w D / sum of w D)``.

    After 5 rounds each candidate is given the weight of the rows nearest to it, and k-means++ chooses among them. Each
    round is one pass over the rows. Where the candidates are fewer than clusters there are more rounds, at most 20 and
    none if all rows lie on candidates; what is still missing then is left to k-means++ over all rows.

    Returns
    -------
    centers : ndarray in the dtype of X, shape (n_clusters, n_features)
    indices : ndarray of intp, shape (n_clusters,)
    """
    n_samples = sum(rows.n_samples for rows in blocks)
    new = np.array([seeding.first_row(blocks, n_samples, float(rng.uniform()), encoding)], dtype=np.intp)
    key = _key(rng)
    candidates, indices = seeding.take(blocks, new), new
    nearest = [_Nearest(rows) for rows in blocks]
    for number in range(MOST_ROUNDS + 1):
        if len(new):
            given = np.ascontiguousarray(candidates[-len(new) :], dtype=np.float64)
            peak = max(near.meet(backend, given, len(indices) - len(new)) for near in nearest)
            code = FixedPoint.for_peaks(peak, n_samples)
            total = sum(near.total(code) for near in nearest)
        weights = _weights(nearest, len(indices), encoding)
        n_distinct = np.count_nonzero(weights)
        if total == 0 or (number >= N_ROUNDS and n_distinct >= n_clusters):
            break
        new = np.concatenate([near.drawn(code, key, number, total, OVERSAMPLING * n_clusters) for near in nearest])
        indices = np.concatenate([indices, new])
        candidates = np.concatenate([candidates, seeding.take(blocks, new)])
    for rows in blocks:
        backend.forget(rows)
        rows.sqdist = None
    if total > 0 and n_distinct < n_clusters:
        return seeding.kmeans_plusplus(backend, blocks, n_clusters, rng, encoding)
    peaks = np.abs(candidates.astype(np.float64) * weights[:, None]).max(axis=0)
    code_of_candidates = Encoding.for_peaks(peaks, float(weights.max()), len(candidates), candidates.dtype)
    backend = backend.for_few()
    few = backend.blocks(candidates, weights)
    centers, chosen = seeding.kmeans_plusplus(backend, few, n_clusters, rng, code_of_candidates)
    return centers, indices[chosen]


def _key(rng: seeding.RandomState) -> Int64Array:
    """What all draws of a start depend on, beside round and row."""
    draw = rng.integers if isinstance(rng, np.random.Generator) else rng.randint
    return np.asarray(draw(0, 1 << 63, 2, dtype=np.int64))


def uniforms(key: Int64Array, number: int, start: int, size: int) -> Float64Array:
    """A number in [0, 1) for each row from `start` on, in a round: these words of the round's Philox stream."""
    stream = np.random.Philox(key=key.astype(np.uint64), counter=[0, 0, number, 0])
    skipped = start % WORDS
    stream.advance(start // WORDS)
    words = stream.random_raw(skipped + size)[skipped:]
    return np.asarray((words >> np.uint64(11)) * 2.0**-53)


def _weights(nearest: Sequence[_Nearest], n: int, encoding: Encoding) -> Float64Array:
    """Weight of the rows nearest to each candidate: sums of integers."""
    high, low = np.zeros((2, n), dtype=np.int64)
    for near in nearest:
        near.add_weights(encoding, high, low)
    return exact.cluster_weights(encoding, high, low)
