"""The verbs of k-means++ on a card."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import cupy
import numpy as np

from ..exact import FixedPoint, FloatArray
from . import _launch
from ._cupy_rows import CupyRows, on_card
from .base import Backend


class SeedingVerbs(Backend):
    """What `seeding` asks of a backend, by the kernels of seed.cu."""

    device: Any
    card: _launch.Card

    @abstractmethod
    def _run(self, launch: _launch.Launch, *args: Any) -> None:
        """Launch a kernel on the current stream."""

    @on_card
    def seed_update(self, rows: CupyRows, center: FloatArray, first: bool) -> float:
        closest, top = rows.kept("closest", rows.data.dtype), cupy.zeros(1, np.float64)
        center, d = cupy.asarray(center), np.int32(rows.data.shape[1])
        for part, x, w in rows.passes():
            launch = _launch.row_pass("seed_update", rows.problem(len(x)), self.card)
            self._run(launch, x, center, w, closest[part], top, np.int32(first), np.int64(len(x)), d)
        return float(top.get()[0])

    def _ends(self, rows: CupyRows, code: FixedPoint) -> Any:
        """Prefix sums of the potentials of groups of rows."""
        launch = _launch.seed_potentials(rows.problem(rows.n_samples))
        ends = cupy.empty(launch.grid, np.int64)
        self._run(launch, rows.closest, rows.weight, code.scale[0], ends, np.int64(rows.n_samples))
        self._run(_launch.seed_scan(), ends, np.int64(launch.grid))
        return ends

    @on_card
    def seed_total(self, rows: CupyRows, code: FixedPoint) -> int:
        return int(self._ends(rows, code)[-1:].get()[0])

    @on_card
    def seed_find(self, rows: CupyRows, code: FixedPoint, values: list[int]) -> list[int]:
        found, wanted = cupy.empty(len(values), np.int64), cupy.asarray(np.array(values, dtype=np.int64))
        launch = _launch.seed_find(rows.problem(rows.n_samples), len(values))
        args = (rows.closest, rows.weight, code.scale[0], self._ends(rows, code), wanted, found)
        self._run(launch, *args, np.int64(rows.n_samples))
        indices: list[int] = found.get().tolist()
        return indices

    @on_card
    def seed_trials(self, rows: CupyRows, candidates: FloatArray, code: FixedPoint) -> list[int]:
        potentials, trials = cupy.zeros(len(candidates), np.int64), cupy.asarray(candidates)
        closest: Any = rows.closest
        d, n_trials = np.int32(rows.data.shape[1]), np.int32(len(candidates))
        for part, x, w in rows.passes():
            launch = _launch.row_pass("seed_trials", rows.problem(len(x)), self.card)
            args = (x, trials, closest[part], w, code.scale[0], potentials)
            self._run(launch, *args, np.int64(len(x)), d, n_trials)
        totals: list[int] = potentials.get().tolist()
        return totals
