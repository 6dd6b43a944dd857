"""Checks of small.cu: whole fits of many problems in one launch, from given and from drawn starts."""

import functools
import warnings
from typing import Any, NamedTuple

import numpy as np
import support
from problems import Recipe

import gpukmeans
import naive
from gpukmeans import exact


class Case(NamedTuple):
    """A problem, and how it is fitted; without `centers` it chooses its starts."""

    X: Any
    n_clusters: int
    weight: Any = None
    centers: Any = None


def _of(recipe: Recipe) -> Case:
    p = recipe.build()
    return Case(p.X, p.n_clusters, p.sample_weight, p.centers)


@functools.cache
def given(dtype: str) -> tuple[Case, ...]:
    """Problems with their starts: more rows, clusters, features than threads, those, warps; empty clusters; ties."""
    X = np.repeat(np.eye(4, 3), 5, axis=0).astype(dtype)  # rows that are equally far from their center
    recipes = (
        Recipe(1, 270, 5, 6, dtype=dtype, kind="blobs"),
        Recipe(2, 300, 1, 290, dtype=dtype, kind="uniform"),
        Recipe(3, 150, 6, 7, dtype=dtype, kind="duplicates", weights="zeros"),
        Recipe(4, 60, 9, 9, dtype=dtype, start="far", weights="random"),
        Recipe(5, 40, 2, 12, dtype=dtype, start="very far"),
        Recipe(5, 40, 3, 12, dtype=dtype, start="far", weights="zeros"),
        Recipe(6, 9, 2, 5, dtype=dtype, kind="constant", start="repeated rows"),
        Recipe(7, 90, 3, 11, dtype=dtype, kind="duplicates", start="repeated rows"),
        Recipe(8, 1, 1, 1, dtype=dtype),
        Recipe(9, 130, 3, 5, dtype=dtype, kind="scales", weights="powers"),
    )
    tied = Case(X, 7, None, np.r_[X[:1], np.full((6, 3), 50)].astype(dtype))
    # one row is far, and the other empty cluster takes one that is not
    rows = np.array([[-7], [0], [0], [0], [5]], dtype)
    one_far = Case(rows, 4, None, np.array([[-7], [0], [100], [200]], dtype))
    small = np.where(np.arange(20) % 3, 1, 2.0 ** (-141 if dtype == "f4" else -1060)) * np.arange(20)
    column = np.column_stack([small, np.arange(20), np.arange(20) * 2.0 ** (-100 if dtype == "f4" else -960)])
    column = column.astype(dtype)
    # the farthest row has no weight
    unweighted = Case(np.array([[0], [1], [9], [3]], dtype), 2, np.array([1.0, 1, 0, 1]), np.array([[0], [99]], dtype))
    return (*map(_of, recipes), tied, one_far, Case(column, 4, None, column[:4]), unweighted)


@functools.cache
def drawn(dtype: str) -> tuple[Case, ...]:
    """Problems without starts."""
    vanishing = np.column_stack([np.ones(40), np.arange(40) * (1e-25 if dtype == "f4" else 1e-170)]).astype(dtype)
    equal = np.array([[5.0], [1.0], [1.0], [1.0]], dtype=dtype)
    cases = [_of(Recipe(11, 270, 3, 5, dtype=dtype)), _of(Recipe(12, 140, 2, 9, dtype=dtype, weights="zeros"))]
    cases += [Case(vanishing, 6), Case(equal, 2, np.array([0.0, 1, 1, 1]))]
    cases += [_of(Recipe(14, 129, 4, 4, dtype=dtype, kind="grid"))]
    cases += [Case(np.repeat(np.array([[0], [1], [-1]], dtype), 9, axis=0), 2)] * 6  # trials that are equally good
    cases += [_of(Recipe(0, 30, 2, 3, dtype=dtype, kind="blobs"))] * 5  # starts that end in the same clusters
    return tuple(case._replace(centers=None) for case in cases)


def assert_fits(cases: Any, expected: Any, **options: Any) -> None:
    """All cases, in one launch."""
    weights = [case.weight for case in cases]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        got = gpukmeans.kmeans_batch(
            [case.X for case in cases], [case.n_clusters for case in cases], sample_weight=weights, backend="cupy",
            **options,
        )  # fmt: skip
    for centers, labels, inertia, n_iter, fit in zip(*got, expected, strict=True):
        support.assert_same_fit(naive.Fit(labels, centers, inertia, n_iter), fit)


@functools.cache
def from_given(dtype: str, tol: float, max_iter: int) -> tuple[naive.Fit, ...]:
    """The oracle's fits."""
    return tuple(naive.fit(c.X, c.centers, sample_weight=c.weight, tol=tol, max_iter=max_iter) for c in given(dtype))


@functools.cache
def from_drawn(dtype: str, init: str, n_init: int, max_iter: int) -> tuple[naive.Fit, ...]:
    """The oracle's fits."""
    options: dict[str, Any] = {"init": init, "n_init": n_init, "max_iter": max_iter, "tol": 0.0}
    return tuple(
        naive.fit_seeded(c.X, c.n_clusters, np.random.RandomState(i), sample_weight=c.weight, **options)
        for i, c in enumerate(drawn(dtype))
    )


@functools.cache
def about_a_threshold(dtype: str) -> tuple[Any, ...]:
    """Two cases, values of `tol` of which some end them after an iteration and some do not, and the oracle's fits."""
    found = []
    for recipe in (Recipe(21, 50, 3, 4, dtype=dtype, offset=-3.0), Recipe(22, 300, 1, 290, dtype=dtype, offset=2.0)):
        case = _of(recipe)
        after = naive.fit(case.X, case.centers, tol=0.0, max_iter=1).centers
        shift = exact.shift_sq(after.astype(np.float64), case.centers.astype(np.float64))
        near = shift / float(np.var(case.X.astype(np.float64), axis=0).mean())
        tols = near * (1 + np.arange(-12, 13) * 2.0**-52)
        fits = [naive.fit(case.X, case.centers, tol=float(tol), max_iter=2) for tol in tols]
        assert {fit.n_iter for fit in fits} == {1, 2}, "no value is at the border"
        found.append((case, tols, fits))
    return tuple(found)


def check_small(dtypes: Any = ("f8",)) -> None:
    """Fits that converge, end within some iterations, or end where the centers move as little as the threshold says."""
    for dtype in dtypes:
        starts = [case.centers for case in given(dtype)]
        for tol, max_iter in ((0.0, 60), (1e-2, 2)):
            assert_fits(given(dtype), from_given(dtype, tol, max_iter), init=starts, tol=tol, max_iter=max_iter)
        for case, tols, fits in about_a_threshold(dtype):
            for tol, fit in zip(tols, fits, strict=True):
                assert_fits([case], [fit], init=[case.centers], tol=float(tol), max_iter=2)
        seeds = list(range(len(drawn(dtype))))
        for options in (("k-means++", 1, 20), ("k-means++", 3, 1), ("random", 4, 1)):
            init, n_init, max_iter = options
            expected = from_drawn(dtype, *options)
            assert_fits(
                drawn(dtype), expected, init=init, n_init=n_init, max_iter=max_iter, tol=0.0, random_state=seeds
            )
