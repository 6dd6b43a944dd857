"""KMeans and the functions around it: validate, prepare, call the loop, store."""

from __future__ import annotations

import functools
import os
import warnings
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from . import _callbacks, seeding
from ._base import CentersEstimator, start_centers
from .arrays import caller, like
from .backends import Work, get_backend
from .checkpoint import Watch, identity, read, set_rng_state
from .exact import Float64Array
from .halves import halves
from .history import History
from .memory import Plan, cap_of
from .planning import as_planned, chosen_backend, plan_of
from .prepare import mean_variance, prepare
from .runs import Runs, in_user_units, too_few_clusters
from .streaming import Streamed, streamed
from .validation import (
    check_data,
    check_enough_samples,
    check_init_centers,
    check_parameters,
    check_rng,
    check_sample_weight,
    parameter_names,
)


class KMeans(CentersEstimator):
    """K-means clustering, exact: the same bits on every backend.

    A replacement of :class:`sklearn.cluster.KMeans`: same parameters and attributes and, with the same
    ``random_state``, the same labels but for rows so near to two centers that scikit-learn's own rounding decides.
    For given data, parameters and ``random_state`` every backend, number of threads and block size gives the same
    bits of `labels_`, `cluster_centers_`, `inertia_` and `n_iter_`.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters and of centers.
    init : {'k-means++', 'k-means||', 'random'}, callable or array-like of shape (n_clusters, n_features), \
            default='k-means++'
        Where the centers start. 'k-means++' is the greedy variant (2 + int(log(n_clusters)) trials a step). 'k-means||'
        [3]_ draws about 10 n_clusters candidates in 6 passes over X, and k-means++ chooses among them. 'random' takes
        rows of X. A callable gets X, n_clusters and random_state and returns the centers.
    n_init : 'auto' or int, default='auto'
        Number of runs from different starts, of which the one with the lowest inertia is kept. 'auto' is 10 for
        'random' and a callable, else 1.
    max_iter : int, default=300
        Most iterations of one run.
    tol : float, default=1e-4
        A run stops when the squared distance that the centers moved, summed over clusters, is at most `tol` times the
        mean variance of the features.
    verbose : int, default=0
        1 prints what scikit-learn prints (and computes the inertia of every iteration for it, one more pass). 2 shows
        how far the fit is, on stderr and only if that is a terminal, or in a notebook that has ipywidgets.
    random_state : int, RandomState instance, numpy Generator or None, default=None
        Draws the starts; the draws are scikit-learn's. Pass an int for the same result at every call.
    copy_x : bool, default=True
        Accepted for scikit-learn's sake: X is never changed.
    algorithm : {'lloyd', 'elkan'}, default='lloyd'
        Both give the same bits; the engine chooses how to get them.
    backend : {'auto', 'cupy', 'numba-cuda', 'numba', 'numpy', 'cupy:all'}, default='auto'
        Where the work is done; the bits are the same. 'cupy' is an NVIDIA card, 'numba-cuda' one without
        CuPy (simpler kernels, compiled by Numba), 'cupy:all' all cards that CUDA shows, each with a share of the rows
        (see Notes). 'auto' takes the first that works here
        and suits the problem (one that is too small for a card runs on the CPU, unless its data lies on the card), and
        logs which. The environment variables GPUKMEANS_BACKEND and GPUKMEANS_DEVICE (index of a card) choose for
        'auto'; data on a card is worked on there.
    precision : {'exact', 'float32', 'tf32', 'bf16'}, default='exact'
        'float32' takes the labels of the float32 pass without certificate: a row whose two nearest centers differ by
        less than the rounding error of the pass may get either. The promise of equal bits is then off.
        'tf32' and 'bf16' take those of a pass on tensor cores: the squared distance of a row to the center that it gets
        may exceed that to its nearest one by about ``2**-8 r c`` (tf32) or ``2**-5 r c`` (bf16), with r the norm of the
        row and c the largest one of a center, both measured from about the mean of the centers
        (``gpukmeans.exact.tensor_bound`` gives half of that bound with all its terms). They need the backend 'cupy', a
        card of compute capability 8.0 or later and at most 65,536 features; elsewhere they are 'float32', which is more
        exact.
    max_memory : str or int, default=None
        Most memory that a fit may take, like '500MB', '2GiB' or a number of bytes: of the host, beside an array that is
        passed, and beside Python, the libraries and compiled kernels; and of a card. Rows are then streamed in blocks
        that suit it, also those of an array or a memory map; a fit that would need more is refused before it starts.
        None: the environment variable GPUKMEANS_MAX_MEMORY, else no limit. It changes no bits. See :meth:`plan`.

    Attributes
    ----------
    cluster_centers_ : array of shape (n_clusters, n_features)
        In the dtype of X (float32 or float64). Like `labels_` in the kind of X: a NumPy array for data of the host, a
        torch tensor for a torch tensor, an array of Numba for one of Numba, for other data on a card a CuPy array
        (without CuPy, one of Numba). Pickling makes NumPy arrays of them.
    labels_ : array of int32, shape (n_samples,)
        Nearest center of each row, ties to the lowest index. Always what `predict` gives for the same rows.
    inertia_ : float
        Sum of the squared distances of rows to their center, times their weights.
    n_iter_ : int
        Iterations of the run that was kept.
    n_features_in_ : int
    feature_names_in_ : ndarray of str, shape (n_features,)
        If X had names for its columns.
    backend_ : str
        Name of the backend that did the work.
    n_rechecked_ : int
        How often a label could not be certified by the fast pass and was decided in float64, over all passes of the
        run that was kept. It may differ between backends; the labels do not.
    history_ : gpukmeans.history.History
        A list with one record an iteration: ``shift_sq, n_moved, n_rechecked, seconds, inertia`` (inertia None unless
        `verbose` is 1). It prints as a table; ``history_.to_pandas()`` is one.

    See Also
    --------
    k_means : The same as a function.
    kmeans_plusplus : Only the start.

    Notes
    -----
    An iteration costs O(n_samples n_clusters n_features). Distances are taken of differences in float64 wherever
    they decide, so a large common offset of the data loses nothing.

    On the CPU and on cards (backend cupy) an iteration after the first ones compares only what bounds leave open, where
    a trial on some of the rows shows that this pays; the bits are the same. The first fit on a machine compiles its
    kernels, which takes some seconds and is kept on disk; ``gpukmeans doctor --warm`` does it ahead.

    Memory: X itself is not copied if it is a C-contiguous array of float32 or float64. Beside it a fit holds 4 bytes
    a row for the label, 16 more while bounds are used, or while centers are seeded 11 (15 for float64; up to 9 more
    where a step has more than 8 trials; 20 for 'k-means||', on the host); 8 more once a cluster was empty, and with the
    backend numpy; and 8 bytes for each worker, cluster and feature (16 for float64).
    A fit of (1,000,000, 16) float32 with 64 clusters raises the peak of the process by at most 40 MB.
    Data beyond 2**40 or below 2**-40 in absolute value is scaled by a power of two first, in a copy.
    Sparse matrices (CSR) are copied, expanded block by block (8 MB) and give the bits of the dense matrix.
    Of a source two blocks of at most 64 MB are held, and beside them what a fit holds beside X, without bounds;
    `labels_` takes 4 bytes a row more for a moment.

    On a card: what lies there is used in place. Other data is copied to it once, through 128 MB of page-locked memory,
    if it fits; else it is streamed through the card in every iteration, to the same bits. Beside the data a fit holds
    12 bytes a row there (while seeding 8 or 12; 8 more with weights), 20 bytes for each of at most 4,194,304 rows, and
    24 bytes for each cluster and feature (40 for float64), both rounded up to whole tiles (128 clusters, 8 features).
    Where tensor cores find the labels first: 4,096 rows of X as a sample, and up to 528 bytes for each cluster (three
    times that while the type is chosen); without room for it float32 does. With more than 128 features it may be 4
    bytes for each cluster and feature instead, and as many for each feature of the rows at work, 256 on each
    multiprocessor of the card: 138 MB for 1,000 features and 132 multiprocessors (not where such rows are streamed:
    these stay with float32).
    C-contiguous rows of float16, and torch tensors of bfloat16, stay there as they are stored, 2 bytes a value (with
    'cupy' and 'cupy:all'; data that is scaled in float32); all else is as for float32. On the CPU and with 'numba-cuda'
    they are copied in float32, and arrays of the host are streamed in float32 where `max_memory` is set.
    Where bounds pay: 8 bytes a row more while they are kept; they are the first to go when memory runs out. Rows that
    are streamed, or on several cards, have none.
    The loop sends 56 bytes an iteration back to the host, which reads them one iteration late.

    On several cards ('cupy:all') each holds its share of the rows, as said above, and all centers; a card gets at least
    16,384 rows. An iteration copies the sums of a card, 8 bytes for each cluster and feature (16 for float64), to the
    first card, and the total back, so that each card keeps them once more, and the first one twice. Copies to the
    cards take 128 MB of page-locked memory for each of them.

    An empty cluster takes the row that is farthest from its own center, as in scikit-learn.

    References
    ----------
    .. [1] S. Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf. Theory 28, 1982.
    .. [2] D. Arthur, S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
    .. [3] B. Bahmani, B. Moseley, A. Vattani, R. Kumar, S. Vassilvitskii, "Scalable k-means++", VLDB 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans import KMeans
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> model = KMeans(n_clusters=2, random_state=0).fit(X)
    >>> model.labels_
    array([1, 1, 1, 0, 0, 0], dtype=int32)
    >>> model.predict([[0, 0], [12, 3]])
    array([1, 0], dtype=int32)
    >>> model.cluster_centers_
    array([[10.,  2.],
           [ 1.,  2.]])
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means++",
        n_init: Any = "auto",
        max_iter: int = 300,
        tol: float = 1e-4,
        verbose: int = 0,
        random_state: Any = None,
        copy_x: bool = True,
        algorithm: str = "lloyd",
        backend: str = "auto",
        precision: str = "exact",
        max_memory: str | int | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.verbose = verbose
        self.random_state = random_state
        self.copy_x = copy_x
        self.algorithm = algorithm
        self.backend = backend
        self.precision = precision
        self.max_memory = max_memory

    # ---- fit
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        checkpoint: Any = None,
        checkpoint_seconds: float = 60.0,
        resume: Any = None,
        max_seconds: float | None = None,
    ) -> KMeans:
        """Compute the clusters.

        Parameters
        ----------
        X : {array-like, sparse matrix, device array, Source} of shape (n_samples, n_features)
            float32 and float64 are used as they are; float16 and bfloat16 are worked on as float32; everything else
            becomes float64. A device array is a CuPy array, a torch tensor, or anything with
            ``__cuda_array_interface__`` or DLPack on a CUDA device.
            A source (see :func:`open_source`) is read block by block in every pass.
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None
            At least 0, not all 0. A row of weight 2 counts as two rows. None: every row counts 1.
        checkpoint : path, default=None
            A file that says where the fit is, renewed every `checkpoint_seconds` between two iterations. It is whole at
            any moment, and stays when the fit is done.
        checkpoint_seconds : float, default=60.0
            0: after every iteration.
        resume : path, default=None
            A checkpoint to go on from, to the bits of the unbroken fit, on any backend. It must be of the same data,
            weights, parameters and version.
        max_seconds : float, default=None
            End in this time, as well as can be foreseen from the iterations before: with a valid model and a
            ConvergenceWarning. The start and one iteration are made in any case.

        Returns
        -------
        self : KMeans
            Fitted.

        Raises
        ------
        ValueError
            For NaN or infinity in X (row and column are named), fewer rows than clusters, wrong weights or starts.
        CheckpointError
            If `resume` is no checkpoint, or one of another fit; the message says what differs.
        BackendUnavailableError
            If the `backend` named does not work here.
        OutOfMemoryError
            If a card cannot hold what is needed even with the rows streamed through it.
        """
        self._check_parameters()
        check_parameters("fit", checkpoint_seconds=checkpoint_seconds, max_seconds=max_seconds)
        watch = Watch(checkpoint, checkpoint_seconds, max_seconds)
        capped = cap_of(self.max_memory) is not None
        with caller(X), _watcher(self.verbose) as tell, streamed(X, capped=capped) as rows:
            fit = functools.partial(self._fit, rows, sample_weight, tell, watch, resume)
            fitted: KMeans = _callbacks.fit_with(self, y, fit)
            return fitted

    def plan(self, X: Any, sample_weight: Any = None) -> Plan:
        """Say what a fit would do, and refuse what `max_memory` does not allow; no row is read.

        Parameters
        ----------
        X : {array-like, sparse matrix, device array, Source} of shape (n_samples, n_features)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        plan : gpukmeans.memory.Plan
            Backend, blocks, passes over the rows and bytes, with the reasons; prints as lines of text.

        Examples
        --------
        >>> import numpy as np
        >>> from gpukmeans import KMeans
        >>> plan = KMeans(100, backend="numpy", max_memory="30MB").plan(np.zeros((1_000_000, 3), np.float32))
        >>> plan.mode, plan.start_passes, plan.host_bytes <= 30_000_000
        ('in memory', 198, True)
        """
        self._check_parameters()
        with caller(X), streamed(X, capped=cap_of(self.max_memory) is not None) as rows:
            data = check_data(rows)
            check_enough_samples(data.shape[0], self.n_clusters)
            init = self.init
            if not isinstance(init, str) and not callable(init):
                init = check_init_centers(init, data, self.n_clusters)
            n_init = self._n_runs(init, auto=10)
            backend = chosen_backend(self, data, n_init)
            return plan_of(self, data, init, n_init, sample_weight is not None, backend)

    def set_callbacks(self, *callbacks: Any) -> KMeans:
        """Set scikit-learn's callbacks for the next fits (needs scikit-learn 1.9): a progress bar, say, or a monitor.

        They are told of each start ("start") and each iteration of it ("iteration"), with the model as it then is, and
        may end a run or the fit. Iterations are then made one by one, which takes longer; the bits are the same.

        Parameters
        ----------
        *callbacks : instances of scikit-learn's FitCallback
            Instead of those that were set before.

        Returns
        -------
        self : KMeans
        """
        _callbacks.set_callbacks(self, callbacks)
        return self

    def _check_parameters(self) -> None:
        check_parameters("KMeans", **{name: getattr(self, name) for name in parameter_names(type(self))})

    def _fit(
        self, given: Any, sample_weight: Any, tell: Any, watch: Watch, resume: Any, tasks: _callbacks.Tasks | None
    ) -> KMeans:
        X, given = check_data(given, estimator=self, reset=True), getattr(given, "source", given)
        check_enough_samples(X.shape[0], self.n_clusters)
        weights = check_sample_weight(sample_weight, X.shape[0])
        rng = check_rng(self.random_state)
        init = self.init
        if not isinstance(init, str) and not callable(init):
            init = check_init_centers(init, X, self.n_clusters)
        n_init = self._n_runs(init, auto=10)
        backend = chosen_backend(self, X, n_init)
        if isinstance(X, Streamed) or cap_of(self.max_memory) is not None:
            X = as_planned(X, plan_of(self, X, init, n_init, weights is not None, backend))
        X = backend.accept(X)

        data = prepare(backend, X, weights, getattr(self, "feature_names_in_", None))
        threshold = self.tol * mean_variance(backend, data) if self.tol > 0 else 0.0
        fit, saved = {}, None
        if watch.path is not None or resume is not None:
            fit = identity(self.get_params(deep=False), init, n_init, data, X, backend)
        if resume is not None:
            saved = read(resume, fit)
            rng = np.random.RandomState() if self.random_state is None else rng
            set_rng_state(rng, saved.rng_state, resume)
        start = functools.partial(start_centers, backend, data, X, init, self.n_clusters, rng)
        prints = self.verbose == 1

        def attributes(centers: Float64Array) -> dict[str, Any]:
            return {"cluster_centers_": like(data.unscaled(centers, X.dtype), given), "_scale_exponent": data.scale}

        if tasks is not None:
            tasks.begin(n_init, given, weights, attributes)
        runs = Runs(backend, data, X.dtype, start, self.n_clusters, rng, n_init, threshold, self.max_iter, prints, fit)
        best = runs.best(tell, watch, saved, tasks)
        if watch.ended:
            warnings.warn(
                f"The fit ended after {best.n_iter} iterations, without convergence, to take no more than max_seconds="
                f"{watch.max_seconds}.{'' if watch.path is None else f' Go on with resume={os.fspath(watch.path)!r}.'}",
                ConvergenceWarning,
                stacklevel=3,
            )
        n_found = backend.n_used(best.labels, data.blocks, self.n_clusters)
        if n_found < self.n_clusters:
            warnings.warn(too_few_clusters(n_found, self.n_clusters), ConvergenceWarning, stacklevel=3)
        self.cluster_centers_ = like(data.unscaled(best.centers, X.dtype), given)
        self.labels_ = like(best.labels, given)
        self.inertia_ = data.unscaled_sq(best.inertia, weighted=True)
        self.n_iter_ = best.n_iter
        self.backend_ = backend.name
        self.n_rechecked_ = best.n_rechecked
        self.history_ = History(in_user_units(data, record) for record in best.history)
        # the scale is part of the model: predict must do the very arithmetic that made labels_
        self._scale_exponent = data.scale
        if tasks is not None:
            tasks.end()
        return self


def k_means(
    X: Any,
    n_clusters: int,
    *,
    sample_weight: Any = None,
    init: Any = "k-means++",
    n_init: Any = "auto",
    max_iter: int = 300,
    verbose: int = 0,
    tol: float = 1e-4,
    random_state: Any = None,
    copy_x: bool = True,
    algorithm: str = "lloyd",
    return_n_iter: bool = False,
    backend: str = "auto",
    precision: str = "exact",
    max_memory: str | int | None = None,
) -> tuple[Any, ...]:
    """K-means clustering as a function; see :class:`KMeans` for the parameters.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
    n_clusters : int
    sample_weight : array-like of shape (n_samples,), default=None
    init, n_init, max_iter, verbose, tol, random_state, copy_x, algorithm, backend, precision, max_memory
        As in :class:`KMeans`.
    return_n_iter : bool, default=False
        Also return the number of iterations.

    Returns
    -------
    centers : ndarray of shape (n_clusters, n_features)
    labels : ndarray of int32, shape (n_samples,)
    inertia : float
        Sum of weighted squared distances.
    n_iter : int
        Only if `return_n_iter`.

    Examples
    --------
    >>> from gpukmeans import k_means
    >>> centers, labels, inertia = k_means([[1.0], [2.0], [10.0], [11.0]], 2, random_state=0)
    >>> labels, inertia
    (array([1, 1, 0, 0], dtype=int32), 1.0)
    """
    check_parameters("k_means", return_n_iter=return_n_iter)
    model = KMeans(
        n_clusters=n_clusters,
        init=init,
        n_init=n_init,
        max_iter=max_iter,
        verbose=verbose,
        tol=tol,
        random_state=random_state,
        copy_x=copy_x,
        algorithm=algorithm,
        backend=backend,
        precision=precision,
        max_memory=max_memory,
    ).fit(X, sample_weight=sample_weight)
    result = (model.cluster_centers_, model.labels_, model.inertia_)
    return (*result, model.n_iter_) if return_n_iter else result


def kmeans_plusplus(
    X: Any,
    n_clusters: int,
    *,
    sample_weight: Any = None,
    x_squared_norms: Any = None,
    random_state: Any = None,
    n_local_trials: int | None = None,
    backend: str = "auto",
) -> tuple[Any, NDArray[np.intp]]:
    """Centers by greedy k-means++, the same rows on every backend.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
    n_clusters : int
    sample_weight : array-like of shape (n_samples,), default=None
        A row of weight 0 is never drawn.
    x_squared_norms : Ignored
        Accepted for scikit-learn's sake: distances are taken of differences.
    random_state : int, RandomState instance, numpy Generator or None, default=None
    n_local_trials : int, default=None
        Rows drawn a step, of which the best is kept; None is ``2 + int(log(n_clusters))``.
    backend : {'auto', 'cupy', 'numba-cuda', 'numba', 'numpy', 'cupy:all'}, default='auto'

    Returns
    -------
    centers : ndarray of shape (n_clusters, n_features)
    indices : ndarray of int, shape (n_clusters,)
        Row of X that each center is.

    Notes
    -----
    Costs O(n_samples n_clusters n_features) for each trial [1]_. Ties between trials go to the first.

    References
    ----------
    .. [1] D. Arthur, S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.

    Examples
    --------
    >>> from gpukmeans import kmeans_plusplus
    >>> centers, indices = kmeans_plusplus([[1.0], [2.0], [10.0], [11.0]], 2, random_state=0)
    >>> indices
    array([2, 1])
    """
    check_parameters("kmeans_plusplus", n_clusters=n_clusters, n_local_trials=n_local_trials, backend=backend)
    check_parameters("kmeans_plusplus", random_state=random_state)
    given = X
    with caller(given):
        X = check_data(halves(X))
        check_enough_samples(X.shape[0], n_clusters)
        device = get_backend(backend, work=Work.of(X, n_clusters, n_passes=1))
        X = device.accept(X)
        data = prepare(device, X, check_sample_weight(sample_weight, X.shape[0]), None)
        rng = check_rng(random_state)
        _, indices = seeding.kmeans_plusplus(device, data.blocks, n_clusters, rng, data.encoding, n_local_trials)
        return like(seeding.take(device.blocks(X), indices), given), indices


def _watcher(verbose: int) -> Any:
    """For as long as a fit takes: what shows how far it is, or None."""
    if verbose < 2:
        return nullcontext()
    from ._terminal import progress

    return progress("fitting")
