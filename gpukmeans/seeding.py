"""Where the centers start: k-means++, random rows, given centers, or a callable. Draws are scikit-learn's.

References
----------
.. [1] D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from . import exact
from .backends.base import Backend, Rows
from .exact import Encoding, FixedPoint, FloatArray

RandomState = np.random.RandomState | np.random.Generator


def kmeans_plusplus(
    backend: Backend,
    blocks: Sequence[Rows],
    n_clusters: int,
    rng: RandomState,
    encoding: Encoding,
    n_local_trials: int | None = None,
) -> tuple[FloatArray, NDArray[np.intp]]:
    """Greedy k-means++: each next center is the best of some rows drawn with probability ``w D``.

    Potentials are integers, so their prefix sums, and with them the drawn rows, are the same on every backend. Their
    exponent is renewed at every step: after an outlier has become a center, what is left still has all its bits.

    Returns
    -------
    centers : ndarray in the dtype of X, shape (n_clusters, n_features)
    indices : ndarray of intp, shape (n_clusters,)
    """
    n_samples = sum(rows.n_samples for rows in blocks)
    n_tried = n_trials(n_clusters) if n_local_trials is None else n_local_trials
    indices = np.empty(n_clusters, dtype=np.intp)
    indices[0] = first_row(blocks, n_samples, float(rng.uniform()), encoding)
    centers = np.empty((n_clusters, blocks[0].data.shape[1]), dtype=blocks[0].data.dtype)
    centers[0] = take(blocks, indices[:1])[0]
    for k in range(1, n_clusters):
        peak = max(backend.seed_update(rows, centers[k - 1], first=k == 1) for rows in blocks)
        code = FixedPoint.for_peaks(peak, n_samples)
        draws = np.atleast_1d(rng.uniform(size=n_tried))
        candidates = _draw(backend, blocks, draws, code)
        rows_drawn = take(blocks, candidates)
        potentials = [0] * n_tried
        for rows in blocks:
            potentials = [a + b for a, b in zip(potentials, backend.seed_trials(rows, rows_drawn, code), strict=True)]
        best = potentials.index(min(potentials))
        indices[k], centers[k] = candidates[best], rows_drawn[best]
    for rows in blocks:
        rows.closest = rows.seeding = None
    return centers, indices


def n_trials(n_clusters: int) -> int:
    """Rows drawn for each center but the first."""
    return 2 + int(math.log(n_clusters))


def random_rows(
    blocks: Sequence[Rows], n_clusters: int, rng: RandomState, encoding: Encoding
) -> tuple[FloatArray, NDArray[np.intp]]:
    """`n_clusters` different rows, drawn with probability proportional to their weight."""
    n_samples = sum(rows.n_samples for rows in blocks)
    weights = _sample_weight(blocks)
    if weights is None:
        p = np.full(n_samples, 1 / n_samples)
    else:
        if np.count_nonzero(weights) < n_clusters:
            raise ValueError(
                f"init='random' draws n_clusters={n_clusters} different rows of positive weight, but sample_weight has "
                f"only {np.count_nonzero(weights)}. Use init='k-means++' or fewer clusters."
            )
        p = weights / total_weight(blocks, encoding)
    indices = rng.choice(n_samples, size=n_clusters, replace=False, p=p).astype(np.intp)
    return take(blocks, indices), indices


def take(blocks: Sequence[Rows], indices: Sequence[int] | NDArray[np.intp]) -> FloatArray:
    """Rows by their index in the whole data set, as an array in the dtype of X."""
    indices = np.asarray(indices, dtype=np.intp)
    block_of = np.searchsorted([rows.start for rows in blocks], indices, side="right") - 1
    taken = np.empty((len(indices), blocks[0].data.shape[1]), dtype=blocks[0].data.dtype)
    for b in np.unique(block_of):
        taken[block_of == b] = blocks[b].take(indices[block_of == b] - blocks[b].start)
    return taken


def total_weight(blocks: Sequence[Rows], encoding: Encoding) -> float:
    """Sum of the weights, or the number of rows."""
    weights, code = _sample_weight(blocks), encoding.weights
    if weights is None:
        return float(sum(rows.n_samples for rows in blocks))
    return float(code.decode(code.high(weights).sum(), code.low(weights).sum())[0])


def _sample_weight(blocks: Sequence[Rows]) -> NDArray[np.float64] | None:
    weights = [rows.sample_weight for rows in blocks if rows.sample_weight is not None]
    return np.concatenate(weights) if weights else None


class RowDraws:
    """Rows drawn with replacement, with probability proportional to their weight: what ``rng.choice`` would give.

    With weights it keeps 8 bytes a row.
    """

    def __init__(self, blocks: Sequence[Rows], encoding: Encoding) -> None:
        weights = _sample_weight(blocks)
        self.prefix = None if weights is None else np.cumsum(encoding.weights.high(weights))
        self.total = sum(rows.n_samples for rows in blocks) if self.prefix is None else int(self.prefix[-1])

    def draw(self, rng: RandomState, size: int) -> NDArray[np.intp]:
        """`size` rows, by index."""
        targets = exact.sample_indices(rng.uniform(size=size), self.total)
        if self.prefix is None:
            return targets.astype(np.intp, copy=False)
        return self.prefix.searchsorted(targets, side="right")


def uniform_rows(rng: RandomState, n_samples: int, size: int) -> NDArray[np.intp]:
    """Rows drawn with replacement, each as likely: what ``rng.randint`` gives."""
    draw = rng.integers if isinstance(rng, np.random.Generator) else rng.randint
    return np.asarray(draw(0, n_samples, size), dtype=np.intp)


def first_row(blocks: Sequence[Rows], n_samples: int, u: float, encoding: Encoding) -> int:
    """Row drawn with probability proportional to its weight: what one draw of ``rng.choice`` would give."""
    weights = _sample_weight(blocks)
    if weights is None:
        return exact.sample_index(u, n_samples)
    prefix = np.cumsum(encoding.weights.high(weights))
    return int(np.searchsorted(prefix, exact.sample_index(u, int(prefix[-1])), side="right"))


def _draw(backend: Backend, blocks: Sequence[Rows], draws: NDArray[np.float64], code: FixedPoint) -> list[int]:
    """Row for each draw u: the first whose prefix sum of potentials exceeds u times their total."""
    totals = [backend.seed_total(rows, code) for rows in blocks]
    ends = list(accumulate(totals))
    if ends[-1] == 0:  # every row lies on a center already: as scikit-learn, the first that counts
        weights = _sample_weight(blocks)
        return [0 if weights is None else int(np.flatnonzero(weights > 0)[0])] * len(draws)
    values = [exact.sample_index(float(u), ends[-1]) for u in draws]
    found = [-1] * len(values)
    for rows, end, total in zip(blocks, ends, totals, strict=True):
        here = [t for t, value in enumerate(values) if end - total <= value < end]
        if here:
            local = backend.seed_find(rows, code, [values[t] - (end - total) for t in here])
            for t, row in zip(here, local, strict=True):
                found[t] = rows.start + row
    return found
