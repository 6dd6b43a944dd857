"""Many small problems as a table, a line for each: their sizes, and where each begins in arrays that hold them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..exact import FixedPoint, Float64Array, Int64Array
from .base import Small

N, D, K, SINGLE, BITS, VALUES, WEIGHTS, RUNS, TRIALS, STARTS, LABELS, CENTERS, COLUMNS = range(13)
"""Columns of the table: sizes; whether the data is of float32; `FixedPoint.bits`; where rows and weights (-1: none)
begin; how many starts; trials a step of k-means++ (0: the starts are given); where its draws or the starts begin; where
labels and centers go."""

INERTIA, ITERATIONS, USED, FOUND = range(4)
"""Columns of what is found of a problem beside labels and centers; USED: clusters that have a row."""


def table(problems: Sequence[Small]) -> Int64Array:
    """A line for each problem, as told above."""
    lines = np.zeros((len(problems), COLUMNS), dtype=np.int64)
    weighted = np.array([p.sample_weight is not None for p in problems])
    lines[:, [N, D]] = [p.X.shape for p in problems]
    lines[:, [K, RUNS, TRIALS]] = [(p.n_clusters, p.n_init, p.n_trials) for p in problems]
    lines[:, SINGLE] = [p.X.dtype == np.float32 for p in problems]
    sizes, place = np.unique(lines[:, N], return_inverse=True)
    lines[:, BITS] = np.array([FixedPoint.for_peaks(0.0, n).bits for n in sizes.tolist()])[place]
    lines[:, VALUES] = begins(lines[:, N] * lines[:, D])
    lines[:, WEIGHTS] = np.where(weighted, begins(np.where(weighted, lines[:, N], 0)), -1)
    lines[:, STARTS] = begins(np.array([p.starts.size for p in problems]))
    lines[:, LABELS] = begins(lines[:, N])
    lines[:, CENTERS] = begins(lines[:, K] * lines[:, D])
    return lines


def begins(sizes: Int64Array) -> Int64Array:
    """Where each begins if they are laid end to end."""
    return np.cumsum(sizes) - sizes


def joined(arrays: list[Any]) -> Float64Array:
    """End to end; empty if there is none."""
    return np.concatenate(arrays, axis=None) if arrays else np.empty(0)
