"""Threads and processes: the same bits whoever works beside, limits respected, fork survived."""

import functools
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import problems
import pytest
import support
import threadpoolctl
from joblib import delayed
from problems import Recipe
from support import assert_same_fit, run

import gpukmeans
import naive
from gpukmeans.backends import _threads

PROBLEMS = [
    problems.large(seed, dtype, d=8, k=12, weights=weights, kind=kind)
    for seed, (dtype, weights, kind) in enumerate(
        [("f4", None, "noise"), ("f8", "random", "blobs"), ("f4", "integer", "uniform"), ("f8", None, "grid")]
    )
]


def oracle(p):
    return naive.fit(p.X, p.centers, sample_weight=p.sample_weight, tol=p.tol, max_iter=p.max_iter)


def fitted(p, backend, n_threads=2):
    options = {"tol": p.tol, "max_iter": p.max_iter, "backend": backend}
    return run(p.X, p.centers, sample_weight=p.sample_weight, n_threads=n_threads, **options)


def python(program, **environment):
    """What a program prints in a new process."""
    variables = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, env=variables, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@pytest.fixture
def two_threads():
    with _threads.limit(2):
        yield


# ---------------------------------------------------------------------------------------------- the same bits


@pytest.mark.parametrize("n_threads", [1, 2, 3, 5, 16])
def test_any_number_of_threads_gives_the_bits_of_the_oracle(backend, n_threads):
    for recipe in PROBLEMS:
        p = recipe.build()
        assert_same_fit(fitted(p, backend, n_threads), oracle(p))


def test_concurrent_fits_give_the_bits_of_the_oracle(backend):
    problems_ = [recipe.build() for recipe in PROBLEMS]
    expected = [oracle(p) for p in problems_]
    start = threading.Barrier(8)

    def fit(i):
        p = problems_[i % 4]
        start.wait()
        return [fitted(p, backend) for _ in range(3)]

    with ThreadPoolExecutor(8) as pool:
        for i, results in enumerate(pool.map(fit, range(8))):
            for result in results:
                assert_same_fit(result, expected[i % 4])


def test_one_fitted_model_predicts_in_many_threads(backend):
    p = PROBLEMS[0].build()
    model = gpukmeans.KMeans(12, init=p.centers, n_init=1, max_iter=3, backend=backend).fit(p.X)
    with ThreadPoolExecutor(8) as pool:
        for labels in pool.map(lambda _: model.predict(p.X), range(16)):
            assert (labels == model.labels_).all()


@pytest.mark.parametrize("kind", ["loky", "threading"])
def test_joblib_workers_give_the_bits_of_the_oracle(backend, kind):
    X = Recipe(0, 2000, 5, 8).build().X
    call = functools.partial(delayed(support.call), backend, gpukmeans.k_means)
    with joblib.parallel_config(kind, n_jobs=2):
        results = joblib.Parallel()(call(X, 8, random_state=seed, return_n_iter=True) for seed in range(4))
    for seed, (centers, labels, inertia, n_iter) in enumerate(results):
        expected = naive.fit_seeded(X, 8, np.random.RandomState(seed))
        assert_same_fit(naive.Fit(labels, centers, inertia, n_iter), expected)


# ---------------------------------------------------------------------------------------------- limits


def test_limit_counts_for_the_calling_thread_only_and_ends_with_the_block():
    before = _threads.effective_n_threads()
    seen = []
    with _threads.limit(7):
        assert _threads.effective_n_threads() == 7
        with _threads.limit(3):
            assert _threads.effective_n_threads() == 3
        assert _threads.effective_n_threads() == 7
        other = threading.Thread(target=lambda: seen.append(_threads.effective_n_threads()))
        other.start()
        other.join()
    with pytest.raises(KeyError), _threads.limit(5):
        raise KeyError
    assert _threads.effective_n_threads() == before
    assert seen == [before]


def test_threadpoolctl_limits_are_respected():
    with threadpoolctl.threadpool_limits(1):
        assert _threads.effective_n_threads() == 1
    with threadpoolctl.threadpool_limits(1, user_api="openmp"):
        assert _threads.effective_n_threads() == 1


COUNT = "from gpukmeans.backends import _threads; print(_threads.effective_n_threads())"


@pytest.mark.parametrize("variable", ["OMP_NUM_THREADS", "NUMBA_NUM_THREADS"])
def test_environment_variables_are_respected(variable):
    assert python(COUNT, **{variable: "1"}) == "1"


def test_without_limits_there_is_a_thread_for_each_core():
    clean = {"OMP_NUM_THREADS": "", "NUMBA_NUM_THREADS": str(os.cpu_count())}
    program = "import os; os.environ.pop('OMP_NUM_THREADS'); " + COUNT
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert 1 <= int(python(program, **clean)) <= cores


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core has nothing to share out")
def test_joblib_workers_share_the_cores():
    with joblib.parallel_config("loky", n_jobs=os.cpu_count()):
        counts = joblib.Parallel()(delayed(_threads.effective_n_threads)() for _ in range(4))
    assert counts == [1] * 4
    with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=1):
        counts = joblib.Parallel()(delayed(_threads.effective_n_threads)() for _ in range(2))
    assert counts == [1, 1]


def test_fits_side_by_side_share_one_pool_of_workers(numba_backend):
    p = PROBLEMS[0].build()
    start = threading.Barrier(6)

    def fit(_):
        start.wait()
        run(p.X, p.centers, n_threads=4, backend=numba_backend, max_iter=5)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(fit, range(6)))
    workers = [thread for thread in threading.enumerate() if thread.name.startswith("gpukmeans")]
    assert 0 < len(workers) <= max(1, (os.cpu_count() or 1) - 1)


def test_an_error_in_a_worker_reaches_the_caller_and_the_pool_goes_on(two_threads):
    def fail(worker, low, high):
        if low > 0:
            raise ArithmeticError("in a worker")

    with pytest.raises(ArithmeticError, match="in a worker"):
        _threads.run(fail, 1000, 2)
    rows = np.zeros(1000, int)

    def count(worker, low, high):
        rows[low:high] += 1

    _threads.run(count, 1000, 2)
    assert (rows == 1).all()


def test_who_finds_the_pool_busy_does_the_work_alone(two_threads):
    release = threading.Event()
    pool = _threads._get_pool()
    occupied = [pool.submit(release.wait) for _ in range(pool._max_workers)]
    rows = np.zeros(1000, int)

    def count(worker, low, high):
        rows[low:high] += 1

    _threads.run(count, 1000, 2)  # would wait for ever
    assert (rows == 1).all()
    release.set()
    assert all(future.result() for future in occupied)


@pytest.mark.parametrize("n_rows", [1, 2, 63, 64, 65, 1000])
@pytest.mark.parametrize("workers", [1, 2, 3, 16])
@pytest.mark.parametrize("multiple", [1, 64])
def test_the_ranges_of_the_workers_cover_each_row_once(n_rows, workers, multiple):
    rows = np.zeros(n_rows, int)
    busy = [threading.Lock() for _ in range(workers)]

    def task(worker, low, high):
        assert busy[worker].acquire(blocking=False)  # a worker's number is used by one thread at a time
        assert low % multiple == 0
        rows[low:high] += 1
        busy[worker].release()

    _threads.run(task, n_rows, workers, multiple)
    assert (rows == 1).all()


# ---------------------------------------------------------------------------------------------- fork

FORKED = """
    import os, sys, warnings
    import numpy as np
    from gpukmeans import KMeans
    from gpukmeans.backends import _threads

    warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads: that is what is tested
    X = np.random.default_rng(0).normal(size=(20_000, 8)).astype(np.float32)

    def bits():
        with _threads.limit(2):
            model = KMeans(10, random_state=0, max_iter=5, backend={backend!r}).fit(X)
        return model.cluster_centers_.tobytes() + model.labels_.tobytes()

    before = bits()
    child = os.fork()
    if child == 0:
        os._exit(0 if bits() == before else 3)
    status = os.waitpid(child, 0)[1]
    print(os.waitstatus_to_exitcode(status), bits() == before)
"""


@pytest.mark.parametrize("backend", ["numpy", "numba"])  # CUDA cannot be used in a forked child of a process that did
@pytest.mark.skipif(sys.platform != "linux", reason="fork beside threads is safe on Linux only")
def test_a_forked_child_fits_and_gives_the_same_bits(backend):
    assert python(FORKED.format(backend=backend)) == "0 True"
