"""The doctor tells one cause from the other, each with its cure, and never fails itself."""

import os
import re
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import numpy as np
import pytest
import support

from gpukmeans import _warming, available_backends, doctor
from gpukmeans.backends import _cuda, _threads, get_backend
from gpukmeans.cli import main
from gpukmeans.errors import BackendUnavailableError

pytestmark = pytest.mark.extra  # it looks at what is installed

INSTALL = "pip install 'gpukmeans[cuda12]'"


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """No answer from before, and no variables that a developer has set."""
    for name in ("GPUKMEANS_BACKEND", "GPUKMEANS_DEVICE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    _cuda.examine.cache_clear()
    yield
    _cuda.examine.cache_clear()


@pytest.fixture
def install(monkeypatch):
    """Play the installed distributions that bring CuPy; none of them is imported."""

    def install(*names):
        found = [SimpleNamespace(metadata={"Name": name}) for name in ("numpy", *names)]
        monkeypatch.setattr(_cuda, "distributions", lambda: found)
        monkeypatch.setattr(_cuda, "find_spec", lambda _: names or None)
        monkeypatch.delitem(sys.modules, "cupy", raising=False)

    return install


@pytest.fixture
def run(capsys, monkeypatch):
    """What `gpukmeans doctor` shows."""

    def run():
        assert main(["doctor"]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return dict(line.split(": ", 1) for line in captured.out.splitlines())

    return run


def refuse(*_, **__):
    raise PermissionError(13, "Permission denied")


# ---- why the backend cupy does not work, and what to do
def test_without_cupy_it_says_what_to_install(install, run):
    install()
    shown = run()
    assert shown["backend cupy"] == f"CuPy is not installed: {_cuda.INSTALL}"
    assert shown["backend cupy"].startswith(f"CuPy is not installed: {INSTALL}")
    assert shown["cupy"] == "not installed"
    assert "CuPy's cache" not in shown


def test_two_cupys_are_found_without_importing_them(install, run, tmp_path, monkeypatch):
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path))
    install("cupy-cuda12x", "cupy_cuda13x")
    why = run()["backend cupy"]
    assert "cupy-cuda12x and cupy-cuda13x are both installed" in why
    assert f"pip uninstall cupy-cuda12x cupy-cuda13x, then {INSTALL}" in why
    assert "cupy" not in sys.modules


def test_a_cache_that_cannot_be_made_is_the_cause_before_cupy_fails_to_import(install, run, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "file" / "cache"))
    install("cupy-cuda12x")
    shown = run()
    assert "CuPy does not import without a directory for compiled kernels" in shown["backend cupy"]
    assert "Not a directory; set CUPY_CACHE_DIR to a directory that can be written to" in shown["backend cupy"]
    assert "set CUPY_CACHE_DIR" in shown["CuPy's cache"]
    assert "cupy" not in sys.modules


def test_a_cupy_that_does_not_import_says_why(install, run, tmp_path, monkeypatch):
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path))
    install("cupy-cuda12x")
    monkeypatch.setitem(sys.modules, "cupy", None)
    why = run()["backend cupy"]
    assert why.startswith("CuPy does not import (import of cupy halted")
    assert INSTALL in why


def test_of_cupys_long_message_the_line_that_tells_is_taken():
    text = "\n=====\nFailed to import CuPy.\n\nIf you ...\n\nOriginal error:\n  ImportError: no libcuda\n=====\n"
    assert _cuda._first_line(ImportError(text)) == "ImportError: no libcuda"
    assert _cuda._first_line(ImportError("one\ntwo")) == "one"
    assert _cuda._first_line(ImportError("Original error:")) == "Original error:"
    assert _cuda._first_line(OSError()) == "OSError"


@pytest.mark.parametrize(
    ("settings", "cause", "cure"),
    [
        (
            {"driver_version": 0},
            "there is no NVIDIA driver",
            "install one (in a container: start it with `--gpus all`)",
        ),
        ({"driver_version": 11080}, "too old: it knows CUDA 11.8, the installed CuPy wants 12.9", "update the driver"),
        ({"n_devices": 0}, "there is a driver but no card", "see `nvidia-smi`"),
        ({"compute_capability": "60"}, "has compute capability 6.0, the kernels want 7.5", "backend='numba'"),
        ({"nvrtc_version": None}, "the compiler NVRTC is missing", INSTALL),
    ],
    ids=["no driver", "old driver", "no card", "old card", "no compiler"],
)
def test_each_thing_that_is_missing_is_told_from_the_others(run, settings, cause, cure):
    with support.standin_cupy(**settings):
        why = run()["backend cupy"]
        assert cause in why
        assert cure in why
        with pytest.raises(BackendUnavailableError) as raised:
            get_backend("cupy")
        assert why in str(raised.value)


def test_a_card_that_is_hidden_is_looked_for_there(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with support.standin_cupy(n_devices=0):
        assert "(CUDA_VISIBLE_DEVICES='' may hide it)" in available_backends()["cupy"]


def test_a_driver_that_does_not_answer_is_reported(monkeypatch):
    with support.standin_cupy():
        from cupy.cuda import runtime

        def fail():
            raise runtime.CUDARuntimeError(2)

        monkeypatch.setattr(runtime, "getDeviceCount", fail)
        why = available_backends()["cupy"]
    assert "the driver does not answer (cudaErrorMemoryAllocation: out of memory): try `nvidia-smi`" in why


# ---- where it works
def test_cards_and_versions_are_shown_where_they_work(run, tmp_path, monkeypatch):
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(_cuda, "distributions", lambda: [SimpleNamespace(metadata={"Name": "cupy-cuda12x"})])
    with support.standin_cupy(n_devices=2):
        shown = run()
    assert shown["backend cupy"] == "works"
    assert (shown["CUDA driver"], shown["CUDA runtime"], shown["NVRTC"]) == ("12.9", "12.9", "12.9")
    card = "Stand-in for NVIDIA A100, compute capability 8.0, 108 multiprocessors, 1024 of 1024 MB free"
    assert (shown["card 0"], shown["card 1"]) == (card, card)
    assert shown["CuPy's cache"] == str(tmp_path)
    assert "cupy-cuda12x" in shown


def test_cards_are_shown_where_something_else_is_missing(run):
    with support.standin_cupy(nvrtc_version=None, compute_capability="60"):
        shown = run()
    assert shown["NVRTC"] == "missing"
    assert "compute capability 6.0" in shown["card 0"]


def test_a_card_that_another_process_has_for_itself_is_shown_without_its_memory(run, monkeypatch):
    def fail(_):
        raise RuntimeError("cudaErrorDevicesUnavailable: all devices are busy")

    with support.standin_cupy():
        import cupy

        monkeypatch.setattr(cupy.cuda.Device, "mem_info", property(fail))
        assert "memory unknown (cudaErrorDevicesUnavailable" in run()["card 0"]


def test_a_cache_that_cannot_be_written_to_is_reported_beside_a_working_card(run, tmp_path, monkeypatch):
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(_cuda, "distributions", lambda: [SimpleNamespace(metadata={"Name": "cupy-cuda12x"})])
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with support.standin_cupy():
        shown = run()
    assert shown["backend cupy"] == "works"  # with what the cache holds already
    wanted = f"{tmp_path}: Permission denied; set CUPY_CACHE_DIR to a directory that can be written to"
    assert shown["CuPy's cache"] == wanted


# ---- variables
def test_variables_are_shown_if_they_are_set(run, monkeypatch):
    assert not [key for key in run() if key.startswith("GPUKMEANS")]
    monkeypatch.setenv("GPUKMEANS_BACKEND", "numba")
    monkeypatch.setenv("GPUKMEANS_DEVICE", "1")
    with support.standin_cupy(n_devices=2):
        shown = run()
    assert (shown["GPUKMEANS_BACKEND"], shown["GPUKMEANS_DEVICE"]) == ("numba", "1")
    assert shown["backend cupy"] == "works"


def test_a_backend_that_does_not_exist_is_reported(run, monkeypatch):
    monkeypatch.setenv("GPUKMEANS_BACKEND", "nunba")
    assert run()["GPUKMEANS_BACKEND"] == "'nunba' is none of auto, cupy, numba-cuda, numba, numpy, cupy:all"


def test_numba_cuda_says_when_it_is_used_and_what_it_lacks(run, monkeypatch):
    from gpukmeans.backends import _numba_cuda_needs

    monkeypatch.setattr(_numba_cuda_needs, "why_unavailable", lambda: None)
    text = run()["backend numba-cuda"]
    assert text.startswith("works; simpler and slower")
    assert "'auto' takes it where cupy cannot be used" in text


@pytest.mark.parametrize("value", ["first", "-1", "0,1"])
def test_a_device_that_is_no_number_is_reported(run, monkeypatch, value):
    monkeypatch.setenv("GPUKMEANS_DEVICE", value)
    with support.standin_cupy():
        shown = run()
    assert shown["GPUKMEANS_DEVICE"] == f"{value!r} must be the index of a card, as `gpukmeans doctor` lists them"
    assert shown["backend cupy"] == f"GPUKMEANS_DEVICE={shown['GPUKMEANS_DEVICE']}"
    assert "A100" in shown["card 0"]


def test_a_device_that_is_not_there_is_reported(run, monkeypatch):
    monkeypatch.setenv("GPUKMEANS_DEVICE", "2")
    with support.standin_cupy(n_devices=2):
        shown = run()
    assert "GPUKMEANS_DEVICE=2, but the cards here are numbered from 0 to 1: set it to one" in shown["backend cupy"]


# ---- the rest of the installation
def test_versions_backends_and_what_to_install_are_shown(run):
    shown = run()
    assert shown["numpy"] == np.__version__
    assert shown["backend numpy"] == "works"
    assert INSTALL in shown["extra cuda12"] or "installed" in shown["extra cuda12"]
    assert shown["threads"].endswith(f"of {os.cpu_count()} processors")


def test_it_says_why_a_backend_does_not_work(run, monkeypatch):
    why = "Numba is broken; reinstall it: pip install --force-reinstall numba"
    monkeypatch.setattr("gpukmeans.backends.available_backends", lambda: {"numba": why, "numpy": None})
    shown = run()
    assert shown["backend numba"] == why
    assert shown["cache"] == "not needed"


def test_it_says_when_kernels_of_the_cpu_cannot_be_kept(monkeypatch):
    monkeypatch.setattr(doctor, "TemporaryFile", refuse)
    report = doctor.examine()
    if report.backends["numba"] is None:
        assert report.cache_problem == "Permission denied; set NUMBA_CACHE_DIR to a directory that can be written to"


def test_it_names_what_is_missing_of_an_extra(monkeypatch):
    installed = {"pyarrow": "1.0", "numba-cuda": "1.0"}
    monkeypatch.setattr(doctor, "_version", lambda name: installed.get(name, "not installed"))
    extras = {extra.name: extra for extra in doctor.examine().extras}
    assert extras["parquet"].missing == ()
    assert extras["cuda12"].missing == ("cupy-cuda12x",)
    assert extras["plot"].install == "pip install 'gpukmeans[plot]'"


# ---- compiling ahead
def test_warm_says_how_long_it_took_and_where_the_kernels_are(numba_backend, capsys, monkeypatch):
    calls = []
    monkeypatch.setattr(doctor, "warm", lambda: calls.append(1) or 1.25)
    assert main(["doctor", "--warm"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"float32 and float64 were ready after 1\.2 s and are kept in \S", said)
    assert calls == [1]
    monkeypatch.setattr(doctor, "TemporaryFile", refuse)
    assert main(["doctor", "--warm"]) == 0
    assert "are not kept: Permission denied; set NUMBA_CACHE_DIR" in capsys.readouterr().out


def test_warm_needs_numba_and_no_other_option(capsys, monkeypatch):
    assert main(["doctor", "--warm", "--verify"]) == 2
    assert "--warm" in capsys.readouterr().err
    monkeypatch.setattr("gpukmeans.backends.available_backends", lambda: {"numba": "Numba is broken", "numpy": None})
    assert main(["doctor", "--warm"]) == 1
    assert "no kernels to compile for the CPU: Numba is broken" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="a script that stands for Python")
@pytest.mark.parametrize("name", ["python-like", "python-not-there", "another"])
def test_warm_shares_the_work_with_other_pythons_and_waits_for_them(tmp_path, monkeypatch, name):
    calls = []
    monkeypatch.setattr(_warming, "take_parts", lambda taken: calls.append("parts"))
    monkeypatch.setattr(_warming, "_warm_all", lambda: calls.append((tmp_path / "done").exists()))
    monkeypatch.setattr(_warming.sys, "executable", str(tmp_path / name))
    if name != "python-not-there":
        (tmp_path / name).write_text(f'#!/bin/sh\nsleep 0.2\n[ "$1" = -c ] && echo "$2" >> {tmp_path}/done\n')
        (tmp_path / name).chmod(0o755)
    with _threads.limit(3):
        assert doctor.warm() > 0
    assert calls == (["parts", True] if name == "python-like" else [False])
    if name == "python-like":
        programs = (tmp_path / "done").read_text().splitlines()
        assert len(programs) == 2
        assert all(re.fullmatch(r"from gpukmeans._warming import take_parts; take_parts\(.*\)", p) for p in programs)


def test_each_part_of_the_work_is_taken_once_and_leaves_no_part_behind(tmp_path, monkeypatch):
    calls = []

    def first():
        calls.append("first")
        _warming.take_parts(str(tmp_path))  # another process, meanwhile

    def second():
        calls.append("second")

    monkeypatch.setattr(_warming, "_PARTS", (first, second))
    _warming.take_parts(str(tmp_path))
    assert calls == ["first", "second"]


COLD = """
    import warnings
    import numpy as np
    import scipy.sparse as sp
    from gpukmeans import KMeans, doctor, kmeans_plusplus, pairwise_distances_argmin
    from gpukmeans.backends import _cpu_pruning, _numba_assign, _numba_centers, _numba_distance, _numba_passes
    from gpukmeans.backends import _numba_pruning, _numba_seeding, _tiles
    from gpukmeans.datasets import make_blobs

    warnings.simplefilter("ignore")
    modules = (
        _numba_assign, _numba_centers, _numba_distance, _numba_passes, _numba_pruning, _numba_seeding, _tiles
    )  # fmt: skip
    kernels = {f for module in modules for f in vars(module).values() if hasattr(f, "signatures")}

    def compiled():
        return {(f.py_func.__name__, str(signature)) for f in kernels for signature in f.signatures}

    doctor.warm()
    before = compiled()
    rng = np.random.default_rng(0)
    for dtype in (np.float16, np.float32, np.float64, int):
        for d in (1, 3, 8, 20, 300):
            X = (rng.random((70, d)) * 100).astype(dtype)
            for data in (X, sp.csr_array(X)) if dtype != np.float16 else (X,):
                for weights in (None, rng.random(70)):
                    model = KMeans(7, random_state=0, backend="numba").fit(data, sample_weight=weights)
                    model.score(data, sample_weight=weights)
            frozen = X.copy()
            frozen.setflags(write=False)
            start = np.repeat(X[:1], 4, axis=0)
            KMeans(4, init=start, backend="numba", verbose=0).fit(frozen)
            model.predict(frozen), model.transform(X[:3])
            KMeans(2, init="random", precision="float32", backend="numba", random_state=0).fit(X)
            pairwise_distances_argmin(X, X[:5], backend="numba")
            kmeans_plusplus(X, 3, random_state=0, backend="numba")
    assert _numba_pruning.assign_pruned.signatures
    _cpu_pruning.SMALLEST = 1
    for dtype in (np.float32, np.float64):
        X, _ = make_blobs(20_000, 16, centers=40, random_state=1, dtype=dtype)
        KMeans(40, init=X[:40], n_init=1, tol=0, backend="numba").fit(X)
    print(sorted(compiled() - before), len(before) > 15)
"""


def test_after_warm_nothing_is_left_to_compile(numba_backend):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    program = textwrap.dedent(COLD)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == ("[] True\n", "")
