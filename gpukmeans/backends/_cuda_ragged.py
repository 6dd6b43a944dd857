"""Many small problems on a card: one launch fits all of them, a block each; see small.cu."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import OutOfMemoryError
from ..exact import Int64Array
from . import _launch
from . import _problem_table as problem_table
from ._card import Device
from ._problem_table import CENTERS, FOUND, LABELS, SINGLE, D, K, N, begins, joined
from .base import Small, SmallFit


def fit_small(device: Device, problems: Sequence[Small], tol: float, max_iter: int) -> list[SmallFit]:
    """Fit each of them: those of float32 in one launch, and those of float64."""
    fits: list[Any] = [None] * len(problems)
    for dtype in (np.float32, np.float64):
        chosen = [i for i, problem in enumerate(problems) if problem.X.dtype == dtype]
        # the largest first: the blocks that have them are not the last to begin
        chosen.sort(key=lambda i: -problems[i].X.size * problems[i].n_clusters)
        for i, fit in zip(chosen, _of_one_dtype(device, [problems[i] for i in chosen], tol, max_iter), strict=True):
            fits[i] = fit
    return fits


def _of_one_dtype(device: Device, problems: list[Small], tol: float, max_iter: int) -> list[SmallFit]:
    """In one launch; in two of half as many, and so on, where the card's memory does not do."""
    if not problems:
        return []
    try:
        with device:
            return _launched(device, problems, tol, max_iter)
    except device.failures as error:
        if not device.is_out_of_memory(error):
            raise
        if len(problems) == 1:
            raise OutOfMemoryError(
                f"Out of memory on the card {device.name()} for a problem of {problems[0].X.shape[0]:,} rows of "
                f"{problems[0].X.shape[1]} features and {problems[0].n_clusters} clusters: {error} Free memory of the "
                "card, or use backend='numba'."
            ) from error
    half = len(problems) // 2
    return _of_one_dtype(device, problems[:half], tol, max_iter) + _of_one_dtype(device, problems[half:], tol, max_iter)


def _launched(device: Device, problems: list[Small], tol: float, max_iter: int) -> list[SmallFit]:
    table = problem_table.table(problems)
    words = _words(table)
    lines = np.column_stack([table, begins(words)])  # the column WORDS of small.cu
    dtype = problems[0].X.dtype
    x = device.put(np.concatenate([p.X.T for p in problems], axis=None))  # by columns
    weights: NDArray[np.float64] | Any = joined([p.sample_weight for p in problems if p.sample_weight is not None])
    weights = device.put(weights) if weights.size else None
    starts = device.put(joined([p.starts for p in problems]))
    cells = table[:, K] * table[:, D]
    labels, centers = device.empty(int(table[:, N].sum()), np.int32), device.empty(int(cells.sum()), dtype)
    found, work = device.empty((len(table), FOUND), np.float64), device.empty(int(words.sum()), np.float64)
    one = _launch.Problem(1, 1, 1, dtype.str[1:])
    launch = _launch.fit_small(one, len(table), device.card)
    args = (x, weights, starts, device.put(lines), np.float64(tol), np.int32(max_iter), labels, centers, found, work)
    device.launch(launch, *args, np.int32(len(table)))
    of_rows, of_clusters = device.get(labels), device.get(centers).astype(np.float64)
    fits = []
    for (n, d, k, at, to), (inertia, n_iter, n_used) in zip(
        table[:, [N, D, K, LABELS, CENTERS]].tolist(), device.get(found).tolist(), strict=True
    ):
        own = of_clusters[to : to + k * d].reshape(k, d)
        fits.append(SmallFit(of_rows[at : at + n], own, inertia, int(n_iter), int(n_used)))
    return fits


def _words(table: Int64Array) -> Int64Array:
    """Words that small.cu works in, of each problem: 5 a row, and of clusters and features."""
    n, d, k = table[:, N], table[:, D], table[:, K]
    width = d * (2 - table[:, SINGLE]) + 2  # of the sums of a cluster: first limbs, second ones for float64, weight
    words: Int64Array = 5 * n + 2 * k * (width + d) + 3 * k + 2 * d
    return words
