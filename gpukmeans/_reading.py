"""What every source of rows shares, and the sources that lie in an array or in one binary file."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .data_files import npy_layout
from .errors import DataFileError

PIECE_BYTES = 1 << 20
"""Bytes that are read at a time where they are converted on the way."""

Stamp = tuple[tuple[str, int, int], ...]
"""Name, size and time of change (ns) of files."""


class Readable(ABC):
    """Base of the sources of this package: rows that can be read again and again, from any thread, one at a time.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
    feature_names : list of str or None
    opened : Stamp
        The files as they were when the source was opened.
    is_sequential : bool
        Whether rows are best read in the order in which `blocks` gives them.
    overhead : int
        Bytes that are taken while rows are read, beside the rows and a piece of PIECE_BYTES.
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    feature_names: list[str] | None = None
    opened: Stamp = ()
    is_sequential = False
    overhead: int = 0

    @abstractmethod
    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows `start` to `stop` as a new array."""

    def read_into(self, start: int, out: NDArray[Any]) -> None:
        """Rows from `start` on into `out`, in its dtype."""
        step = max(1, PIECE_BYTES // max(1, self.row_bytes))
        for low in range(0, len(out), step):
            high = min(low + step, len(out))
            out[low:high] = self.read(start + low, start + high)

    def take(self, indices: Sequence[int] | NDArray[np.intp]) -> NDArray[Any]:
        """Rows by index."""
        taken = np.empty((len(indices), self.shape[1]), self.dtype)
        for i, row in enumerate(indices):
            taken[i] = self.read(int(row), int(row) + 1)[0]
        return taken

    def blocks(self) -> Iterator[NDArray[Any]]:
        """All rows, some megabytes at a time."""
        step = max(1, PIECE_BYTES // max(1, self.row_bytes))
        for low in range(0, self.shape[0], step):
            yield self.read(low, min(low + step, self.shape[0]))

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.shape[1] * self.dtype.itemsize

    def stamp(self, start: int, stop: int) -> Stamp:
        """The files of these rows as they are now; as in `opened`, in that order."""
        return ()

    def where(self, start: int, stop: int) -> str:
        """The files of these rows, and which rows of them, for messages."""
        return f"rows {start} to {stop - 1} of {self!r}"


def stamp_of(path: str | os.PathLike[str]) -> Stamp:
    """Name, size and time of a file."""
    found = os.stat(path)
    return ((os.fspath(path), found.st_size, found.st_mtime_ns),)


def check_dtype(dtype: Any, name: object) -> np.dtype[Any]:
    """The dtype, if it is one of numbers."""
    dtype = np.dtype(dtype)
    if dtype.kind not in "fiub":
        raise DataFileError(f"{name} holds the dtype {dtype}, and only real numbers can be clustered.")
    checked: np.dtype[Any] = dtype
    return checked


def check_shape(shape: Any, name: object) -> tuple[int, int]:
    """The shape, if it is one of rows and columns, and there are some."""
    shape = tuple(shape)
    if len(shape) != 2:
        raise DataFileError(
            f"{name} holds an array of shape {shape}; shape (n_samples, n_features) is needed: reshape(-1, 1) makes "
            "rows of one feature."
        )
    if min(shape) < 1:
        raise DataFileError(f"{name} is empty: its shape is {shape}.")
    return int(shape[0]), int(shape[1])


class ArraySource(Readable):
    """Rows of something that gives NumPy arrays for slices: an array in memory or mapped, HDF5, Zarr.

    Parameters
    ----------
    array : object
        With ``shape``, ``dtype`` and ``array[start:stop]``.
    name : str
        For messages.

    Attributes
    ----------
    sampled : ndarray of int or None
        Which rows of another source these are, if they are a sample.
    """

    sampled: NDArray[np.intp] | None = None

    def __init__(self, array: Any, name: str = "an array") -> None:
        self.array, self.name = array, name
        self.shape, self.dtype = check_shape(array.shape, name), check_dtype(array.dtype, name)
        # a chunk of HDF5 or Zarr is unpacked as a whole, whatever is read of it
        chunks = getattr(array, "shards", None) or getattr(array, "chunks", None)
        self.chunk_rows = min(int(chunks[0]), self.shape[0]) if chunks else 1
        self.overhead = 2 * self.chunk_rows * self.row_bytes if chunks else 0

    def read(self, start: int, stop: int) -> NDArray[Any]:
        return np.asarray(self.array[start:stop])

    def read_into(self, start: int, out: NDArray[Any]) -> None:
        if isinstance(self.array, np.ndarray):
            out[...] = self.array[start : start + len(out)]
            return
        step, low = self._step(), start
        while low < start + len(out):
            high = min(low - low % step + step, start + len(out))
            out[low - start : high - start] = self.read(low, high)
            low = high

    def blocks(self) -> Iterator[NDArray[Any]]:
        step = self._step()
        for low in range(0, self.shape[0], step):
            yield self.read(low, min(low + step, self.shape[0]))

    def _step(self) -> int:
        """Rows at a time: whole chunks, so that none is unpacked twice."""
        return max(1, PIECE_BYTES // self.row_bytes // self.chunk_rows) * self.chunk_rows

    def take(self, indices: Sequence[int] | NDArray[np.intp]) -> NDArray[Any]:
        if isinstance(self.array, np.ndarray):
            return np.asarray(self.array[np.asarray(indices)])
        return super().take(indices)

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True, repr=False)
class BinaryFile(Readable):
    """Rows one after another in a file: .npy, a raw memory map, .fvecs, .bvecs, .ivecs.

    They are read, not mapped: what was read is not counted as memory of the process.

    Attributes
    ----------
    path : Path
    offset : int
        Byte at which the first row begins.
    shape, dtype
        As in the file.
    order : {'C', 'F'}
        'F': columns one after another.
    has_lengths : bool
        Whether a 32-bit number before each row says how many values it has.
    """

    path: Path
    offset: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    order: Literal["C", "F"] = "C"
    has_lengths: bool = False
    opened: Stamp = ()

    def read(self, start: int, stop: int) -> NDArray[Any]:
        out = np.empty((stop - start, self.shape[1]), self.dtype.newbyteorder("="))
        self.read_into(start, out)
        return out

    def read_into(self, start: int, out: NDArray[Any]) -> None:
        with open(self.path, "rb", buffering=0) as file:
            if self.order == "F":
                self._read_columns(file, start, out)
            elif self.has_lengths or out.dtype != self.dtype or not out.flags.c_contiguous:
                self._read_converted(file, start, out)
            else:
                self._read_bytes(file, self.offset + start * self.row_bytes, out)

    def _read_bytes(self, file: Any, at: int, out: NDArray[Any]) -> None:
        """Fill an array with bytes of the file."""
        file.seek(at)
        view = out.reshape(-1).view(np.uint8).data
        while view:
            n_read = file.readinto(view[: 1 << 30])
            if not n_read:
                raise DataFileError(f"{self.path} is truncated: it ends {len(view)} bytes before these rows do")
            view = view[n_read:]

    def _read_converted(self, file: Any, start: int, out: NDArray[Any]) -> None:
        """Through a small buffer: the dtype is another one, or there are lengths between the rows."""
        d = self.shape[1]
        length = [("d", "<i4")] if self.has_lengths else []
        record = np.dtype([*length, ("row", self.dtype, (d,))])
        step = max(1, PIECE_BYTES // record.itemsize)
        buffer = np.empty(min(step, len(out)), record)
        for low in range(0, len(out), step):
            piece = buffer[: min(step, len(out) - low)]
            self._read_bytes(file, self.offset + (start + low) * record.itemsize, piece)
            if self.has_lengths and (piece["d"] != d).any():
                row = int(np.flatnonzero(piece["d"] != d)[0])
                raise DataFileError(
                    f"{self.path} is corrupt: row {start + low + row} says that it has {piece['d'][row]} values, and "
                    f"the first one has {d}"
                )
            out[low : low + len(piece)] = piece["row"]

    def _read_columns(self, file: Any, start: int, out: NDArray[Any]) -> None:
        n, d = self.shape
        column = np.empty(len(out), self.dtype)
        for j in range(d):
            self._read_bytes(file, self.offset + (j * n + start) * self.dtype.itemsize, column)
            out[:, j] = column

    def stamp(self, start: int, stop: int) -> Stamp:
        return stamp_of(self.path)

    def where(self, start: int, stop: int) -> str:
        return f"{self.path}, rows {start} to {stop - 1}"

    def __repr__(self) -> str:
        return str(self.path)


def mapped(X: np.memmap[Any, Any]) -> Readable:
    """A memory map as a source that reads its file, if the rows lie in it one after another."""
    root: Any = X
    while isinstance(root.base, np.memmap):
        root = root.base
    is_file = getattr(root, "filename", None) is not None and root.mode != "c"
    if not is_file or X.ndim != 2 or not (X.flags.c_contiguous or X.flags.f_contiguous):
        return ArraySource(X, "a memory map")
    path = Path(root.filename)
    shape, dtype = check_shape(X.shape, path), check_dtype(X.dtype, path)
    offset = root.offset + X.ctypes.data - root.ctypes.data
    return BinaryFile(path, offset, shape, dtype, "C" if X.flags.c_contiguous else "F", opened=stamp_of(path))


def vectors(path: Path) -> BinaryFile:
    """A file of .fvecs, .bvecs or .ivecs, by its extension."""
    dtype = np.dtype({".fvecs": "<f4", ".bvecs": "u1", ".ivecs": "<i4"}[path.suffix.lower()])
    opened = stamp_of(path)
    with open(path, "rb") as file:
        head = file.read(4)
    d, size = int.from_bytes(head, "little", signed=True), opened[0][1]
    if len(head) < 4:
        raise DataFileError(f"{path} is empty.")
    record = 4 + d * dtype.itemsize
    if d < 1 or record > size:
        raise DataFileError(f"{path} is corrupt: its first row says that it has {d} values.")
    if size % record:
        raise DataFileError(
            f"{path} is truncated or corrupt: {size} bytes are no whole number of rows of {d} values ({record} bytes)."
        )
    return BinaryFile(path, 0, (size // record, d), dtype, has_lengths=True, opened=opened)


def numpy_file(path: Path) -> BinaryFile:
    """A .npy file."""
    opened = stamp_of(path)
    shape, fortran_order, dtype, offset = npy_layout(path)
    if math.prod(shape) == 0 or len(shape) != 2:
        check_shape(shape, path)
    rows, columns = shape
    check_dtype(dtype, path)
    return BinaryFile(path, offset, (rows, columns), dtype, "F" if fortran_order else "C", opened=opened)
