"""The kernels as a backend: the verbs of the waist on the harness, to compare the whole loop with the oracle.

It launches as a real backend would; relocating empty clusters is left to `lloyd`, which does it on the host.
"""

from typing import Any

import numpy as np

from gpukmeans import exact
from gpukmeans.backends.base import Partial, Rows, Summary

from .device import Device

UNCERTAIN = np.dtype([("row", np.int64), ("best", np.float32), ("gap", np.float32)])


def lanes_for(n_features: int) -> int:
    """Threads a row: a power of two."""
    return min(32, 1 << (n_features - 1).bit_length())


def type_name(X: Any) -> str:
    """The kernels' name of a dtype."""
    return {"f4": "float", "f8": "double"}[np.asarray(X).dtype.str[1:]]


class Centers:
    """Centers on the device, prepared for the fast pass."""

    def __init__(
        self, device: Device, n_clusters: int, n_features: int, dtype: Any, *, tiled: bool | None = None
    ) -> None:
        self.device, self.k, self.d = device, n_clusters, n_features
        self.tiled = n_features > 16 if tiled is None else tiled
        self.rows = 8 * device.define("ASSIGN_SIDE", 16) if self.tiled else 4
        self.ldc = -(-n_features // 8) * 8 if self.tiled else next(p for p in (4, 8, 16) if p >= n_features)
        self.kp = -(-n_clusters // self.rows) * self.rows
        self.values = device.zeros((n_clusters, n_features), dtype)
        self.shift = device.zeros(self.ldc, dtype)
        self.cs = device.zeros((self.kp, self.ldc), np.float32)
        self.half = device.array(np.full(self.kp, np.inf), np.float32)
        self.hash = device.zeros(n_clusters, np.uint64)
        self.cmax = device.zeros(1, np.uint32)
        self.bound = device.zeros(3, np.float32)
        self.type = type_name(self.values)

    def publish(self, values: Any) -> None:
        """Take new centers."""
        self.values[...] = values
        self.shift[: self.d] = self.values.mean(axis=0, dtype=np.float64)
        args = (self.values, self.shift, self.cs, self.half, self.hash, self.cmax, self.d, self.ldc)
        self.device.launch(f"publish_centers<{self.type}>", self.k, 128, *args)
        self.prepare()

    def prepare(self) -> None:
        """Duplicates and the bound, after publish_centers or recenter."""
        self.device.launch(f"hide_duplicates<{self.type}>", 2, 128, self.values, self.hash, self.half, self.d, self.k)
        self.device.launch("bound_terms", 1, 1, self.cmax, *bound_constants(self.d), self.bound)


def bound_constants(n_features: int) -> tuple[float, float, float]:
    """What `score_bound` multiplies with the largest norm: the chain's roundings, those of D, underflow."""
    at_0 = exact.score_bound(n_features, 0.0, chain=exact.CHAIN)
    at_1 = exact.score_bound(n_features, 1.0, chain=exact.CHAIN)
    return at_1.linear - at_0.linear, at_0.quadratic, at_0.linear


class SimtBackend:
    """The verbs, one launch or a few each."""

    name = "simt"

    def __init__(self, device: Device, *, tiled: bool | None = None, incremental: bool = True) -> None:
        self.device, self.tiled, self.incremental = device, tiled, incremental

    def rows(self, X: Any, sample_weight: Any = None) -> Rows:
        w = None if sample_weight is None else self.device.array(sample_weight, np.float64)
        return Rows(self.device.array(X), 0, w, np.full(len(X), -1, dtype=np.int32))

    # ---- before the loop
    def summary(self, rows: Rows) -> Summary:
        n, d = rows.data.shape
        low, high = self.device.array(np.full(d, 2**64 - 1, np.uint64)), self.device.zeros(d, np.uint64)
        bad = self.device.zeros(1, np.uint32)
        self.device.launch(f"summary<{type_name(rows.data)}>", 2, 256, rows.data, low, high, bad, n, d, lanes_for(d))

        def decode(keys: np.ndarray) -> np.ndarray:
            top = np.uint64(1 << 63)
            return np.where(keys & top, keys ^ top, ~keys).view(np.float64)

        return Summary(decode(low), decode(high), not bad[0])

    def weighted_peaks(self, rows: Rows) -> np.ndarray:
        n, d = rows.data.shape
        peaks = self.device.zeros(d, np.float64)
        args = (rows.data, rows.sample_weight, peaks, n, d, lanes_for(d))
        self.device.launch(f"weighted_peaks<{type_name(rows.data)}>", 2, 256, *args)
        return peaks

    def moments(self, rows: Rows, codes: exact.Moments) -> tuple[np.ndarray, np.ndarray]:
        n, d = rows.data.shape
        first, second = self.device.zeros(d, np.int64), self.device.zeros(d, np.int64)
        scales = [self.device.array(a) for a in (codes.pivot, codes.first.scale, codes.second.scale)]
        args = (rows.data, *scales, first, second, n, d, lanes_for(d))
        self.device.launch(f"moments<{type_name(rows.data)}>", 2, 256, *args)
        return first, second

    # ---- the loop
    def fast_labels(self, rows: Rows, centers: Centers) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The fast pass alone: labels, the list of open rows, its length."""
        n, d = rows.data.shape
        label = self.device.array(np.full(n, -7), np.int32)
        found, count = self.device.zeros(n, UNCERTAIN), self.device.zeros(1, np.uint64)
        args = (
            rows.data,
            centers.shift,
            centers.cs,
            centers.half,
            centers.bound,
            label,
            found,
            count,
            n,
            d,
            centers.ldc,
            centers.kp,
        )
        t = type_name(rows.data)
        if centers.tiled:
            side = self.device.define("ASSIGN_SIDE", 16)
            shared = 4 * (4 * 8 * (8 * side + 4) + 24 * side * side + 8 * side)
            name = f"assign_tiled<{t}, {str(d % 4 == 0).lower()}, {str(d > 2 * exact.CHAIN).lower()}>"
            self.device.launch(name, -(-n // (8 * side)), side * side, *args, shared=shared)
        else:
            floats = self.device.define("ASSIGN_SMALL_FLOATS", 4096)
            name = f"assign_small<{t}, {centers.ldc}, 4>"
            self.device.launch(name, -(-n // 512), 128, *args, shared=4 * (floats + floats // centers.ldc))
        return label, found, count

    def label(self, rows: Rows, centers: Centers) -> tuple[np.ndarray, int]:
        """Exact labels, and how many rows were rechecked."""
        label, found, count = self.fast_labels(rows, centers)
        args = (
            rows.data,
            centers.values,
            centers.shift,
            centers.cs,
            centers.half,
            found,
            count,
            label,
            centers.d,
            centers.ldc,
            centers.k,
        )
        self.device.launch(f"recheck<{centers.type}>", 2, 128, *args)
        return label, int(count[0])

    def _centers(self, rows: Rows, values: np.ndarray) -> Centers:
        centers = Centers(self.device, *values.shape, rows.data.dtype, tiled=self.tiled)
        centers.publish(values)
        return centers

    def assign(self, rows: Rows, centers: np.ndarray) -> tuple[int, int]:
        old = rows.labels
        rows.labels, n_rechecked = self.label(rows, self._centers(rows, centers))
        return int((old != rows.labels).sum()), n_rechecked

    def step(self, rows: Rows, centers: np.ndarray, encoding: exact.Encoding) -> Partial:
        old = self.device.array(rows.labels)
        rows.labels, n_rechecked = self.label(rows, self._centers(rows, centers))
        if rows.running is None:
            rows.running = Sums(self.device, *centers.shape, encoding, rows.sample_weight is not None)
        n_moved = rows.running.update(rows, old, self.incremental)
        # copies: relocation changes them, the running sums stay those of the labels
        parts = [None if a is None else a.copy() for a in rows.running.arrays]
        return Partial(parts[0], parts[1], parts[2], parts[3], n_moved, n_rechecked)

    # ---- after the loop
    def own_sqdist(self, rows: Rows, centers: np.ndarray) -> float:
        n, d = rows.data.shape
        rows.sqdist, top = self.device.zeros(n, np.float64), self.device.zeros(1, np.float64)
        values, labels = self.device.array(centers, rows.data.dtype), self.device.array(rows.labels)
        args = (rows.data, values, labels, rows.sample_weight, rows.sqdist, top, n, d)
        self.device.launch(f"own_distance<{type_name(rows.data)}>", 3, 128, *args)
        return float(top[0])

    def inertia(self, rows: Rows, code: exact.FixedPoint) -> tuple[int, int]:
        limbs = self.device.zeros(2, np.int64)
        args = (rows.sqdist, rows.sample_weight, code.scale[0], code.low_scale, limbs, len(rows.data))
        self.device.launch("inertia_sum", 3, 128, *args)
        return int(limbs[0]), int(limbs[1])

    # ---- seeding
    def seed_update(self, rows: Rows, center: np.ndarray, first: bool) -> float:
        n, d = rows.data.shape
        if rows.closest is None:
            rows.closest = self.device.zeros(n, rows.data.dtype)
        top = self.device.zeros(1, np.float64)
        args = (rows.data, self.device.array(center), rows.sample_weight, rows.closest, top, int(first), n, d)
        self.device.launch(f"seed_update<{type_name(rows.data)}>", 3, 256, *args)
        return float(top[0])

    def _ends(self, rows: Rows, code: exact.FixedPoint) -> np.ndarray:
        n, size = len(rows.data), self.device.define("SEED_BLOCK_ROWS", 2048)
        ends = self.device.zeros(-(-n // size), np.int64)
        args = (rows.closest, rows.sample_weight, code.scale[0], ends, n)
        self.device.launch(f"seed_potentials<{type_name(rows.data)}>", len(ends), 256, *args)
        self.device.launch("seed_scan", 1, 256, ends, len(ends))
        return ends

    def seed_total(self, rows: Rows, code: exact.FixedPoint) -> int:
        return int(self._ends(rows, code)[-1])

    def seed_find(self, rows: Rows, code: exact.FixedPoint, values: list[int]) -> list[int]:
        found = self.device.array(np.full(len(values), -1), np.int64)
        args = (
            rows.closest,
            rows.sample_weight,
            code.scale[0],
            self._ends(rows, code),
            self.device.array(values, np.int64),
            found,
        )
        self.device.launch(f"seed_find<{type_name(rows.data)}>", len(values), 32, *args, len(rows.data))
        return found.tolist()

    def seed_trials(self, rows: Rows, candidates: np.ndarray, code: exact.FixedPoint) -> list[int]:
        n, d = rows.data.shape
        potentials = self.device.zeros(len(candidates), np.int64)
        args = (
            rows.data,
            self.device.array(candidates),
            rows.closest,
            rows.sample_weight,
            code.scale[0],
            potentials,
            n,
            d,
        )
        self.device.launch(f"seed_trials<{type_name(rows.data)}>", 3, 256, *args, len(candidates))
        return potentials.tolist()


class Sums:
    """Integer sums of one block of rows, kept between steps."""

    def __init__(self, device: Device, k: int, d: int, encoding: exact.Encoding, has_weights: bool) -> None:
        self.device, self.k, self.d, self.encoding = device, k, d, encoding
        self.arrays = [
            device.zeros((k, d), np.int64),
            device.zeros((k, d), np.int64) if encoding.two_limbs else None,
            device.zeros(k, np.int64),
            device.zeros(k, np.int64) if has_weights else None,
        ]
        self.scale = device.array(encoding.features.scale)
        self.empty = True

    def update(self, rows: Rows, old: np.ndarray, incremental: bool) -> int:
        """Bring the sums to the rows' labels; returns how many rows moved."""
        n, d, code = len(rows.data), self.d, self.encoding.features
        scales = (self.scale, self.encoding.weights.scale[0], code.low_scale)
        lanes = lanes_for(d)
        shared = 8 * sum(a.size for a in self.arrays if a is not None)
        if not incremental and shared <= 48 << 10:
            for a in self.arrays:
                if a is not None:
                    a[...] = 0
            args = (rows.data, rows.sample_weight, rows.labels, *scales, *self.arrays, n, d, self.k, lanes)
            self.device.launch(f"add_all_rows<{type_name(rows.data)}>", 3, 256, *args, shared=shared)
            return int((old != rows.labels).sum())
        moved = self.device.zeros(1, np.uint64)
        args = (rows.data, rows.sample_weight, rows.labels, old, *scales, *self.arrays, moved, n, d, lanes)
        self.device.launch(f"move_rows<{type_name(rows.data)}>", 2, 256, *args, shared=8 * 256)
        return int(moved[0])
