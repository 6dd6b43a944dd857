"""Initial centers: k-means++ equals the oracle for every draw; random, array, callable and n_init do as they say."""

import numpy as np
import problems
import pytest
import scipy.sparse as sp
from hypothesis import example, given, settings
from hypothesis import strategies as st
from problems import Recipe
from support import assert_same_array, assert_same_fit, quiet_fit, result_of, threads

import gpukmeans
import naive
from gpukmeans.arrays import to_host
from gpukmeans.backends import get_backend

RNGS = {"RandomState": np.random.RandomState, "Generator": np.random.default_rng}


def seed_both(p, n_clusters, backend, rng_kind, seed, **options):
    """Centers and rows from gpukmeans and from the oracle."""
    got = gpukmeans.kmeans_plusplus(
        p.X, n_clusters, sample_weight=p.sample_weight, random_state=RNGS[rng_kind](seed), backend=backend, **options
    )
    expected = naive.kmeans_plusplus(p.X, n_clusters, RNGS[rng_kind](seed), p.sample_weight, **options)
    return got, expected


def assert_same_seeds(got, expected):
    assert got[1].tolist() == expected[1].tolist()
    assert_same_array(got[0], expected[0], "centers")


# ---------------------------------------------------------------------------------------------- k-means++


@settings(max_examples=120)
@given(
    recipe=problems.recipes(),
    rng_kind=st.sampled_from(sorted(RNGS)),
    seed=st.integers(0, 2**32 - 1),
    n_threads=st.sampled_from([1, 2]),
)
@example(Recipe(0, 30, 2, 30, kind="grid"), "RandomState", 0, 2)
@example(Recipe(1, 20, 2, 20, kind="duplicates"), "Generator", 0, 1)
@example(Recipe(2, 20, 2, 10, kind="constant", dtype="f8"), "RandomState", 0, 2)
@example(Recipe(3, 1, 1, 1), "RandomState", 0, 2)
def test_kmeans_plusplus_chooses_the_rows_of_the_oracle(backend, recipe, rng_kind, seed, n_threads):
    p = recipe.build()
    with threads(n_threads):
        assert_same_seeds(*seed_both(p, recipe.k, backend, rng_kind, seed))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("weights", [None, "random", "zeros"])
def test_kmeans_plusplus_of_a_large_problem_chooses_the_rows_of_the_oracle(backend, dtype, weights):
    p = problems.large(0, dtype, weights=weights).build()
    assert_same_seeds(*seed_both(p, 40, backend, "RandomState", 0))


@settings(max_examples=40)
@given(recipe=problems.recipes(dtypes=("f4", "f8"), scale=1.0))
def test_the_distances_of_seeding_have_the_bits_of_the_oracle(backend, recipe):
    p = recipe.build()
    device = get_backend(backend)
    rows = device.rows(p.X, p.sample_weight)
    closest = None
    for i, first in ((0, True), (len(p.X) // 2, False), (len(p.X) - 1, False)):
        sq = naive.seeding_distance(p.X, p.X[i])
        closest = sq if closest is None else np.minimum(closest, sq)
        peak = device.seed_update(rows, p.X[i], first)
        assert_same_array(to_host(rows.closest), closest, "closest")
        assert peak == (closest if p.sample_weight is None else p.sample_weight * closest.astype(float)).max()


@pytest.mark.parametrize("trials", [1, 2, 3, 10])
def test_n_local_trials_is_followed(backend, trials):
    p = Recipe(4, 400, 3, 9).build()
    assert_same_seeds(*seed_both(p, 9, backend, "RandomState", trials, n_local_trials=trials))


@settings(max_examples=40)
@given(recipe=problems.recipes(dtypes=("f4", "f8"), weights="extreme"), seed=st.integers(0, 1000))
def test_kmeans_plusplus_with_weights_of_very_different_size(backend, recipe, seed):
    assert_same_seeds(*seed_both(recipe.build(), recipe.k, backend, "RandomState", seed))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_an_outlier_does_not_starve_the_other_rows(backend, dtype):
    X = np.random.default_rng(0).normal(size=(500, 3)).astype(dtype)
    X[77] = 1e8
    p = Recipe(0, 500, 3, 8).build()._replace(X=X, sample_weight=None)
    for seed in range(5):
        got, expected = seed_both(p, 8, backend, "RandomState", seed)
        assert_same_seeds(got, expected)
        assert len(set(got[1].tolist())) == 8
        assert 77 in got[1]


def test_more_clusters_than_distinct_rows_repeats_the_first_row_with_weight(backend):
    X = np.repeat([[0.0, 1.0], [2.0, 3.0]], 5, axis=0)
    weight = np.array([0.0, 1, 1, 1, 1, 1, 1, 1, 1, 1])
    p = Recipe(0, 10, 2, 5).build()._replace(X=X, sample_weight=weight)
    got, expected = seed_both(p, 5, backend, "RandomState", 0)
    assert_same_seeds(got, expected)
    assert got[1][2:].tolist() == [1, 1, 1]


def test_every_row_is_chosen_when_k_is_n(backend):
    X = np.random.default_rng(1).normal(size=(25, 2))
    _, rows = gpukmeans.kmeans_plusplus(X, 25, random_state=0, backend=backend)
    assert sorted(rows.tolist()) == list(range(25))


def test_rows_without_weight_are_never_chosen(backend):
    X = np.random.default_rng(2).normal(size=(200, 2))
    weight = (np.arange(200) % 4 == 0).astype(float)
    for seed in range(10):
        _, rows = gpukmeans.kmeans_plusplus(X, 8, sample_weight=weight, random_state=seed, backend=backend)
        assert (rows % 4 == 0).all()


@settings(max_examples=30)
@given(recipe=problems.recipes(dtypes=("f4", "f8")), seed=st.integers(0, 1000))
def test_kmeans_plusplus_of_csr_chooses_the_rows_of_dense(backend, recipe, seed):
    p = recipe.build()
    kept = np.where(np.random.default_rng(seed).random(p.X.shape) < 0.3, p.X, 0).astype(p.X.dtype)
    options = {"sample_weight": p.sample_weight, "backend": backend, "random_state": seed}
    got = gpukmeans.kmeans_plusplus(sp.csr_array(kept), recipe.k, **options)
    expected = naive.kmeans_plusplus(kept, recipe.k, np.random.RandomState(seed), p.sample_weight)
    assert_same_seeds(got, expected)


def test_the_chosen_centers_are_the_rows_themselves(backend):
    X = np.random.default_rng(3).normal(size=(60, 4)) * 1e200
    centers, rows = gpukmeans.kmeans_plusplus(X, 6, random_state=1, backend=backend)
    assert_same_array(centers, X[rows])


# ---------------------------------------------------------------------------------------------- whole fits


def callable_init(X, n_clusters, random_state):
    """An init function that draws, so that the order of draws shows."""
    rows = random_state.permutation(len(X))[:n_clusters]
    return X[rows]


@settings(max_examples=60)
@given(
    recipe=problems.recipes(max_n=200),
    rng_kind=st.sampled_from(sorted(RNGS)),
    seed=st.integers(0, 2**32 - 1),
    init=st.sampled_from(["k-means++", "random", callable_init]),
    n_init=st.sampled_from(["auto", 1, 3]),
)
def test_a_seeded_fit_gives_the_bits_of_the_oracle(backend, recipe, rng_kind, seed, init, n_init):
    p = recipe.build()
    if init == "random" and p.sample_weight is not None:
        p = p._replace(sample_weight=p.sample_weight + p.sample_weight.max() * 0.01)  # random needs k rows of weight
    options = {"init": init, "n_init": n_init, "tol": p.tol, "max_iter": min(p.max_iter, 20)}
    model = gpukmeans.KMeans(recipe.k, random_state=RNGS[rng_kind](seed), backend=backend, **options)
    quiet_fit(model, p.X, sample_weight=p.sample_weight)
    expected = naive.fit_seeded(p.X, recipe.k, RNGS[rng_kind](seed), sample_weight=p.sample_weight, **options)
    assert_same_fit(result_of(model), expected)


@pytest.mark.parametrize("init", ["k-means++", "random", callable_init])
def test_an_integer_seed_means_a_random_state_of_that_seed(backend, init):
    X = np.random.default_rng(4).normal(size=(150, 3))
    model = gpukmeans.KMeans(6, init=init, n_init=2, random_state=11, backend=backend).fit(X)
    again = gpukmeans.KMeans(6, init=init, n_init=2, random_state=11, backend=backend).fit(X)
    expected = naive.fit_seeded(X, 6, np.random.RandomState(11), init=init, n_init=2)
    assert_same_fit(result_of(model), expected)
    assert_same_fit(result_of(again), expected)


def test_the_global_numpy_seed_is_used_without_random_state(backend):
    X = np.random.default_rng(5).normal(size=(150, 3))
    before = np.random.get_state()
    try:
        np.random.seed(9)
        model = gpukmeans.KMeans(6, backend=backend).fit(X)
    finally:
        np.random.set_state(before)
    assert_same_fit(result_of(model), naive.fit_seeded(X, 6, np.random.RandomState(9)))


def test_n_init_auto_is_ten_runs_for_random_and_callables_and_one_for_the_rest(backend):
    X = np.random.default_rng(6).normal(size=(80, 2))
    calls = []

    def counted(X, n_clusters, random_state):
        calls.append(1)
        return callable_init(X, n_clusters, random_state)

    gpukmeans.KMeans(4, init=counted, random_state=0, backend=backend).fit(X)
    assert len(calls) == 10
    for init, n_init in [("random", 10), ("k-means++", 1)]:
        model = gpukmeans.KMeans(4, init=init, random_state=0, backend=backend).fit(X)
        expected = naive.fit_seeded(X, 4, np.random.RandomState(0), init=init, n_init=n_init)
        assert_same_fit(result_of(model), expected)


def test_more_runs_are_never_worse(backend):
    X = np.random.default_rng(7).normal(size=(300, 2))
    inertias = [
        gpukmeans.KMeans(12, init="random", n_init=n, random_state=0, backend=backend).fit(X).inertia_
        for n in (1, 2, 5, 10)
    ]
    assert inertias == sorted(inertias, reverse=True)
    assert inertias[0] > inertias[-1]


def test_a_callable_gets_the_data_as_it_was_passed(backend):
    X = np.random.default_rng(8).normal(size=(50, 3)) * 1e100
    seen = []

    def first_rows(X, n_clusters, random_state):
        seen.append(X.copy())
        return X[:n_clusters]

    model = gpukmeans.KMeans(4, init=first_rows, n_init=1, backend=backend).fit(X)
    assert_same_array(seen[0], X)
    assert_same_fit(result_of(model), naive.fit(X, X[:4]))


def test_an_array_with_n_init_above_one_warns_and_runs_once(backend):
    X = np.random.default_rng(9).normal(size=(50, 3))
    with pytest.warns(RuntimeWarning, match="performing only one init"):
        model = gpukmeans.KMeans(4, init=X[:4], n_init=3, backend=backend).fit(X)
    assert_same_fit(result_of(model), naive.fit(X, X[:4]))


@pytest.mark.parametrize("form", [list, tuple, np.asfortranarray, np.float32, np.int64])
def test_an_array_init_may_have_any_form(backend, form):
    X = np.random.default_rng(10).normal(size=(50, 3))
    start = np.rint(X[:4] * 3)
    model = gpukmeans.KMeans(4, init=form(start), n_init=1, backend=backend)
    quiet_fit(model, X)
    assert_same_fit(result_of(model), naive.fit(X, start))


def test_a_seed_means_the_same_rows_as_in_scikit_learn(backend):
    from sklearn.cluster import kmeans_plusplus

    for seed in range(20):
        X = np.random.default_rng(seed).normal(size=(200, 4))
        weight = np.random.default_rng(seed).integers(1, 4, 200).astype(float)
        for w in (None, weight):
            expected = kmeans_plusplus(X, 7, sample_weight=w, random_state=seed)[1]
            got = gpukmeans.kmeans_plusplus(X, 7, sample_weight=w, random_state=seed, backend=backend)[1]
            assert got.tolist() == expected.tolist()


# ---------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (np.zeros((3, 2)), "does not match the number of clusters"),
        (np.zeros((4, 3)), "does not match the number of features"),
        (np.zeros(4), "2D|dimension"),
        (np.zeros((4, 2, 1)), "dim"),
        (np.full((4, 2), np.nan), "NaN|infinite"),
        (np.full((4, 2), np.inf), "infinity|infinite"),
    ],
)
def test_a_bad_init_array_is_refused(backend, start, message):
    X = np.random.default_rng(11).normal(size=(20, 2))
    with pytest.raises(ValueError, match=message):
        gpukmeans.KMeans(4, init=start, n_init=1, backend=backend).fit(X)
    with pytest.raises(ValueError, match=message):
        gpukmeans.KMeans(4, init=lambda *a, **b: start, n_init=1, backend=backend).fit(X)


def test_an_unknown_init_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"k-means\+\+"):
        gpukmeans.KMeans(2, init="kmeans++").fit(np.zeros((4, 1)) + np.arange(4)[:, None])


def test_random_init_with_too_few_weighted_rows_is_refused(backend):
    X = np.random.default_rng(12).normal(size=(20, 2))
    weight = np.zeros(20)
    weight[:3] = 1
    with pytest.raises(ValueError, match="non-zero|weight"):
        gpukmeans.KMeans(4, init="random", n_init=1, backend=backend).fit(X, sample_weight=weight)


@pytest.mark.parametrize("trials", [0, -1, 1.5])
def test_bad_numbers_of_trials_are_refused(trials):
    with pytest.raises(ValueError, match="n_local_trials"):
        gpukmeans.kmeans_plusplus(np.arange(10.0)[:, None], 2, n_local_trials=trials)
