"""The fast pass on tensor cores: the centers in its type, what is launched, and the bound that it certifies with."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import exact
from . import _launch, _tensor_config
from ._cuda_centers import Centers
from ._tensor_config import Config

PACKING = np.dtype(
    [
        *((name, "f8") for name in exact.TensorTerms._fields),
        *((name, "i4") for name in ("kind", "row_bytes", "rows", "certify")),
    ],
    align=True,
)
"""`Packing` of pack.cuh."""
BOUND = 6
"""Numbers of the bound, as there."""


class Stage:
    """The pass in one type, for the centers of one run: they are packed where they are made."""

    def __init__(self, config: Config, centers: Centers, certify: bool) -> None:
        self.config = config
        self.device = device = centers.run.device
        n_rows, words = config.rows(centers.k), config.row_bytes // 4
        # one piece of memory, so that recenter.cu gets one address: centers, half norms of two of them, bound
        self._memory = device.zeros(n_rows * (words + 2) + BOUND, np.float32)
        self.packed = self._memory[: n_rows * words]
        self.quads = self._memory[n_rows * words : -BOUND]
        self.bound = self._memory[-BOUND:]
        self.converted: Any = None  # long rows in the type of the pass, those of the blocks at work
        terms = exact.tensor_terms(centers.d, config.kind, config.index_bits, is_offset=config.is_offset)
        how = (*terms, _tensor_config.KINDS[config.kind], config.row_bytes, n_rows, certify)
        self._how = device.put(np.array([how], PACKING).view(np.uint8))

    @property
    def packing(self) -> tuple[Any, Any]:
        """Arguments of the kernels that lay out centers."""
        return self._memory, self._how

    def label(
        self, problem: _launch.Problem, centers: Centers, x: Any, labels: Any, found: Any, halted: Any
    ) -> None:
        """Labels of one block of rows; those that are not certain are listed in `found`, a list and its length."""
        launch = self._pass(problem)
        of_type = np.int32(list(_launch.ROW_TYPES.values()).index(problem.row_type))
        args = (self.packed, self.quads, self.bound, labels, *found, halted)
        sizes = np.int64(len(x)), np.int32(centers.d), np.int32(centers.k)
        if not self.config.is_wide:
            # what groups of centers are scored with again
            args = (*args, *centers.for_scores[1:], centers.bound, *sizes, np.int32(centers.form.columns))
            self.device.launch(launch, x, centers.shift, of_type, *args)
            return
        chunks = np.int32(self.config.row_bytes // _tensor_config.CHUNK_BYTES)
        self.device.launch(launch, x, centers.shift, of_type, self.converted, *args, *sizes, chunks)

    def reserve(self, problem: _launch.Problem) -> None:
        """Memory for a block of rows: to be taken before anything is changed, and not while launches are captured."""
        size = _tensor_config.converted(self._pass(problem), self.config)
        if size and (self.converted is None or len(self.converted) < size):
            self.converted = None
            self.converted = self.device.empty(size, np.uint8)

    def _pass(self, problem: _launch.Problem) -> _launch.Launch:
        return _tensor_config.assign(problem, self.device.card, self.config)
