"""KernelKMeans: shapes that no line separates, its approximation where it is exact, scikit-learn's checks."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.datasets import make_blobs, make_circles, make_moons
from sklearn.kernel_approximation import Nystroem
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel
from sklearn.utils.estimator_checks import parametrize_with_checks
from support import assert_same_array

import naive
from gpukmeans import KernelKMeans, KMeans


@pytest.mark.parametrize("noise", [0.02, 0.05])
def test_it_separates_moons(noise):
    for seed, n in ((0, 300), (1, 1000)):
        X, y = make_moons(n, noise=noise, random_state=seed)
        model = KernelKMeans(2, random_state=seed).fit(X)
        assert adjusted_rand_score(y, model.labels_) > 0.95
        assert adjusted_rand_score(y, KMeans(2, random_state=seed).fit(X).labels_) < 0.6
        new, y_new = make_moons(200, noise=noise, random_state=seed + 100)
        assert adjusted_rand_score(y_new, model.predict(new)) > 0.95


@pytest.mark.parametrize(("scale", "offset"), [(1e-6, 1e3), (1e6, 0.0)])
def test_its_gamma_follows_the_scale_of_the_data_and_no_offset_matters(scale, offset):
    X, y = make_circles(200, noise=0.05, factor=0.4, random_state=0)
    plain = KernelKMeans(2, random_state=0).fit(X)
    model = KernelKMeans(2, random_state=0).fit((X + offset) * scale)
    assert model.gamma_ == pytest.approx(plain.gamma_ / scale**2, rel=1e-6)
    assert adjusted_rand_score(y, model.labels_) > 0.95


def test_gamma_is_one_over_the_square_of_the_median_distance_to_the_seventh_neighbour():
    X = np.random.default_rng(0).normal(size=(60, 3))
    D = np.sqrt(naive.distances(X, X))
    typical = np.median([sorted(row)[7] ** 2 for row in D])
    assert KernelKMeans(3, random_state=0).fit(X).gamma_ == pytest.approx(1 / typical)
    assert KernelKMeans(3, gamma=0.25).fit(X).gamma_ == 0.25


def spectral_features(X, gamma, k):
    """Eigenvectors of the random walk on the rows, by a general solver: no symmetry, no landmarks."""
    K = np.exp(-gamma * naive.distances(X, X))
    values, vectors = np.linalg.eig(K / K.sum(axis=1, keepdims=True))
    return vectors.real[:, np.argsort(-values.real)[:k]]


def test_with_all_rows_as_landmarks_the_features_are_those_of_the_whole_kernel():
    X, _ = make_blobs(80, n_features=2, centers=3, cluster_std=2.0, random_state=0)
    model = KernelKMeans(3, gamma=0.5, random_state=0).fit(X)
    ours, theirs = model._features(X), spectral_features(X, 0.5, 3)
    inside = theirs @ np.linalg.lstsq(theirs, ours, rcond=None)[0]  # the same space, whatever its basis
    np.testing.assert_allclose(ours, inside, atol=1e-8)
    weight = np.exp(-0.5 * naive.distances(X, X)).sum(axis=1)
    np.testing.assert_allclose(ours.T @ (weight[:, None] * ours) / weight.sum(), np.eye(3), atol=1e-8)


@pytest.mark.parametrize("kernel", ["rbf", "poly", "linear"])
def test_without_normalisation_products_of_features_are_the_kernel(kernel):
    X = np.random.default_rng(1).normal(size=(50, 3))
    model = KernelKMeans(3, kernel=kernel, gamma=0.3, degree=2, coef0=1, normalize=False, random_state=0).fit(X)
    expected = {"rbf": rbf_kernel(X, gamma=0.3), "poly": polynomial_kernel(X, X, 2, 0.3, 1), "linear": X @ X.T}[kernel]
    F = model._features(X)
    np.testing.assert_allclose(F @ F.T, expected, atol=1e-8)


def test_fewer_landmarks_give_the_features_of_nystroem():
    X = np.random.default_rng(2).normal(size=(200, 3))
    model = KernelKMeans(3, gamma=0.3, normalize=False, n_components=40, random_state=0).fit(X)
    F = model._features(X)
    theirs = Nystroem(gamma=0.3, n_components=40).fit(model.components_).transform(X)
    np.testing.assert_allclose(F @ F.T, theirs @ theirs.T, atol=1e-8)


def test_a_linear_kernel_gives_the_clusters_of_kmeans():
    X, _ = make_blobs(300, n_features=3, centers=4, random_state=0)
    ours = KernelKMeans(4, kernel="linear", random_state=0).fit(X)
    assert adjusted_rand_score(ours.labels_, KMeans(4, n_init=10, random_state=0).fit(X).labels_) == 1


def test_a_callable_gives_what_its_formula_by_name_gives():
    def similarity(x, y, *, gamma):
        return np.exp(-gamma * ((x - y) ** 2).sum())

    X, _ = make_moons(120, noise=0.05, random_state=0)
    options = {"normalize": True, "random_state": 0}
    by_name = KernelKMeans(2, gamma=40.0, **options).fit(X)
    called = KernelKMeans(2, kernel=similarity, kernel_params={"gamma": 40.0}, **options).fit(X)
    assert_same_array(called.labels_, by_name.labels_)
    with pytest.raises(TypeError, match=r"sparse matrix, whose rows a callable kernel cannot take"):
        KernelKMeans(2, kernel=similarity).fit(sp.csr_array(X))


def test_every_backend_gives_the_same_labels(backend):
    X, _ = make_moons(150, noise=0.1, random_state=3)
    model = KernelKMeans(5, random_state=0, backend=backend).fit(X)
    reference = KernelKMeans(5, random_state=0, backend="numpy").fit(X)
    assert_same_array(model.labels_, reference.labels_)
    assert model.inertia_ == reference.inertia_
    assert_same_array(pickle.loads(pickle.dumps(model)).predict(X), reference.predict(X))


def test_blocks_of_rows_give_the_same_labels(monkeypatch):
    X, _ = make_moons(240, noise=0.05, random_state=1)
    whole = KernelKMeans(2, random_state=0).fit(X)
    monkeypatch.setattr("gpukmeans.kernel_kmeans.BLOCK_VALUES", 7000)
    assert_same_array(KernelKMeans(2, random_state=0).fit(X).labels_, whole.labels_)
    assert_same_array(KernelKMeans(2, random_state=0).fit(sp.csr_array(X)).labels_, whole.labels_)


def test_a_row_far_from_all_goes_with_the_nearest_landmark():
    X, _ = make_moons(200, noise=0.05, random_state=1)
    model = KernelKMeans(2, random_state=0).fit(X)
    for i in (0, 7, 30):
        away = X[[i]] + 1e4 * (X[[i]] - X.mean(axis=0))
        nearest = np.argmin(((model.components_ - away) ** 2).sum(axis=1))
        assert model.predict(away) == model.predict(model.components_[[nearest]])


def test_rows_of_no_weight_are_no_landmarks_and_duplicates_are_allowed():
    X, y = make_moons(200, noise=0.05, random_state=0)
    junk = np.concatenate([X, np.full((50, 2), 0.5)])
    weight = np.r_[np.ones(200), np.zeros(50)]
    model = KernelKMeans(2, random_state=0).fit(junk, sample_weight=weight)
    assert not (model.components_ == 0.5).all(axis=1).any()
    assert adjusted_rand_score(y, model.labels_[:200]) > 0.95
    twice = KernelKMeans(2, random_state=0).fit(np.repeat([[0.0, 1.0], [5.0, 5.0]], 20, axis=0))
    assert adjusted_rand_score(np.repeat([0, 1], 20), twice.labels_) == 1


@parametrize_with_checks(
    [KernelKMeans(n_clusters=2, n_components=30)],
    expected_failed_checks=lambda estimator: {
        name: "landmarks are drawn among rows, in their order"
        for name in (
            "check_sample_weight_equivalence_on_dense_data",
            "check_sample_weight_equivalence_on_sparse_data",
        )
    },
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_checks_of_scikit_learn_pass(estimator, check):
    check(estimator)


def test_bad_input_is_refused():
    X = np.random.default_rng(0).normal(size=(40, 3))
    for name, value in (("kernel", "rbff"), ("gamma", 0.0), ("degree", -1), ("n_components", 0), ("normalize", "yes")):
        with pytest.raises(ValueError, match=rf"'{name}' parameter of KernelKMeans must be .* Got {value!r} instead"):
            KernelKMeans(2, **{name: value}).fit(X)
    with pytest.raises(ValueError, match="'init' parameter of KernelKMeans"):
        KernelKMeans(2, init=X[:2]).fit(X)
    with pytest.raises(ValueError, match="normalize=True needs a positive kernel, but 'linear'"):
        KernelKMeans(2, kernel="linear", normalize=True).fit(X)
    with pytest.raises(ValueError, match="The kernel 'poly' gives inf for two rows. Scale the data"):
        KernelKMeans(2, kernel="poly", degree=900).fit(X * 100)
    model = KernelKMeans(2, random_state=0).fit(X)
    with pytest.raises(ValueError, match="X has 2 features, but KernelKMeans is expecting 3"):
        model.predict(X[:, :2])
    X[5, 2] = np.inf
    for method in (model.fit, model.predict):
        with pytest.raises(ValueError, match="row 5, column 2"):
            method(X)
