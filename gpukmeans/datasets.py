"""Generated data sets: scikit-learn's signatures, float32 or float64, and no second copy of X.

scikit-learn draws the rows cluster by cluster and then shuffles, which takes twice the memory of the
result. Here the labels are shuffled first and the rows are drawn in their final order, block by block.
The draws come from a ``numpy.random.Generator``; so the same seed gives other numbers than scikit-learn.
"""

from collections.abc import Iterable, Sized
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import Interval, validate_parameter_constraints

__all__ = ["make_blobs", "make_moons"]

_BLOCK_BYTES = 1 << 20  # one block of rows; it stays in a core's cache between its drawing and its shift

RandomState = int | np.random.RandomState | np.random.Generator | None


def make_blobs(
    n_samples: int | ArrayLike = 100,
    n_features: int = 2,
    *,
    centers: int | ArrayLike | None = None,
    cluster_std: float | ArrayLike = 1.0,
    center_box: tuple[float, float] = (-10.0, 10.0),
    shuffle: bool = True,
    random_state: RandomState = None,
    return_centers: bool = False,
    dtype: DTypeLike = np.float64,
) -> tuple[np.ndarray, ...]:
    """Isotropic Gaussian blobs.

    Parameters
    ----------
    n_samples : int or array-like of int, default=100
        The number of rows, divided equally among the clusters (the first ones take what is left over), or
        the number of rows of each cluster.
    n_features : int, default=2
        The number of columns; ignored if ``centers`` is an array.
    centers : int or array-like of shape (n_centers, n_features), default=None
        The number of centers to draw, or the centers. None: 3, or one for each entry of ``n_samples``.
    cluster_std : float or array-like of shape (n_centers,), default=1.0
        The standard deviation of the clusters.
    center_box : tuple of float (min, max), default=(-10.0, 10.0)
        Centers are drawn uniformly between these two, in every feature.
    shuffle : bool, default=True
        Whether the clusters are mixed; otherwise the rows come cluster by cluster.
    random_state : int, RandomState instance, Generator or None, default=None
        An int gives the same data every time. None and a RandomState seed a new Generator from their own
        stream (None: NumPy's global one); a Generator is drawn from as it is.
    return_centers : bool, default=False
        Whether to return the centers too.
    dtype : float32 or float64, default=float64
        The dtype of X and of the centers. The random numbers are drawn in it, so the two differ by more than
        rounding.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features) and the given dtype
        The rows.
    y : ndarray of shape (n_samples,), int
        The cluster of each row.
    centers : ndarray of shape (n_centers, n_features) and the given dtype
        Only if ``return_centers=True``.

    Raises
    ------
    ValueError
        In scikit-learn's words, for a parameter out of range or lengths that do not agree.

    Notes
    -----
    The parameters are those of :func:`sklearn.datasets.make_blobs` and ``dtype``. The same seed gives
    other numbers than scikit-learn's, and the same numbers on every run of the same NumPy version.
    The memory needed is that of the result and a few megabytes.

    Examples
    --------
    >>> from gpukmeans.datasets import make_blobs
    >>> X, y = make_blobs(n_samples=10, centers=3, n_features=2, random_state=0, dtype="float32")
    >>> X.shape, X.dtype
    ((10, 2), dtype('float32'))
    >>> sorted(y.tolist())
    [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
    """
    _validate(
        "make_blobs",
        {
            "n_samples": ([Interval(Integral, 1, None, closed="left"), "array-like"], n_samples),
            "n_features": ([Interval(Integral, 1, None, closed="left")], n_features),
            "centers": ([Interval(Integral, 1, None, closed="left"), "array-like", None], centers),
            "cluster_std": ([Interval(Real, 0, None, closed="left"), "array-like"], cluster_std),
            "center_box": ([tuple], center_box),
            "shuffle": (["boolean"], shuffle),
            "random_state": (["random_state", np.random.Generator], random_state),
            "return_centers": (["boolean"], return_centers),
        },
    )
    dtype = _float_dtype(dtype, "make_blobs")
    rng = _generator(random_state)
    centers = _blob_centers(n_samples, n_features, centers, center_box, rng)
    n_centers, n_features = centers.shape

    if isinstance(cluster_std, Sized) and len(cluster_std) != n_centers:
        raise ValueError(
            "Length of `clusters_std` not consistent with number of centers. "
            f"Got centers = {centers} and cluster_std = {cluster_std!r}"
        )
    std = np.broadcast_to(np.asarray(cluster_std, dtype=dtype), (n_centers,))

    if isinstance(n_samples, Iterable):
        counts = np.asarray(n_samples)
    else:
        counts = np.full(n_centers, n_samples // n_centers)
        counts[: n_samples % n_centers] += 1

    y = np.repeat(np.arange(n_centers), counts)
    if shuffle:
        rng.shuffle(y)
    centers = centers.astype(dtype, copy=False)
    X = np.empty((len(y), n_features), dtype=dtype)
    for rows in _blocks(X):
        block, label = X[rows], y[rows]
        rng.standard_normal(out=block, dtype=dtype)
        block *= std[label, np.newaxis]
        block += centers[label]
    return (X, y, centers) if return_centers else (X, y)


def make_moons(
    n_samples: int | tuple[int, int] = 100,
    *,
    shuffle: bool = True,
    noise: float | None = None,
    random_state: RandomState = None,
    dtype: DTypeLike = np.float64,
) -> tuple[np.ndarray, np.ndarray]:
    """Two interleaving half circles.

    Parameters
    ----------
    n_samples : int or tuple of two int, default=100
        The number of rows, or the numbers of rows of the two moons.
    shuffle : bool, default=True
        Whether the rows are mixed; otherwise each moon comes as one piece, from end to end.
    noise : float, default=None
        Standard deviation of Gaussian noise added to the points.
    random_state : int, RandomState instance, Generator or None, default=None
        As in :func:`make_blobs`.
    dtype : float32 or float64, default=float64
        The dtype of X.

    Returns
    -------
    X : ndarray of shape (n_samples, 2) and the given dtype
        The rows.
    y : ndarray of shape (n_samples,), int
        The moon of each row, 0 or 1.

    Raises
    ------
    ValueError
        In scikit-learn's words, for a parameter out of range.

    Notes
    -----
    The points are those of :func:`sklearn.datasets.make_moons`; the order and the noise of a seed are other.
    The memory needed is that of the result and a few megabytes.

    Examples
    --------
    >>> from gpukmeans.datasets import make_moons
    >>> X, y = make_moons(n_samples=200, noise=0.2, random_state=42)
    >>> X.shape, y.shape
    ((200, 2), (200,))
    """
    _validate(
        "make_moons",
        {
            "n_samples": ([Interval(Integral, 1, None, closed="left"), tuple], n_samples),
            "shuffle": (["boolean"], shuffle),
            "noise": ([Interval(Real, 0, None, closed="left"), None], noise),
            "random_state": (["random_state", np.random.Generator], random_state),
        },
    )
    dtype = _float_dtype(dtype, "make_moons")
    if isinstance(n_samples, Integral):
        n_outer = int(n_samples) // 2
        n_inner = int(n_samples) - n_outer
    else:
        try:
            n_outer, n_inner = n_samples  # type: ignore[misc]
        except ValueError as error:
            raise ValueError("`n_samples` can be either an int or a two-element tuple.") from error

    rng = _generator(random_state)
    # y holds the position of each row along the two moons until its block is made: no array of its own.
    y = np.arange(n_outer + n_inner)
    if shuffle:
        rng.shuffle(y)
    X = np.empty((len(y), 2), dtype=dtype)
    for rows in _blocks(X):
        block, position = X[rows], y[rows]
        inner = position >= n_outer
        steps = np.where(inner, n_inner, n_outer) - 1
        angle = (position - n_outer * inner) * (np.pi / np.maximum(steps, 1))
        block[:, 0] = np.where(inner, 1 - np.cos(angle), np.cos(angle))
        block[:, 1] = np.where(inner, 1 - np.sin(angle) - 0.5, np.sin(angle))
        position[:] = inner
        if noise is not None:
            block += rng.standard_normal(block.shape, dtype=dtype) * dtype.type(noise)
    return X, y


def _blob_centers(
    n_samples: int | ArrayLike,
    n_features: int,
    centers: int | ArrayLike | None,
    center_box: tuple[float, float],
    rng: np.random.Generator,
) -> np.ndarray:
    """Give the centers of make_blobs: the passed ones, or drawn ones in float64."""
    if isinstance(n_samples, Integral):
        n_centers = 3 if centers is None else centers
        if isinstance(n_centers, Integral):
            return rng.uniform(center_box[0], center_box[1], size=(int(n_centers), n_features))
    else:
        assert isinstance(n_samples, Sized)
        if centers is None:
            return rng.uniform(center_box[0], center_box[1], size=(len(n_samples), n_features))
        if not isinstance(centers, Iterable):
            raise ValueError(f"Parameter `centers` must be array-like. Got {centers!r} instead")
        if isinstance(centers, Sized) and len(centers) != len(n_samples):
            raise ValueError(
                "Length of `n_samples` not consistent with number of centers. "
                f"Got n_samples = {n_samples!r} and centers = {centers!r}"
            )
    checked: np.ndarray = check_array(centers)
    return checked


def _blocks(X: np.ndarray) -> Iterable[slice]:
    """Slices over the rows of X, of about ``_BLOCK_BYTES`` each."""
    n_rows = max(1, _BLOCK_BYTES // (X.shape[1] * X.itemsize))
    return (slice(start, start + n_rows) for start in range(0, len(X), n_rows))


def _validate(caller: str, parameters: dict[str, tuple[list[Any], Any]]) -> None:
    """Raise scikit-learn's own error for the first parameter that breaks its constraints."""
    constraints = {name: constraint for name, (constraint, _) in parameters.items()}
    values = {name: value for name, (_, value) in parameters.items()}
    validate_parameter_constraints(constraints, values, caller_name=caller)


def _float_dtype(dtype: DTypeLike, caller: str) -> np.dtype[Any]:
    """Give the dtype, if it is float32 or float64."""
    try:
        wanted = np.dtype(dtype)
    except TypeError:
        wanted = np.dtype(object)
    if wanted not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"The 'dtype' parameter of {caller} must be float32 or float64. Got {dtype!r} instead.")
    return wanted


def _generator(random_state: RandomState) -> np.random.Generator:
    """Make a Generator from anything that scikit-learn takes as random_state."""
    if isinstance(random_state, np.random.Generator):
        return random_state
    if isinstance(random_state, Integral):
        return np.random.default_rng(int(random_state))
    words = check_random_state(random_state).randint(0, 2**32, size=4, dtype=np.uint32)
    return np.random.default_rng(words)
