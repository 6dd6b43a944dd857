"""The generated data sets: scikit-learn's shapes, counts and errors, and no second copy of X."""

import tracemalloc

import numpy as np
import pytest
import sklearn.datasets

from gpukmeans import datasets
from gpukmeans.datasets import make_blobs, make_moons

DTYPES = (np.float32, np.float64)


def first_line(error):
    return str(error).splitlines()[0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_blobs_have_the_shapes_dtypes_and_counts_that_scikit_learn_gives(dtype):
    for n_samples in (1, 10, 1003, [3, 0, 5]):
        X, y, centers = make_blobs(n_samples, 4, random_state=0, return_centers=True, dtype=dtype)
        X_sk, y_sk, centers_sk = sklearn.datasets.make_blobs(n_samples, 4, random_state=0, return_centers=True)
        assert X.shape == X_sk.shape
        assert centers.shape == centers_sk.shape
        assert X.dtype == centers.dtype == dtype
        assert y.dtype == y_sk.dtype
        assert np.bincount(y, minlength=3).tolist() == np.bincount(y_sk, minlength=3).tolist()


def test_blobs_without_shuffling_come_cluster_by_cluster():
    _, y = make_blobs(10, centers=3, shuffle=False, random_state=0)
    assert y.tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("dtype", DTYPES)
def test_blobs_lie_around_their_centers_with_their_own_deviation(dtype):
    wanted = np.array([[0.0, 100.0], [50.0, -30.0]])
    X, y, centers = make_blobs(
        20_000, centers=wanted, cluster_std=[1.0, 3.0], random_state=1, return_centers=True, dtype=dtype
    )
    assert np.array_equal(centers, wanted)
    for k, std in enumerate((1.0, 3.0)):
        rows = X[y == k].astype(np.float64)
        # 6 standard errors of a mean and of a deviation of 10,000 rows
        assert np.abs(rows.mean(axis=0) - wanted[k]).max() < 0.06 * std
        assert np.abs(rows.std(axis=0) / std - 1).max() < 0.05


def test_drawn_centers_lie_in_the_box():
    *_, centers = make_blobs(300, 5, centers=100, center_box=(2.0, 3.0), random_state=0, return_centers=True)
    assert centers.min() >= 2
    assert centers.max() <= 3
    assert centers.shape == (100, 5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [make_blobs, make_moons])
def test_the_size_of_a_block_changes_no_bits(make, dtype, monkeypatch):
    options = {"noise": 0.1} if make is make_moons else {"n_features": 3}
    expected = make(501, random_state=7, dtype=dtype, **options)
    for n_bytes in (1, 100, 4096):
        monkeypatch.setattr(datasets, "_BLOCK_BYTES", n_bytes)
        for got, wanted in zip(make(501, random_state=7, dtype=dtype, **options), expected, strict=True):
            assert np.array_equal(got, wanted)


@pytest.mark.parametrize("make", [make_blobs, make_moons])
def test_a_seed_gives_the_same_data_however_it_is_passed_on(make):
    def draw(random_state):
        return make(50, random_state=random_state)[0].tolist()

    assert draw(3) == draw(3) != draw(4)
    assert draw(np.random.RandomState(3)) == draw(np.random.RandomState(3))
    assert draw(np.random.default_rng(3)) == draw(np.random.default_rng(3)) == draw(3)


@pytest.mark.parametrize("make", [make_blobs, make_moons])
def test_without_a_seed_the_global_stream_is_used_as_in_scikit_learn(make):
    state = np.random.get_state()
    try:
        np.random.seed(5)
        first, second = make(50)[0], make(50)[0]
        np.random.seed(5)
        assert np.array_equal(make(50)[0], first)
        assert not np.array_equal(first, second)
    finally:
        np.random.set_state(state)


def test_a_generator_goes_on_where_it_was():
    rng = np.random.default_rng(0)
    assert not np.array_equal(make_blobs(50, random_state=rng)[0], make_blobs(50, random_state=rng)[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_samples", [1, 2, 3, 200, (1, 4), (0, 3), (7, 0)])
def test_moons_without_noise_are_the_points_of_scikit_learn(n_samples, dtype):
    X, y = make_moons(n_samples, shuffle=False, dtype=dtype)
    X_sk, y_sk = sklearn.datasets.make_moons(n_samples, shuffle=False)
    assert X.dtype == dtype
    assert y.dtype == y_sk.dtype
    assert y.tolist() == y_sk.tolist()
    np.testing.assert_allclose(X, X_sk, rtol=0, atol=4 * np.finfo(dtype).eps)


def test_shuffled_moons_are_the_same_points_in_another_order():
    ordered, shuffled = make_moons(300, shuffle=False), make_moons(300, random_state=0)
    assert not np.array_equal(ordered[0], shuffled[0])

    def as_set(moons):
        return sorted((*row, label) for row, label in zip(moons[0].tolist(), moons[1].tolist(), strict=True))

    assert as_set(ordered) == as_set(shuffled)


def test_the_noise_of_moons_has_the_deviation_asked_for():
    options = {"n_samples": 20_000, "random_state": 0, "shuffle": False}
    noise = make_moons(noise=0.25, **options)[0] - make_moons(**options)[0]
    assert abs(noise.std() / 0.25 - 1) < 0.03


@pytest.mark.parametrize("make", [make_blobs, make_moons])
def test_the_memory_is_that_of_the_result_and_a_few_blocks(make):
    tracemalloc.start()
    try:
        X, y = make(200_000, **({"n_features": 16} if make is make_blobs else {"noise": 0.1}))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < X.nbytes + y.nbytes + 4 * datasets._BLOCK_BYTES


@pytest.mark.parametrize(
    "options",
    [
        {"n_samples": 0},
        {"n_samples": 1.5},
        {"n_features": 0},
        {"n_features": "two"},
        {"centers": 0},
        {"cluster_std": -1.0},
        {"center_box": [0, 1]},
        {"shuffle": "yes"},
        {"return_centers": 2},
        {"centers": [[1.0, np.nan]]},
        {"centers": [1.0, 2.0]},
        {"n_samples": [1, 2], "centers": 2},
        {"n_samples": [1, 2], "centers": [[1.0, 2.0]]},
        {"n_samples": 10, "centers": 2, "cluster_std": [1.0]},
    ],
    ids=str,
)
def test_blobs_refuse_what_scikit_learn_refuses_in_its_words(options):
    with pytest.raises(ValueError) as theirs:
        sklearn.datasets.make_blobs(random_state=0, **options)
    with pytest.raises(ValueError) as ours:
        make_blobs(random_state=0, **options)
    # the drawn centers, which some messages show, are not the same
    assert first_line(ours.value).partition("centers = ")[0] == first_line(theirs.value).partition("centers = ")[0]


@pytest.mark.parametrize(
    "options",
    [{"n_samples": 0}, {"n_samples": (1, 2, 3)}, {"noise": -0.1}, {"noise": "much"}, {"shuffle": 3}],
    ids=str,
)
def test_moons_refuse_what_scikit_learn_refuses_in_its_words(options):
    with pytest.raises(ValueError) as theirs:
        sklearn.datasets.make_moons(**options)
    with pytest.raises(ValueError) as ours:
        make_moons(**options)
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("make", [make_blobs, make_moons])
@pytest.mark.parametrize("dtype", [np.int32, np.float16, "a color", object])
def test_other_dtypes_than_float32_and_float64_are_refused(make, dtype):
    with pytest.raises(ValueError, match="must be float32 or float64"):
        make(5, dtype=dtype)


def test_a_seed_of_the_wrong_type_is_refused():
    with pytest.raises(ValueError, match="'random_state' parameter of make_blobs must be"):
        make_blobs(5, random_state="seven")
