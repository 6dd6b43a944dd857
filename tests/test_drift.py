"""The stand-in and this package against the CuPy that is installed: names and parameters. It imports without a GPU.

The real CuPy is looked at in another process, because this one may have the stand-in installed.
"""

import ast
import importlib.util
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import support
from simt import standin

pytestmark = pytest.mark.extra

PACKAGE = Path(__file__).parents[1] / "gpukmeans"
DUNDERS = {"__array__", "__array_ufunc__", "__array_function__", "__cuda_array_interface__", "__cuda_stream__"}
DUNDERS |= {"__dlpack__", "__dlpack_device__", "__array_priority__"}
# For each dotted path on stdin: null if it does not exist, else its parameters (null where none can be read) as
# [name, whether it is for keywords only]. Cython's functions have their signature in the first line of the docstring.
LOOK = r"""
import inspect, json, re, sys
import cupy

def of_docstring(o):
    first = (o.__doc__ or "").strip().split("\n")[0]
    found = re.match(r"[\w.]+\((.*)\)\s*(?:->.*)?$", re.sub(r"=\(\)|='[^']*'", "=", first).replace("\\", ""))
    if not found:
        return None
    out, keyword = [], False
    for part in (p.strip() for p in found.group(1).split(",")):
        if part in ("*", "/"):
            keyword = keyword or part == "*"
        elif part:
            keyword = keyword or part.startswith("*")
            out.append([re.sub(r"[=:].*", "", part).split()[-1].lstrip("*"), keyword and not part.startswith("*")])
    return out

def parameters(o):
    try:
        ps = list(inspect.signature(o).parameters.values())
    except (ValueError, TypeError):
        return of_docstring(o)
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in ps):
        return of_docstring(o) or [[p.name, p.kind is p.KEYWORD_ONLY] for p in ps]
    return [[p.name, p.kind is p.KEYWORD_ONLY] for p in ps]

def look(path):
    o = cupy
    for name in path.split(".")[1:]:
        try:
            o = getattr(o, name)
        except AttributeError:
            return None
    return {"parameters": parameters(o) if callable(o) else None}

paths = json.load(sys.stdin)
answers = {path: look(path) for path in paths}
r = cupy.cuda.runtime
json.dump({
    "version": cupy.__version__, "paths": answers,
    "attributes": [n[11:] for n in dir(r) if n.startswith("cudaDevAttr")],
    "errors": {s: str(r.CUDARuntimeError(s)) for s in json.loads(sys.argv[1])},
    "out of memory": [str(cupy.cuda.memory.OutOfMemoryError(*a)) for a in ((1024, 2000000), (1, 2, 3))],
}, sys.stdout)
"""


def callables(root: Any = standin.cupy, path: str = "cupy") -> dict[str, Any]:
    """Every public name of the stand-in, by its dotted path."""
    found = {}
    for name, value in vars(root).items():
        if name.startswith("_") and name not in DUNDERS and f"{path}.{name}" != "cupy.RawKernel.__call__":
            continue
        where = f"{path}.{name}"
        found[where] = value
        # not into NumPy's own types, which CuPy has too
        if isinstance(value, ModuleType) or (inspect.isclass(value) and value.__module__ != "numpy"):
            found |= callables(value, where)
    return found


def spelled(source: str) -> set[str]:
    """Every chain such as cupy.cuda.Stream that a source spells, by `cupy`, `cp` or a name it imports from CuPy."""
    tree, chains = ast.parse(source), set()
    roots = {"cupy": "cupy", "cp": "cupy"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "cupy":
            roots |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if isinstance(node, ast.Name) and node.id in roots:
            chains.add(".".join([roots[node.id], *reversed(parts)]))
    return (chains | set(roots.values())) - {"cupy"}


def spelled_by_the_package() -> set[str]:
    """What the files of gpukmeans that mention CuPy spell."""
    return set().union(*(spelled(p.read_text()) for p in sorted(PACKAGE.rglob("*.py")) if "cupy" in p.read_text()))


def parameters(function: Any) -> list[list[Any]]:
    function = function.__func__ if isinstance(function, classmethod) else function
    found = inspect.signature(function).parameters.values()
    return [[p.name, p.kind is p.KEYWORD_ONLY] for p in found if p.name not in ("self", "cls")]


def differences(ours: dict[str, Any], real: dict[str, Any]) -> list[str]:
    """What the stand-in has and CuPy has not: names, parameters, their order, parameters that need no keyword."""
    found = []
    for path, value in ours.items():
        if real[path] is None:
            found.append(f"CuPy has no {path}")
            continue
        theirs = real[path]["parameters"]
        if theirs is None or not (callable(value) or isinstance(value, classmethod)):
            continue
        if inspect.isclass(value) and (issubclass(value, (np.generic, np.dtype)) or "__init__" not in vars(value)):
            continue
        mine, keyword = parameters(value), dict(theirs)
        names = [name for name, _ in theirs]
        any_keyword = "kwargs" in names  # RawKernel.__call__ hands its keywords on
        if unknown := [name for name, only in mine if name not in names and not (only and any_keyword)]:
            found.append(f"{path} has {unknown}, CuPy's has {names}")
            continue
        positions = [names.index(name) for name, _ in mine if name in names]
        if positions != sorted(positions):
            found.append(f"{path} has {[n for n, _ in mine]} in another order than {names}")
        if lax := [name for name, only in mine if keyword.get(name) and not only]:
            found.append(f"{path} takes {lax} without a keyword")
    return found


def ask(paths: set[str]) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": ""}
    command = [sys.executable, "-W", "ignore", "-c", LOOK, json.dumps([1, 2, 35, 100, 101, 400, 600])]
    done = subprocess.run(
        command, input=json.dumps(sorted(paths)), capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def real() -> dict[str, Any]:
    if importlib.util.find_spec("cupy") is None:
        support.missing("cupy-real", "CuPy is not installed")
    made_up = {"cupy.asnumpyy", "cupy.cuda.Stream.wait"}
    return ask({*callables(), *spelled_by_the_package(), *made_up})


def test_what_the_package_spells_is_in_cupy(real):
    assert [path for path in sorted(spelled_by_the_package()) if real["paths"][path] is None] == []


def test_what_the_package_spells_is_in_the_stand_in():
    def has(path: str) -> bool:
        value: Any = standin.cupy
        for name in path.split(".")[1:]:
            if not hasattr(value, name):
                return False
            value = getattr(value, name)
        return True

    assert [path for path in sorted(spelled_by_the_package()) if not has(path)] == []


def test_the_stand_in_has_only_what_cupy_has(real):
    assert differences(callables(), real["paths"]) == []


def test_few_signatures_cannot_be_read(real):
    unread = [
        path
        for path, value in callables().items()
        if inspect.isroutine(value) and real["paths"][path] and real["paths"][path]["parameters"] is None
    ]
    assert unread == []


def test_the_guard_sees_a_difference(real):
    def get(self, out=None, stream=None, *, order="C", block=True): ...
    def swapped(self, out=None, stream=None): ...
    def lax(array, device=None): ...

    ours = {"cupy.asnumpyy": get, "cupy.ndarray.get": get, "cupy.ndarray.set": swapped, "cupy.from_dlpack": lax}
    found = differences(ours, real["paths"])
    assert found[0] == "CuPy has no cupy.asnumpyy"
    assert "cupy.ndarray.get has ['block']" in found[1]
    assert "cupy.ndarray.set has ['out']" in found[2]
    assert found[3] == "cupy.from_dlpack takes ['device'] without a keyword"
    assert "in another order" in differences({"cupy.ndarray.get": swapped}, real["paths"])[0]


def test_chains_are_found_in_a_source():
    source = "from cupy.cuda import driver, runtime as r\ncp.cuda.Stream(priority=1).record()\nx.cp.y\nr.getDevice()"
    cuda = {"cupy.cuda", "cupy.cuda.Stream", "cupy.cuda.driver", "cupy.cuda.runtime", "cupy.cuda.runtime.getDevice"}
    assert spelled(source) == cuda


def test_device_attributes_and_messages_are_cupys(real):
    assert set(standin.control.attributes()) - set(real["attributes"]) == {
        "ComputeCapabilityMajor",
        "ComputeCapabilityMinor",
    }
    assert {int(s): text for s, text in real["errors"].items()} == standin.errors.RUNTIME
    no_memory = standin.errors.OutOfMemoryError
    assert real["out of memory"] == [str(no_memory(1024, 2000000)), str(no_memory(1, 2, 3))]


def test_the_stand_in_names_the_release_it_was_checked_against(real):
    assert standin.cupy.__version__ == standin.CHECKED_AGAINST
    assert real["version"].split(".")[0] == standin.CHECKED_AGAINST.split(".")[0]
