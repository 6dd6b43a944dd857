"""BisectingKMeans: the oracle's bits, scikit-learn's answers, its tree."""

import pickle

import numpy as np
import problems
import pytest
import scipy.sparse as sp
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from problems import Recipe
from sklearn.cluster import BisectingKMeans as SklearnBisectingKMeans
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks
from support import assert_same_array, quiet_fit

import naive
from gpukmeans import BisectingKMeans, KMeans

STRATEGIES = ("biggest_inertia", "largest_cluster")


@settings(max_examples=6)
@given(
    recipe=problems.recipes(max_n=150, dtypes=("f4", "f8", "i4"), max_iter=20).filter(lambda recipe: recipe.d <= 40),
    n_clusters=st.integers(1, 7),
    strategy=st.sampled_from(STRATEGIES),
    init=st.sampled_from(["random", "k-means++"]),
    sparse=st.booleans(),
)
def test_a_tree_has_the_bits_of_the_oracle(backend, recipe, n_clusters, strategy, init, sparse):
    p = recipe.build()
    assume(n_clusters <= (len(p.X) if p.sample_weight is None else np.count_nonzero(p.sample_weight)))
    options = {"init": init, "n_init": 1, "tol": p.tol, "max_iter": p.max_iter}
    model = BisectingKMeans(n_clusters, random_state=2, bisecting_strategy=strategy, backend=backend, **options)
    X = naive.as_data(p.X)
    quiet_fit(model, sp.csr_matrix(X) if sparse else X, sample_weight=p.sample_weight)
    assert_same_array(model.predict(X), model.labels_)
    if n_clusters == 1:
        assert not model.labels_.any()
        return
    rng = np.random.RandomState(2)
    labels, centers, inertia = naive.bisect(
        X, n_clusters, rng, strategy=strategy, sample_weight=p.sample_weight, **options
    )
    assert_same_array(model.labels_, labels)
    assert_same_array(model.cluster_centers_, centers)
    assert float(model.inertia_).hex() == float(inertia).hex()


def test_two_clusters_are_those_of_kmeans(backend):
    p = Recipe(1, 200, 3, 2, dtype="f8", weights="random").build()
    ours = BisectingKMeans(2, random_state=0, backend=backend).fit(p.X, sample_weight=p.sample_weight)
    plain = KMeans(2, init="random", n_init=1, random_state=0, backend=backend).fit(p.X, sample_weight=p.sample_weight)
    assert_same_array(ours.labels_, plain.labels_)
    assert_same_array(ours.cluster_centers_, plain.cluster_centers_)
    assert ours.inertia_ == pytest.approx(plain.inertia_, rel=1e-14)
    whole = BisectingKMeans(1, backend=backend).fit(p.X, sample_weight=p.sample_weight)
    np.testing.assert_allclose(whole.cluster_centers_[0], np.average(p.X, axis=0, weights=p.sample_weight))
    assert whole.inertia_ == pytest.approx(-whole.score(p.X, sample_weight=p.sample_weight))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("init", ["random", "k-means++"])
def test_the_same_seed_gives_the_answer_of_scikit_learn(numba_backend, strategy, init):
    # tol=0: scikit-learn takes it as a distance here, not as a share of the variance
    options = {"init": init, "bisecting_strategy": strategy, "tol": 0}
    for seed in range(2):
        X, _ = make_blobs(300, n_features=3, centers=9, cluster_std=2.0, random_state=seed)
        for weight in (None, np.random.default_rng(seed).random(300)):
            ours = BisectingKMeans(6, random_state=seed, backend=numba_backend, **options).fit(X, sample_weight=weight)
            theirs = SklearnBisectingKMeans(6, random_state=seed, **options).fit(X, sample_weight=weight)
            assert (ours.labels_ == theirs.labels_).all()
            assert ours.inertia_ == pytest.approx(theirs.inertia_)
            np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_)
            new = np.random.default_rng(seed + 1).normal(size=(200, 3)) * 10
            assert (ours.predict(new) == theirs.predict(new)).all()
            np.testing.assert_allclose(ours.transform(new), theirs.transform(new))
            assert ours.score(new) == pytest.approx(theirs.score(new))


def test_the_constructor_has_the_parameters_and_defaults_of_scikit_learn():
    ours, theirs = BisectingKMeans().get_params(), SklearnBisectingKMeans().get_params()
    assert ours.items() >= theirs.items()
    assert ours.keys() - theirs.keys() == {"backend", "precision"}


REASON = "the draws follow scikit-learn's, and those follow the order of the rows"
EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": REASON,
    "check_sample_weight_equivalence_on_sparse_data": REASON,
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks([BisectingKMeans(n_clusters=3)], expected_failed_checks=lambda estimator: EXPECTED_FAILURES)
def test_the_checks_of_scikit_learn_pass(estimator, check):
    check(estimator)


def test_duplicates_give_empty_clusters_and_a_warning(numba_backend):
    X = np.repeat([[0.0], [5.0]], 4, axis=0)
    model = BisectingKMeans(4, random_state=0, backend=numba_backend)
    with pytest.warns(ConvergenceWarning, match=r"distinct clusters \(2\) found smaller than n_clusters \(4\)"):
        model.fit(X)
    assert_same_array(model.predict(X), model.labels_)
    assert model.inertia_ == 0


def test_a_pickled_tree_predicts_the_same(backend):
    X, _ = make_blobs(200, n_features=3, centers=4, random_state=0)
    model = BisectingKMeans(5, random_state=0, backend=backend).fit(X * 1e30)
    assert_same_array(pickle.loads(pickle.dumps(model)).predict(X * 1e30), model.labels_)


def test_bad_input_is_refused(numba_backend):
    X = np.random.default_rng(0).normal(size=(20, 2))
    model = BisectingKMeans(4, random_state=0, backend=numba_backend)
    with pytest.raises(ValueError, match="'init' parameter of BisectingKMeans must be a str among .* or a callable"):
        BisectingKMeans(4, init=X[:2]).fit(X)
    with pytest.raises(ValueError, match="'n_init' parameter of BisectingKMeans .* Got 'auto' instead"):
        BisectingKMeans(4, n_init="auto").fit(X)
    with pytest.raises(ValueError, match=r"'bisecting_strategy' .* \{'biggest_inertia', 'largest_cluster'\}"):
        BisectingKMeans(4, bisecting_strategy="largest").fit(X)
    with pytest.raises(ValueError, match="Only 3 rows have a positive weight, fewer than n_clusters=4"):
        model.fit(X, sample_weight=[1, 1, 1, *[0] * 17])
    model.fit(X)
    X[3, 1] = np.nan
    for method in (model.fit, model.predict):
        with pytest.raises(ValueError, match="row 3, column 1"):
            method(X)
