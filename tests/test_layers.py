"""The shape of the package: imports point down, importing is cheap, every public name is documented."""

import ast
import doctest
import functools
import importlib
import inspect
import os
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import support

import gpukmeans

PACKAGE = Path(gpukmeans.__file__).parent

# Lower numbers know nothing of higher ones. A module may import what is below it, never what is beside it.
LAYER = {
    "exact": 0,
    "errors": 0,
    "arrays": 1,
    "halves": 1.5,
    "backends.base": 2,
    "backends._spread": 3,
    "backends._problem_table": 3,
    "backends._cuda_ragged": 4,
    "backends._launch": 2,
    "backends._tensor_config": 3,
    "backends._cuda": 3,
    "backends._source": 4,
    "backends._card": 3,
    "backends._cuda_rows": 4,
    "backends._cuda_centers": 5,
    "backends._cuda_seeding": 5,
    "backends._cuda_graph": 6,
    "backends._cuda_stages": 6,
    "backends._cuda_pruning": 4,
    "backends._cuda_labels": 7,
    "backends._cuda_verbs": 8,
    "backends._cards": 9,
    "backends._cupy": 10,
    "backends._numba_cuda_needs": 4,
    "backends._numba_cuda_exact": 2,
    "backends._numba_cuda_assign": 3,
    "backends._numba_cuda_centers": 3,
    "backends._numba_cuda_seeding": 3,
    "backends._numba_cuda_kernels": 4,
    "backends._numba_cuda": 9,
    "backends._threads": 2,
    "backends._layout": 2,
    "backends._scratch": 3,
    "backends._atomic": 3,
    "backends._plain_atomic": 4,
    "backends._simd": 3,
    "backends._simd_rows": 3,
    "backends._simd_passes": 3,
    "backends._simd_seeding": 4,
    "backends._plain_passes": 4,
    "backends._numba_pipeline": 2,
    "backends._numba_compiler": 3,
    "backends._simd_bounds": 3,
    "backends._tiles_common": 4,
    "backends._tiles_plain": 5,
    "backends._tiles_simd": 5,
    "backends._tiles": 6,
    "backends._pruning_rule": 3,
    "backends._numba_distance": 4,
    "backends._numba_centers": 5,
    "backends._numba_assign": 7,
    "backends._numba_passes": 8,
    "backends._numba_pruning": 8,
    "backends._numba_seeding": 9,
    "backends._cpu_centers": 8,
    "backends._cpu_pruning": 9,
    "backends._numba_ragged": 8,
    "backends._cpu_ragged": 9,
    "backends._cpu_steps": 10,
    "backends._cpu_seeding": 10,
    "backends._numpy": 4,
    "backends._numba": 11,
    "backends._numba_needs": 12,
    "backends": 13,
    "memory": 14,
    "planning": 15,
    "lloyd": 14,
    "seeding": 14,
    "batches": 15,
    "oversampling": 15,
    "validation": 15,
    "prepare": 16,
    "_callbacks": 1,
    "_tree": 1,
    "_base": 17,
    "checkpoint": 16,
    "runs": 17,
    "kmeans": 18,
    "minibatch": 18,
    "bisecting": 19,
    "ragged": 19,
    "kernel_kmeans": 19,
    "pairwise": 17,
    "metrics": 17,
    "choosing": 19,
    "history": 15,
    "_terminal": 16,
    "steps": 19,
    "_tables": 1,
    "_writing": 1,
    "data_files": 2,
    "_reading": 3,
    "_stores": 4,
    "sources": 5,
    "_reader": 4,
    "streaming": 6,
    "_chunks": 16,
    "_cluster": 17,
    "dask": 19,
    "datasets": 18,
    "_model_format": 19,
    "model_file": 20,
    "_arguments": 19,
    "pictures": 19,
    "plot._style": 1,
    "plot._scene": 16,
    "plot._clusters": 17,
    "plot._convergence": 15,
    "plot._choice": 20,
    "plot._silhouette": 19,
    "plot._steps": 20,
    "plot._palette": 20,
    "plot": 21,
    "_problems": 19,
    "_grid": 19,
    "_contestants": 20,
    "demo": 20,
    "_warming": 20,
    "doctor": 21,
    "verify": 20,
    "bench": 21,
    "_machine": 22,
    "_drawing": 22,
    "_large": 22,
    "_choosing": 23,
    "cli": 24,
    "__main__": 25,
    "__init__": 26,
}

# Libraries that a module and all that it imports may need; whatever is not listed here needs none but NumPy.
LIBRARIES = {
    "exact": set(),
    "arrays": {"cupy", "numba"},
    "backends._numba_cuda_needs": {"numba"},
    "backends._numba_cuda_exact": {"numba"},
    "backends._numba_cuda_assign": {"numba"},
    "backends._numba_cuda_centers": {"numba"},
    "backends._numba_cuda_seeding": {"numba"},
    "backends._numba_cuda_kernels": {"numba"},
    "backends._numba_cuda": {"numba"},
    "backends.base": {"scipy"},
    "backends._cuda": {"cupy"},
    "backends._source": {"cupy"},
    "backends._cupy": {"cupy"},
    "backends._threads": {"numba", "sklearn"},
    "backends._layout": {"llvmlite"},
    "backends._simd": {"numba", "llvmlite"},
    "backends._simd_rows": {"numba", "llvmlite"},
    "backends._simd_bounds": {"numba", "llvmlite"},
    "backends._simd_passes": {"numba", "llvmlite"},
    "backends._simd_seeding": {"numba", "llvmlite"},
    "backends._tiles": {"numba"},
    "backends._numba_pipeline": {"numba", "llvmlite"},
    "backends._numba_compiler": {"numba"},
    "backends._atomic": {"numba", "llvmlite"},
    "backends._plain_atomic": {"numba"},
    "backends._numba_distance": {"numba"},
    "backends._numba_centers": {"numba"},
    "backends._numba_assign": {"numba"},
    "validation": {"cupy", "sklearn", "scipy"},
    "prepare": {"scipy"},
    "_warming": {"scipy"},
    "_base": {"sklearn"},
    "kmeans": {"sklearn"},
    "minibatch": {"scipy"},
    "bisecting": {"sklearn"},
    "ragged": {"sklearn"},
    "kernel_kmeans": {"sklearn"},
    "metrics": {"sklearn"},
    "choosing": {"pandas"},
    "history": {"pandas"},
    "datasets": {"sklearn"},
    "model_file": {"sklearn"},
    "_tables": {"pyarrow"},
    "_stores": {"h5py", "zarr"},
    "_chunks": {"distributed"},
    "_cluster": {"distributed"},
    "dask": {"dask", "distributed", "sklearn"},
    "_terminal": {"rich"},
    "demo": {"sklearn"},
    "pictures": {"PIL"},
    "plot._scene": {"sklearn"},
    "plot._clusters": {"scipy"},
    "plot._convergence": {"sklearn"},
    "_problems": {"scipy"},
    "verify": {"cupy", "scipy"},
    "_contestants": {"cupy", "sklearn"},
    "_arguments": {"typer"},
    "_machine": {"typer"},
    "_drawing": {"typer"},
    "_large": {"typer"},
    "_choosing": {"typer"},
    "cli": {"typer"},
}


def modules():
    """Name (without the package's) and syntax tree of each module."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        yield name, ast.parse(path.read_text(encoding="utf-8"), str(path))


MODULES = dict(modules())


def is_for_types_only(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def nodes(tree):
    """All nodes, but not those that only a type checker sees."""
    for child in ast.iter_child_nodes(tree):
        if not is_for_types_only(child):
            yield child
            yield from nodes(child)


def imports(name):
    """(inside, outside): modules of this package and top-level names of others that a module imports anywhere."""
    inside, outside = set(), set()
    package = name.split(".") if name in ("backends", "plot") else name.split(".")[:-1]
    for node in nodes(MODULES[name]):
        if isinstance(node, ast.Import):
            outside |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            outside.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - (node.level - 1)] + (node.module.split(".") if node.module else [])
            for alias in node.names:
                whole = ".".join([*base, alias.name])
                inside.add(whole if whole in MODULES else ".".join(base) or "__init__")
    return inside, outside - set(sys.stdlib_module_names)


def test_every_module_has_its_layer():
    assert MODULES.keys() == LAYER.keys()


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name):
    inside, _ = imports(name)
    inside.discard("__init__")  # the version; the package's own module imports nothing until asked
    up = {other for other in inside if LAYER[other] >= LAYER[name]}
    assert not up, f"{name} imports {sorted(up)}"


@pytest.mark.parametrize("name", MODULES)
def test_modules_import_only_their_libraries(name):
    _, outside = imports(name)
    assert outside - {"numpy", "gpukmeans"} <= LIBRARIES.get(name, set())


def test_the_test_of_imports_sees_them():
    assert "exact" in imports("lloyd")[0]
    assert "backends.base" in imports("lloyd")[0]
    assert "backends" in imports("kmeans")[0]
    assert "kmeans" in imports("model_file")[0]
    assert "backends._threads" in imports("backends._numba")[0]
    assert "sklearn" in imports("kmeans")[1]


def test_backends_are_loaded_by_name_only():
    loaded = {name for name in MODULES if any(other.startswith("backends._n") for other in imports(name)[0])}
    of_numba = ("backends._numba", "backends._cpu", "backends._tiles", "backends._plain")
    assert all(name.startswith(of_numba) for name in loaded)


# ---------------------------------------------------------------------------------------------- imports at run time

OTHERS = ["cupy", "dask", "matplotlib", "pandas", "PIL", "polars", "pyarrow", "rich", "scipy", "sklearn", "typer"]
HEAVY = (*OTHERS, "numba")


def loaded_after(program):
    """Which of the heavy libraries a new process has loaded after running a program."""
    program += f"; import sys; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    return set(done.stdout.split())


@pytest.mark.extra
def test_importing_the_package_loads_no_other_library():
    assert loaded_after("import gpukmeans; gpukmeans.__version__; dir(gpukmeans)") == set()


@functools.cache
def loaded_by_scikit_learn_alone():
    """scikit-learn loads pandas, and pandas pyarrow, where they are installed."""
    return loaded_after("import sklearn.base, sklearn.utils.validation")


@pytest.mark.extra
def test_importing_the_estimator_loads_scikit_learn_and_nothing_else():
    assert loaded_after("from gpukmeans import KMeans; KMeans()") <= loaded_by_scikit_learn_alone()


@pytest.mark.extra
def test_a_fit_loads_no_library_for_files_plots_or_terminals():
    loaded = loaded_after("from gpukmeans import KMeans; KMeans(2).fit([[0.0], [1.0], [5.0]])")
    assert loaded <= loaded_by_scikit_learn_alone() | {"numba"}


@pytest.mark.extra
def test_the_numpy_backend_needs_no_numba():
    program = "from gpukmeans import KMeans; KMeans(2, backend='numpy').fit([[0.0], [1.0], [5.0]])"
    assert "numba" not in loaded_after(program)


def test_dir_lists_the_public_names_and_all_of_them_exist():
    assert set(gpukmeans.__all__) <= set(dir(gpukmeans))
    for name in dir(gpukmeans):
        assert getattr(gpukmeans, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Kmeans'"):
        gpukmeans.Kmeans  # noqa: B018


# ---------------------------------------------------------------------------------------------- habits


@pytest.mark.parametrize("name", MODULES)
def test_the_library_prints_only_what_verbose_asks_for(name):
    if name in ("cli", "__main__", "demo", "doctor", "_terminal"):
        return
    calls = [n for n in ast.walk(MODULES[name]) if isinstance(n, ast.Call) and ast.unparse(n.func) == "print"]
    assert not calls or name in ("runs", "lloyd", "minibatch"), f"{name}, line {calls[0].lineno}"


@pytest.mark.parametrize("name", MODULES)
def test_no_exception_is_caught_without_being_named(name):
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.ExceptHandler) and name not in ("cli",):
            caught = "" if node.type is None else ast.unparse(node.type)
            assert caught not in ("", "Exception", "BaseException"), f"{name}, line {node.lineno}"


def test_no_module_is_a_drawer_for_everything():
    drawers = {"utils", "util", "helpers", "common", "core", "misc"}
    assert not {name.split(".")[-1].strip("_") for name in MODULES} & drawers


# ---------------------------------------------------------------------------------------------- docstrings


def public_callables():
    """Name and object of each public function, class and method."""
    found = {}
    for name in gpukmeans.__all__:
        value = getattr(gpukmeans, name)
        found[name] = value
        if inspect.isclass(value) and not issubclass(value, Exception):
            for attribute, member in inspect.getmembers(value, inspect.isfunction):
                if member.__module__.startswith("gpukmeans.") and not attribute.startswith("_"):
                    found[f"{name}.{attribute}"] = member
    for module, names in {
        "datasets": ("make_blobs", "make_moons"),
        "model_file": ("save", "load"),
        "data_files": ("read_data", "write_labels"),
        "backends": ("get_backend", "available_backends"),
        "metrics": tuple(importlib.import_module("gpukmeans.metrics").__all__),
        "plot": tuple(importlib.import_module("gpukmeans.plot").__all__),
        "pictures": ("compress", "read_picture", "write_png"),
    }.items():
        for name in names:
            found[f"{module}.{name}"] = getattr(importlib.import_module(f"gpukmeans.{module}"), name)
    return found


PUBLIC = public_callables()


def section(doc, title):
    """The text of one numpydoc section, or None."""
    match = re.search(rf"^{title}\n-{{3,}}\n(.*?)(?=^\S[^\n]*\n-{{3,}}\n|\Z)", doc, re.MULTILINE | re.DOTALL)
    return match and match.group(1)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_documented(name):
    value = PUBLIC[name]
    doc = inspect.getdoc(value)
    assert doc, "no docstring"
    assert doc.splitlines()[0].endswith((".", ":")), "the first line is no sentence"
    if inspect.isclass(value) and issubclass(value, Exception):
        return
    signature = {} if getattr(value, "_is_protocol", False) else inspect.signature(value).parameters
    parameters = [p for p in signature if p not in ("self", "params")]
    if parameters:
        text = section(doc, "Parameters")
        assert text, "no section Parameters"
        names = re.findall(r"^(\S[^:\n]*)", text, re.MULTILINE)
        listed = {part.strip(" *") for line in names for part in line.split(",")}
        assert set(parameters) <= listed, f"not described: {sorted(set(parameters) - listed)}"
        assert listed - {"params"} <= set(parameters), f"described but not there: {sorted(listed - set(parameters))}"
    if inspect.isclass(value):
        assert section(doc, "Attributes")
        assert section(doc, "Examples")
    elif inspect.signature(value).return_annotation not in (None, "None"):
        assert section(doc, "Returns"), "no section Returns"


@pytest.mark.parametrize("name", [name for name in gpukmeans.__all__ if not name.endswith("Error")])
def test_what_the_package_exports_has_an_example(name):
    assert ">>> " in inspect.getdoc(PUBLIC[name])


@pytest.mark.parametrize("estimator", ["KMeans", "MiniBatchKMeans", "BisectingKMeans", "KernelKMeans"])
def test_every_fitted_attribute_is_documented(backend, estimator):
    model = getattr(gpukmeans, estimator)(2, random_state=0, backend=backend).fit([[0.0], [1.0], [5.0]])
    text = section(inspect.getdoc(type(model)), "Attributes")
    for name in vars(model):
        if name.endswith("_") and not name.startswith("_"):
            assert re.search(rf"^{name} :", text, re.MULTILINE), name


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.extra) if name == "dask" else name
        for name in MODULES
        if name not in ("__init__", "__main__")
    ],
)
def test_the_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name == "dask":
        support.optional("distributed")
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    needs_cupy = name.startswith("backends._cupy") and not support.has_card()
    with support.standin_cupy() if needs_cupy else nullcontext():
        result = doctest.testmod(importlib.import_module(f"gpukmeans.{name}"), optionflags=flags)
    assert result.failed == 0
