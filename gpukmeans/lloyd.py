"""Lloyd's loop over the verbs of a backend: convergence and empty clusters. It knows no device.

Rules are scikit-learn's, where they were open they are closed: see `fit_lloyd`.
"""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from .backends.base import Backend, Far, Outcome, Partial, Rows, Started, State
from .exact import Encoding, Float64Array


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
        a pass; ``verbose=1`` computes it).
    """

    shift_sq: float
    n_moved: int
    n_rechecked: int
    seconds: float
    inertia: float | None


class Position(NamedTuple):
    """Where a run is between two iterations: all that is needed to go on from there to the same bits.

    Attributes
    ----------
    before, now : ndarray of float64, shape (n_clusters, n_features)
        Centers that the labels were made with, and those that the last iteration made.
    history : list of Iteration
    """

    before: Float64Array
    now: Float64Array
    history: list[Iteration]


class Watch(Protocol):
    """Who wants to know where a run is, now and then, and may end it."""

    def is_due(self) -> bool:
        """Whether to be told after the next iteration."""
        ...

    def wants_end(self, position: Position) -> bool:
        """Be told; whether the run is to end here."""
        ...


@dataclass(frozen=True)
class Result:
    """What one run of Lloyd's loop gives; labels belong to `centers`, always."""

    labels: Any
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
    one_by_one: bool = False,
    on_iteration: Callable[[int, Iteration, Callable[[], Float64Array]], bool] | None = None,
    watch: Watch | None = None,
    position: Position | None = None,
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
        A device may have started more iterations than it has told of; they do nothing once the loop stops.
    with_inertia : bool
        Compute the inertia of every iteration for the history (one more pass each).
    one_by_one : bool
        Start no iteration before the one before it has been told of, so that `on_iteration` may see its centers.
    on_iteration : callable, optional
        Called with the number and the record of each iteration, and a function that gives the new centers. True ends
        the loop, if iterations are made one by one.
    watch : Watch, optional
        Where it is due no iteration is started ahead, so that there is a position to tell of.
    position : Position, optional
        Go on from there instead of from `centers`.
    """
    for rows in blocks:
        backend.forget(rows)
    if position is not None:  # the iteration before once more, for its labels and sums; its outcome is known
        backend.iterate(blocks, backend.load(position.before, blocks), encoding, threshold, 1)
        centers = position.now
    one_by_one = one_by_one or with_inertia
    lag = 0 if one_by_one else backend.lag(blocks)
    now = backend.load(centers, blocks)
    started: deque[Started] = deque()
    inertia = None
    history: list[Iteration] = [] if position is None else list(position.history)
    batch = 1
    began = time.perf_counter()
    while True:
        due = watch is not None and watch.is_due()
        while len(started) <= lag * batch and (left := max_iter - len(history) - len(started)):
            if due and started:
                break
            begun = backend.iterate(blocks, now, encoding, threshold, 1 if one_by_one or due else left)
            if with_inertia:
                inertia = backend.total_inertia(blocks, now)
            started += begun
            now, batch = begun[-1].after, len(begun)
        partial, before, now, pending = started.popleft()
        outcome = pending.read()
        if outcome.state == State.EMPTY:
            started.clear()  # what was started after an iteration that stops the loop has done nothing
            now, outcome = filled(backend, blocks, partial, before, encoding, threshold)
        # iterations that were made in one call share its time
        seconds = (time.perf_counter() - began) / (1 + len(started) if lag == 0 else 1)
        began += seconds
        history.append(Iteration(outcome.shift_sq, outcome.n_moved, outcome.n_rechecked, seconds, inertia))
        stop = on_iteration is not None and on_iteration(
            len(history) - 1, history[-1], functools.partial(backend.unload, now)
        )
        if outcome.state != State.GO_ON or len(history) == max_iter or (stop and one_by_one):
            break
        if started:
            now = started[-1].after
        elif due and watch is not None:
            told = Position(backend.unload(before), backend.unload(now), history)
            if watch.wants_end(told):
                break
    n_rechecked = sum(record.n_rechecked for record in history)
    if outcome.changed:
        for rows in blocks:
            n_rechecked += backend.assign(rows, now)
    inertia = backend.total_inertia(blocks, now)
    strict, converged = outcome.state == State.STRICT, outcome.state != State.GO_ON
    return Result(backend.labels(blocks), backend.unload(now), inertia, history, n_rechecked, strict, converged)


def filled(
    backend: Backend, blocks: Sequence[Rows], partial: Partial, before: Any, encoding: Encoding, threshold: float
) -> tuple[Any, Outcome]:
    """Centers of an iteration that left clusters empty, once these are filled, and its outcome."""
    partial = _relocated(backend, blocks, partial, before, encoding)
    now, pending = backend.recenter(partial, before, encoding, threshold, relocated=True)
    outcome: Outcome = pending.read()
    return now, outcome


def _relocated(backend: Backend, blocks: Sequence[Rows], partial: Partial, centers: Any, encoding: Encoding) -> Partial:
    """Sums in which each empty cluster has the row farthest from its own center.

    Of rows with positive weight; ties to the lowest index. Only the sums of this iteration change; labels stay. Nothing
    happens if all distances are 0.
    """
    empty = backend.empty_clusters(partial, encoding)
    far: list[tuple[Far, Rows]] = []
    for rows in blocks:
        backend.own_sqdist(rows, centers)
        far += [(row, rows) for row in backend.farthest(rows, len(empty))]
    far.sort(key=lambda item: (-item[0].sqdist, item[1].start + item[0].row))
    far = far[: len(empty)]
    if not far or far[0][0].sqdist == 0:
        return partial
    X = np.concatenate([rows.take([row.row]) for row, rows in far])
    weights = [rows.sample_weight[row.row] for row, rows in far if rows.sample_weight is not None]
    sample_weight = np.array(weights) if weights else None
    donors = [row.label for row, _ in far]
    return backend.relocate(partial, X, sample_weight, donors, empty[: len(far)], encoding)
