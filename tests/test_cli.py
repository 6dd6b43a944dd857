"""The command line: what it prints, its exit codes, and that it leaves no mess."""

import dataclasses
import json
import logging
import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import gpukmeans
from gpukmeans import KMeans, data_files, demo, model_file
from gpukmeans.cli import main

COMMANDS = ("demo", "fit", "predict", "info", "plan", "choose-k", "plot", "compress", "doctor", "bench")
X = np.random.default_rng(0).standard_normal((80, 3)).round(3)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with data, a model and files that are no good."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X)
    np.savetxt("x.csv", X, delimiter=",", header="a,b,c", comments="", fmt="%.17g")
    np.savetxt("w.csv", np.arange(80.0))
    model_file.save(KMeans(3, random_state=0).fit(X), "m.npz", labels=False)
    Path("bad.csv").write_text("1,2,3\n4,oops,6\n")
    Path("bad.npz").write_bytes(Path("m.npz").read_bytes()[:300])
    np.save("nan.npy", np.where(np.arange(240).reshape(80, 3) == 16, np.nan, X))
    Path("notes.txt").write_text("nothing")
    Path("folder").mkdir()
    return tmp_path


@pytest.fixture
def run(capsys, monkeypatch):
    """Run the command line in this process; gives the exit code, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "100")

    def run(*args):
        code = main([str(arg) for arg in args])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def subprocess_run(*args, **options):
    command = [sys.executable, "-m", "gpukmeans", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def pairs(text):
    return dict(line.split(": ", 1) for line in text.splitlines())


# ---------------------------------------------------------------------------------------------- commands
@pytest.mark.parametrize("data", ["x.npy", "x.csv"])
def test_fit_writes_the_model_that_the_library_gives(folder, run, data):
    code, out, err = run("fit", data, "-k", 3, "-o", "new.npz", "--seed", 5, "--labels", "y.npy")
    assert (code, err) == (0, "")
    expected = KMeans(3, random_state=5).fit(X)
    loaded = model_file.load("new.npz")
    assert np.array_equal(loaded.cluster_centers_, expected.cluster_centers_)
    assert np.array_equal(np.load("y.npy"), expected.labels_)
    shown = pairs(out)
    assert shown["inertia"] == repr(expected.inertia_)
    assert (shown["rows"], shown["features"], shown["clusters"]) == ("80", "3", "3")
    assert shown["model"] == "new.npz"


def test_fit_passes_every_option_on(folder, run):
    np.save("start.npy", X[:4])
    options = ["--n-init", 1, "--max-iter", 7, "--tol", 0, "--algorithm", "elkan", "--backend", "numpy"]
    options += ["--max-memory", "1GB"]
    code, *_ = run("fit", "x.npy", "-k", 4, "-o", "new.npz", "--init", "start.npy", "--weights", "w.csv", *options)
    assert code == 0
    model = model_file.load("new.npz")
    params = model.get_params()
    assert np.array_equal(params.pop("init"), X[:4])
    assert params == {
        "n_clusters": 4, "n_init": 1, "max_iter": 7, "tol": 0.0, "verbose": 0, "random_state": None,
        "copy_x": True, "algorithm": "elkan", "backend": "numpy", "precision": "exact",
        "max_memory": "1GB",
    }  # fmt: skip
    expected = KMeans(**model.get_params()).fit(X, sample_weight=np.arange(80.0))
    assert np.array_equal(model.cluster_centers_, expected.cluster_centers_)


@pytest.mark.parametrize("name", ["y.npy", "y.csv", "y.txt"])
def test_predict_writes_the_labels_of_the_model(folder, run, name):
    code, out, err = run("predict", "m.npz", "x.csv", "-o", name, "--backend", "numpy")
    assert (code, err) == (0, "")
    assert pairs(out) == {"labels": name, "rows": "80"}
    skip = 1 if name == "y.csv" else 0
    got = np.load(name) if name == "y.npy" else np.loadtxt(name, skiprows=skip)
    assert np.array_equal(got, model_file.load("m.npz").predict(X))


def test_info_shows_lines_in_a_pipe_and_json_on_request(folder, run):
    code, out, err = run("info", "m.npz")
    assert (code, err) == (0, "")
    shown = pairs(out)
    assert shown["clusters"] == "3"
    assert shown["dtype"] == "float64"
    assert shown["labels"] == "not saved"
    assert shown["parameter random_state"] == "0"
    assert shown["written by"] == f"gpukmeans {gpukmeans.__version__}"
    code, out, _ = run("info", "m.npz", "--json")
    assert code == 0
    assert json.loads(out) == model_file.inspect("m.npz")


def test_info_shows_what_is_not_saved_and_lets_no_file_steer_the_terminal(folder, run):
    model = KMeans(3, init=X[:3], random_state=np.random.default_rng(0)).fit(X)
    model.feature_names_in_ = np.array(["a\x1b[2J", "b\nerror: c", "d"], dtype=object)
    model_file.save(model, "m.npz")
    _, out, _ = run("info", "m.npz")
    assert "\x1b" not in out
    shown = pairs(out)
    assert shown["feature names"] == "a\N{REPLACEMENT CHARACTER}[2J, b error: c, d"
    assert shown["parameter init"] == "array (saved)"
    assert shown["parameter random_state"] == "Generator (not saved)"
    assert shown["labels"] == "80 rows"


def test_on_a_terminal_results_are_a_table_and_progress_is_shown(folder, run, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    code, out, err = run("fit", "x.npy", "-k", 3, "-o", "new.npz")
    assert code == 0
    assert "│ iterations" in out
    assert "fitting" in err


def test_demo_writes_the_picture_beside_the_original_and_races(folder, run):
    from PIL import Image
    from sklearn.datasets import load_sample_image

    code, out, err = run("demo", "--quick", "--output", "p.png")
    assert (code, err) == (0, "")
    original = load_sample_image("china.jpg")[::8, ::8]
    with Image.open("p.png") as image:
        picture = np.asarray(image)
    width = original.shape[1]
    assert np.array_equal(picture[:, :width], original)
    assert len(np.unique(picture[:, width:].reshape(-1, 3), axis=0)) <= 16
    assert f"pixels: {original.shape[0] * width}" in out
    assert "equal labels: " in out
    assert "ratio: " in out


def test_the_race_says_how_many_labels_differ_and_why():
    race = demo.Race((10, 2), 3, (1.0, 2.5), (7.0, 7.5), (4, 5), 0, None)
    assert race.summary()["equal labels"] == "10 of 10"
    assert race.summary()["ratio"].startswith("2.5 ")
    told = dataclasses.replace(race, n_different=3, n_different_float64=1).summary()["equal labels"]
    assert told.startswith("7 of 10; 3 differ, since scikit-learn rounds to float32")
    assert told.endswith("from its fit in float64 1 differ")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_shows_an_example(run, command):
    code, out, err = run(command, "--help")
    assert (code, err) == (0, "")
    assert f"Example: gpukmeans {command}" in re.sub(r"\x1b\[[0-9;]*m", "", out)  # coloured on some CI machines


def test_the_help_lists_the_commands(run):
    code, out, _ = run("--help")
    assert code == 0
    assert all(command in out for command in COMMANDS)


# ---------------------------------------------------------------------------------------------- errors
FIT = ("fit", "x.npy", "-k", "3", "-o", "new.npz")


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        ((), "Missing command"),
        (("nonsense",), "nonsense"),
        (("fit",), "Missing"),
        (("fit", "x.npy", "-k", "3"), "--output"),
        (("fit", "x.npy", "-o", "new.npz"), "-k"),
        ((*FIT, "--clusters", "3"), "--clusters"),
        (("fit", "x.npy", "-k", "three", "-o", "new.npz"), "integer"),
        (("fit", "x.npy", "-k", "0", "-o", "new.npz"), "n_clusters"),
        (("fit", "x.npy", "-k", "81", "-o", "new.npz"), "80 rows, fewer than 81 clusters"),
        (("fit", "nothing.npy", "-k", "3", "-o", "new.npz"), "nothing.npy: No such file or directory"),
        (("fit", "notes.txt", "-k", "3", "-o", "new.npz"), ".npy, .npz, .csv, .parquet"),
        (("fit", "x.npy", "-k", "3", "-o", "no/new.npz"), "does not exist"),
        (("fit", "x.npy", "-k", "3", "-o", "folder"), "folder: is a directory"),
        ((*FIT, "--labels", "y.json"), ".npy, .csv, .txt"),
        ((*FIT, "--labels", "no/y.csv"), "does not exist"),
        ((*FIT, "--weights", "nothing.npy"), "No such file"),
        ((*FIT, "--init", "best"), "--init"),
        ((*FIT, "--n-init", "0"), "n_init"),
        ((*FIT, "--n-init", "many"), "n_init"),
        ((*FIT, "--max-iter", "0"), "max_iter"),
        ((*FIT, "--tol", "-1"), "tol"),
        ((*FIT, "--seed", "-1"), "random_state"),
        ((*FIT, "--backend", "nunba"), "backend"),
        ((*FIT, "--precision", "low"), "precision"),
        ((*FIT, "--algorithm", "auto"), "algorithm"),
        (("predict", "nothing.npz", "x.npy", "-o", "y.csv"), "nothing.npz: No such file"),
        (("predict", "m.npz", "x.npy", "-o", "y.json"), ".npy, .csv, .txt"),
        (("predict", "m.npz", "x.npy", "-o", "y.csv", "--backend", "x"), "backend"),
        (("info", "nothing.npz"), "No such file"),
        (("demo", "--output", "no/p.png"), "does not exist"),
        (("doctor", "--backend", "numba"), "is an option of --verify"),
        (("doctor", "--full"), "is an option of --verify"),
        (("doctor", "--verify", "--backend", "nunba"), "'nunba' is none of cupy, numba-cuda, numba"),
        (("doctor", "--verify", "--backend", "numpy"), "numpy is the one that the others are compared with"),
        (("bench", "--backend", "nunba"), "'nunba' is none of cupy, numba-cuda, numba, numpy"),
        (("bench", "--json", "no/b.json"), "does not exist"),
    ],
    ids=str,
)
def test_a_bad_call_exits_with_2_and_one_line(folder, run, args, complaint):
    assert_fails(folder, run(*args), 2, complaint)


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("fit", "bad.csv", "-k", "2", "-o", "new.npz"), "bad.csv, line 2, column 2: 'oops' is not a number."),
        (("fit", "nan.npy", "-k", "2", "-o", "new.npz"), "row 5, column 1"),
        ((*FIT, "--weights", "x.csv"), "one number per row"),
        ((*FIT, "--init", "x.npy"), "shape of the initial centers"),
        (("predict", "m.npz", "w.csv", "-o", "y.csv"), "features"),
        (("predict", "bad.npz", "x.npy", "-o", "y.csv"), "bad.npz is truncated or corrupt."),
        (("predict", "x.npy", "x.npy", "-o", "y.csv"), "x.npy is not a gpukmeans model file."),
        (("info", "notes.txt"), "notes.txt is not a gpukmeans model file."),
        (("info", "folder"), "folder: "),
    ],
    ids=str,
)
def test_a_failure_exits_with_1_and_one_line(folder, run, args, complaint):
    assert_fails(folder, run(*args), 1, complaint)


def assert_fails(folder, result, code, complaint):
    assert result[0] == code
    assert result[1] == ""
    assert result[2].startswith("gpukmeans: error: ")
    assert complaint in result[2]
    assert result[2].count("\n") == 1
    assert "Traceback" not in result[2]
    assert not [p.name for p in folder.iterdir() if p.name.startswith((".", "new", "y."))]


def test_a_full_disk_leaves_the_old_files(folder, run, monkeypatch):
    Path("new.npz").write_text("old model")
    Path("y.csv").write_text("old labels")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = run(*FIT, "--labels", "y.csv")
    assert (code, err) == (1, "gpukmeans: error: y.csv: No space left on device\n")
    code, _, err = run(*FIT)
    assert (code, err) == (1, "gpukmeans: error: new.npz: No space left on device\n")
    assert Path("new.npz").read_text() == "old model"
    assert Path("y.csv").read_text() == "old labels"
    assert not list(folder.glob(".*"))


def test_not_enough_memory_is_one_line(folder, run, monkeypatch):
    def refuse(*_, **__):
        raise MemoryError

    monkeypatch.setattr(KMeans, "fit", refuse)
    assert run(*FIT) == (1, "", "gpukmeans: error: not enough memory\n")


def test_a_warning_is_one_line(folder, run):
    np.save("same.npy", np.zeros((10, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        code, out, err = run("fit", "same.npy", "-k", 2, "-o", "new.npz")
    assert code == 0
    assert pairs(out)["inertia"] == "0.0"
    assert err.startswith("gpukmeans: warning: Number of distinct clusters (1)")
    assert err.count("\n") == 1


class Interrupter(logging.Handler):
    """Sends this process Ctrl-C when a fit logs an iteration."""

    def emit(self, record):
        if record.getMessage().startswith("iteration"):
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_in_a_fit_is_one_line_and_exit_code_130(folder, run):
    logger, handler = logging.getLogger("gpukmeans"), Interrupter()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        result = run(*FIT, "--labels", "y.csv")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert result == (130, "", "gpukmeans: interrupted\n")
    assert not [p.name for p in folder.iterdir() if p.name.startswith((".", "new", "y."))]


def test_ctrl_c_while_writing_leaves_no_temporary_file(folder, run, monkeypatch):
    monkeypatch.setattr(data_files.os, "fsync", lambda _: signal.raise_signal(signal.SIGINT))
    assert run(*FIT) == (130, "", "gpukmeans: interrupted\n")
    assert not [p.name for p in folder.iterdir() if p.name.startswith((".", "new"))]


# ---------------------------------------------------------------------------------------------- as a process
def test_the_module_runs_and_says_its_version():
    done = subprocess_run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"gpukmeans {gpukmeans.__version__}\n", "")


def test_exit_codes_and_lines_reach_the_shell(folder):
    done = subprocess_run("fit", "nothing.npy", "-k", 2, "-o", "new.npz")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "gpukmeans: error: Invalid value for DATA: nothing.npy: No such file or directory\n"
    done = subprocess_run("fit", "nan.npy", "-k", 2, "-o", "new.npz")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1


def test_debug_shows_the_traceback_and_the_log_wherever_it_stands(folder):
    done = subprocess_run("info", "--debug", "bad.npz")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.endswith("gpukmeans: error: bad.npz is truncated or corrupt.\n")
    done = subprocess_run("--debug", *FIT)
    assert done.returncode == 0
    assert "DEBUG:gpukmeans:backend" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="pipes as on POSIX")
@pytest.mark.parametrize("args", [("info", "m.npz"), ("--help",), ("--version",)])
def test_a_reader_that_has_gone_is_no_reason_to_complain(folder, args):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "gpukmeans", *args]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_stdout_is_one_line(folder):
    command = [sys.executable, "-m", "gpukmeans", "info", "m.npz"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (1, "gpukmeans: error: No space left on device\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_device_as_the_model_is_one_line(folder, run):
    code, out, err = run("fit", "x.npy", "-k", 2, "-o", "/dev/full")
    assert (code, out, err) == (1, "", "gpukmeans: error: /dev/full: No space left on device\n")
