"""A fit on 1, 2 and 3 workers of Dask against one in this process: labels, centers and inertia are compared first.

    python -m benchmarks.workers --output benchmarks/results/workers.json

The workers are processes of this machine with one thread each, and read the file themselves; the fit beside them reads
it, too, block by block, in one thread and in all. They take turns; whole fits count. More workers than cores cannot be
faster: that row says what the tasks cost.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.harness import WrongAnswerError
from benchmarks.streamed import write_rows
from gpukmeans import KMeans, open_source
from gpukmeans import dask as on_cluster
from gpukmeans.backends import _threads

WORKERS = (1, 2, 3)


def check(model: Any, expected: Any, name: str) -> None:
    """The same bits, or an error."""
    labels = np.asarray(model.labels_)
    same = np.array_equal(labels, expected.labels_) and model.inertia_ == expected.inertia_
    same &= np.array_equal(model.cluster_centers_, expected.cluster_centers_) and model.n_iter_ == expected.n_iter_
    if not same:
        raise WrongAnswerError(f"{name} has other bits than a fit in this process")


def measure(path: Path, n_clusters: int, max_iter: int, repeat: int) -> dict[str, Any]:
    """All times of one file."""
    from distributed import Client, LocalCluster

    source = open_source(path)
    n_samples, n_features = source.shape
    rows = np.empty((n_clusters, n_features), np.float32)
    source.read_into(0, rows)
    options: dict[str, Any] = {"init": rows, "n_init": 1, "tol": 0, "max_iter": max_iter, "backend": "numba"}

    def here(n_threads: int) -> Any:
        with _threads.limit(n_threads):
            return KMeans(n_clusters, **options).fit(source)

    with ExitStack() as stack:
        contestants: dict[str, Callable[[], Any]] = {}
        for n_threads in sorted({1, os.cpu_count() or 1}):
            contestants[f"one process, {n_threads} thread{'s' * (n_threads > 1)}"] = lambda n=n_threads: here(n)
        for n_workers in WORKERS:
            cluster = stack.enter_context(
                LocalCluster(n_workers, processes=True, threads_per_worker=1, dashboard_address=":0", silence_logs=50)
            )
            client = stack.enter_context(Client(cluster, set_as_default=False))
            contestants[f"{n_workers} worker{'s' * (n_workers > 1)}"] = lambda client=client: on_cluster.KMeans(
                n_clusters, client=client, **options
            ).fit(source)
        expected, seconds = here(os.cpu_count() or 1), {name: [] for name in contestants}
        for name, fit in contestants.items():
            model = fit()  # not timed: compilers, caches, threads
            if hasattr(model.labels_, "dask"):
                model.labels_ = model.client.compute(model.labels_).result()
            check(model, expected, name)
        for turn in range(repeat):
            names = list(contestants)
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                begin = time.perf_counter()
                contestants[name]()
                seconds[name].append(time.perf_counter() - begin)
    return {
        "n_samples": n_samples, "n_features": n_features, "n_clusters": n_clusters, "dtype": "float32",
        "file_bytes": path.stat().st_size, "n_iter": expected.n_iter_, "seconds": seconds,
        "median_seconds": {name: statistics.median(times) for name, times in seconds.items()},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=128)
    parser.add_argument("--clusters", type=int, default=64)
    parser.add_argument("--max-iter", type=int, default=10)
    parser.add_argument("--repeat", type=int, default=5)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        write_rows(path, given.rows, given.features)
        row = measure(path, given.clusters, given.max_iter, given.repeat)
    found = {"date": datetime.date.today().isoformat(), "machine": machine.describe(), "workers": row}
    print(json.dumps(row, indent=1))
    if given.output:
        given.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
