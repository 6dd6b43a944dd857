"""The verbs one by one: ``pytest benchmarks/bench_verbs.py`` (extra ``bench``); not part of the tests.

Each checks the answer before it is timed, against plain NumPy on some of the rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.cases import Case, make_data
from gpukmeans import KMeans, available_backends, kmeans_plusplus
from gpukmeans.backends import get_backend

Array = NDArray[Any]

# a fit that is stopped after one iteration may not have found all its clusters yet
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

CASES = [
    Case("fit", 200_000, 2, 8, "float32", "blobs"),
    Case("fit", 200_000, 16, 64, "float32", "blobs"),
    Case("fit", 200_000, 16, 64, "float32", "noise"),
    Case("fit", 200_000, 16, 64, "float64", "blobs"),
    Case("fit", 20_000, 64, 1000, "float32", "noise"),
    Case("fit", 20_000, 784, 10, "float32", "blobs"),
]
BACKENDS = [name for name, reason in available_backends().items() if reason is None]


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def problem(request: pytest.FixtureRequest) -> tuple[Array, Array]:
    return make_data(request.param)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def check_labels(X: Array, centers: Array, labels: Array) -> None:
    """Labels of rows all over the data are those of their nearest centers."""
    for row in np.linspace(0, len(X) - 1, 200).astype(int):
        sqdist = ((X[row].astype(np.float64) - centers) ** 2).sum(axis=1)
        assert sqdist[labels[row]] <= sqdist.min() * (1 + 1e-12)


def test_assign(benchmark: Any, problem: tuple[Array, Array], backend: str) -> None:
    """A full assignment: every row anew, as in a first iteration."""
    X, init = problem
    engine = get_backend(backend)
    centers = init.astype(np.float64)
    rows = engine.rows(X)
    engine.assign(rows, centers)
    check_labels(X, centers, rows.labels)
    benchmark(engine.assign, rows, centers)


def test_ten_iterations(benchmark: Any, problem: tuple[Array, Array], backend: str) -> None:
    """Ten steps of Lloyd's loop with all that surrounds them in a fit."""
    X, init = problem
    model = KMeans(len(init), init=init, n_init=1, max_iter=10, tol=0.0, backend=backend)
    check_labels(X, model.fit(X).cluster_centers_.astype(np.float64), model.labels_)
    benchmark(model.fit, X)


def test_seeding(benchmark: Any, problem: tuple[Array, Array], backend: str) -> None:
    """Greedy k-means++."""
    X, init = problem
    centers, indices = kmeans_plusplus(X, len(init), random_state=0, backend=backend)
    assert np.array_equal(centers, X[indices])
    assert len(set(indices.tolist())) == len(init)
    benchmark(kmeans_plusplus, X, len(init), random_state=0, backend=backend)


def test_predict(benchmark: Any, problem: tuple[Array, Array], backend: str) -> None:
    """Labels of all rows, with the checks of the input that predict makes."""
    X, init = problem
    model = KMeans(len(init), init=init, n_init=1, max_iter=1, backend=backend).fit(X)
    check_labels(X, model.cluster_centers_.astype(np.float64), model.predict(X))
    benchmark(model.predict, X)


def test_predict_one_row(benchmark: Any, backend: str) -> None:
    """What a single row costs: 64 clusters, 16 features."""
    X, init = make_data(Case("predict", 10_000, 16, 64, "float32", "blobs"))
    model = KMeans(len(init), init=init, n_init=1, max_iter=1, backend=backend).fit(X)
    row = X[:1]
    assert model.predict(row)[0] == model.labels_[0]
    benchmark(model.predict, row)


def test_inertia(benchmark: Any, problem: tuple[Array, Array], backend: str) -> None:
    """Minus the score: labels, distances to the own center, and their exact sum."""
    X, init = problem
    model = KMeans(len(init), init=init, n_init=1, max_iter=1, backend=backend).fit(X)
    difference = X.astype(np.float64) - model.cluster_centers_[model.labels_]
    assert -model.score(X) == pytest.approx(np.einsum("ij,ij->", difference, difference), rel=1e-9)
    benchmark(model.score, X)
