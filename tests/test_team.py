"""Iterations that the CPU makes in one call, by a team of threads: the same bits however many, whoever comes late."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from problems import Recipe
from support import assert_same_fit, quiet_fit, result_of, threads

import gpukmeans
import naive

RECIPES = [
    Recipe(1, n=900, d=3, k=7),
    Recipe(2, n=700, d=9, k=20, dtype="f8", weights="random"),
    Recipe(3, n=500, d=40, k=3, kind="blobs"),  # the features in the lanes
    Recipe(4, n=300, d=2, k=30, kind="grid", start="repeated rows", weights="zeros"),  # clusters that become empty
    Recipe(5, n=400, d=5, k=6, dtype="f8", start="far", tol=1e-2),
    Recipe(6, n=65, d=1, k=64, kind="duplicates", max_iter=3),
]


@pytest.fixture
def steps(numba_backend):
    from gpukmeans.backends import _cpu_steps

    return _cpu_steps


def fitted(problem, n_threads=2, **options):
    options = {"max_iter": problem.max_iter, "tol": problem.tol, **options}
    model = gpukmeans.KMeans(problem.n_clusters, init=problem.centers, n_init=1, backend="numba", **options)
    with threads(n_threads):
        return quiet_fit(model, problem.X, sample_weight=problem.sample_weight)


def told(model):
    """The history but for the time."""
    return [(record.shift_sq, record.n_moved, record.n_rechecked) for record in model.history_]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("at_once", [1, 2, 3, 1000])
@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_iterations_at_once_are_those_one_by_one(steps, monkeypatch, recipe, at_once, n_threads):
    problem = recipe.build()
    one_by_one = fitted(problem, verbose=0)
    monkeypatch.setattr(steps, "MOST_AT_ONCE", at_once)
    model = fitted(problem, n_threads)
    oracle = naive.fit(
        problem.X, problem.centers, sample_weight=problem.sample_weight, tol=problem.tol, max_iter=problem.max_iter
    )
    assert_same_fit(result_of(model), oracle)
    assert told(model) == told(one_by_one)
    assert all(record.seconds > 0 for record in model.history_)


@pytest.mark.parametrize("max_iter", range(1, 9))
def test_no_iteration_more_than_max_iter(steps, monkeypatch, max_iter):
    monkeypatch.setattr(steps, "MOST_AT_ONCE", 3)
    problem = RECIPES[0].build()._replace(max_iter=max_iter)
    model = fitted(problem)
    assert model.n_iter_ == len(model.history_) == max_iter
    assert_same_fit(result_of(model), naive.fit(problem.X, problem.centers, tol=0, max_iter=max_iter))


def only_worker_0(work, workers, stop):
    work(0)
    stop()


def late(work, workers, stop):
    work(0)
    for worker in range(1, workers):
        work(worker)  # must see that it is over
    stop()


def early(work, workers, stop):
    """The others wait for worker 0."""
    with ThreadPoolExecutor(workers) as pool:
        others = [pool.submit(work, worker) for worker in range(1, workers)]
        time.sleep(0.01)
        work(0)
        stop()
        for other in others:
            other.result()


def one_after_another(work, workers, stop):
    """Worker 1 comes while worker 0 is at work, the last one when it is nearly done."""
    with ThreadPoolExecutor(workers) as pool:
        leader = pool.submit(work, 0)
        others = []
        for worker in range(1, workers):
            time.sleep(0.001)
            others.append(pool.submit(work, worker))
        leader.result()
        stop()
        for other in others:
            other.result()


@pytest.mark.parametrize("together", [only_worker_0, late, early, one_after_another])
@pytest.mark.parametrize("recipe", RECIPES[:3])
def test_whoever_comes_the_bits_are_the_same(steps, monkeypatch, recipe, together):
    from gpukmeans.backends import _threads

    problem = recipe.build()
    expected = fitted(problem)
    monkeypatch.setattr(_threads, "together", together)
    for _ in range(5):
        model = fitted(problem, n_threads=4)
        assert_same_fit(result_of(model), result_of(expected))
        assert told(model) == told(expected)
        assert np.array_equal(model.predict(problem.X), model.labels_)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_nobody_waits_for_a_leader_that_failed(steps, monkeypatch, error):
    iterate, at_work = steps._numba_assign.iterate, []

    def failing(*arguments):
        worker = arguments[-1]
        if worker == 0:
            while not at_work:  # until there is one that waits
                time.sleep(0.001)
            raise error
        at_work.append(threading.current_thread())
        iterate(*arguments)
        at_work.append(None)

    monkeypatch.setattr(steps._numba_assign, "iterate", failing)
    with pytest.raises(error):
        fitted(RECIPES[0].build())
    assert at_work[-1] is None


def test_the_error_of_another_worker_is_raised(steps, monkeypatch):
    iterate, seen = steps._numba_assign.iterate, threading.Event()

    def failing(*arguments):
        if arguments[-1] > 0:
            seen.set()
            raise MemoryError
        seen.wait()
        return iterate(*arguments)

    monkeypatch.setattr(steps._numba_assign, "iterate", failing)
    with pytest.raises(MemoryError):
        fitted(RECIPES[0].build())


def test_a_long_pass_is_made_in_several_calls(steps, monkeypatch):
    problem = RECIPES[1].build()
    model = fitted(problem)
    labels = model.predict(problem.X)
    calls, iterate = [], steps._numba_assign.iterate

    def counted(*arguments):
        if arguments[-1] == 0:
            calls.append(arguments[1:3])
        return iterate(*arguments)

    monkeypatch.setattr(steps._numba_assign, "iterate", counted)
    monkeypatch.setattr(steps, "LONGEST_PASS", 200 * model.cluster_centers_.size)
    assert np.array_equal(model.predict(problem.X), labels)
    assert calls == [(0, 200), (200, 400), (400, 600), (600, 700)]


def test_no_more_workers_than_their_sums_are_worth(steps):
    with threads(64):
        few_rows, many_rows = (steps._n_workers(n, np.zeros((1000, 300))) for n in (1000, 10**6))
    assert (few_rows, many_rows) == (6, 64)


def test_every_worker_rechecks_with_the_centers_of_the_iteration(steps, monkeypatch):
    from gpukmeans import exact
    from gpukmeans.backends import _threads

    problem = RECIPES[0].build()
    expected = result_of(fitted(problem))
    monkeypatch.setattr(exact, "bound_terms", lambda *_, **__: exact.BoundTerms(*[1e30] * 5))  # certifies no row
    monkeypatch.setattr(_threads, "together", early)
    model = fitted(problem, n_threads=4)
    assert_same_fit(result_of(model), expected)
    assert all(record.n_rechecked == len(problem.X) for record in model.history_)
