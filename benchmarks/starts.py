"""k-means|| against k-means++: time, passes over the rows, and how good the start and the fit are.

    python -m benchmarks.starts --output benchmarks/results/starts.json

A pass over the rows is what data that does not fit into memory would have to be read for once. The starts take turns
and the medians of their times count; inertias are means over the same seeds. Times are those of the start alone.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks import machine
from benchmarks.cases import Case, make_data
from gpukmeans import KMeans, oversampling, pairwise_distances_argmin_min, seeding
from gpukmeans.backends import get_backend
from gpukmeans.backends.base import Rows
from gpukmeans.prepare import prepare

CASES = [
    Case("seeding", 1_000_000, 16, 64, "float32", "blobs"),
    Case("seeding", 100_000, 64, 1000, "float32", "blobs"),
]
STARTS = {"k-means++": seeding.kmeans_plusplus, "k-means||": oversampling.kmeans_parallel}


def passes(blocks: list[Rows], start: Callable[[list[Rows]], Any]) -> int:
    """How often a start goes over the blocks: how often it asks for the rows of one that it did not just ask for."""
    asked: list[Rows] = []

    def dense(rows: Rows) -> Any:
        if any(rows is block for block in blocks) and not (asked and asked[-1] is rows):
            asked.append(rows)
        return rows.data

    with mock.patch.object(Rows, "dense", dense):
        start(blocks)
    return len(asked) // len(blocks)


def measure(case: Case, repeat: int, seeds: int) -> dict[str, Any]:
    """One row of the results."""
    X, _ = make_data(case)
    backend = get_backend("numba")
    data = prepare(backend, X, None, None)

    middle = case.n_samples // 2
    halves = [backend.rows(X[:middle], None, 0), backend.rows(X[middle:], None, middle)]

    def start(name: str, seed: int, blocks: list[Rows] = data.blocks) -> Any:
        return STARTS[name](backend, blocks, case.n_clusters, np.random.RandomState(seed), data.encoding)

    def inertia_of(centers: Any) -> float:
        _, sqdist = pairwise_distances_argmin_min(X, centers, metric="sqeuclidean", backend="numba")
        return float(sqdist.sum(dtype=np.float64))

    found: dict[str, dict[str, Any]] = {name: {"seconds": []} for name in STARTS}
    for name, result in found.items():
        result["passes"] = passes(halves, functools.partial(start, name, 0))
        drawn = [start(name, seed) for seed in range(seeds)]
        assert all((X[indices] == centers).all() for centers, indices in drawn)
        options = {"n_init": 1, "backend": "numba"}
        fits = [KMeans(case.n_clusters, init=centers, **options).fit(X) for centers, _ in drawn]
        result["inertia_of_start"] = float(np.mean([inertia_of(centers) for centers, _ in drawn]))
        result["inertia"] = float(np.mean([fit.inertia_ for fit in fits]))
        result["n_iter"] = float(np.mean([fit.n_iter_ for fit in fits]))
    for _ in range(repeat):
        for name, result in found.items():
            begin = time.perf_counter()
            start(name, 0)
            result["seconds"].append(time.perf_counter() - begin)
    for result in found.values():
        result["median_seconds"] = statistics.median(result["seconds"])
    sizes = {name: getattr(case, name) for name in ("n_samples", "n_features", "n_clusters", "kind", "dtype")}
    return {"case": case.name, **sizes, "seeds": seeds, "starts": found}


def main() -> None:
    """Measure every case and print or write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5, help="rounds; the medians count (default: 5)")
    parser.add_argument("--seeds", type=int, default=5, help="starts whose inertia is averaged (default: 5)")
    parser.add_argument("--output", type=Path, help="JSON file")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    report: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine.describe(),
        "repeat": options.repeat,
        "start_cases": [],
    }
    for case in CASES:
        row = measure(case, options.repeat, options.seeds)
        report["start_cases"].append(row)
        for name, result in row["starts"].items():
            print(
                f"{case.name}: {name} {result['median_seconds'] * 1e3:.0f} ms, {result['passes']} passes, "
                f"inertia {result['inertia_of_start']:.6g}, after the fit {result['inertia']:.6g}",
                flush=True,
            )
        if options.output:
            options.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
