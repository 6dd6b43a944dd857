"""k-means|| against k-means++: time, passes over the rows, and how good the start and the fit are.

    python -m benchmarks.starts --output benchmarks/results/starts.json

A pass is counted each time a verb of the CPU backend asks for the rows of a block: what data that does not fit into
memory would be read for (verbs of the same round read a block one after the other). The starts take turns and the
medians of their times count; inertias are means over the same seeds. Times are those of the start alone.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import time
import warnings
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


def passes(start: Any) -> int:
    """How often a start asks for the rows."""
    with mock.patch.object(Rows, "dense", autospec=True, side_effect=lambda rows: rows.data) as asked:
        start()
    return int(asked.call_count)


def measure(case: Case, repeat: int, seeds: int) -> dict[str, Any]:
    """One row of the results."""
    X, _ = make_data(case)
    backend = get_backend("numba")
    data = prepare(backend, X, None, None)

    def start(name: str, seed: int) -> Any:
        return STARTS[name](backend, data.blocks, case.n_clusters, np.random.RandomState(seed), data.encoding)

    def inertia_of(centers: Any) -> float:
        _, sqdist = pairwise_distances_argmin_min(X, centers, metric="sqeuclidean", backend="numba")
        return float(sqdist.sum(dtype=np.float64))

    found: dict[str, dict[str, Any]] = {name: {"seconds": []} for name in STARTS}
    for name, result in found.items():
        result["passes"] = passes(lambda name=name: start(name, 0))
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
