"""Silhouettes and mini-batches against scikit-learn: time, and whether the answers follow the same law.

    python -m benchmarks.estimators --output benchmarks/results/estimators.json

The answers are checked before anything is timed: the silhouettes are equal, and both mini-batches end as low. The law:
the mean inertia of mini-batch fits with 20 seeds is that of scikit-learn to within 1 %.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.cluster
import sklearn.metrics
from numpy.typing import NDArray

from benchmarks import machine
from benchmarks.cases import Case, make_data
from benchmarks.harness import OURS, REFERENCE, Answer, WrongAnswerError, check_labels, interleaved, of_times
from gpukmeans import KMeans, MiniBatchKMeans, metrics

Array = NDArray[Any]
Row = dict[str, Any]

SILHOUETTES = [Case("silhouette", 20_000, 16, 10, dtype, "blobs") for dtype in ("float64", "float32")]
MINI_BATCHES = [
    (Case("mini-batches", n, d, k, "float32", kind), batch_size, n_steps)
    for n, d, k, kind, batch_size, n_steps in (
        (200_000, 64, 100, "blobs", 10_000, 60),
        (200_000, 64, 100, "noise", 10_000, 60),
        (1_000_000, 16, 64, "blobs", 1024, 976),
    )
]
LAWS = [(2, 8), (8, 12), (50, 30)]
"""Features and clusters."""
LAW_ROWS = 20_000
SEEDS = range(20)
SAME = 0.01
CLASSES = {OURS: MiniBatchKMeans, REFERENCE: sklearn.cluster.MiniBatchKMeans}


def silhouettes(case: Case, repeat: int) -> Row:
    """Both scores of the same labels."""
    X, init = make_data(case)
    labels = KMeans(len(init), init=init, n_init=1, max_iter=10).fit_predict(X)
    calls = {
        OURS: lambda: metrics.silhouette_score(X, labels),
        REFERENCE: lambda: float(sklearn.metrics.silhouette_score(X, labels)),
    }
    scores = {name: call() for name, call in calls.items()}
    if abs(scores[OURS] - scores[REFERENCE]) > (1e-9 if case.dtype == "float64" else 1e-4):
        raise WrongAnswerError(f"{case.name}: {scores}")
    times = interleaved(calls, repeat)
    return {"case": case.name, **{name: {**of_times(times[name]), "score": scores[name]} for name in calls}}


def mini_batches(case: Case, batch_size: int, n_steps: int, repeat: int) -> Row:
    """So many batches of the same size from the same start, then the labels of all rows."""
    X, init = make_data(case)
    epochs = -(-n_steps * batch_size // case.n_samples)
    options = {"init": init, "n_init": 1, "batch_size": batch_size, "max_iter": epochs, "random_state": 0}
    options |= {"tol": 0.0, "max_no_improvement": None}

    def call(name: str) -> Any:
        return CLASSES[name](case.n_clusters, **options).fit(X)

    fitted = {name: call(name) for name in CLASSES}
    ours, theirs = fitted[OURS], fitted[REFERENCE]
    check_labels(X, Answer(ours.labels_, ours.cluster_centers_, ours.n_iter_))
    if ours.n_steps_ != theirs.n_steps_ or ours.inertia_ > theirs.inertia_ * 1.02:
        raise WrongAnswerError(f"{case.name}: {ours.n_steps_} steps to {ours.inertia_}, {theirs.inertia_}")
    times = interleaved({name: lambda name=name: call(name) for name in CLASSES}, repeat)
    row: Row = {"case": case.name, "batch_size": batch_size, "n_steps": int(ours.n_steps_)}
    return row | {name: {**of_times(times[name]), "inertia": float(model.inertia_)} for name, model in fitted.items()}


def law(kind: str, n_features: int, n_clusters: int) -> Row:
    """Mean inertia over the seeds, with everything else as it is by default."""
    rng = np.random.default_rng(0)
    if kind == "blobs":
        X, _ = make_data(Case("fit", LAW_ROWS, n_features, n_clusters, "float64", kind))
    else:
        X = getattr(rng, kind)(size=(LAW_ROWS, n_features))
    found = {
        name: [float(cls(n_clusters, random_state=seed).fit(X).inertia_) for seed in SEEDS]
        for name, cls in CLASSES.items()
    }
    ours, theirs = (statistics.fmean(found[name]) for name in CLASSES)
    if abs(ours / theirs - 1) > SAME:
        raise WrongAnswerError(f"{kind}, {n_features} features, {n_clusters} clusters: {ours} and {theirs}")
    return {"kind": kind, "n_features": n_features, "n_clusters": n_clusters, "ratio": ours / theirs, **found}


def main(arguments: list[str] | None = None) -> None:
    """Measure everything and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5, help="rounds; the medians count (default: 5)")
    parser.add_argument("--output", type=Path, help="JSON file")
    options = parser.parse_args(arguments)
    report: Row = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine.describe(),
        "repeat": options.repeat,
    }
    report["timed"] = timed = []
    for case in SILHOUETTES:
        timed.append(silhouettes(case, options.repeat))
        print(said(timed[-1]), flush=True)
    for case, batch_size, n_steps in MINI_BATCHES:
        timed.append(mini_batches(case, batch_size, n_steps, options.repeat))
        print(said(timed[-1]), flush=True)
    report["law"] = laws = []
    for kind in ("blobs", "uniform", "normal"):
        for shape in LAWS:
            laws.append(law(kind, *shape))
            print(kind, *shape, f"{laws[-1]['ratio']:.4f}", flush=True)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(report, indent=1) + "\n")


def said(row: Row) -> str:
    """One line for the terminal."""
    ours, theirs = (row[name]["median_seconds"] for name in CLASSES)
    return f"{row['case']}: {ours * 1e3:.1f} ms; {REFERENCE} {theirs * 1e3:.1f} ms ({theirs / ours:.2f}x)"


if __name__ == "__main__":
    main()
