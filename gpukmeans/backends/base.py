"""The waist: what a device must be able to do, and nothing else.

Everything of size O(n_samples) lives behind it, in a :class:`Rows` handle; above it are scalars, handles and arrays of
size O(n_clusters). A backend is one file with one class; adding one changes a line in the registry and a line in the
test fixture. The rules for a verb:

1. It enters the waist only if a device does it in its own way; what is the same everywhere is in `exact`, `lloyd`
   or `seeding`.
2. Its result is exact: the same bits for every backend, block and thread. `tests/naive.py` says which bits.
3. What it returns for a block adds: ``partial + partial`` is the partial of both blocks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..exact import Encoding, FixedPoint, Float64Array, FloatArray, Int64Array, Moments


@dataclass
class Rows:
    """The rows of one block on the device, with what the verbs keep for each of them.

    Attributes
    ----------
    data : array of float32 or float64, or a scipy CSR matrix, of shape (n_samples, n_features)
    start : int
        Index of the first row in the whole data set.
    sample_weight : ndarray of float64, shape (n_samples,), or None
    labels : ndarray of int32, shape (n_samples,)
        Of the last step; -1 before the first.
    sqdist : ndarray of float64, shape (n_samples,), or None
        D to the own center (not weighted), kept by `own_sqdist`.
    closest : ndarray in the dtype of X, shape (n_samples,), or None
        Squared distance to the nearest center chosen so far, kept by the seeding verbs.
    running : object
        What the backend keeps between two steps (the block's integer sums).
    """

    data: Any
    start: int
    sample_weight: Float64Array | None
    labels: NDArray[np.int32]
    sqdist: Float64Array | None = None
    closest: FloatArray | None = None
    running: Any = None

    @property
    def n_samples(self) -> int:
        """Number of rows in this block."""
        return int(self.data.shape[0])

    def dense(self) -> FloatArray:
        """Rows as a C-contiguous array; a sparse block is expanded for as long as the caller holds it."""
        if isinstance(self.data, np.ndarray):
            return self.data
        dense: FloatArray = self.data.toarray(order="C")
        return dense

    def row(self, i: int) -> FloatArray:
        """Row `i` of this block, on the host, shape (n_features,)."""
        row = self.data[i : i + 1]
        dense: FloatArray = row if isinstance(row, np.ndarray) else row.toarray()
        first: FloatArray = dense[0]
        return first


@dataclass(frozen=True)
class Summary:
    """What a fit must know of the data before it starts; blocks combine with ``|``.

    Attributes
    ----------
    low, high : ndarray of float64, shape (n_features,)
        Smallest and largest value of each feature.
    finite : bool
        False if any value is NaN or infinite (the other fields mean nothing then).
    """

    low: Float64Array
    high: Float64Array
    finite: bool

    def __or__(self, other: Summary) -> Summary:
        return Summary(np.minimum(self.low, other.low), np.maximum(self.high, other.high), self.finite and other.finite)

    @property
    def peaks(self) -> Float64Array:
        """Largest absolute value of each feature."""
        return np.maximum(np.abs(self.low), np.abs(self.high))


@dataclass(frozen=True)
class Partial:
    """Integer sums of one block, or of many: they add exactly, in any order.

    Attributes
    ----------
    sums, sums_low : ndarray of int64, shape (n_clusters, n_features)
        Limbs of the weighted sums of rows; `sums_low` is None for float32 data.
    weights, weights_low : ndarray of int64, shape (n_clusters,)
        Limbs of the weights; `weights_low` is None without weights.
    n_moved : int
        Rows whose label changed in this step.
    n_rechecked : int
        Rows whose label the fast pass could not certify.
    """

    sums: Int64Array
    sums_low: Int64Array | None
    weights: Int64Array
    weights_low: Int64Array | None
    n_moved: int
    n_rechecked: int

    def __add__(self, other: Partial) -> Partial:
        def add(a: Int64Array | None, b: Int64Array | None) -> Int64Array | None:
            return None if a is None or b is None else a + b

        return Partial(
            self.sums + other.sums,
            add(self.sums_low, other.sums_low),
            self.weights + other.weights,
            add(self.weights_low, other.weights_low),
            self.n_moved + other.n_moved,
            self.n_rechecked + other.n_rechecked,
        )


class Backend(ABC):
    """One device. Stateless: what belongs to a data set is in its `Rows`.

    `centers` are always float64 arrays of shape (n_clusters, n_features), C-contiguous, that hold values of the dtype
    of X. Distances are squared unless a name says otherwise.

    Parameters
    ----------
    precision : {"exact", "float32"}
        "float32": the labels of the fast pass as they are, without certificate and recheck.
    """

    name: ClassVar[str]

    def __init__(self, precision: str = "exact") -> None:
        self.precision = precision

    @classmethod
    @abstractmethod
    def why_unavailable(cls) -> str | None:
        """None if the backend works here, else one sentence that a user can act on."""

    def rows(self, data: Any, sample_weight: Float64Array | None = None, start: int = 0) -> Rows:
        """Handle for a block of rows; no copy when they are on the device already."""
        return Rows(data, start, sample_weight, np.full(data.shape[0], -1, dtype=np.int32))

    @abstractmethod
    def summary(self, rows: Rows) -> Summary:
        """Range of each feature, and whether all values are finite."""

    @abstractmethod
    def weighted_peaks(self, rows: Rows) -> Float64Array:
        """Largest ``|w x|`` of each feature, for rows with weights."""

    @abstractmethod
    def moments(self, rows: Rows, codes: Moments) -> tuple[Int64Array, Int64Array]:
        """Integer sums of ``q`` and ``q q`` for the variance, each of shape (n_features,)."""

    @abstractmethod
    def assign(self, rows: Rows, centers: Float64Array) -> tuple[int, int]:
        """Renew the labels; returns how many rows moved and how many were rechecked. Sums are left behind."""

    @abstractmethod
    def step(self, rows: Rows, centers: Float64Array, encoding: Encoding) -> Partial:
        """Renew the labels and return the sums and weights of the clusters in this block."""

    @abstractmethod
    def own_sqdist(self, rows: Rows, centers: Float64Array) -> float:
        """Keep D of each row to its own center in ``rows.sqdist``; returns the largest ``w D``."""

    @abstractmethod
    def inertia(self, rows: Rows, code: FixedPoint) -> tuple[int, int]:
        """Limbs of the sum of ``w D`` over the kept distances."""

    @abstractmethod
    def transform(self, data: FloatArray, centers: Float64Array) -> FloatArray:
        """Distances (not squared) to every center, shape (n_samples, n_clusters), in the dtype of `data`."""

    # ---- seeding: k-means++ over one block
    @abstractmethod
    def seed_update(self, rows: Rows, center: FloatArray, first: bool) -> float:
        """Renew ``rows.closest`` for a new center (`first`: start anew); returns the largest ``w closest``.

        Distances in the dtype of X, differences squared and added in feature order, each operation rounded.
        """

    @abstractmethod
    def seed_total(self, rows: Rows, code: FixedPoint) -> int:
        """Sum of the potentials ``rint(w closest 2**e)``."""

    @abstractmethod
    def seed_find(self, rows: Rows, code: FixedPoint, values: list[int]) -> list[int]:
        """For each value the first row of this block whose prefix sum of potentials exceeds it (index in the block)."""

    @abstractmethod
    def seed_trials(self, rows: Rows, candidates: FloatArray, code: FixedPoint) -> list[int]:
        """Potential of this block after adding each candidate, shape (n_candidates, n_features), alone."""
