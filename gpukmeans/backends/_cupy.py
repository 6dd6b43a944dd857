"""The CUDA backend: the kernels of ``kernels/`` on an NVIDIA card, launched through CuPy on the current stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cupy
import numpy as np

from ..arrays import as_cupy, is_cupy, on_device
from ..exact import Encoding, FixedPoint, Float64Array, FloatArray, Int64Array, Moments, cluster_weights
from . import _cuda, _launch, _source
from ._cupy_centers import TALLY_WORDS, Centers, Run, Sums, bound_constants
from ._cupy_rows import CupyRows, on_card
from ._cupy_seeding import SeedingVerbs
from .base import Far, Rows, Summary

RESULT_BYTES = 256 << 20
"""Bytes of a block of distances on the card, on their way to the host."""
FAR = np.dtype([("own", "f8"), ("row", "i8")])
"""`Far` of farthest.cu."""


class CupyBackend(SeedingVerbs):
    """CUDA kernels: float32 scores with a certificate, moved rows, integer sums, the loop's decisions on the card."""

    name = "cupy"

    def __init__(self, precision: str = "exact") -> None:
        super().__init__(precision)
        device = cupy.cuda.Device(_cuda.chosen_device())
        self._use(device.id)

    def _use(self, device_id: int) -> None:
        self.device = cupy.cuda.Device(device_id)
        self._kernels = _source.kernels(device_id)
        a = self.device.attributes
        self.card = _launch.Card(
            int(self.device.compute_capability),
            a["MultiProcessorCount"],
            a["MaxSharedMemoryPerBlockOptin"],
            a["MaxThreadsPerMultiProcessor"],
        )

    def _run(self, launch: _launch.Launch, *args: Any) -> None:
        function = self._kernels(launch.kernel, launch.shared)
        function((launch.grid,), (launch.block,), args, shared_mem=launch.shared)

    # ---- data
    def accept(self, X: Any) -> Any:
        """X itself; what lies on a card decides which one is used."""
        if not on_device(X):
            return X
        X = as_cupy(X)
        if X.device.id != self.device.id:
            self._use(X.device.id)
        return X

    def blocks(self, X: Any, sample_weight: Float64Array | None = None) -> list[Rows]:
        """One handle: it divides the rows itself."""
        return [self.rows(X, sample_weight)]

    def rows(self, data: Any, sample_weight: Float64Array | None = None, start: int = 0) -> Rows:
        return CupyRows(data, start, sample_weight, self.device.id)

    @on_card
    def forget(self, rows: CupyRows) -> None:
        rows.running = None
        rows.labels = labels = cupy.empty(rows.n_samples, np.int32)  # those of the run before are its result
        labels.data.memset_async(0xFF, labels.nbytes)

    def scaled(self, X: Any, exponent: int) -> Any:
        if not is_cupy(X) or exponent == 0:
            return super().scaled(X, exponent)
        with self.device:
            out = cupy.empty(X.shape, X.dtype)
            half = exponent // 2 if abs(exponent) > 1000 else 0  # 2^1034 is no float64
            factors = np.ldexp(1.0, exponent - half), np.ldexp(1.0, half)
            kernel = f"scale_values<{'float' if X.dtype == np.float32 else 'double'}>"
            self._run(_launch.value_pass(kernel, X.size, self.card), X, out, *factors, np.int64(X.size))
            return out

    def labels(self, blocks: Sequence[Rows]) -> Any:
        return self._in_kind(blocks[0], blocks[0].labels)

    def sqdist(self, blocks: Sequence[Rows]) -> Any:
        return self._in_kind(blocks[0], blocks[0].sqdist)

    def _in_kind(self, rows: Any, values: Any) -> Any:
        with self.device:
            return values if rows.in_place else values.get()

    def n_used(self, labels: Any, blocks: Sequence[Rows]) -> int:
        if not is_cupy(labels):
            return super().n_used(labels, blocks)
        n_used: int = self._n_used(blocks[0], labels)
        return n_used

    @on_card
    def _n_used(self, rows: CupyRows, labels: Any) -> int:
        return int((cupy.bincount(labels) > 0).sum())

    # ---- before the loop
    @on_card
    def summary(self, rows: CupyRows) -> Summary:
        d = rows.data.shape[1]
        keys = cupy.asarray(np.stack([np.full(d, 2**64 - 1, np.uint64), np.zeros(d, np.uint64)]))
        not_finite = cupy.zeros(1, np.uint32)
        for _, x, _ in rows.passes():
            self._feature_pass("summary", rows, x, keys[0], keys[1], not_finite)
        smallest, largest = _value_of(keys.get())
        return Summary(smallest, largest, not bool(not_finite.get()[0]))

    def _feature_pass(self, verb: str, rows: CupyRows, x: Any, *args: Any) -> None:
        n, d = x.shape
        launch = _launch.feature_pass(verb, rows.problem(n), self.card)
        self._run(launch, x, *args, np.int64(n), np.int32(d), np.int32(_launch.lanes(d)))

    @on_card
    def weighted_peaks(self, rows: CupyRows) -> Float64Array:
        peaks = cupy.zeros(rows.data.shape[1], np.float64)
        for _, x, w in rows.passes():
            self._feature_pass("weighted_peaks", rows, x, w, peaks)
        found: Float64Array = peaks.get()
        return found

    @on_card
    def moments(self, rows: CupyRows, codes: Moments) -> tuple[Int64Array, Int64Array]:
        sums = cupy.zeros((2, rows.data.shape[1]), np.int64)
        code = [cupy.asarray(a) for a in (codes.pivot, codes.first.scale, codes.second.scale)]
        for _, x, _ in rows.passes():
            self._feature_pass("moments", rows, x, *code, sums[0], sums[1])
        first, second = sums.get()
        return first, second

    # ---- the loop
    def lag(self, blocks: Sequence[Any]) -> int:
        """One iteration ahead; none where it would stream the rows once more for nothing."""
        return 0 if blocks[0].is_streamed else 1

    def load(self, centers: Any, blocks: Sequence[Any]) -> Centers:
        loaded: Centers = self._load(blocks[0], centers, True)
        return loaded

    @on_card
    def _load(self, rows: CupyRows, values: Float64Array, in_turns: bool) -> Centers:
        problem = rows.problem(rows.n_samples, len(values))
        run = Run(len(values))
        centers = Centers(values, problem, run)
        if in_turns:
            Centers(values, problem, run, centers)
        self._mean(rows, centers, centers)
        args = (centers.values, *centers.for_scores, centers.hash, centers.norm)
        self._run(_launch.publish_centers(problem), *args, np.int32(centers.d), np.int32(centers.form.columns))
        self._finish_centers(rows, centers, run.state)
        return centers

    def _mean(self, rows: CupyRows, of: Centers, to: Centers) -> None:
        launch = _launch.mean_center(rows.problem(1, of.k))
        self._run(launch, of.values, to.shift, of.run.state, np.int32(of.d), np.int32(of.k))

    def _finish_centers(self, rows: CupyRows, centers: Centers, halted: Any) -> None:
        launch = _launch.hide_duplicates(rows.problem(1, centers.k), self.card)
        d, k = np.int32(centers.d), np.int32(centers.k)
        self._run(launch, centers.values, centers.hash, centers.half, halted, d, k)
        constants, certify = bound_constants(centers.d), np.int32(self.precision == "exact")
        self._run(_launch.bound_terms(), centers.norm, *constants, certify, centers.bound, halted)

    def _loaded(self, rows: CupyRows, centers: Any) -> Centers:
        if isinstance(centers, Centers):
            return centers
        loaded: Centers = self._load(rows, centers, False)
        return loaded

    def unload(self, centers: Centers) -> Float64Array:
        with self.device:
            values: Float64Array = centers.values.get().astype(np.float64)
            return values

    def _fast_pass(self, rows: CupyRows, centers: Centers, x: Any, labels: Any, halted: Any) -> None:
        """Exact labels of one block: the fast pass, then the rows that it left open."""
        problem, scratch = rows.problem(len(x), centers.k), rows.scratch()
        scratch.count.data.memset_async(0, 8)
        d, columns = np.int32(centers.d), np.int32(centers.form.columns)
        found = (scratch.uncertain, scratch.count)
        args: tuple[Any, ...] = (x, *centers.for_scores, centers.bound, labels, *found, halted)
        self._run(_launch.assign(problem, self.card), *args, np.int64(len(x)), d, columns, np.int32(centers.form.rows))
        if self.precision == "exact":
            args = (x, centers.values, *centers.for_scores, *found, labels, centers.run.tally, halted)
            self._run(_launch.recheck(problem, self.card), *args, d, columns, np.int32(centers.k))

    @on_card
    def assign(self, rows: CupyRows, centers: Any) -> int:
        centers = self._loaded(rows, centers)
        labels = rows.kept("labels", np.int32)
        rows.scratch()
        centers.run.tally.data.memset_async(0, centers.run.tally.nbytes)
        for part, x, _ in rows.passes():
            self._fast_pass(rows, centers, x, labels[part], centers.run.never)
        return int(centers.run.tally.get()[1])

    @on_card
    def step(self, rows: CupyRows, centers: Centers, encoding: Encoding) -> Any:
        if rows.running is None:
            rows.running = Sums(rows, centers.k, encoding)
        sums, scratch, run = rows.running, rows.scratch(), centers.run
        for part, x, w in rows.passes():
            self._fast_pass(rows, centers, x, scratch.labels, run.state)
            launch = _launch.accumulate(
                rows.problem(len(x), centers.k), self.card, first=sums.is_empty,
                two_limbs=encoding.two_limbs, has_weights=w is not None,
            )  # fmt: skip
            args = (x, w, scratch.labels, rows.labels[part], *sums.scales, *sums.arrays, run.tally, run.state)
            self._accumulate(launch, args, len(x), centers)
        sums.is_empty = False
        return sums

    def _accumulate(self, launch: _launch.Launch, args: tuple[Any, ...], n: int, centers: Centers) -> None:
        clusters = (np.int32(centers.k),) if launch.kernel.startswith("add_all_rows") else ()
        self._run(launch, *args, np.int64(n), np.int32(centers.d), *clusters, np.int32(_launch.lanes(centers.d)))

    def recenter(
        self, partial: Any, centers: Centers, encoding: Encoding, threshold: float, *, relocated: bool = False
    ) -> tuple[Any, Any]:
        after, run, rows = centers.other, centers.run, partial.rows
        assert after is not None
        d, k = np.int32(centers.d), np.int32(centers.k)
        with self.device:
            if relocated:
                run.go_on()
            self._mean(rows, centers, after)
            args = (*partial.arrays, *partial.inverses, centers.values, after.values, *after.for_scores, after.hash)
            args = (*args, after.norm, run.moved_sq, run.tally, run.state, d, np.int32(after.form.columns), k)
            self._run(_launch.recenter(rows.problem(1, centers.k)), *args)
            self._finish_centers(rows, after, run.state)
            stop = (np.float64(threshold), np.int32(relocated))
            self._run(_launch.finish_iteration(), run.moved_sq, run.tally, *stop, run.next_record(), run.state, k)
            return after, run.send_record()

    # ---- empty clusters
    def empty_clusters(self, partial: Any, encoding: Encoding) -> list[int]:
        with self.device:
            weights: Any = partial.arrays[2].get()
            weights_low: Any = None if partial.arrays[3] is None else partial.arrays[3].get()
        empty: list[int] = np.flatnonzero(cluster_weights(encoding, weights, weights_low) == 0).tolist()
        return empty

    @on_card
    def farthest(self, rows: CupyRows, m: int) -> list[Far]:
        of_block, of_all = _launch.farthest(rows.n_samples, self.card)
        found, best = (cupy.empty(size * FAR.itemsize, np.uint8) for size in (m, of_block.grid))
        weight = rows.weight
        for at in range(m):
            self._run(of_block, rows.sqdist, weight, found, np.int32(at), best, np.int64(rows.n_samples))
            self._run(of_all, best, np.int32(of_block.grid), found, np.int32(at))
        far = found.get().view(FAR)
        far = far[far["row"] >= 0]
        labels = rows.labels[cupy.asarray(far["row"])].get()
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
        x = cupy.asarray(X)
        to, of = cupy.asarray(np.array(clusters, np.int32)), cupy.asarray(np.array(donors, np.int32))
        weight = None if sample_weight is None else cupy.asarray(sample_weight)
        tally, never = cupy.zeros(TALLY_WORDS, np.uint64), cupy.zeros(1, np.int32)
        launch = _launch.move_rows(partial.rows.problem(n), self.card)
        args = (x, weight, to, of, *sums.scales, *sums.arrays, tally, never)
        self._run(launch, *args, np.int64(n), np.int32(d), np.int32(_launch.lanes(d)))
        return sums

    # ---- after the loop
    def _values(self, rows: CupyRows, centers: Any) -> Any:
        if isinstance(centers, Centers):
            return centers.values
        return cupy.asarray(np.ascontiguousarray(centers.astype(rows.data.dtype)))

    @on_card
    def own_sqdist(self, rows: CupyRows, centers: Any) -> float:
        values, own, top = self._values(rows, centers), rows.kept("sqdist", np.float64), cupy.zeros(1, np.float64)
        d = np.int32(rows.data.shape[1])
        for part, x, w in rows.passes():
            launch = _launch.row_pass("own_distance", rows.problem(len(x)), self.card)
            self._run(launch, x, values, rows.labels[part], w, own[part], top, np.int64(len(x)), d)
        return float(top.get()[0])

    @on_card
    def inertia(self, rows: CupyRows, code: FixedPoint) -> tuple[int, int]:
        limbs, n = cupy.zeros(2, np.int64), rows.n_samples
        args = (rows.sqdist, rows.weight, code.scale[0], np.float64(code.low_scale), limbs, np.int64(n))
        self._run(_launch.value_pass("inertia_sum", n, self.card), *args)
        high, low = limbs.get().tolist()
        return high, low

    @on_card
    def transform(self, rows: CupyRows, centers: Float64Array) -> Any:
        values, k, d = self._values(rows, centers), *centers.shape
        dtype, n_samples = rows.data.dtype, rows.n_samples
        most = max(1, min(rows.block, RESULT_BYTES // (k * dtype.itemsize)))
        shape = (n_samples if rows.in_place else min(most, n_samples), k)
        on_card = cupy.empty(shape, dtype)
        result = on_card if rows.in_place else np.empty((n_samples, k), dtype)
        for part, x, _ in rows.passes(most):
            out = on_card[part] if rows.in_place else on_card[: len(x)]
            launch = _launch.transform(rows.problem(len(x), k))
            self._run(launch, x, values, out, np.int64(len(x)), np.int32(d), np.int32(k))
            if not rows.in_place:
                out.get(out=result[part])
        return result


def _value_of(keys: Any) -> Any:
    """The float64 values that the ordered keys of summary.cu stand for."""
    top = np.uint64(1 << 63)
    return np.where(keys & top, keys ^ top, ~keys).view(np.float64)
