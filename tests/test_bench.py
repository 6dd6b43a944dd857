"""`gpukmeans bench`: answers before times, everybody's adapter, and a table that claims nothing."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.cluster
import support

from gpukmeans import _contestants, bench
from gpukmeans._contestants import Answer, Contestant, contestants
from gpukmeans.backends._numba import NumbaBackend
from gpukmeans.bench import Case, Peak, Timing, WrongAnswerError
from gpukmeans.cli import main

TINY = Case(300, 3, 4)
A100 = {"MultiProcessorCount": 108, "ClockRate": 1_410_000, "MemoryClockRate": 1_215_000, "GlobalMemoryBusWidth": 5120}


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """Only scikit-learn is installed beside us."""
    monkeypatch.setattr(_contestants, "find_spec", lambda name: name == "sklearn" or None)
    monkeypatch.setattr(bench.gc, "collect", lambda: None)  # of all that pytest holds, for each fit


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run `gpukmeans bench` on a tiny grid; gives the exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench, "grid", lambda quick: [TINY, dataclasses.replace(TINY, dtype="float64")])

    def run(*args):
        code = main(["bench", *args])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def chosen(*names):
    return contestants(names)[0]


def rows(out):
    """Cells of the table, by column."""
    table = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in out.splitlines() if line[:1] == "|"]
    return [dict(zip(table[0], cells, strict=False)) for cells in table[2:]]


# ---- measuring
def test_everybody_is_measured_as_often_as_asked_for(numba_backend):
    result = bench.measure(TINY, chosen(numba_backend, "numpy"), repeat=2)
    assert [t.name for t in result.timings] == ["numba", "numpy", "scikit-learn"]
    for t in result.timings:
        assert (len(t.seconds), len(t.seconds_few)) == (2, 2)
        assert t.n_iter[0] == bench.FEW < t.n_iter[1] <= bench.MORE
        assert t.equal_labels > 0.99
        assert t.inertia_ratio == pytest.approx(1, rel=1e-3)
        assert (t.floor, t.share) == (None, None)
    assert [t.equal_labels for t in result.timings[:2]] == [1, 1]


def test_a_wrong_answer_is_refused_before_anything_is_timed(numba_backend, monkeypatch):
    labels = NumbaBackend.labels
    monkeypatch.setattr(NumbaBackend, "labels", lambda self, blocks: labels(self, blocks) ^ 1)

    def clock(_):
        raise AssertionError("timed")

    some = [dataclasses.replace(c, clock=clock) for c in chosen(numba_backend)]
    with pytest.raises(WrongAnswerError, match="300 x 3, k=4, float32: numba has other labels than numpy; nothing"):
        bench.measure(TINY, some)


def test_a_bad_inertia_is_refused_before_anything_is_timed(monkeypatch):
    better = Contestant("scikit-learn", lambda X, start, n: Answer(np.zeros(len(X), int), start, n))
    monkeypatch.setattr(bench, "inertia", lambda X, labels, centers: 1.0 + bool(labels.any()))
    with pytest.raises(WrongAnswerError, match="inertia 2, scikit-learn has 1"):
        bench.measure(TINY, [better])


def test_a_library_that_fails_is_left_out_and_said(numba_backend):
    def fail(*_):
        raise RuntimeError("no\nkernel image")

    result = bench.measure(TINY, [*chosen(numba_backend), Contestant("broken", fail)], repeat=1)
    assert result.failed == {"broken": "RuntimeError: no kernel image"}
    assert bench.lines(result)[-1].endswith("| broken         | failed: RuntimeError: no kernel image |")
    with pytest.raises(RuntimeError, match="kernel image"):
        bench.measure(TINY, [Contestant("ours", fail, is_ours=True)])


def test_an_iteration_is_the_difference_of_two_fits():
    t = Timing("a", "", [2, 12], [0.2, 0.1, 0.9], [1.1, 1.2, 1.0], 1.0, 1.0, floor=0.045)
    assert (t.fit, t.iteration, t.share) == (1.1, pytest.approx(0.09), pytest.approx(0.5))
    assert t.spread == pytest.approx(0.2 / 1.1)
    assert dataclasses.replace(t, seconds=[0.1]).iteration is None  # lost in the noise
    assert dataclasses.replace(t, n_iter=[2, 2]).iteration is None  # settled at once
    assert dataclasses.replace(t, seconds=[0.1]).spread is None


def test_data_and_start_of_a_case_are_the_same_every_time():
    X, start = TINY.make()
    assert (X.shape, X.dtype, start.shape) == ((300, 3), np.float32, (4, 3))
    for a, b in zip((X, start), TINY.make(), strict=True):
        assert np.array_equal(a, b)


def test_the_grid_is_large_and_the_quick_one_is_small():
    assert max(c.n_samples for c in bench.grid()) == 1_000_000
    assert max(c.n_samples * c.n_features * c.n_clusters for c in bench.grid(quick=True)) < 10**8
    assert {c.dtype for c in bench.grid()} == {c.dtype for c in bench.grid(quick=True)} == {"float32", "float64"}


# ---- the limits of a card
def test_the_peak_of_a_card_follows_from_its_attributes():
    assert bench.peak(A100, 80) == (108 * 64 * 2 * 1.41e9, 1.215e9 * 2 * 5120 / 8)
    assert bench.peak(A100, 75).flops == bench.peak(A100, 80).flops
    assert bench.peak(A100, 86).flops == bench.peak(A100, 90).flops == 2 * bench.peak(A100, 80).flops


@pytest.mark.parametrize("name", A100)
def test_a_card_whose_driver_tells_no_clocks_has_no_peak(name):
    assert bench.peak({**A100, name: 0}, 90) is None
    assert bench.peak({k: v for k, v in A100.items() if k != name}, 90) is None


def test_the_floor_is_the_longer_of_computing_and_reading():
    assert Peak(flops=2400.0, bytes=1e9).floor(Case(100, 3, 4)) == 1.0
    assert Peak(flops=1e9, bytes=2400.0).floor(Case(100, 3, 4, "float64")) == 1.0


# ---- the other libraries
class Fakes:
    """Libraries with the interface of the real ones, and scikit-learn inside."""

    def __init__(self, monkeypatch):
        self.modules = {
            "cuml.cluster": SimpleNamespace(KMeans=sklearn.cluster.KMeans),
            "faiss": SimpleNamespace(StandardGpuResources=1, get_num_gpus=lambda: 1, Kmeans=FakeFaiss),
            "fastkmeans": SimpleNamespace(FastKMeans=FakeFast),
            "flash_kmeans": SimpleNamespace(batch_kmeans_Euclid=fake_flash),
            "flashlib": SimpleNamespace(flash_kmeans=fake_flash),
            "torch": SimpleNamespace(
                from_numpy=FakeTensor,
                bfloat16="bfloat16",
                cuda=SimpleNamespace(is_available=lambda: True, synchronize=lambda: None),
            ),
        }
        monkeypatch.setattr(_contestants, "find_spec", lambda _: True)
        monkeypatch.setattr(_contestants, "import_module", self.modules.__getitem__)
        monkeypatch.setattr(_contestants, "_to_card", lambda X: X)


def sk(X, start, n_iter):
    return sklearn.cluster.KMeans(len(start), init=start, n_init=1, max_iter=n_iter, tol=0.0).fit(X)


class FakeFaiss:
    def __init__(self, d, k, *, niter, gpu, max_points_per_centroid, min_points_per_centroid):
        assert gpu
        assert (max_points_per_centroid, min_points_per_centroid) == (300, 1)  # no silent subsample
        self.niter = niter

    def train(self, X, init_centroids):
        self.model = sk(X, init_centroids, self.niter)
        self.centroids = self.model.cluster_centers_

    def assign(self, X):
        return None, self.model.predict(X)


class FakeFast:
    def __init__(self, d, k, *, niter, tol):
        assert tol < 0
        self.k, self.niter = k, niter

    def train(self, X):
        self.model = sk(X, X[: self.k], self.niter)
        self.centroids = self.model.cluster_centers_

    def predict(self, X):
        return self.model.predict(X)


class FakeTensor(np.ndarray):
    def __new__(cls, a):
        return np.asarray(a).view(cls)

    def cuda(self):
        return self

    def to(self, dtype):
        assert dtype == "bfloat16"
        return (self.view(np.uint32) & 0xFFFF0000).view(np.float32)  # its upper half

    def float(self):
        return self


def fake_flash(x, n_clusters, *, max_iters, tol, init_centroids):
    assert (x.shape[0], init_centroids.shape[:2], tol) == (1, (1, n_clusters), 0.0)
    model = sk(np.asarray(x[0]), np.asarray(init_centroids[0]), max_iters)
    return model.labels_[None], model.cluster_centers_[None].view(FakeTensor), max_iters


def test_every_library_gets_rows_start_and_iterations(monkeypatch):
    Fakes(monkeypatch)
    found, absent = contestants(["numpy"])
    assert absent == {}
    result = bench.measure(TINY, found, repeat=1)
    assert result.failed == {}
    same = {t.name: t.equal_labels for t in result.timings}
    own_start = same.pop("fastkmeans")
    assert same.pop("flashlib, bf16") > 0.95  # of rounded rows
    assert list(same) == ["numpy", "scikit-learn", "cuML", "faiss-gpu", "flash-kmeans", "flashlib"]
    assert min(same.values()) > 0.99
    assert own_start < 1
    notes = {t.name: t.note for t in result.timings}
    assert "takes no start" in notes["fastkmeans"]
    assert [t.name for t in bench.measure(dataclasses.replace(TINY, dtype="float64"), found, repeat=1).timings] == [
        "numpy", "scikit-learn", "cuML",
    ]  # fmt: skip


def test_libraries_without_a_card_are_named_with_the_reason(monkeypatch):
    fakes = Fakes(monkeypatch).modules
    fakes["faiss"].get_num_gpus = lambda: 0
    fakes["torch"].cuda.is_available = lambda: False

    def refuse(name):
        if name.startswith("cuml"):
            raise ImportError("libcuda.so.1:\n cannot open")
        return fakes[name]

    monkeypatch.setattr(_contestants, "import_module", refuse)
    found, absent = contestants([])
    assert [c.name for c in found] == ["scikit-learn", "fastkmeans"]
    assert not found[1].on_card
    assert absent == {
        "cuML": "does not work here: libcuda.so.1: cannot open",
        "faiss-gpu": "does not work here: faiss is installed without GPU support, or sees no card",
        **dict.fromkeys(("flash-kmeans", "flashlib", "flashlib, bf16"), "does not work here: torch sees no card"),
    }


# ---- a card
def test_on_a_card_rows_are_measured_from_both_places():
    with support.standin_cupy():
        result = bench.measure(TINY, chosen("cupy", "numpy"), repeat=1, card=bench.peak_of_card())
    assert [t.name for t in result.timings] == ["cupy", "cupy, on card", "numpy", "scikit-learn"]
    assert [t.equal_labels for t in result.timings[:3]] == [1, 1, 1]
    floor = bench.peak(A100, 80).floor(TINY)
    assert [t.floor for t in result.timings] == [floor, floor, None, None]
    assert result.timings[1].seconds == [1e-3]  # what an event of the stand-in says: its clock was asked


def test_the_chosen_card_is_measured(monkeypatch):
    monkeypatch.setenv("GPUKMEANS_DEVICE", "1")
    with support.standin_cupy(n_devices=2):
        on_card = chosen("cupy")[1]
        assert on_card.place(TINY.make()[0]).device.id == 1
        assert not bench.measure(TINY, [on_card], repeat=1).failed


def test_the_command_says_what_the_card_is(run):
    with support.standin_cupy():
        code, out, err = run("--backend", "cupy", "--quick")
    assert (code, err) == (0, "")
    assert "card 0: Stand-in for NVIDIA A100" in out
    assert "No card can be used" not in out
    assert [row["who"] for row in rows(out)] == ["cupy", "cupy, on card", "scikit-learn"] * 2
    assert "cupy, on card: the rows are a CuPy array; timed by events of the card." in out


# ---- the command
def test_the_table_shows_all_backends_and_who_is_not_installed(run, numba_backend, monkeypatch):
    no_card = {"cupy": "there is no NVIDIA driver: install one", "numba": None, "numpy": None}
    monkeypatch.setattr("gpukmeans.backends.available_backends", lambda: no_card)
    code, out, err = run("--quick", "--json", "b.json")
    assert (code, err) == (0, "")
    assert "No card can be used, so only backends of the CPU: there is no NVIDIA driver: install one." in out
    assert "Quick: small sizes and one repetition. These times are a look, no measurement." in out
    for name in ("cuML", "faiss-gpu", "flash-kmeans", "flashlib", "fastkmeans"):
        assert f"Not measured: {name}, not installed." in out
    table = rows(out)
    assert [(row["who"], row["dtype"]) for row in table] == [
        (who, dtype) for dtype in ("float32", "float64") for who in ("numba", "numpy", "scikit-learn")
    ]
    assert all((row["n"], row["d"], row["k"], row["of floor"]) == ("300", "3", "4", "") for row in table)
    assert [row["equal labels"] for row in table if row["who"] == "numba"] == ["100.0000%"] * 2
    assert [row["scikit-learn / it"] for row in table if row["who"] == "scikit-learn"] == ["1.00"] * 2

    found = json.loads(Path("b.json").read_text())
    assert found["machine"]["numpy"] == np.__version__
    assert (found["repeat"], found["iterations"], found["card"]) == (1, [bench.FEW, bench.MORE], None)
    assert found["absent"]["cuML"] == "not installed"
    assert [len(t["seconds"]) for c in found["cases"] for t in c["timings"]] == [1] * 6
    assert found["cases"][1]["case"] == {"n_samples": 300, "n_features": 3, "n_clusters": 4, "dtype": "float64"}


def test_without_quick_everything_is_repeated(run, numba_backend):
    code, out, _ = run("--backend", numba_backend, "--json", "b.json")
    assert code == 0
    assert "Medians of 5 repetitions in turn." in out
    assert {len(t["seconds"]) for c in json.loads(Path("b.json").read_text())["cases"] for t in c["timings"]} == {5}
    assert all(row["spread"].endswith("%") for row in rows(out))


def test_a_wrong_answer_ends_the_run_with_exit_code_1(run, numba_backend, monkeypatch):
    monkeypatch.setattr(NumbaBackend, "total_inertia", lambda *_: 1.0)
    code, out, err = run("--backend", numba_backend, "--quick")
    assert code == 1
    assert rows(out) == []
    assert "numba has other inertia than numpy" in err
    assert "`gpukmeans doctor --verify --backend numba`" in err
    assert err.count("\n") == 1


def test_a_backend_that_does_not_work_says_why(run):
    with support.standin_cupy(driver_version=0):
        code, out, err = run("--backend", "cupy")
    assert (code, out) == (1, "")
    assert "The backend 'cupy' does not work here: there is no NVIDIA driver" in err
