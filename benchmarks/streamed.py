"""A file larger than the memory that a fit may take: an iteration against reading alone, and against rows in memory.

    python -m benchmarks.streamed --output benchmarks/results/streamed.json

Reading: the file once through two buffers, without any work on it, as fast as the machine gives it (from its cache of
files, if the file fits there). Computing: a pass over one block that lies in memory, times the number of blocks. The
three take turns. Labels and inertia of a fit are those of `predict` and `score`, before anything is reported.
Linux only: the peak of the memory is the process's own, less what it was after a fit of a few rows.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from gpukmeans import KMeans, open_source
from gpukmeans.backends import get_backend
from gpukmeans.planning import as_planned
from gpukmeans.prepare import prepare
from gpukmeans.streaming import streamed

PIECE = 1 << 14  # rows that are drawn at a time
IN_MEMORY = 1_000_000


def write_rows(path: Path, n_samples: int, n_features: int) -> None:
    """A .npy file of noise, in float32, without holding it."""
    rng = np.random.default_rng(0)
    rows = np.lib.format.open_memmap(path, "w+", np.float32, (n_samples, n_features))
    for low in range(0, n_samples, PIECE):
        high = min(low + PIECE, n_samples)
        rows[low:high] = rng.random((high - low, n_features), dtype=np.float32)
    rows.flush()


def resident_bytes(which: str) -> int:
    """Resident memory of this process: VmRSS now, VmHWM at most. (getrusage has that of the parent before, too.)"""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{which}:")[2].split()[0]) * 1024


def reading_seconds(source: Any, block_rows: int) -> float:
    """One pass over the file, and nothing else."""
    n_samples, n_features = source.shape
    buffers = np.empty((2, block_rows, n_features), np.float32)
    begin = time.perf_counter()
    for i, low in enumerate(range(0, n_samples, block_rows)):
        source.read_into(low, buffers[i % 2][: min(block_rows, n_samples - low)])
    return time.perf_counter() - begin


def rounds(source: Any, centers: Any, plan: Any, repeat: int) -> dict[str, list[float]]:
    """Reading, and an iteration in memory and from the file, one after another: a slower machine is slower for all."""
    backend, times = get_backend("numba"), {"reading": [], "memory": [], "iteration": []}
    held = np.empty((min(IN_MEMORY, source.shape[0]), source.shape[1]), np.float32)
    source.read_into(0, held)
    in_memory = prepare(backend, held, None, None)
    with streamed(source) as rows:
        data = prepare(backend, as_planned(rows, plan), None, None)
        now = centers.astype(np.float64)
        for _ in range(repeat + 1):
            times["reading"].append(reading_seconds(source, plan.block_rows))
            begin = time.perf_counter()
            backend.iterate(in_memory.blocks, now, in_memory.encoding, 0.0, 1)
            times["memory"].append((time.perf_counter() - begin) * source.shape[0] / len(held))
            begin = time.perf_counter()
            (started,) = backend.iterate(data.blocks, now, data.encoding, 0.0, 1)
            times["iteration"].append(time.perf_counter() - begin)
            now = started.after
    return {name: values[1:] for name, values in times.items()}


def measure(path: Path, n_clusters: int, max_memory: str, max_iter: int) -> dict[str, Any]:
    """One row of the results."""
    warnings.simplefilter("ignore")
    source = open_source(path)
    rows = np.empty((n_clusters + 2000, source.shape[1]), np.float32)
    source.read_into(0, rows)
    centers = rows[:n_clusters].copy()
    options: dict[str, Any] = {"init": centers, "n_init": 1, "tol": 0, "backend": "numba", "max_iter": max_iter}
    KMeans(n_clusters, **options).fit(rows)  # libraries and kernels are not what the cap is for
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM counts from here
    before = resident_bytes("VmRSS")
    model = KMeans(n_clusters, max_memory=max_memory, **options)
    plan = model.plan(source)
    begin = time.perf_counter()
    model.fit(source)
    seconds, grown = time.perf_counter() - begin, resident_bytes("VmHWM") - before
    labels = model.predict(source)
    assert np.array_equal(labels, model.labels_)
    assert model.score(source) == -model.inertia_
    times = rounds(source, centers, plan, 5)
    shares = [max(pair) / whole for *pair, whole in zip(*times.values(), strict=True)]
    return {
        "n_samples": source.shape[0], "n_features": source.shape[1], "n_clusters": n_clusters, "dtype": "float32",
        "file_bytes": path.stat().st_size, "max_memory": max_memory, "block_rows": plan.block_rows,
        "n_blocks": plan.n_blocks, "keeps_sums": plan.keeps_sums, "planned_bytes": plan.host_bytes,
        "grown_bytes": grown, "n_iter": model.n_iter_, "fit_seconds": seconds,
        **{f"{name}_seconds": statistics.median(values) for name, values in times.items()}, "rounds": times,
        "share_of_the_slower": statistics.median(shares),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--rows", type=int, default=8_000_000)
    parser.add_argument("--features", type=int, default=128)
    parser.add_argument("--clusters", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--max-memory", default="300MB")
    parser.add_argument("--max-iter", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the file is written; it is removed again")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        path = Path(folder) / "rows.npy"
        write_rows(path, given.rows, given.features)
        # a process for each, since its peak is looked at
        with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as processes:
            rows = [
                processes.submit(measure, path, k, given.max_memory, given.max_iter).result() for k in given.clusters
            ]
    found = {"date": datetime.date.today().isoformat(), "machine": machine.describe(), "streamed": rows}
    print(json.dumps(rows, indent=1))
    if given.output:
        given.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
