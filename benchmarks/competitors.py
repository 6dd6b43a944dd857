"""The competitors, each an adapter of a few lines: same data, start and stopping rule where it takes them.

What a competitor cannot take is said in its `note`, which goes into the results.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from numpy.typing import NDArray

Array = NDArray[Any]


class Answer(NamedTuple):
    """What a fit gives, as far as the library says."""

    labels: Array
    centers: Array
    n_iter: int


@dataclass(frozen=True)
class Competitor:
    """One library.

    `fit(X, init, tol, max_iter)` gives an Answer; `predict(X, centers)` gives a function of X to be timed,
    with the model made ahead; `seeding(X, k, seed)` gives the chosen rows' indices. None: the library cannot.
    """

    name: str
    distribution: str
    module: str
    fit: Callable[[Array, Array, float, int], Answer]
    predict: Callable[[Array, Array], Callable[[Array], Array]] | None = None
    seeding: Callable[[Array, int, int], Array] | None = None
    takes_tol: bool = True
    takes_init: bool = True
    dtypes: tuple[str, ...] = ("float32", "float64")
    note: str = ""

    def version(self) -> str | None:
        """Installed version; None if it is not installed here."""
        try:
            version = importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return None
        return version if importlib.util.find_spec(self.module) else None


def _estimator(KMeans: Any, **extra: Any) -> Callable[[Array, Array, float, int], Answer]:
    def fit(X: Array, init: Array, tol: float, max_iter: int) -> Answer:
        model = KMeans(len(init), init=init, n_init=1, max_iter=max_iter, tol=tol, **extra).fit(X)
        return Answer(model.labels_, model.cluster_centers_, model.n_iter_)

    return fit


def _predictor(KMeans: Any) -> Callable[[Array, Array], Callable[[Array], Array]]:
    def make(X: Array, centers: Array) -> Callable[[Array], Array]:
        model = KMeans(len(centers), init=centers, n_init=1, max_iter=1, tol=0.0).fit(X[: 4 * len(centers)])
        # the same centers for everybody: what a single iteration on a few rows made of them does not matter
        model.cluster_centers_ = centers.copy()
        predict: Callable[[Array], Array] = model.predict
        return predict

    return make


def _gpukmeans_fit(X: Array, init: Array, tol: float, max_iter: int) -> Answer:
    import gpukmeans

    return _estimator(gpukmeans.KMeans)(X, init, tol, max_iter)


def _gpukmeans_predict(X: Array, centers: Array) -> Callable[[Array], Array]:
    import gpukmeans

    return _predictor(gpukmeans.KMeans)(X, centers)


def _gpukmeans_seeding(X: Array, n_clusters: int, seed: int) -> Array:
    import gpukmeans

    indices: Array = gpukmeans.kmeans_plusplus(X, n_clusters, random_state=seed)[1]
    return indices


def _sklearn_fit(X: Array, init: Array, tol: float, max_iter: int) -> Answer:
    from sklearn.cluster import KMeans

    return _estimator(KMeans, algorithm="lloyd")(X, init, tol, max_iter)


def _sklearn_predict(X: Array, centers: Array) -> Callable[[Array], Array]:
    from sklearn.cluster import KMeans

    return _predictor(KMeans)(X, centers)


def _sklearn_seeding(X: Array, n_clusters: int, seed: int) -> Array:
    from sklearn.cluster import kmeans_plusplus

    indices: Array = kmeans_plusplus(X, n_clusters, random_state=seed)[1]
    return indices


def _sklearnex_fit(X: Array, init: Array, tol: float, max_iter: int) -> Answer:
    from sklearnex.cluster import KMeans

    return _estimator(KMeans, algorithm="lloyd")(X, init, tol, max_iter)


def _faiss_fit(X: Array, init: Array, tol: float, max_iter: int) -> Answer:
    import faiss

    model = faiss.Kmeans(
        X.shape[1],
        len(init),
        niter=max_iter,
        gpu=False,
        max_points_per_centroid=len(X),
        min_points_per_centroid=1,
    )
    model.train(X, init_centroids=init)
    return Answer(model.assign(X)[1], model.centroids, max_iter)


def _faiss_predict(X: Array, centers: Array) -> Callable[[Array], Array]:
    import faiss

    index = faiss.IndexFlatL2(X.shape[1])
    index.add(centers)
    return lambda X: index.search(X, 1)[1].ravel()


def _superkmeans_fit(X: Array, init: Array, tol: float, max_iter: int) -> Answer:
    from superkmeans import SuperKMeans

    model = SuperKMeans(
        len(init),
        X.shape[1],
        hierarchical=False,
        iters=max_iter,
        sampling_fraction=1.0,
        max_points_per_cluster=len(X),
        early_termination=False,
    )
    centers = model.train(X)
    return Answer(model.assign(X, centers), centers, max_iter)


def _superkmeans_predict(X: Array, centers: Array) -> Callable[[Array], Array]:
    from superkmeans import SuperKMeans

    model = SuperKMeans(len(centers), X.shape[1])
    return lambda X: model.assign(X, centers)


def _fastkmeans_fit(X: Array, init: Array, tol: float, max_iter: int) -> Answer:
    from fastkmeans import FastKMeans

    model = FastKMeans(X.shape[1], len(init), niter=max_iter, tol=-1.0, gpu=False)
    model.train(X)
    return Answer(model.predict(X), model.centroids, max_iter)


_OWN_ITERATIONS = "takes no tol: runs as many iterations as gpukmeans made, then labels all rows"
_OWN_START = "takes no start: begins from random rows of its own; "

COMPETITORS = {
    c.name: c
    for c in (
        Competitor(
            "gpukmeans", "gpukmeans", "gpukmeans", _gpukmeans_fit, _gpukmeans_predict, _gpukmeans_seeding
        ),
        Competitor(
            "scikit-learn", "scikit-learn", "sklearn", _sklearn_fit, _sklearn_predict, _sklearn_seeding
        ),
        Competitor("scikit-learn-intelex", "scikit-learn-intelex", "sklearnex", _sklearnex_fit),
        Competitor(
            "faiss",
            "faiss-cpu",
            "faiss",
            _faiss_fit,
            _faiss_predict,
            takes_tol=False,
            dtypes=("float32",),
            note=_OWN_ITERATIONS,
        ),
        Competitor(
            "superkmeans",
            "superkmeans",
            "superkmeans",
            _superkmeans_fit,
            _superkmeans_predict,
            takes_tol=False,
            takes_init=False,
            dtypes=("float32",),
            note=_OWN_START + _OWN_ITERATIONS,
        ),
        Competitor(
            "fastkmeans",
            "fastkmeans",
            "fastkmeans",
            _fastkmeans_fit,
            takes_tol=False,
            takes_init=False,
            dtypes=("float32",),
            note=_OWN_START + _OWN_ITERATIONS,
        ),
    )
}
