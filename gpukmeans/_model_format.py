"""What a model file holds for each class, and how a file is read that may come from a stranger."""

import json
import math
import os
import zipfile
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ._tree import Tree
from .data_files import CORRUPT
from .errors import ModelFileError

FORMAT, VERSION, HEADER = "gpukmeans-model", 1, "model.json"
_FLOATS = ("<f4", "<f8")
_MAX_EXPONENT = 1100  # of a float64, subnormals and the centering at 2^40 included


@dataclass(frozen=True)
class Kept:
    """What is kept of a class: fitted numbers by their attributes, and arrays (without the underscore of theirs).

    Arrays have their dtypes (always little-endian in the file) and sizes; one of no size is left out.
    """

    numbers: dict[str, type]
    optional: tuple[str, ...] = ()
    arrays: dict[str, tuple[tuple[str, ...], tuple[str | int, ...]]] = field(default_factory=dict)


_COMMON: dict[str, type] = {"inertia_": float, "n_features_in_": int, "backend_": str, "_scale_exponent": int}
CLASSES = {
    "KMeans": Kept({**_COMMON, "n_iter_": int, "n_rechecked_": int}),
    "MiniBatchKMeans": Kept(
        {
            **_COMMON, "n_iter_": int, "n_steps_": int, "_running.batch_size": int, "_running.peak": float,
            "_running.scale": int, "_running.weight_scale": int, "_running.n_since_reassignment": int,
        },
        ("inertia_", "n_iter_"),
        {"running.means": (("<f8",), ("k", "d")), "running.weights": (("<f8",), ("k",))},
    ),
    "BisectingKMeans": Kept(
        _COMMON,
        (),
        {
            "tree.pairs": (_FLOATS, ("k - 1", 2, "d")),
            "tree.children": (("<i4",), ("k - 1", 2)),
            "tree.scales": (("<i4",), ("k - 1",)),
        },
    ),
}  # fmt: skip
_OF_ALL: dict[str, tuple[tuple[str, ...], tuple[str | int, ...]]] = {
    "cluster_centers": (_FLOATS, ("k", "d")),
    "labels": (("<i4",), ("n",)),
    "init": (_FLOATS, ("k", "d")),
}


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read and check the whole file."""
    with open(path, "rb") as file:
        start = file.read(4)
        if start != b"PK\x03\x04":
            what = "is not a gpukmeans model file" if start else "is empty"
            raise ModelFileError(f"{os.fspath(path)} {what}.")
        try:
            with zipfile.ZipFile(file) as archive:
                header = _read_header(archive, os.fstat(file.fileno()).st_size)
                arrays = {name: _read_array(archive, name, a) for name, a in header["arrays"].items()}
                _check_values(arrays)
                return header, arrays
        except ModelFileError as error:
            raise ModelFileError(f"{os.fspath(path)} {error}.") from None
        except (AttributeError, MemoryError, *CORRUPT) as error:
            raise ModelFileError(f"{os.fspath(path)} is truncated or corrupt.") from error


def _read_header(archive: zipfile.ZipFile, n_bytes: int) -> dict[str, Any]:
    """Read and check model.json and the list of members."""
    members = archive.infolist()
    names = [member.filename for member in members]
    if HEADER not in names:
        raise ModelFileError("is not a gpukmeans model file")
    if any(m.compress_type != zipfile.ZIP_STORED or m.file_size != m.compress_size for m in members):
        raise ModelFileError("is not as gpukmeans writes it: its members are compressed")
    if len(names) > len(set(names)) or sum(member.file_size for member in members) > n_bytes:
        raise ModelFileError("is corrupt: its members overlap")
    header = json.loads(archive.read(HEADER))
    check(header)
    if set(names) != {HEADER, *(f"{name}.npy" for name in header["arrays"])}:
        raise ModelFileError("is corrupt: its members are not those that its header states")
    checked: dict[str, Any] = header
    return checked


def _read_array(archive: zipfile.ZipFile, name: str, stated: dict[str, Any]) -> np.ndarray:
    """Read one array, if it is exactly what the header states."""
    dtype, shape = np.dtype(stated["dtype"]), tuple(stated["shape"])
    data = archive.read(f"{name}.npy")  # zipfile checks its CRC
    # The .npy header is compared with the only one that fits: there is nothing to parse, so nothing to trust.
    start = 10 + int.from_bytes(data[8:10], "little")
    expected = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': {shape}, }}"
    if data[:8] != b"\x93NUMPY\x01\x00" or data[10:start].rstrip() != expected.encode("ascii"):
        raise ModelFileError(f"is corrupt: {name}.npy is not as the header states")
    if len(data) - start != math.prod(shape) * dtype.itemsize:
        raise ModelFileError(f"is corrupt: {name}.npy has not the size that its shape {shape} needs")
    array = np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise ModelFileError(f"is corrupt: {name}.npy has NaN or infinity in it")
    return array


def _check_values(arrays: dict[str, np.ndarray]) -> None:
    """Check what the shapes of arrays do not say."""
    n_clusters, labels = len(arrays["cluster_centers"]), arrays.get("labels")
    if labels is not None and (labels.min() < 0 or labels.max() >= n_clusters):
        raise ModelFileError(f"is corrupt: labels.npy has labels outside 0 to {n_clusters - 1}")
    if "running.weights" in arrays:
        _demand(arrays["running.weights"].min() >= 0, "running.weights")
    if "tree.pairs" in arrays:
        _demand(arrays["tree.pairs"].dtype == arrays["cluster_centers"].dtype, "the dtype of tree.pairs")
        _demand(np.abs(arrays["tree.scales"].astype(int)).max() <= _MAX_EXPONENT, "tree.scales")
        tree = Tree(arrays["tree.pairs"], arrays["tree.children"], arrays["tree.scales"])
        _demand(tree.is_whole(), "tree.children")


def check(header: Any) -> None:
    """Check every value of the header: its type, its range, and that they agree."""
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ModelFileError("is not a gpukmeans model file")
    version = header.get("version")
    if isinstance(version, int) and version > VERSION:
        writer = str(header.get("gpukmeans"))[:40]
        raise ModelFileError(
            f"is of version {version} of the format (gpukmeans {writer!r}), and this gpukmeans reads up to "
            f"{VERSION}: pip install --upgrade gpukmeans"
        )
    fitted, arrays, names = header["fitted"], header["arrays"], header["feature_names_in_"]
    _demand(type(header["class"]) is str and header["class"] in CLASSES, "class")
    kept = CLASSES[header["class"]]
    for array, stated in arrays.items():
        dtypes, sizes = kept.arrays.get(array) or _OF_ALL[array]
        shape = stated["shape"]
        _demand(stated["dtype"] in dtypes, f"the dtype of {array}")
        _demand(len(shape) == len(sizes), f"the shape of {array}")
        _demand(all(type(n) is int and n > 0 for n in shape), f"the shape of {array}")
    _demand("cluster_centers" in arrays, "arrays")
    k, d = arrays["cluster_centers"]["shape"]
    for array, (_, sizes) in kept.arrays.items():
        of_size: dict[str | int, int] = {"k": k, "k - 1": k - 1, "d": d, 2: 2}
        shape = [of_size[size] for size in sizes]
        _demand(arrays[array]["shape"] == shape if 0 not in shape else array not in arrays, f"the shape of {array}")
    _demand(version == VERSION, "version")
    _demand(isinstance(header["gpukmeans"], str), "gpukmeans")
    plain = (type(None), bool, int, float, str)
    _demand(all(type(value) in plain for value in header["params"].values()), "params")
    _demand(all(isinstance(value, str) for value in header["left_out"].values()), "left_out")
    _demand(kept.numbers.keys() - kept.optional <= fitted.keys() <= kept.numbers.keys(), "fitted")
    for name, value in fitted.items():
        _demand(type(value) is kept.numbers[name], name)
        if "scale" in name:
            _demand(abs(value) <= _MAX_EXPONENT, name)
        elif name.startswith("_running."):
            _demand((name == "_running.batch_size") <= value < math.inf, name)
    _demand(fitted["n_features_in_"] == d, "n_features_in_")
    if names is not None:
        _demand(type(names) is list and len(names) == d, "feature_names_in_")
        _demand(all(type(name) is str for name in names), "feature_names_in_")
    for row in header["history_"]:
        _demand(len(row) == 5 and all(type(value) in (int, float, type(None)) for value in row), "history_")


def _demand(condition: bool, what: str) -> None:
    if not condition:
        raise ModelFileError(f"is corrupt: {what} is not as gpukmeans writes it")
