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


@pytest.fixture(scope="module")
def reports(request):
    """What is said of each check and mutant that this session runs; worker processes build and run them."""
    if build.compiler() is None:
        support.missing("simt", "it needs g++ on x86-64 Linux")
    calls = [item.callspec.params for item in request.session.items if item.path == request.path]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        reports = {call["check"]: pool.submit(mutants.report, call["check"]) for call in calls if "check" in call}
        reports |= {call["mutant"]: pool.submit(call["mutant"].report) for call in calls if "mutant" in call}
        yield reports
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("check", CHECKS)
def test_the_kernels_as_they_are_pass(reports, check):
    assert reports[check].result() == ""


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_defect_is_seen(reports, mutant):
    assert reports[mutant].result() != ""
