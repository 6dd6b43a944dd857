"""What every estimator with centers shares: where they start, and what they are used for once they are found."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from . import oversampling, seeding
from ._writing import labels_file
from .arrays import caller, is_cupy, is_torch, like, to_host
from .backends import Work, get_backend
from .backends.base import Backend, Rows
from .exact import Float64Array, FloatArray
from .halves import halves
from .planning import limit_blocks
from .prepare import Prepared, blocks_of, check_finite
from .streaming import Streamed, streamed
from .validation import (
    SuggestsParameters,
    check_data,
    check_init_centers,
    check_parameters,
    check_sample_weight,
)


class CentersEstimator(
    SuggestsParameters, ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator
):
    """Base of the estimators that have `cluster_centers_`, and `_scale_exponent` for the rows that they meet."""

    fit: Callable[..., Any]
    backend: str
    precision: str
    n_init: Any
    cluster_centers_: Any
    labels_: Any
    _scale_exponent: int

    def _n_runs(self, init: Any, auto: int) -> int:
        """Starts to try; `auto` is what n_init='auto' means for random rows and for a callable."""
        if isinstance(init, np.ndarray):
            if self.n_init != "auto" and self.n_init != 1:
                warnings.warn(
                    f"Explicit initial center position passed: performing only one init in {type(self).__name__} "
                    f"instead of n_init={self.n_init}.",
                    RuntimeWarning,
                    stacklevel=4,
                )
            return 1
        if self.n_init == "auto":
            return 1 if isinstance(init, str) and init in ("k-means++", "k-means||") else auto
        return int(self.n_init)

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Compute the clusters and return the label of each row: ``fit(X).labels_``.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        labels : ndarray of int32, shape (n_samples,)
        """
        return self.fit(X, sample_weight=sample_weight).labels_

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Compute the clusters and return the distances of X to their centers: ``fit(X).transform(X)``.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        X_new : ndarray of shape (n_samples, n_clusters)
        """
        return self.fit(X, sample_weight=sample_weight).transform(X)

    # ---- use
    def predict(self, X: Any, *, out: Any = None) -> Any:
        """Nearest center of each row, ties to the lowest index.

        The label of a row does not depend on the rows beside it: batches of any size give the same labels, and for
        the rows of the fit they are `labels_`.

        Parameters
        ----------
        X : {array-like, sparse matrix, device array, Source} of shape (n_samples, n_features)
        out : path, default=None
            With a source: a file to write the labels to as they come (.npy, .csv, .txt), whole or not at all.

        Returns
        -------
        labels : array of int32, shape (n_samples,)
            In the kind of X; with `out` a map of that file, or None if it is a text.
        """
        with caller(X), streamed(X) as rows:
            rows = self._accepted(rows)
            if isinstance(rows, Streamed):
                self._limit(rows, 0 if out is not None else 4)
                return self._predict_streamed(rows, out)
            if out is not None:
                raise TypeError("out= is for a source: write labels of an array by gpukmeans.data_files.write_labels.")
            return like(self._labels_of(rows, rows), X)

    def transform(self, X: Any) -> Any:
        """Distances (not squared) of each row to each center.

        Computed of differences in float64 and rounded to the dtype of X.

        Parameters
        ----------
        X : {array-like, sparse matrix, device array} of shape (n_samples, n_features)

        Returns
        -------
        X_new : array of shape (n_samples, n_clusters)
            In the kind of X; on a card it takes n_samples n_clusters values there.
        """
        with caller(X):
            backend, blocks, centers = self._checked(halves(X))
            parts = [backend.transform(rows, centers) for rows in blocks]
            distances = parts[0] if len(parts) == 1 else np.concatenate(parts)
            return like(backend.scaled(distances, -self._scale_exponent), X)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Opposite of the inertia of X: minus the weighted sum of squared distances to the nearest center.

        Parameters
        ----------
        X : {array-like, sparse matrix, Source} of shape (n_samples, n_features)
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        score : float
            At most 0.
        """
        with caller(X), streamed(X) as rows:
            if isinstance(rows, Streamed):
                self._limit(rows, 12)
            backend, blocks, centers = self._assigned(rows, sample_weight)
            inertia = backend.total_inertia(blocks, centers)
        with np.errstate(over="ignore"):
            return -float(np.ldexp(inertia, -2 * self._scale_exponent))

    def _limit(self, X: Streamed, per_row: int) -> None:
        """Blocks that keep to `max_memory`, where a model has it or the environment says so."""
        self._accepted(X)
        n_clusters = self.cluster_centers_.shape[0]
        backend = get_backend(self.backend, self.precision, Work.of(X, n_clusters, n_passes=1))
        limit_blocks(X, getattr(self, "max_memory", None), n_clusters, backend, per_row)

    def _predict_streamed(self, X: Streamed, out: Any) -> Any:
        """Block by block: nothing is kept of the rows but their labels, and these not if they go to a file."""
        if out is None:
            labels = np.empty(X.shape[0], dtype=np.int32)
            for low, part in self._labels_by_block(X):
                labels[low : low + len(part)] = part
            return labels
        with labels_file(out, X.shape[0]) as write:
            for _, part in self._labels_by_block(X):
                write(part)
        return np.load(out, mmap_mode="r") if str(out).endswith(".npy") else None

    def _labels_by_block(self, X: Streamed) -> Iterator[tuple[int, NDArray[np.int32]]]:
        for low in range(0, X.shape[0], X.block_rows):
            yield low, to_host(self._labels_of(X.load(low, min(low + X.block_rows, X.shape[0])), X))

    def _labels_of(self, X: Any, origin: Any) -> Any:
        """Labels of checked rows, which are some of those of `origin`."""
        backend, blocks, centers = self._loaded(X, None, origin)
        for rows in blocks:
            backend.assign(rows, centers)
        return backend.labels(blocks)

    def _accepted(self, X: Any) -> Any:
        """Checked data for a fitted model."""
        if not hasattr(self, "cluster_centers_"):
            check_is_fitted(self)  # raises; it takes a tenth of the time that one row is given
        check_parameters(type(self).__name__, backend=self.backend, precision=self.precision)
        return check_data(X, estimator=self, reset=False)

    def _checked(self, X: Any, sample_weight: Any = None) -> tuple[Backend, list[Rows], FloatArray]:
        """Backend, blocks of scaled rows and scaled centers (float64) for a fitted model."""
        X = self._accepted(X)
        return self._loaded(X, check_sample_weight(sample_weight, X.shape[0]), X)

    def _loaded(
        self, X: Any, weights: Float64Array | None, origin: Any
    ) -> tuple[Backend, list[Rows], FloatArray]:
        """As `_checked`, for checked data; an error is about `origin`, whose rows they are."""
        backend = get_backend(self.backend, self.precision, Work.of(X, self.cluster_centers_.shape[0], n_passes=1))
        X = backend.accept(X)
        blocks = blocks_of(backend, X, weights)
        check_finite(backend, blocks, origin, "X", getattr(self, "feature_names_in_", None))
        if self._scale_exponent:
            blocks = blocks_of(backend, backend.scaled(X, self._scale_exponent), weights)
        centers = to_host(self.cluster_centers_)
        if self._scale_exponent:
            centers = np.ldexp(centers, self._scale_exponent)
        return backend, blocks, np.ascontiguousarray(centers, dtype=np.float64)

    def _assigned(self, X: Any, sample_weight: Any) -> tuple[Backend, list[Rows], FloatArray]:
        backend, blocks, centers = self._checked(X, sample_weight)
        for rows in blocks:
            backend.assign(rows, centers)
        return backend, blocks, centers

    # ---- scikit-learn's protocols
    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: arrays on a device become NumPy arrays, so that a model can be loaded without a GPU."""
        return {
            name: to_host(value) if is_cupy(value) or is_torch(value) else value
            for name, value in super().__getstate__().items()
        }

    @property
    def _n_features_out(self) -> int:
        return int(self.cluster_centers_.shape[0])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def start_centers(
    backend: Backend, data: Prepared, X: FloatArray, init: Any, n_clusters: int, rng: seeding.RandomState
) -> Float64Array:
    """Initial centers in the units of the blocks; a callable `init` is given X."""
    if isinstance(init, str):
        if init == "k-means++":
            centers, _ = seeding.kmeans_plusplus(backend, data.blocks, n_clusters, rng, data.encoding)
        elif init == "k-means||":
            centers, _ = oversampling.kmeans_parallel(backend, data.blocks, n_clusters, rng, data.encoding)
        else:
            centers, _ = seeding.random_rows(data.blocks, n_clusters, rng, data.encoding)
        return np.ascontiguousarray(centers, dtype=np.float64)
    if callable(init):
        given = getattr(X, "source", X)  # of streamed rows
        init = check_init_centers(init(given, n_clusters, random_state=rng), X, n_clusters)
    return data.scaled(init)
