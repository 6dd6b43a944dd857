"""The fast pass on tensor cores: the centers in its type, what is launched, and the bound that it certifies with."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import exact
from . import _tensor_config
from ._cuda_centers import Centers
from ._launch import Problem
from ._tensor_config import Config


class Stage:
    """The pass in one type, for the centers of one run: they are packed anew whenever they have changed."""

    def __init__(self, config: Config, centers: Centers, certify: bool) -> None:
        self.config, self.certify = config, certify
        self.device = device = centers.run.device
        self.n_rows = config.rows(centers.k)
        self.packed = device.empty((self.n_rows, config.row_bytes), np.uint8)
        self.quads = device.empty((self.n_rows // 2, 4), np.float32)
        self.bound = device.empty(3, np.float32)
        self.terms = tuple(map(np.float64, exact.tensor_terms(centers.d, config.kind, config.index_bits)))

    def pack(self, centers: Centers, halted: Any) -> None:
        """Lay the centers out; nothing is done if the loop has stopped."""
        launch = _tensor_config.pack(Problem(1, centers.d, centers.k, "f4"), self.device.card, self.config)
        args = (centers.scores_of, centers.half, centers.norm, self.packed, self.quads, self.bound, *self.terms)
        sizes = (centers.form.columns, centers.k, self.config.columns, self.n_rows)
        self.device.launch(launch, *args, np.int32(self.certify), halted, *map(np.int32, sizes))

    def label(self, problem: Problem, centers: Centers, x: Any, labels: Any, found: Any, halted: Any) -> None:
        """Labels of one block of rows; those that are not certain are listed in `found`, a list and its length."""
        launch = _tensor_config.assign(problem, self.config)
        args = (x, centers.shift, self.packed, self.quads, self.bound, labels, *found, halted)
        self.device.launch(launch, *args, np.int64(len(x)), np.int32(centers.d), np.int32(centers.k))
