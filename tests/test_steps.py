"""Lloyd's algorithm in half-steps: each is what NumPy says of its own, and the last has the bits of a fit."""

import numpy as np
import pytest
import scipy.sparse as sp
from problems import Recipe
from support import assert_same_array, assert_same_fit, call, quiet_fit, result_of

import gpukmeans
import naive


def steps_of(p, backend="numpy", **parameters):
    options = {"sample_weight": p.sample_weight, "tol": p.tol, "max_iter": p.max_iter} | parameters
    return list(call(backend, gpukmeans.lloyd_steps, p.X, p.centers, **options))


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(0, 1, 1, 1),
        Recipe(1, 50, 3, 50, kind="grid", dtype="f8"),
        Recipe(2, 150, 4, 20, start="far", weights="zeros"),  # empty clusters
        Recipe(3, 150, 5, 9, kind="blobs", weights="random", tol=1e-2),
        Recipe(4, 150, 2, 6, dtype="f8", scale=1e300, max_iter=3),
        Recipe(7, 40, 2, 5, dtype="f8", scale=1e-310),  # subnormal
    ],
)
def test_the_last_step_has_the_bits_of_a_fit(backend, recipe):
    p = recipe.build()
    last = steps_of(p, backend)[-1]
    model = gpukmeans.KMeans(
        p.n_clusters, init=p.centers, n_init=1, tol=p.tol, max_iter=p.max_iter, backend=backend, algorithm="lloyd"
    )
    expected = result_of(quiet_fit(model, p.X, sample_weight=p.sample_weight))
    assert_same_fit(naive.Fit(*last, expected.n_iter), expected)


@pytest.mark.parametrize("recipe", [Recipe(3, 200, 3, 7, dtype="f8"), Recipe(4, 150, 2, 5, dtype="f4", max_iter=3)])
def test_every_step_follows_from_the_one_before(backend, recipe):
    p = recipe.build()
    steps = steps_of(p, backend)
    assert len(steps) % 2 == 1
    assert_same_array(steps[0].centers, p.centers)
    for i, (labels, centers, inertia) in enumerate(steps):
        sq = ((p.X[:, None].astype(float) - centers.astype(float)) ** 2).sum(axis=2)
        assert inertia == pytest.approx(sq[np.arange(len(labels)), labels].sum())
        if i % 2 == 0:
            assert np.array_equal(labels, sq.argmin(axis=1))
            assert i == 0 or np.array_equal(centers, steps[i - 1].centers)
        else:
            assert np.array_equal(labels, steps[i - 1].labels)
            means = [p.X[labels == k].mean(axis=0) for k in range(len(centers))]
            np.testing.assert_allclose(centers, means, rtol=1e-5)
    assert (np.diff([step.inertia for step in steps]) <= 0).all()


def test_they_stop_when_nothing_changes():
    X, start = np.array([[0.0], [1.0], [5.0], [6.0]]), [[0.0], [1.0]]
    steps = list(gpukmeans.lloyd_steps(X, start))
    assert [labels.tolist() for labels, _, _ in steps] == [[0, 1, 1, 1]] * 2 + [[0, 0, 1, 1]] * 3
    assert [centers.ravel().tolist() for _, centers, _ in steps] == [[0, 1], [0, 4], [0, 4], [0.5, 5.5], [0.5, 5.5]]
    assert [inertia for _, _, inertia in steps] == [41, 14, 6, 1, 1]
    assert [len(list(gpukmeans.lloyd_steps(X, start, max_iter=n))) for n in (1, 2, 3)] == [3, 5, 5]


def test_sparse_rows_give_the_steps_of_dense_ones(backend):
    p = Recipe(5, 120, 6, 4, kind="grid", dtype="f8").build()
    dense, sparse = steps_of(p, backend), steps_of(p._replace(X=sp.csr_array(p.X)), backend)
    assert len(dense) == len(sparse)
    for one, other in zip(dense, sparse, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("X", "centers", "parameters", "complaint"),
    [
        ([[0.0], [np.nan]], [[0.0]], {}, "Input X contains NaN: row 1, column 0 is nan"),
        ([[0.0], [1.0]], [[0.0], [np.inf]], {}, "Input centers contains infinity: row 1, column 0 is inf"),
        ([[0.0], [1.0]], [[0.0, 1.0]], {}, "does not match the number of features of the data 1"),
        ([[0.0], [1.0]], [[0.0], [1.0], [2.0]], {}, "n_samples=2 should be >= n_clusters=3"),
        ([[0.0], [1.0]], [[0.0]], {"max_iter": 0}, "'max_iter' parameter of lloyd_steps"),
        ([[0.0], [1.0]], [[0.0]], {"tol": -1.0}, "'tol' parameter of lloyd_steps"),
        ([[0.0], [1.0]], [[0.0]], {"backend": "nunba"}, "Did you mean 'numba'?"),
        ([[0.0], [1.0]], [[0.0]], {"sample_weight": [1.0, -1.0]}, "Negative values in sample_weight: row 1"),
    ],
)
def test_bad_input_is_refused_at_the_call(X, centers, parameters, complaint):
    with pytest.raises(ValueError, match=complaint.replace("?", r"\?")):
        gpukmeans.lloyd_steps(X, centers, **parameters)
