"""Tables as text (.csv) and as .parquet, read to one array of numbers."""

import csv
import difflib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from .errors import DataFileError

__all__ = ["parquet_batches", "parquet_layout", "read_csv", "read_parquet"]

_MAX_LINE = 1 << 24  # characters in the first line of a .csv: more than that is no table
_BATCH_VALUES = 1 << 19  # of a batch of a .parquet file: some megabytes
_PAGES_BYTES = 3 << 20  # of each of its columns: a page of 1 MB, unpacked, and a dictionary: what writers make
_BUFFER_BYTES = 1 << 16  # of each of its columns, which may be many


def read_csv(file: Path) -> np.ndarray:
    """Read a table of numbers with NumPy's C reader; on failure look again, slowly, for the bad cell."""
    try:
        with open(file, encoding="utf-8-sig", newline="") as text:
            delimiter, names, n_skip = _csv_layout(text)
        try:
            X = np.loadtxt(
                os.path.abspath(file),  # never read as a URL
                delimiter=delimiter,
                skiprows=n_skip,
                comments=None,
                quotechar='"',
                ndmin=2,
                encoding="utf-8-sig",
            )
        except ValueError as error:
            reason = _first_bad_cell(file, delimiter, names, n_skip) or f": {str(error).splitlines()[0]}"
            raise DataFileError(reason) from None
        if names and len(names) != X.shape[1]:
            raise DataFileError(f", line {n_skip}: {len(names)} names for {X.shape[1]} columns of numbers.")
        return X
    except DataFileError as error:
        raise DataFileError(f"{file}{error}") from None
    except UnicodeDecodeError:
        raise DataFileError(f"{file} is not a text file in UTF-8.") from None
    except csv.Error as error:
        raise DataFileError(f"{file} is no table of numbers: {error}.") from None


def _csv_layout(text: TextIO) -> tuple[str, list[str], int]:
    """Find the delimiter, the names of the columns (empty without a header) and the lines to skip."""
    n_blank, line = 0, text.readline(_MAX_LINE)
    while line.isspace():
        n_blank, line = n_blank + 1, text.readline(_MAX_LINE)
    if not line:
        raise DataFileError(" is empty.")
    if len(line) == _MAX_LINE:
        raise DataFileError(f", line {n_blank + 1}: longer than {_MAX_LINE} characters; this is no table.")
    delimiter = max("\t;,", key=lambda mark: len(next(csv.reader([line], delimiter=mark))))
    names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter))]
    if any(_is_number(name) for name in names):
        return delimiter, [], n_blank
    if not names[0] and len(names) > 1:
        raise DataFileError(
            f", line {n_blank + 1}: the first column has no name, so it is likely the index of a table "
            "and no data; leave it out (pandas: to_csv(path, index=False))."
        )
    if not any(line.strip() for line in text):
        raise DataFileError(" has a header line and no rows.")
    return delimiter, names, n_blank + 1


def _first_bad_cell(file: Path, delimiter: str, names: list[str], n_skip: int) -> str:
    """Say where the first cell stands that is not a number; nothing if there is none."""
    with open(file, encoding="utf-8-sig", newline="") as text:
        for _ in range(n_skip):
            text.readline()
        rows = csv.reader(text, delimiter=delimiter)
        n_columns = len(names)
        for row in rows:
            line = f", line {n_skip + rows.line_num}"
            n_columns = n_columns or len(row)
            if row and len(row) != n_columns:
                return f"{line}: {len(row)} cells, where the lines before have {n_columns}."
            for j, cell in enumerate(row):
                if not _is_number(cell):
                    named = f" ({names[j]!r})" if names else ""
                    return f"{line}, column {j + 1}{named}: {_complaint(cell, delimiter)}"
    return ""


def _complaint(cell: str, delimiter: str) -> str:
    if not cell.strip():
        return "the cell is empty; fill in a number or leave the row out."
    shown = repr(cell if len(cell) <= 40 else f"{cell[:40]}...")
    if delimiter != "," and _is_number(cell.replace(",", ".")):
        return f"{shown} is not a number; decimals are written with a point."
    return f"{shown} is not a number."


def _is_number(cell: str) -> bool:
    """Whether NumPy's reader takes the cell: Python's float takes more."""
    try:
        float(cell)
    except ValueError:
        return False
    return cell.isascii() and "_" not in cell


def read_parquet(file: Path) -> np.ndarray:
    """Read the columns of a .parquet file, batch by batch, so that the table is never held twice."""
    names, dtype, n_rows, _ = parquet_layout(file)
    X = np.empty((sum(n_rows), len(names)), dtype)
    start = 0
    for batch in parquet_batches(file, names, dtype):
        X[start : start + len(batch)] = batch
        start += len(batch)
    return X


def parquet_layout(
    file: Path, columns: Sequence[str] | None = None
) -> tuple[list[str], np.dtype[Any], list[int], int]:
    """Names of the columns (or those chosen), their one dtype, rows of each row group, bytes that reading takes."""
    with _parquet(file) as table:
        schema, meta = table.schema_arrow, table.metadata
        names = schema.names if columns is None else list(columns)
        for name in names:
            if name not in schema.names:
                near = difflib.get_close_matches(name, schema.names, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise DataFileError(f" has no column {name!r}; it has {', '.join(map(repr, schema.names))}.{hint}")
        kinds = [schema.field(name).type for name in names] if columns is not None else schema.types
        groups = [meta.row_group(g) for g in range(meta.num_row_groups)]
        places = [j for j in range(meta.num_columns) if meta.schema.column(j).path in set(names)]
        pages = [sum(min(2 * g.column(j).total_uncompressed_size, _PAGES_BYTES) for j in places) for g in groups]
        held = len(places) * _BUFFER_BYTES + 64 * _BATCH_VALUES + max(pages, default=0)
        return names, _parquet_dtype(names, kinds), [group.num_rows for group in groups], held


def parquet_batches(
    file: Path, columns: Sequence[str], dtype: np.dtype[Any], groups: Sequence[int] | None = None
) -> Iterator[np.ndarray]:
    """Rows of a .parquet file (of some row groups), a few thousand at a time."""
    size = max(1, _BATCH_VALUES // len(columns))
    with _parquet(file) as table:
        meta = table.metadata
        ends = np.cumsum([0, *(meta.row_group(g).num_rows for g in range(meta.num_row_groups))])
        for group in range(meta.num_row_groups) if groups is None else groups:
            row = int(ends[group])
            with _corrupt(f", row group {group}, is truncated or corrupt."):
                # one thread, and pages as they come: else a row group is held as a whole
                batches = table.iter_batches(size, row_groups=[group], columns=list(columns), use_threads=False)
                for batch in batches:
                    X = np.empty((batch.num_rows, len(columns)), dtype)
                    for j, name in enumerate(columns):
                        column = batch.column(j if batch.schema.names == list(columns) else name)
                        if column.null_count:
                            empty = row + column.is_null().index(True).as_py()
                            raise DataFileError(
                                f", row {empty}, column {name!r}: "
                                "the cell is empty; fill in a number or leave the row out."
                            )
                        X[:, j] = column.to_numpy(zero_copy_only=False)
                    row += len(X)
                    yield X
                if row != ends[group + 1]:
                    raise ValueError(f"rows up to {row}, {ends[group + 1]} stated")


@contextmanager
def _parquet(file: Path) -> Iterator[Any]:
    """An open .parquet file; errors of this package are given the name of the file."""
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise DataFileError(
            f"{file} needs pyarrow to be read: pip install 'gpukmeans[parquet]' (or pip install pyarrow)."
        ) from None
    try:
        refused = _corrupt(" is not a .parquet file, or it is truncated or corrupt.")
        with refused, pq.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES) as table:
            yield table
    except DataFileError as error:
        raise DataFileError(f"{file}{error}") from error.__cause__


@contextmanager
def _corrupt(message: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except DataFileError:
        raise
    except (pa.ArrowException, ValueError, OSError, RuntimeError, OverflowError) as error:
        raise DataFileError(message) from error


def _parquet_dtype(names: Sequence[str], types: Sequence[Any]) -> np.dtype[Any]:
    """Give the one dtype that holds all columns; refuse a column that holds no numbers."""
    import pyarrow.types as kinds

    if not names:
        raise DataFileError(" has no columns.")
    for name, kind in zip(names, types, strict=True):
        if name.startswith("__index_level_"):
            raise DataFileError(
                f", column {name!r}: the index of a table and no data; leave it out "
                "(pandas: to_parquet(path, index=False))."
            )
        if not (kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_boolean(kind)):
            raise DataFileError(f", column {name!r}: holds {kind}, and only numbers can be clustered.")
    return np.result_type(*(kind.to_pandas_dtype() for kind in types))
