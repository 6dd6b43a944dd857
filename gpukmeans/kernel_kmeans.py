"""KernelKMeans: k-means among features that a kernel makes of the rows, by way of landmarks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.kernel_approximation import Nystroem
from sklearn.metrics.pairwise import euclidean_distances, pairwise_kernels
from sklearn.utils.validation import check_is_fitted

from .arrays import caller, like, to_host
from .backends import get_backend
from .exact import Float64Array, FloatArray
from .kmeans import KMeans
from .pairwise import pairwise_distances_argmin
from .prepare import check_finite
from .validation import (
    SuggestsParameters,
    check_data,
    check_enough_samples,
    check_parameters,
    check_rng,
    check_sample_weight,
    parameter_names,
)

NEIGHBOUR = 7
"""The nearest landmark at whose distance the RBF kernel has fallen to 1/e: the choice of [2]_, not tuned here."""
BLOCK_VALUES = 1 << 20
"""Similarities at a time: 8 MB."""


class KernelKMeans(SuggestsParameters, ClusterMixin, BaseEstimator):
    """K-means in the space of a kernel, for clusters that no straight line separates.

    The rows are compared with `n_components` landmarks, rows drawn from X, and :class:`KMeans` divides the features
    that come of it. So time and memory grow with n_samples alone, not with its square.

    Parameters
    ----------
    n_clusters : int, default=8
    kernel : {'rbf', 'linear', 'poly', 'polynomial'} or callable, default='rbf'
        Similarity of two rows, as in :func:`sklearn.metrics.pairwise.pairwise_kernels`. A callable takes two rows and
        returns a number; it is called n_samples n_components times.
    gamma : float, default=None
        Of 'rbf' (``exp(-gamma d^2)``) and 'poly'. None: for 'rbf' it is chosen from the data, ``1 / s^2`` with ``s``
        the median, over landmarks, of the distance to the 7th nearest other one [2]_; for 'poly' 1 / n_features.
    degree : float, default=3
        Of 'poly'.
    coef0 : float, default=1
        Of 'poly'.
    kernel_params : dict, default=None
        More arguments for a callable.
    n_components : int, default=300
        Landmarks; at most all rows. More of them follow finer shapes; fewer than `n_clusters` tell fewer apart.
    normalize : 'auto' or bool, default='auto'
        True: features are the `n_clusters` leading eigenvectors of the kernel, normalised by how similar each row is
        to all landmarks; k-means in them relaxes the normalised cut [1]_ and finds clusters by their connection. The
        kernel must be positive. False: Nystroem features, an approximation of k-means in the whole space of the
        kernel. 'auto' is True for 'rbf'.
    init : {'k-means++', 'random'} or callable, default='k-means++'
        Of :class:`KMeans` among the features.
    n_init : 'auto' or int, default=10
        Starts, of which the best is kept; they cost little beside the features.
    max_iter : int, default=300
    tol : float, default=1e-4
    random_state : int, RandomState instance, numpy Generator or None, default=None
        Draws the landmarks, then the starts.
    backend : {'auto', 'cupy', 'numba-cuda', 'numba', 'numpy', 'cupy:all'}, default='auto'
        Where :class:`KMeans` does its work; the features are made on the host.
    precision : {'exact', 'float32'}, default='exact'

    Attributes
    ----------
    labels_ : array of int32, shape (n_samples,)
        In the kind of X.
    inertia_ : float
        Sum of the squared distances, among the features, of rows to their center, times their weights.
    n_iter_ : int
    gamma_ : float or None
        What `gamma` was, or was chosen to be; None for 'linear' and a callable.
    components_ : array or sparse matrix of shape (n_components, n_features)
        The landmarks.
    n_features_in_ : int
    feature_names_in_ : ndarray of str, shape (n_features,)
        If X had names for its columns.
    backend_ : str
        Name of the backend that did the work of :class:`KMeans`.

    See Also
    --------
    KMeans : Without a kernel; with 'linear' this is an approximation of it.

    Notes
    -----
    Equal bits: the features come from BLAS and LAPACK, whose rounding depends on the machine, the library and its
    number of threads. They are the same for every `backend` of one process, and so are the labels, for KMeans is exact
    in what it is given. On another machine a row that is nearly as near to two clusters may get another label. The
    label that `predict` gives to such a row may also depend on the rows beside it.

    Memory: n_samples n_clusters values for the features if normalised, else n_samples n_components, in the dtype of X;
    8 MB for similarities, and 24 bytes for each pair of landmarks. Time grows with n_samples n_components n_features
    and with the cube of n_components.

    A row so far away that no landmark is similar to it takes the features of the nearest one. Normalised, landmarks
    that are similar to no other one can take a cluster for themselves: a smaller gamma, or fewer landmarks, help.

    References
    ----------
    .. [1] I. Dhillon, Y. Guan, B. Kulis, "Kernel k-means, spectral clustering and normalized cuts", KDD 2004.
    .. [2] L. Zelnik-Manor, P. Perona, "Self-tuning spectral clustering", NIPS 2004.
    .. [3] C. Fowlkes et al., "Spectral grouping using the Nystrom method", IEEE Trans. PAMI 26, 2004.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans import KernelKMeans
    >>> angle = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    >>> ring = np.c_[np.cos(angle), np.sin(angle)]
    >>> model = KernelKMeans(n_clusters=2, random_state=0).fit(np.concatenate([ring, 3 * ring]))
    >>> np.bincount(model.labels_[:100]).max(), np.bincount(model.labels_[100:]).max()
    (np.int64(100), np.int64(100))
    """

    _kmeans: KMeans

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        kernel: Any = "rbf",
        gamma: float | None = None,
        degree: float = 3,
        coef0: float = 1,
        kernel_params: dict[str, Any] | None = None,
        n_components: int = 300,
        normalize: Any = "auto",
        init: Any = "k-means++",
        n_init: Any = 10,
        max_iter: int = 300,
        tol: float = 1e-4,
        random_state: Any = None,
        backend: str = "auto",
        precision: str = "exact",
    ) -> None:
        self.n_clusters = n_clusters
        self.kernel = kernel
        self.gamma = gamma
        self.degree = degree
        self.coef0 = coef0
        self.kernel_params = kernel_params
        self.n_components = n_components
        self.normalize = normalize
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.backend = backend
        self.precision = precision

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> KernelKMeans:
        """Compute the clusters.

        Parameters
        ----------
        X : {array-like, sparse matrix, device array} of shape (n_samples, n_features)
            What lies on a card is copied to the host. No sparse matrix with a callable kernel.
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None
            At least 0, not all 0, for k-means among the features; a row of weight 0 is no landmark.

        Returns
        -------
        self : KernelKMeans
            Fitted.

        Raises
        ------
        ValueError
            For NaN or infinity in X (row and column are named) or in the kernel, fewer rows than clusters, or a kernel
            that is not positive with `normalize`.
        """
        check_parameters("KernelKMeans", **{name: getattr(self, name) for name in parameter_names(type(self))})
        with caller(X):
            return self._fit(X, sample_weight)

    def _fit(self, given: Any, sample_weight: Any) -> KernelKMeans:
        X = self._checked(given, reset=True)
        n_samples, n_features = X.shape
        check_enough_samples(n_samples, self.n_clusters)
        weights = check_sample_weight(sample_weight, n_samples)
        rng = check_rng(self.random_state)
        eligible = np.arange(n_samples) if weights is None else np.flatnonzero(weights)
        self.components_ = X[rng.permutation(eligible)[: self.n_components]]
        self.gamma_ = self._gamma(n_features)
        normalize = self.kernel == "rbf" if self.normalize == "auto" else self.normalize
        self._map = self._eigenvectors() if normalize else self._nystroem()
        self._is_normalized = normalize
        parameters = ("init", "n_init", "max_iter", "tol", "backend", "precision")
        self._kmeans = KMeans(self.n_clusters, random_state=rng, **{name: getattr(self, name) for name in parameters})
        self._kmeans.fit(self._features(X), sample_weight=weights)
        self.labels_ = like(self._kmeans.labels_, given)
        del self._kmeans.labels_
        self.inertia_, self.n_iter_ = self._kmeans.inertia_, self._kmeans.n_iter_
        self.backend_ = self._kmeans.backend_
        return self

    def predict(self, X: Any) -> Any:
        """Cluster of each row, by its similarities to the landmarks.

        Parameters
        ----------
        X : {array-like, sparse matrix, device array} of shape (n_samples, n_features)

        Returns
        -------
        labels : array of int32, shape (n_samples,)
            In the kind of X.
        """
        check_is_fitted(self)
        with caller(X):
            return like(self._kmeans.predict(self._features(self._checked(X, reset=False))), X)

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Compute the clusters and return the label of each row: ``fit(X).labels_``.

        Parameters
        ----------
        X : {array-like, sparse matrix, device array} of shape (n_samples, n_features)
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        labels : array of int32, shape (n_samples,)
        """
        return self.fit(X, sample_weight=sample_weight).labels_

    # ---- features
    def _checked(self, given: Any, *, reset: bool) -> Any:
        X = to_host(check_data(given, estimator=self, reset=reset))
        if callable(self.kernel) and not isinstance(X, np.ndarray):
            raise TypeError("X is a sparse matrix, whose rows a callable kernel cannot take. Pass X.toarray().")
        backend = get_backend("numpy")
        check_finite(backend, backend.blocks(X), X, "X", getattr(self, "feature_names_in_", None))
        return X

    def _gamma(self, n_features: int) -> float | None:
        if self.kernel == "linear" or callable(self.kernel):
            return None
        if self.gamma is not None:
            return float(self.gamma)
        if self.kernel != "rbf":
            return 1 / n_features
        sq = euclidean_distances(*[self._centered(self.components_)] * 2, squared=True)
        nearest = np.sort(sq, axis=1)[:, min(NEIGHBOUR, len(sq) - 1)]  # the 0th is the landmark itself
        typical = float(np.median(nearest)) or float(sq.max())  # most landmarks may be duplicates
        return 1 / typical if typical > 0 else 1.0

    def _centered(self, X: Any) -> Any:
        """Rows with the landmarks around the origin, where the RBF kernel is the same and loses nothing to rounding."""
        if not isinstance(X, np.ndarray) or self.kernel != "rbf":
            return X
        return X.astype(np.float64) - self.components_.astype(np.float64).mean(axis=0)

    def _similarities(self, X: Any) -> Float64Array:
        params: dict[str, Any] = {"gamma": self.gamma_, "degree": self.degree, "coef0": self.coef0}
        if callable(self.kernel):
            params = self.kernel_params or {}
        X, landmarks = self._centered(X), self._centered(self.components_)
        with np.errstate(over="ignore", invalid="ignore"):  # it is told below
            values: Float64Array = pairwise_kernels(
                X, landmarks, metric=self.kernel, filter_params=not callable(self.kernel), **params
            ).astype(np.float64, copy=False)
        wrong = np.argwhere(~np.isfinite(values))
        if len(wrong):
            raise ValueError(
                f"The kernel {self.kernel!r} gives {values[tuple(wrong[0])]} for two rows. Scale the data (for example "
                "with sklearn.preprocessing.StandardScaler), or choose a smaller gamma or degree."
            )
        return values

    def _eigenvectors(self) -> Float64Array:
        """What the shares of a row in its similarity to all landmarks are multiplied with: (n_components, n_clusters).

        Leading eigenvectors of the normalised kernel among the landmarks, extended to other rows by Nystroem's formula.
        """
        similar = self._similarities(self.components_)
        degrees = similar.sum(axis=1)
        if not (degrees > 0).all():
            raise ValueError(
                f"normalize=True needs a positive kernel, but {self.kernel!r} makes a row {degrees.min()} similar to "
                "all others. Use normalize=False."
            )
        values, vectors = np.linalg.eigh(similar / np.sqrt(np.outer(degrees, degrees)))
        values, vectors = values[-self.n_clusters :], vectors[:, -self.n_clusters :]
        is_there = values > 1e-12  # duplicates leave fewer than asked
        scale = np.where(is_there, np.sqrt(degrees.sum()) / np.where(is_there, values, 1.0), 0.0)
        return np.asarray(vectors / np.sqrt(degrees)[:, None] * scale)

    def _nystroem(self) -> Float64Array:
        """What similarities are multiplied with: (n_components, n_components)."""
        self._similarities(self.components_)  # tells of infinity before LAPACK does
        params: dict[str, Any] = {"gamma": self.gamma_, "degree": self.degree, "coef0": self.coef0}
        if callable(self.kernel):
            params = {"kernel_params": self.kernel_params}
        n_landmarks = self.components_.shape[0]
        approximation = Nystroem(self.kernel, n_components=n_landmarks, random_state=0, **params)
        approximation.fit(self._centered(self.components_))
        result = np.empty((n_landmarks, n_landmarks))
        result[approximation.component_indices_] = approximation.normalization_.T
        return result

    def _features(self, X: Any) -> FloatArray:
        features = np.empty((X.shape[0], self._map.shape[1]), dtype=X.dtype)
        for part in _parts(X.shape[0], len(self._map)):
            similar = self._similarities(X[part])
            if self._is_normalized:
                degrees = similar.sum(axis=1)
                lost = np.flatnonzero(~(degrees > 0))
                if len(lost):
                    similar[lost] = 0
                    similar[lost, pairwise_distances_argmin(X[part][lost], self.components_, backend="numpy")] = 1
                    degrees[lost] = 1
                similar /= degrees[:, None]
            features[part] = similar @ self._map
        return features

    # ---- scikit-learn's protocols
    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = not callable(self.kernel)
        return tags


def _parts(n_samples: int, n_landmarks: int) -> Iterator[slice]:
    size = max(1, BLOCK_VALUES // n_landmarks)
    for low in range(0, n_samples, size):
        yield slice(low, min(low + size, n_samples))
