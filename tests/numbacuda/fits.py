"""Whole fits of the backend numba-cuda in Numba's simulator against the oracle; blocks and tiles of a few threads.

Needs a process of its own with NUMBA_ENABLE_CUDASIM=1. Prints a line of JSON for each check: its name and what failed.
"""

import json
import sys
import traceback

import numpy as np
import pytest
import scipy.sparse as sp
import simulator
from numba import cuda
from problems import Recipe
from support import assert_same_array, assert_same_fit, quiet_fit, result_of

import gpukmeans
import naive
from gpukmeans import KMeans, metrics
from gpukmeans.arrays import is_numba, to_host
from gpukmeans.backends import Work, _cuda_rows, _numba_cuda, get_backend

NAME = "numba-cuda"
CHECKS = {}


def check(function):
    CHECKS[function.__name__] = function
    return function


def shrink(threads=8, side=2, depth=2):
    """The simulator starts a thread for each one of CUDA: small blocks, which also make small data cross borders."""
    for module in [m for name, m in sys.modules.items() if name.startswith("gpukmeans.backends._numba_cuda")]:
        if hasattr(module, "MAX_THREADS"):
            module.MAX_THREADS = threads
        if hasattr(module, "SIDE"):
            module.SIDE, module.ROWS, module.DEPTH, module.PITCH = side, 4 * side, depth, 4 * side + 1


def same(recipe, max_iter=2, convert=None):
    """A fit has the bits of the oracle."""
    p = recipe.build()
    X = p.X if convert is None else convert(p.X)
    parameters = {"init": p.centers, "n_init": 1, "max_iter": max_iter, "tol": 0}
    model = quiet_fit(KMeans(p.n_clusters, backend=NAME, **parameters), X, sample_weight=p.sample_weight)
    got = result_of(model)._replace(labels=to_host(model.labels_), centers=to_host(model.cluster_centers_))
    assert_same_fit(got, naive.fit(p.X, p.centers, sample_weight=p.sample_weight, max_iter=max_iter, tol=0))
    return model, p


@check
def a_fit_of_few_features_has_the_oracles_bits():
    same(Recipe(0, 37, 3, 5, dtype="f4", weights="random"))
    same(Recipe(1, 19, 1, 19, dtype="f8"))


@check
def a_fit_of_many_features_has_the_oracles_bits():
    same(Recipe(2, 21, 18, 9, dtype="f4"))
    same(Recipe(3, 17, 21, 8, dtype="f8", weights="zeros"))


@check
def ties_and_empty_clusters_have_the_oracles_bits():
    same(Recipe(4, 30, 2, 6, dtype="f4", kind="grid"))
    same(Recipe(5, 24, 2, 5, dtype="f8", kind="duplicates", start="repeated rows"), max_iter=3)


@check
def scaled_data_has_the_oracles_bits():
    same(Recipe(6, 15, 2, 3, dtype="f4", scale=1e19))
    same(Recipe(7, 15, 2, 3, dtype="f8", scale=1e-300), convert=cuda.to_device)


@check
def streamed_rows_have_the_oracles_bits():
    shrunk, stage = _cuda_rows.PASS_ROWS, _cuda_rows.STAGE_BYTES
    _cuda_rows.PASS_ROWS, _cuda_rows.STAGE_BYTES = 8, 1 << 20
    reside = _cuda_rows.CudaRows._reside
    _cuda_rows.CudaRows._reside = lambda self: None
    try:
        same(Recipe(8, 29, 3, 4, dtype="f4", weights="integer"))
    finally:
        _cuda_rows.PASS_ROWS, _cuda_rows.STAGE_BYTES, _cuda_rows.CudaRows._reside = shrunk, stage, reside


@check
def sparse_rows_have_the_oracles_bits():
    same(Recipe(9, 23, 4, 3, dtype="f8"), convert=sp.csr_array)


@check
def the_other_verbs_have_the_bits_of_numpy():
    for dtype in ("f4", "f8"):
        model, p = same(Recipe(10, 26, 3, 4, dtype=dtype), max_iter=1)
        rows = np.random.default_rng(0).normal(size=(11, 3)).astype(dtype)
        got = model.predict(rows), model.transform(rows), np.float64(model.score(rows))
        model.set_params(backend="numpy")
        for a, b in zip(got, (model.predict(rows), model.transform(rows), np.float64(model.score(rows))), strict=True):
            assert_same_array(a, b)
        w = np.random.default_rng(1).integers(0, 3, 26).astype(float)
        seeds = [
            gpukmeans.kmeans_plusplus(p.X, 4, random_state=0, sample_weight=w, backend=b)[1] for b in (NAME, "numpy")
        ]
        assert_same_array(*seeds)


@check
def results_come_back_in_kind():
    model, p = same(Recipe(11, 20, 2, 3, dtype="f4"), convert=cuda.to_device)
    given = cuda.to_device(p.X)
    assert all(is_numba(a) for a in (model.labels_, model.cluster_centers_, model.predict(given)))
    assert isinstance(model.predict(p.X), np.ndarray)
    model, p = same(Recipe(12, 20, 2, 3, dtype="i4"), convert=cuda.to_device)
    assert model.cluster_centers_.dtype == np.float64


@check
def functions_and_several_runs_work_on_the_card():
    X, Y = Recipe(14, 14, 2, 3, dtype="f8").build().X, Recipe(15, 4, 2, 3, dtype="f8").build().X
    got = gpukmeans.pairwise_distances_argmin_min(cuda.to_device(X), Y, backend=NAME)
    for a, b in zip(got, gpukmeans.pairwise_distances_argmin_min(X, Y, backend="numpy"), strict=True):
        assert is_numba(a)
        assert_same_array(to_host(a), b)
    got = metrics.simplified_silhouette_samples(cuda.to_device(X), Y, backend=NAME)
    assert_same_array(got, metrics.simplified_silhouette_samples(X, Y, backend="numpy"))
    score = metrics.silhouette_score(cuda.to_device(X), np.arange(14) % 3, backend=NAME)
    assert score == metrics.silhouette_score(X, np.arange(14) % 3, backend="numpy")
    parameters = {"init": "random", "n_init": 2, "max_iter": 2, "random_state": 0}
    runs = [
        quiet_fit(KMeans(3, backend=b, **parameters), data) for b, data in ((NAME, cuda.to_device(X)), ("numpy", X))
    ]
    assert_same_array(to_host(runs[0].labels_), runs[1].labels_)


@check
def mini_batches_have_the_bits_of_numpy():
    X, parameters = Recipe(16, 30, 2, 3, dtype="f8").build().X, {"batch_size": 10, "max_iter": 1, "random_state": 0}
    runs = [
        gpukmeans.MiniBatchKMeans(3, backend=b, **parameters).fit(data).partial_fit(data)
        for b, data in ((NAME, cuda.to_device(X)), ("numpy", X))
    ]
    assert is_numba(runs[0].cluster_centers_)
    assert_same_array(to_host(runs[0].cluster_centers_), runs[1].cluster_centers_)
    assert_same_array(to_host(runs[0].labels_), runs[1].labels_)


@check
def bad_values_on_the_card_are_named():
    X = Recipe(13, 12, 2, 2, dtype="f4").build().X.copy()
    X[7, 1] = np.nan
    with pytest.raises(ValueError, match="row 7, column 1"):
        KMeans(2, backend=NAME).fit(cuda.to_device(X))


@check
def auto_picks_it_where_cupy_cannot_be_used():
    assert gpukmeans.available_backends()["cupy"] is not None
    assert get_backend("auto", work=Work(1_000_000, 64, 1000, 4, 20, on_device=False)).name == NAME
    assert get_backend("auto", work=Work(100, 2, 3, 4, 20, on_device=False)).name == "numba"


if __name__ == "__main__":
    assert _numba_cuda.MAX_THREADS
    simulator.mend()
    shrink()
    for name, function in CHECKS.items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        try:
            function()
            failure = None
        except Exception:
            failure = traceback.format_exc()
        print(json.dumps([name, failure]), flush=True)
