"""A fit that is broken off anywhere goes on to the bits of one that is not; and it ends in time."""

import json
import os
import shutil
import signal
import subprocess
import sys
import warnings

import numpy as np
import problems
import pytest
from hypothesis import given, settings
from sklearn.exceptions import ConvergenceWarning
from support import assert_same_array, assert_same_fit, quiet_fit, result_of

from gpukmeans import CheckpointError, KMeans, checkpoint, open_source, runs
from gpukmeans.backends import _cpu_steps
from gpukmeans.cli import main

N = 400
X = np.random.default_rng(3).normal(size=(N, 3)).astype(np.float32)


class Clock:
    """Time that passes by a second at every look."""

    def __init__(self):
        self.seconds = 0

    def __call__(self):
        self.seconds += 1
        return float(self.seconds)


def every_checkpoint(folder, model, data, weights=None):
    """The fit, and copies of the checkpoints after each of its iterations."""
    kept, write = [], runs.write

    def write_and_copy(path, *args):
        write(path, *args)
        kept.append(shutil.copy(path, folder / f"{len(kept)}.npz"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "write", write_and_copy)
        quiet_fit(model, data, sample_weight=weights, checkpoint=folder / "last.npz", checkpoint_seconds=0)
    return kept


def assert_resumed(model, data, weights, path, expected):
    quiet_fit(model, data, sample_weight=weights, resume=path)
    assert_same_fit(result_of(model), result_of(expected))
    for column in ("n_moved", "shift_sq"):
        assert model.history_.column(column) == expected.history_.column(column)


# ---------------------------------------------------------------------------------------------- the same bits


@pytest.mark.parametrize("init", ["k-means++", "random", "array"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("streams", [False, True])
def test_a_fit_goes_on_from_every_iteration_to_the_same_bits(backend, tmp_path, init, dtype, streams):
    rows, weights = X.astype(dtype), np.random.default_rng(0).integers(0, 3, N).astype(float)
    start = rows[:5].copy() if init == "array" else init
    n_init = 1 if init == "array" else 3
    if backend == "cupy" and (dtype == "f8" or streams):
        rows, weights, n_init = rows[:150], weights[:150], min(n_init, 2)
    data = open_source(rows) if streams else rows
    options = {"n_clusters": 5, "init": start, "n_init": n_init, "random_state": 1, "max_iter": 5, "tol": 0}
    expected = quiet_fit(KMeans(**options, backend="numpy"), rows, sample_weight=weights)
    broken = KMeans(**options, backend=backend)
    kept = every_checkpoint(tmp_path, broken, data, weights)
    assert_same_fit(result_of(broken), result_of(expected))
    assert len(kept) >= 3 * n_init
    for path in kept if backend != "cupy" else kept[::5]:
        assert_resumed(KMeans(**options, backend=backend), data, weights, path, expected)
    assert_resumed(KMeans(**options, backend="numpy"), rows, weights, kept[1], expected)  # on another backend


@settings(max_examples=15)
@given(recipe=problems.recipes(max_n=80, dtypes=("f4", "f8")))
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_any_problem_goes_on_to_the_same_bits(tmp_path_factory, backend, recipe):
    p = recipe.build()
    folder = tmp_path_factory.mktemp("kept")
    options = {"n_clusters": recipe.k, "init": p.centers, "n_init": 1, "max_iter": min(p.max_iter, 8), "tol": p.tol}
    expected = quiet_fit(KMeans(**options, backend="numpy"), p.X, sample_weight=p.sample_weight)
    for path in every_checkpoint(folder, KMeans(**options, backend=backend), p.X, p.sample_weight):
        assert_resumed(KMeans(**options, backend=backend), p.X, p.sample_weight, path, expected)


@pytest.mark.parametrize(
    "random_state", [None, np.random.RandomState(5), np.random.default_rng(5)], ids=["none", "RandomState", "Generator"]
)
def test_random_numbers_go_on_where_they_were(tmp_path, random_state):
    options = {"n_clusters": 4, "init": "random", "n_init": 3, "max_iter": 5, "backend": "numpy"}
    model = KMeans(**options, random_state=random_state)
    for path in every_checkpoint(tmp_path, model, X)[:7:3]:
        fresh = {type(None): None, np.random.RandomState: np.random.RandomState(9)}.get(
            type(random_state), np.random.default_rng(9)
        )
        assert_resumed(KMeans(**options, random_state=fresh), X, None, path, model)


def test_a_checkpoint_of_another_kind_of_random_state_is_refused(tmp_path):
    options = {"n_clusters": 4, "init": "random", "n_init": 2, "max_iter": 5, "backend": "numpy"}
    path = every_checkpoint(tmp_path, KMeans(**options, random_state=np.random.RandomState(5)), X)[0]
    with pytest.raises(CheckpointError, match="with another kind of random_state"):
        KMeans(**options, random_state=np.random.default_rng(5)).fit(X, resume=path)


# ---------------------------------------------------------------------------------------------- faults

PROGRAM = """
import sys, numpy as np
from gpukmeans import KMeans
X = np.random.default_rng(3).normal(size=(400, 3)).astype(np.float32)
from gpukmeans import runs
write = runs.write
def and_tell(*args):
    write(*args)
    print("written", flush=True)
    sys.stdin.readline()
runs.write = and_tell
KMeans(5, random_state=1, tol=0, backend="numpy").fit(X, checkpoint=sys.argv[1], checkpoint_seconds=0)
"""


def test_a_fit_whose_process_was_killed_goes_on(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    path = tmp_path / "fit.npz"
    command = [sys.executable, "-c", PROGRAM, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, env=environment, text=True) as process:
        for _ in range(3):
            assert process.stdout.readline() == "written\n"
            process.stdin.write("\n")
            process.stdin.flush()
        process.send_signal(signal.SIGKILL)
        process.wait()
    expected = KMeans(5, random_state=1, tol=0, backend="numpy").fit(X)
    assert_resumed(KMeans(5, random_state=1, tol=0, backend="numpy"), X, None, path, expected)


def test_a_disk_that_fills_costs_the_checkpoint_and_not_the_fit(tmp_path, monkeypatch):
    def full(fd):
        raise OSError(28, "No space left on device")

    path = tmp_path / "fit.npz"
    path.write_text("the one before")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(RuntimeWarning, match="No checkpoint was written, and the fit goes on: .*No space left"):
        model = KMeans(5, random_state=1, backend="numpy").fit(X, checkpoint=path, checkpoint_seconds=0)
    assert_same_fit(result_of(model), result_of(KMeans(5, random_state=1, backend="numpy").fit(X)))
    assert [entry.name for entry in tmp_path.iterdir()] == ["fit.npz"]
    assert path.read_text() == "the one before"


def test_a_checkpoint_cut_short_is_refused_in_one_line(tmp_path):
    path = every_checkpoint(tmp_path, KMeans(5, random_state=1, backend="numpy"), X)[2]
    whole = (tmp_path / "2.npz").read_bytes()
    for length in [0, 1, 30, *range(100, len(whole), 97), len(whole) - 1]:
        (tmp_path / "cut.npz").write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"cut\.npz is no checkpoint of gpukmeans, or it is truncated"):
            KMeans(5, random_state=1, backend="numpy").fit(X, resume=tmp_path / "cut.npz")
    np.savez(tmp_path / "cut.npz", header=np.array([{}], dtype=object))
    with pytest.raises(CheckpointError, match="is no checkpoint"):
        KMeans(5, random_state=1, backend="numpy").fit(X, resume=tmp_path / "cut.npz")
    with pytest.raises(FileNotFoundError):
        KMeans(5, random_state=1, backend="numpy").fit(X, resume=tmp_path / "nowhere.npz")
    assert path


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"n_clusters": 6}, "n_clusters was 5 and is 6"),
        ({"max_iter": 7}, "max_iter was 300 and is 7"),
        ({"tol": 0.5}, "tol was 0.0001 and is 0.5"),
        ({"random_state": 2}, "random_state was 1 and is 2"),
        ({"init": X[:5]}, "init was 'k-means\\+\\+' and is 'array"),
        ({"n_init": 2}, "n_init was 1 and is 2"),
        ({"precision": "float32"}, "precision was 'exact' and is 'float32'"),
        ({"X": X[1:]}, r"shape of X was \[400, 3\] and is \[399, 3\]; content of X differs"),
        ({"X": X.astype("f8")}, "dtype of X was 'float32' and is 'float64'"),
        ({"X": np.where(np.arange(N)[:, None] == 77, X + 1e-6, X).astype("f4")}, "another fit: content of X differs"),
        ({"X": X[::-1]}, "another fit: content of X differs"),
        ({"weights": np.ones(N)}, "sample_weight was"),
    ],
)
def test_a_checkpoint_of_another_fit_is_refused_with_the_difference(tmp_path, change, difference):
    options = {"n_clusters": 5, "random_state": 1, "backend": "numpy"}
    path = every_checkpoint(tmp_path, KMeans(**options), X)[1]
    data, weights = change.pop("X", X), change.pop("weights", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # n_init=1 for an array
        with pytest.raises(CheckpointError, match=f"1.npz is a checkpoint of another fit: .*{difference}|{difference}"):
            KMeans(**{**options, **change}).fit(data, sample_weight=weights, resume=path)


def test_a_checkpoint_of_another_version_is_refused(tmp_path, monkeypatch):
    options = {"n_clusters": 5, "random_state": 1, "backend": "numpy"}
    path = every_checkpoint(tmp_path, KMeans(**options), X)[0]
    with np.load(path) as archive:
        arrays = dict(archive)
    header = json.loads(arrays["header"].tobytes())
    header["fit"]["gpukmeans"] = "0.0.9"
    np.savez(path, **arrays | {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)})
    with pytest.raises(CheckpointError, match="gpukmeans was '0.0.9' and is"):
        KMeans(**options).fit(X, resume=path)
    header["version"] = 2
    np.savez(path, **arrays | {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)})
    with pytest.raises(CheckpointError, match="a checkpoint of another version"):
        KMeans(**options).fit(X, resume=path)


# ---------------------------------------------------------------------------------------------- in time


@pytest.mark.parametrize("max_seconds", [0.001, 10, 25])
def test_a_fit_ends_in_time_with_a_valid_model_and_can_go_on(backend, tmp_path, monkeypatch, max_seconds):
    options = {"n_clusters": 6, "random_state": 1, "tol": 0, "backend": backend, "n_init": 2}
    expected = quiet_fit(KMeans(**options | {"backend": "numpy"}), X)
    clock = Clock()
    monkeypatch.setattr(_cpu_steps, "LONGEST_LOOP", 0)  # an iteration at a time, as of data that takes time
    monkeypatch.setattr(checkpoint.time, "monotonic", clock)
    model, path = KMeans(**options), tmp_path / "fit.npz"
    with pytest.warns(ConvergenceWarning, match=rf"max_seconds={max_seconds}\. Go on with resume='.*fit\.npz'"):
        model.fit(X, checkpoint=path, checkpoint_seconds=1e9, max_seconds=max_seconds)
    assert 1 <= model.n_iter_ < expected.n_iter_ + max_seconds
    assert_same_array(model.labels_, model.predict(X))
    assert model.inertia_ == -model.score(X)
    if max_seconds > 1 and backend != "cupy":  # which starts iterations ahead
        assert clock.seconds <= max_seconds + 3  # looks at the clock
    assert_resumed(KMeans(**options), X, None, path, expected)


def test_time_that_suffices_changes_nothing(tmp_path):
    model = KMeans(6, random_state=1, backend="numpy").fit(X, max_seconds=1e6, checkpoint=tmp_path / "fit.npz")
    assert_same_fit(result_of(model), result_of(KMeans(6, random_state=1, backend="numpy").fit(X)))
    assert not (tmp_path / "fit.npz").exists()  # it took less than a minute


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"max_seconds": 0}, "The 'max_seconds' parameter of fit must be .* Got 0 instead"),
        ({"checkpoint_seconds": -1}, "The 'checkpoint_seconds' parameter of fit must be .* Got -1 instead"),
    ],
)
def test_wrong_times_are_refused(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        KMeans(2).fit(X, **options)


# ---------------------------------------------------------------------------------------------- the command line


def test_the_command_line_goes_on_after_ctrl_c(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X)
    write, calls = runs.write, []

    def interrupted(*args):
        write(*args)
        calls.append(args)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(runs, "write", interrupted)
    call = ["fit", "x.npy", "-k", "5", "--seed", "1", "-o", "m.npz", "--backend", "numpy", "--labels", "y.npy"]
    assert main([*call, "--checkpoint", "c.npz", "--checkpoint-seconds", "0"]) == 130
    assert not os.path.exists("m.npz")
    assert main([*call, "--resume", "c.npz", "--max-seconds", "1000"]) == 0
    assert_same_array(np.load("y.npy"), KMeans(5, random_state=1, backend="numpy").fit(X).labels_)
    capsys.readouterr()
    assert main([*call, "--resume", "nowhere.npz"]) == 2
    assert main(["fit", "x.npy", "-k", "6", "-o", "m.npz", "--resume", "c.npz", "--backend", "numpy"]) == 1
    said = capsys.readouterr().err
    assert "nowhere.npz" in said
    assert "n_clusters was 5 and is 6" in said


