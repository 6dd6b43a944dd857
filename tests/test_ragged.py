"""Many problems at once: each has the bits of its own fit, whatever else is in the batch."""

import warnings

import numpy as np
import problems
import pytest
import scipy.sparse as sp
import support
from hypothesis import example, given, settings
from hypothesis import strategies as st
from problems import Recipe
from sklearn.exceptions import ConvergenceWarning
from support import assert_same_fit, result_of, threads

import naive
from gpukmeans import KMeans, OutOfMemoryError, kmeans_batch
from gpukmeans.backends import _cpu_ragged, _numba_ragged
from gpukmeans.backends._numba import NumbaBackend

KERNELS = pytest.mark.parametrize("backend", ["numba", pytest.param("cupy", marks=pytest.mark.gpu)], indirect=True)
"""The backends that have a kernel for whole fits."""

SMALL = problems.recipes(max_n=120).filter(lambda recipe: recipe.d <= 40)


def quiet_batch(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return kmeans_batch(*args, **options)


def fits_of(result):
    """The entries of a result in the oracle's form."""
    return [
        naive.Fit(labels, centers, inertia, n_iter) for centers, labels, inertia, n_iter in zip(*result, strict=True)
    ]


def own_fit(X, n_clusters, sample_weight=None, **options):
    """What KMeans finds by itself, on the backend that is nothing but NumPy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return result_of(KMeans(n_clusters, backend="numpy", **options).fit(X, sample_weight=sample_weight))


def assert_same_fits(got, expected):
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert_same_fit(one, other)


@pytest.fixture(scope="module")
def mixed():
    """Problems of all sizes, with one that crosses tiles of rows; their weights."""
    recipes = [
        Recipe(1, 50, 3, 4, dtype="f4"),
        Recipe(2, 2 * _numba_ragged.TILE + 1, 5, 9, dtype="f8", kind="blobs"),
        Recipe(3, 1, 1, 1, dtype="f4"),
        Recipe(4, _numba_ragged.TILE, 6, 7, dtype="f4", kind="duplicates", weights="zeros"),
        Recipe(5, 40, 17, 8, dtype="f8", weights="random"),
        Recipe(6, 90, 2, 9, dtype="i4", weights="powers"),
    ]
    built = [recipe.build() for recipe in recipes]
    return [p.X for p in built], [p.n_clusters for p in built], [p.sample_weight for p in built]


# ---------------------------------------------------------------------------------------------- bits


@settings(max_examples=40)
@given(recipes=st.lists(SMALL, min_size=1, max_size=5), tol=st.sampled_from([0.0, 1e-4, 1e-2]), n=st.integers(1, 60))
@example(recipes=[Recipe(0, 30, 2, 6, start="far"), Recipe(1, 30, 2, 6, start="very far", dtype="f8")], tol=0.0, n=9)
@example(recipes=[Recipe(0, 9, 2, 9, kind="constant", start="repeated rows", dtype="f8")], tol=0.0, n=9)
@example(recipes=[Recipe(7, 100, 3, 6, dtype="f8", offset=1e9)], tol=0.3, n=60)
@example(recipes=[Recipe(5, 40, 3, 12, start="far", weights="zeros", dtype=t) for t in ("f4", "f8")], tol=0.0, n=9)
def test_fits_from_given_starts_have_the_bits_of_the_oracle(numba_backend, recipes, tol, n):
    built = [recipe.build() for recipe in recipes]
    got = quiet_batch(
        [p.X for p in built],
        [p.n_clusters for p in built],
        sample_weight=[p.sample_weight for p in built],
        init=[p.centers for p in built],
        tol=tol,
        max_iter=n,
        backend=numba_backend,
    )
    expected = [naive.fit(p.X, p.centers, sample_weight=p.sample_weight, max_iter=n, tol=tol) for p in built]
    assert_same_fits(fits_of(got), expected)


@settings(max_examples=25)
@given(
    recipes=st.lists(SMALL, min_size=1, max_size=4),
    n_init=st.sampled_from(["auto", 1, 3]),
    max_iter=st.sampled_from([1, 2, 20]),
)
def test_fits_from_drawn_starts_have_the_bits_of_the_oracle(numba_backend, recipes, n_init, max_iter):
    built = [recipe.build() for recipe in recipes]
    positive = [len(p.X) if p.sample_weight is None else np.count_nonzero(p.sample_weight) for p in built]
    init = [
        "random" if i % 2 and count >= p.n_clusters else "k-means++"
        for i, (p, count) in enumerate(zip(built, positive, strict=True))
    ]
    got = quiet_batch(
        [p.X for p in built],
        [p.n_clusters for p in built],
        sample_weight=[p.sample_weight for p in built],
        init=init,
        n_init=n_init,
        max_iter=max_iter,
        random_state=[recipe.seed for recipe in recipes],
        backend=numba_backend,
    )
    expected = [
        naive.fit_seeded(
            p.X,
            p.n_clusters,
            np.random.RandomState(recipe.seed),
            init=start,
            n_init=n_init,
            sample_weight=p.sample_weight,
            max_iter=max_iter,
        )
        for p, recipe, start in zip(built, recipes, init, strict=True)
    ]
    assert_same_fits(fits_of(got), expected)


@KERNELS
def test_a_start_is_chosen_by_distances_in_the_dtype_of_the_data(backend):
    """The squares of these differences vanish in float32: all rows lie on one center."""
    for dtype in (np.float32, np.float64):
        X = np.column_stack([np.ones(40), np.arange(40) * 1e-25]).astype(dtype)
        got = quiet_batch([X] * 5, 6, max_iter=1, random_state=range(5), backend=backend)
        assert_same_fits(fits_of(got), [own_fit(X, 6, max_iter=1, random_state=seed) for seed in range(5)])


@KERNELS
def test_a_row_of_weight_0_is_no_center_where_all_others_lie_on_one(backend):
    X, weight = np.array([[5.0], [1.0], [1.0], [1.0]]), np.array([0.0, 1.0, 1.0, 1.0])
    got = quiet_batch([X], 2, sample_weight=[weight], random_state=0, backend=backend)
    assert_same_fits(fits_of(got), [own_fit(X, 2, weight, random_state=0)])
    assert got.n_iter[0] == 1


@KERNELS
def test_of_starts_that_end_in_the_same_clusters_the_first_is_kept(backend):
    """With one iteration its inertia may be the larger one: that of centers that have not converged."""
    X = Recipe(0, 30, 2, 3, dtype="f8", kind="blobs").build().X
    options = {"init": "random", "max_iter": 1}
    got = quiet_batch([X] * 5, 3, n_init=4, random_state=range(5), backend=backend, **options)
    expected = [own_fit(X, 3, n_init=4, random_state=seed, **options) for seed in range(5)]
    assert_same_fits(fits_of(got), expected)
    least = []
    for seed in range(5):
        rng = np.random.RandomState(seed)
        least.append(min(own_fit(X, 3, n_init=1, random_state=rng, **options).inertia for _ in range(4)))
    assert any(one.inertia > inertia for one, inertia in zip(expected, least, strict=True)), "the test shows nothing"


@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize("part_values", [1, 700])
def test_neither_threads_nor_parts_are_seen(numba_backend, mixed, monkeypatch, n_threads, part_values):
    X, k, weight = mixed
    expected = [own_fit(*one, random_state=7) for one in zip(X, k, weight, strict=True)]
    monkeypatch.setattr(_cpu_ragged, "PART_VALUES", part_values)
    with threads(n_threads):
        got = quiet_batch(X, k, sample_weight=weight, random_state=7, backend=numba_backend)
    assert_same_fits(fits_of(got), expected)


def test_every_backend_gives_the_bits_of_single_fits(backend):
    X, weight = list(np.random.default_rng(0).normal(size=(2, 30, 3))), [None, np.arange(30.0)]
    got = kmeans_batch(X, 4, sample_weight=weight, random_state=3, backend=backend)
    assert_same_fits(fits_of(got), [own_fit(*one, random_state=3) for one in zip(X, [4, 4], weight, strict=True)])


@pytest.mark.parametrize("generator", [np.random.RandomState, np.random.default_rng])
@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_problems_draw_from_one_generator_one_after_the_other(numba_backend, mixed, generator, init):
    X, k, _ = mixed
    got = quiet_batch(X, k, init=init, n_init=2, random_state=generator(5), backend=numba_backend)
    rng = generator(5)
    expected = [own_fit(*one, init=init, n_init=2, random_state=rng) for one in zip(X, k, strict=True)]
    assert_same_fits(fits_of(got), expected)


def test_what_the_kernel_does_not_take_is_fitted_by_itself_in_its_turn(numba_backend, mixed, monkeypatch):
    X, k, weight = mixed
    X = [X[0], sp.csr_matrix(X[1]), X[2], X[3], X[4] * 1e200, X[5]]
    init = [
        "k-means++",
        "random",
        "k-means++",
        lambda X, n_clusters, random_state: X[:n_clusters],
        "random",
        "k-means++",
    ]
    taken = []
    fit_small = NumbaBackend.fit_small
    monkeypatch.setattr(NumbaBackend, "fit_small", lambda self, p, *args: taken.extend(p) or fit_small(self, p, *args))
    monkeypatch.setattr(NumbaBackend, "most_small", X[5].size * k[5] - 1)
    rng = np.random.RandomState(0)
    got = quiet_batch(X, k, sample_weight=weight, init=init, n_init=1, random_state=rng, backend=numba_backend)
    assert [len(p.X) for p in taken] == [50, 1]
    rng = np.random.RandomState(0)
    expected = [
        own_fit(*one, n_init=1, init=start, random_state=rng) for *one, start in zip(X, k, weight, init, strict=True)
    ]
    assert_same_fits(fits_of(got), expected)


def test_kmeans_parallel_is_left_to_single_fits(numba_backend, mixed):
    X, k, weight = mixed
    options = {"init": "k-means||", "max_iter": 3, "random_state": 1}
    got = quiet_batch(X, k, sample_weight=weight, backend=numba_backend, **options)
    assert_same_fits(fits_of(got), [own_fit(*one, **options) for one in zip(X, k, weight, strict=True)])


def test_an_array_of_three_dimensions_holds_a_problem_in_each_entry(numba_backend):
    X = np.random.default_rng(0).normal(size=(5, 30, 4)).astype(np.float32)
    X.flags.writeable = False
    got = kmeans_batch(X, 3, random_state=0, backend=numba_backend)
    assert_same_fits(fits_of(got), [own_fit(one, 3, random_state=0) for one in X])
    starts = kmeans_batch(X, 3, init=X[:, :3], backend=numba_backend)
    assert_same_fits(fits_of(starts), [own_fit(one, 3, init=one[:3]) for one in X])


# ---------------------------------------------------------------------------------------------- on a card


@settings(max_examples=12)
@given(recipes=st.lists(problems.recipes(max_n=60).filter(lambda r: r.d <= 40), min_size=1, max_size=3))
def test_fits_on_a_card_have_the_bits_of_the_oracle(recipes):
    built = [recipe.build() for recipe in recipes]
    options = {"sample_weight": [p.sample_weight for p in built], "max_iter": 5, "tol": 1e-2}
    X, k = [p.X for p in built], [p.n_clusters for p in built]
    with support.standin_cupy():
        got = quiet_batch(X, k, random_state=[recipe.seed for recipe in recipes], backend="cupy", **options)
    expected = [
        naive.fit_seeded(
            p.X, p.n_clusters, np.random.RandomState(r.seed), sample_weight=p.sample_weight, max_iter=5, tol=1e-2
        )
        for p, r in zip(built, recipes, strict=True)
    ]
    assert_same_fits(fits_of(got), expected)


def test_a_card_fits_all_problems_of_a_dtype_in_one_launch(mixed):
    X, k, weight = mixed
    expected = [own_fit(*one, random_state=7) for one in zip(X, k, weight, strict=True)]
    with support.standin_cupy(properties={"MultiProcessorCount": 1}) as control:
        got = quiet_batch(X, k, sample_weight=weight, random_state=7, backend="cupy")
        assert control.log.launches == {"fit_small<float>": 1, "fit_small<double>": 1}
    assert_same_fits(fits_of(got), expected)


def test_a_card_without_memory_for_all_problems_takes_some_at_a_time(mixed):
    X, k, weight = mixed
    expected = [own_fit(*one, random_state=7) for one in zip(X, k, weight, strict=True)]
    with support.standin_cupy(fail_allocation=4) as control:
        got = quiet_batch(X, k, sample_weight=weight, random_state=7, backend="cupy")
        assert control.log.launches == {"fit_small<float>": 2, "fit_small<double>": 1}
        assert_same_fits(fits_of(got), expected)
        control.device_memory = 4096
        with pytest.raises(OutOfMemoryError, match=r"for a problem of 256 rows of 6 features and 7 clusters: Out"):
            kmeans_batch(X, k, backend="cupy")


# ---------------------------------------------------------------------------------------------- what is said


def test_one_warning_says_how_many_problems_have_too_few_clusters(backend):
    X = [np.zeros((4, 2)), np.arange(8.0).reshape(4, 2), np.ones((5, 1))]
    with pytest.warns(ConvergenceWarning, match=r"2 of 3 problems, the first of them problem 0 \(1 of 2\)") as caught:
        kmeans_batch(X, [2, 4, 3], random_state=0, backend=backend)
    assert len(caught) == 1


def test_more_starts_than_the_one_that_is_given_are_refused_aloud(numba_backend):
    X = [np.arange(8.0).reshape(4, 2)]
    with pytest.warns(RuntimeWarning, match="performing only one init for these problems instead of n_init=3"):
        kmeans_batch(X, 2, init=[X[0][:2]], n_init=3, backend=numba_backend)


def rows(n=6):
    return np.arange(2.0 * n).reshape(n, 2)


def with_value(value):
    X = rows()
    X[3, 1] = value
    return X


@pytest.mark.parametrize(
    ("problem", "options", "message"),
    [
        (with_value(np.nan), {}, "Problem 1: Input X contains NaN: row 3, column 1 is nan"),
        (with_value(-np.inf), {}, "Problem 1: Input X contains infinity: row 3, column 1 is -inf"),
        (rows(2), {}, "Problem 1: n_samples=2 should be >= n_clusters=3"),
        (np.zeros(3), {}, "Problem 1: Expected 2D array, got 1D array"),
        (rows(), {"n_clusters": [3, 0]}, "Problem 1: The 'n_clusters' parameter .* Got 0"),
        (rows(), {"n_clusters": [3]}, "n_clusters has 1 entries for 2 problems"),
        (rows(), {"sample_weight": np.ones(6)}, "sample_weight has 6 entries for 2 problems"),
        (rows(), {"sample_weight": [None, -np.ones(6)]}, "Problem 1: Negative values in sample_weight: row 0"),
        (rows(), {"sample_weight": [None, [1.0]]}, r"Problem 1: sample_weight.shape == \(1,\)"),
        (rows(), {"init": ["random", "kmeans"]}, "Problem 1: The 'init' parameter"),
        (rows(), {"init": [rows(3), rows(2)]}, "Problem 1: The shape of the initial centers"),
        (rows(), {"random_state": [0, -1]}, "Problem 1: The 'random_state' parameter"),
        (
            rows(),
            {"sample_weight": [None, np.eye(6)[0]], "init": "random"},
            "Problem 1: init='random' draws n_clusters=3 different rows of positive weight",
        ),
        (rows(), {"n_init": 0}, "The 'n_init' parameter of kmeans_batch"),
        (rows(), {"tol": -1}, "The 'tol' parameter of kmeans_batch"),
        (rows(), {"backend": "numbra"}, "Did you mean 'numba'"),
    ],
)
def test_bad_input_is_refused_with_the_number_of_its_problem(numba_backend, problem, options, message):
    with pytest.raises(ValueError, match=message):
        kmeans_batch([rows(), problem], **{"n_clusters": 3, "backend": numba_backend, **options})


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="problems is empty"):
        kmeans_batch([], 3)
