"""Initial centers: k-means++ equals the oracle for every draw; random, array, callable and n_init do as they say."""

import numpy as np
import problems
import pytest
import scipy.sparse as sp
from hypothesis import example, given, settings
from hypothesis import strategies as st
from problems import Recipe
from support import MOST_BLOCKS, assert_same_array, assert_same_fit, blocks_of, quiet_fit, result_of, threads

import gpukmeans
import naive
from gpukmeans.arrays import to_host
from gpukmeans.backends import get_backend
from gpukmeans.exact import FixedPoint
from gpukmeans.prepare import prepare

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


# ---------------------------------------------------------------------------------------------- rows that are spared


def adversarial(seed, n, d, dtype, offset=0.0, scale=1.0):
    """Rows around a few places, halfway between two of them (on their bisector, as rounded), and copies."""
    rng = np.random.default_rng(seed)
    places = rng.normal(size=(8, d)) * 10
    a, b = places[rng.integers(0, 8, n)], places[rng.integers(0, 8, n)]
    share = rng.choice([0.0, 0.5, 0.5, 1 / 3, 0.25], (n, 1))
    X = a + share * (b - a) + rng.choice([0.0, 1e-7, 1e-3], (n, 1)) * rng.normal(size=(n, d))
    return np.ascontiguousarray(((X + offset) * scale).astype(dtype))


@pytest.fixture(params=["tested", "tried", "as it pays"])
def way(request, monkeypatch, numba_backend):
    """Every row is tested, no row is, or as the rule has it; how many trials took place with and without bounds."""
    from gpukmeans.backends import _cpu_seeding

    if request.param != "as it pays":
        monkeypatch.setattr(_cpu_seeding, "pays", lambda *sizes: request.param == "tested")
    passes = {"with": 0, "without": 0}
    bounds_of = _cpu_seeding.Seeding._bounds

    def counted(self, rows, trials):
        bounds = bounds_of(self, rows, trials)
        passes["with" if len(bounds) else "without"] += bool(rows.seeding.centers)
        return bounds

    monkeypatch.setattr(_cpu_seeding.Seeding, "_bounds", counted)
    yield passes
    assert request.param == "as it pays" or passes["without" if request.param == "tested" else "with"] == 0


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 300),
    d=st.sampled_from([1, 2, 3, 15, 16, 17, 33, 70]),
    dtype=st.sampled_from(["f4", "f8"]),
    offset=st.sampled_from([0.0, 1e6]),
    scale=st.sampled_from([1.0, 1e-30, 1e15]),
    weights=st.sampled_from([None, "random", "zeros"]),
    trials=st.sampled_from([None, 1, 8, 9, 40]),
    size=st.sampled_from([1, 7, 64, 1000]),
    sparse=st.booleans(),
)
def test_rows_that_are_spared_change_nothing(way, seed, n, d, dtype, offset, scale, weights, trials, size, sparse):
    n = min(n, MOST_BLOCKS * (max(1, size // d) if sparse else size))
    X = adversarial(seed, n, d, dtype, offset, scale)
    rng = np.random.default_rng(seed)
    weight = {None: None, "random": rng.random(n) + 0.1, "zeros": (np.arange(n) % 3 > 0).astype(float)}[weights]
    k = min(n, 30)
    options = {"sample_weight": weight, "n_local_trials": trials}
    expected = naive.kmeans_plusplus(X, k, np.random.RandomState(seed % 100), **options)
    data = sp.csr_array(X) if sparse else X
    for n_threads in (1, 2):
        with blocks_of(size), threads(n_threads):
            got = gpukmeans.kmeans_plusplus(data, k, random_state=seed % 100, backend="numba", **options)
        assert got[1].tolist() == expected[1].tolist()


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("trials", [3, 8, 20, 40])
def test_every_step_has_the_potentials_and_distances_of_the_oracle(way, dtype, trials):
    X = adversarial(1, 700, 20, dtype)
    weight = np.random.default_rng(2).integers(0, 3, len(X)).astype(float)
    device = get_backend("numba")
    rows, rng = device.rows(X, weight), np.random.default_rng(3)
    closest, center = None, X[0]
    with blocks_of(100), threads(2):
        for step in range(25):
            sq = naive.seeding_distance(X, center)
            closest = sq if closest is None else np.minimum(closest, sq)
            peak = device.seed_update(rows, center, step == 0)
            assert_same_array(rows.closest, closest, "closest")
            assert peak == (weight * closest.astype(float)).max()
            code = FixedPoint.for_peaks(peak, len(X))

            def potentials(sq, code=code):
                return code.high((weight * sq.astype(float))[:, None])[:, 0]

            prefix = np.cumsum(potentials(closest))
            assert device.seed_total(rows, code) == prefix[-1]
            values = [0, *(rng.random(5) * float(prefix[-1])).astype(int).tolist(), int(prefix[-1]) - 1]
            assert device.seed_find(rows, code, values) == np.searchsorted(prefix, values, side="right").tolist()
            drawn = X[rng.integers(0, len(X), trials)]
            nearer = [np.minimum(closest, naive.seeding_distance(X, c)) for c in drawn]
            assert device.seed_trials(rows, drawn, code) == [int(potentials(sq).sum()) for sq in nearer]
            center = X[rng.integers(len(X))] if step % 5 == 4 else drawn[rng.integers(trials)]  # or none of the trials


def test_most_rows_of_separate_blobs_are_spared(numba_backend, monkeypatch):
    from gpukmeans.backends import _numba_seeding

    shares = []
    trials_kernel = _numba_seeding.seed_trials

    def watched(X, low, high, size, weight, closest, owner, bounds, *rest):
        shares.append(np.mean(closest[0] <= bounds[owner]) if len(bounds) else 0.0)
        trials_kernel(X, low, high, size, weight, closest, owner, bounds, *rest)

    monkeypatch.setattr(_numba_seeding, "seed_trials", watched)
    X = Recipe(5, 4000, 16, 10, kind="blobs").build().X
    with threads(1):
        got = gpukmeans.kmeans_plusplus(X, 12, random_state=0, backend="numba")
    assert got[1].tolist() == naive.kmeans_plusplus(X, 12, np.random.RandomState(0))[1].tolist()
    assert max(shares) > 0.8


def test_what_is_kept_for_seeding_goes_with_it(numba_backend):
    from gpukmeans import seeding

    device = get_backend("numba")
    data = prepare(device, np.random.default_rng(0).normal(size=(50, 3)), None, None)
    seeding.kmeans_plusplus(device, data.blocks, 4, np.random.RandomState(0), data.encoding)
    assert all(rows.closest is None and rows.seeding is None for rows in data.blocks)


def bound_of(center, trial, shrink, tiny):
    """The kernel's bound of one center for one trial."""
    from gpukmeans.backends import _cpu_seeding, _numba_seeding
    from gpukmeans.backends._cpu_centers import both_types

    bounds = np.full(1, float(np.finfo(center.dtype).max))
    address = np.array([center.ctypes.data])
    lanes = both_types(_cpu_seeding._lanes(trial[None]))
    _numba_seeding.seed_bounds(address, lanes, shrink, tiny, bounds, _numba_seeding.scratch())
    return bounds[0]


def wrongly_spared(center, trial, X, shrink, tiny):
    """How many rows the bound spares though the trial is closer than the center, both as computed."""
    own, other = naive.seeding_distance(X, center), naive.seeding_distance(X, trial)
    return int(((own <= bound_of(center, trial, shrink, tiny)) & (other < own)).sum())


def near_bisector(seed, d, dtype):
    """A center, a trial and rows about halfway between them, most of them a hair closer to the trial."""
    rng = np.random.default_rng(seed)
    center, trial = rng.normal(size=(2, d)).astype(dtype)
    hair = np.finfo(dtype).eps * rng.choice([0.0, 0.25, 1.0, 8.0, 100.0], (500, 1)) * rng.normal(size=(500, d))
    middle = (center.astype(float) + trial) / 2
    return center, trial, (middle + hair + np.finfo(dtype).eps / 8 * (trial - center)).astype(dtype)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("d", [1, 2, 16, 70, 500])
def test_the_margin_covers_every_rounding(numba_backend, dtype, d):
    from gpukmeans.backends._cpu_seeding import triangle_margin

    shrink, tiny = triangle_margin(d, np.dtype(dtype))
    assert 0 < shrink < 0.25
    without = 0
    for seed in range(20):
        center, trial, X = near_bisector(seed, d, dtype)
        assert wrongly_spared(center, trial, X, shrink, tiny) == 0
        without += wrongly_spared(center, trial, X, 0.25, 0.0)
        spared = naive.seeding_distance(X, center) <= bound_of(center, trial, shrink, tiny) * 1.1
        assert spared.all()  # the margin is small: these rows are just beyond it
    assert without > 0 or d == 1  # it is needed


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_margin_covers_squares_that_vanish(numba_backend, dtype):
    from gpukmeans.backends._cpu_seeding import triangle_margin

    root = np.sqrt(np.finfo(dtype).smallest_subnormal.astype(np.longdouble))
    center = np.zeros(5, dtype)
    trial = np.full(5, 0.715 * root).astype(dtype)  # each square rounds up to the smallest number
    x = (np.array([[0.71, 0.01, 0.01, 0.01, 0.01]]) * root).astype(dtype)  # to the trial each square rounds to zero
    assert naive.seeding_distance(x, trial)[0] == 0 < naive.seeding_distance(x, center)[0]
    shrink, tiny = triangle_margin(5, np.dtype(dtype))
    assert wrongly_spared(center, trial, x, shrink, tiny) == 0
    assert wrongly_spared(center, trial, x, shrink, 0.0) == 1


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_infinite_distances_spare_no_row_that_improves(numba_backend, dtype):
    from gpukmeans.backends._cpu_seeding import triangle_margin

    largest = np.finfo(dtype).max
    far = np.sqrt(largest.astype(np.longdouble)).astype(dtype)
    center, trial = np.zeros(2, dtype), np.array([far * 2, 0], dtype)  # infinitely far from each other
    X = np.array([[far * share, 0] for share in (0.1, 0.45, 0.55, 0.9, 0.99, 1.2, 1.9)], dtype)
    with np.errstate(over="ignore"):
        shrink, tiny = triangle_margin(2, np.dtype(dtype))
        assert wrongly_spared(center, trial, X, shrink, tiny) == 0
        assert np.isfinite(bound_of(center, trial, shrink, tiny))


def test_so_many_features_that_nothing_is_certain_spare_only_rows_on_a_center(numba_backend):
    from gpukmeans.backends._cpu_seeding import triangle_margin

    for d in (2**22, 2**23, 2**24, 2**30):
        assert 0 <= triangle_margin(d, np.dtype("f4"))[0] < 0.25


def test_rows_are_tested_where_that_costs_less(numba_backend):
    from gpukmeans.backends._cpu_seeding import TEST_COST, pays

    sizes = [(n, m, d) for n in (100, 10_000, 10**6) for m in (1, 50, 1000) for d in (1, 4, 16, 64, 500)]
    for n, m, d in sizes:
        row = d + 4  # cost of a row that is tried
        for share in np.linspace(0, 1, 21):
            tried, tested = n * row, n * TEST_COST + m * row + (1 - share) * n * row
            chosen = tested if pays(share, n, m, d) else tried
            assert chosen <= min(tried, tested) * 1.0001
        assert not pays(0.0, n, m, d)
    assert pays(0.9, 10**6, 64, 16)
    assert not pays(1.0, 100, 1000, 16)  # the centers alone are more than the rows
    assert not pays(1.0, 10**6, 8, 1)  # a row of one feature is tried as fast as it is tested


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
