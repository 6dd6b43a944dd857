"""Lloyd's loop over the verbs of a backend: convergence and empty clusters. It knows no device.

Rules are scikit-learn's, where they were open they are closed: see `fit_lloyd`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import exact
from .backends.base import Backend, Partial, Rows
from .exact import Encoding, FixedPoint, Float64Array


class Iteration(NamedTuple):
    """One iteration of a fit.

    Attributes
    ----------
    shift_sq : float
        Squared distance that the centers moved, summed over clusters.
    n_moved : int
        Rows whose label changed.
    n_rechecked : int
        Rows whose label the fast pass left open, decided by the canonical distance.
    seconds : float
        Wall time.
    inertia : float or None
        Of the labels and the centers that this iteration started from; None where it was not computed (it would cost
        a pass; ``verbose`` computes it).
    """

    shift_sq: float
    n_moved: int
    n_rechecked: int
    seconds: float
    inertia: float | None


@dataclass(frozen=True)
class Result:
    """What one run of Lloyd's loop gives; labels belong to `centers`, always."""

    labels: NDArray[np.int32]
    centers: Float64Array
    inertia: float
    history: list[Iteration]
    n_rechecked: int
    strict: bool
    converged: bool

    @property
    def n_iter(self) -> int:
        """Iterations made."""
        return len(self.history)


def fit_lloyd(
    backend: Backend,
    blocks: Sequence[Rows],
    centers: Float64Array,
    encoding: Encoding,
    *,
    threshold: float,
    max_iter: int,
    with_inertia: bool = False,
    on_iteration: Callable[[int, Iteration], None] | None = None,
) -> Result:
    """Lloyd's algorithm from given centers.

    Assign; new centers; stop if no label changed ("strict"), or if the squared shift of the centers is at most
    `threshold`, or after `max_iter` iterations. If the last centers are not those that the labels were made with,
    assign once more: ``labels == predict(X)`` always, also where an empty cluster was filled in the last iteration
    (scikit-learn keeps stale labels there).

    Parameters
    ----------
    backend : Backend
    blocks : sequence of Rows
        All rows of the data set.
    centers : ndarray of float64, shape (n_clusters, n_features)
        Start; holds values of the dtype of X.
    encoding : Encoding
    threshold : float
        ``tol`` times the mean variance.
    max_iter : int
    with_inertia : bool
        Compute the inertia of every iteration for the history (one more pass each).
    on_iteration : callable, optional
        Called with the number and the record of each iteration.
    """
    dtype = blocks[0].data.dtype
    for rows in blocks:
        rows.labels = np.full(rows.n_samples, -1, dtype=np.int32)
        rows.running = None
    history: list[Iteration] = []
    strict = converged = stale = False
    for i in range(max_iter):
        began = time.perf_counter()
        partial = _step(backend, blocks, centers, encoding)
        inertia = total_inertia(backend, blocks, centers) if with_inertia else None
        moved_to = _recenter(backend, blocks, partial, centers, encoding, dtype)
        shift_sq = exact.shift_sq(moved_to, centers)
        stale = not np.array_equal(moved_to, centers)
        centers = moved_to
        history.append(Iteration(shift_sq, partial.n_moved, partial.n_rechecked, time.perf_counter() - began, inertia))
        if on_iteration is not None:
            on_iteration(i, history[-1])
        strict = partial.n_moved == 0
        converged = strict or shift_sq <= threshold
        if converged:
            break
    n_rechecked = sum(record.n_rechecked for record in history)
    if stale:
        for rows in blocks:
            n_rechecked += backend.assign(rows, centers)[1]
    inertia = total_inertia(backend, blocks, centers)
    return Result(joined_labels(blocks), centers, inertia, history, n_rechecked, strict, converged)


def joined_labels(blocks: Sequence[Rows]) -> NDArray[np.int32]:
    """Labels of all blocks; no copy if there is only one."""
    return blocks[0].labels if len(blocks) == 1 else np.concatenate([rows.labels for rows in blocks])


def total_inertia(backend: Backend, blocks: Sequence[Rows], centers: Float64Array) -> float:
    """Weighted sum of squared distances to the own center, for the labels as they are; infinite if one of them is."""
    n_samples = sum(rows.n_samples for rows in blocks)
    peak = max(backend.own_sqdist(rows, centers) for rows in blocks)
    if peak == np.inf:
        return peak
    code = FixedPoint.for_peaks(peak, n_samples)
    high = low = 0
    for rows in blocks:
        a, b = backend.inertia(rows, code)
        high, low = high + a, low + b
    return exact.inertia(code, high, low)


def _step(backend: Backend, blocks: Sequence[Rows], centers: Float64Array, encoding: Encoding) -> Partial:
    total = backend.step(blocks[0], centers, encoding)
    for rows in blocks[1:]:
        total += backend.step(rows, centers, encoding)
    return total


def _recenter(
    backend: Backend,
    blocks: Sequence[Rows],
    partial: Partial,
    centers: Float64Array,
    encoding: Encoding,
    dtype: np.dtype[np.floating],
) -> Float64Array:
    weights = exact.cluster_weights(encoding, partial.weights, partial.weights_low)
    empty = np.flatnonzero(weights == 0)
    if len(empty):
        _relocate(backend, blocks, partial, centers, encoding, empty)
        weights = exact.cluster_weights(encoding, partial.weights, partial.weights_low)
    return exact.new_centers(encoding, partial.sums, partial.sums_low, weights, dtype)


def _relocate(
    backend: Backend,
    blocks: Sequence[Rows],
    partial: Partial,
    centers: Float64Array,
    encoding: Encoding,
    empty: NDArray[np.intp],
) -> None:
    """Give each empty cluster the row farthest from its own center (positive weight; ties to the lowest index).

    Only the sums of this iteration change, in place; labels stay. Nothing happens if all distances are 0.
    """
    far: list[tuple[float, int, Rows]] = []
    for rows in blocks:
        backend.own_sqdist(rows, centers)
        assert rows.sqdist is not None
        sq = rows.sqdist if rows.sample_weight is None else np.where(rows.sample_weight > 0, rows.sqdist, -1.0)
        m = min(len(empty), len(sq))
        border = np.partition(sq, len(sq) - m)[len(sq) - m]
        candidates = np.flatnonzero(sq >= border)
        candidates = candidates[np.lexsort((candidates, -sq[candidates]))][:m]
        far += [(float(sq[i]), int(i), rows) for i in candidates if sq[i] >= 0]
    far.sort(key=lambda item: (-item[0], item[2].start + item[1]))
    if not far or far[0][0] == 0:
        return
    for cluster, (_, i, rows) in zip(empty, far, strict=False):
        donor = rows.labels[i]
        x = rows.row(i).astype(np.float64)
        w = None if rows.sample_weight is None else rows.sample_weight[i : i + 1]
        y = x if w is None else w * x
        limbs: list[tuple[exact.Int64Array, Any]] = [(partial.sums, encoding.features.high(y))]
        if partial.sums_low is not None:
            limbs.append((partial.sums_low, encoding.features.low(y)))
        if w is None or partial.weights_low is None:
            limbs.append((partial.weights, np.int64(1)))
        else:
            limbs.append((partial.weights, encoding.weights.high(w)[0]))
            limbs.append((partial.weights_low, encoding.weights.low(w)[0]))
        for total, limb in limbs:
            total[donor] -= limb
            total[cluster] += limb
