"""Sources that other libraries read: Parquet, HDF5, Zarr, Dask; and several sources one after another."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._reading import ArraySource, Readable, Stamp, check_dtype, check_shape, stamp_of
from ._tables import parquet_batches, parquet_layout
from .errors import DataFileError


class Chunked(Readable):
    """Rows that can be read chunk by chunk only; `ends` are the rows at which chunks end."""

    ends: list[int]
    is_sequential = True

    def chunk(self, number: int) -> Iterator[NDArray[Any]]:
        """Rows of a chunk, in parts."""
        raise NotImplementedError

    def blocks(self) -> Iterator[NDArray[Any]]:
        for number in range(len(self.ends)):
            yield from self.chunk(number)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        out = np.empty((stop - start, self.shape[1]), self.dtype)
        for number in range(bisect_right(self.ends, start), len(self.ends)):
            row = self.ends[number - 1] if number else 0
            if row >= stop:
                break
            for part in self.chunk(number):
                low, high = max(start, row), min(stop, row + len(part))
                if low < high:
                    out[low - start : high - start] = part[low - row : high - row]
                row += len(part)
                if row >= stop:
                    break
        return out

    def take(self, indices: Sequence[int] | NDArray[np.intp]) -> NDArray[Any]:
        """Rows by index; each chunk that has one of them is read once."""
        wanted = np.asarray(indices, dtype=np.intp)
        taken = np.empty((len(wanted), self.shape[1]), self.dtype)
        numbers = np.searchsorted(self.ends, wanted, side="right")
        for number in np.unique(numbers):
            row = self.ends[number - 1] if number else 0
            for part in self.chunk(int(number)):
                here = np.flatnonzero((wanted >= row) & (wanted < row + len(part)))
                taken[here] = part[wanted[here] - row]
                row += len(part)
        return taken


class ParquetFile(Chunked):
    """Columns of a .parquet file, row group by row group."""

    def __init__(self, path: Path, columns: Sequence[str] | None = None) -> None:
        self.path, self.opened = path, stamp_of(path)
        self.feature_names, self.dtype, rows, self.overhead = parquet_layout(path, columns)
        self.ends = np.cumsum(rows).tolist()
        self.shape = check_shape((sum(rows), len(self.feature_names)), path)

    def chunk(self, number: int) -> Iterator[NDArray[Any]]:
        assert self.feature_names is not None
        return parquet_batches(self.path, self.feature_names, self.dtype, [number])

    def stamp(self, start: int, stop: int) -> Stamp:
        return stamp_of(self.path)

    def where(self, start: int, stop: int) -> str:
        return f"{self.path}, rows {start} to {stop - 1}"

    def __repr__(self) -> str:
        return str(self.path)


class DaskSource(Chunked):
    """Rows of a dask array, chunk by chunk, each computed when it is read."""

    def __init__(self, array: Any) -> None:
        if any(np.isnan(size) for size in array.shape):
            raise ValueError(
                "The dask array does not know how many rows its chunks have: call compute_chunk_sizes() on it."
            )
        self.shape, self.dtype = check_shape(array.shape, "the dask array"), check_dtype(array.dtype, "the dask array")
        self.array = array.rechunk({1: -1})
        self.ends = np.cumsum(self.array.chunks[0]).tolist()
        self.overhead = 2 * max(self.array.chunks[0]) * self.row_bytes  # computed, and what it is computed of

    def chunk(self, number: int) -> Iterator[NDArray[Any]]:
        yield np.asarray(self.array.blocks[number, 0].compute())

    def __repr__(self) -> str:
        return "a dask array"


class StoredArray(ArraySource):
    """An array in an HDF5 file or a Zarr store, by the path of both; opened when it is first read."""

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key
        self.opened = stamp_of(path) if path.is_file() else ()
        super().__init__(self.array, f"{path}:{key}" if key else str(path))

    @property
    def array(self) -> Any:
        """The array, in this process."""
        if "_array" not in self.__dict__:
            self._array = (_hdf5 if self.path.is_file() else _zarr)(self.path, self.key)
        return self._array

    @array.setter
    def array(self, value: Any) -> None:
        self._array = value

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_array"}

    def stamp(self, start: int, stop: int) -> Stamp:
        return stamp_of(self.path) if self.opened else ()

    def where(self, start: int, stop: int) -> str:
        return f"{self.name}, rows {start} to {stop - 1}"

    def take(self, indices: Sequence[int] | NDArray[np.intp]) -> NDArray[Any]:
        wanted, place = np.unique(np.asarray(indices, dtype=np.intp), return_inverse=True)
        chosen = self.array[wanted] if self.path.is_file() else self.array.oindex[wanted]
        return np.asarray(chosen)[place]


def _hdf5(path: Path, key: str) -> Any:
    try:
        import h5py
    except ImportError:
        raise DataFileError(f"{path} needs h5py to be read: pip install 'gpukmeans[hdf5]'.") from None
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataFileError(f"{path} is not an HDF5 file, or it is truncated or corrupt.") from error
    found: dict[str, Any] = {}
    file.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
    return _only(path, key, found)


def _zarr(path: Path, key: str) -> Any:
    try:
        import zarr
    except ImportError:
        raise DataFileError(f"{path} needs zarr to be read: pip install 'gpukmeans[zarr]'.") from None
    try:
        opened = zarr.open(path, mode="r")
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise DataFileError(f"{path} is not a Zarr store, or it is corrupt.") from error
    if isinstance(opened, zarr.Array):
        return opened
    return _only(path, key, {name: item for name, item in opened.members(None) if isinstance(item, zarr.Array)})


def _only(path: Path, key: str, found: dict[str, Any]) -> Any:
    """The array of that name, or the only one with rows and columns."""
    key = key.strip("/")
    if key and key not in found:
        raise DataFileError(f"{path} holds no array {key!r} (names: {', '.join(found)}).")
    fitting = [key] if key else [name for name, array in found.items() if len(array.shape) == 2]
    if len(fitting) != 1:
        count = "no" if not fitting else "more than one"
        raise DataFileError(f"{path} holds {count} 2-D array; choose one with PATH:NAME (names: {', '.join(found)}).")
    return found[fitting[0]]


class JoinedSource(Readable):
    """The rows of several sources, one source after another."""

    def __init__(self, parts: Sequence[Readable]) -> None:
        self.parts = list(parts)
        first = self.parts[0]
        for part in self.parts[1:]:
            if part.shape[1] != first.shape[1]:
                raise DataFileError(f"{part!r} has {part.shape[1]} columns, and {first!r} has {first.shape[1]}.")
            if part.feature_names != first.feature_names:
                raise DataFileError(
                    f"{part!r} has the columns {part.feature_names}, and {first!r} has {first.feature_names}."
                )
        self.ends = np.cumsum([part.shape[0] for part in self.parts]).tolist()
        self.shape = (self.ends[-1], first.shape[1])
        self.dtype = np.result_type(*(part.dtype for part in self.parts))
        self.feature_names = first.feature_names
        self.is_sequential = any(part.is_sequential for part in self.parts)
        self.overhead = max(part.overhead for part in self.parts)
        self.opened = tuple(entry for part in self.parts for entry in part.opened)

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[Readable, int, int, int]]:
        """Sources that have some of these rows: which of theirs, and where they begin among these."""
        for number in range(bisect_right(self.ends, start), len(self.parts)):
            begin = self.ends[number - 1] if number else 0
            if begin >= stop:
                break
            low, high = max(start, begin), min(stop, self.ends[number])
            yield self.parts[number], low - begin, high - begin, low - start

    def read(self, start: int, stop: int) -> NDArray[Any]:
        out = np.empty((stop - start, self.shape[1]), self.dtype)
        for part, low, high, at in self._pieces(start, stop):
            out[at : at + high - low] = part.read(low, high)
        return out

    def read_into(self, start: int, out: NDArray[Any]) -> None:
        for part, low, high, at in self._pieces(start, start + len(out)):
            part.read_into(low, out[at : at + high - low])

    def take(self, indices: Sequence[int] | NDArray[np.intp]) -> NDArray[Any]:
        wanted = np.asarray(indices, dtype=np.intp)
        taken = np.empty((len(wanted), self.shape[1]), self.dtype)
        numbers = np.searchsorted(self.ends, wanted, side="right")
        for number in np.unique(numbers):
            here = np.flatnonzero(numbers == number)
            taken[here] = self.parts[number].take(wanted[here] - (self.ends[number - 1] if number else 0))
        return taken

    def blocks(self) -> Iterator[NDArray[Any]]:
        for part in self.parts:
            yield from part.blocks()

    def stamp(self, start: int, stop: int) -> Stamp:
        return tuple(entry for part, low, high, _ in self._pieces(start, stop) for entry in part.stamp(low, high))

    def where(self, start: int, stop: int) -> str:
        return "; ".join(part.where(low, high) for part, low, high, _ in self._pieces(start, stop))

    def __repr__(self) -> str:
        return f"{self.parts[0]!r} and {len(self.parts) - 1} more" if len(self.parts) > 1 else repr(self.parts[0])
