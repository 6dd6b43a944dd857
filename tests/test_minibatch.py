"""MiniBatchKMeans: the oracle's bits on every backend, scikit-learn's draws and checks, batches that come in parts."""

import pickle

import numpy as np
import problems
import pytest
import scipy.sparse as sp
from hypothesis import example, given, settings
from hypothesis import strategies as st
from problems import Recipe
from sklearn.base import clone
from sklearn.cluster import MiniBatchKMeans as SklearnMiniBatchKMeans
from sklearn.datasets import make_blobs
from sklearn.utils.estimator_checks import parametrize_with_checks
from support import assert_same_array, blocks_of, threads

import naive
from gpukmeans import KMeans, MiniBatchKMeans

FLOATS = ("f4", "f8")
SMALL = problems.recipes(max_n=120).filter(lambda recipe: recipe.d <= 40)


def assert_same(model, expected):
    assert model.n_steps_ == expected.n_steps
    assert_same_array(model.labels_, expected.labels, "labels")
    assert_same_array(model.cluster_centers_, expected.centers, "centers")
    assert float(model.inertia_).hex() == float(expected.inertia).hex(), "inertia"


# ---------------------------------------------------------------------------------------------- the oracle's bits


@settings(max_examples=6)
@given(
    recipe=SMALL,
    batch_size=st.sampled_from([30, 1024]),
    ratio=st.sampled_from([0.0, 0.01, 0.5, 2.0]),
    init=st.sampled_from(["k-means++", "array"]),
    n_init=st.sampled_from([1, 2]),
    size=st.sampled_from([7, 1000]),
    sparse=st.booleans(),
)
@example(Recipe(0, 1, 1, 1), 1, 0.01, "k-means++", 1, 7, False)
@example(Recipe(1, 90, 3, 60, kind="grid", dtype="f8", weights="zeros"), 7, 2.0, "array", 1, 7, True)
@example(Recipe(2, 200, 4, 20, scale=1e30, weights="1e30"), 30, 0.5, "k-means++", 2, 1000, False)
@example(Recipe(3, 200, 4, 20, dtype="f8", scale=1e-300, weights="extreme"), 60, 0.5, "k-means++", 2, 1000, True)
def test_a_fit_gives_the_bits_of_the_oracle(backend, recipe, batch_size, ratio, init, n_init, size, sparse):
    p = recipe.build()
    X = naive.as_data(p.X)
    if sparse:
        X[::2, ::2] = 0
        X += 0.0  # a sparse matrix forgets the sign of -0.0, and a cluster may jump to such a row
    start = p.centers if init == "array" else init
    options = {"batch_size": batch_size, "max_iter": 2, "tol": p.tol, "reassignment_ratio": ratio}
    options |= {"max_no_improvement": 1, "init": start, "n_init": 1 if init == "array" else n_init}
    weight = None if p.sample_weight is None else p.sample_weight + p.sample_weight.max() / 64
    expected = naive.mini_batch(X, recipe.k, np.random.RandomState(3), sample_weight=weight, **options)
    model = MiniBatchKMeans(recipe.k, random_state=3, backend=backend, **options)
    with blocks_of(size), threads(2):
        model.fit(sp.csr_matrix(X) if sparse else X, sample_weight=weight)
    assert_same(model, expected)
    assert_same_array(model.predict(X), model.labels_)
    assert model.n_iter_ == -(-model.n_steps_ * min(batch_size, len(X)) // len(X))


@settings(max_examples=6)
@given(recipe=SMALL.filter(lambda recipe: recipe.dtype in FLOATS), n_parts=st.integers(1, 4), sparse=st.booleans())
@example(Recipe(4, 100, 3, 5, scale=1e30, weights="extreme"), 3, False)
@example(Recipe(5, 100, 3, 5, dtype="f8", scale=1e-300, weights="1e30"), 3, True)
def test_partial_fits_give_the_bits_of_the_oracle(backend, recipe, n_parts, sparse):
    p = recipe.build()
    # The first part is the smallest one in value, so that later ones need another scale.
    order = np.argsort(np.abs(p.X).max(axis=1), kind="stable")
    parts = np.array_split(order[recipe.k :], n_parts)
    parts[0] = np.concatenate([order[: recipe.k], parts[0]])
    model = MiniBatchKMeans(init=p.X[order[: recipe.k]], n_clusters=recipe.k, n_init=1, reassignment_ratio=0)
    model.set_params(backend=backend)
    state, s, s_weight, peak = naive.Means(p.X[order[: recipe.k]].astype(float), np.zeros(recipe.k)), 0, None, 0.0
    for part in parts:
        if not len(part):
            continue
        X = p.X[part]
        weight = np.ones(len(X)) if p.sample_weight is None else p.sample_weight[part] + p.sample_weight.max() / 64
        model.partial_fit(sp.csr_matrix(X) if sparse else X, sample_weight=weight)
        peak = max(peak, float(np.abs(X).max()))
        now = naive.scale_exponent(np.array([peak]))
        now_weight = naive.scale_exponent(weight)
        lower = now_weight if s_weight is None else min(s_weight, now_weight)
        scaled = naive.scaled_by(X, now)
        batch_weight = naive.scaled_by(weight, now_weight)
        state = naive.Means(np.ldexp(state.means, now - s), np.ldexp(state.weights, lower - (s_weight or 0)))
        peaks = np.abs(batch_weight[:, None] * scaled.astype(float)).max(axis=0)
        state, _ = naive.add_batch(scaled, batch_weight, state, peaks, lower - now_weight)
        s, s_weight = now, lower
        assert_same_array(model.cluster_centers_, naive.scaled_by(state.centers(X.dtype), -s), "centers")
    assert model.n_steps_ == sum(len(part) > 0 for part in parts)


def test_one_batch_of_all_rows_is_one_iteration_of_lloyd(backend):
    X = np.random.default_rng(0).normal(size=(300, 4))
    batch = MiniBatchKMeans(9, init=X[:9], n_init=1, backend=backend).partial_fit(X)
    lloyd = KMeans(9, init=X[:9], n_init=1, max_iter=1, backend=backend)
    lloyd.fit(X)
    assert_same_array(batch.cluster_centers_, lloyd.cluster_centers_)
    assert_same_array(batch.labels_, lloyd.labels_)
    assert batch.inertia_ == lloyd.inertia_


def test_centers_are_the_means_of_all_their_rows_after_many_batches(numba_backend):
    X = np.random.default_rng(1).normal(size=(60, 2)).astype("f4") + np.float32(1000)
    model = MiniBatchKMeans(1, init=X[:1], n_init=1, backend=numba_backend, compute_labels=False)
    for _ in range(300):
        model.partial_fit(X)
    np.testing.assert_array_equal(model.cluster_centers_, X.astype(float).mean(axis=0, keepdims=True).astype("f4"))


# ---------------------------------------------------------------------------------------------- scikit-learn's answers


# Every backend has the oracle's bits: one of them is enough here.


@pytest.mark.parametrize(
    "options",
    [{}, {"init": "random"}, {"batch_size": 60, "tol": 1e-3}, {"n_init": 3, "reassignment_ratio": 0.3}, {"k": 60}],
    ids=repr,
)
def test_the_same_seed_gives_the_answer_of_scikit_learn(numba_backend, options):
    options = {"k": 9, "batch_size": 100, "max_no_improvement": 4} | options
    k = options.pop("k")
    for seed in range(2):
        X, _ = make_blobs(600, n_features=4, centers=7, cluster_std=2.0, random_state=seed)
        for weight in (None, np.random.default_rng(seed).random(600)):
            ours = MiniBatchKMeans(k, random_state=seed, backend=numba_backend, **options).fit(X, sample_weight=weight)
            theirs = SklearnMiniBatchKMeans(k, random_state=seed, **options).fit(X, sample_weight=weight)
            assert ours.n_steps_ == theirs.n_steps_
            assert ours.n_iter_ == theirs.n_iter_
            assert ours.inertia_ == pytest.approx(theirs.inertia_)
            assert (ours.labels_ == theirs.labels_).all()
            np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_)


def test_in_float32_the_mean_inertia_is_that_of_scikit_learn(numba_backend):
    X = make_blobs(1000, n_features=6, centers=12, cluster_std=3.0, random_state=1)[0].astype("f4")
    ours, theirs = ([M(12, batch_size=100) for _ in range(6)] for M in (MiniBatchKMeans, SklearnMiniBatchKMeans))
    inertias = [[model.set_params(random_state=s).fit(X).inertia_ for s, model in enumerate(m)] for m in (ours, theirs)]
    assert np.mean(inertias[0]) == pytest.approx(np.mean(inertias[1]), rel=0.01)


def test_partial_fits_give_the_answer_of_scikit_learn(numba_backend):
    X, _ = make_blobs(2000, n_features=3, centers=8, cluster_std=2.0, random_state=5)
    weight = np.random.default_rng(5).random(2000)
    ours, theirs = (M(40, random_state=1, batch_size=200) for M in (MiniBatchKMeans, SklearnMiniBatchKMeans))
    ours.set_params(backend=numba_backend)
    for low in range(0, 2000, 250):
        for model in (ours, theirs):
            model.partial_fit(X[low : low + 250], sample_weight=weight[low : low + 250])
        assert (ours.labels_ == theirs.labels_).all()
        assert ours.inertia_ == pytest.approx(theirs.inertia_)
        np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_)
    assert ours.n_steps_ == theirs.n_steps_ == 8


@pytest.mark.parametrize("compute_labels", [True, False])
def test_verbose_prints_the_text_of_scikit_learn(numba_backend, capsys, compute_labels):
    X, _ = make_blobs(300, n_features=2, centers=5, random_state=2)
    texts, models = [], []
    for class_, options in ((MiniBatchKMeans, {"backend": numba_backend}), (SklearnMiniBatchKMeans, {})):
        options |= {"random_state": 0, "verbose": 1, "batch_size": 60, "n_init": 2, "compute_labels": compute_labels}
        models.append(class_(30, **options).fit(X))
        texts.append([line.split("inertia")[0].split("Inertia")[0] for line in capsys.readouterr().out.splitlines()])
    assert texts[0] == texts[1]
    assert any("Reassigning" in line for line in texts[0])
    assert models[0].inertia_ == pytest.approx(models[1].inertia_)
    assert hasattr(models[0], "labels_") == compute_labels


def test_the_constructor_has_the_parameters_and_defaults_of_scikit_learn():
    ours, theirs = MiniBatchKMeans().get_params(), SklearnMiniBatchKMeans().get_params()
    assert ours.items() >= theirs.items()
    assert ours.keys() - theirs.keys() == {"backend", "precision"}


REASON = "the draws follow scikit-learn's, and those follow the order of the rows"
EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": REASON,
    "check_sample_weight_equivalence_on_sparse_data": REASON,
}


@parametrize_with_checks(
    [MiniBatchKMeans(n_clusters=2, n_init=2, max_iter=5)],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES,
)
def test_the_checks_of_scikit_learn_pass(estimator, check):
    check(estimator)


# ---------------------------------------------------------------------------------------------- its habits


def test_a_model_goes_on_after_a_fit_and_after_pickling(backend):
    X, _ = make_blobs(600, n_features=2, centers=5, random_state=2)
    first = MiniBatchKMeans(5, random_state=0, batch_size=100, backend=backend).fit(X)
    second = pickle.loads(pickle.dumps(first))
    for model in (first, second):
        steps = model.n_steps_
        model.partial_fit(X[:50])
        assert model.n_steps_ == steps + 1
        assert len(model.labels_) == 50
    assert_same_array(first.cluster_centers_, second.cluster_centers_)
    again = clone(first).fit(X)
    assert_same_array(first.fit(X).cluster_centers_, again.cluster_centers_)


def test_a_fit_without_labels_forgets_those_of_the_fit_before(numba_backend):
    X = np.arange(20.0)[:, None]
    model = MiniBatchKMeans(2, random_state=0, backend=numba_backend).fit(X)
    model.set_params(compute_labels=False).fit(X)
    assert not hasattr(model, "labels_")
    model.partial_fit(X)
    assert not hasattr(model, "inertia_")


def test_bad_input_is_refused(numba_backend):
    X = np.random.default_rng(0).normal(size=(40, 3))
    model = MiniBatchKMeans(4, random_state=0, backend=numba_backend)
    with pytest.raises(ValueError, match=r"'batch_size' parameter of MiniBatchKMeans must be .* Got 0 instead"):
        clone(model).set_params(batch_size=0).fit(X)
    with pytest.raises(ValueError, match=r"'reassignment_ratio' .* Got -0.5 instead"):
        clone(model).set_params(reassignment_ratio=-0.5).partial_fit(X)
    for name in ("init_size", "max_no_improvement", "compute_labels"):
        with pytest.raises(ValueError, match=rf"'{name}' parameter of MiniBatchKMeans must be .* Got 'x' instead"):
            clone(model).set_params(**{name: "x"}).fit(X)
    with pytest.raises(ValueError, match="n_samples=3 should be >= n_clusters=4"):
        clone(model).partial_fit(X[:3])
    model.partial_fit(X)
    with pytest.raises(ValueError, match="X has 2 features, but MiniBatchKMeans is expecting 3 features"):
        model.partial_fit(X[:, :2])
    with pytest.raises(ValueError, match=r"X has the dtype float32, but the batches before it had float64"):
        model.partial_fit(X.astype("f4"))
    X[7, 1] = np.nan
    with pytest.raises(ValueError, match="row 7, column 1"):
        model.partial_fit(X)
    with pytest.raises(TypeError, match="Did you mean 'batch_size'"):
        MiniBatchKMeans(batchsize=3)


def test_a_start_among_rows_of_no_weight_is_refused(numba_backend):
    X, weight = np.arange(1000.0)[:, None], np.zeros(1000)
    weight[0] = 1
    model = MiniBatchKMeans(1, random_state=0, batch_size=2, backend=numba_backend)
    with pytest.raises(ValueError, match="None of the init_size=6 rows .* has a positive weight"):
        model.fit(X, sample_weight=weight)


def test_a_small_init_size_warns_as_in_scikit_learn(numba_backend):
    X = np.random.default_rng(0).normal(size=(400, 3))
    with pytest.warns(RuntimeWarning, match=r"init_size=3 should be larger than n_clusters=4"):
        MiniBatchKMeans(4, init_size=3, random_state=0, backend=numba_backend).fit(X)
