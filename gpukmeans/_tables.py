"""Tables as text (.csv) and as .parquet, read to one array of numbers."""

import csv
import os
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from .errors import DataFileError

__all__ = ["read_csv", "read_parquet"]

_MAX_LINE = 1 << 24  # characters in the first line of a .csv: more than that is no table


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
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise DataFileError(
            f"{file} needs pyarrow to be read: pip install 'gpukmeans[parquet]' (or pip install pyarrow)."
        ) from None
    try:
        with pq.ParquetFile(file) as table:
            schema = table.schema_arrow
            X = np.empty((table.metadata.num_rows, len(schema)), _parquet_dtype(schema))
            start = 0
            for batch in table.iter_batches():
                for j, column in enumerate(batch.columns):
                    if column.null_count:
                        row = start + column.is_null().index(True).as_py()
                        raise DataFileError(
                            f", row {row}, column {schema.names[j]!r}: "
                            "the cell is empty; fill in a number or leave the row out."
                        )
                    X[start : start + len(column), j] = column.to_numpy(zero_copy_only=False)
                start += batch.num_rows
            if start != len(X):
                raise ValueError(f"{start} rows of {len(X)}")
            return X
    except DataFileError as error:
        raise DataFileError(f"{file}{error}") from None
    except (pa.ArrowException, ValueError, OSError, RuntimeError, OverflowError) as error:
        raise DataFileError(f"{file} is not a .parquet file, or it is truncated or corrupt.") from error


def _parquet_dtype(schema: Any) -> np.dtype[Any]:
    """Give the one dtype that holds all columns; refuse a column that holds no numbers."""
    import pyarrow.types as kinds

    if not schema.names:
        raise DataFileError(" has no columns.")
    for name, kind in zip(schema.names, schema.types, strict=True):
        if name.startswith("__index_level_"):
            raise DataFileError(
                f", column {name!r}: the index of a table and no data; leave it out "
                "(pandas: to_parquet(path, index=False))."
            )
        if not (kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_boolean(kind)):
            raise DataFileError(f", column {name!r}: holds {kind}, and only numbers can be clustered.")
    return np.result_type(*(kind.to_pandas_dtype() for kind in schema.types))
