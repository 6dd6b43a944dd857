"""One-line defects of the kernels: each must be seen, by its bits or by checked mode. The kernels as they are pass."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import mutants
import pytest
import support
from kernel_checks import CHECKS
from mutants import MUTANTS
from simt import build

AGAIN = 36
CHOSEN = MUTANTS[::AGAIN] if mutants.all_were_seen() else MUTANTS
"""All of them take 15 minutes of two cores, and give the same again where they were run on these very files."""


@pytest.fixture(scope="module")
def reports(request):
    """What is said of each check and mutant that this session runs; worker processes build and run them."""
    if build.compiler() is None:
        support.missing("simt", "it needs g++ on x86-64 Linux")
    items = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    calls = [item.callspec.params for item in items]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        reports = {call["check"]: pool.submit(mutants.report, call["check"]) for call in calls if "check" in call}
        reports |= {call["mutant"]: pool.submit(call["mutant"].report) for call in calls if "mutant" in call}
        yield reports
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("check", CHECKS)
def test_the_kernels_as_they_are_pass(reports, check):
    assert reports[check].result() == ""


@pytest.mark.parametrize("mutant", CHOSEN, ids=str)
def test_a_defect_is_seen(reports, mutant):
    assert reports[mutant].result() != ""


def test_the_others_were_seen_before():
    if len(CHOSEN) < len(MUTANTS):
        pytest.skip(
            f"{len(CHOSEN)} of {len(MUTANTS)} mutants run; all were seen on the same files (GPUKMEANS_MUTANTS=all)"
        )


def test_a_change_of_a_kernel_is_a_reason_to_run_them_all(monkeypatch, tmp_path):
    monkeypatch.delenv("GPUKMEANS_MUTANTS", raising=False)
    monkeypatch.setattr(mutants, "RECORD", tmp_path / "seen.txt")
    mutants.record()
    assert mutants.all_were_seen()
    monkeypatch.setenv("GPUKMEANS_MUTANTS", "all")
    assert not mutants.all_were_seen()
    monkeypatch.delenv("GPUKMEANS_MUTANTS")
    for pattern in mutants.DECISIVE:
        assert list(mutants.ROOT.glob(pattern))
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "new.cu").write_text("")
    before = mutants.fingerprint()
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    one = mutants.fingerprint()
    (tmp_path / "kernels" / "new.cu").write_text(" ")
    assert len({before, one, mutants.fingerprint()}) == 3
    assert not mutants.all_were_seen()
