"""Many k-means problems at once, of any sizes: each has the bits of its own fit."""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from . import exact, seeding
from .arrays import namespace
from .backends import Work, get_backend
from .backends.base import Rows, Small, SmallFit
from .exact import Encoding, Float64Array
from .kmeans import KMeans
from .planning import TYPICAL_ITERATIONS
from .validation import (
    check_data,
    check_enough_samples,
    check_init_centers,
    check_parameters,
    check_rng,
    check_sample_weight,
    refuse_non_finite,
)


class BatchResult(NamedTuple):
    """What :func:`kmeans_batch` found: one entry a problem, in their order.

    Attributes
    ----------
    centers : list of ndarray, each of shape (n_clusters, n_features)
        In the dtype that :class:`KMeans` gives.
    labels : list of ndarray of int32, each of shape (n_samples,)
    inertia : ndarray of float64, shape (n_problems,)
    n_iter : ndarray of int64, shape (n_problems,)
    """

    centers: list[Any]
    labels: list[Any]
    inertia: Float64Array
    n_iter: NDArray[np.int64]


def kmeans_batch(
    problems: Any,
    n_clusters: Any,
    *,
    sample_weight: Any = None,
    init: Any = "k-means++",
    n_init: Any = "auto",
    max_iter: int = 300,
    tol: float = 1e-4,
    random_state: Any = None,
    backend: str = "auto",
) -> BatchResult:
    """Fit many small problems: product-quantisation codebooks, clusters of attention keys, one model a customer.

    Each problem gets the bits that its own ``KMeans(...).fit`` gives with the same parameters: labels, centers,
    inertia and iterations, whatever else is in the batch. A kernel does whole fits, start included: a problem a thread
    of a CPU, or a problem a block of a card, all of them in one launch for each dtype (verified without a GPU).

    Parameters
    ----------
    problems : sequence of array-likes of shape (n_samples, n_features), or one array of three dimensions
        They may differ in both sizes and in dtype; as in :meth:`KMeans.fit`.
    n_clusters : int or sequence of int
        Of all problems, or of each.
    sample_weight : sequence of (array-like of shape (n_samples,) or None), default=None
        Of each problem.
    init : {'k-means++', 'k-means||', 'random'}, callable, or sequence with one of these or an array for each problem, \
            default='k-means++'
        As in :class:`KMeans`.
    n_init, max_iter, tol
        Of each problem, as in :class:`KMeans`; `tol` is relative to the problem's own variance, and each stops when
        it has converged.
    random_state : int, RandomState instance, numpy Generator, None or a sequence of these, default=None
        Of all problems (an int: every problem is drawn for with this seed; a generator: one problem after the other
        draws from it), or of each.
    backend : {'auto', 'cupy', 'numba-cuda', 'numba', 'numpy', 'cupy:all'}, default='auto'
        As in :class:`KMeans`, for the first problem. No kernel for whole fits exists for 'numba-cuda' and 'numpy': the
        problems are fitted one after the other, which is no faster than a loop of your own. 'cupy:all' gives them to
        the first card.

    Returns
    -------
    result : BatchResult
        A named tuple of centers, labels, inertia and n_iter, with an entry for each problem.

    Raises
    ------
    ValueError
        As :meth:`KMeans.fit`; the message begins with the number of the problem, from 0.

    See Also
    --------
    KMeans : One problem.

    Notes
    -----
    Left to :class:`KMeans`, one after the other, each on all cores: problems of more than 2 million products
    ``n_samples n_features n_clusters``, sparse data, data on a card or beyond 2**40 or below 2**-40 in absolute value,
    and with a callable `init` or 'k-means||'.

    Memory: beside problems and results (labels take 4 bytes a row) every thread holds a float64 copy of a few problems
    (512 KB, or one larger problem), and up to 80 bytes for each value of the largest problem. A card holds a copy of
    the problems, with 44 bytes for each row (52 with weights) and up to 64 for each value of the centers; of problems
    that do not fit together some are fitted at a time.

    If problems have fewer distinct clusters than asked, one ``ConvergenceWarning`` says how many do and which is first.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans import kmeans_batch
    >>> rng = np.random.default_rng(0)
    >>> problems = [rng.normal(size=(n, 4)) for n in (50, 200, 1000)]
    >>> result = kmeans_batch(problems, [2, 8, 16], random_state=0)
    >>> [centers.shape for centers in result.centers]
    [(2, 4), (8, 4), (16, 4)]
    >>> result.n_iter
    array([ 8, 11, 32])
    """
    check_parameters("kmeans_batch", n_init=n_init, max_iter=max_iter, tol=tol, backend=backend)
    given = list(problems)
    if not given:
        raise ValueError("problems is empty: give at least one array.")
    of_each = [
        _of_each(name, value, len(given))
        for name, value in (
            ("n_clusters", n_clusters),
            ("sample_weight", sample_weight),
            ("init", init),
            ("random_state", random_state),
        )
    ]
    asked = []
    for i, (X, *parameters) in enumerate(zip(given, *of_each, strict=True)):
        with _numbered(i):
            asked.append(_checked(X, *parameters))
    if n_init not in ("auto", 1) and any(isinstance(problem.init, np.ndarray) for problem in asked):
        warnings.warn(
            f"Explicit initial centers passed: performing only one init for these problems instead of n_init={n_init}.",
            RuntimeWarning,
            stacklevel=2,
        )

    work = Work.of(asked[0].X, asked[0].n_clusters, n_passes=TYPICAL_ITERATIONS)
    device = get_backend(backend, work=work)
    together: dict[int, Small] = {}
    fits: dict[int, SmallFit] = {}
    reused = np.random.RandomState(0)  # to make one takes longer than to fit a small problem, to seed it does not
    for i, problem in enumerate(asked):
        with _numbered(i):
            if problem.is_plain and problem.X.size * problem.n_clusters <= device.most_small:
                together[i] = _with_starts(problem, n_init, reused)
            else:
                fits[i] = _own_fit(problem, n_init=n_init, max_iter=max_iter, tol=tol, backend=backend)
    if together:
        fits |= zip(together, device.fit_small(list(together.values()), tol, max_iter), strict=True)
    in_order = [fits[i] for i in range(len(asked))]
    _warn_of_empty(asked, in_order)
    return BatchResult(
        [fit.centers.astype(problem.X.dtype, copy=False) for fit, problem in zip(in_order, asked, strict=True)],
        [fit.labels for fit in in_order],
        np.array([fit.inertia for fit in in_order]),
        np.array([fit.n_iter for fit in in_order]),
    )


class _Problem(NamedTuple):
    """A problem whose parameters have been checked; `is_plain`: on the host, finite, and not to be scaled."""

    X: Any
    n_clusters: int
    sample_weight: Float64Array | None
    init: Any
    random_state: Any
    is_plain: bool


@contextmanager
def _numbered(i: int) -> Iterator[None]:
    """An error in here begins with the number of the problem."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise type(error)(f"Problem {i}: {error}") from None


def _of_each(name: str, value: Any, n_problems: int) -> Sequence[Any]:
    """The parameter of each problem."""
    if isinstance(value, str) or not hasattr(value, "__len__"):
        return [value] * n_problems
    if len(value) != n_problems:
        raise ValueError(
            f"{name} has {len(value)} entries for {n_problems} problems: give one for all of them, or a sequence with "
            "an entry for each."
        )
    return list(value)


def _checked(X: Any, n_clusters: Any, sample_weight: Any, init: Any, random_state: Any) -> _Problem:
    check_parameters("kmeans_batch", n_clusters=n_clusters, init=init, random_state=random_state)
    X = check_data(X)
    check_enough_samples(X.shape[0], n_clusters)
    weight = check_sample_weight(sample_weight, X.shape[0])
    if not isinstance(init, str) and not callable(init):
        init = check_init_centers(init, X, n_clusters)
    is_plain = isinstance(X, np.ndarray) and not callable(init) and not (isinstance(init, str) and init == "k-means||")
    if is_plain:
        peak = max(float(X.max()), -float(X.min()))
        if not math.isfinite(peak):
            refuse_non_finite(X)
        top = 1.0 if weight is None else float(weight.max())
        is_plain = exact.scale_exponent(peak) == exact.scale_exponent(top) == 0
    return _Problem(X, int(n_clusters), weight, init, random_state, is_plain)


def _with_starts(problem: _Problem, n_init: Any, reused: np.random.RandomState) -> Small:
    """Everything random of a problem, drawn as its own fit would draw it."""
    X, k, weight, init, seed, _ = problem
    if isinstance(init, np.ndarray):
        return Small(X, weight, k, 1, 0, init.astype(np.float64))
    rng: Any = reused
    if isinstance(seed, numbers.Integral):
        reused.seed(int(seed))
    else:
        rng = check_rng(seed)
    if init == "k-means++":
        n_runs, n_trials = 1 if n_init == "auto" else int(n_init), seeding.n_trials(k)
        return Small(X, weight, k, n_runs, n_trials, rng.uniform(size=n_runs * (1 + (k - 1) * n_trials)))
    n_runs = 10 if n_init == "auto" else int(n_init)
    rows = [Rows(X, 0, weight, np.empty(0, dtype=np.int32))]
    top = None if weight is None else float(weight.max())
    encoding = Encoding.for_peaks(np.ones(1), top, len(X), X.dtype)
    starts = [seeding.random_rows(rows, k, rng, encoding)[0] for _ in range(n_runs)]
    return Small(X, weight, k, n_runs, 0, np.concatenate(starts, axis=None, dtype=np.float64))


def _own_fit(problem: _Problem, **options: Any) -> SmallFit:
    """The fit of one problem by `KMeans`."""
    if isinstance(problem.init, np.ndarray):
        options["n_init"] = 1
    model = KMeans(problem.n_clusters, init=problem.init, random_state=problem.random_state, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(problem.X, sample_weight=problem.sample_weight)
    xp = namespace(model.labels_)
    return SmallFit(model.labels_, model.cluster_centers_, model.inertia_, model.n_iter_, len(xp.unique(model.labels_)))


def _warn_of_empty(asked: list[_Problem], fits: list[SmallFit]) -> None:
    few = [i for i, fit in enumerate(fits) if fit.n_used < asked[i].n_clusters]
    if few:
        warnings.warn(
            f"Number of distinct clusters found smaller than n_clusters in {len(few)} of {len(fits)} problems, the "
            f"first of them problem {few[0]} ({fits[few[0]].n_used} of {asked[few[0]].n_clusters}). Possibly due to "
            "duplicate points.",
            ConvergenceWarning,
            stacklevel=3,
        )
