"""Read data from .npy, .npz, .csv and .parquet files, and write labels; nothing is ever unpickled."""

import math
import os
import stat
import struct
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ._tables import read_csv, read_parquet
from ._writing import atomic_write, check_extension, check_labels_path, labels_file, write_npy
from .errors import DataFileError

__all__ = ["atomic_write", "check_labels_path", "read_data", "read_weights", "write_labels", "write_npy"]

DATA_EXTENSIONS = (".npy", ".npz", ".csv", ".parquet")

# All that NumPy's header reader and zipfile raise on bytes that are not what they seem.
CORRUPT = (
    ValueError, TypeError, KeyError, IndexError, OverflowError, RuntimeError, SyntaxError, EOFError, OSError,
    struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def read_data(path: str | os.PathLike[str]) -> np.ndarray:
    """Give the rows and columns of a file.

    Parameters
    ----------
    path : str or path-like
        A ``.npy`` file (memory-mapped, so that it need not fit in memory), ``.npz`` (with one 2-D array, or
        ``file.npz:name``), ``.csv`` (numbers separated by commas, semicolons or tabs, with or without a
        header line) or ``.parquet`` (numeric columns; needs pyarrow).

    Returns
    -------
    ndarray of shape (n_samples, n_features)
        In the dtype of the file; float64 from ``.csv``.

    Raises
    ------
    DataFileError
        If the extension is unknown or the file does not hold a table of numbers: one line that says where.
    OSError
        If the file cannot be opened.
    """
    return _read(path, n_dims=2)


def read_weights(path: str | os.PathLike[str]) -> np.ndarray:
    """Give the one number per row that a file holds.

    Parameters
    ----------
    path : str or path-like
        As in :func:`read_data`, but with a 1-D array or a single column.

    Returns
    -------
    ndarray of shape (n_samples,)

    Raises
    ------
    DataFileError, OSError
        As in :func:`read_data`.
    """
    return _read(path, n_dims=1)


def write_labels(path: str | os.PathLike[str], labels: np.ndarray) -> None:
    """Write labels to a file that appears whole or not at all.

    Parameters
    ----------
    path : str or path-like
        ``.npy``, ``.csv`` (one column with the header ``label``) or ``.txt`` (one number per line).
    labels : ndarray of shape (n_samples,), integers
        What to write.

    Raises
    ------
    DataFileError
        If the extension is unknown.
    OSError
        If writing fails (a full disk, no permission); a file that was there before is still there.
    """
    with labels_file(path, len(labels), labels.dtype) as write:
        for start in range(0, len(labels), 1 << 16):
            write(labels[start : start + (1 << 16)])


def check_data_path(path: str | os.PathLike[str]) -> tuple[Path, str]:
    """Split ``file.npz:name`` and check that the file is there and of a known kind.

    Returns
    -------
    file : Path
    name : str
        The part behind the colon; empty if there is none.
    """
    text, name = os.fspath(path), ""
    if ".npz:" in text and not os.path.exists(text):
        text, _, name = text.rpartition(":")
    file = Path(text)
    check_extension(file, DATA_EXTENSIONS, "read")
    if not stat.S_ISREG(file.stat().st_mode):
        raise DataFileError(f"{file} is not a regular file.")
    return file, name


def _read(path: str | os.PathLike[str], n_dims: int) -> np.ndarray:
    file, name = check_data_path(path)
    extension = file.suffix.lower()
    try:
        if extension == ".npy":
            array = _read_npy(file)
        elif extension == ".npz":
            array = _read_npz(file, name, n_dims)
        elif extension == ".csv":
            array = read_csv(file)
        else:
            array = read_parquet(file)
    except MemoryError:
        raise DataFileError(f"{file} does not fit in memory.") from None
    return _check_array(array, file, n_dims)


def _check_array(array: np.ndarray, file: Path, n_dims: int) -> np.ndarray:
    """Give the array, if it holds numbers and has the wanted number of dimensions."""
    if array.dtype.kind not in "fiub":
        kinds = {"c": "complex numbers", "U": "text", "S": "bytes", "M": "dates", "m": "time spans"}
        what = kinds.get(array.dtype.kind, f"records ({array.dtype})")
        raise DataFileError(f"{file} holds {what}, and only real numbers can be clustered.")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if n_dims == 1 and array.ndim == 2 and array.shape[1] == 1:
        return array[:, 0]
    if array.ndim == n_dims:
        return array
    shape = f"{file} holds an array of shape {array.shape}"
    if n_dims == 1:
        raise DataFileError(f"{shape}; one number per row is needed, of shape (n_samples,).")
    cure = "shape (n_samples, n_features) is needed"
    if array.ndim == 1:
        cure += ": save X.reshape(-1, 1) if it is one feature, X.reshape(1, -1) if it is one sample"
    raise DataFileError(f"{shape}; {cure}.")


def _npy_header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the shape, whether it is in Fortran order, and the dtype at the head of a .npy stream."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old or odd headers: read them, or refuse them below
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise ValueError(f"version {version} of the format is for records only")
    if dtype.hasobject:
        raise DataFileError("holds Python objects, which are never read from a file; save numbers")
    if min(shape, default=0) < 0:
        raise ValueError("a negative shape")
    return shape, fortran_order, dtype


def npy_layout(file: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Read the shape, whether it is in Fortran order, the dtype and where the data begins, of a whole .npy file."""
    with open(file, "rb") as stream:
        try:
            shape, fortran_order, dtype = _npy_header(stream)
            offset = stream.tell()
            here, wanted = file.stat().st_size - offset, math.prod(shape) * dtype.itemsize
            if here < wanted:
                raise DataFileError(f"is truncated: it holds {here} of {wanted} bytes of data")
            return shape, fortran_order, dtype, offset
        except DataFileError as error:
            raise DataFileError(f"{file} {error}.") from None
        except CORRUPT as error:
            raise DataFileError(f"{file} is not a .npy file, or it is corrupt.") from error


def _read_npy(file: Path) -> np.ndarray:
    """Map a .npy file into memory."""
    shape, fortran_order, dtype, offset = npy_layout(file)
    try:
        if math.prod(shape) * dtype.itemsize == 0:
            return np.empty(shape, dtype)  # a map of no bytes is not allowed everywhere
        return np.memmap(file, dtype, "r", offset, shape, "F" if fortran_order else "C")
    except CORRUPT as error:
        raise DataFileError(f"{file} is not a .npy file, or it is corrupt.") from error


def _read_npz(file: Path, name: str, n_dims: int) -> np.ndarray:
    """Read one array of a .npz file: the named one, or the only one with so many dimensions."""
    with open(file, "rb") as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                return _read_member(archive, name, n_dims)
        except DataFileError as error:
            raise DataFileError(f"{file} {error}.") from None
        except CORRUPT as error:
            raise DataFileError(f"{file} is not a .npz file, or it is truncated or corrupt.") from error


def _n_dims(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """Give the number of dimensions of an array; -1 if it cannot be read."""
    with archive.open(member) as stream:
        try:
            return len(_npy_header(stream)[0])
        except DataFileError:
            return -1


def _read_member(archive: zipfile.ZipFile, name: str, n_dims: int) -> np.ndarray:
    members = {m.filename.removesuffix(".npy"): m for m in archive.infolist() if m.filename.endswith(".npy")}
    if not name:
        # A single array is taken whatever it is: what is wrong with it is said later, and better.
        fitting = [n for n in members if len(members) == 1 or _n_dims(archive, members[n]) == n_dims]
        if len(fitting) != 1:
            count = "no" if not fitting else "more than one"
            raise DataFileError(
                f"holds {count} {n_dims}-D array; choose one with FILE.npz:NAME (names: {', '.join(members)})"
            )
        name = fitting[0]
    if name not in members:
        raise DataFileError(f"holds no array {name!r} (names: {', '.join(members)})")
    member = members[name]
    with archive.open(member) as stream:
        shape, _, dtype = _npy_header(stream)
        # Checked before any memory is taken: the shape may be a lie.
        if math.prod(shape) * dtype.itemsize != member.file_size - stream.tell():
            raise DataFileError(f"is corrupt: the array {name!r} has not the size that its shape {shape} needs")
    with archive.open(member) as stream:
        array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
    return array
