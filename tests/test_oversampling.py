"""k-means||: the oracle's rows, for every backend, every division into blocks, and every weight."""

from itertools import pairwise

import numpy as np
import problems
import pytest
import scipy.sparse as sp
from hypothesis import example, given, settings
from problems import Recipe
from support import assert_same_array, assert_same_fit, blocks_of, quiet_fit, result_of, threads

import naive
from gpukmeans import KMeans, MiniBatchKMeans, oversampling, seeding
from gpukmeans.backends import get_backend
from gpukmeans.datasets import make_blobs
from gpukmeans.prepare import prepare

SMALL = problems.recipes(max_n=120, dtypes=("f4", "f8", "i4"))


def drawn_rows(X, n_clusters, rng, weight):
    """Rows that k-means|| chooses, on data that is already scaled, and what was left to k-means++."""
    n, bits = len(X), naive.limb_bits(len(X))
    e_weight = naive.exponent(float(weight.max()), bits)
    high, low = naive.high_limb(weight, e_weight), naive.low_limb(weight, e_weight, bits)
    candidates = [naive.first_above(np.cumsum(high), float(rng.uniform()))]
    draw = rng.integers if isinstance(rng, np.random.Generator) else rng.randint
    key = draw(0, 2**63, 2, dtype=np.int64).astype(np.uint64)
    for number in range(21):
        D = naive.distances(X, X[candidates])
        own = naive.nearest(D)
        y = weight * D[np.arange(n), own]
        potentials = naive.high_limb(y, naive.exponent(float(y.max()), bits))
        total = int(potentials.sum())
        weights = [
            naive.total(high[own == c].sum(), low[own == c].sum(), bits) * 2.0**-e_weight
            for c in range(len(candidates))
        ]
        enough = np.count_nonzero(weights) >= n_clusters
        if total == 0 or (number >= 5 and enough):
            break
        words = np.random.Philox(key=key, counter=[0, 0, number, 0]).random_raw(n).tolist()
        u = [(word >> 11) * 2.0**-53 for word in words]
        candidates += [i for i in range(n) if u[i] * float(total) < 2 * n_clusters * float(potentials[i])]
    if total > 0 and not enough:
        return naive.plus_plus(X, n_clusters, rng, weight, None), "all rows"
    chosen = naive.plus_plus(X[candidates], n_clusters, rng, np.array(weights), None)
    return [candidates[c] for c in chosen], "candidates"


def oracle(p, rng, max_iter):
    """A whole fit."""

    def init(X, n_clusters, random_state):
        scaled, weight, _, _ = naive.prepared(X, p.sample_weight)
        return X[drawn_rows(scaled, n_clusters, random_state, weight)[0]]

    options = {"init": init, "n_init": 1, "sample_weight": p.sample_weight, "max_iter": max_iter}
    return naive.fit_seeded(p.X, p.n_clusters, rng, **options)


@settings(max_examples=30)
@given(recipe=SMALL)
@example(recipe=Recipe(0, 1, 1, 1, dtype="f8"))
@example(recipe=Recipe(3, 60, 2, 20, kind="duplicates"))
@example(recipe=Recipe(4, 40, 2, 7, kind="constant", weights="zeros", dtype="f8"))
@example(recipe=Recipe(5, 80, 3, 6, scale=1e19, weights="extreme"))
@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_a_fit_has_the_bits_of_the_oracle(name, recipe):
    p = recipe.build()
    model = KMeans(p.n_clusters, init="k-means||", random_state=recipe.seed, max_iter=2, backend=name)
    quiet_fit(model, p.X, sample_weight=p.sample_weight)
    assert_same_fit(result_of(model), oracle(p, np.random.RandomState(recipe.seed), 2))


def test_every_backend_draws_the_rows_of_the_oracle(backend):
    p = Recipe(1, 200, 3, 8, dtype="f4", weights="zeros").build()
    model = KMeans(8, init="k-means||", random_state=np.random.default_rng(3), max_iter=2, backend=backend)
    quiet_fit(model, p.X, sample_weight=p.sample_weight)
    assert_same_fit(result_of(model), oracle(p, np.random.default_rng(3), 2))


def starts(X, n_clusters, sample_weight, *, name="numpy", borders=(), seed=0):
    """The start for rows divided into blocks."""
    backend = get_backend(name)
    data = prepare(backend, X, sample_weight, None)
    parts = pairwise([0, *borders, X.shape[0]])
    weighted = data.blocks[0].sample_weight
    blocks = [backend.rows(X[low:high], None if weighted is None else weighted[low:high], low) for low, high in parts]
    rng = np.random.RandomState(seed)
    return oversampling.kmeans_parallel(backend, blocks, n_clusters, rng, data.encoding)


@pytest.mark.parametrize("name", ["numpy", "numba"])
@pytest.mark.parametrize("weights", [None, "random"])
def test_blocks_are_not_seen(name, weights, monkeypatch):
    p = Recipe(2, 500, 4, 9, dtype="f4", kind="blobs", weights=weights).build()
    centers, indices = starts(p.X, 9, p.sample_weight)
    for borders in [(1,), (3, 6, 250), range(50, 500, 50)]:
        with threads(2):
            got = starts(p.X, 9, p.sample_weight, name=name, borders=borders)
        assert_same_array(got[1], indices)
        assert_same_array(got[0], centers)
    monkeypatch.setattr(oversampling, "PART_ROWS", 7)
    assert_same_array(starts(p.X, 9, p.sample_weight, name=name, borders=(3,))[1], indices)


def test_sparse_rows_start_as_dense_ones(numba_backend):
    p = Recipe(2, 300, 4, 9, dtype="f8", kind="grid").build()
    options = {"init": "k-means||", "random_state": 0, "backend": numba_backend}
    dense = quiet_fit(KMeans(9, **options), p.X)
    with blocks_of(64):
        sparse = quiet_fit(KMeans(9, **options), sp.csr_array(p.X))
    assert_same_fit(result_of(sparse), result_of(dense))


def test_a_row_has_its_number_whatever_it_is_drawn_with():
    key = np.array([5, 7])
    whole = oversampling.uniforms(key, 3, 0, 100)
    assert len(np.unique(whole)) == 100
    assert whole.min() >= 0
    assert whole.max() < 1
    for start in range(9):
        assert_same_array(oversampling.uniforms(key, 3, start, 50), whole[start : start + 50])
    assert (oversampling.uniforms(key, 4, 0, 100) != whole).all()
    assert (oversampling.uniforms(key + 1, 3, 0, 100) != whole).all()


def test_a_row_of_weight_0_is_never_drawn(monkeypatch):
    p = Recipe(2, 400, 3, 8, dtype="f8", weights="zeros").build()
    drawn, take = [], seeding.take

    def spy(blocks, rows):
        if blocks[0].n_samples == len(p.X):  # not where k-means++ chooses among candidates
            drawn.extend(rows)
        return take(blocks, rows)

    monkeypatch.setattr(seeding, "take", spy)
    for seed in range(5):
        starts(p.X, 8, p.sample_weight, seed=seed)
    assert len(set(drawn)) > 100
    assert p.sample_weight.min() == 0
    assert p.sample_weight[drawn].min() > 0


def test_where_rounds_draw_too_few_rows_all_rows_are_asked():
    """Each round can draw but one of these rows: next to its own, the distances of the others are nothing."""
    X = 10.0 ** -(4.0 * np.arange(30))[:, None]
    seed = next(seed for seed in range(1000) if np.random.RandomState(seed).uniform() > 0.97)  # the last row is first
    for n_clusters, said in [(25, "all rows"), (12, "candidates")]:
        expected, of = drawn_rows(X, n_clusters, np.random.RandomState(seed), np.ones(30))
        assert of == said
        assert starts(X, n_clusters, None, seed=seed)[1].tolist() == expected


def test_a_start_is_no_worse_than_one_of_kmeans_plusplus(numba_backend):
    X, _ = make_blobs(5000, 8, centers=40, random_state=0)

    def inertia(init):
        fits = [KMeans(40, init=init, random_state=seed, backend=numba_backend).fit(X) for seed in range(6)]
        return np.mean([fit.inertia_ for fit in fits])

    assert inertia("k-means||") < 1.03 * inertia("k-means++")


@pytest.mark.parametrize("n_init", ["auto", 2])
def test_mini_batches_start_alike_on_every_backend(numba_backend, n_init):
    X, _ = make_blobs(2000, 4, centers=9, random_state=0)
    options = {"init": "k-means||", "n_init": n_init, "random_state": 0, "batch_size": 200, "max_iter": 3}
    one, other = (MiniBatchKMeans(9, backend=name, **options).fit(X) for name in ("numpy", numba_backend))
    assert_same_array(one.cluster_centers_, other.cluster_centers_)
    assert_same_array(one.labels_, other.labels_)


def test_several_starts_are_drawn_one_after_the_other(numba_backend):
    """The second start begins on rows that the first run has labelled."""
    p = Recipe(8, 200, 3, 7, dtype="f8").build()
    model = KMeans(7, init="k-means||", n_init=3, random_state=0, backend=numba_backend).fit(p.X)
    rng = np.random.RandomState(0)
    single = [oracle(p, rng, 300) for _ in range(3)]
    assert model.inertia_ == min(fit.inertia for fit in single)
