"""A fit takes no more memory than it may, with the same bits, or says before it starts how much it needs."""

import os
import re
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import support
from support import assert_same_fit, quiet_fit, result_of

from gpukmeans import KMeans, memory, open_source
from gpukmeans.backends import _cuda_pruning, _tensor_config

X = np.random.default_rng(0).normal(size=(60_000, 16)).astype(np.float32)


def model(k=5, **options):
    return KMeans(k, **{"random_state": 0, "max_iter": 3, "backend": "numpy", **options})


def needed(k, source, **options):
    """What the refusal of a tiny cap says."""
    with pytest.raises(ValueError, match="too little") as caught:
        model(k, max_memory=1, **options).plan(source)
    return int(re.search(r"\(([\d,]+) bytes\)", str(caught.value))[1].replace(",", ""))


@pytest.mark.parametrize(
    ("value", "n_bytes"),
    [("500MB", 500 * 10**6), ("1.5 GB", 1_500_000_000), ("2GiB", 2 << 30), ("10 kB", 10_000), ("7", 7), (9, 9)],
)
def test_sizes_are_numbers_of_bytes_or_texts_with_a_unit(value, n_bytes):
    assert memory.parse_bytes(value) == n_bytes


@pytest.mark.parametrize("value", ["much", "-1MB", "0", 0, -1, "5 EB", 1.5, True, "1e9"])
def test_other_sizes_are_refused(value):
    with pytest.raises(ValueError, match=f"'max_memory' parameter of KMeans must be .* Got {value!r}"):
        model(max_memory=value).fit(X)


def test_the_environment_sets_the_cap(monkeypatch):
    monkeypatch.setenv("GPUKMEANS_MAX_MEMORY", "1kB")
    with pytest.raises(ValueError, match="max_memory=1 kB is too little"):
        model().fit(X)
    assert model(max_memory="1GB").plan(X).mode == "in memory"
    monkeypatch.setenv("GPUKMEANS_MAX_MEMORY", "lots")
    with pytest.raises(ValueError, match="GPUKMEANS_MAX_MEMORY must be a size like"):
        model().fit(X)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("kind", ["array", "half precision", "memory map", "file"])
def test_a_fit_within_a_cap_has_the_bits_of_one_without(tmp_path, backend, kind):
    rows = X.astype(np.float16) if kind == "half precision" else X
    np.save(tmp_path / "x.npy", rows)
    data = {
        "array": rows, "half precision": rows, "memory map": np.load(tmp_path / "x.npy", mmap_mode="r"),
        "file": open_source(tmp_path / "x.npy"),
    }[kind]  # fmt: skip
    expected = result_of(quiet_fit(model(), rows))
    for cap in (needed(5, open_source(tmp_path / "x.npy"), backend=backend), "1GB"):
        capped = model(max_memory=cap, backend=backend)
        plan = capped.plan(data)
        assert plan.mode == ("in memory" if cap == "1GB" or (kind, backend) == ("array", "numpy") else "streamed")
        assert plan.n_blocks > 10 or plan.mode == "in memory"
        assert_same_fit(result_of(quiet_fit(capped, data)), expected)
        assert capped.score(data) == model().fit(rows).score(rows)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize(
    ("n", "d", "k", "init", "n_init", "weighted"),
    [
        (200_000, 2, 3, "k-means++", 2, True),
        (200_000, 1, 3, "random", 2, False),
        (10_000, 64, 100, "array", 1, False),
        (40_000, 16, 4, "k-means++", 1, False),
        (100_000, 4, 20, "k-means||", 1, False),
        (300, 16, 200, "array", 1, True),
    ],
)
def test_what_is_allocated_stays_below_the_plan(dtype, backend, n, d, k, init, n_init, weighted):
    rng = np.random.default_rng(0)
    rows, weights = rng.normal(size=(n, d)).astype(dtype), rng.random(n) if weighted else None
    start = rows[:k].copy() if init == "array" else init
    source = Slowly(rows)
    options = {"init": start, "n_init": n_init, "backend": backend}
    cap = int(1.02 * needed(k, source, **options)) + 8 * n * weighted + (24 * n if weighted and init != "array" else 0)
    capped = model(k, max_memory=cap, **options)
    quiet_fit(model(2, init=rows[:2].copy(), n_init=1, backend=backend), rows[:10])  # libraries and kernels
    plan = capped.plan(source, weights)
    tracemalloc.start()
    try:
        quiet_fit(capped, source, sample_weight=weights)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert plan.mode == "streamed" or d < 16 or n == 300
    assert peak <= plan.host_bytes <= cap


class Slowly:
    """Rows that are no array that could be held as it is."""

    def __init__(self, rows):
        self.rows, self.shape, self.dtype = rows, rows.shape, rows.dtype

    def blocks(self):
        yield from np.array_split(self.rows, 50)

    def take(self, indices):
        return self.rows[indices]


def test_on_a_card_both_memories_are_planned_and_kept_to(monkeypatch):
    for name, value in {"OVERHEAD": 0, "PIECE_BYTES": 0, "SMALLEST_BLOCK": 1 << 12}.items():
        monkeypatch.setattr(memory, name, value)
    rows, start = X[:10_000], {"init": X[:5], "n_init": 1, "max_iter": 2}
    with support.standin_cupy():
        free = model(backend="cupy").plan(open_source(rows))
        assert free.resident
        assert free.card_bytes > rows.nbytes
        capped = model(backend="cupy", max_memory=free.card_bytes - 1_000, **start)
        plan = capped.plan(open_source(rows))
        assert not plan.resident
        assert max(plan.card_bytes, plan.host_bytes) <= capped.max_memory
        found = result_of(quiet_fit(capped, open_source(rows)))
    assert_same_fit(found, result_of(quiet_fit(model(**start), rows)))


@pytest.mark.parametrize("d", [16, 140])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_what_is_allocated_on_a_card_stays_below_the_plan(monkeypatch, d, dtype):
    rows = np.random.default_rng(0).normal(size=(2000, d)).astype(dtype)
    start = {"init": rows[:9], "n_init": 1, "max_iter": 4, "tol": 0}
    monkeypatch.setattr(_tensor_config, "FORCED", "tf32")
    monkeypatch.setattr(_cuda_pruning, "pays", lambda *args: True)
    monkeypatch.setattr(memory, "SMALLEST_BLOCK", 1 << 12)
    with support.standin_cupy(properties={"MultiProcessorCount": 2}) as control:
        import cupy

        pool = cupy.get_default_memory_pool()
        for streams in (False, True):
            planned = model(9, backend="cupy", **start).plan(open_source(rows)).card_bytes
            cap = planned - 1000 if streams else None
            monkeypatch.setattr(memory, "PIECE_BYTES", 0)
            monkeypatch.setattr(memory, "OVERHEAD", 0)
            capped = model(9, backend="cupy", max_memory=cap, **start)
            plan = capped.plan(open_source(rows))
            assert plan.resident != streams
            pool.free_all_blocks()
            before = pool.total_bytes()
            control.log.clear()
            quiet_fit(capped, open_source(rows))
            names = {name.partition("<")[0] for name in control.log.launches}
            assert ("assign_sm80_wide" in names) == (d == 140 and not streams)
            assert ("prune" in names) != streams
            assert 0 < pool.total_bytes() - before <= plan.card_bytes


def test_sums_of_blocks_are_kept_only_where_there_is_room():
    small = memory.Job(10**7, 64, 8, 4, "array", 1, False, "numba", 2)
    large = memory.Job(10**9, 64, 1000, 4, "array", 1, False, "numba", 2)
    for job, keeps in ((small, True), (large, False)):
        plan = memory.fit_plan(job, streamed_like(job), None, why="", kernel="", with_variance=True)
        assert plan.keeps_sums == keeps


def streamed_like(job):
    from gpukmeans.streaming import Streamed

    class Nothing:
        shape, dtype = (job.n_samples, job.n_features), np.dtype(np.float32)

        def blocks(self):
            raise AssertionError("a plan reads no rows")

    return Streamed(Nothing())


def test_a_plan_says_what_will_be_done_and_why():
    assert KMeans(100, init="k-means||", n_init=1, backend="numpy").plan(X).start_passes == 6
    plan = KMeans(100, backend="numpy", max_memory="30MB").plan(np.zeros((1_000_000, 3), np.float32))
    text = str(plan)
    for line in ("rows: 1,000,000 x 3 float32", "backend: numpy: asked for", "198 to start, 1 an iteration, 4 more"):
        assert line in text
    assert "not cupy: " in str(KMeans(2).plan(X)) or support.has_card()
    with pytest.raises(ValueError, match="n_samples=60000 should be >= n_clusters=400000"):
        KMeans(400_000).plan(X)


def test_predict_keeps_to_the_cap_and_needs_no_memory_for_labels_that_go_to_a_file(tmp_path):
    fitted = quiet_fit(model(), X)
    many = np.tile(X[:, :1], (50, 1))
    one = quiet_fit(model(init=X[:5, :1], n_init=1), X[:, :1])
    one.set_params(max_memory=22_000_000)
    with pytest.raises(ValueError, match=r"too little: this needs .* 4 for each of 3,000,000 rows \(none with predict"):
        one.predict(open_source(many))
    labels = one.predict(open_source(many), out=tmp_path / "labels.npy")
    assert np.array_equal(labels, np.tile(one.labels_, 50))
    labels._mmap.close()
    assert fitted.set_params(max_memory="1GB").predict(open_source(X)).tolist() == fitted.labels_.tolist()


PROGRAM = """
import numpy as np, sys
from pathlib import Path
from gpukmeans import KMeans, open_source
source = open_source(sys.argv[1])
centers = np.eye(8, 64, dtype=np.float32)  # no row is read before the peak is looked at
def fit(data):
    return KMeans(8, init=centers, n_init=1, max_iter=2, tol=0, backend="numba", max_memory=sys.argv[2]).fit(data)
import warnings
warnings.simplefilter("ignore")
fit(np.ones((2000, 64), np.float32))
def resident(which):  # getrusage has the peak of the parent before, too
    return int(Path("/proc/self/status").read_text().partition(which + ":")[2].split()[0]) * 1024
Path("/proc/self/clear_refs").write_text("5")  # VmHWM counts from here
before = resident("VmRSS")
model = fit(source)
print(resident("VmHWM") - before, model.inertia_)
"""


ONLY_LINUX = pytest.mark.skipif(
    not os.path.exists("/proc/self/clear_refs"), reason="the peak of a process is had from Linux only"
)


def grown(path, cap):
    """By how much a process grows while it fits a file, and the inertia."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "MALLOC_ARENA_MAX": "2"}
    command = [sys.executable, "-c", PROGRAM, str(path), cap]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    n_bytes, inertia = done.stdout.split()
    return int(n_bytes), float(inertia)


@ONLY_LINUX
def test_the_process_stays_below_the_cap_while_it_fits_a_file_of_three_times_its_size(tmp_path):
    rows = np.random.default_rng(0).integers(0, 255, (500_000, 64), dtype=np.uint8).astype(np.float32)
    np.save(tmp_path / "x.npy", rows)
    assert rows.nbytes > 3 * 40_000_000
    n_bytes, inertia = grown(tmp_path / "x.npy", "40MB")
    assert 10_000_000 <= n_bytes <= 40_000_000
    assert inertia == quiet_fit(KMeans(8, init=np.eye(8, 64), n_init=1, max_iter=2, tol=0), rows).inertia_


@ONLY_LINUX
@pytest.mark.extra
def test_what_a_library_unpacks_to_read_a_few_rows_counts(tmp_path):
    pa, pq = support.optional("pyarrow"), support.optional("pyarrow.parquet")
    rows = np.random.default_rng(0).random((250_000, 64), dtype=np.float32)
    pq.write_table(pa.table({f"c{j}": rows[:, j] for j in range(64)}), tmp_path / "x.parquet")
    source = open_source(tmp_path / "x.parquet")
    for cap in (source.overhead, source.overhead + 35_000_000):
        capped = model(8, backend="numba", init=rows[:8], n_init=1, max_memory=cap)
        if cap == source.overhead:
            with pytest.raises(ValueError, match=r"too little.* are what is unpacked to read a few rows, and "):
                capped.plan(source)
        else:
            assert capped.plan(source).mode == "streamed"
            n_bytes, _ = grown(tmp_path / "x.parquet", str(cap))
            assert 50_000_000 <= n_bytes <= cap  # rows and sums alone take less


@pytest.mark.extra
@pytest.mark.parametrize("library", ["h5py", "zarr"])
def test_chunks_of_a_store_are_unpacked_once(tmp_path, library):
    rows = np.arange(70_000, dtype=np.float32).reshape(1000, 70)
    if library == "h5py":
        with support.optional("h5py").File(tmp_path / "x.h5", "w") as file:
            file.create_dataset("x", data=rows, chunks=(300, 70))
        source = open_source(tmp_path / "x.h5")
    else:
        zarr = support.optional("zarr")
        zarr.create_array(tmp_path / "x.zarr", data=rows, chunks=(300, 70))
        source = open_source(tmp_path / "x.zarr")
    assert source.overhead == 2 * 300 * 70 * 4
    asked, read = [], source.read
    source.read = lambda low, high: asked.append((low, high)) or read(low, high)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpukmeans._reading.PIECE_BYTES", 100 * 70 * 4)
        out = np.empty((700, 70), np.float32)
        source.read_into(200, out)
        blocks = list(source.blocks())
    assert asked[:3] == [(200, 300), (300, 600), (600, 900)]
    assert np.array_equal(out, rows[200:900])
    assert np.array_equal(np.concatenate(blocks), rows)
    assert [len(block) for block in blocks] == [300, 300, 300, 100]
