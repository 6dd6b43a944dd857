"""Nearest rows of one array for the rows of another, on any backend."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import exact
from .backends import get_backend
from .backends.base import Rows
from .exact import Float64Array
from .lloyd import joined_labels
from .prepare import check_finite, make_blocks, scale_rows
from .validation import check_data, check_parameters


def pairwise_distances_argmin(
    X: Any,
    Y: Any,
    *,
    axis: int = 1,
    metric: str = "euclidean",
    metric_kwargs: Any = None,
    backend: str = "auto",
) -> NDArray[np.intp]:
    """For each row of X the index of the nearest row of Y, ties to the lowest index.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples_X, n_features)
    Y : {array-like, sparse matrix} of shape (n_samples_Y, n_features)
    axis : {0, 1}, default=1
        0 exchanges X and Y: for each row of Y the nearest row of X.
    metric : {'euclidean', 'sqeuclidean'}, default='euclidean'
        Both have the same nearest rows. Others are scikit-learn's business.
    metric_kwargs : Ignored
        Accepted for scikit-learn's sake; these metrics have no parameters.
    backend : {'auto', 'numba', 'numpy'}, default='auto'

    Returns
    -------
    argmin : ndarray of int, shape (n_samples_X,)

    See Also
    --------
    pairwise_distances_argmin_min : The distances too.

    Notes
    -----
    Exact: the nearest in float64, computed of differences, whatever the dtype. No matrix of distances is made.

    Examples
    --------
    >>> from gpukmeans import pairwise_distances_argmin
    >>> pairwise_distances_argmin([[0.0, 0.0], [9.0, 9.0]], [[1.0, 0.0], [8.0, 8.0], [0.0, 1.0]])
    array([0, 1])
    """
    _, blocks, _, _ = _nearest("pairwise_distances_argmin", X, Y, axis, metric, backend)
    return joined_labels(blocks).astype(np.intp)


def pairwise_distances_argmin_min(
    X: Any,
    Y: Any,
    *,
    axis: int = 1,
    metric: str = "euclidean",
    metric_kwargs: Any = None,
    backend: str = "auto",
) -> tuple[NDArray[np.intp], Float64Array]:
    """For each row of X the index of the nearest row of Y and its distance.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples_X, n_features)
    Y : {array-like, sparse matrix} of shape (n_samples_Y, n_features)
    axis : {0, 1}, default=1
        0 exchanges X and Y.
    metric : {'euclidean', 'sqeuclidean'}, default='euclidean'
        'sqeuclidean' returns the distances squared.
    metric_kwargs : Ignored
    backend : {'auto', 'numba', 'numpy'}, default='auto'

    Returns
    -------
    argmin : ndarray of int, shape (n_samples_X,)
        Ties go to the lowest index.
    distances : ndarray of float64, shape (n_samples_X,)

    See Also
    --------
    pairwise_distances_argmin : The indices alone.

    Examples
    --------
    >>> from gpukmeans import pairwise_distances_argmin_min
    >>> pairwise_distances_argmin_min([[0.0, 0.0], [9.0, 9.0]], [[3.0, 4.0], [9.0, 8.0]])
    (array([0, 1]), array([5., 1.]))
    """
    device, blocks, centers, scale = _nearest("pairwise_distances_argmin_min", X, Y, axis, metric, backend)
    for rows in blocks:
        device.own_sqdist(rows, centers)
    sq = np.concatenate([rows.sqdist for rows in blocks if rows.sqdist is not None])
    distances = sq if metric == "sqeuclidean" else np.sqrt(sq)
    exponent = -2 * scale if metric == "sqeuclidean" else -scale
    return joined_labels(blocks).astype(np.intp), np.asarray(scale_rows(distances, exponent), dtype=np.float64)


def _nearest(
    owner: str, X: Any, Y: Any, axis: int, metric: str, backend: str
) -> tuple[Any, list[Rows], Float64Array, int]:
    """Labels of X among the rows of Y: backend, blocks, rows of Y (scaled) and the exponent of the scale."""
    check_parameters(owner, axis=axis, metric=metric, backend=backend)
    X, Y = check_data(X), check_data(Y, name="Y")
    if X.shape[1] != Y.shape[1]:
        raise ValueError(
            f"Incompatible dimension for X and Y matrices: X.shape[1] == {X.shape[1]} while Y.shape[1] == {Y.shape[1]}"
        )
    device = get_backend(backend)
    for array, name in ((X, "X"), (Y, "Y")):
        check_finite(device, make_blocks(device, array), array, name)
    if axis == 0:
        X, Y = Y, X
    centers = Y if isinstance(Y, np.ndarray) else Y.toarray()
    scale = exact.scale_exponent(float(np.abs(centers).max()))
    centers = np.ascontiguousarray(scale_rows(centers, scale), dtype=np.float64)
    blocks = make_blocks(device, scale_rows(X, scale))
    for rows in blocks:
        device.assign(rows, centers)
    return device, blocks, centers, scale
