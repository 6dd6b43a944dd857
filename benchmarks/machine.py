"""What the numbers were made on: processor, memory, versions, threads; and how fast it can be at all."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def n_threads() -> int:
    """Threads that scikit-learn and gpukmeans use here."""
    from sklearn.utils._openmp_helpers import _openmp_effective_n_threads

    return int(_openmp_effective_n_threads())


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def describe() -> dict[str, Any]:
    """Machine, versions and thread counts, for the JSON of a result."""
    import threadpoolctl

    names = ("numpy", "scipy", "scikit-learn", "numba", "llvmlite", "gpukmeans")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in names},
        "n_threads": n_threads(),
        "thread_variables": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
        "thread_pools": [
            {key: pool.get(key) for key in ("internal_api", "num_threads", "version", "architecture")}
            for pool in threadpoolctl.threadpool_info()
        ],
    }


def _best_rate(kernel: Any, amount: float, workers: int) -> float:
    """Units per second of `workers` threads in the same kernel, each doing `amount` units; best of 15."""
    kernel(0)
    best = float("inf")
    with ThreadPoolExecutor(workers) as pool:
        for _ in range(15):
            begin = time.perf_counter()
            list(pool.map(kernel, range(workers)))
            best = min(best, time.perf_counter() - begin)
    return amount * workers / best


def peak_flops(dtype: str, workers: int) -> float:
    """Floating-point operations per second of fused multiply-adds in registers, on all workers together.

    The number of values in flight must cover the latency and fit the registers; which one does depends on the
    processor, so two are tried.
    """
    import numba
    import numpy as np

    rounds = 500_000
    scalar = np.dtype(dtype).type
    factor, term = scalar(0.999), scalar(0.1)

    def rate(size: int) -> float:
        @numba.njit(nogil=True, fastmath=True)
        def multiply_add(worker: int) -> float:
            values = np.full(size, scalar(worker))
            for _ in range(rounds):
                for j in range(size):
                    values[j] = values[j] * factor + term
            return values.sum()  # type: ignore[no-any-return]

        return _best_rate(multiply_add, 2.0 * size * rounds, workers)

    return max(rate(768 // scalar(0).itemsize), rate(384 // scalar(0).itemsize))


def read_bandwidth(workers: int) -> float:
    """Bytes per second read from memory by all workers together (256 MiB each, more than any cache)."""
    import numba
    import numpy as np

    data = np.ones((workers, 1 << 26), dtype=np.float32)

    @numba.njit(nogil=True, fastmath=True)
    def add_up(values: Any) -> float:
        total = np.float32(0)
        for i in range(values.size):  # iteration by index is what LLVM vectorises
            total += values[i]
        return total

    return _best_rate(lambda worker: add_up(data[worker]), float(data[0].nbytes), workers)


def limits() -> dict[str, float]:
    """Measured limits of this machine, with the threads that a fit may use."""
    workers = n_threads()
    return {
        "float32_flops": peak_flops("float32", workers),
        "float64_flops": peak_flops("float64", workers),
        "bytes_per_second": read_bandwidth(workers),
    }
