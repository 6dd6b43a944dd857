"""The benchmarks are right: the grid, the checks before the timing, and the table that the README shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import batch, estimators, harness, machine, report, starts, streamed
from benchmarks.cases import CASES, Case, make_data, parse, select
from benchmarks.competitors import COMPETITORS, Answer, Competitor

ROOT = Path(__file__).parent.parent
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
TINY = Case("fit", 600, 3, 5, "float32", "blobs")


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """JSON of the harness for one tiny case of each verb."""
    limits = {"float32_flops": 1e11, "float64_flops": 5e10, "bytes_per_second": 1e10}
    monkeypatch.setattr(machine, "limits", lambda: limits)
    output = tmp_path / "results" / "tiny.json"
    names = [f"{verb}/600x3/k5/float32/blobs" for verb in ("fit", "seeding", "predict")]
    options = ["--repeat", "2", "--competitors", "scikit-learn", "--output", str(output)]
    assert harness.main(["--cases", *names, *options]) == 0
    return output


def test_names_of_cases_are_unique_and_say_all_about_the_case() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    for case in CASES:
        if case.group == "grid":
            assert parse(case.name) == case


def test_a_name_that_is_not_in_the_grid_makes_a_case_of_its_own() -> None:
    assert select(["fit/50000x384/k1000/*/noise", TINY.name])[1:] == [TINY]
    with pytest.raises(SystemExit, match="No case matches"):
        select(["fit/nonsense"])


@pytest.mark.parametrize("kind", ["blobs", "noise"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_data_and_start_of_a_case_are_the_same_every_time(kind: str, dtype: str) -> None:
    case = Case("fit", 600, 3, 5, dtype, kind)
    X, init = make_data(case)
    again, init_again = make_data(case)
    assert X.dtype == init.dtype == dtype
    assert X.shape == (600, 3)
    assert np.array_equal(X, again)
    assert np.array_equal(init, init_again)
    assert all((row == X).all(axis=1).any() for row in init)


def test_the_harness_records_times_answers_and_the_machine(results: Path) -> None:
    run = json.loads(results.read_text())
    assert run["machine"]["versions"]["scikit-learn"]
    assert [case["verb"] for case in run["cases"]] == ["fit", "seeding", "predict"]
    for case in run["cases"]:
        assert set(case["competitors"]) == {"gpukmeans", "scikit-learn"}
        assert all(len(result["seconds"]) == 2 for result in case["competitors"].values())
    fit = run["cases"][0]["competitors"]
    assert fit["gpukmeans"]["n_iter"] == fit["scikit-learn"]["n_iter"]
    assert fit["scikit-learn"]["equal_labels"] == 1
    assert fit["gpukmeans"]["inertia"] == pytest.approx(fit["scikit-learn"]["inertia"], rel=1e-6)


def test_a_wrong_answer_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong_fit(X: Any, init: Any, tol: float, max_iter: int) -> Answer:
        right = COMPETITORS["scikit-learn"].fit(X, init, tol, max_iter)
        return right._replace(labels=(right.labels + 1) % len(init))

    wrong = Competitor("gpukmeans", "gpukmeans", "gpukmeans", wrong_fit)
    monkeypatch.setitem(COMPETITORS, "gpukmeans", wrong)
    with pytest.raises(harness.WrongAnswerError, match="row 0 has label"):
        harness.run_case(TINY, ["gpukmeans", "scikit-learn"], repeat=1)


def test_who_takes_no_tol_runs_as_many_iterations_as_gpukmeans(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def fit(X: Any, init: Any, tol: float, max_iter: int) -> Answer:
        asked.append(max_iter)
        return COMPETITORS["scikit-learn"].fit(X, init, 0.0, max_iter)

    other = Competitor("faiss", "numpy", "numpy", fit, takes_tol=False)
    monkeypatch.setitem(COMPETITORS, "faiss", other)
    row = harness.run_case(TINY, ["gpukmeans", "scikit-learn", "faiss"], repeat=1)
    assert set(asked) == {row["competitors"]["gpukmeans"]["n_iter"]}


def test_silhouettes_and_mini_batches_are_compared_before_they_are_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(harness, "SETTLE", 0)
    monkeypatch.setattr(estimators, "SEEDS", range(2))
    monkeypatch.setattr(estimators, "LAW_ROWS", 500)
    of_rows = estimators.silhouettes(Case("silhouette", 300, 3, 4, "float64", "blobs"), 1)
    case = Case("mini-batches", 600, 3, 4, "float32", "blobs")
    of_batches = estimators.mini_batches(case, 100, 12, 2)
    assert of_batches["n_steps"] == 12
    assert len(of_batches["scikit-learn"]["seconds"]) == 2
    law = estimators.law("normal", 3, 2)
    body = "\n".join(report.of_estimators({"date": "today", "timed": [of_rows, of_batches], "law": [law]}))
    assert "| silhouette | 300, 3, 4 | float64 | blobs |" in body
    assert "| 12 batches of 100 | 600, 3, 4 | float32 | blobs |" in body
    assert "over 2 seeds" in body
    monkeypatch.setattr(estimators.metrics, "silhouette_score", lambda X, labels: 0.5)
    with pytest.raises(harness.WrongAnswerError, match="silhouette/300x3"):
        estimators.silhouettes(Case("silhouette", 300, 3, 4, "float64", "blobs"), 1)


def test_the_table_keeps_the_rows_that_we_lose(results: Path) -> None:
    run = json.loads(results.read_text())
    fit = run["cases"][0]
    fit["competitors"]["gpukmeans"]["median_seconds"] = 3.0
    fit["competitors"]["scikit-learn"]["median_seconds"] = 1.5
    run["machine"]["thread_pools"] = [{"architecture": None}, {"architecture": "Haswell"}]
    results.write_text(json.dumps(run))
    body = report.markdown(*report.load([results]))
    (line,) = [line for line in body.splitlines() if line.startswith("| 600, 3, 5 | blobs | AVX2 | 3000 ms")]
    assert "| **0.50x** |" in line


def test_many_small_problems_are_checked_before_they_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    row = batch.measure(batch.Batch("blobs", 9, 30, 3, 2), repeat=2)
    assert {name: len(seconds) for name, seconds in row["seconds"].items()}["kmeans_batch"] == 2
    (line,) = report.batch_table({"batches": [row]})[2:]
    assert line.startswith("| 9 | 30, 3, 2 | blobs | ")
    right = batch.calls(batch.Batch("noise", 9, 30, 3, 2))
    wrong = {name: lambda call=call: (call()[0] * 2, call()[1]) for name, call in right.items()}
    monkeypatch.setattr(batch, "calls", lambda _: wrong)
    with pytest.raises(harness.WrongAnswerError, match="problem 0"):
        batch.measure(batch.Batch("noise", 9, 30, 3, 2), repeat=1)


def test_the_passes_of_a_start_are_counted() -> None:
    row = starts.measure(Case("seeding", 600, 3, 5, "float32", "blobs"), repeat=1, seeds=2)
    assert row["starts"]["k-means++"]["passes"] == 2 * 4
    assert row["starts"]["k-means||"]["passes"] == 6
    lines = report.starts_table({"start_cases": [row]})[2:]
    assert [line.split(" | ")[2] for line in lines] == ["k-means++", "k-means\\|\\|"]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is had from Linux only")
def test_a_streamed_fit_is_checked_before_it_is_timed(tmp_path: Path) -> None:
    streamed.write_rows(tmp_path / "x.npy", 20_000, 32)
    row = streamed.measure(tmp_path / "x.npy", 4, "8MB", 2)
    assert row["n_blocks"] > 1
    assert row["grown_bytes"] <= 8_000_000
    assert all(len(seconds) == 5 for seconds in row["rounds"].values())
    (line,) = report.streamed_table({"streamed": [row]})[2:]
    assert line.startswith("| 0.0026 GB, 20,000 x 32 | 4 | 8MB | ")


def test_the_report_replaces_what_stands_between_the_markers(results: Path, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.BEGIN}\na stale table\n{report.END}\nafter\n")
    arguments = [str(results), "--readme", str(readme), "--no-plots"]
    assert report.main([*arguments, "--check"]) == 1
    assert report.main(arguments) == 0
    assert report.main([*arguments, "--check"]) == 0
    text = readme.read_text()
    assert "a stale table" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")


def test_the_readme_shows_what_the_report_makes_of_the_committed_results() -> None:
    body = (ROOT / "README.md").read_text(encoding="utf-8").partition(report.BEGIN)[2].partition(report.END)[0]
    if RESULTS or body.strip():
        assert report.main([*map(str, RESULTS), "--check"]) == 0
