"""End to end: every competitor gets the same data, the same start and the same stopping rule.

    python -m benchmarks.harness --cases 'fit/*/float32/*' --repeat 5 --output benchmarks/results/NAME.json

The answers are checked before anything is timed. Then the competitors take turns, in another order each
round, so that a slow minute of the machine hits all of them; medians count, and every time is kept.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import machine
from benchmarks.cases import CASES, Case, make_data, select
from benchmarks.competitors import COMPETITORS, Answer, Competitor

Array = NDArray[Any]
OURS = "gpukmeans"
REFERENCE = "scikit-learn"
SEEDING_SEED = 0
SETTLE = 0.25  # seconds: threads of the one before, OpenMP's above all, go on spinning for as long as 0.2
SHORT = 10**9  # multiplications and additions of a pass: some milliseconds


class WrongAnswerError(Exception):
    """gpukmeans gave an answer that is not a right one; nothing was timed."""


def inertia(X: Array, answer: Answer) -> float:
    """Sum of squared distances in float64, computed the same way for every competitor."""
    total = 0.0
    for start in range(0, len(X), 10_000):
        rows = slice(start, start + 10_000)
        difference = X[rows].astype(np.float64) - answer.centers[answer.labels[rows]]
        total += float(np.einsum("ij,ij->", difference, difference))
    return total


def check_labels(X: Array, answer: Answer) -> None:
    """Refuse labels that are not those of the nearest centers, computed plainly, on rows of all the data."""
    rows = np.linspace(0, len(X) - 1, 500).astype(int)
    centers = answer.centers.astype(np.float64)
    for row in rows:
        sqdist = ((X[row].astype(np.float64) - centers) ** 2).sum(axis=1)
        if sqdist[answer.labels[row]] > sqdist.min() * (1 + 1e-12):
            raise WrongAnswerError(f"row {row} has label {answer.labels[row]}, not {sqdist.argmin()}")


def chosen_competitors(case: Case, names: list[str]) -> list[Competitor]:
    """Those of the named competitors that are installed and can do the case."""
    return [
        c
        for c in COMPETITORS.values()
        if c.name in names
        and c.version() is not None
        and case.dtype in c.dtypes
        and getattr(c, case.verb) is not None
    ]


def prepare(case: Case, competitors: list[Competitor]) -> tuple[dict[str, Callable[[], Any]], dict[str, Any]]:
    """Calls to be timed, one for each competitor, and what their checked answers were like."""
    X, init = make_data(case)
    if case.verb == "fit":
        return prepare_fit(case, competitors, X, init)
    return prepare_verb(case, competitors, X, init)


def prepare_fit(
    case: Case, competitors: list[Competitor], X: Array, init: Array
) -> tuple[dict[str, Callable[[], Any]], dict[str, Any]]:
    """Check one whole fit of everyone; gpukmeans is first: who takes no tol runs its number of iterations."""
    answers: dict[str, Answer] = {}
    calls: dict[str, Callable[[], Any]] = {}
    for competitor in competitors:
        max_iter = case.max_iter if competitor.takes_tol else answers[OURS].n_iter

        def call(fit: Any = competitor.fit, max_iter: int = max_iter) -> Answer:
            result: Answer = fit(X, init, case.tol, max_iter)
            return result

        calls[competitor.name] = call
        answers[competitor.name] = call()
    check_labels(X, answers[OURS])
    inertias = {name: inertia(X, answer) for name, answer in answers.items()}
    if inertias[OURS] > inertias[REFERENCE] * 1.01:
        raise WrongAnswerError(f"inertia {inertias[OURS]:.8g}, scikit-learn has {inertias[REFERENCE]:.8g}")
    checked = {
        name: {
            "n_iter": int(answer.n_iter),
            "inertia": inertias[name],
            "equal_labels": float(np.mean(answer.labels == answers[OURS].labels)),
        }
        for name, answer in answers.items()
    }
    return calls, checked


def prepare_verb(
    case: Case, competitors: list[Competitor], X: Array, init: Array
) -> tuple[dict[str, Callable[[], Any]], dict[str, Any]]:
    """Check one predict or one k-means++ of everyone."""
    calls: dict[str, Callable[[], Any]] = {}
    results: dict[str, Array] = {}
    for competitor in competitors:
        if case.verb == "predict":
            assert competitor.predict is not None
            verb: Callable[..., Any] = competitor.predict(X, init)
            calls[competitor.name] = lambda verb=verb: verb(X)
        else:
            verb = competitor.seeding  # type: ignore[assignment]
            calls[competitor.name] = lambda verb=verb: verb(X, case.n_clusters, SEEDING_SEED)
        results[competitor.name] = calls[competitor.name]()
    if case.verb == "predict":
        check_labels(X, Answer(results[OURS], init, 0))
    key = "equal_labels" if case.verb == "predict" else "equal_rows_chosen"
    return calls, {name: {key: float(np.mean(got == results[OURS]))} for name, got in results.items()}


def interleaved(
    calls: dict[str, Callable[[], Any]], repeat: int, *, is_short: bool = False
) -> dict[str, list[float]]:
    """Seconds of each call, in turns that begin with another one each round."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    for _ in range(repeat):
        for name in order:
            gc.collect()
            time.sleep(SETTLE)
            if is_short:  # it would measure how long a sleeping processor takes to wake
                calls[name]()
            begin = time.perf_counter()
            calls[name]()
            times[name].append(time.perf_counter() - begin)
        order = order[1:] + order[:1]
    return times


def of_times(seconds: list[float]) -> dict[str, Any]:
    """Median and spread, and the times themselves."""
    median = statistics.median(seconds)
    return {"median_seconds": median, "spread": (max(seconds) - min(seconds)) / median, "seconds": seconds}


def run_case(case: Case, names: list[str], repeat: int) -> dict[str, Any]:
    """One row of the results."""
    competitors = chosen_competitors(case, names)
    calls, checked = prepare(case, competitors)
    times = interleaved(calls, repeat, is_short=case.work < SHORT)
    row: dict[str, Any] = {
        "case": case.name,
        "group": case.group,
        "verb": case.verb,
        "n_samples": case.n_samples,
        "n_features": case.n_features,
        "n_clusters": case.n_clusters,
        "dtype": case.dtype,
        "kind": case.kind,
        "tol": case.tol,
        "max_iter": case.max_iter,
        "competitors": {},
    }
    for name, seconds in times.items():
        row["competitors"][name] = {
            **of_times(seconds),
            **checked[name],
            "note": COMPETITORS[name].note if case.verb == "fit" else "",
        }
    return row


def summary(row: dict[str, Any]) -> str:
    """One line for the terminal."""
    results = row["competitors"]
    ours = results[OURS]["median_seconds"]
    others = [
        f"{name} {r['median_seconds'] * 1e3:.1f} ms ({r['median_seconds'] / ours:.2f}x)"
        for name, r in results.items()
        if name != OURS
    ]
    return f"{row['case']}: {ours * 1e3:.1f} ms; " + ", ".join(others)


def main(arguments: list[str] | None = None) -> int:
    """Run the cases and write the results after each of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--cases", nargs="+", default=["*"], help="names of cases, with wildcards (default: all)"
    )
    parser.add_argument("--competitors", nargs="+", default=list(COMPETITORS), choices=list(COMPETITORS))
    parser.add_argument("--repeat", type=int, default=5, help="rounds; the medians count (default: 5)")
    parser.add_argument("--output", type=Path, help="JSON file, written after every case")
    parser.add_argument("--list", action="store_true", help="print the names of the cases and stop")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(case.name for case in CASES))
        return 0
    names = list(dict.fromkeys([OURS, REFERENCE, *options.competitors]))
    warnings.simplefilter("ignore")  # a fit that stops at max_iter is no news here
    report: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine.describe(),
        "competitors": {name: v for name, c in COMPETITORS.items() if (v := c.version()) is not None},
        "limits": machine.limits(),
        "repeat": options.repeat,
        "start": "rows of the data, drawn without replacement, the same for all who take a start",
        "cases": [],
    }
    for case in select(options.cases):
        try:
            row = run_case(case, names, options.repeat)
        except WrongAnswerError as error:
            print(f"{case.name}: WRONG ANSWER, not timed: {error}", file=sys.stderr)
            return 1
        report["cases"].append(row)
        print(summary(row), flush=True)
        if options.output:
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
