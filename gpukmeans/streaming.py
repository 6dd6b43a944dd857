"""Rows that are read block by block in every pass: to the verbs what a sparse matrix is, expanded while in use.

Partial sums add exactly, so nothing above knows that the rows are not there: a block is loaded when a verb asks for
it, a thread reads the next one meanwhile, and the block before is given up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._reader import Reader, name_of
from ._reading import ArraySource, check_dtype, check_shape, mapped
from .exact import FloatArray
from .halves import halves
from .sources import as_source

BLOCK_BYTES = 64 << 20
"""Of a block where no cap is set: long enough for a disk, and two of them are held."""


@contextmanager
def streamed(X: Any, *, capped: bool = False) -> Iterator[Any]:
    """A source as `Streamed` rows, which are closed at the end; 16-bit floats as `Halves`; anything else as it is.

    `capped`: so are arrays of the host, since the memory may not do for a copy of them.
    """
    source = as_source(X)
    if capped and type(X) in (np.ndarray, np.memmap) and X.ndim == 2 and X.size and X.dtype.kind in "fiub":
        source = mapped(X) if isinstance(X, np.memmap) else ArraySource(X)
    rows = halves(X) if source is None else Streamed(source)
    try:
        yield rows
    finally:
        if source is not None:
            rows.close()


class Streamed:
    """The rows of a source, in float32 or float64, scaled by a power of two.

    Two buffers of `block_rows` rows take turns: what :meth:`load` gives is valid until the block after the next one
    is asked for. Whether a file is still what it was is asked of its size and time; a checksum of each block, taken in
    the first pass, decides where these are others, or where there are none.

    Parameters
    ----------
    source : Source
    """

    def __init__(self, source: Any) -> None:
        name = name_of(source)
        self.source = source
        self.shape = check_shape(source.shape, name)
        given = check_dtype(source.dtype, name)
        self.dtype = np.dtype(np.float32 if given.kind == "f" and given.itemsize < 8 else np.float64)
        self.exponent = 0
        self.block_rows = max(1, min(self.shape[0], BLOCK_BYTES // (self.shape[1] * self.dtype.itemsize)))
        self.keeps_block_sums = False  # between two iterations
        self.may_reside = True  # on a card, if it has room
        self._reader = Reader(source, self.shape, self.dtype)
        array = getattr(source, "array", None)
        is_ready = type(array) is np.ndarray and array.dtype == self.dtype and array.flags.c_contiguous
        self.held: FloatArray | None = array if is_ready else None
        self._current: tuple[tuple[int, int], FloatArray] | None = None
        self._ahead: tuple[tuple[int, int], Future[FloatArray]] | None = None
        self._free: list[FloatArray] = []  # buffers that hold nothing that is wanted

    @property
    def ndim(self) -> int:
        """Rows and columns."""
        return 2

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        """A slice is a block that is not read yet; rows by index are read now."""
        if isinstance(key, slice):
            low, high, _ = key.indices(self.shape[0])
            return Block(self, low, high)
        if isinstance(key, tuple):
            return self.take([key[0]])[0, key[1]]
        return self.take(key)

    def scaled(self, exponent: int) -> Streamed:
        """The same rows times 2**exponent."""
        other = object.__new__(Streamed)
        self.release()
        other.__dict__.update(self.__dict__)
        other._free = []
        other.exponent = self.exponent + exponent
        return other

    # ---- blocks
    def load(self, low: int, high: int) -> FloatArray:
        """Rows `low` to `high`; those behind them, as many, are begun to be read."""
        if self._current is None or self._current[0] != (low, high):
            if self._ahead is None or self._ahead[0] != (low, high):
                self._recycle()
                self._ahead = (low, high), self._begin(low, high)
            (_, begun), self._ahead = self._ahead, None
            before, self._current = self._current, None
            self._current = (low, high), self._reader.result(begun, low, high)
            if before is not None:
                self._free.append(_whole(before[1]))
            if high < self.shape[0]:
                after = min(high + (high - low), self.shape[0])
                self._ahead = (high, after), self._begin(high, after)
        return self._current[1]

    def _begin(self, low: int, high: int) -> Future[FloatArray]:
        free = self._free.pop() if self._free else None
        if free is None or len(free) < high - low:
            free = np.empty((high - low, self.shape[1]), self.dtype)
        return self._reader.begin(self._reader.read, low, self.exponent, free[: high - low])

    def _recycle(self) -> None:
        """Forget which rows the buffers hold."""
        if self._ahead is not None:
            self._ahead[1].exception()  # waits
        self._free = [_whole(rows) for rows in self._held()]
        self._current = self._ahead = None

    def _held(self) -> list[FloatArray]:
        held = list(self._free)
        if self._current is not None:
            held.append(self._current[1])
        if self._ahead is not None and self._ahead[1].exception() is None:
            held.append(self._ahead[1].result())
        return held

    def take(self, indices: Sequence[int] | NDArray[np.intp]) -> FloatArray:
        """Rows by index, as a new array."""
        wanted = np.asarray(indices, dtype=np.intp)
        where = (int(wanted.min()), int(wanted.max()) + 1) if len(wanted) else (0, 0)
        return self._reader.result(self._reader.begin(self._reader.take, wanted, self.exponent), *where)

    def whole(self) -> FloatArray:
        """All rows in memory: the array that they are, or a new one."""
        if self.held is not None:
            return self.held
        rows = self.load(0, self.shape[0])
        self._current = None
        return rows

    def release(self) -> None:
        """Give up what is held of the rows."""
        self._recycle()
        self._free = []

    def close(self) -> None:
        """Give up all, and end the thread."""
        self.release()
        self._reader.close()

    def where(self, row: int) -> str:
        """The file of a row and its row there, or an empty text."""
        place: Callable[[int, int], str] | None = getattr(self.source, "where", None)
        return "" if place is None else place(row, row + 1)


class Block:
    """Some consecutive rows of a :class:`Streamed`: what `Rows.data` is, read when a verb wants it."""

    def __init__(self, owner: Streamed, low: int, high: int) -> None:
        self.owner, self.low = owner, low
        self.shape, self.dtype = (high - low, owner.shape[1]), owner.dtype

    @property
    def keeps_sums(self) -> bool:
        """Whether the sums of this block may be kept between two iterations."""
        return self.owner.keeps_block_sums

    def toarray(self, order: str = "C") -> FloatArray:
        """The rows, C-contiguous; valid until the block after the next one is read."""
        return self.owner.load(self.low, self.low + self.shape[0])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> FloatArray:
        return np.array(self.toarray(), dtype=dtype)

    def __getitem__(self, key: Any) -> Any:
        """As of a `Streamed`."""
        if isinstance(key, slice):
            low, high, _ = key.indices(self.shape[0])
            return Block(self.owner, self.low + low, self.low + high)
        return self.owner.take(np.asarray(key, dtype=np.intp) + self.low)


def _whole(rows: FloatArray) -> FloatArray:
    """The buffer that these rows are the beginning of."""
    return rows if rows.base is None else rows.base
