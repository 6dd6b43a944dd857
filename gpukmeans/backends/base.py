"""The waist: what a device must be able to do, and nothing else.

Everything of size O(n_samples) lives behind it, in a :class:`Rows` handle; above it are scalars, handles and arrays of
size O(n_clusters). A backend is one class; adding one changes a line in the registry and a line in the test fixture.
What stands here as code is for backends whose memory is the host's; a device overrides it. The rules for a verb:

1. It enters the waist only if a device does it in its own way; what is the same everywhere is in `exact`, `lloyd`
   or `seeding`.
2. Its result is exact: the same bits for every backend, block and thread. `tests/naive.py` says which bits.
3. What it returns for a block adds: ``partial + partial`` is the partial of both blocks.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .. import exact
from ..arrays import to_host
from ..exact import Encoding, FixedPoint, Float64Array, FloatArray, Int64Array, Moments
from ..halves import Halves

SPARSE_BLOCK_VALUES = 1 << 20
"""Values of a block of sparse rows once it is expanded: 8 MB in float64."""

SUM_ROWS = 512
"""Rows of a tile of `Backend.distance_sums`: among the rows that it is asked for, a distance is taken once for both."""

METRIC_VALUES = 1 << 20
"""Distances at a time, where they are kept: 8 MB."""


@dataclass
class Rows:
    """The rows of one block on the device, with what the verbs keep for each of them.

    Attributes
    ----------
    data : array of float32 or float64, or a scipy CSR matrix, or a block that is read, of shape (n_samples, n_features)
    start : int
        Index of the first row in the whole data set.
    sample_weight : ndarray of float64, shape (n_samples,), or None
    labels : array of int32, shape (n_samples,)
        Of the last step; -1 before the first. This and the next two are on the device.
    sqdist : ndarray of float64, shape (n_samples,), or None
        D to the own center (not weighted), kept by `own_sqdist`.
    closest : ndarray in the dtype of X, shape (n_samples,), or None
        Squared distance to the nearest center chosen so far, kept by the seeding verbs.
    seeding : object
        What the backend keeps beside `closest` while centers are chosen.
    running : object
        What the backend keeps between two steps (the block's integer sums).
    """

    data: Any
    start: int
    sample_weight: Float64Array | None
    labels: NDArray[np.int32]
    sqdist: Float64Array | None = None
    closest: FloatArray | None = None
    seeding: Any = None
    running: Any = None

    @property
    def n_samples(self) -> int:
        """Number of rows in this block."""
        return int(self.data.shape[0])

    def dense(self) -> FloatArray:
        """Rows as a C-contiguous array; a sparse or streamed block is expanded for as long as it is worked on."""
        if isinstance(self.data, np.ndarray):
            return self.data
        dense: FloatArray = self.data.toarray(order="C")
        return dense

    def take(self, indices: Sequence[int] | NDArray[np.intp]) -> FloatArray:
        """Rows of this block by index, on the host, shape (n_indices, n_features)."""
        chosen = np.asarray(indices, dtype=np.intp)
        if isinstance(self.data, np.ndarray):
            return np.take(self.data, chosen, axis=0)  # a third of the time that it takes to index with them
        taken = self.data[chosen]
        rows: FloatArray = taken if isinstance(taken, np.ndarray) else taken.toarray()
        return rows

    def weighted(self, values: FloatArray) -> Float64Array:
        """``w values`` on the host, and 0 for weight 0 also where the value is infinite."""
        y = values.astype(np.float64)
        w = self.sample_weight
        return y if w is None else np.multiply(w, y, out=np.zeros_like(y), where=w > 0)


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
        Rows whose label changed in this step. A device that counts for itself leaves 0 in both and tells in `Outcome`.
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


class State(enum.IntEnum):
    """Where the loop is after an iteration; the values are those of ``recenter.cu``."""

    GO_ON = 0
    STRICT = 1
    """No label changed."""
    WITHIN_TOL = 2
    """The centers moved by no more than the threshold."""
    EMPTY = 3
    """A cluster has no weight: the new centers mean nothing before it is filled."""


class Outcome(NamedTuple):
    """What an iteration gave; `changed` says whether any center is another one than before."""

    state: State
    shift_sq: float
    n_moved: int
    n_rechecked: int
    n_empty: int
    changed: bool

    def read(self) -> Outcome:
        """Itself. A device gives an object whose `read` waits for the numbers."""
        return self


class Far(NamedTuple):
    """A row far from its own center: D, index in its block, label."""

    sqdist: float
    row: int
    label: int


class Started(NamedTuple):
    """An iteration whose outcome has not been read: the centers before and after it, and what reads the outcome."""

    partial: Any
    before: Any
    after: Any
    pending: Any


class Small(NamedTuple):
    """A problem that one thread fits, as one of many; within 2**-40 .. 2**40, so that nothing is scaled.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features)
    sample_weight : ndarray of float64, shape (n_samples,), or None
    n_clusters, n_init : int
    n_trials : int
        Trials a step of k-means++; 0 where the starts are given.
    starts : ndarray of float64
        Draws of all starts, each of ``1 + (n_clusters - 1) n_trials``, or the starts themselves; flat.
    """

    X: FloatArray
    sample_weight: Float64Array | None
    n_clusters: int
    n_init: int
    n_trials: int
    starts: Float64Array


class SmallFit(NamedTuple):
    """What the fit of such a problem gives: as `lloyd.Result`, and how many clusters have a row."""

    labels: NDArray[np.int32]
    centers: Float64Array
    inertia: float
    n_iter: int
    n_used: int


class Backend(ABC):
    """One device. Stateless: what belongs to a data set is in its `Rows`, what belongs to a run in its centers.

    `centers` are float64 arrays of shape (n_clusters, n_features), C-contiguous, that hold values of the dtype of X,
    or what `load` made of them. Distances are squared unless a name says otherwise.

    Parameters
    ----------
    precision : {"exact", "float32", "tf32", "bf16"}
        All but "exact": the labels of the fast pass as they are, without certificate and recheck. A backend that has no
        pass in the type named makes it in float32.
    """

    name: ClassVar[str]
    most_small: ClassVar[int] = 0
    """Rows times features times clusters of the largest problem for `fit_small`; 0: there is no kernel for it."""
    keeps_halves: ClassVar[bool] = False
    """Whether rows of 16 bits are read as they are stored."""

    def __init__(self, precision: str = "exact") -> None:
        self.precision = precision

    # ---- data
    def accept(self, X: Any) -> Any:
        """X where this backend can work on it: a copy on the host if it lies on a device, or has 16 bits."""
        return X.toarray() if isinstance(X, Halves) else to_host(X)

    def blocks(self, X: Any, sample_weight: Float64Array | None = None) -> list[Rows]:
        """Handles for all rows: one for an array; else blocks, each expanded or read while it is worked on."""
        n_samples, n_features = X.shape
        size = getattr(X, "block_rows", n_samples)  # of rows that are read when a verb wants them: see `streaming`
        if sparse.issparse(X):
            size = max(1, SPARSE_BLOCK_VALUES // n_features)
        return [
            self.rows(X[low : low + size], None if sample_weight is None else sample_weight[low : low + size], low)
            for low in range(0, n_samples, size)
        ]

    def rows(self, data: Any, sample_weight: Float64Array | None = None, start: int = 0) -> Rows:
        """Handle for a block of rows; no copy when they are on the device already."""
        return Rows(data, start, sample_weight, np.full(data.shape[0], -1, dtype=np.int32))

    def forget(self, rows: Rows) -> None:
        """Begin another run on the same rows: no labels, no sums."""
        if rows.n_samples and rows.labels[0] != -1:  # else they are as new; the old ones may be a result by now
            rows.labels = np.full(rows.n_samples, -1, dtype=np.int32)
        rows.running = None

    def scaled(self, X: Any, exponent: int) -> Any:
        """X times 2**exponent in its own dtype (16 bits: in float32): a copy, and exact; X itself for exponent 0.

        A value that overflows becomes infinite. That happens only for a row that is so far from all centers that its
        distances are equal, and infinity says the same.
        """
        if exponent == 0:
            return X
        if hasattr(X, "scaled"):
            return X.scaled(exponent)
        with np.errstate(over="ignore", under="ignore"):
            if sparse.issparse(X):
                scaled = X.copy()
                scaled.data = np.ldexp(scaled.data, exponent)
                return scaled
            return np.ldexp(X.toarray() if isinstance(X, Halves) else X, exponent)

    def labels(self, blocks: Sequence[Rows]) -> Any:
        """Labels of all blocks, int32, shape (n_samples,): on the device if the data was passed there, else NumPy."""
        return blocks[0].labels if len(blocks) == 1 else np.concatenate([rows.labels for rows in blocks])

    def n_used(self, labels: Any, blocks: Sequence[Rows], n_clusters: int) -> int:
        """How many clusters have a row, for labels of any run on these blocks."""
        used = np.zeros(n_clusters, dtype=bool)
        for low in range(0, len(labels), 1 << 14):  # a few thousand rows show all clusters, as a rule
            used[labels[low : low + (1 << 14)]] = True
            if used.all():
                break
        return int(np.count_nonzero(used))

    def sqdist(self, blocks: Sequence[Rows]) -> Any:
        """Kept distances of all blocks, float64, shape (n_samples,): where `labels` are."""
        return np.concatenate([rows.sqdist for rows in blocks if rows.sqdist is not None])

    @abstractmethod
    def summary(self, rows: Rows) -> Summary:
        """Range of each feature, and whether all values are finite."""

    def is_finite(self, rows: Rows) -> bool:
        """Whether no value is NaN or infinite."""
        return self.summary(rows).finite

    @abstractmethod
    def weighted_peaks(self, rows: Rows) -> Float64Array:
        """Largest ``|w x|`` of each feature, for rows with weights."""

    @abstractmethod
    def moments(self, rows: Rows, codes: Moments) -> tuple[Int64Array, Int64Array]:
        """Integer sums of ``q`` and ``q q`` for the variance, each of shape (n_features,)."""

    def n_shares(self, X: Any) -> int:
        """How many cards these rows are spread over, if any."""
        return 1

    def for_few(self) -> Backend:
        """What works on some rows that lie on the host: itself, unless all it has lies elsewhere."""
        return self

    # ---- the loop
    def lag(self, blocks: Sequence[Rows]) -> int:
        """How many iterations may be started before the outcome of an earlier one is read."""
        return 0

    def load(self, centers: Float64Array, blocks: Sequence[Rows]) -> Any:
        """Centers for a run of the loop over these blocks."""
        return centers

    def unload(self, centers: Any) -> Float64Array:
        """Centers of a run as a float64 array."""
        values: Float64Array = centers
        return values

    @abstractmethod
    def assign(self, rows: Rows, centers: Any) -> int:
        """Renew the labels; returns how many rows were rechecked. Sums are left behind."""

    @abstractmethod
    def step(self, rows: Rows, centers: Any, encoding: Encoding) -> Partial:
        """Renew the labels and return the sums and weights of the clusters in this block."""

    def sums(self, partial: Any) -> Partial:
        """What `step` returned, on the host."""
        on_host: Partial = partial
        return on_host

    def recenter(
        self, partial: Partial, centers: Any, encoding: Encoding, threshold: float, *, relocated: bool = False
    ) -> tuple[Any, Any]:
        """New centers of the sums of all rows, and something whose ``read()`` gives the `Outcome`.

        If a cluster is empty the state is EMPTY and the centers mean nothing, unless the empty ones have been
        `relocated`: what is still empty then goes to the heaviest cluster's center.
        """
        weights = exact.cluster_weights(encoding, partial.weights, partial.weights_low)
        n_empty = int(np.count_nonzero(weights == 0))
        if n_empty and not relocated:
            return centers, Outcome(State.EMPTY, 0.0, partial.n_moved, partial.n_rechecked, n_empty, False)
        dtype = np.dtype(np.float64 if encoding.two_limbs else np.float32)
        after = exact.new_centers(encoding, partial.sums, partial.sums_low, weights, dtype)
        shift_sq = exact.shift_sq(after, centers)
        strict = partial.n_moved == 0
        state = State.STRICT if strict else State.WITHIN_TOL if shift_sq <= threshold else State.GO_ON
        changed = not np.array_equal(after, centers)
        return after, Outcome(state, shift_sq, partial.n_moved, partial.n_rechecked, n_empty, changed)

    def iterate(
        self, blocks: Sequence[Rows], centers: Any, encoding: Encoding, threshold: float, most: int
    ) -> list[Started]:
        """Start one iteration, or as many of at most `most` as a device likes to start at once."""
        partial = None
        for rows in blocks:
            of_block = self.step(rows, centers, encoding)
            partial = of_block if partial is None else partial + of_block
            if not getattr(rows.data, "keeps_sums", True):
                rows.running = None
        assert partial is not None
        return [Started(partial, centers, *self.recenter(partial, centers, encoding, threshold))]

    # ---- empty clusters
    def empty_clusters(self, partial: Partial, encoding: Encoding) -> list[int]:
        """Clusters without weight."""
        weights = exact.cluster_weights(encoding, partial.weights, partial.weights_low)
        empty: list[int] = np.flatnonzero(weights == 0).tolist()
        return empty

    def farthest(self, rows: Rows, m: int) -> list[Far]:
        """The (at most) `m` rows of positive weight with the largest kept distance; ties to the lowest index."""
        assert rows.sqdist is not None
        sq = rows.sqdist if rows.sample_weight is None else np.where(rows.sample_weight > 0, rows.sqdist, -1.0)
        m = min(m, len(sq))
        border = np.partition(sq, len(sq) - m)[len(sq) - m]
        found = np.flatnonzero(sq >= border)
        found = found[np.lexsort((found, -sq[found]))][:m]
        return [Far(float(sq[i]), int(i), int(rows.labels[i])) for i in found if sq[i] >= 0]

    def relocate(
        self,
        partial: Partial,
        X: FloatArray,
        sample_weight: Float64Array | None,
        donors: Sequence[int],
        clusters: Sequence[int],
        encoding: Encoding,
    ) -> Partial:
        """Sums in which each row of `X` (with its weight) has left its donor for its cluster; labels stay."""
        y = X.astype(np.float64)
        limbs: list[tuple[Int64Array, Any]] = []
        if sample_weight is None or partial.weights_low is None:
            limbs.append((partial.weights, np.ones(len(y), dtype=np.int64)))
        else:
            y *= sample_weight[:, None]
            limbs.append((partial.weights, encoding.weights.high(sample_weight)))
            limbs.append((partial.weights_low, encoding.weights.low(sample_weight)))
        limbs.append((partial.sums, encoding.features.high(y)))
        if partial.sums_low is not None:
            limbs.append((partial.sums_low, encoding.features.low(y)))
        for total, limb in limbs:
            np.subtract.at(total, donors, limb)
            np.add.at(total, clusters, limb)
        return partial

    # ---- after the loop
    @abstractmethod
    def own_sqdist(self, rows: Rows, centers: Any) -> float:
        """Keep D of each row to its own center in ``rows.sqdist``; returns the largest ``w D``."""

    def inertia(self, rows: Rows, code: FixedPoint) -> tuple[int, int]:
        """Limbs of the sum of ``w D`` over the kept distances."""
        assert rows.sqdist is not None
        y = rows.weighted(rows.sqdist)
        return int(code.high(y).sum()), int(code.low(y).sum())

    def total_inertia(self, blocks: Sequence[Rows], centers: Any) -> float:
        """Sum of ``w D`` to the own center, for the labels as they are; infinite if one of them is."""
        n_samples = sum(rows.n_samples for rows in blocks)
        peak = max(self.own_sqdist(rows, centers) for rows in blocks)
        if peak == np.inf:
            return peak
        code = FixedPoint.for_peaks(peak, n_samples)
        high = low = 0
        for rows in blocks:
            a, b = self.inertia(rows, code)
            high, low = high + a, low + b
        return exact.inertia(code, high, low)

    @abstractmethod
    def transform(self, rows: Rows, centers: Float64Array) -> Any:
        """Distances (not squared) to every center, (n_samples, n_clusters), in the dtype of X, where `labels` are."""

    def fit_small(self, problems: Sequence[Small], tol: float, max_iter: int) -> list[SmallFit]:
        """Fit many small problems at once; only on a device that says what is `most_small`."""
        raise NotImplementedError

    # ---- metrics
    def distance_sums(
        self, others: Float64Array, low: int, high: int, ends: Int64Array, code: FixedPoint
    ) -> Int64Array:
        """Sums of the codes of the distances (not squared) of some rows to the rows of each cluster.

        Parameters
        ----------
        others : ndarray of float64, shape (n_others, n_features)
            On the host, sorted by cluster.
        low, high : int
            Which of them the sums are of; `low` is a multiple of SUM_ROWS, and so is `high` unless it is n_others.
        ends : ndarray of int64, shape (n_clusters,)
            Where each cluster ends.
        code : FixedPoint

        Returns
        -------
        sums : ndarray of int64, shape (high - low, n_clusters)
        """
        begins = np.concatenate([[0], ends[:-1]])
        result = np.empty((high - low, len(ends)), dtype=np.int64)
        size = max(1, METRIC_VALUES // len(others))
        for first in range(low, high, size):
            rows = others[first : min(first + size, high), None]
            codes = code.high(np.sqrt(exact.sq_distances(rows, others[None])))
            result[first - low : first - low + len(rows)] = np.add.reduceat(codes, begins, axis=1)
        return result

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
