"""Save a fitted KMeans to a file and load it again; safe to load from a stranger.

The file is a .npz (uncompressed zip) with a JSON header:

    model.json             format, version, class, parameters, fitted numbers, dtype and shape of each array
    cluster_centers.npy    (n_clusters, n_features), float32 or float64
    labels.npy             (n_samples,), int32; may be left out
    init.npy               the array that was passed as ``init``, if one was

Nothing in it is ever executed or unpickled. Members are stored uncompressed, and the size of each array is
checked against the shape that the header states before it is read: so a file of n bytes takes O(n) memory.
"""

import json
import math
import os
import warnings
import zipfile
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrays import to_host
from .data_files import CORRUPT, atomic_write, write_npy
from .errors import ModelFileError

if TYPE_CHECKING:
    from .kmeans import KMeans

__all__ = ["inspect", "load", "save"]

_FORMAT, _VERSION, _HEADER = "gpukmeans-model", 1, "model.json"
# The arrays: their dtypes (always little-endian in the file) and number of dimensions.
_ARRAYS = {
    "cluster_centers": (("<f4", "<f8"), 2),
    "labels": (("<i4",), 1),
    "init": (("<f4", "<f8"), 2),
}
_NUMBERS: dict[str, type] = {
    "inertia_": float,
    "n_iter_": int,
    "n_features_in_": int,
    "backend_": str,
    "n_rechecked_": int,
    "_scale_exponent": int,
}
_MAX_EXPONENT = 1100  # of a float64, subnormals and the centering at 2^40 included


def save(model: "KMeans", path: str | os.PathLike[str], *, labels: bool = True) -> None:
    """Write a fitted model to a file that appears whole or not at all.

    Parameters
    ----------
    model : KMeans
        A fitted estimator. A parameter that cannot be written as a number, a text or an array (a callable
        ``init``, a ``random_state`` object) is recorded by its name only.
    path : str or path-like
        The file; any extension, ``.npz`` is usual.
    labels : bool, default=True
        Whether to keep ``labels_``, 4 bytes for each row that the model was fitted to.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the model is not fitted.
    OSError
        If writing fails; a file that was there before is still there.
    """
    from sklearn.utils.validation import check_is_fitted

    from . import __version__
    from .kmeans import KMeans

    if type(model) is not KMeans:
        raise TypeError(f"Only a KMeans can be saved to a model file. Got {model!r} instead.")
    check_is_fitted(model)
    arrays = {"cluster_centers": to_host(model.cluster_centers_)}
    if labels and hasattr(model, "labels_"):
        arrays["labels"] = to_host(model.labels_)
    params, left_out = {}, {}
    for name, value in model.get_params(deep=False).items():
        if name == "init" and not isinstance(value, str) and not callable(value):
            arrays["init"] = _as_float(value)
        elif isinstance(value, np.generic | None | bool | int | float | str):
            params[name] = value.item() if isinstance(value, np.generic) else value
        else:
            left_out[name] = getattr(value, "__qualname__", type(value).__qualname__)
    arrays = {name: a.astype(a.dtype.newbyteorder("<"), copy=False) for name, a in arrays.items()}
    names = getattr(model, "feature_names_in_", None)
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "gpukmeans": __version__,
        "class": type(model).__name__,
        "params": params,
        "left_out": left_out,
        "fitted": {name: kind(getattr(model, name)) for name, kind in _NUMBERS.items()},
        "feature_names_in_": None if names is None else [str(name) for name in names],
        "history_": [[_plain(value) for value in iteration] for iteration in model.history_],
        "arrays": {name: {"dtype": a.dtype.str, "shape": list(a.shape)} for name, a in arrays.items()},
    }
    try:
        _check(header)  # what load would refuse is not written
    except ModelFileError as error:
        raise ModelFileError(f"{os.fspath(path)} is not written, since it {error}.") from None
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo(_HEADER), json.dumps(header, indent=1))
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")
            member.file_size = array.nbytes + 128  # tells zipfile whether 32 bits are enough for the size
            with archive.open(member, "w") as stream:
                write_npy(stream, array)


def load(path: str | os.PathLike[str]) -> "KMeans":
    """Give the model that a file holds; its ``predict`` is that of the saved model, bit for bit.

    Parameters
    ----------
    path : str or path-like
        A file that :func:`save` wrote. It may come from a stranger: nothing in it is executed.

    Returns
    -------
    KMeans
        Fitted; without ``labels_`` if they were not saved. A parameter that was recorded by its name only has
        its default, with a warning.

    Raises
    ------
    ModelFileError
        If the file is corrupt, truncated, something else, or from a newer version; one line that says which.
    OSError
        If the file cannot be opened.
    """
    from .history import History
    from .kmeans import KMeans
    from .lloyd import Iteration

    header, arrays = _read(path)
    known = KMeans().get_params(deep=False)
    params = dict(header["params"])
    if "init" in arrays:
        params["init"] = arrays["init"]
    for name in [*params, *header["left_out"]]:
        if name not in known:
            raise ModelFileError(f"{os.fspath(path)} has a parameter {name!r} that KMeans does not know.")
    for name, what in header["left_out"].items():
        warnings.warn(
            f"{os.fspath(path)}: the model was fitted with {name}={what}, which a model file cannot hold; "
            f"{name} is {known[name]!r} now, which matters only if it is fitted again.",
            UserWarning,
            stacklevel=2,
        )
    model = KMeans(**params)
    model.cluster_centers_ = arrays["cluster_centers"]
    if "labels" in arrays:
        model.labels_ = arrays["labels"]
    for name, value in header["fitted"].items():
        setattr(model, name, value)
    if header["feature_names_in_"] is not None:
        model.feature_names_in_ = np.array(header["feature_names_in_"], dtype=object)
    model.history_ = History(Iteration(*values) for values in header["history_"])
    return model


def inspect(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Give the checked header of a model file: what ``gpukmeans info`` shows.

    Raises
    ------
    ModelFileError, OSError
        As :func:`load`.
    """
    return _read(path)[0]


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
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
                if "labels" in arrays:
                    _check_labels(arrays["labels"], len(arrays["cluster_centers"]))
                return header, arrays
        except ModelFileError as error:
            raise ModelFileError(f"{os.fspath(path)} {error}.") from None
        except (AttributeError, MemoryError, *CORRUPT) as error:
            raise ModelFileError(f"{os.fspath(path)} is truncated or corrupt.") from error


def _read_header(archive: zipfile.ZipFile, n_bytes: int) -> dict[str, Any]:
    """Read and check model.json and the list of members."""
    members = archive.infolist()
    names = [member.filename for member in members]
    if _HEADER not in names:
        raise ModelFileError("is not a gpukmeans model file")
    if any(m.compress_type != zipfile.ZIP_STORED or m.file_size != m.compress_size for m in members):
        raise ModelFileError("is not as gpukmeans writes it: its members are compressed")
    if len(names) > len(set(names)) or sum(member.file_size for member in members) > n_bytes:
        raise ModelFileError("is corrupt: its members overlap")
    header = json.loads(archive.read(_HEADER))
    _check(header)
    if set(names) != {_HEADER, *(f"{name}.npy" for name in header["arrays"])}:
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


def _check_labels(labels: np.ndarray, n_clusters: int) -> None:
    if labels.min() < 0 or labels.max() >= n_clusters:
        raise ModelFileError(f"is corrupt: labels.npy has labels outside 0 to {n_clusters - 1}")


def _check(header: Any) -> None:
    """Check every value of the header: its type, its range, and that they agree."""
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise ModelFileError("is not a gpukmeans model file")
    version = header.get("version")
    if isinstance(version, int) and version > _VERSION:
        writer = str(header.get("gpukmeans"))[:40]
        raise ModelFileError(
            f"is of version {version} of the format (gpukmeans {writer!r}), and this gpukmeans reads up to "
            f"{_VERSION}: pip install --upgrade gpukmeans"
        )
    fitted, arrays, names = header["fitted"], header["arrays"], header["feature_names_in_"]
    for array, stated in arrays.items():
        dtypes, n_dims = _ARRAYS[array]
        shape = stated["shape"]
        _demand(stated["dtype"] in dtypes, f"the dtype of {array}")
        _demand(len(shape) == n_dims, f"the shape of {array}")
        _demand(all(type(n) is int and n > 0 for n in shape), f"the shape of {array}")
    _demand("cluster_centers" in arrays, "arrays")
    n_features = arrays["cluster_centers"]["shape"][1]
    _demand(version == _VERSION, "version")
    _demand(header["class"] == "KMeans", "class")
    _demand(isinstance(header["gpukmeans"], str), "gpukmeans")
    plain = (type(None), bool, int, float, str)
    _demand(all(type(value) in plain for value in header["params"].values()), "params")
    _demand(all(isinstance(value, str) for value in header["left_out"].values()), "left_out")
    _demand(fitted.keys() == _NUMBERS.keys(), "fitted")
    for name, kind in _NUMBERS.items():
        _demand(type(fitted[name]) is kind, name)
    _demand(fitted["n_features_in_"] == n_features, "n_features_in_")
    _demand(abs(fitted["_scale_exponent"]) <= _MAX_EXPONENT, "_scale_exponent")
    if names is not None:
        _demand(type(names) is list and len(names) == n_features, "feature_names_in_")
        _demand(all(type(name) is str for name in names), "feature_names_in_")
    for row in header["history_"]:
        _demand(len(row) == 5 and all(type(value) in (int, float, type(None)) for value in row), "history_")


def _demand(condition: bool, what: str) -> None:
    if not condition:
        raise ModelFileError(f"is corrupt: {what} is not as gpukmeans writes it")


def _as_float(init: Any) -> np.ndarray:
    """Give an array of start centers in a dtype that a model file holds; every number keeps its value."""
    array = np.asarray(init)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)


def _plain(value: Any) -> int | float | None:
    """Give a number as Python's own type, for JSON."""
    if value is None:
        return None
    if isinstance(value, Integral):
        return int(value)
    assert isinstance(value, Real)
    return float(value)
