"""The kernels of the CPU, compiled ahead: what `doctor.warm` does."""

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

MOST_PROCESSES = 4
"""That compile ahead: more would wait for the longest part, and each imports and starts the compiler anew."""


def warm() -> float:
    """Compile all kernels of the CPU, for float32 and float64, so that no later call waits for it.

    Where there are more processors, up to three other processes take a part of it, and this one finds what they have
    made in the cache, if there is one (see `doctor.examine`).

    Returns
    -------
    seconds : float
        What it took: little where they were in the cache.
    """
    from .backends._threads import effective_n_threads

    start = time.perf_counter()
    with TemporaryDirectory() as taken:
        program = f"from gpukmeans._warming import take_parts; take_parts({taken!r})"
        helpers = [_started(program) for _ in range(min(effective_n_threads(), MOST_PROCESSES) - 1)]
        running = [helper for helper in helpers if helper]
        try:
            if running:
                take_parts(taken)
            for helper in running:
                helper.wait()
        finally:
            for helper in running:
                helper.kill()
                helper.wait()
    _warm_all()  # what a helper could not do, too
    return time.perf_counter() - start


def _started(program: str) -> subprocess.Popen[bytes] | None:
    """Another process at this program, or None where there is no Python to start."""
    # where Python is part of another program, that is what would start
    if not Path(sys.executable).name.startswith("python"):
        return None
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    nowhere = subprocess.DEVNULL
    try:
        return subprocess.Popen(
            [sys.executable, "-c", program], env=environment, stdin=nowhere, stdout=nowhere, stderr=nowhere
        )
    except OSError:
        return None


def take_parts(taken: str) -> None:
    """Compile each of the parts that is not taken yet; a file in this directory says that one is."""
    for part in _PARTS:
        try:
            with open(Path(taken, part.__name__), "x"):
                pass
        except FileExistsError:
            continue
        part()


def _a_fit() -> None:
    from .kmeans import KMeans

    X = np.arange(20_000, dtype=np.float32).reshape(10_000, 2)
    KMeans(3, init=np.eye(3, 2), n_init=1, max_iter=2, backend="numba").fit(X)


def _small_fits() -> None:
    from .ragged import kmeans_batch

    kmeans_batch([np.eye(4)], 2, random_state=0, backend="numba")


def _pruning() -> None:
    from .backends._cpu_steps import compile_pruning

    compile_pruning()


def _starts() -> None:
    from .kmeans import kmeans_plusplus

    for weights in (None, np.ones(20)):
        kmeans_plusplus(np.arange(800.0).reshape(20, 40), 3, sample_weight=weights, backend="numba", random_state=0)


def _distances() -> None:
    from .backends import get_backend
    from .metrics import silhouette_score

    X = np.arange(800.0).reshape(20, 40)
    silhouette_score(X, np.arange(20) % 3, backend="numba")
    backend = get_backend("numba")
    backend.transform(backend.rows(X), X[:3])


_PARTS = (_a_fit, _small_fits, _pruning, _starts, _distances)
"""No two of them compile the same kernel, but for the short one of the range; those that take longest first."""


def _warm_all() -> None:
    """Call for everything, with data of each type."""
    from scipy.sparse import csr_array

    from . import metrics
    from .kmeans import KMeans, kmeans_plusplus
    from .pairwise import pairwise_distances_argmin_min

    for dtype in (np.float32, np.float64):
        wide = np.arange(800, dtype=dtype).reshape(20, 40)
        long = np.arange(20_000, dtype=dtype).reshape(10_000, 2)
        for X in (wide, long, csr_array(long)):
            for weights in (None, np.ones(X.shape[0])):
                model = KMeans(3, init=np.eye(3, X.shape[1]), n_init=1, max_iter=2, backend="numba")
                model.fit(X, sample_weight=weights)
        model.score(long)
        model.transform(long)
        pairwise_distances_argmin_min(wide, wide[:5], backend="numba")
        for weights in (None, np.ones(len(wide))):
            kmeans_plusplus(wide, 3, sample_weight=weights, backend="numba", random_state=0)
        metrics.silhouette_score(wide, np.arange(20) % 3, backend="numba")
    _small_fits()
    _pruning()
