"""How good a clustering is: silhouette, Davies-Bouldin, Calinski-Harabasz.

The numbers are scikit-learn's, but no matrix of distances is made and every sum over rows is a sum of integers, as in
:mod:`gpukmeans.exact`: the same bits for every backend and number of threads. Every backend's name is taken. What asks
for labels is computed on the CPU, where data on a card is copied to: cards have no kernel for it yet. The simplified
silhouette, which asks for centers, takes its distances where the data lies. Results are NumPy's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import column_or_1d

from . import exact
from .arrays import caller, to_host, with_layout
from .backends import Work, available_backends, get_backend
from .backends.base import SUM_ROWS, Backend, Rows
from .exact import Encoding, FixedPoint, Float64Array, FloatArray, Int64Array
from .prepare import Prepared, prepare
from .validation import check_data, check_parameters, check_rng, refuse_non_finite

__all__ = [
    "calinski_harabasz_score",
    "davies_bouldin_score",
    "silhouette_samples",
    "silhouette_score",
    "simplified_silhouette_samples",
    "simplified_silhouette_score",
]

_ON_HOST = ("numba", "numpy")  # the faster one first
BLOCK_VALUES = 1 << 20
"""Values of a block of rows or of sums: 8 MB."""


@dataclass
class _Clustering:
    """Rows of the host with the cluster of each, numbered from 0 on."""

    device: Backend
    data: Prepared
    X: FloatArray
    labels: Int64Array
    counts: Int64Array

    @property
    def n_clusters(self) -> int:
        return len(self.counts)

    def sorted_blocks(self, n_columns: int) -> Iterator[tuple[Int64Array, Int64Array, Int64Array]]:
        """Rows of a block sorted by cluster: their indices, its clusters, and where each of them begins."""
        size = max(1, BLOCK_VALUES // n_columns)
        for low in range(0, len(self.labels), size):
            labels = self.labels[low : low + size]
            order = np.argsort(labels, kind="stable")
            clusters, begins = np.unique(labels[order], return_index=True)
            yield low + order, clusters, begins

    def means(self) -> tuple[Float64Array, Float64Array]:
        """Center of each cluster and of all rows, in the units of `X`: rounded once from exact sums."""
        n, d = self.X.shape
        encoding = Encoding.for_peaks(self.data.summary.peaks, None, n, np.dtype(np.float64))
        high, low = np.zeros((2, self.n_clusters, d), dtype=np.int64)
        for rows, clusters, begins in self.sorted_blocks(d):
            values = self.X[rows].astype(np.float64)
            for total, code in ((high, encoding.features.high), (low, encoding.features.low)):
                total[clusters] += np.add.reduceat(code(values), begins, axis=0)

        def mean(high: Int64Array, low: Int64Array, counts: Int64Array) -> Float64Array:
            return exact.new_centers(encoding, high, low, counts.astype(np.float64), np.dtype(np.float64))

        whole = mean(high.sum(axis=0)[None], low.sum(axis=0)[None], np.array([n]))
        return mean(high, low, self.counts), whole

    def rows_about(self, centers: Float64Array) -> Rows:
        """The rows with their squared distance to the center of their cluster."""
        rows = self.device.rows(self.X)
        rows.labels = self.labels.astype(np.int32)
        self.device.own_sqdist(rows, centers)
        return rows


def _clustering(owner: str, X: Any, labels: Any, backend: str) -> _Clustering:
    check_parameters(owner, backend=backend)
    device, data, rows = _prepared(_on_host(get_backend(backend)), check_data(to_host(X)))
    labels = column_or_1d(to_host(labels))
    if len(labels) != len(rows):
        raise ValueError(f"labels has {len(labels)} values for the {len(rows)} rows of X: give one a row.")
    names, numbers = np.unique(labels, return_inverse=True)
    if not 2 <= len(names) < len(rows):
        raise ValueError(
            f"Number of labels is {len(names)}. Valid values are 2 to n_samples - 1 (inclusive), here {len(rows) - 1}: "
            "with fewer clusters there is no other one to compare with, with more every row is alone."
        )
    return _Clustering(device, data, rows, numbers.astype(np.int64), np.bincount(numbers))


def _on_host(device: Backend) -> Backend:
    """The backend itself if it is the CPU's, else the fastest of the CPU's."""
    if device.name in _ON_HOST:
        return device
    works = available_backends()
    return get_backend(next(name for name in _ON_HOST if works[name] is None))


def _dense(X: Any) -> Any:
    return X.toarray() if hasattr(X, "toarray") else X


def _prepared(device: Backend, X: Any, least_peak: float = 0.0) -> tuple[Backend, Prepared, Any]:
    """Rows where the backend can work on them, finite and of moderate size."""
    data = prepare(device, device.accept(_dense(X)), None, None, least_peak)
    return device, data, data.blocks[0].data


def silhouette_samples(X: Any, labels: Any, *, backend: str = "auto") -> Float64Array:
    """Silhouette of each row: how much nearer its own cluster is than the next one.

    ``(b - a) / max(a, b)``, where a is the mean distance to the other rows of its cluster and b the smallest mean
    distance to the rows of another cluster; 0 for a row that is alone in its cluster.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Data on a card is copied to the host.
    labels : array-like of shape (n_samples,)
        Cluster of each row: 2 to n_samples - 1 different ones.
    backend : {'auto', 'cupy', 'numba-cuda', 'numba', 'numpy', 'cupy:all'}, default='auto'
        The bits are the same. 'cupy' and 'numba-cuda' have no kernel for this yet and are worked for by the fastest of
        the others.

    Returns
    -------
    silhouette : ndarray of float64, shape (n_samples,)
        From -1 (in the wrong cluster) to 1.

    Raises
    ------
    ValueError
        For NaN or infinity in X, a wrong number of labels, or fewer than 2 or too many clusters.

    See Also
    --------
    simplified_silhouette_samples : In O(n_samples n_clusters), for many rows.

    Notes
    -----
    Costs O(n_samples**2 n_features) and 24 bytes a value of X, and 8 MB for each thread and for the result, or 4 KB a
    cluster if that is more: no matrix of distances is made. Distances are Euclidean, canonical (see
    :mod:`gpukmeans.exact`), and summed as integers.

    References
    ----------
    .. [1] P. J. Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis",
       J. Comp. Appl. Math. 20, 1987.

    Examples
    --------
    >>> from gpukmeans.metrics import silhouette_samples
    >>> silhouette_samples([[0.0], [1.0], [10.0], [12.0]], [0, 0, 1, 1]).round(3)
    array([0.909, 0.9  , 0.789, 0.826])
    """
    return _silhouette(_clustering("silhouette_samples", X, labels, backend))


def _silhouette(of: _Clustering) -> Float64Array:
    n, summary = len(of.X), of.data.summary
    # no distance is larger, also after the roundings of both
    diagonal = math.sqrt(float(((summary.high - summary.low) ** 2).sum())) * (1 + 1e-9)
    code = FixedPoint.for_peaks(diagonal, n)
    order = np.argsort(of.labels, kind="stable")
    others, ends = of.X[order].astype(np.float64), np.cumsum(of.counts)
    result = np.empty(n)
    size = SUM_ROWS * max(1, BLOCK_VALUES // of.n_clusters // SUM_ROWS)
    for low in range(0, n, size):
        rows = order[low : low + size]
        own = of.labels[rows, None]
        sums = of.device.distance_sums(others, low, low + len(rows), ends, code).astype(np.float64)
        n_others = np.maximum(of.counts[own] - 1, 1)
        a = (np.take_along_axis(sums, own, axis=1) / n_others)[:, 0]
        sums /= of.counts
        np.put_along_axis(sums, own, np.inf, axis=1)
        b = sums.min(axis=1)
        longer = np.maximum(a, b)
        values = np.divide(b - a, longer, out=np.zeros(len(a)), where=longer > 0)
        result[rows] = np.where(of.counts[own[:, 0]] > 1, values, 0.0)
    return result


def silhouette_score(
    X: Any, labels: Any, *, sample_size: int | None = None, random_state: Any = None, backend: str = "auto"
) -> float:
    """Mean silhouette of all rows.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
    labels : array-like of shape (n_samples,)
    sample_size : int, default=None
        Look at so many rows only, drawn with scikit-learn's draw. None: all.
    random_state : int, RandomState instance, numpy Generator or None, default=None
        For `sample_size`.
    backend : {'auto', 'cupy', 'numba-cuda', 'numba', 'numpy', 'cupy:all'}, default='auto'

    Returns
    -------
    score : float
        From -1 to 1; the mean is rounded once.

    Raises
    ------
    ValueError
        As `silhouette_samples`.

    See Also
    --------
    silhouette_samples : Of each row; costs are there.

    Examples
    --------
    >>> from gpukmeans.metrics import silhouette_score
    >>> round(silhouette_score([[0.0], [1.0], [10.0], [12.0]], [0, 0, 1, 1]), 3)
    0.856
    """
    if sample_size is not None:
        X, labels = check_data(to_host(X)), column_or_1d(to_host(labels))
        if not 2 < sample_size <= X.shape[0]:
            raise ValueError(f"sample_size={sample_size} must be between 3 and the {X.shape[0]} rows of X.")
        chosen = check_rng(random_state).permutation(X.shape[0])[:sample_size]
        X, labels = X[chosen], labels[chosen]
    return _mean(_silhouette(_clustering("silhouette_score", X, labels, backend)))


def _mean(values: Float64Array) -> float:
    return math.fsum(values.tolist()) / len(values)


def simplified_silhouette_samples(X: Any, centers: Any, *, backend: str = "auto") -> Float64Array:
    """Silhouette of each row by the centers: distances to the nearest and the second nearest one.

    ``(b - a) / b`` with a and b those two distances; never negative.

    Parameters
    ----------
    X : {array-like, sparse matrix, device array} of shape (n_samples, n_features)
    centers : array-like of shape (n_clusters, n_features)
        At least 2, as ``KMeans.cluster_centers_``.
    backend : {'auto', 'cupy', 'numba-cuda', 'numba', 'numpy', 'cupy:all'}, default='auto'

    Returns
    -------
    silhouette : ndarray of float64, shape (n_samples,)
        From 0 (between two clusters) to 1.

    Raises
    ------
    ValueError
        For NaN or infinity, other features than those of X, or fewer than 2 centers.

    Notes
    -----
    Costs O(n_samples n_clusters n_features), 8 bytes a row and 16 MB. Distances that a card
    computes come to the host, 8 bytes each.

    References
    ----------
    .. [1] E. R. Hruschka, L. N. de Castro, R. J. G. B. Campello, "Evolutionary algorithms for clustering
       gene-expression data", ICDM 2004.

    Examples
    --------
    >>> from gpukmeans.metrics import simplified_silhouette_samples
    >>> simplified_silhouette_samples([[0.0], [1.0], [10.0]], [[0.0], [10.0]])
    array([1.        , 0.88888889, 1.        ])
    """
    check_parameters("simplified_silhouette_samples", backend=backend)
    X, centers = check_data(X), _dense(check_data(to_host(centers), name="centers"))
    if centers.shape[0] < 2 or centers.shape[1] != X.shape[1]:
        raise ValueError(
            f"centers has the shape {centers.shape}: give at least 2 centers of {X.shape[1]} features, those of X."
        )
    if not np.isfinite(centers).all():
        refuse_non_finite(centers, name="centers")
    with caller(X):
        device = get_backend(backend, work=Work.of(X, len(centers), n_passes=1))
        device, data, X = _prepared(device, X, float(np.abs(centers).max()))
        scaled = data.scaled(centers)
        result = np.empty(len(X))
        size = max(1, BLOCK_VALUES // max(scaled.shape))
        for low in range(0, len(X), size):
            rows = device.rows(with_layout(X[low : low + size], np.float64))
            nearest = np.partition(to_host(device.transform(rows, scaled)), 1, axis=1)
            a, b = nearest[:, 0], nearest[:, 1]
            result[low : low + size] = np.divide(b - a, b, out=np.zeros(len(a)), where=b > 0)
        return result


def simplified_silhouette_score(X: Any, centers: Any, *, backend: str = "auto") -> float:
    """Mean of `simplified_silhouette_samples` over all rows.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
    centers : array-like of shape (n_clusters, n_features)
    backend : {'auto', 'cupy', 'numba-cuda', 'numba', 'numpy', 'cupy:all'}, default='auto'

    Returns
    -------
    score : float
        From 0 to 1.

    Raises
    ------
    ValueError
        As `simplified_silhouette_samples`.

    Examples
    --------
    >>> from gpukmeans.metrics import simplified_silhouette_score
    >>> round(simplified_silhouette_score([[0.0], [1.0], [10.0]], [[0.0], [10.0]]), 3)
    0.963
    """
    return _mean(simplified_silhouette_samples(X, centers, backend=backend))


def davies_bouldin_score(X: Any, labels: Any, *, backend: str = "auto") -> float:
    """Mean over the clusters of how alike they are to the one that they are most alike to; lower is better.

    Alike: the sum of the mean distances of both clusters' rows to their centers, over the distance of the centers.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Data on a card is copied to the host.
    labels : array-like of shape (n_samples,)
        2 to n_samples - 1 different ones.
    backend : {'auto', 'cupy', 'numba-cuda', 'numba', 'numpy', 'cupy:all'}, default='auto'

    Returns
    -------
    score : float
        At least 0; 0 also where all rows lie on their centers or all centers are one, as in scikit-learn.

    Raises
    ------
    ValueError
        As `silhouette_samples`.

    Notes
    -----
    Costs O(n_samples n_features + n_clusters**2 n_features), 8 bytes a row, 8 for each pair of clusters and 32 MB.

    References
    ----------
    .. [1] D. L. Davies, D. W. Bouldin, "A cluster separation measure", IEEE Trans. PAMI 1, 1979.

    Examples
    --------
    >>> from gpukmeans.metrics import davies_bouldin_score
    >>> round(davies_bouldin_score([[0.0], [1.0], [10.0], [12.0]], [0, 0, 1, 1]), 4)
    0.1429
    """
    of = _clustering("davies_bouldin_score", X, labels, backend)
    centers, _ = of.means()
    own = of.rows_about(centers).sqdist
    assert own is not None
    distances = np.sqrt(own)
    code = FixedPoint.for_peaks(float(distances.max()), len(own))
    sums = np.zeros(of.n_clusters, dtype=np.int64)
    for rows, clusters, begins in of.sorted_blocks(1):
        sums[clusters] += np.add.reduceat(code.high(distances[rows]), begins)
    spread = code.decode(sums, 0) / of.counts
    apart = np.sqrt(exact.sq_distances(centers[:, None], centers[None]))
    if np.allclose(spread, 0) or np.allclose(apart, 0):
        return 0.0
    apart[apart == 0] = np.inf
    return _mean(((spread[:, None] + spread) / apart).max(axis=1))


def calinski_harabasz_score(X: Any, labels: Any, *, backend: str = "auto") -> float:
    """Scatter between the clusters over the scatter within them, each by its degrees of freedom; higher is better.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Data on a card is copied to the host.
    labels : array-like of shape (n_samples,)
        2 to n_samples - 1 different ones.
    backend : {'auto', 'cupy', 'numba-cuda', 'numba', 'numpy', 'cupy:all'}, default='auto'

    Returns
    -------
    score : float
        1.0 where all rows lie on their centers, as in scikit-learn.

    Raises
    ------
    ValueError
        As `silhouette_samples`.

    Notes
    -----
    Costs O(n_samples n_features), 8 bytes a row and 32 MB.

    References
    ----------
    .. [1] T. Calinski, J. Harabasz, "A dendrite method for cluster analysis", Comm. in Statistics 3, 1974.

    Examples
    --------
    >>> from gpukmeans.metrics import calinski_harabasz_score
    >>> round(calinski_harabasz_score([[0.0], [1.0], [10.0], [12.0]], [0, 0, 1, 1]), 2)
    88.2
    """
    of = _clustering("calinski_harabasz_score", X, labels, backend)
    centers, mean = of.means()
    rows = of.rows_about(centers)
    assert rows.sqdist is not None
    code = FixedPoint.for_peaks(float(rows.sqdist.max()), rows.n_samples)
    within = exact.inertia(code, *of.device.inertia(rows, code))
    between = math.fsum((of.counts * exact.sq_distances(centers, mean)).tolist())
    if within == 0:
        return 1.0
    k, n = of.n_clusters, rows.n_samples
    return between * (n - k) / (within * (k - 1.0))
