"""Nearest rows of one array for the rows of another, on any backend."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import exact
from .arrays import caller, like, namespace, to_host, with_layout
from .backends import Work, get_backend
from .backends.base import Rows
from .exact import Float64Array
from .prepare import check_finite
from .validation import check_data, check_parameters


def pairwise_distances_argmin(
    X: Any,
    Y: Any,
    *,
    axis: int = 1,
    metric: str = "euclidean",
    metric_kwargs: Any = None,
    backend: str = "auto",
) -> Any:
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
    backend : {'auto', 'cupy', 'numba-cuda', 'numba', 'numpy', 'cupy:all'}, default='auto'

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
    given = X if axis == 1 else Y
    with caller(given):
        device, blocks, _, _ = _nearest("pairwise_distances_argmin", X, Y, axis, metric, backend)
        return like(with_layout(device.labels(blocks), np.intp), given)


def pairwise_distances_argmin_min(
    X: Any,
    Y: Any,
    *,
    axis: int = 1,
    metric: str = "euclidean",
    metric_kwargs: Any = None,
    backend: str = "auto",
) -> tuple[Any, Any]:
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
    backend : {'auto', 'cupy', 'numba-cuda', 'numba', 'numpy', 'cupy:all'}, default='auto'

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
    given = X if axis == 1 else Y
    with caller(given):
        device, blocks, centers, scale = _nearest("pairwise_distances_argmin_min", X, Y, axis, metric, backend)
        for rows in blocks:
            device.own_sqdist(rows, centers)
        sq = device.sqdist(blocks)
        if metric == "sqeuclidean":
            distances = device.scaled(sq, -2 * scale)
        else:
            distances = device.scaled(namespace(sq).sqrt(sq), -scale)
        return like(with_layout(device.labels(blocks), np.intp), given), like(distances, given)


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
    if axis == 0:
        X, Y = Y, X
    device = get_backend(backend, work=Work.of(X, Y.shape[0], n_passes=1))
    X, Y = device.accept(X), to_host(Y)
    for array, name in ((X, "Y" if axis == 0 else "X"), (Y, "X" if axis == 0 else "Y")):
        check_finite(device, device.blocks(array), array, name)
    centers = Y if isinstance(Y, np.ndarray) else Y.toarray()
    scale = exact.scale_exponent(float(np.abs(centers).max()))
    centers = np.ascontiguousarray(np.ldexp(centers, scale), dtype=np.float64)
    blocks = device.blocks(device.scaled(X, scale))
    for rows in blocks:
        device.assign(rows, centers)
    return device, blocks, centers, scale
