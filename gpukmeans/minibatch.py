"""MiniBatchKMeans: validate, prepare, draw batches, store."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from . import exact, seeding
from ._base import CentersEstimator, start_centers
from .arrays import caller, is_numba, like, to_host
from .backends import Work, get_backend
from .backends.base import Backend, Rows
from .batches import Convergence, RunningMeans
from .exact import Encoding, Float64Array
from .halves import halves
from .prepare import Prepared, mean_variance, prepare
from .validation import (
    check_data,
    check_enough_samples,
    check_init_centers,
    check_parameters,
    check_rng,
    check_sample_weight,
    parameter_names,
)


class MiniBatchKMeans(CentersEstimator):
    """K-means by small batches of rows [1]_, exact: the same bits on every backend for the same batches.

    A replacement of :class:`sklearn.cluster.MiniBatchKMeans`: same parameters, attributes and, for the same
    `random_state`, the same draws. Much faster than :class:`KMeans` on many rows, to centers that are slightly worse.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters and of centers.
    init : {'k-means++', 'k-means||', 'random'}, callable or array-like of shape (n_clusters, n_features), \
            default='k-means++'
        Where the centers start, as in :class:`KMeans`; chosen among `init_size` rows that are drawn for it.
    max_iter : int, default=100
        Most passes over as many rows as X has.
    batch_size : int, default=1024
        Rows of a batch; at most all.
    verbose : int, default=0
        1 prints what scikit-learn prints.
    compute_labels : bool, default=True
        Label all rows at the end. If not, `inertia_` is an estimate from the batches.
    random_state : int, RandomState instance, numpy Generator or None, default=None
        Draws starts, batches and reassignments; the draws are scikit-learn's. Pass an int for the same result at
        every call.
    tol : float, default=0.0
        `fit` stops when the squared distance that the centers moved in a batch, summed over clusters, is at most
        `tol` times the mean variance of the features. 0: never for this reason.
    max_no_improvement : int, default=10
        `fit` stops after so many batches in a row without a new least smoothed inertia. None: never for this reason.
    init_size : int, default=None
        Rows drawn for each start and for comparing starts. None is ``3 * batch_size``, or ``3 * n_clusters`` if that
        is less than `n_clusters`; at most all.
    n_init : 'auto' or int, default='auto'
        Starts to try, of which the one with the lowest inertia is kept. 'auto' is 3 for 'random' and a callable, 1
        for 'k-means++', 'k-means||' and an array.
    reassignment_ratio : float, default=0.01
        A cluster lighter than this share of the heaviest one may jump to a random row of a batch. 0: none does.
    backend : {'auto', 'cupy', 'numba-cuda', 'numba', 'numpy', 'cupy:all'}, default='auto'
        Where the work is done, as in :class:`KMeans`.
    precision : {'exact', 'float32'}, default='exact'
        As in :class:`KMeans`.

    Attributes
    ----------
    cluster_centers_ : array of shape (n_clusters, n_features)
        In the dtype and the kind of X, as in :class:`KMeans`.
    labels_ : array of int32, shape (n_samples,)
        Nearest center of each row, what `predict` gives; after `partial_fit` of the rows of the last batch. Only if
        `compute_labels`.
    inertia_ : float
        Sum of the squared distances of these rows to their center, times their weights. Without `compute_labels` the
        smoothed mean over batches times the weight of X, and only after `fit`.
    n_iter_ : int
        Passes over as many rows as X has, rounded up. Only after `fit`.
    n_steps_ : int
        Batches.
    n_features_in_ : int
    feature_names_in_ : ndarray of str, shape (n_features,)
        If X had names for its columns.
    backend_ : str
        Name of the backend that did the work.

    See Also
    --------
    KMeans : All rows in every iteration.

    Notes
    -----
    A center is the mean of all rows that batches have given to it, each by the center as it then was: with ``S`` the
    sum and ``w`` the weight of its rows in a batch, ``m = (m W + S) / (W + w)`` and ``W = W + w``. ``S`` and ``w`` are
    sums of integers, the means are kept in float64 between batches and rounded to the dtype of X to assign rows.

    `fit` draws batches with replacement, with probability proportional to the weights, which then count no more;
    `partial_fit` takes the rows as they are, with their weights. All batches of `partial_fit` must have one dtype.

    Memory: X is not copied if it is a C-contiguous array of float32 or float64, or of 16 bits on a card (see
    :class:`KMeans`). Beside it `fit` holds 8 bytes a row
    for labels, 8 more with weights, and some copies of a batch. Draws among rows cost no memory for each row.
    Data on a card is worked on there; each batch is gathered through the host (from a copy of all rows there, for an
    array of Numba), so small batches gain nothing by it.

    References
    ----------
    .. [1] D. Sculley, "Web-scale k-means clustering", WWW 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans import MiniBatchKMeans
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> model = MiniBatchKMeans(n_clusters=2, random_state=0, batch_size=6).fit(X)
    >>> model.predict([[0, 0], [12, 3]])
    array([1, 0], dtype=int32)

    Data that comes in parts:

    >>> model = MiniBatchKMeans(n_clusters=2, random_state=0)
    >>> model = model.partial_fit(X[::2]).partial_fit(X[1::2])
    >>> model.cluster_centers_
    array([[ 1.,  2.],
           [10.,  2.]])
    """

    _running: RunningMeans
    _rng: seeding.RandomState

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means++",
        max_iter: int = 100,
        batch_size: int = 1024,
        verbose: int = 0,
        compute_labels: bool = True,
        random_state: Any = None,
        tol: float = 0.0,
        max_no_improvement: int | None = 10,
        init_size: int | None = None,
        n_init: Any = "auto",
        reassignment_ratio: float = 0.01,
        backend: str = "auto",
        precision: str = "exact",
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.verbose = verbose
        self.compute_labels = compute_labels
        self.random_state = random_state
        self.tol = tol
        self.max_no_improvement = max_no_improvement
        self.init_size = init_size
        self.n_init = n_init
        self.reassignment_ratio = reassignment_ratio
        self.backend = backend
        self.precision = precision

    # ---- fit
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> MiniBatchKMeans:
        """Compute the centers from batches drawn from X.

        Parameters
        ----------
        X : {array-like, sparse matrix, device array} of shape (n_samples, n_features)
            As in :meth:`KMeans.fit`.
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None
            At least 0, not all 0: how likely a row is drawn. None: all alike.

        Returns
        -------
        self : MiniBatchKMeans
            Fitted.

        Raises
        ------
        ValueError
            For NaN or infinity in X (row and column are named), fewer rows than clusters, wrong weights or starts.
        """
        check_parameters("MiniBatchKMeans", **{name: getattr(self, name) for name in parameter_names(type(self))})
        with caller(X):
            return self._fit(X, sample_weight)

    def _fit(self, given: Any, sample_weight: Any) -> MiniBatchKMeans:
        X = check_data(halves(given), estimator=self, reset=True)
        n_samples = X.shape[0]
        check_enough_samples(n_samples, self.n_clusters)
        weights = check_sample_weight(sample_weight, n_samples)
        batch_size = min(self.batch_size, n_samples)
        n_steps = self.max_iter * n_samples // batch_size
        rng = check_rng(self.random_state)
        backend, X = self._backend_for(X, batch_size, n_steps)
        data = prepare(backend, X, weights, getattr(self, "feature_names_in_", None))
        threshold = self.tol * mean_variance(backend, data) if self.tol > 0 else 0.0
        start = self._best_start(backend, data, X, weights, rng)
        running = RunningMeans(start, X.dtype, batch_size, data.peak, data.scale)

        rows_of = _taker(backend, to_host(X) if is_numba(X) else X)
        draws = seeding.RowDraws(data.blocks, data.encoding)
        encoding = Encoding.for_peaks(data.summary.peaks, None, batch_size, X.dtype)
        convergence = Convergence(n_samples, batch_size, threshold, self.max_no_improvement)
        for step in range(n_steps):
            before = running.centers
            batch = backend.scaled(rows_of(draws.draw(rng, batch_size)), data.scale)
            inertia = self._step(running, backend, backend.blocks(batch), encoding, rng, 0) / batch_size
            shift_sq = exact.shift_sq(running.centers, before) if threshold else 0.0
            reason = convergence.reason(step, inertia, shift_sq)
            if self.verbose:
                _print_step(f"{step + 1}/{n_steps}", data, inertia, convergence.smoothed, reason)
            if reason is not None:
                break
        smoothed = inertia if convergence.smoothed is None else convergence.smoothed

        self._store(running, backend, given)
        self.n_steps_ = step + 1
        self.n_iter_ = math.ceil(self.n_steps_ * batch_size / n_samples)
        if self.compute_labels:
            self._label(backend, data, given)
        else:
            total_weight = seeding.total_weight(data.blocks, data.encoding)
            self.inertia_ = data.unscaled_sq(smoothed * total_weight, weighted=True)
        return self

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> MiniBatchKMeans:
        """Move the centers by one batch, which is X; the first one chooses the start.

        Parameters
        ----------
        X : {array-like, sparse matrix, device array} of shape (n_samples, n_features)
            At least `n_clusters` rows in the first batch.
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None
            At least 0, not all 0. A row of weight 2 counts as two rows.

        Returns
        -------
        self : MiniBatchKMeans
            One batch further.

        Raises
        ------
        ValueError
            As `fit`; also for a batch of another dtype than the first one's.
        """
        check_parameters("MiniBatchKMeans", **{name: getattr(self, name) for name in parameter_names(type(self))})
        with caller(X):
            return self._partial_fit(X, sample_weight)

    def _partial_fit(self, given: Any, sample_weight: Any) -> MiniBatchKMeans:
        is_first = not hasattr(self, "cluster_centers_")
        X = check_data(halves(given), estimator=self, reset=is_first)
        n_samples = X.shape[0]
        weights = check_sample_weight(sample_weight, n_samples)
        names = getattr(self, "feature_names_in_", None)
        if is_first:
            check_enough_samples(n_samples, self.n_clusters)
        elif X.dtype != self._running.dtype:
            raise ValueError(
                f"X has the dtype {X.dtype}, but the batches before it had {self._running.dtype}. Convert it, for "
                f"example with X.astype('{self._running.dtype}'): centers of both would have neither's precision."
            )
        if not hasattr(self, "_rng"):
            self._rng = check_rng(self.random_state)
        backend, X = self._backend_for(X, n_samples, 1 + bool(self.compute_labels))
        data = prepare(backend, X, weights, names, 0.0 if is_first else self._running.peak)
        if is_first:
            start = self._start(backend, data, X, weights, self._checked_init(X), self._rng)
            self._running = RunningMeans(start, X.dtype, min(self.batch_size, n_samples), data.peak, data.scale)
            self.n_steps_ = 0
        self._running.rescale(data.peak, data.scale)
        self._step(self._running, backend, data.blocks, data.encoding, self._rng, data.weight_scale)
        self._store(self._running, backend, given)
        self.n_steps_ += 1
        if self.compute_labels:
            self._label(backend, data, given)
        return self

    def _step(
        self,
        running: RunningMeans,
        backend: Backend,
        blocks: list[Rows],
        encoding: Encoding,
        rng: seeding.RandomState,
        weight_scale: int,
    ) -> float:
        inertia, n_jumped = running.step(
            backend, blocks, encoding, rng, weight_scale=weight_scale, reassignment_ratio=self.reassignment_ratio
        )
        if self.verbose and n_jumped:
            print(f"[MiniBatchKMeans] Reassigning {n_jumped} cluster centers.")
        return inertia

    # ---- starts
    def _init_size(self, n_samples: int) -> int:
        size = 3 * min(self.batch_size, n_samples) if self.init_size is None else self.init_size
        if size < self.n_clusters:
            if self.init_size is not None:
                warnings.warn(
                    f"init_size={self.init_size} should be larger than n_clusters={self.n_clusters}. Setting it to "
                    "min(3*n_clusters, n_samples)",
                    RuntimeWarning,
                    stacklevel=5,
                )
            size = 3 * self.n_clusters
        return min(size, n_samples)

    def _checked_init(self, X: Any) -> Any:
        if isinstance(self.init, str) or callable(self.init):
            return self.init
        return check_init_centers(self.init, X, self.n_clusters)

    def _best_start(
        self, backend: Backend, data: Prepared, X: Any, weights: Float64Array | None, rng: seeding.RandomState
    ) -> Float64Array:
        """The start with the least inertia of rows drawn for comparing them."""
        init = self._checked_init(X)
        n_init = self._n_runs(init, auto=3)
        compared = seeding.uniform_rows(rng, data.n_samples, self._init_size(data.n_samples))  # drawn also for one
        best, least = None, np.inf
        for i in range(n_init):
            if self.verbose:
                print(f"Init {i + 1}/{n_init} with method {init}")
            start = self._start(backend, data, X, weights, init, rng)
            if n_init == 1 and not self.verbose:
                return start
            rows = _part(backend, data, X, weights, compared)[1]
            for block in rows.blocks:
                backend.assign(block, start)
            inertia = backend.total_inertia(rows.blocks, start)
            if self.verbose:
                print(f"Inertia for init {i + 1}/{n_init}: {rows.unscaled_sq(inertia, weighted=True)}")
            if best is None or inertia < least:
                best, least = start, inertia
        assert best is not None
        return best

    def _start(
        self,
        backend: Backend,
        data: Prepared,
        X: Any,
        weights: Float64Array | None,
        init: Any,
        rng: seeding.RandomState,
    ) -> Float64Array:
        """One start, from some of the rows."""
        size = self._init_size(data.n_samples)
        if size < data.n_samples:
            drawn = seeding.uniform_rows(rng, data.n_samples, size)
            if weights is not None and not weights[drawn].any():
                raise ValueError(
                    f"None of the init_size={size} rows that were drawn to choose a start from has a positive weight. "
                    "Give a larger init_size, or leave out the rows of the weight 0."
                )
            X, data = _part(backend, data, X, weights, drawn)
        return start_centers(backend, data, X, init, self.n_clusters, rng)

    # ---- results
    def _backend_for(self, X: Any, n_rows: int, n_passes: int) -> tuple[Backend, Any]:
        """Backend for so many passes over so many of the rows, and X where it works on it."""
        work = replace(Work.of(X, self.n_clusters, n_passes=n_passes), n_samples=n_rows)
        backend = get_backend(self.backend, self.precision, work)
        return backend, backend.accept(X)

    def _store(self, running: RunningMeans, backend: Backend, given: Any) -> None:
        for name in ("labels_", "inertia_"):  # of a fit before this one
            self.__dict__.pop(name, None)
        self.cluster_centers_ = like(np.ldexp(running.centers.astype(running.dtype), -running.scale), given)
        self.backend_ = backend.name
        self._running, self._scale_exponent = running, running.scale

    def _label(self, backend: Backend, data: Prepared, given: Any) -> None:
        centers = data.scaled(to_host(self.cluster_centers_))
        for rows in data.blocks:
            backend.assign(rows, centers)
        self.labels_ = like(backend.labels(data.blocks), given)
        self.inertia_ = data.unscaled_sq(backend.total_inertia(data.blocks, centers), weighted=True)


def _taker(backend: Backend, X: Any) -> Callable[[Any], Any]:
    """What gives some rows of X, in the units of X: sparse ones of a sparse matrix, else on the host."""
    return X.__getitem__ if sparse.issparse(X) else backend.rows(X).take


def _part(
    backend: Backend, data: Prepared, X: Any, weights: Float64Array | None, rows: NDArray[np.intp]
) -> tuple[Any, Prepared]:
    """Some rows, as they are and ready for the verbs, in the units of the whole data set."""
    taken = _taker(backend, X)(rows)
    return taken, prepare(backend, taken, None if weights is None else weights[rows], None, data.peak)


def _print_step(step: str, data: Prepared, inertia: float, smoothed: float | None, reason: str | None) -> None:
    text = f"Minibatch step {step}: mean batch inertia: {data.unscaled_sq(inertia)}"
    print(text if smoothed is None else f"{text}, ewa inertia: {data.unscaled_sq(smoothed)}")
    if reason is not None:
        print(f"Converged ({reason}) at step {step}")
