"""Rows on a card: used where they are, copied there once, or streamed through it block by block in every pass."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import OutOfMemoryError
from ..halves import Halves
from . import _launch
from ._card import Device
from .base import Rows

_log = logging.getLogger("gpukmeans")

STAGE_BYTES = 64 << 20
"""Bytes of one block on its way to the card: two such blocks of page-locked memory are in use while rows are copied."""
PASS_ROWS = 1 << 22
"""Rows of one launch of the fast pass, whose list of open rows takes 20 bytes for each of them."""
SAMPLE_ROWS = 4096
"""Rows that tell how many a pass on tensor cores would leave open: a share of 1 % to within a sixth of it."""
UNCERTAIN = np.dtype([("row", "i8"), ("best", "f4"), ("gap", "f4")], align=True)
"""`Uncertain` of exact.cuh. Aligned, or Numba would write it byte by byte."""


@dataclass
class Scratch:
    """What the fast pass writes for one block of rows: labels, and the list of open rows with its length."""

    labels: Any
    uncertain: Any
    count: Any


@dataclass
class Sample:
    """Some rows, on the card, and what a pass over them writes."""

    x: Any
    labels: Any
    left_open: Any
    count: Any


class CudaRows(Rows):
    """Rows of a data set on a card.

    What is kept for each of them is allocated when a verb first needs it: label (4 bytes), distance (8), distance to
    the nearest seed (4 or 8), weight (8), bounds (8).
    """

    def __init__(self, data: Any, start: int, sample_weight: Any, device: Device) -> None:
        super().__init__(data, start, sample_weight, labels=None)  # type: ignore[arg-type]
        self.device = device
        self.halves = data if isinstance(data, Halves) else None
        self.stored = data.words if isinstance(data, Halves) else data
        self.in_place = device.holds(self.stored)
        self.may_reside = True
        self.resident: Any = None
        self.block = min(self.n_samples, PASS_ROWS)
        self._weight: Any = None
        self._scratch: Scratch | None = None
        self._sample: Sample | None = None
        self.bounds: Any = None  # of a run that prunes: two float32 a row, see kernels/bounds.cuh
        self.batch: Any = None  # the graph of a run, which knows where all this lies

    def problem(self, n_samples: int, n_clusters: int = 1) -> _launch.Problem:
        """Sizes of a pass over some of these rows."""
        address = self.device.address(self.stored) if self.in_place else 0
        dtype, halves = self.data.dtype.str[1:], "" if self.halves is None else self.halves.kind
        return _launch.Problem(n_samples, self.data.shape[1], n_clusters, dtype, address % 16 == 0, halves)

    def take(self, indices: Any) -> Any:
        """Rows by index, on the host, shape (n_indices, n_features)."""
        taken = self._taken(indices)
        return taken if self.halves is None else self.halves.expand(taken)

    def _taken(self, indices: Any) -> Any:
        """The same as they are stored."""
        if self.in_place:
            with self.device:
                return self.in_memory(lambda: self.device.take(self.stored, np.asarray(indices, dtype=np.int64)))
        return super().take(indices) if self.halves is None else self.stored[indices]

    # ---- what is kept on the card
    @property
    def weight(self) -> Any:
        """Weights on the card, or None."""
        if self._weight is None and self.sample_weight is not None:
            self._weight = self.device.put(self.sample_weight)
        return self._weight

    def kept(self, name: str, dtype: Any) -> Any:
        """The array of that name with a value for each row; new memory at its first use."""
        array = getattr(self, name)
        if array is None:
            array = self.device.empty(self.n_samples, dtype)
            setattr(self, name, array)
        return array

    def scratch(self) -> Scratch:
        """Memory for the fast pass over one block."""
        if self._scratch is None:
            labels, uncertain = (self.device.empty(self.block, dtype) for dtype in (np.int32, UNCERTAIN))
            self._scratch = Scratch(labels, uncertain, self.device.zeros(1, np.uint64))
        return self._scratch

    def sample(self) -> Sample:
        """Rows from all over the data, the same ones at each call."""
        if self._sample is None:
            chosen = np.random.default_rng(0).integers(0, self.n_samples, min(self.n_samples, SAMPLE_ROWS))
            x = self.device.put(np.ascontiguousarray(self._taken(np.sort(chosen))))
            labels, left_open = (self.device.empty(len(chosen), dtype) for dtype in (np.int32, UNCERTAIN))
            self._sample = Sample(x, labels, left_open, self.device.zeros(1, np.uint64))
        return self._sample

    # ---- passes
    @property
    def is_streamed(self) -> bool:
        """Whether every pass copies the rows to the card again."""
        return not self.in_place and not self.may_reside

    def passes(self, most: int | None = None) -> Iterator[tuple[slice, Any, Any]]:
        """Blocks of at most `most` rows: which they are, the rows and their weights (or None) on the card.

        A block is valid until the next one is asked for; the caller's work on it is waited for.
        """
        n_rows, weight = min(self.block, most or self.block), self.weight
        X = self.stored if self.in_place else self._reside()
        blocks = self._staged(n_rows) if X is None else self._parts(X, n_rows)
        with closing(blocks):
            for part, x in blocks:
                yield part, x, None if weight is None else weight[part]

    def _parts(self, X: Any, n_rows: int) -> Generator[tuple[slice, Any], None, None]:
        for low in range(0, self.n_samples, n_rows):
            part = slice(low, min(low + n_rows, self.n_samples))
            yield part, X[part]

    def _reside(self) -> Any:
        if self.resident is None and self.may_reside:
            X = self.device.empty(self.stored.shape, self.stored.dtype)
            for _ in self._staged(self.n_samples, into=X):
                pass
            self.resident = X
        return self.resident

    def _staged(self, most: int, into: Any = None) -> Generator[tuple[slice, Any], None, None]:
        """Copy the rows through page-locked memory, one block ahead of the work on the current stream."""
        n_features, dtype = self.stored.shape[1], self.stored.dtype
        n_rows = max(1, min(most, STAGE_BYTES // (n_features * dtype.itemsize), self.n_samples))
        device, shape = self.device, (n_rows, n_features)
        blocks = [into] * 2 if into is not None else [device.empty(shape, dtype) for _ in range(2)]
        host = [device.page_locked(shape, dtype) for _ in range(2)]
        work, copy = device.current_stream(), device.new_stream()
        copied, used = ([device.new_event() for _ in range(2)] for _ in range(2))
        for event in used:
            event.record(work)  # the memory of `blocks` is free once what is queued here is done
        try:
            for i, low in enumerate(range(0, self.n_samples, n_rows)):
                high, slot = min(low + n_rows, self.n_samples), i % 2
                if i > 1:
                    copied[slot].synchronize()  # the host memory has been read
                self._read(low, high, host[slot])
                target = blocks[slot][low:high] if into is not None else blocks[slot][: high - low]
                device.wait(copy, used[slot])  # the kernels are done with what the block held
                device.send(host[slot][: high - low], target, copy)
                copied[slot].record(copy)
                device.wait(work, copied[slot])  # the kernels see the rows
                yield slice(low, high), target
                used[slot].record(work)
        finally:
            copy.synchronize()  # the page-locked memory goes back to its pool when this returns

    def _read(self, low: int, high: int, out: Any) -> None:
        part = self.stored[low:high]
        out[: high - low] = part if isinstance(part, np.ndarray) else part.toarray(order="C")

    # ---- when the memory of the card runs out
    def in_memory(self, work: Callable[[], Any]) -> Any:
        """Do the work, which must be able to start anew: where the card's memory runs out, again with less in use."""
        while True:
            try:
                return work()
            except self.device.failures as error:
                if not self.device.is_out_of_memory(error):
                    raise
                self.shrink(str(error))

    def shrink(self, needed: str) -> None:
        """Get by with less memory: without bounds, then with rows that are streamed, then in smaller blocks.

        Raises OutOfMemoryError at the end.
        """
        if self.bounds is not None:
            self.bounds = self.batch = None
            return
        self._scratch = self._sample = self.resident = self.batch = None
        if self.may_reside and not self.in_place:
            self.may_reside = False
            self.block = max(1, min(self.block, self.n_samples // 4))
        elif self.block > 1:
            self.block = max(1, self.block // 2)
        else:
            raise OutOfMemoryError(self._message(needed))
        _log.debug("out of memory on the card: blocks of %d rows from here on", self.block)

    def _message(self, needed: str) -> str:
        n, d = self.data.shape
        free, total = self.device.memory()
        per_row = 12 + 8 * (self.sample_weight is not None) + self.data.dtype.itemsize
        where = "the rows lie on it already" if self.in_place else "the rows are streamed one by one already"
        return (
            f"Out of memory on the card {self.device.name()}: {free:,} of {total:,} bytes are free, and "
            f"{where}. Wanted: {needed}; and {per_row} bytes for each of {n:,} rows of {d} features, {n * per_row:,} "
            f"in all. With nothing else on the card about {max(0, free // per_row):,} rows would fit. Use fewer rows "
            "or clusters, free memory of the card, or use backend='numba'."
        )


def on_card(verb: Callable[..., Any]) -> Callable[..., Any]:
    """On the backend's card; where its memory runs out, again with smaller blocks.

    So a verb allocates what it needs before it changes anything.
    """

    @functools.wraps(verb)
    def run(self: Any, rows: Any, *args: Any, **options: Any) -> Any:
        with self.device:
            block = rows if isinstance(rows, CudaRows) else rows.rows
            return block.in_memory(lambda: verb(self, rows, *args, **options))

    return run
