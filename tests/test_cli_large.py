"""The command line with data that does not fit in memory."""

import os

import numpy as np
import pytest

from gpukmeans import KMeans
from gpukmeans.cli import main

X = np.random.default_rng(0).normal(size=(60_000, 16)).astype(np.float32)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X)
    (tmp_path / "folder").mkdir()
    np.save("folder/b.npy", X[100:])
    np.save("folder/a.npy", X[:100])
    return tmp_path


def run(call):
    return main(call.split())


def test_a_folder_is_fitted_and_labelled_block_by_block(capsys):
    assert run("fit folder -k 4 --seed 0 --max-iter 3 -o model.npz --labels fit.npy --backend numpy") == 0
    assert run("predict model.npz folder -o labels.csv") == 0
    assert "rows: 60000" in capsys.readouterr().out
    expected = KMeans(4, random_state=0, max_iter=3, backend="numpy").fit(X).labels_
    assert np.array_equal(np.load("fit.npy"), expected)
    assert np.array_equal(np.loadtxt("labels.csv", skiprows=1, dtype=np.int32), expected)


def test_a_cap_changes_no_bits(capsys):
    for cap in ("", " --max-memory 1GB", " --max-memory 17MB"):
        assert run(f"fit x.npy -k 4 --seed 0 --max-iter 3 -o model.npz --backend numpy{cap}") == 0
    inertias = {line for line in capsys.readouterr().out.splitlines() if line.startswith("inertia")}
    assert len(inertias) == 1
    assert run("predict model.npz x.npy -o labels.npy --max-memory 17MB") == 0
    assert len(np.load("labels.npy")) == len(X)
    assert "GPUKMEANS_MAX_MEMORY" not in os.environ


def test_plan_says_what_a_fit_would_do(capsys):
    assert run("plan folder -k 10 --backend numpy --max-memory 17MB") == 0
    said = capsys.readouterr().out
    for line in ("rows: 60,000 x 16 float32", "rows are: streamed", "18 to start", "max_memory: 17 MB"):
        assert line in said


@pytest.mark.parametrize(
    ("call", "code", "complaint"),
    [
        ("plan x.npy -k 4 --max-memory much", 2, "'much' is no size like 500MB"),
        ("plan x.npy -k 4 --max-memory 1kB", 1, "max_memory=1 kB is too little: this fit needs"),
        ("fit x.csv -k 4 -o m.npz --max-memory 1GB", 2, "is read as a whole"),
        ("fit nowhere -k 4 -o m.npz", 2, "nowhere"),
        ("fit empty -k 4 -o m.npz", 2, "has no file that can be streamed"),
        ("fit x.npy -k 70000 -o m.npz --max-memory 1GB", 2, "x.npy has 60000 rows, fewer than 70000 clusters"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(here, capsys, call, code, complaint):
    (here / "empty").mkdir()
    (here / "x.csv").write_text("1,2\n3,4\n")
    assert run(call) == code
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1
