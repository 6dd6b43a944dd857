"""What several test modules share: running a fit, comparing bits, asking for optional libraries."""

import functools
import importlib
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import naive


def is_required(name: str) -> bool:
    """Whether the environment variable GPUKMEANS_REQUIRE (a,b,c) names it."""
    return name in (entry.strip() for entry in os.environ.get("GPUKMEANS_REQUIRE", "").split(","))


running: pytest.Item | None = None
"""The test that is set up or called; conftest.py says which."""

NOT_OF_AN_EXTRA = ("numpy", "numba", "pandas", "simt", "cupy")
"""What may be missing though no extra of the tests brings it: the README's command does, or it is the machine's."""


def missing(name: str, reason: str) -> NoReturn:
    """Skip the running test; fail instead if GPUKMEANS_REQUIRE names what is missing.

    A test that is skipped for want of an extra must be marked, because .ci/run runs only the marked ones again with it.
    """
    if is_required(name):
        pytest.fail(f"required by GPUKMEANS_REQUIRE: {reason}")
    if name not in NOT_OF_AN_EXTRA and running and not running.get_closest_marker("extra"):
        pytest.fail(f"{reason}, and this test is not marked with pytest.mark.extra: .ci/run would never run it")
    pytest.skip(reason)


def optional(name: str) -> ModuleType:
    """An optional library, or a skip (a failure if GPUKMEANS_REQUIRE names it)."""
    try:
        return importlib.import_module(name)
    except ImportError:
        missing(name, f"{name} is not installed")


@functools.cache
def has_card() -> bool:
    """Whether there is an NVIDIA card that the real CuPy can use."""
    from gpukmeans.backends import _cuda

    return _cuda.why_unavailable() is None


@contextmanager
def standin_cupy(**settings: Any) -> Iterator[Any]:
    """`import cupy` gives the stand-in of tests/simt; `settings` are those of its control, which is yielded."""
    from simt import build, standin

    from gpukmeans.backends import _cuda, _source

    if build.compiler() is None:
        missing("simt", "the stand-in for CuPy needs g++ on x86-64 Linux")

    def forget() -> None:
        """Modules and caches that know one cupy must not meet another."""
        _cuda.examine.cache_clear()
        _source.kernels.cache_clear()
        for name in [name for name in sys.modules if name.startswith("gpukmeans.backends._cupy")]:
            del sys.modules[name]
            delattr(sys.modules["gpukmeans.backends"], name.rpartition(".")[2])

    forget()
    standin.install()
    standin.control.reset(**settings)
    try:
        yield standin.control
    finally:
        standin.control.reset()
        standin.uninstall()
        forget()


def call(backend: str, function: Any, *args: Any, **options: Any) -> Any:
    """Call a function with a backend's name, in a process in which the stand-in may not have been installed yet."""
    from simt import standin

    is_ready = backend != "cupy" or has_card() or sys.modules.get("cupy") is standin.cupy
    with nullcontext() if is_ready else standin_cupy():
        return function(*args, backend=backend, **options)


def prelude(backend: str) -> str:
    """First line of a program for a process of its own, in which the backend must work as it does here."""
    if backend != "cupy" or has_card():
        return ""
    return "from simt import standin; standin.install()\n"


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


MOST_BLOCKS = 50
"""More of them cross no border that these do not cross, and take as much longer."""


@contextmanager
def blocks_of(size: int) -> Iterator[None]:
    """Shrink every block, chunk and share of work to about `size` values, so that small data crosses all borders."""
    from gpukmeans.backends import _cpu_seeding, _cuda_rows, _numpy, _threads, base

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "SPARSE_BLOCK_VALUES", size)
        patch.setattr(_numpy, "BLOCK_VALUES", size)
        patch.setattr(_threads, "WORTH_A_THREAD", size)
        patch.setattr(_cuda_rows, "PASS_ROWS", size)
        patch.setattr(_cuda_rows, "STAGE_BYTES", 8 * size)
        chunk_rows = staticmethod(lambda n_samples: max(1, min(size, n_samples)))
        patch.setattr(_cpu_seeding.Seeding, "_chunk_rows", chunk_rows)
        yield


SQUARE = 8
MEAN, LARGE = 3.0, 0.02
"""Of 255: the mean difference that is allowed. And the share of squares that may differ by more than 40."""


def coarse(pixels: Any) -> np.ndarray:
    """A picture as means over squares, in which versions of matplotlib hardly differ."""
    pixels = np.asarray(pixels)[:, :, :3].astype(float)
    height, width = (n // SQUARE * SQUARE for n in pixels.shape[:2])
    squares = pixels[:height, :width].reshape(height // SQUARE, SQUARE, width // SQUARE, SQUARE, 3)
    return squares.mean(axis=(1, 3)).round().astype(np.uint8)


def looks_like(picture: np.ndarray, other: np.ndarray, slack: float = 1) -> bool:
    """Whether two coarse pictures show the same."""
    if picture.shape != other.shape:
        return False
    apart = np.abs(picture.astype(float) - other)
    return bool(apart.mean() < slack * MEAN and (apart.max(axis=2) > 40).mean() < slack * LARGE)
