"""Lloyd's algorithm one half-step at a time, for those who want to watch it: the bits of a fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arrays import caller, to_host
from .backends import Work, get_backend
from .backends.base import Backend, State
from .exact import FloatArray
from .lloyd import filled
from .planning import TYPICAL_ITERATIONS
from .prepare import Prepared, mean_variance, prepare
from .validation import check_data, check_enough_samples, check_init_centers, check_parameters, check_sample_weight


class Step(NamedTuple):
    """What half an iteration left.

    Attributes
    ----------
    labels : ndarray of int32, shape (n_samples,)
        Cluster of each row.
    centers : ndarray of shape (n_clusters, n_features)
        In the dtype of X (float32 or float64).
    inertia : float
        Sum of the squared distances of rows to the center of their label, times their weights.
    """

    labels: NDArray[np.int32]
    centers: FloatArray
    inertia: float


def lloyd_steps(
    X: Any, centers: Any, *, sample_weight: Any = None, max_iter: int = 300, tol: float = 0.0, backend: str = "auto"
) -> Iterator[Step]:
    """Run Lloyd's algorithm from given centers and give what every half-step leaves.

    The first, third, ... step is an E step: each row goes to its nearest center. Between them stand the M steps: each
    center moves to the mean of its rows. The last one is always an E step: that which finds that nothing changes, or
    the one after `max_iter` iterations.

    Parameters
    ----------
    X : {array-like, sparse matrix, device array} of shape (n_samples, n_features)
    centers : array-like of shape (n_clusters, n_features)
        Where the centers start.
    sample_weight : array-like of shape (n_samples,), default=None
        At least 0, not all 0. None: every row counts 1.
    max_iter : int, default=300
        Most iterations, each of two steps.
    tol : float, default=0.0
        As in :class:`KMeans`; 0 goes on until no center moves or no label changes.
    backend : {'auto', 'cupy', 'numba-cuda', 'numba', 'numpy', 'cupy:all'}, default='auto'

    Returns
    -------
    steps : iterator of (labels, centers, inertia)
        Named tuples of arrays of the host, which stay as they are while the algorithm goes on. The last one has
        the bits of ``KMeans(n_clusters, init=centers, tol=tol, max_iter=max_iter).fit(X)``.

    Raises
    ------
    ValueError
        For NaN or infinity in X or centers, shapes that do not fit, or wrong weights; at the call, not at the first
        step.

    See Also
    --------
    KMeans : The whole fit at once.
    gpukmeans.plot.StepsDisplay : Draws the steps.

    Notes
    -----
    A step costs a pass over the rows more than it does in a fit, for its inertia, and 4 bytes a row for as long as its
    labels are kept.

    Examples
    --------
    >>> from gpukmeans import lloyd_steps
    >>> for labels, centers, inertia in lloyd_steps([[0.0], [1.0], [5.0], [6.0]], [[0.0], [1.0]]):
    ...     print(labels, centers.ravel(), inertia)
    [0 1 1 1] [0. 1.] 41.0
    [0 1 1 1] [0. 4.] 14.0
    [0 0 1 1] [0. 4.] 6.0
    [0 0 1 1] [0.5 5.5] 1.0
    [0 0 1 1] [0.5 5.5] 1.0
    """
    check_parameters("lloyd_steps", max_iter=max_iter, tol=tol, backend=backend)
    with caller(X):
        checked = check_data(X)
        start = check_init_centers(centers, checked, None, "centers")
        check_enough_samples(checked.shape[0], len(start))
        weights = check_sample_weight(sample_weight, checked.shape[0])
        device = get_backend(backend, work=Work.of(checked, len(start), n_passes=TYPICAL_ITERATIONS))
        data = prepare(device, device.accept(checked), weights, None)
        threshold = tol * mean_variance(device, data) if tol > 0 else 0.0
    return _in_place_of(X, _steps(device, data, start, threshold, max_iter))


def _in_place_of(X: Any, steps: Iterator[Step]) -> Iterator[Step]:
    """The steps, each made on the device and stream of X, and used on those of whoever asks for it."""
    while True:
        with caller(X):
            step = next(steps, None)
        if step is None:
            return
        yield step


def _steps(device: Backend, data: Prepared, start: FloatArray, threshold: float, max_iter: int) -> Iterator[Step]:
    """The loop of `fit_lloyd`, one iteration at a time."""

    def step(centers: Any) -> Step:
        labels = np.array(to_host(device.labels(data.blocks)))  # a copy: the next step writes into them
        inertia = data.unscaled_sq(device.total_inertia(data.blocks, centers), weighted=True)
        return Step(labels, data.unscaled(device.unload(centers), start.dtype), inertia)

    for rows in data.blocks:
        device.forget(rows)
    now = device.load(data.scaled(start), data.blocks)
    for left in reversed(range(max_iter)):
        (begun,) = device.iterate(data.blocks, now, data.encoding, threshold, 1)
        outcome = begun.pending.read()
        yield step(begun.before)
        now = begun.after
        if outcome.state == State.EMPTY:
            now, outcome = filled(device, data.blocks, begun.partial, begun.before, data.encoding, threshold)
        is_last = outcome.state != State.GO_ON or not left
        if is_last:  # labels are those of the centers as a model stores them, which lose bits if they are subnormal
            stored = data.scaled(data.unscaled(device.unload(now), start.dtype))
        if outcome.changed or (is_last and not np.array_equal(stored, device.unload(now))):
            yield step(now)
            if is_last:
                for rows in data.blocks:
                    device.assign(rows, stored)
                yield step(device.load(stored, data.blocks))
        if is_last:
            return
