"""A device whose rows lie in parts, on workers or on cards: what their answers come to together.

Everything here adds exactly, or is a largest value, or a row by its number: how many parts there are changes no bit.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..exact import FixedPoint, Float64Array, FloatArray, Int64Array, Moments
from .base import Backend, Far


class Spread(Backend):
    """The verbs that need no more than to ask all parts.

    Its rows have ``ends``, where each part ends, and ``totals``, of their potentials while centers are chosen.
    """

    @abstractmethod
    def _all(self, rows: Any, verb: str, *args: Any, by_part: dict[int, Any] | None = None, **options: Any) -> Any:
        """What a verb gives for each part, in a list; `by_part`: for those only, with an argument of their own."""

    def _starts(self, rows: Any) -> list[int]:
        """Where each part begins."""
        return [0, *rows.ends[:-1].tolist()]

    def take(self, rows: Any, indices: NDArray[np.intp]) -> FloatArray:
        """Rows by index."""
        part_of = np.searchsorted(rows.ends, indices, side="right")
        starts = self._starts(rows)
        wanted = {int(i): indices[part_of == i] - starts[i] for i in np.unique(part_of)}
        taken = np.empty((len(indices), rows.data.shape[1]), rows.data.dtype)
        for i, found in zip(wanted, self._all(rows, "take", by_part=wanted), strict=True):
            taken[part_of == i] = found
        return taken

    # ---- before the loop
    def weighted_peaks(self, rows: Any) -> Float64Array:
        highest: Float64Array = np.max(self._all(rows, "weighted_peaks"), axis=0)
        return highest

    def moments(self, rows: Any, codes: Moments) -> tuple[Int64Array, Int64Array]:
        first, second = zip(*self._all(rows, "moments", codes), strict=True)
        return np.sum(first, axis=0), np.sum(second, axis=0)

    # ---- empty clusters, and after the loop
    def farthest(self, rows: Any, m: int) -> list[Far]:
        found = []
        for start, of_part in zip(self._starts(rows), self._all(rows, "farthest", m), strict=True):
            found += [far._replace(row=far.row + start) for far in of_part]
        return sorted(found, key=lambda far: (-far.sqdist, far.row))[:m]

    def inertia(self, rows: Any, code: FixedPoint) -> tuple[int, int]:
        high, low = zip(*self._all(rows, "inertia", code), strict=True)
        return sum(high), sum(low)

    # ---- seeding
    def seed_total(self, rows: Any, code: FixedPoint) -> int:
        rows.totals = self._all(rows, "seed_total", code)
        return sum(rows.totals)

    def seed_find(self, rows: Any, code: FixedPoint, values: list[int]) -> list[int]:
        ends = list(itertools.accumulate(rows.totals))
        part_of = [next(i for i, end in enumerate(ends) if value < end) for value in values]
        wanted = {
            i: [value - (ends[i] - rows.totals[i]) for value, p in zip(values, part_of, strict=True) if p == i]
            for i in sorted(set(part_of))
        }
        found = self._all(rows, "seed_find", code, by_part=wanted)
        starts = self._starts(rows)
        places = {i: iter([starts[i] + row for row in local]) for i, local in zip(wanted, found, strict=True)}
        return [next(places[p]) for p in part_of]

    def seed_trials(self, rows: Any, candidates: FloatArray, code: FixedPoint) -> list[int]:
        return [sum(of_trial) for of_trial in zip(*self._all(rows, "seed_trials", candidates, code), strict=True)]
