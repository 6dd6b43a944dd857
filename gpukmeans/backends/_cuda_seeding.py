"""The verbs of k-means++ on a card."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..exact import FixedPoint, FloatArray
from . import _launch
from ._card import Device
from ._cuda_rows import CudaRows, on_card
from .base import Backend


class SeedingVerbs(Backend):
    """What `seeding` asks of a backend, by the kernels of seed.cu."""

    device: Device

    @on_card
    def seed_update(self, rows: CudaRows, center: FloatArray, first: bool) -> float:
        closest, top = rows.kept("closest", rows.data.dtype), self.device.zeros(1, np.float64)
        center, d = self.device.put(center), np.int32(rows.data.shape[1])
        for part, x, w in rows.passes():
            launch = _launch.row_pass("seed_update", rows.problem(len(x)), self.device.card)
            self.device.launch(launch, x, center, w, closest[part], top, np.int32(first), np.int64(len(x)), d)
        return float(self.device.get(top)[0])

    def _ends(self, rows: CudaRows, code: FixedPoint) -> Any:
        """Prefix sums of the potentials of groups of rows."""
        launch = _launch.seed_potentials(rows.problem(rows.n_samples))
        ends = self.device.empty(launch.grid, np.int64)
        self.device.launch(launch, rows.closest, rows.weight, code.scale[0], ends, np.int64(rows.n_samples))
        self.device.launch(_launch.seed_scan(), ends, np.int64(launch.grid))
        return ends

    @on_card
    def seed_total(self, rows: CudaRows, code: FixedPoint) -> int:
        return int(self.device.get(self._ends(rows, code)[-1:])[0])

    @on_card
    def seed_find(self, rows: CudaRows, code: FixedPoint, values: list[int]) -> list[int]:
        found, wanted = self.device.empty(len(values), np.int64), self.device.put(np.array(values, dtype=np.int64))
        launch = _launch.seed_find(rows.problem(rows.n_samples), len(values))
        args = (rows.closest, rows.weight, code.scale[0], self._ends(rows, code), wanted, found)
        self.device.launch(launch, *args, np.int64(rows.n_samples))
        indices: list[int] = self.device.get(found).tolist()
        return indices

    @on_card
    def seed_trials(self, rows: CudaRows, candidates: FloatArray, code: FixedPoint) -> list[int]:
        potentials, trials = self.device.zeros(len(candidates), np.int64), self.device.put(candidates)
        closest: Any = rows.closest
        d, n_trials = np.int32(rows.data.shape[1]), np.int32(len(candidates))
        for part, x, w in rows.passes():
            launch = _launch.row_pass("seed_trials", rows.problem(len(x)), self.device.card)
            args = (x, trials, closest[part], w, code.scale[0], potentials)
            self.device.launch(launch, *args, np.int64(len(x)), d, n_trials)
        totals: list[int] = self.device.get(potentials).tolist()
        return totals
