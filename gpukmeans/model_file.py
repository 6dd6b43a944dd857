"""Save a fitted KMeans, MiniBatchKMeans or BisectingKMeans to a file and load it again; safe to load from a stranger.

The file is a .npz (uncompressed zip) with a JSON header:

    model.json             format, version, class, parameters, fitted numbers, dtype and shape of each array
    cluster_centers.npy    (n_clusters, n_features), float32 or float64
    labels.npy             (n_samples,), int32; may be left out
    init.npy               the array that was passed as ``init``, if one was
    running.*.npy          of a MiniBatchKMeans, for more batches: its means and their weights in float64
    tree.*.npy             of a BisectingKMeans: its bisections

Nothing in it is ever executed or unpickled. Members are stored uncompressed, and the size of each array is
checked against the shape that the header states before it is read: so a file of n bytes takes O(n) memory.
"""

import json
import os
import warnings
import zipfile
from numbers import Integral, Real
from operator import attrgetter
from typing import Any

import numpy as np

from ._model_format import CLASSES, FORMAT, HEADER, VERSION, check, read
from ._tree import Tree
from .arrays import to_host
from .batches import RunningMeans
from .data_files import atomic_write, write_npy
from .errors import ModelFileError
from .history import History
from .lloyd import Iteration

__all__ = ["inspect", "load", "save"]


def _classes() -> dict[str, Any]:
    """Those that can be saved, by name. To see what a file holds scikit-learn need not be imported."""
    from .bisecting import BisectingKMeans
    from .kmeans import KMeans
    from .minibatch import MiniBatchKMeans

    return {cls.__name__: cls for cls in (KMeans, MiniBatchKMeans, BisectingKMeans)}


def save(model: Any, path: str | os.PathLike[str], *, labels: bool = True) -> None:
    """Write a fitted model to a file that appears whole or not at all.

    Parameters
    ----------
    model : KMeans, MiniBatchKMeans or BisectingKMeans
        Fitted. A parameter that cannot be written as a number, a text or an array (a callable ``init``, a
        ``random_state`` object) is recorded by its name only. Further batches move a MiniBatchKMeans as they would
        move the saved one, but its random draws begin anew. (A KernelKMeans may have any function as its kernel: it
        can only be pickled.)
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

    if type(model) not in _classes().values():
        raise TypeError(f"Only a {', a '.join(CLASSES)} can be saved to a model file. Got {model!r} instead.")
    check_is_fitted(model)
    kept = CLASSES[type(model).__name__]
    arrays = {"cluster_centers": to_host(model.cluster_centers_)}
    if labels and hasattr(model, "labels_"):
        arrays["labels"] = to_host(model.labels_)
    of_class = {name: attrgetter(f"_{name}")(model) for name in kept.arrays}
    arrays |= {name: array for name, array in of_class.items() if array.size}
    numbers = {n: kind for n, kind in kept.numbers.items() if n not in kept.optional or hasattr(model, n)}
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
        "format": FORMAT,
        "version": VERSION,
        "gpukmeans": __version__,
        "class": type(model).__name__,
        "params": params,
        "left_out": left_out,
        "fitted": {name: kind(attrgetter(name)(model)) for name, kind in numbers.items()},
        "feature_names_in_": None if names is None else [str(name) for name in names],
        "history_": [[_plain(value) for value in iteration] for iteration in getattr(model, "history_", ())],
        "arrays": {name: {"dtype": a.dtype.str, "shape": list(a.shape)} for name, a in arrays.items()},
    }
    try:
        check(header)  # what load would refuse is not written
    except ModelFileError as error:
        raise ModelFileError(f"{os.fspath(path)} is not written, since it {error}.") from None
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo(HEADER), json.dumps(header, indent=1))
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")
            member.file_size = array.nbytes + 128  # tells zipfile whether 32 bits are enough for the size
            with archive.open(member, "w") as stream:
                write_npy(stream, array)


def load(path: str | os.PathLike[str]) -> Any:
    """Give the model that a file holds; its ``predict`` is that of the saved model, bit for bit.

    Parameters
    ----------
    path : str or path-like
        A file that :func:`save` wrote. It may come from a stranger: nothing in it is executed.

    Returns
    -------
    KMeans, MiniBatchKMeans or BisectingKMeans
        Fitted; without ``labels_`` if they were not saved. A parameter that was recorded by its name only has
        its default, with a warning.

    Raises
    ------
    ModelFileError
        If the file is corrupt, truncated, something else, or from a newer version; one line that says which.
    OSError
        If the file cannot be opened.
    """
    header, arrays = read(path)
    cls = _classes()[header["class"]]
    known = cls().get_params(deep=False)
    params = dict(header["params"])
    if "init" in arrays:
        params["init"] = arrays["init"]
    for name in [*params, *header["left_out"]]:
        if name not in known:
            raise ModelFileError(f"{os.fspath(path)} has a parameter {name!r} that {cls.__name__} does not know.")
    for name, what in header["left_out"].items():
        warnings.warn(
            f"{os.fspath(path)}: the model was fitted with {name}={what}, which a model file cannot hold; "
            f"{name} is {known[name]!r} now, which matters only if it is fitted again.",
            UserWarning,
            stacklevel=2,
        )
    model = cls(**params)
    model.cluster_centers_ = arrays["cluster_centers"]
    if "labels" in arrays:
        model.labels_ = arrays["labels"]
    fitted = header["fitted"]
    for name, value in fitted.items():
        if "." not in name:
            setattr(model, name, value)
    if header["feature_names_in_"] is not None:
        model.feature_names_in_ = np.array(header["feature_names_in_"], dtype=object)
    if header["class"] == "KMeans":
        model.history_ = History(Iteration(*values) for values in header["history_"])
    elif header["class"] == "MiniBatchKMeans":
        model._running = _running(fitted, arrays)
    else:
        n_features = model.cluster_centers_.shape[1]
        none = Tree(np.empty((0, 2, n_features)), np.empty((0, 2), np.int32), np.empty(0, np.int32))
        model._tree = (
            none
            if len(model.cluster_centers_) == 1
            else Tree(arrays["tree.pairs"], arrays["tree.children"], arrays["tree.scales"])
        )
    return model


def _running(fitted: dict[str, Any], arrays: dict[str, np.ndarray]) -> RunningMeans:
    given = {name.removeprefix("_running."): value for name, value in fitted.items() if "." in name}
    dtype = arrays["cluster_centers"].dtype
    running = RunningMeans(
        arrays["running.means"], dtype, given.pop("batch_size"), given.pop("peak"), given.pop("scale"), **given
    )
    running.weights = arrays["running.weights"]
    return running


def inspect(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Give the checked header of a model file: what ``gpukmeans info`` shows.

    Raises
    ------
    ModelFileError, OSError
        As :func:`load`.
    """
    return read(path)[0]


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
