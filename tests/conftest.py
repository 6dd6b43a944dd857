"""Fixtures: the backends, and hypothesis's settings."""

import os
import signal
import sys
from contextlib import ExitStack
from importlib.metadata import distributions
from types import SimpleNamespace

import pytest
import support
from hypothesis import HealthCheck, settings

import gpukmeans
from gpukmeans.backends import _cuda, _threads

BACKENDS = ("numpy", "numba", pytest.param("cupy", marks=pytest.mark.gpu))

os.environ["MPLBACKEND"] = "agg"  # figures go to files, whatever screen there is

# A job in the background starts with Ctrl-C ignored, and Python then leaves it so: tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

_threads.WORTH_A_THREAD = 1 << 10  # the problems of the tests are small, and are to be worked on by threads too

# Every test with the stand-in for CuPy looks anew at what is installed, which would take longer than many a test.
_installed = [SimpleNamespace(metadata={"Name": d.metadata["Name"]}) for d in distributions()]
_cuda.distributions = lambda: _installed

settings.register_profile(
    "gpukmeans",
    deadline=None,
    max_examples=25,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
settings.load_profile("gpukmeans")


LONG = ["mutants", "exact_fit", "cupy", "seeding", "tensor_cores", "kernels", "compiled", "numba_cuda_kernels"]
LONG += ["verify", "threads", "packaging", "dask"]
"""Files that take half a minute or more, the longest first: begun last, one of them would keep a worker waiting."""


def pytest_collection_modifyitems(items):
    order = {f"test_{name}.py": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    support.running = item


@pytest.fixture(autouse=True)
def _no_figure_is_left():
    """Figures that a test, or an example, has left; matplotlib warns of many."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(params=BACKENDS)
def backend(request):
    """The name of each backend; one that does not work here skips, unless GPUKMEANS_REQUIRE names it.

    Without a card "cupy" is the backend's own code on the stand-in of tests/simt, which runs its kernels on the CPU;
    GPUKMEANS_REQUIRE=cupy asks for a real one.
    """
    with ExitStack() as stack:
        if request.param == "cupy" and not support.has_card() and not support.is_required("cupy"):
            stack.enter_context(support.standin_cupy())
        yield _working(request.param)


@pytest.fixture(scope="session")
def numba_backend():
    """The name "numba", for tests of what only that backend has."""
    return _working("numba")


def _working(name):
    reason = gpukmeans.available_backends().get(name, "it is not in the registry")
    if reason is not None:
        support.missing(name, f"backend {name!r}: {reason}")
    return name
