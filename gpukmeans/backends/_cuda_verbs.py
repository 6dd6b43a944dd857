"""The verbs on an NVIDIA card: what is launched, in which order, and what comes back. They know no library."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..exact import Encoding, FixedPoint, Float64Array, FloatArray, Int64Array, Moments, cluster_weights
from ..halves import Halves
from . import _launch
from ._cuda_centers import TALLY_WORDS, Centers, Sums
from ._cuda_graph import Batch
from ._cuda_labels import LabelVerbs
from ._cuda_rows import CudaRows, on_card
from .base import Far, Partial, Rows, Started, Summary

RESULT_BYTES = 256 << 20
"""Bytes of a block of distances on the card, on their way to the host."""
FAR = np.dtype([("own", "f8"), ("row", "i8")], align=True)
"""`Far` of farthest.cu."""


class CudaBackend(LabelVerbs):
    """Certified labels, moved rows, integer sums; the loop's decisions are made on the card."""

    def blocks(self, X: Any, sample_weight: Float64Array | None = None) -> list[Rows]:
        """One handle: it divides the rows itself."""
        return [self.rows(X, sample_weight)]

    def rows(self, data: Any, sample_weight: Float64Array | None = None, start: int = 0) -> Rows:
        return CudaRows(data, start, sample_weight, self.device)

    @on_card
    def forget(self, rows: CudaRows) -> None:
        rows.running = rows.batch = rows.bounds = None
        rows.labels = labels = self.device.empty(rows.n_samples, np.int32)  # those of the run before are its result
        self.device.clear(labels, 0xFF)

    def scaled(self, X: Any, exponent: int) -> Any:
        stored, halves = (X.words, X.kind) if isinstance(X, Halves) else (X, "")
        if not self.device.holds(stored) or exponent == 0:
            return super().scaled(X, exponent)
        with self.device:
            out, flat = self.device.empty(X.shape, X.dtype), (stored.size,)
            half = exponent // 2 if abs(exponent) > 1000 else 0  # 2^1034 is no float64
            factors = np.ldexp(1.0, exponent - half), np.ldexp(1.0, half)
            kernel = f"scale_values<{_launch.ROW_TYPES[halves or X.dtype.str[1:]]}>"
            launch = _launch.value_pass(kernel, stored.size, self.device.card)
            self.device.launch(launch, stored.reshape(flat), out.reshape(flat), *factors, np.int64(stored.size))
            return out

    def labels(self, blocks: Sequence[Rows]) -> Any:
        return self._in_kind(blocks[0], blocks[0].labels)

    def sqdist(self, blocks: Sequence[Rows]) -> Any:
        return self._in_kind(blocks[0], blocks[0].sqdist)

    def _in_kind(self, rows: Any, values: Any) -> Any:
        with self.device:
            return values if rows.in_place else self.device.get(values)

    def n_used(self, labels: Any, blocks: Sequence[Rows], n_clusters: int) -> int:
        if not self.device.holds(labels):
            return super().n_used(labels, blocks, n_clusters)
        n_used: int = self._n_used(blocks[0], labels)
        return n_used

    @on_card
    def _n_used(self, rows: CudaRows, labels: Any) -> int:
        return self.device.n_used(labels)

    # ---- before the loop
    @on_card
    def summary(self, rows: CudaRows) -> Summary:
        d = rows.data.shape[1]
        keys = self.device.put(np.stack([np.full(d, 2**64 - 1, np.uint64), np.zeros(d, np.uint64)]))
        not_finite = self.device.zeros(1, np.uint32)
        for _, x, _ in rows.passes():
            self._feature_pass("summary", rows, x, keys[0], keys[1], not_finite)
        smallest, largest = _value_of(self.device.get(keys))
        return Summary(smallest, largest, not bool(self.device.get(not_finite)[0]))

    def _feature_pass(self, verb: str, rows: CudaRows, x: Any, *args: Any) -> None:
        n, d = x.shape
        launch = _launch.feature_pass(verb, rows.problem(n), self.device.card)
        self.device.launch(launch, x, *args, np.int64(n), np.int32(d), np.int32(_launch.lanes(d)))

    @on_card
    def weighted_peaks(self, rows: CudaRows) -> Float64Array:
        peaks = self.device.zeros(rows.data.shape[1], np.float64)
        for _, x, w in rows.passes():
            self._feature_pass("weighted_peaks", rows, x, w, peaks)
        found: Float64Array = self.device.get(peaks)
        return found

    @on_card
    def moments(self, rows: CudaRows, codes: Moments) -> tuple[Int64Array, Int64Array]:
        sums = self.device.zeros((2, rows.data.shape[1]), np.int64)
        code = [self.device.put(a) for a in (codes.pivot, codes.first.scale, codes.second.scale)]
        for _, x, _ in rows.passes():
            self._feature_pass("moments", rows, x, *code, sums[0], sums[1])
        first, second = self.device.get(sums)
        return first, second

    # ---- the loop
    def lag(self, blocks: Sequence[Any]) -> int:
        """One iteration ahead; none where it would stream the rows once more for nothing."""
        return 0 if blocks[0].is_streamed else 1

    @on_card
    def step(self, rows: CudaRows, centers: Centers, encoding: Encoding) -> Any:
        if rows.running is None:
            rows.running = Sums(rows, centers.k, encoding)
        sums, run = rows.running, centers.run
        scratch = rows.scratch()
        bounds = None if run.pruning is None else rows.bounds
        for part, x, w in rows.passes():
            if bounds is None:
                self._label(rows, centers, x, scratch.labels, run.state)
            else:
                self._prune(centers, x, rows.labels[part], bounds[part], scratch.labels, run.tally, run.state)
            launch = _launch.accumulate(
                rows.problem(len(x), centers.k), self.device.card, first=sums.is_empty,
                two_limbs=encoding.two_limbs, has_weights=w is not None,
            )  # fmt: skip
            args = (x, w, scratch.labels, rows.labels[part], *sums.scales, *sums.arrays, run.tally, run.state)
            self._accumulate(launch, args, len(x), centers)
        sums.is_empty = False
        return sums

    def _accumulate(self, launch: _launch.Launch, args: tuple[Any, ...], n: int, centers: Centers) -> None:
        clusters = (np.int32(centers.k),) if launch.kernel.startswith("add_all_rows") else ()
        self.device.launch(
            launch, *args, np.int64(n), np.int32(centers.d), *clusters, np.int32(_launch.lanes(centers.d))
        )

    def sums(self, partial: Any) -> Partial:
        with self.device:
            arrays: list[Any] = [None if a is None else self.device.get(a) for a in partial.arrays]
        return Partial(arrays[0], arrays[1], arrays[2], arrays[3], 0, 0)

    def recenter(
        self, partial: Any, centers: Centers, encoding: Encoding, threshold: float, *, relocated: bool = False
    ) -> tuple[Any, Any]:
        run = centers.run
        with self.device:
            if relocated:
                run.go_on()
            return self._recenter(partial, centers, threshold, relocated, run.next_record()), run.send_record()

    def _recenter(self, partial: Any, centers: Centers, threshold: float, relocated: bool, record: Any) -> Centers:
        after, run = centers.other, centers.run
        assert after is not None
        args = (*partial.arrays, *partial.inverses, centers.values, after.values, centers.shift)
        args = (*args, *after.published(self.is_exact, run.stage), run.drift, run.motion, run.moved_sq, run.counted)
        args = (*args, np.float64(threshold), np.int32(relocated), record, run.state, *after.sizes)
        self.device.launch(_launch.centers("recenter", partial.rows.problem(1, centers.k)), *args)
        return after

    def iterate(
        self, blocks: Sequence[Any], centers: Centers, encoding: Encoding, threshold: float, most: int
    ) -> list[Started]:
        self._reconsider(blocks[0], centers)
        started = self._batch(blocks[0], centers, encoding, threshold, most)
        if started is None:
            started = super().iterate(blocks, centers, encoding, threshold, most)
        centers.run.n_started += len(started)
        return started

    def _batch(
        self, rows: CudaRows, centers: Centers, encoding: Encoding, threshold: float, most: int
    ) -> list[Started] | None:
        """Several iterations as a graph, or None where that does not pay or is not possible."""
        size = _launch.iterations_at_once(rows.problem(rows.n_samples, centers.k), self.device.card)
        # twice one by one first: many fits are done then, and every kernel is compiled
        if size == 1 or most < size or centers.run.n_recorded < 2 or rows.is_streamed:
            return None
        pending = self._launch_batch(rows, centers, encoding, threshold)
        if pending is None:
            return None
        pairs = itertools.pairwise(itertools.cycle((centers, centers.other)))
        return [Started(rows.running, *next(pairs), outcome) for outcome in pending]

    @on_card
    def _launch_batch(self, rows: CudaRows, centers: Centers, encoding: Encoding, threshold: float) -> Any:
        def iterate(now: Centers, record: Any) -> Centers:
            return self._recenter(self.step(rows, now, encoding), now, threshold, False, record)

        if rows.is_streamed:  # since the memory has just run out
            return None
        rows.scratch()  # not while launches are captured
        if rows.batch is None or rows.batch.start is not centers:
            rows.batch = Batch(centers, iterate)
        return rows.batch.launch() if rows.batch.graph is not None else None

    # ---- empty clusters
    def empty_clusters(self, partial: Any, encoding: Encoding) -> list[int]:
        with self.device:
            weights = self.device.get(partial.arrays[2])
            weights_low = None if partial.arrays[3] is None else self.device.get(partial.arrays[3])
        empty: list[int] = np.flatnonzero(cluster_weights(encoding, weights, weights_low) == 0).tolist()
        return empty

    @on_card
    def farthest(self, rows: CudaRows, m: int) -> list[Far]:
        of_block, of_all = _launch.farthest(rows.n_samples, self.device.card)
        found, best = (self.device.empty(size, FAR) for size in (m, of_block.grid))
        weight = rows.weight
        for at in range(m):
            self.device.launch(of_block, rows.sqdist, weight, found, np.int32(at), best, np.int64(rows.n_samples))
            self.device.launch(of_all, best, np.int32(of_block.grid), found, np.int32(at))
        far = self.device.get(found).view(FAR)
        far = far[far["row"] >= 0]
        labels = self.device.take(rows.labels, far["row"])
        return [Far(float(f["own"]), int(f["row"]), int(label)) for f, label in zip(far, labels, strict=True)]

    @on_card
    def relocate(
        self,
        partial: Any,
        X: FloatArray,
        sample_weight: Float64Array | None,
        donors: Sequence[int],
        clusters: Sequence[int],
        encoding: Encoding,
    ) -> Any:
        # on a copy: the running sums stay those of the labels, or the next move would start from wrong ones
        sums, n, d = partial.copy(), *X.shape
        x = self.device.put(X)
        to, of = self.device.put(np.array(clusters, np.int32)), self.device.put(np.array(donors, np.int32))
        weight = None if sample_weight is None else self.device.put(sample_weight)
        tally, never = self.device.zeros(TALLY_WORDS, np.uint64), self.device.zeros(1, np.int32)
        launch = _launch.move_rows(_launch.Problem(n, d, 1, X.dtype.str[1:]), self.device.card)
        args = (x, weight, to, of, *sums.scales, *sums.arrays, tally, never)
        self.device.launch(launch, *args, np.int64(n), np.int32(d), np.int32(_launch.lanes(d)))
        return sums

    # ---- after the loop
    def _values(self, rows: CudaRows, centers: Any) -> Any:
        if isinstance(centers, Centers):
            return centers.values
        return self.device.put(np.ascontiguousarray(centers.astype(rows.data.dtype)))

    @on_card
    def own_sqdist(self, rows: CudaRows, centers: Any) -> float:
        values, own, top = (
            self._values(rows, centers),
            rows.kept("sqdist", np.float64),
            self.device.zeros(1, np.float64),
        )
        d = np.int32(rows.data.shape[1])
        for part, x, w in rows.passes():
            launch = _launch.row_pass("own_distance", rows.problem(len(x)), self.device.card)
            self.device.launch(launch, x, values, rows.labels[part], w, own[part], top, np.int64(len(x)), d)
        return float(self.device.get(top)[0])

    @on_card
    def inertia(self, rows: CudaRows, code: FixedPoint) -> tuple[int, int]:
        limbs, n = self.device.zeros(2, np.int64), rows.n_samples
        args = (rows.sqdist, rows.weight, code.scale[0], np.float64(code.low_scale), limbs, np.int64(n))
        self.device.launch(_launch.value_pass("inertia_sum", n, self.device.card), *args)
        high, low = self.device.get(limbs).tolist()
        return high, low

    @on_card
    def transform(self, rows: CudaRows, centers: Float64Array) -> Any:
        values, k, d = self._values(rows, centers), *centers.shape
        dtype, n_samples = rows.data.dtype, rows.n_samples
        most = max(1, min(rows.block, RESULT_BYTES // (k * dtype.itemsize)))
        shape = (n_samples if rows.in_place else min(most, n_samples), k)
        on_card = self.device.empty(shape, dtype)
        result = on_card if rows.in_place else np.empty((n_samples, k), dtype)
        for part, x, _ in rows.passes(most):
            out = on_card[part] if rows.in_place else on_card[: len(x)]
            launch = _launch.transform(rows.problem(len(x), k))
            self.device.launch(launch, x, values, out, np.int64(len(x)), np.int32(d), np.int32(k))
            if not rows.in_place:
                self.device.get(out, result[part])
        return result


def _value_of(keys: Any) -> Any:
    """The float64 values that the ordered keys of summary.cu stand for."""
    top = np.uint64(1 << 63)
    return np.where(keys & top, keys ^ top, ~keys).view(np.float64)
