"""Every backend gives the oracle's bits: labels, centers, inertia, n_iter."""

from dataclasses import replace

import numpy as np
import problems
import pytest
import scipy.sparse as sp
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from problems import Recipe
from support import (
    MOST_BLOCKS,
    assert_same_array,
    assert_same_fit,
    blocks_of,
    optional,
    quiet_fit,
    result_of,
    run,
    threads,
)

import gpukmeans
import naive

FLOATS = ("f4", "f8")


def oracle(p):
    return naive.fit(p.X, p.centers, sample_weight=p.sample_weight, max_iter=p.max_iter, tol=p.tol)


def fitted(p, backend, n_threads=2, **parameters):
    return run(
        p.X,
        p.centers,
        sample_weight=p.sample_weight,
        n_threads=n_threads,
        backend=backend,
        tol=p.tol,
        max_iter=p.max_iter,
        **parameters,
    )


# ---------------------------------------------------------------------------------------------- fit


@settings(max_examples=150)
@given(recipe=problems.recipes(), n_threads=st.sampled_from([1, 2]), algorithm=st.sampled_from(["lloyd", "elkan"]))
@example(recipe=Recipe(0, 1, 1, 1), n_threads=2, algorithm="lloyd")
@example(recipe=Recipe(0, 2, 1, 2, kind="constant", start="repeated rows"), n_threads=1, algorithm="lloyd")
@example(recipe=Recipe(1, 50, 3, 50, kind="grid", dtype="f8"), n_threads=2, algorithm="lloyd")
@example(recipe=Recipe(2, 300, 4, 20, start="far", weights="zeros"), n_threads=2, algorithm="elkan")
@example(recipe=Recipe(3, 200, 5, 9, start="very far", dtype="f4", scale=1e19), n_threads=2, algorithm="lloyd")
@example(recipe=Recipe(4, 200, 5, 9, dtype="f8", scale=1e300, start="far"), n_threads=2, algorithm="lloyd")
def test_a_fit_gives_the_bits_of_the_oracle(backend, recipe, n_threads, algorithm):
    p = recipe.build()
    if p.n_clusters == 1:
        algorithm = "lloyd"  # scikit-learn warns that elkan makes no sense for one cluster
    assert_same_fit(fitted(p, backend, n_threads, algorithm=algorithm), oracle(p))


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(
    "recipe",
    [
        problems.large(0, "f4"),
        problems.large(1, "f8", kind="blobs", weights="random"),
        problems.large(2, "f4", kind="grid", d=3, k=60, tol=1e-4),
        problems.large(3, "f8", kind="duplicates", start="far", weights="zeros", d=17),
        problems.large(4, "f4", d=1, kind="uniform", offset=1e6),
        problems.large(5, "f4", d=300, k=7, offset=1e6, kind="blobs"),
        problems.large(6, "f8", d=513, k=5, weights="integer"),
    ],
    ids=repr,
)
def test_a_large_fit_gives_the_bits_of_the_oracle(backend, recipe, n_threads):
    p = recipe.build()
    assert_same_fit(fitted(p, backend, n_threads), oracle(p))


@settings(max_examples=40)
@given(
    recipe=problems.recipes(max_n=150),
    size=st.sampled_from([1, 2, 7, 64, 100, 1000, 5000]),
    n_threads=st.sampled_from([1, 2, 3]),
    sparse=st.booleans(),
    init=st.sampled_from(["array", "k-means++"]),
)
def test_blocks_of_any_size_give_the_bits_of_the_oracle(backend, recipe, size, n_threads, sparse, init):
    if sparse:
        n = min(recipe.n, MOST_BLOCKS * max(1, size // recipe.d))
        recipe = replace(recipe, n=n, k=min(recipe.k, n))
    p = recipe.build()
    options = {"tol": p.tol, "max_iter": min(p.max_iter, 10)}
    if sparse:
        p = p._replace(X=sparse_version(naive.as_data(p.X), 0)[0])
    start = p.centers if init == "array" else init
    expected = naive.fit_seeded(
        p.X, recipe.k, np.random.RandomState(0), init=start, sample_weight=p.sample_weight, **options
    )
    model = gpukmeans.KMeans(recipe.k, init=start, random_state=0, backend=backend, **options)
    X = sp.csr_matrix(p.X) if sparse else p.X
    with blocks_of(size), threads(n_threads):
        quiet_fit(model, X, sample_weight=p.sample_weight)
        predicted = model.predict(X)
    assert_same_fit(result_of(model), expected)
    assert_same_array(predicted, expected.labels, "predict")


@settings(max_examples=60)
@given(recipe=problems.recipes(dtypes=FLOATS, start="far"), n_threads=st.sampled_from([1, 2]))
def test_empty_clusters_are_filled_as_the_oracle_does(backend, recipe, n_threads):
    p = recipe.build()
    assert_same_fit(fitted(p, backend, n_threads), oracle(p))


@settings(max_examples=40)
@given(recipe=problems.recipes(dtypes=FLOATS, weights="extreme"))
def test_weights_of_very_different_size_give_the_bits_of_the_oracle(backend, recipe):
    p = recipe.build()
    assert_same_fit(fitted(p, backend), oracle(p))


def test_a_row_joins_what_vanishing_weights_have_left_in_an_empty_cluster(backend):
    # Cluster 1 holds a row whose weight is below both limbs, though its share of the sum is not.
    X = np.array([[2.0**-100], [2.0**-99], [2.0**30]])
    weight, start = np.array([1, 1, 2.0**-130]), np.array([[0], [2.0**30]])
    for max_iter in (1, 2, 10):
        options = {"sample_weight": weight, "max_iter": max_iter, "tol": 0.0}
        assert_same_fit(run(X, start, backend=backend, **options), naive.fit(X, start, **options))
    assert naive.fit(X, start, sample_weight=weight, max_iter=1).centers[1, 0] == 1.5 * 2.0**-99


@settings(max_examples=40)
@given(recipe=problems.recipes(dtypes=FLOATS, kind="grid"), seed=st.integers(0, 2**32 - 1))
def test_ties_give_the_bits_of_the_oracle(backend, recipe, seed):
    p = recipe.build()
    halves = np.random.default_rng(seed).integers(-6, 7, p.centers.shape) / 2
    p = p._replace(X=np.rint(p.X).clip(-9, 9), centers=halves.astype(p.X.dtype))
    assert_same_fit(fitted(p, backend), oracle(p))


@settings(max_examples=40)
@given(recipe=problems.recipes(), n_threads=st.sampled_from([1, 2]))
def test_numba_equals_numpy(numba_backend, recipe, n_threads):
    p = recipe.build()
    assert_same_fit(fitted(p, "numba", n_threads), fitted(p, "numpy", 1))


def test_auto_gives_the_same_bits():
    p = Recipe(5, 500, 6, 9).build()
    assert_same_fit(fitted(p, "auto"), oracle(p))


def test_max_iter_and_tol_stop_at_the_same_iteration(backend):
    p = Recipe(6, 400, 5, 12, kind="uniform").build()
    full = oracle(p)
    assert full.n_iter > 8
    for max_iter in range(1, full.n_iter + 2):
        assert_same_fit(fitted(p._replace(max_iter=max_iter), backend), oracle(p._replace(max_iter=max_iter)))
    iterations = set()
    for tol in (1e-6, 1e-4, 1e-2, 1e-1, 1.0):
        assert_same_fit(fitted(p._replace(tol=tol), backend), oracle(p._replace(tol=tol)))
        iterations.add(oracle(p._replace(tol=tol)).n_iter)
    assert len(iterations) > 2


@settings(max_examples=30)
@given(recipe=problems.recipes(dtypes=FLOATS, weights="zeros"))
def test_sample_weight_of_integers_as_lists_or_bools_is_the_same(backend, recipe):
    p = recipe.build()
    whole = np.rint(p.sample_weight)
    if not whole.any():
        whole[0] = 1
    expected = oracle(p._replace(sample_weight=whole))
    for form in (whole.astype(np.int32), whole.astype(np.float32), whole.tolist(), whole[::-1].copy()[::-1]):
        assert_same_fit(fitted(p._replace(sample_weight=form), backend), expected)


def test_weights_of_one_are_no_weights(backend):
    p = Recipe(7, 333, 4, 8, dtype="f8").build()
    assert_same_fit(fitted(p._replace(sample_weight=np.ones(333)), backend), oracle(p))


# ---------------------------------------------------------------------------------------------- predict


@settings(max_examples=60)
@given(recipe=problems.recipes(), size=st.integers(1, 200), n_threads=st.sampled_from([1, 2]))
def test_labels_are_what_predict_gives_in_batches_of_any_size(backend, recipe, size, n_threads):
    p = recipe.build()
    model = gpukmeans.KMeans(p.n_clusters, init=p.centers, n_init=1, tol=p.tol, max_iter=p.max_iter, backend=backend)
    with threads(n_threads):
        quiet_fit(model, p.X, sample_weight=p.sample_weight)
        assert_same_array(model.predict(p.X), model.labels_, "predict of all rows")
        size = max(size, -(-len(p.X) // 25))
        batches = [model.predict(p.X[i : i + size]) for i in range(0, len(p.X), size)]
    assert_same_array(np.concatenate(batches), model.labels_, "predict in batches")


@settings(max_examples=40)
@given(recipe=problems.recipes(dtypes=FLOATS), factor=st.sampled_from([1.0, 1e-3, 3.0, 1e6]))
def test_predict_of_new_rows_gives_the_labels_of_the_oracle(backend, recipe, factor):
    p = recipe.build()
    model = gpukmeans.KMeans(p.n_clusters, init=p.centers, n_init=1, tol=p.tol, max_iter=2, backend=backend)
    quiet_fit(model, p.X)
    with np.errstate(all="ignore"):
        new = np.clip((p.X * factor).astype(p.X.dtype), -np.finfo(p.X.dtype).max, np.finfo(p.X.dtype).max)
    expected = naive.predict(new, model.cluster_centers_, naive.scale_exponent(naive.as_data(p.X)))
    assert_same_array(model.predict(new), expected, "labels")


def test_predict_takes_the_other_float_type(backend):
    p = Recipe(8, 300, 5, 20, dtype="f4").build()
    model = gpukmeans.KMeans(p.n_clusters, init=p.centers, n_init=1, backend=backend).fit(p.X)
    double = np.random.default_rng(0).normal(size=(500, 5))
    assert_same_array(model.predict(double), naive.predict(double, model.cluster_centers_), "labels")


@settings(max_examples=30)
@given(recipe=problems.recipes(dtypes=FLOATS, kind="uniform", start="rows", weights=None))
def test_refitting_from_the_fitted_centers_changes_no_label(backend, recipe):
    p = recipe.build()
    first = fitted(p._replace(tol=0.0, max_iter=300), backend)
    assume(len(set(first.labels.tolist())) == p.n_clusters)
    again = run(p.X, first.centers, sample_weight=p.sample_weight, backend=backend, max_iter=1)
    assert_same_array(again.labels, first.labels, "labels")


# ---------------------------------------------------------------------------------------------- containers


def containers(X, tmp_path):
    """The same numbers in many forms."""
    wide = np.zeros((X.shape[0], 2 * X.shape[1] + 1), X.dtype)
    wide[:, 1::2] = X
    frozen = X.copy()
    frozen.setflags(write=False)
    mapped = np.memmap(tmp_path / "X.dat", X.dtype, "w+", shape=X.shape)
    mapped[:] = X
    yield "fortran", np.asfortranarray(X)
    yield "strided columns", wide[:, 1::2]
    yield "strided rows", np.repeat(X, 3, axis=0)[::3]
    yield "negative strides", X[::-1, ::-1].copy()[::-1, ::-1]
    yield "read-only", frozen
    yield "memmap", mapped
    yield "read-only memmap", np.memmap(tmp_path / "X.dat", X.dtype, "r", shape=X.shape)
    yield "unaligned", np.frombuffer(b"x" + X.tobytes(), X.dtype, offset=1).reshape(X.shape)
    yield "unmasked masked array", np.ma.array(X)
    if X.dtype == np.float64:
        yield "byte-swapped", X.astype(X.dtype.newbyteorder())
        yield "list", X.tolist()
        yield "tuple of arrays", tuple(X)
        yield "array subclass", np.asarray(X).view(np.recarray)


@pytest.mark.parametrize("dtype", FLOATS)
def test_every_container_gives_the_bits_of_the_plain_array(backend, dtype, tmp_path):
    p = Recipe(9, 257, 5, 11, dtype=dtype).build()
    expected = oracle(p)
    for name, X in containers(p.X, tmp_path):
        before = np.array(X)
        model = gpukmeans.KMeans(p.n_clusters, init=p.centers, n_init=1, tol=0, max_iter=100, backend=backend).fit(X)
        assert_same_fit(result_of(model), expected)
        assert_same_array(model.predict(X), expected.labels, f"predict of {name}")
        assert np.array_equal(np.array(X), before), f"{name} was changed"


@pytest.mark.parametrize("copy_x", [True, False])
@pytest.mark.parametrize("scale", [1.0, 1e30])
def test_the_data_is_never_changed(backend, copy_x, scale):
    p = Recipe(10, 100, 3, 5, dtype="f8", scale=scale).build()
    before, start = p.X.copy(), p.centers.copy()
    fitted(p, backend, copy_x=copy_x)
    assert_same_array(p.X, before, "X")
    assert_same_array(p.centers, start, "init")


@pytest.mark.extra
@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_data_frames_give_the_bits_of_the_plain_array(backend, library, dtype):
    module = optional(library)
    p = Recipe(11, 150, 4, 7, dtype=dtype).build()
    frame = module.DataFrame({name: p.X[:, j] for j, name in enumerate("abcd")})
    model = gpukmeans.KMeans(p.n_clusters, init=p.centers, n_init=1, tol=0, max_iter=100, backend=backend).fit(frame)
    assert_same_fit(result_of(model), oracle(p))
    assert_same_array(model.predict(frame), model.labels_, "predict")
    assert model.feature_names_in_.tolist() == list("abcd")


# ---------------------------------------------------------------------------------------------- sparse


def sparse_version(X, seed):
    """X with most entries zero, dense and as CSR."""
    kept = np.where(np.random.default_rng(seed).random(X.shape) < 0.3, X, 0).astype(X.dtype)
    return kept, sp.csr_array(kept)


@settings(max_examples=60)
@given(recipe=problems.recipes(dtypes=FLOATS), seed=st.integers(0, 99), n_threads=st.sampled_from([1, 2]))
def test_csr_gives_the_bits_of_dense(backend, recipe, seed, n_threads):
    p = recipe.build()
    dense, sparse = sparse_version(p.X, seed)
    p = p._replace(X=dense)
    expected = oracle(p)
    assert_same_fit(fitted(p._replace(X=sparse), backend, n_threads), expected)
    assert_same_fit(fitted(p._replace(X=sp.csr_matrix(sparse)), backend, n_threads), expected)


@pytest.mark.parametrize("form", [sp.csc_array, sp.coo_array, sp.csr_array, sp.lil_array, sp.dok_array])
def test_every_sparse_format_gives_the_bits_of_dense(backend, form):
    p = Recipe(12, 200, 30, 6, dtype="f8").build()
    dense, sparse = sparse_version(p.X, 0)
    p = p._replace(X=dense)
    model = gpukmeans.KMeans(6, init=p.centers, n_init=1, tol=0, max_iter=100, backend=backend)
    quiet_fit(model, form(sparse))
    assert_same_fit(result_of(model), oracle(p))
    assert_same_array(model.predict(form(sparse)), model.labels_, "predict")


def test_csr_with_unsorted_repeated_and_stored_zero_entries_gives_the_bits_of_dense(backend):
    rows = np.array([0, 0, 0, 1, 1, 2, 3, 3])
    columns = np.array([2, 0, 2, 1, 1, 0, 2, 1])
    values = np.array([1.0, 2.0, 0.5, 3.0, -1.0, 0.0, 4.0, 8.0])
    order = [0, 3, 5, 6, 8]
    sparse = sp.csr_array((values, columns, order), shape=(4, 3))
    dense = np.zeros((4, 3))
    np.add.at(dense, (rows, columns), values)
    start = dense[[0, 3]]
    assert_same_fit(run(sparse, start, backend=backend), naive.fit(dense, start))


def test_csr_predict_in_row_blocks_of_any_size(backend):
    p = Recipe(13, 300, 20, 9, dtype="f4").build()
    dense, sparse = sparse_version(p.X, 1)
    model = gpukmeans.KMeans(9, init=p.centers, n_init=1, backend=backend)
    quiet_fit(model, sparse)
    for size in (1, 7, 64, 299):
        batches = [model.predict(sparse[i : i + size]) for i in range(0, 300, size)]
        assert_same_array(np.concatenate(batches), model.labels_, f"batches of {size}")
    assert_same_array(model.predict(dense), model.labels_, "dense")


# ---------------------------------------------------------------------------------------------- the rest


def test_history_tells_each_iteration(backend):
    p = Recipe(14, 500, 4, 10, kind="uniform").build()
    model = gpukmeans.KMeans(10, init=p.centers, n_init=1, tol=0, backend=backend).fit(p.X)
    assert len(model.history_) == model.n_iter_
    assert model.history_[0].n_moved == 500
    assert model.history_[-1].n_moved == 0
    for i in range(1, model.n_iter_):
        before, after = (naive.fit(p.X, p.centers, tol=0, max_iter=m) for m in (i, i + 1))
        expected = naive.tree_sum([naive.distance(a, b) for a, b in zip(after.centers, before.centers, strict=True)])
        assert model.history_[i].shift_sq == expected
    assert model.n_rechecked_ >= 0
    assert model.backend_ == backend


def test_functions_give_the_bits_of_the_estimator(backend):
    p = Recipe(15, 300, 6, 8, dtype="f8", weights="random").build()
    centers, labels, inertia, n_iter = gpukmeans.k_means(
        p.X, 8, sample_weight=p.sample_weight, init=p.centers, n_init=1, return_n_iter=True, backend=backend
    )
    expected = naive.fit(p.X, p.centers, sample_weight=p.sample_weight)
    assert_same_fit(naive.Fit(labels, centers, inertia, n_iter), expected)


@settings(max_examples=60)
@given(recipe=problems.recipes(dtypes=FLOATS, scale=1.0), n_threads=st.sampled_from([1, 2]))
def test_pairwise_distances_argmin_gives_the_labels_and_distances_of_the_oracle(backend, recipe, n_threads):
    p = recipe.build()
    D = naive.distances(p.X, p.centers)
    expected = naive.nearest(D)
    with threads(n_threads):
        labels = gpukmeans.pairwise_distances_argmin(p.X, p.centers, backend=backend)
        again, distance = gpukmeans.pairwise_distances_argmin_min(p.X, p.centers, backend=backend)
    assert labels.tolist() == expected.tolist()
    assert again.tolist() == expected.tolist()
    own = np.sqrt(D[np.arange(len(D)), expected])
    # below 1e-154 the squares of the oracle, which scales nothing here, vanish
    np.testing.assert_allclose(distance, own, rtol=1e-6 if recipe.dtype == "f4" else 1e-14, atol=1e-150)


@settings(max_examples=30)
@given(recipe=problems.recipes(dtypes=FLOATS, max_iter=3))
def test_transform_and_score_agree_with_the_oracle(backend, recipe):
    p = recipe.build()
    model = gpukmeans.KMeans(p.n_clusters, init=p.centers, n_init=1, max_iter=3, backend=backend)
    quiet_fit(model, p.X, sample_weight=p.sample_weight)
    s = naive.scale_exponent(p.X)
    D = naive.distances(naive.scaled_by(p.X, s), naive.scaled_by(model.cluster_centers_, s))
    with np.errstate(all="ignore"):
        expected = np.ldexp(np.sqrt(D), -s)
    reach = float(expected.max()) if expected.max() > 0 else 1.0
    np.testing.assert_allclose(model.transform(p.X), expected, rtol=1e-5, atol=1e-6 * min(reach, 1e300))
    if np.isfinite(model.inertia_):
        assert model.score(p.X, sample_weight=p.sample_weight) == pytest.approx(-model.inertia_, rel=1e-9)


def test_a_numpy_generator_is_taken_as_random_state(backend):
    p = Recipe(16, 300, 3, 5, dtype="f8").build()
    model = gpukmeans.KMeans(5, random_state=np.random.default_rng(3), backend=backend).fit(p.X)
    assert_same_fit(result_of(model), naive.fit_seeded(p.X, 5, np.random.default_rng(3)))
