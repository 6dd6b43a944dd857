"""Fixtures: the backends, and hypothesis's settings."""

import os
import signal

import pytest
import support
from hypothesis import HealthCheck, settings

import gpukmeans

BACKENDS = ("numpy", "numba")

# A job in the background starts with Ctrl-C ignored, and Python then leaves it so: tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile(
    "gpukmeans",
    deadline=None,
    max_examples=25,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("gpukmeans")


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request):
    """The name of each backend; one that does not work here skips, unless GPUKMEANS_REQUIRE names it."""
    reason = gpukmeans.available_backends().get(request.param, "it is not in the registry")
    if reason is not None:
        support.missing(request.param, f"backend {request.param!r}: {reason}")
    return request.param


@pytest.fixture(scope="session")
def numba_backend():
    """The name "numba", for tests of what only that backend has."""
    reason = gpukmeans.available_backends()["numba"]
    if reason is not None:
        support.missing("numba", f"backend 'numba': {reason}")
    return "numba"
