"""The backend numba-cuda: whole fits in Numba's simulator, and when it is used. No GPU is needed."""

import itertools
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest
import support

from gpukmeans.backends import _numba_cuda_needs

pytestmark = pytest.mark.extra

HERE = Path(__file__).parent
PROGRAM = HERE / "numbacuda" / "fits.py"
CHECKS = [line.split("(")[0][4:] for line in PROGRAM.read_text().split("@check\n")[1:]]
"""Names of the functions that stand under @check."""


@pytest.fixture(scope="module")
def results():
    """By the name of a check, None or what failed; a simulator needs a process of its own."""
    if find_spec("numba_cuda") is None:
        support.missing("numba-cuda", "numba-cuda is not installed")
    path = os.pathsep.join([str(HERE), str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "NUMBA_ENABLE_CUDASIM": "1"}

    def run(names):
        command = [sys.executable, str(PROGRAM), *names]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    with ThreadPoolExecutor(2) as pool:
        return dict(itertools.chain(*pool.map(run, (CHECKS[::2], CHECKS[1::2]))))


@pytest.mark.parametrize("name", CHECKS)
def test_in_the_simulator(results, name):
    assert results[name] is None, results[name]


def test_all_checks_are_asked_for():
    assert len(CHECKS) >= 10
    assert all(name.isidentifier() for name in CHECKS)


def test_the_blocks_as_shipped_fit_their_shared_memory():
    if find_spec("numba_cuda") is None:
        support.missing("numba-cuda", "numba-cuda is not installed")
    from gpukmeans.backends import _numba_cuda_assign as tiles

    assert tiles.SIDE**2 <= tiles.MAX_THREADS
    assert tiles.ROWS == 4 * tiles.SIDE


@pytest.fixture
def needs():
    """What is missing here, looked at anew."""
    _numba_cuda_needs.examine.cache_clear()
    yield _numba_cuda_needs.why_unavailable
    _numba_cuda_needs.examine.cache_clear()


def test_without_the_package_it_says_what_to_install(needs, monkeypatch):
    monkeypatch.setattr(_numba_cuda_needs, "find_spec", lambda name: None)
    assert "numba-cuda is not installed" in needs()
    assert "gpukmeans[cuda12]" in needs()


def test_without_a_driver_or_a_card_it_says_so(needs):
    if find_spec("numba_cuda") is None:
        support.missing("numba-cuda", "numba-cuda is not installed")
    reason = needs()
    assert reason is None or "driver" in reason or "card" in reason


def test_a_wrong_number_of_a_card_is_said(needs, monkeypatch):
    monkeypatch.setenv("GPUKMEANS_DEVICE", "first")
    assert "GPUKMEANS_DEVICE='first'" in needs()
