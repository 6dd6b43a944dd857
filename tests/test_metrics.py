"""Silhouette, Davies-Bouldin and Calinski-Harabasz: scikit-learn's numbers, the same bits on every backend."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from support import assert_same_array, threads

from gpukmeans import BackendUnavailableError, KMeans, backends, metrics
from gpukmeans.backends import get_backend

SIMPLIFIED = ("simplified_silhouette_samples", "simplified_silhouette_score")
SCORES = ("silhouette_score", "davies_bouldin_score", "calinski_harabasz_score")


def problem(seed, n, d, k, dtype="f8", scale=1.0, offset=0.0):
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(n, d)) + 3 * rng.integers(0, 3, (n, 1)) + offset) * scale
    labels = np.concatenate([np.arange(k), rng.integers(0, k, n - k)])
    return X.astype(dtype), labels


@given(
    seed=st.integers(0, 10**6),
    n=st.integers(3, 120),
    d=st.integers(1, 20),
    share=st.floats(0, 1),
    scale=st.sampled_from([1.0, 1e-20, 1e20]),
)
def test_scores_are_those_of_scikit_learn(seed, n, d, share, scale):
    X, labels = problem(seed, n, d, 2 + int(share * (n - 3)), scale=scale)
    for name in ("silhouette_samples", *SCORES):
        expected = getattr(sklearn.metrics, name)(X, labels)
        np.testing.assert_allclose(getattr(metrics, name)(X, labels), expected, rtol=1e-7, atol=1e-9, err_msg=name)


def test_silhouettes_of_many_rows_are_those_of_scikit_learn_within_1e_9():
    X = np.random.default_rng(0).normal(size=(2000, 16))
    labels = KMeans(10, random_state=0).fit(X).labels_
    expected = sklearn.metrics.silhouette_samples(X, labels)
    np.testing.assert_allclose(metrics.silhouette_samples(X, labels), expected, rtol=0, atol=1e-9)
    assert abs(metrics.silhouette_score(X, labels) - expected.mean()) < 1e-9


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(
    ("n", "d", "k"), [(3, 1, 2), (8, 2, 7), (513, 3, 2), (1300, 17, 4), (1500, 40, 600), (2100, 2, 4)]
)
def test_backends_and_threads_give_the_same_bits(monkeypatch, numba_backend, n, d, k, dtype):
    monkeypatch.setattr(metrics, "BLOCK_VALUES", 4096)  # several blocks, and several tiles of rows in one
    X, labels = problem(n, n, d, k, dtype)
    centers = X[:k]
    for call in (
        lambda backend: metrics.silhouette_samples(X, labels, backend=backend),
        lambda backend: metrics.simplified_silhouette_samples(X, centers, backend=backend),
        lambda backend: np.array([getattr(metrics, name)(X, labels, backend=backend) for name in SCORES]),
    ):
        expected = call("numpy")
        for n_threads in (1, 3):
            with threads(n_threads):
                assert_same_array(call(numba_backend), expected)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_every_backend_gives_the_same_bits_wherever_the_data_lies(monkeypatch, backend, dtype):
    monkeypatch.setattr(metrics, "BLOCK_VALUES", 100)  # several blocks
    X, labels = problem(7, 90, 3, 5, dtype, scale=1e20)
    places = [X]
    if backend == "cupy":
        import cupy

        places.append(cupy.asarray(X))
    besides = dict.fromkeys(("silhouette_samples", *SCORES), labels) | dict.fromkeys(SIMPLIFIED, X[:5])
    for name, beside in besides.items():
        expected = getattr(metrics, name)(X, beside, backend="numpy")
        for x in places:
            assert_same_array(getattr(metrics, name)(x, beside, backend=backend), expected, name)


def test_a_card_is_worked_for_by_the_fastest_backend_of_the_cpu(monkeypatch, backend):
    asked = []

    def spied(name, **options):
        asked.append(name)
        return get_backend(name, **options)

    monkeypatch.setattr(metrics, "get_backend", spied)
    X, labels = problem(8, 20, 2, 3)
    metrics.silhouette_score(X, labels, backend=backend)
    assert asked == (["cupy", "numba"] if backend == "cupy" else [backend])


def test_a_backend_that_does_not_work_here_is_not_replaced(monkeypatch):
    monkeypatch.setattr(backends, "_why_unavailable", lambda name: "no card" if name == "cupy" else None)
    for name, beside in (("silhouette_score", [0, 0, 1]), ("simplified_silhouette_score", [[0.0], [1.0]])):
        with pytest.raises(BackendUnavailableError, match="'cupy' does not work here: no card"):
            getattr(metrics, name)([[0.0], [1.0], [5.0]], beside, backend="cupy")


def test_no_block_changes_the_bits(monkeypatch):
    X, labels = problem(0, 1100, 4, 9)
    expected = [getattr(metrics, name)(X, labels) for name in SCORES]
    for size in (1, 50, 10**6):
        monkeypatch.setattr(metrics, "BLOCK_VALUES", size)
        assert [getattr(metrics, name)(X, labels) for name in SCORES] == expected


def test_a_large_offset_loses_nothing():
    X, labels = problem(1, 200, 5, 4)
    moved = np.round(X * 1024) / 1024
    expected = metrics.silhouette_samples(moved, labels)
    np.testing.assert_allclose(metrics.silhouette_samples(moved + 2.0**30, labels), expected, atol=1e-12)


def test_labels_may_be_anything_that_can_be_sorted():
    X, labels = problem(2, 50, 3, 4)
    names = np.array(["d", "a", "c", "b"])[labels]
    assert metrics.silhouette_score(X, names) == metrics.silhouette_score(X, labels)
    assert metrics.silhouette_score(X, (labels * 7 - 3).tolist()) == metrics.silhouette_score(X, labels)


def test_sparse_rows_are_the_dense_ones():
    X, labels = problem(3, 60, 6, 5)
    X[X < 1] = 0
    for name in SCORES:
        assert getattr(metrics, name)(sp.csr_array(X), labels) == getattr(metrics, name)(X, labels)


def test_a_sample_is_scikit_learns():
    X, labels = problem(4, 200, 3, 4)
    expected = sklearn.metrics.silhouette_score(X, labels, sample_size=50, random_state=3)
    assert metrics.silhouette_score(X, labels, sample_size=50, random_state=3) == pytest.approx(expected, abs=1e-9)


def test_rows_that_are_all_equal_are_as_in_scikit_learn():
    X, labels = np.ones((6, 2)), [0, 0, 1, 1, 2, 2]
    for name in SCORES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = getattr(sklearn.metrics, name)(X, labels)
        assert getattr(metrics, name)(X, labels) == expected


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_the_simplified_silhouette_by_hand(backend):
    X, centers = np.array([[0.0], [4.0], [10.0]]), np.array([[0.0], [10.0], [30.0]])
    expected = [1.0, 1 - 4 / 6, 1.0]
    np.testing.assert_allclose(metrics.simplified_silhouette_samples(X, centers, backend=backend), expected)
    assert metrics.simplified_silhouette_samples(X[:1], X[[0, 0]], backend=backend) == 0
    far = metrics.simplified_silhouette_samples(X, centers * 1e300, backend=backend)
    np.testing.assert_allclose(far, 1)


def test_what_is_wrong_is_said():
    X, labels = problem(5, 20, 3, 4)
    for name in SCORES:
        score = getattr(metrics, name)
        with pytest.raises(ValueError, match=r"Number of labels is 1\. Valid values are 2 to n_samples - 1"):
            score(X, np.zeros(20))
        with pytest.raises(ValueError, match="Number of labels is 20"):
            score(X, np.arange(20))
        with pytest.raises(ValueError, match="labels has 19 values for the 20 rows of X"):
            score(X, labels[:-1])
        with pytest.raises(ValueError, match="row 3, column 1 is nan"):
            score(np.where((np.arange(60) == 10).reshape(20, 3), np.nan, X), labels)
        with pytest.raises(ValueError, match="Did you mean 'numba'"):
            score(X, labels, backend="numbs")
    for size in (2, 21):
        with pytest.raises(ValueError, match=f"sample_size={size} must be between 3 and the 20 rows"):
            metrics.silhouette_score(X, labels, sample_size=size)
    with pytest.raises(ValueError, match="at least 2 centers of 3 features"):
        metrics.simplified_silhouette_score(X, X[:1])
    with pytest.raises(ValueError, match="at least 2 centers of 3 features"):
        metrics.simplified_silhouette_score(X, X[:2, :2])
    with pytest.raises(ValueError, match="Input centers contains infinity: row 0, column 0"):
        metrics.simplified_silhouette_score(X, np.full((2, 3), np.inf))


def test_the_better_fit_scores_better():
    X, _ = problem(6, 400, 2, 3)
    model = KMeans(3, random_state=0).fit(X)
    shuffled = np.random.default_rng(0).permutation(model.labels_)
    assert metrics.silhouette_score(X, model.labels_) > metrics.silhouette_score(X, shuffled)
    assert metrics.davies_bouldin_score(X, model.labels_) < metrics.davies_bouldin_score(X, shuffled)
