"""Many small problems on all cores of the CPU: each thread takes some of them, and no fit is shared by two."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..exact import FixedPoint, Float64Array, Int64Array
from . import _numba_ragged, _threads
from ._numba_ragged import BITS, CENTERS, COLUMNS, FOUND, LABELS, RUNS, SINGLE, STARTS, TRIALS, VALUES, WEIGHTS, D, K, N
from .base import Small, SmallFit

PART_VALUES = 1 << 16
"""Values of the problems that are fitted in one call, unless one problem alone has more: 512 KB of float64."""

TYPICAL_PASSES = 16
"""Over the rows, with the start: what the number of threads is chosen by."""


def fit_small(problems: Sequence[Small], tol: float, max_iter: int) -> list[SmallFit]:
    """Fit each of them; their rows are copied a part at a time, to float64."""
    table = _table(problems)
    n_labels, n_centers = int(table[:, N].sum()), int((table[:, K] * table[:, D]).sum())
    labels, centers = np.empty(n_labels, dtype=np.int32), np.empty(n_centers)
    found = np.empty((len(table), FOUND))
    weights = _joined([p.sample_weight for p in problems if p.sample_weight is not None])
    starts = _joined([p.starts for p in problems])
    parts = _parts(table[:, N] * table[:, D])
    workers = min(len(parts), _threads.n_workers(int((table[:, N] * table[:, D] * table[:, K]).sum()), TYPICAL_PASSES))
    memory = [_numba_ragged.memory(table) for _ in range(workers)]

    def task(worker: int, first: int, last: int) -> None:
        for low, high in parts[first:last]:
            values = np.concatenate([p.X for p in problems[low:high]], axis=None, dtype=np.float64)
            lines = table[low:high].copy()
            lines[:, VALUES] -= lines[0, VALUES]
            _numba_ragged.fit(
                values, weights, starts, lines, float(tol), int(max_iter), labels, centers, found[low:high],
                memory[worker],
            )  # fmt: skip

    _threads.run(task, len(parts), workers)
    fits = []
    for (n, d, k, at, to), (inertia, n_iter, n_used) in zip(
        table[:, [N, D, K, LABELS, CENTERS]].tolist(), found.tolist(), strict=True
    ):
        own = centers[to : to + k * d].reshape(k, d)
        fits.append(SmallFit(labels[at : at + n], own, inertia, int(n_iter), int(n_used)))
    return fits


def _table(problems: Sequence[Small]) -> Int64Array:
    """A line for each problem, see `_numba_ragged`."""
    table = np.zeros((len(problems), COLUMNS), dtype=np.int64)
    weighted = np.array([p.sample_weight is not None for p in problems])
    table[:, [N, D]] = [p.X.shape for p in problems]
    table[:, [K, RUNS, TRIALS]] = [(p.n_clusters, p.n_init, p.n_trials) for p in problems]
    table[:, SINGLE] = [p.X.dtype == np.float32 for p in problems]
    sizes, place = np.unique(table[:, N], return_inverse=True)
    table[:, BITS] = np.array([FixedPoint.for_peaks(0.0, n).bits for n in sizes.tolist()])[place]
    table[:, VALUES] = _begins(table[:, N] * table[:, D])
    table[:, WEIGHTS] = np.where(weighted, _begins(np.where(weighted, table[:, N], 0)), -1)
    table[:, STARTS] = _begins(np.array([p.starts.size for p in problems]))
    table[:, LABELS] = _begins(table[:, N])
    table[:, CENTERS] = _begins(table[:, K] * table[:, D])
    return table


def _begins(sizes: Int64Array) -> Int64Array:
    """Where each begins if they are laid end to end."""
    return np.cumsum(sizes) - sizes


def _joined(arrays: list[Any]) -> Float64Array:
    return np.concatenate(arrays, axis=None) if arrays else np.empty(0)


def _parts(sizes: Int64Array) -> list[tuple[int, int]]:
    """Ranges of problems, of PART_VALUES values or little more."""
    number = np.cumsum(sizes) // PART_VALUES
    borders = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(sizes)]
    return list(pairwise(borders))
