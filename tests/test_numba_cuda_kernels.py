"""The Numba-CUDA kernels: what they do, in Numba's simulator, and what the compiler makes of them. No GPU is needed.

Both need processes of their own (a simulator cannot be switched on later): two at a time, started at the first test.
"""

import functools
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest
import support

pytestmark = pytest.mark.extra

HERE = Path(__file__).parent
PROGRAMS = HERE / "numbacuda"  # not numba_cuda: that would be found where numba-cuda is not installed
ARCHITECTURES = (75, 80, 90, 100, 120)
"""One process compiles for all: after the first one it goes faster."""
OF_EACH_TYPE = (
    *("publish", "assign", "cut", "recheck", "sums", "recenter"),
    *("inertia", "transform", "scale", "summary", "seed"),
)
CHECKS = [f"{check}[{dtype}]" for check in OF_EACH_TYPE for dtype in ("float32", "float64")]
CHECKS += ["bound", "overflow", "small_moves", "state", "halted", "farthest"]


def run(program, *args, **variables):
    """What one of the programs prints."""
    path = os.pathsep.join([str(HERE), str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, str(PROGRAMS / program), *map(str, args)]
    environment = {**os.environ, "PYTHONPATH": path, **variables}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def results():
    """By the name of one of the programs, a function that waits for what it prints."""
    if find_spec("numba_cuda") is None:
        support.missing("numba-cuda", "numba-cuda is not installed")
    with ThreadPoolExecutor(2) as pool:
        jobs = {"simulation": pool.submit(run, "simulation.py", NUMBA_ENABLE_CUDASIM="1")}
        jobs["compilation"] = pool.submit(run, "compilation.py", *ARCHITECTURES, NUMBA_ENABLE_CUDASIM="0")
        yield functools.cache(lambda job: [json.loads(line) for line in jobs[job].result().splitlines()])


@pytest.fixture(params=ARCHITECTURES)
def code(request, results):
    """By instance, what is in the code for one architecture."""
    return results("compilation")[ARCHITECTURES.index(request.param)]


def with_(code, pattern, but=()):
    """Instances in whose PTX something occurs."""
    return [name for name, found in code.items() if found["ptx"][pattern] and name.split()[0] not in ("control", *but)]


# ---- what the kernels do -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("check", CHECKS)
def test_simulated(check, results):
    errors = {line["check"]: line["error"] for line in results("simulation")}
    assert list(errors) == CHECKS
    assert errors[check] is None, errors[check]


# ---- what the compiler makes of them ----------------------------------------------------------------------------
def test_every_kernel_is_compiled(code):
    names = {name.split()[0] for name in code}
    text = (HERE.parent / "gpukmeans" / "backends" / "_numba_cuda_kernels.py").read_text()
    listed = set(re.findall(r'^    "(\w+)": \w+,$', text, re.MULTILINE))
    assert len(listed) == 25
    assert names - {"control", "assign"} == listed - {"assign_tiled", "assign_small"}


def test_nothing_is_contracted(code):
    """One operation of float64 is rounded after the other; `bound_terms` decides no bits."""
    assert with_(code, "fma64", but=["bound_terms"]) == []
    assert code["control"]["ptx"]["fma64"] > 0, "a plain expression would be"


def test_nothing_is_flushed_or_approximate(code):
    assert with_(code, "ftz") == []
    assert with_(code, "approximate") == []
    for name in ("recheck", "own_distance", "transform", "move_rows", "recenter"):
        assert code[f"{name} float32"]["ptx"]["to64"] > 0


def test_fast_pass_is_in_float32(code):
    assert code["assign float32"]["ptx"]["arithmetic64"] == 0
    for dtype in ("float32", "float64"):
        assert code[f"assign {dtype}"]["ptx"]["fma32"] >= 16
        assert code[f"recheck {dtype}"]["ptx"]["fma32"] >= 1


def test_nothing_is_called_or_kept_in_memory(code):
    for pattern in ("extern", "calls", "local"):
        assert with_(code, pattern) == [], pattern


def test_assembled_without_spills(code):
    if code["control"]["log"] is None:
        support.missing("numba-cuda", "there is no ptxas")
    for name, found in code.items():
        assert "exit status 0" in found["log"], f"{name}: {found['log']}"
        expected = "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads"
        assert set(re.findall(r"\d+ bytes stack frame.*", found["log"])) == {expected}, name
        assert int(re.search(r"Used (\d+) registers", found["log"])[1]) * 256 <= 65536, name
