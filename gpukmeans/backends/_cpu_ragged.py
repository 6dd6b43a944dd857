"""Many small problems on all cores of the CPU: each thread takes some of them, and no fit is shared by two."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ..exact import Int64Array
from . import _numba_ragged, _threads
from . import _problem_table as problem_table
from ._problem_table import CENTERS, FOUND, LABELS, VALUES, D, K, N, joined
from .base import Small, SmallFit

PART_VALUES = 1 << 16
"""Values of the problems that are fitted in one call, unless one problem alone has more: 512 KB of float64."""

TYPICAL_PASSES = 16
"""Over the rows, with the start: what the number of threads is chosen by."""


def fit_small(problems: Sequence[Small], tol: float, max_iter: int) -> list[SmallFit]:
    """Fit each of them; their rows are copied a part at a time, to float64."""
    table = problem_table.table(problems)
    n_labels, n_centers = int(table[:, N].sum()), int((table[:, K] * table[:, D]).sum())
    labels, centers = np.empty(n_labels, dtype=np.int32), np.empty(n_centers)
    found = np.empty((len(table), FOUND))
    weights = joined([p.sample_weight for p in problems if p.sample_weight is not None])
    starts = joined([p.starts for p in problems])
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


def _parts(sizes: Int64Array) -> list[tuple[int, int]]:
    """Ranges of problems, of PART_VALUES values or little more."""
    number = np.cumsum(sizes) // PART_VALUES
    borders = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(sizes)]
    return list(pairwise(borders))
