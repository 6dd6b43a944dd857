"""Data that does not fit in memory: files, folders, arrays of other libraries, or a class of your own."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ._reading import ArraySource, Readable, mapped, numpy_file, vectors
from ._stores import DaskSource, JoinedSource, ParquetFile, StoredArray
from .errors import DataFileError

__all__ = ["Source", "open_source"]

VECTORS = (".fvecs", ".bvecs", ".ivecs")
HDF5 = (".h5", ".hdf5")
EXTENSIONS = (".npy", ".parquet", ".zarr", *HDF5, *VECTORS)
"""Of files that can be streamed; a .zarr is a folder."""

_log = logging.getLogger("gpukmeans")


@runtime_checkable
class Source(Protocol):
    """Rows that are read block by block, as often as they are needed: what `fit` takes instead of an array.

    Any class with these three will do. With a method ``read(start, stop)``, which gives these rows as an array, or
    ``take(indices)``, single rows are found without reading all that lie before them; k-means++ asks for some at
    every step.

    Attributes
    ----------
    shape : tuple of int
        (n_samples, n_features).
    dtype : dtype
        Of the rows; one of numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans import KMeans
    >>> class Squares:
    ...     shape, dtype = (1000, 1), np.dtype("float32")
    ...
    ...     def blocks(self):
    ...         for start in range(0, 1000, 100):
    ...             yield np.arange(start, start + 100, dtype="float32")[:, None] ** 2
    >>> model = KMeans(2, random_state=0).fit(Squares())
    >>> model.labels_.shape
    (1000,)
    """

    @property
    def shape(self) -> tuple[int, int]:
        """(n_samples, n_features)."""
        ...

    @property
    def dtype(self) -> Any:
        """Of the rows."""
        ...

    def blocks(self) -> Iterable[NDArray[Any]]:
        """All rows from the first one on, as arrays of consecutive rows, of any sizes; the same at every call.

        Returns
        -------
        blocks : iterable of ndarray, each of shape (n_rows, n_features)
        """
        ...


def open_source(
    data: Any, columns: Sequence[str] | None = None, *, sample: int | None = None, random_state: int = 0
) -> Readable:
    """Open what is to be read block by block instead of held in memory.

    Parameters
    ----------
    data : path, list of paths, or array
        A file: ``.npy``, ``.parquet``, ``.fvecs``, ``.bvecs``, ``.ivecs``, ``.h5`` or ``.hdf5`` (``FILE:NAME`` for one
        of several arrays; needs h5py). A folder that ends in ``.zarr`` (``FOLDER:NAME``; needs zarr). Any other folder:
        its files of these kinds, sorted by name. A list of all that, one after another. An array of h5py, Zarr or Dask,
        a memory map (its file is read), or any array in memory.
    columns : sequence of str, default=None
        Columns of Parquet files, in this order; None is all of them.
    sample : int, default=None
        Read so many rows into memory, drawn without replacement, and use only these. Nothing is left out unless this is
        asked for. The rows taken are ``source.sampled``, sorted.
    random_state : int, default=0
        Draws the sample.

    Returns
    -------
    source : Source
        To be passed to ``fit``, ``predict`` and ``score``. It can be pickled if its data lies in files: what travels
        is the recipe, not the rows. A file that is changed afterwards is noticed when it is read.

    Raises
    ------
    DataFileError
        If a file is not what its name says, or truncated; the message names it.
    OSError
        If a file cannot be opened.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans import KMeans, open_source
    >>> rows = np.random.default_rng(0).random((10_000, 4), dtype=np.float32)
    >>> np.save("rows.npy", rows)
    >>> source = open_source("rows.npy")
    >>> source.shape
    (10000, 4)
    >>> model = KMeans(8, random_state=0).fit(source)
    >>> np.array_equal(model.labels_, KMeans(8, random_state=0).fit(rows).labels_)
    True
    """
    source = _opened(data, columns)
    if sample is None:
        return source
    n_samples = source.shape[0]
    if not 1 <= sample <= n_samples:
        raise ValueError(f"sample={sample} rows cannot be drawn from the {n_samples} of {source!r}.")
    chosen = np.sort(np.random.default_rng(random_state).choice(n_samples, sample, replace=False, shuffle=False))
    taken = ArraySource(source.take(chosen), f"a sample of {sample:,} of the {n_samples:,} rows of {source!r}")
    taken.sampled, taken.feature_names = chosen, source.feature_names
    _log.info("%r is used (random_state=%d)", taken, random_state)
    return taken


def is_source(X: Any) -> bool:
    """Whether it has what a `Source` has; the ``blocks`` of arrays of Dask and Zarr are no method."""
    return callable(getattr(type(X), "blocks", None)) and hasattr(X, "shape") and hasattr(X, "dtype")


def as_source(X: Any) -> Any:
    """X itself if it is a source, a source for an array of h5py, Zarr or Dask, else None."""
    if isinstance(X, np.ndarray | list | tuple):
        return None
    if is_source(X):
        return X
    if _is(X, "dask.array", "Array"):
        return DaskSource(X)
    if _is(X, "h5py", "Dataset") or _is(X, "zarr", "Array"):
        return ArraySource(X, f"an array of {type(X).__module__.partition('.')[0]}")
    return None


def _is(x: Any, library: str, name: str) -> bool:
    kind = getattr(sys.modules.get(library), name, None)
    return kind is not None and isinstance(x, kind)


def _opened(data: Any, columns: Sequence[str] | None) -> Readable:
    if isinstance(data, str | os.PathLike):
        return _from_path(os.fspath(data), columns)
    if isinstance(data, list | tuple) and data and all(isinstance(path, str | os.PathLike) for path in data):
        return JoinedSource([_from_path(os.fspath(path), columns) for path in data])
    if columns is not None:
        raise ValueError("columns= chooses columns of Parquet files; of an array take X[:, columns].")
    if isinstance(data, Readable):
        return data
    if isinstance(data, np.memmap):
        return mapped(data)
    source = as_source(data)
    return source if isinstance(source, Readable) else ArraySource(np.asarray(data))


def _from_path(text: str, columns: Sequence[str] | None) -> Readable:
    path, key = Path(text), ""
    if not path.exists() and ":" in text and Path(text.rpartition(":")[0]).exists():
        path, key = Path(text.rpartition(":")[0]), text.rpartition(":")[2]
    extension = path.suffix.lower()
    if path.is_dir() and extension != ".zarr":
        files = sorted(
            entry
            for entry in path.iterdir()
            if entry.suffix.lower() in EXTENSIONS and not entry.name.startswith((".", "_"))
        )
        if not files:
            raise DataFileError(f"{path} has no file that can be streamed: {', '.join(EXTENSIONS)}.")
        return JoinedSource([_from_path(str(file), columns) for file in files])
    path.stat()  # an OSError that names the file
    if columns is not None and extension != ".parquet":
        raise ValueError(f"columns= chooses columns of Parquet files, and {path} is none.")
    if extension == ".npy":
        return numpy_file(path)
    if extension == ".parquet":
        return ParquetFile(path, columns)
    if extension in VECTORS:
        return vectors(path)
    if extension in (".zarr", *HDF5):
        return StoredArray(path, key)
    raise DataFileError(f"{path} cannot be streamed: that can {', '.join(EXTENSIONS)} and folders of these.")
