"""Many small problems: `kmeans_batch` against a loop of fits, start included.

    python -m benchmarks.batch --output benchmarks/results/batch.json

Every contestant fits the same problems with the same seeds and scikit-learn's defaults, k-means++ included. Before
anything is timed some of the problems are compared with fits by the NumPy backend, bit for bit, and the inertia of all
with scikit-learn's. Then they take turns. What the start takes is what given centers save: the same problems are fitted
once more from those.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import machine
from benchmarks.harness import SETTLE, WrongAnswerError

Array = NDArray[Any]


class Batch(NamedTuple):
    """Problems of one size: what is measured."""

    kind: str
    n_problems: int = 2000
    n_samples: int = 200
    n_features: int = 16
    n_clusters: int = 8

    def problems(self) -> list[Array]:
        """Float32 rows: noise, or around as many middles as clusters are asked for."""
        rng = np.random.default_rng(0)
        shape = (self.n_samples, self.n_features)
        made = []
        for _ in range(self.n_problems):
            X = rng.normal(size=shape)
            if self.kind == "blobs":
                middles = rng.normal(size=(self.n_clusters, self.n_features)) * 3
                X += middles[rng.integers(0, self.n_clusters, self.n_samples)]
            made.append(X.astype(np.float32))
        return made


BATCHES = (Batch("noise"), Batch("blobs"))


def _loop(estimator: Any, problems: list[Array], n_clusters: int) -> tuple[Array, Array]:
    """Inertia and iterations of each problem."""
    fits = [estimator(n_clusters, random_state=i).fit(X) for i, X in enumerate(problems)]
    return np.array([fit.inertia_ for fit in fits]), np.array([fit.n_iter_ for fit in fits])


def calls(batch: Batch) -> dict[str, Callable[[], Any]]:
    """What is timed, by name."""
    from sklearn.cluster import KMeans as SklearnKMeans

    from gpukmeans import kmeans_batch, kmeans_plusplus

    problems, k = batch.problems(), batch.n_clusters
    seeds = range(batch.n_problems)
    starts = [kmeans_plusplus(X, k, random_state=i)[0] for i, X in enumerate(problems)]
    return {
        "kmeans_batch": lambda: kmeans_batch(problems, k, random_state=seeds)[2:],
        "kmeans_batch from given starts": lambda: kmeans_batch(problems, k, init=starts)[2:],
        "loop of scikit-learn": lambda: _loop(SklearnKMeans, problems, k),
    }


def check(batch: Batch, answers: dict[str, Any]) -> None:
    """Refuse to time what is wrong."""
    from gpukmeans import KMeans

    inertia, n_iter = answers["kmeans_batch"]
    for i, X in list(enumerate(batch.problems()))[:: max(1, batch.n_problems // 50)]:
        own = KMeans(batch.n_clusters, random_state=i, backend="numpy").fit(X)
        if (own.inertia_, own.n_iter_) != (inertia[i], n_iter[i]):
            raise WrongAnswerError(f"problem {i} has not the bits of its own fit")
    theirs = answers["loop of scikit-learn"][0]
    if not abs(inertia.sum() / theirs.sum() - 1) < 0.01:
        raise WrongAnswerError(f"inertia {inertia.sum():.8g}, scikit-learn has {theirs.sum():.8g}")


def measure(batch: Batch, repeat: int) -> dict[str, Any]:
    """One row of the results."""
    contestants = calls(batch)
    answers = {name: call() for name, call in contestants.items()}
    check(batch, answers)
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    order = list(contestants)
    for _ in range(repeat):
        for name in order:
            time.sleep(SETTLE)
            if not name.startswith("loop"):  # it would measure how long a sleeping processor takes to wake
                contestants[name]()
            begin = time.perf_counter()
            contestants[name]()
            seconds[name].append(time.perf_counter() - begin)
        order = order[1:] + order[:1]
    return {
        **batch._asdict(),
        "dtype": "float32",
        "mean_n_iter": float(answers["kmeans_batch"][1].mean()),
        "median_seconds": {name: statistics.median(times) for name, times in seconds.items()},
        "seconds": seconds,
    }


def main() -> None:
    """Measure every batch and print or write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5, help="rounds; the medians count (default: 5)")
    parser.add_argument("--output", type=Path, help="JSON file")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    report: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine.describe(),
        "repeat": options.repeat,
        "batches": [],
    }
    for batch in BATCHES:
        row = measure(batch, options.repeat)
        report["batches"].append(row)
        for name, median in row["median_seconds"].items():
            print(f"{batch}: {name} {median * 1e3:.0f} ms", flush=True)
        if options.output:
            options.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
