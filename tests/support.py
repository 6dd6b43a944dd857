"""What several test modules share: running a fit, comparing bits, asking for optional libraries."""

import importlib
import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import naive


def missing(name: str, reason: str) -> NoReturn:
    """Skip the running test; fail instead if the environment variable GPUKMEANS_REQUIRE (a,b,c) names it."""
    required = os.environ.get("GPUKMEANS_REQUIRE", "").split(",")
    if name in (entry.strip() for entry in required):
        pytest.fail(f"required by GPUKMEANS_REQUIRE: {reason}")
    pytest.skip(reason)


def optional(name: str) -> ModuleType:
    """An optional library, or a skip (a failure if GPUKMEANS_REQUIRE names it)."""
    try:
        return importlib.import_module(name)
    except ImportError:
        missing(name, f"{name} is not installed")


def threads(n: int) -> AbstractContextManager[None]:
    """Limit the CPU backend to n worker threads."""
    from gpukmeans.backends import _threads

    return _threads.limit(n)


def quiet_fit(model: Any, X: Any, **options: Any) -> Any:
    """Fit without the warnings that duplicate data and empty clusters rightly give."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, **options)


def result_of(model: Any) -> naive.Fit:
    """The fitted attributes in the oracle's form."""
    return naive.Fit(model.labels_, model.cluster_centers_, model.inertia_, model.n_iter_)


def run(X: Any, centers: Any, *, sample_weight: Any = None, n_threads: int = 2, **parameters: Any) -> naive.Fit:
    """A fit of gpukmeans from given centers."""
    import gpukmeans

    model = gpukmeans.KMeans(len(centers), init=centers, n_init=1, **parameters)
    with threads(n_threads):
        quiet_fit(model, X, sample_weight=sample_weight)
    return result_of(model)


def bits(a: Any) -> np.ndarray:
    """The bits of a float array as integers (so that a NaN is equal to itself and -0.0 is not 0.0)."""
    a = np.ascontiguousarray(a)
    return a.view(f"u{a.itemsize}")


def assert_same_array(got: Any, expected: Any, what: str = "array") -> None:
    """Equal dtype, shape and bits."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.dtype == expected.dtype, f"{what}: dtype {got.dtype}, expected {expected.dtype}"
    assert got.shape == expected.shape, f"{what}: shape {got.shape}, expected {expected.shape}"
    different = np.argwhere(bits(got) != bits(expected))
    if len(different):
        at = tuple(different[0].tolist())
        first = f"first at {at}: {got[at]!r}, expected {expected[at]!r}"
        pytest.fail(f"{what}: {len(different)} of {got.size} differ, {first}")


def assert_same_fit(got: naive.Fit, expected: naive.Fit) -> None:
    """Equal bits of labels, centers, inertia and n_iter."""
    assert got.n_iter == expected.n_iter
    assert_same_array(got.labels, expected.labels, "labels")
    assert_same_array(got.centers, expected.centers, "centers")
    assert float(got.inertia).hex() == float(expected.inertia).hex(), "inertia"


@contextmanager
def blocks_of(size: int) -> Iterator[None]:
    """Shrink every block, chunk and share of work to about `size` values, so that small data crosses all borders."""
    from gpukmeans import prepare
    from gpukmeans.backends import _numba, _numpy

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "SPARSE_BLOCK_VALUES", size)
        patch.setattr(_numpy, "BLOCK_VALUES", size)
        patch.setattr(_numba, "WORTH_A_THREAD", size)
        patch.setattr(_numba.NumbaBackend, "_chunk_rows", staticmethod(lambda n_samples: max(1, min(size, n_samples))))
        yield
