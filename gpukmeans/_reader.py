"""The thread that reads a source, and sees to it that there are as many rows as stated, and the same every time."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._reading import Stamp
from .errors import DataFileError
from .exact import FloatArray


class Reader:
    """Reads a source, in one thread and nowhere else: a source need not bear more."""

    def __init__(self, source: Any, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        self.source, self.shape, self.dtype = source, shape, dtype
        self.checks: dict[tuple[int, int], tuple[Stamp, int]] = {}
        self.opened = dict((name, entry) for name, *entry in getattr(source, "opened", ()))
        self._pool: ThreadPoolExecutor | None = None
        self._iterator: Iterator[Any] | None = None
        self._position = 0
        self._rest: NDArray[Any] = np.empty((0, shape[1]), dtype)

    # ---- the side of the caller
    def begin(self, work: Any, *args: Any) -> Future[FloatArray]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="gpukmeans-reader")
        return self._pool.submit(work, *args)

    def result(self, future: Future[FloatArray], low: int, high: int) -> FloatArray:
        """What was read; an error in the reading names the rows."""
        error = future.exception()
        if error is None:
            return future.result()
        if isinstance(error, DataFileError | MemoryError) or not isinstance(error, Exception):
            raise error
        raise DataFileError(f"{self._where(low, high)}: {type(error).__name__}: {error}") from error

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        self._iterator, self._rest = None, self._rest[:0]

    def _where(self, low: int, high: int) -> str:
        place = getattr(self.source, "where", None)
        return f"rows {low} to {high - 1} of {name_of(self.source)}" if place is None else str(place(low, high))

    # ---- the side of the thread
    def read(self, low: int, exponent: int, out: FloatArray) -> FloatArray:
        if getattr(self.source, "is_sequential", True):
            self._read_on(low, out)
        else:
            self.source.read_into(low, out)
        self._check(low, low + len(out), out)
        return _times(out, exponent)

    def take(self, indices: NDArray[np.intp], exponent: int) -> FloatArray:
        source = self.source
        if hasattr(source, "take"):
            rows = source.take(indices)
        elif hasattr(source, "read"):
            rows = np.concatenate([np.asarray(source.read(int(i), int(i) + 1)) for i in indices])
        else:
            rows = np.empty((len(indices), self.shape[1]), self.dtype)
            row = 0
            for block in self._blocks():
                here = np.flatnonzero((indices >= row) & (indices < row + len(block)))
                rows[here] = block[indices[here] - row]
                row += len(block)
                if row > indices.max():
                    break
        return _times(np.array(rows, dtype=self.dtype, order="C"), exponent)

    def _read_on(self, low: int, out: FloatArray) -> None:
        """Fill `out` from the blocks as the source gives them, from the first one if `low` lies behind."""
        if self._iterator is None or self._position > low:
            self._iterator, self._position, self._rest = self._blocks(), 0, self._rest[:0]
        filled = 0
        while filled < len(out):
            while not len(self._rest):
                self._rest = next(self._iterator)
            skipped = min(len(self._rest), max(0, low - self._position))
            part = self._rest[skipped : skipped + len(out) - filled]
            out[filled : filled + len(part)] = part
            filled += len(part)
            self._position += skipped + len(part)
            self._rest = self._rest[skipped + len(part) :]
        if self._position == self.shape[0]:
            next(self._iterator, None)  # there must be no more
            self._iterator = None

    def _blocks(self) -> Iterator[NDArray[Any]]:
        """The blocks of the source, if together they are what its shape says."""
        (n_samples, n_features), row, name = self.shape, 0, name_of(self.source)
        for block in self.source.blocks():
            block = np.asarray(block)
            if block.ndim != 2 or block.shape[1] != n_features or block.dtype.kind not in "fiub":
                raise DataFileError(
                    f"{name} gives a block of shape {block.shape} and dtype {block.dtype} at row {row}, and its shape "
                    f"is {self.shape}."
                )
            row += len(block)
            if row > n_samples:
                raise DataFileError(f"{name} gives more rows than the {n_samples} of its shape.")
            yield block
        if row < n_samples:
            raise DataFileError(f"{name} gives {row} rows, and its shape says that it has {n_samples}.")

    def _check(self, low: int, high: int, rows: FloatArray) -> None:
        """Refuse rows that are not those of the first pass."""
        stamp: Stamp = self.source.stamp(low, high) if hasattr(self.source, "stamp") else ()
        known = self.checks.get((low, high))
        if known is not None and stamp and stamp == known[0]:
            return
        found = zlib.crc32(rows.data)
        if known is None:
            for name, *entry in stamp:
                if self.opened.get(name) != entry:
                    where = self._where(low, high)
                    raise DataFileError(f"{where}: {name} has changed since it was opened. Open it anew.")
        elif found != known[1]:
            raise DataFileError(
                f"{self._where(low, high)}: the rows are other ones than in the first pass. The data must not change "
                "while it is worked on."
            )
        self.checks[low, high] = stamp, found


def _times(rows: FloatArray, exponent: int) -> FloatArray:
    """The rows times 2**exponent, in place; what overflows is infinite, as in `Backend.scaled`."""
    if exponent:
        with np.errstate(over="ignore", under="ignore"):
            np.ldexp(rows, exponent, out=rows)
    return rows


def name_of(source: Any) -> str:
    """A source in messages: the name that it gives itself, or its class."""
    text = repr(source)
    return type(source).__name__ if text.startswith("<") else text
