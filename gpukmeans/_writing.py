"""Files that appear whole or not at all, and labels written to them as they come."""

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .errors import DataFileError

LABEL_EXTENSIONS = (".npy", ".csv", ".txt")


def write_npy(file: Any, array: np.ndarray) -> None:
    """Write an array as numpy.save does, to anything with ``write``.

    numpy.save goes around ``write`` for real files: it fails on pipes and forgets why a full disk failed.
    """
    array = np.ascontiguousarray(array)
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
    file.write(array.data)


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its name only when it is complete.

    The bytes go to a temporary name beside it. Whatever goes wrong (a full disk, Ctrl-C), the temporary file
    is removed and the old file is as it was. A device or a pipe is written to directly.
    """
    target = Path(os.path.realpath(path))  # a link stays, and the file that it names is replaced
    direct = target.exists() and not target.is_file()
    temporary = target if direct else target.with_name(f".gpukmeans-{secrets.token_hex(6)}.tmp")
    try:
        with open(temporary, "wb" if direct else "xb") as file:
            if target.is_file():
                shutil.copymode(target, temporary)
            yield file
            if not direct:
                file.flush()
                os.fsync(file.fileno())
        if not direct:
            os.replace(temporary, target)
    except OSError as error:
        if error.errno is not None:  # the message is to name the file that was asked for
            raise type(error)(error.errno, error.strerror, os.fspath(path)) from None
        raise
    finally:
        if not direct:
            temporary.unlink(missing_ok=True)  # after the rename there is nothing of this name


@contextmanager
def labels_file(
    path: str | os.PathLike[str], n_samples: int, dtype: Any = np.int32
) -> Iterator[Callable[[np.ndarray], None]]:
    """Open a file of labels, to be written in parts; gives the function that writes some."""
    extension = check_labels_path(path)
    with atomic_write(path) as file:
        if extension == ".npy":
            header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False}
            np.lib.format.write_array_header_1_0(file, {**header, "shape": (n_samples,)})
        if extension == ".csv":
            file.write(b"label\n")

        def write(labels: np.ndarray) -> None:
            if extension == ".npy":
                file.write(np.ascontiguousarray(labels).data)
            else:
                lines = "\n".join(map(str, labels.tolist()))
                file.write(f"{lines}\n".encode("ascii"))

        yield write


def check_labels_path(path: str | os.PathLike[str]) -> str:
    """Give the extension of a file of labels, if it is a known one."""
    return check_extension(Path(path), LABEL_EXTENSIONS, "written")


def check_extension(file: Path, known: tuple[str, ...], verb: str) -> str:
    """Give the extension of a file in lower case, if it is a known one."""
    extension = file.suffix.lower()
    if extension not in known:
        given = f"the extension {extension!r}" if extension else "no extension"
        raise DataFileError(f"{file} has {given}; files that can be {verb}: {', '.join(known)}.")
    return extension
