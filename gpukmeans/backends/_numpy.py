"""The plain backend: NumPy and its BLAS, on any machine. The others must give its bits, faster."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .. import exact
from ..exact import Encoding, FixedPoint, Float64Array, FloatArray, Int64Array, Moments
from .base import Backend, Partial, Rows, Summary

BLOCK_VALUES = 1 << 18  # float64 values of temporaries: 2 MB, so they stay in the cache
FEW_VALUES = 1 << 16


def why_unavailable() -> str | None:
    """None: NumPy is always there."""
    return None


class NumpyBackend(Backend):
    """NumPy: float64 scores by matrix product, certified; sums of integers, sorted by label."""

    name = "numpy"

    @staticmethod
    def _ranges(n_samples: int, values_per_row: int) -> Iterator[slice]:
        size = max(1, BLOCK_VALUES // max(1, values_per_row))
        for low in range(0, n_samples, size):
            yield slice(low, min(low + size, n_samples))

    # ---- before the loop
    def summary(self, rows: Rows) -> Summary:
        X = rows.dense()
        low, high = X.min(axis=0).astype(np.float64), X.max(axis=0).astype(np.float64)
        return Summary(low, high, bool(np.isfinite(low).all() and np.isfinite(high).all()))

    def weighted_peaks(self, rows: Rows) -> Float64Array:
        X = rows.dense()
        assert rows.sample_weight is not None
        peaks = np.zeros(X.shape[1])
        for part in self._ranges(*X.shape):
            y = np.abs(rows.sample_weight[part, None] * X[part].astype(np.float64))
            np.maximum(peaks, y.max(axis=0), out=peaks)
        return peaks

    def moments(self, rows: Rows, codes: Moments) -> tuple[Int64Array, Int64Array]:
        X = rows.dense()
        first, second = np.zeros((2, X.shape[1]), dtype=np.int64)
        for part in self._ranges(*X.shape):
            q = X[part].astype(np.float64) - codes.pivot
            first += codes.first.high(q).sum(axis=0)
            second += codes.second.high(q * q).sum(axis=0)
        return first, second

    # ---- the loop
    def assign(self, rows: Rows, centers: Float64Array) -> int:
        return self._assign(rows, centers)[1]

    def _assign(self, rows: Rows, centers: Float64Array) -> tuple[int, int]:
        X = rows.dense()
        n_clusters, n_features = centers.shape
        with np.errstate(over="ignore", invalid="ignore"):
            shift = centers.mean(axis=0)  # any shift gives the same labels; this one keeps the scores small
            moved_centers = centers - shift
            norms = (moved_centers * moved_centers).sum(axis=1)
            half = norms / 2
            # of equal centers the first takes the row anyway, and a row between two of them is never certified
            _, first = np.unique(centers, axis=0, return_index=True)
            half[np.setdiff1d(np.arange(n_clusters), first)] = np.inf
            norm = float(np.sqrt(norms.max())) * (1 + (n_features + 8) * exact.U64)
            bound = exact.score_bound(n_features, norm, unit=exact.U64)
        n_moved = n_rechecked = 0
        for part in self._ranges(len(X), n_clusters + n_features):
            with np.errstate(over="ignore", invalid="ignore"):
                x = X[part].astype(np.float64) - shift
                score = half - x @ moved_centers.T
                labels = score.argmin(axis=1)
                best = np.take_along_axis(score, labels[:, None], axis=1)[:, 0]
                np.put_along_axis(score, labels[:, None], np.inf, axis=1)
                x_norm = np.sqrt((x * x).sum(axis=1)) * (1 + (n_features + 8) * exact.U64) + 2.0**-500
                wide = x_norm * (bound.linear + bound.quadratic * x_norm) + bound.const
                # as a difference: an infinity or a NaN is never certified
                is_open = ~(score.min(axis=1) - best > wide)
            if self.precision == "exact" and is_open.any():
                labels[is_open] = exact.sq_distances(X[part][is_open][:, None], centers[None]).argmin(axis=1)
                n_rechecked += int(is_open.sum())
            n_moved += int((rows.labels[part] != labels).sum())
            rows.labels[part] = labels
        return n_moved, n_rechecked

    def step(self, rows: Rows, centers: Float64Array, encoding: Encoding) -> Partial:
        n_moved, n_rechecked = self._assign(rows, centers)
        X, w = rows.dense(), rows.sample_weight
        sums = np.zeros(centers.shape, dtype=np.int64)
        sums_low = np.zeros(centers.shape, dtype=np.int64) if encoding.two_limbs else None
        weights = np.zeros(len(centers), dtype=np.int64)
        weights_low = None if w is None else np.zeros(len(centers), dtype=np.int64)
        for part in self._ranges(*X.shape):
            order = np.argsort(rows.labels[part], kind="stable")
            labels, starts = np.unique(rows.labels[part][order], return_index=True)

            def add(total: Int64Array, values: Int64Array) -> None:
                total[labels] += np.add.reduceat(values[order], starts, axis=0)  # noqa: B023

            y = X[part].astype(np.float64)
            if w is None or weights_low is None:
                add(weights, np.ones(len(order), dtype=np.int64))
            else:
                y *= w[part, None]
                add(weights, encoding.weights.high(w[part]))
                add(weights_low, encoding.weights.low(w[part]))
            add(sums, encoding.features.high(y))
            if sums_low is not None:
                add(sums_low, encoding.features.low(y))
        return Partial(sums, sums_low, weights, weights_low, n_moved, n_rechecked)

    # ---- after the loop
    def own_sqdist(self, rows: Rows, centers: Float64Array) -> float:
        X = rows.dense()
        if rows.sqdist is None:
            rows.sqdist = np.empty(len(X))
        for part in self._ranges(*X.shape):
            rows.sqdist[part] = exact.sq_distances(X[part], centers[rows.labels[part]])
        return float(rows.weighted(rows.sqdist).max())

    def transform(self, rows: Rows, centers: Float64Array) -> FloatArray:
        data = rows.dense()
        out = np.empty((len(data), len(centers)), dtype=data.dtype)
        for part in self._ranges(len(data), len(centers)):
            out[part] = np.sqrt(exact.sq_distances(data[part][:, None], centers[None]))
        return out

    # ---- seeding
    @staticmethod
    def _seed_sqdist(X: FloatArray, center: FloatArray) -> FloatArray:
        """Squared distance in the dtype of X, features in order, each operation rounded."""
        if len(X) <= X.shape[1] and X.size <= FEW_VALUES:  # a loop over the features would be long and each step short
            t = X - center
            return np.add.accumulate(t * t, axis=1)[:, -1].copy()  # in order, too; a view would keep all of it
        total = np.zeros(len(X), dtype=X.dtype)
        for j in range(X.shape[1]):
            t = X[:, j] - center[j]
            total += t * t
        return total

    def seed_update(self, rows: Rows, center: FloatArray, first: bool) -> float:
        sq = self._seed_sqdist(rows.dense(), center)
        rows.closest = sq if first or rows.closest is None else np.minimum(rows.closest, sq)
        return float(rows.weighted(rows.closest).max())

    def _potentials(self, rows: Rows, code: FixedPoint) -> Int64Array:
        assert rows.closest is not None
        return code.high(rows.weighted(rows.closest))

    def seed_total(self, rows: Rows, code: FixedPoint) -> int:
        return int(self._potentials(rows, code).sum())

    def seed_find(self, rows: Rows, code: FixedPoint, values: list[int]) -> list[int]:
        prefix = np.cumsum(self._potentials(rows, code))
        found: list[int] = np.searchsorted(prefix, np.array(values, dtype=np.int64), side="right").tolist()
        return found

    def seed_trials(self, rows: Rows, candidates: FloatArray, code: FixedPoint) -> list[int]:
        X = rows.dense()
        assert rows.closest is not None
        totals = []
        for candidate in candidates:
            nearest = np.minimum(rows.closest, self._seed_sqdist(X, candidate))
            totals.append(int(code.high(rows.weighted(nearest)).sum()))
        return totals
