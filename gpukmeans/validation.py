"""All that can be wrong with input, and how it is said. Validated once, here; trusted below."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import numbers
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import numpy as np
from scipy import sparse
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import validate_data

from .arrays import on_card, on_device, to_host, with_layout
from .backends import backend_names
from .exact import Float64Array, FloatArray
from .halves import Halves
from .memory import parse_bytes
from .seeding import RandomState
from .sources import is_source
from .streaming import Streamed


class InvalidParameterError(ValueError, TypeError):
    """A parameter of the wrong type or out of range (both kinds of error, as in scikit-learn)."""


def _parameter_names(cls: Any) -> tuple[str, ...]:
    return tuple(name for name in inspect.signature(cls.__init__).parameters if name != "self")


parameter_names: Callable[[type], tuple[str, ...]] = functools.cache(_parameter_names)
"""Names of the parameters of an estimator's class; to look at a signature takes as long as to fit a few rows."""


class SuggestsParameters:
    """Mixin: an unknown constructor parameter is answered with the nearest known one."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Show the parameters of the constructor in help and editors, not those of `__new__`."""
        super().__init_subclass__(**options)
        constructor = inspect.signature(cls.__init__)
        cls.__signature__ = constructor.replace(parameters=list(constructor.parameters.values())[1:])  # type: ignore[attr-defined]

    def __new__(cls, *args: Any, **params: Any) -> Any:
        """Refuse an unknown parameter before Python does, with a better message."""
        known = parameter_names(cls)
        for name in params:
            if name not in known:
                raise TypeError(_unknown(cls.__name__, name, known))
        return super().__new__(cls)

    def set_params(self, **params: Any) -> Any:
        """Set the parameters of this estimator; an unknown one is refused with the nearest known name.

        Parameters
        ----------
        **params : dict
            Estimator parameters.

        Returns
        -------
        self
        """
        known = parameter_names(type(self))
        for name in params:
            if name not in known:
                raise ValueError(_unknown(type(self).__name__, name, known))
        return super().set_params(**params)  # type: ignore[misc]


def _unknown(owner: str, name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"Invalid parameter {name!r} for {owner}.{hint} Valid parameters are: {sorted(known)!r}."


# ------------------------------------------------------------------------------------------------ parameters
def _is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool | np.bool_)


def _is_real(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)


def _is_array_like(value: Any) -> bool:
    return hasattr(value, "__array__") or isinstance(value, list | tuple) or sparse.issparse(value)


Rule = tuple[Callable[[Any], bool], str]


def _one_of(*names: str) -> Rule:
    listed = ", ".join(repr(name) for name in sorted(names))
    return lambda value: isinstance(value, str) and value in names, f"a str among {{{listed}}}"


_POSITIVE_INT: Rule = (lambda v: _is_integer(v) and v >= 1, "an int in the range [1, inf)")
_BOOL: Rule = (lambda v: isinstance(v, bool | np.bool_), "an instance of 'bool'")

_RULES: dict[str, Rule] = {
    "n_clusters": _POSITIVE_INT,
    "init": (
        lambda v: (
            (isinstance(v, str) and v in ("k-means++", "k-means||", "random")) or callable(v) or _is_array_like(v)
        ),
        "a str among {'k-means++', 'k-means||', 'random'}, a callable or an array-like",
    ),
    "n_init": (
        lambda v: (isinstance(v, str) and v == "auto") or (_is_integer(v) and v >= 1),
        "a str among {'auto'} or an int in the range [1, inf)",
    ),
    "max_iter": _POSITIVE_INT,
    "tol": (lambda v: _is_real(v) and 0 <= v < math.inf, "a float in the range [0.0, inf)"),
    "verbose": (
        lambda v: isinstance(v, bool | np.bool_) or (_is_integer(v) and v >= 0),
        "an int in the range [0, inf) or an instance of 'bool'",
    ),
    "random_state": (
        lambda v: (
            v is None
            or v is np.random
            or isinstance(v, np.random.RandomState | np.random.Generator)
            or (_is_integer(v) and 0 <= v < 2**32)
        ),
        "an int in the range [0, 4294967295], a numpy.random.RandomState, a numpy.random.Generator or None",
    ),
    "copy_x": _BOOL,
    "checkpoint_seconds": (lambda v: _is_real(v) and v >= 0, "a float in the range [0.0, inf]"),
    "max_seconds": (lambda v: v is None or (_is_real(v) and v > 0), "a float in the range (0.0, inf] or None"),
    "max_memory": (
        lambda v: v is None or parse_bytes(v) is not None,
        "None, an int in the range [1, inf) (bytes) or a str like '500MB' or '2GiB'",
    ),
    "batch_size": _POSITIVE_INT,
    "compute_labels": _BOOL,
    "max_no_improvement": (
        lambda v: v is None or (_is_integer(v) and v >= 0),
        "an int in the range [0, inf) or None",
    ),
    "init_size": (lambda v: v is None or (_is_integer(v) and v >= 1), "an int in the range [1, inf) or None"),
    "reassignment_ratio": (lambda v: _is_real(v) and 0 <= v < math.inf, "a float in the range [0.0, inf)"),
    "return_n_iter": _BOOL,
    "algorithm": _one_of("elkan", "lloyd"),
    "bisecting_strategy": _one_of("biggest_inertia", "largest_cluster"),
    "BisectingKMeans.init": (
        lambda v: (isinstance(v, str) and v in ("k-means++", "random")) or callable(v),
        "a str among {'k-means++', 'random'} or a callable",
    ),
    "BisectingKMeans.n_init": _POSITIVE_INT,
    "kernel": (
        lambda v: (isinstance(v, str) and v in ("rbf", "linear", "poly", "polynomial")) or callable(v),
        "a str among {'linear', 'poly', 'polynomial', 'rbf'} or a callable",
    ),
    "gamma": (lambda v: v is None or (_is_real(v) and 0 < v < math.inf), "a float in the range (0.0, inf) or None"),
    "degree": (lambda v: _is_real(v) and 0 < v < math.inf, "a float in the range (0.0, inf)"),
    "coef0": (lambda v: _is_real(v) and math.isfinite(v), "a finite float"),
    "kernel_params": (lambda v: v is None or isinstance(v, dict), "a dict or None"),
    "n_components": _POSITIVE_INT,
    "normalize": (lambda v: isinstance(v, bool | np.bool_) or v == "auto", "a str among {'auto'} or a bool"),
    "KernelKMeans.init": (
        lambda v: (isinstance(v, str) and v in ("k-means++", "random")) or callable(v),
        "a str among {'k-means++', 'random'} or a callable",
    ),
    "precision": _one_of("exact", "float32", "tf32", "bf16"),
    "n_local_trials": (lambda v: v is None or (_is_integer(v) and v >= 1), "an int in the range [1, inf) or None"),
    "metric": _one_of("euclidean", "sqeuclidean"),
    "axis": (lambda v: _is_integer(v) and v in (0, 1), "an int among {0, 1}"),
}


def check_parameters(owner: str, **params: Any) -> None:
    """Check each parameter by name; the error says which, what it must be and what it was."""
    for name, value in params.items():
        if name == "backend":
            _check_backend(owner, value)
            continue
        accepts, wanted = _RULES.get(f"{owner}.{name}") or _RULES[name]
        if not accepts(value):
            raise InvalidParameterError(f"The {name!r} parameter of {owner} must be {wanted}. Got {value!r} instead.")


def _check_backend(owner: str, value: Any) -> None:
    names = backend_names()
    if isinstance(value, str) and value in names:
        return
    near = difflib.get_close_matches(value, names, n=1) if isinstance(value, str) else []
    hint = f" Did you mean {near[0]!r}?" if near else ""
    wanted = _one_of(*names)[1]
    raise InvalidParameterError(f"The 'backend' parameter of {owner} must be {wanted}. Got {value!r} instead.{hint}")


def check_rng(random_state: Any) -> RandomState:
    """Random number generator from what scikit-learn takes, or a `numpy.random.Generator` as it is."""
    if isinstance(random_state, np.random.Generator):
        return random_state
    rng: np.random.RandomState = check_random_state(random_state)
    return rng


# ------------------------------------------------------------------------------------------------ data
def _refuse_kind(X: Any, name: str) -> Any:
    """Refuse what NumPy would turn into numbers without a word; returns X without an empty mask."""
    if isinstance(X, np.ma.MaskedArray):
        if np.ma.getmaskarray(X).any():
            place = ", ".join(str(i) for i in np.argwhere(np.ma.getmaskarray(X))[0])
            raise ValueError(
                f"{name} is a masked array with masked values (the first at [{place}]), and they would count as data. "
                f"Fill them ({name}.filled(value)) or drop their rows."
            )
        X = X.data
    for position, dtype in enumerate(_dtypes(X)):
        if dtype.kind in "mM":
            where = _column_name(X, position)
            raise ValueError(
                f"{name} holds dates or times (dtype {dtype}{where}), which have no distance that k-means could use. "
                "Convert them to numbers first, for example with astype('int64')."
            )
        if dtype.kind in "SU":
            raise ValueError(
                f"{name} holds text (dtype {dtype}): dtype='numeric' is not compatible with arrays of bytes/strings. "
                f"Convert it first, for example with {name}.astype(float)."
            )
    return X


def _dtypes(X: Any) -> list[np.dtype[Any]]:
    """NumPy dtypes of an array or of the columns of a pandas DataFrame; what else X is, NumPy will see."""
    if hasattr(X, "iloc") and hasattr(X, "dtypes"):
        listed = X.dtypes if hasattr(X.dtypes, "__iter__") else [X.dtypes]
        return [dtype for dtype in listed if isinstance(dtype, np.dtype)]
    if hasattr(X, "schema") and hasattr(X, "to_numpy"):  # a polars frame: what its rows would be as an array
        return [X[:0].to_numpy().dtype]
    dtype = getattr(X, "dtype", None)
    if dtype is None and isinstance(X, list | tuple):
        try:
            dtype = np.asarray(X).dtype
        except ValueError:  # ragged: scikit-learn's own message is the better one
            return []
    return [dtype] if isinstance(dtype, np.dtype) else []


def _column_name(X: Any, position: int) -> str:
    columns = getattr(X, "columns", None)
    return "" if columns is None else f" in column {columns[position]!r}"


def _target_dtype(X: Any) -> Any:
    """float32 for float32 and half precision, else float64."""
    kinds = _dtypes(X)
    if kinds and np.result_type(*kinds) in (np.float16, np.float32):
        return np.float32
    return [np.float64, np.float32]  # what has no NumPy dtype yet is converted once, to the first


def check_data(X: Any, *, estimator: Any = None, reset: bool = True, name: str = "X") -> Any:
    """X as a C-contiguous float32 or float64 array or a CSR matrix. Not yet checked for NaN and infinity.

    What lies on a CUDA device stays there and becomes a CuPy array; a copy only if its dtype or its order is another.
    `Streamed` rows and `Halves` are taken as they are; a source that is not streamed here is refused.
    """
    if _is_plain(X) and _takes_features_of(X, estimator, reset):
        return X
    if isinstance(X, Streamed):
        _check_features(X, estimator, reset, name)
        return X
    if isinstance(X, Halves):
        if _takes_features_of(X, estimator, reset):
            return X
        X = X.toarray()  # scikit-learn says what is wrong
    if is_source(X):
        raise TypeError(
            f"{name} is a source ({X!r}), which is read block by block, and this needs all rows at once. KMeans takes "
            f"a source in fit, predict and score; elsewhere pass arrays: for rows in {name}.blocks(): ..."
        )
    if on_device(X):
        return _check_device_data(X, estimator, reset, name)
    X = _refuse_kind(to_host(X), name)
    options = {"accept_sparse": "csr", "dtype": _target_dtype(X), "order": "C", "ensure_all_finite": False}
    if estimator is not None:
        checked: FloatArray = validate_data(estimator, X, reset=reset, **options)
    else:
        checked = check_array(X, input_name=name, **options)
    return checked


def _is_plain(X: Any) -> bool:
    """Whether scikit-learn's checks, which take longer than a fit of a hundred rows, would return X as it is."""
    return (
        type(X) is np.ndarray
        and X.dtype.char in "fd"
        and X.dtype.isnative
        and X.ndim == 2
        and X.size > 0
        and X.flags.c_contiguous
    )


def _takes_features_of(X: Any, estimator: Any, reset: bool) -> bool:
    """Whether an array without names for its features is all right for the estimator; `reset`: it is from now on."""
    if estimator is not None and reset:
        estimator.n_features_in_ = X.shape[1]
        if hasattr(estimator, "feature_names_in_"):
            del estimator.feature_names_in_
        return True
    return estimator is None or (
        X.shape[1] == getattr(estimator, "n_features_in_", None) and not hasattr(estimator, "feature_names_in_")
    )


def _check_features(X: Streamed, estimator: Any, reset: bool, name: str) -> None:
    """What `validate_data` does about the features of an array."""
    names = getattr(X.source, "feature_names", None)
    if estimator is None:
        return
    if reset:
        _takes_features_of(X, estimator, True)
        if names is not None:
            estimator.feature_names_in_ = np.asarray(names, dtype=object)
        return
    known = getattr(estimator, "feature_names_in_", None)
    if X.shape[1] != estimator.n_features_in_:
        raise ValueError(
            f"{name} has {X.shape[1]} features, but {type(estimator).__name__} is expecting {estimator.n_features_in_} "
            "features as input."
        )
    if names is not None and known is not None and list(names) != list(known):
        raise ValueError(
            f"The columns of {X.source!r} are {list(names)}, and the model was fitted to {list(known)}: choose them in "
            "this order with open_source(..., columns=...)."
        )


def _check_device_data(X: Any, estimator: Any, reset: bool, name: str) -> Any:
    X = on_card(X, name)
    if X.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got {X.ndim}D array of shape {X.shape} instead. Reshape {name} with "
            f"{name}.reshape(-1, 1) if it has a single feature or {name}.reshape(1, -1) if it is a single sample."
        )
    for count, what in zip(X.shape, ("sample", "feature"), strict=True):
        if count < 1:
            raise ValueError(f"Found array with 0 {what}(s) (shape={X.shape}) while a minimum of 1 is required.")
    if X.dtype.kind not in "fiub":
        raise ValueError(f"{name} has the dtype {X.dtype}; k-means takes real numbers: floats, integers or bool.")
    if estimator is not None:
        validate_data(estimator, X, reset=reset, skip_check_array=True)
    dtype = np.float32 if X.dtype in (np.float16, np.float32) else np.float64
    return with_layout(X, dtype)


def refuse_non_finite(X: Any, *, name: str = "X", feature_names: Any = None) -> NoReturn:
    """Raise the error that names the first NaN or infinity of `X` by row and column."""
    if sparse.issparse(X):
        coo = X.tocoo()
        bad = np.flatnonzero(~np.isfinite(coo.data))
        row, column = min(zip(coo.row[bad].tolist(), coo.col[bad].tolist(), strict=True))
        value = float(X[row, column])
    else:
        row, column = first_non_finite(X)
        value = float(X[row, column])
    place = X.where(row) if isinstance(X, Streamed) else ""
    called = "" if feature_names is None else f" ({str(feature_names[column])!r})"
    raise ValueError(non_finite_message(row, f"{column}{called}", value, name=name, place=place))


def non_finite_message(row: int, column: int | str, value: float, *, name: str = "X", place: str = "") -> str:
    """What is said of a NaN or infinity."""
    kind = "NaN" if math.isnan(value) else "infinity"
    return (
        f"Input {name} contains {kind}: row {row}, column {column} is {value}{place and f' (in {place})'}. "
        "k-means has no place for missing or infinite values: drop such rows or fill them "
        "(for example with sklearn.impute.SimpleImputer)."
    )


def first_non_finite(X: FloatArray) -> tuple[int, int]:
    """Row and column of the first NaN or infinity."""
    step = X.block_rows if isinstance(X, Streamed) else max(1, (1 << 20) // X.shape[1])
    for low in range(0, len(X), step):
        found = np.argwhere(~np.isfinite(to_host(X[low : low + step])))
        if len(found):
            return low + int(found[0, 0]), int(found[0, 1])
    raise AssertionError("called for data without a NaN or infinity")


def check_sample_weight(sample_weight: Any, n_samples: int) -> Float64Array | None:
    """Weights as float64, finite, not negative, not all zero; None stays None."""
    if sample_weight is None:
        return None
    if isinstance(sample_weight, numbers.Number):
        weights = np.full(n_samples, sample_weight, dtype=np.float64)
    elif type(sample_weight) is np.ndarray and sample_weight.dtype.char == "d" and sample_weight.dtype.isnative:
        weights = sample_weight  # the checks below take a tenth of the time of scikit-learn's
    else:
        sample_weight = _refuse_kind(to_host(sample_weight), "sample_weight")
        weights = check_array(
            sample_weight, ensure_2d=False, dtype=np.float64, ensure_all_finite=False, input_name="sample_weight"
        )
    if weights.ndim != 1:
        raise ValueError(f"Sample weights must be 1D array or scalar, got {weights.ndim}D array.")
    if weights.shape != (n_samples,):
        raise ValueError(f"sample_weight.shape == {weights.shape}, expected {(n_samples,)}!")
    wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(wrong):
        i = int(wrong[0])
        kind = "Negative values" if weights[i] < 0 and np.isfinite(weights[i]) else "NaN or infinity"
        raise ValueError(
            f"{kind} in sample_weight: row {i} is {weights[i]}. Weights must be finite and at least 0; "
            "give a row that should not count the weight 0."
        )
    if not weights.any():
        raise ValueError("All sample weights are zero, so no row counts: give at least one row a positive weight.")
    return np.ascontiguousarray(weights)


def check_init_centers(centers: Any, X: FloatArray, n_clusters: int | None, name: str = "init") -> FloatArray:
    """Initial centers as a new C-contiguous array of the dtype of X and of shape (n_clusters, n_features).

    `n_clusters` None: as many as there are.
    """
    checked: FloatArray
    if _is_plain(centers):
        checked = centers.astype(X.dtype)
    else:
        centers = _refuse_kind(to_host(centers), name)
        checked = check_array(centers, dtype=X.dtype, copy=True, order="C", ensure_all_finite=False, input_name=name)
    if not np.isfinite(checked).all():
        refuse_non_finite(checked, name=name)
    if n_clusters is not None and checked.shape[0] != n_clusters:
        raise ValueError(
            f"The shape of the initial centers {checked.shape} does not match the number of clusters {n_clusters}."
        )
    if checked.shape[1] != X.shape[1]:
        raise ValueError(
            f"The shape of the initial centers {checked.shape} does not match the number of features of the data "
            f"{X.shape[1]}."
        )
    return checked


def check_enough_samples(n_samples: int, n_clusters: int) -> None:
    """Refuse more clusters than rows."""
    if n_samples < n_clusters:
        raise ValueError(f"n_samples={n_samples} should be >= n_clusters={n_clusters}.")
