"""Worker threads of the CPU backend: compiled kernels that release the GIL, run on ranges of rows.

The calling thread works, and one pool for the whole process helps: fits in several Python threads share its threads
instead of starting as many each. Ranges are handed out as workers become free. The results do not depend on who
takes which range: sums are integers.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

_local = threading.local()
_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None

CHUNKS_PER_WORKER = 8  # small enough for a worker that loses its core for a moment, large enough to cost nothing
MOST_ROWS = 1 << 17  # of a range: Python sees Ctrl-C between two ranges
WORTH_A_THREAD = 1 << 20  # values read (some 0.3 ms): below them a thread is woken later than the work is done


@contextmanager
def limit(n_threads: int) -> Iterator[None]:
    """Use `n_threads` workers for what the calling Python thread runs inside the block."""
    before = getattr(_local, "limit", None)
    _local.limit = n_threads
    try:
        yield
    finally:
        _local.limit = before


def effective_n_threads() -> int:
    """Workers for the calling thread: OMP_NUM_THREADS, NUMBA_NUM_THREADS, affinity, joblib and threadpoolctl count."""
    forced = getattr(_local, "limit", None)
    if forced is not None:
        return int(forced)
    from numba.core import config
    from sklearn.utils._openmp_helpers import _openmp_effective_n_threads

    # scikit-learn's own count: it follows OMP_NUM_THREADS, threadpoolctl, joblib's inner limit and the cgroup
    return max(1, min(int(_openmp_effective_n_threads()), int(getattr(config, "NUMBA_NUM_THREADS", 1 << 16))))


def _get_pool() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), thread_name_prefix="gpukmeans")
        return _pool


def _forget_pool() -> None:
    """In the child of a fork: the parent's threads do not exist here."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def n_workers(n_rows: int, cost_per_row: int) -> int:
    """Workers that `n_rows` rows are worth, each of which costs as much as `cost_per_row` values read."""
    wanted = n_rows * cost_per_row // WORTH_A_THREAD
    return 1 if wanted <= 1 else min(effective_n_threads(), wanted)


def run(task: Callable[[int, int, int], None], n_rows: int, workers: int, multiple: int = 1) -> None:
    """Call ``task(worker, low, high)`` for ranges that cover ``0 .. n_rows``.

    Each worker number below `workers` is used by one thread at a time, so a task may own storage by that number.
    Ranges start at multiples of `multiple`. The calling thread is worker 0.
    """
    size = MOST_ROWS if workers <= 1 else min(MOST_ROWS, -(-n_rows // (workers * CHUNKS_PER_WORKER)))
    size = -(-size // multiple) * multiple
    if workers <= 1:
        for low in range(0, n_rows, size):
            task(0, low, min(low + size, n_rows))
        return
    starts = iter(range(0, n_rows, size))
    handing_out = threading.Lock()
    stopped = False

    def work(worker: int) -> None:
        while not stopped:
            with handing_out:
                low = next(starts, None)
            if low is None:
                return
            task(worker, low, min(low + size, n_rows))

    def stop() -> None:
        nonlocal stopped
        stopped = True

    together(work, workers, stop)


def together(work: Callable[[int], None], workers: int, stop: Callable[[], None]) -> None:
    """Call ``work(worker)`` in so many threads, of which the calling one is worker 0, and wait for all that began.

    Those that have not begun when worker 0 is done do not begin: the others have done their work. `stop` is called
    then, also after an error or Ctrl-C, and must make the workers return: none goes on writing into arrays that the
    caller is done with.
    """
    if workers <= 1:
        work(0)
        return
    pool = _get_pool()
    futures: list[Future[None]] = [pool.submit(work, worker) for worker in range(1, workers)]
    try:
        work(0)  # waking a thread takes as long as many a range
    finally:
        stop()
        started = [future for future in futures if not future.cancel()]  # the others wait for another fit
        wait(started)
    for future in started:
        future.result()
