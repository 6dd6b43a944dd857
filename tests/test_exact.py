"""The parts of the arithmetic whose bits a fit shows only by when it stops, each against the oracle."""

import numpy as np
import problems
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import blocks_of

import gpukmeans
import naive
from gpukmeans import exact
from gpukmeans.backends import get_backend
from gpukmeans.prepare import mean_variance, prepare


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 9, 31, 32, 33, 100, 1000])
def test_the_tree_sum_adds_in_the_order_of_the_oracle(n):
    for seed in range(20):
        values = np.random.default_rng(seed).random(n) * 10.0 ** np.random.default_rng(seed).integers(-3, 4, n)
        assert exact.tree_sum(values) == naive.tree_sum(values)


@settings(max_examples=60)
@given(recipe=problems.recipes(dtypes=("f4", "f8"), scale=1.0), size=st.sampled_from([1, 64, 1 << 20]))
def test_the_variance_behind_tol_has_the_bits_of_the_oracle(backend, recipe, size):
    X = recipe.build().X
    device = get_backend(backend)
    with blocks_of(size):
        assert mean_variance(device, prepare(device, X, None, None)) == naive.mean_variance(X)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("exponent", [-120, -60, -43, -42, -41, -40, -39, 0, 38, 39, 40, 41, 42, 60, 120])
def test_the_model_keeps_the_scale_of_the_oracle(backend, dtype, exponent):
    X = np.ldexp(np.array([[-1.0], [0.5], [0.75]], dtype), exponent)
    model = gpukmeans.KMeans(1, random_state=0, backend=backend).fit(X)
    assert model._scale_exponent == naive.scale_exponent(X)


@given(recipe=problems.recipes(dtypes=("f4", "f8"), scale=1.0))
def test_the_canonical_distance_has_the_bits_of_the_oracle(recipe):
    p = recipe.build()
    D = exact.sq_distances(p.X[:, None], p.centers[None])
    assert (naive.distances(p.X, p.centers) == D).all()


@given(u=st.floats(0, 1, exclude_max=True), whole=st.integers(1, 2**62 - 1))
def test_the_drawn_number_is_below_the_total(u, whole):
    target = exact.sample_index(u, whole)
    assert 0 <= target < whole
    assert target == naive.first_target(u, whole)
