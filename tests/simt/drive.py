"""Whole fits on the harness, in the two ways that a backend can drive the kernels."""

from typing import Any

import numpy as np

import naive
from gpukmeans import exact, lloyd, seeding
from gpukmeans.backends.base import Rows

from .backend import Centers, SimtBackend, Sums, type_name


def encoding_of(backend: SimtBackend, rows: Rows) -> exact.Encoding:
    """The codes of one fit, from the kernels' own summary."""
    w = rows.sample_weight
    peaks = backend.summary(rows).peaks if w is None else backend.weighted_peaks(rows)
    return exact.Encoding.for_peaks(peaks, None if w is None else float(w.max()), len(rows.data), rows.data.dtype)


def threshold_of(backend: SimtBackend, rows: Rows, tol: float) -> float:
    """`tol` times the mean variance."""
    if not tol > 0:
        return 0.0
    summary, n = backend.summary(rows), len(rows.data)
    codes = exact.Moments.for_range(summary.low, summary.high, n)
    return tol * codes.mean_variance(*backend.moments(rows, codes), n)


def fit(
    backend: SimtBackend, X: Any, centers: Any, w: Any = None, *, max_iter: int = 300, tol: float = 1e-4
) -> naive.Fit:
    """A fit from given centers through gpukmeans.lloyd, with data scaled as the estimator does."""
    scaled, weight, s, s_weight = naive.prepared(X, w)
    rows = backend.rows(scaled, None if w is None else weight)
    start = naive.scaled_by(np.asarray(centers).astype(scaled.dtype), s).astype(np.float64)
    options = {"threshold": threshold_of(backend, rows, tol), "max_iter": max_iter}
    result = lloyd.fit_lloyd(backend, [rows], start, encoding_of(backend, rows), **options)  # type: ignore[arg-type]
    made = naive.Fit(np.array(result.labels), result.centers.astype(scaled.dtype), result.inertia, result.n_iter)
    return naive.restored(made, scaled, weight, s, s_weight)


def fit_on_device(
    backend: SimtBackend, X: Any, centers: Any, w: Any = None, *, max_iter: int = 300, tol: float = 1e-4
) -> naive.Fit:
    """The same fit with recenter.cu in the loop: the host sees only the state. Data without empty clusters."""
    rows = backend.rows(X, w)
    device, (n, d), k = backend.device, X.shape, len(centers)
    encoding, threshold = encoding_of(backend, rows), threshold_of(backend, rows, tol)
    sums = Sums(device, k, d, encoding, w is not None)
    inverse_scale = device.array(1 / encoding.features.scale)
    now, then = (Centers(device, k, d, X.dtype, tiled=backend.tiled) for _ in range(2))
    now.publish(centers)
    labels, moved_sq = device.array(np.full(n, -1), np.int32), device.zeros(k, np.float64)
    shift_sq, state, moved = device.zeros(1, np.float64), device.zeros(1, np.int32), device.zeros(1, np.uint64)
    n_iter = 0
    while n_iter < max_iter and not state[0]:
        n_iter += 1
        old = labels
        rows.labels = labels = backend.label(rows, now)[0]
        moved[0] = sums.update(rows, old, backend.incremental)
        then.shift[...] = now.shift
        inverses = (inverse_scale, 1 / encoding.features.low_scale, 1 / encoding.weights.scale[0])
        outputs = (then.shift, then.cs, then.half, then.hash, then.cmax, moved_sq, d, then.ldc, k)
        device.launch(f"recenter<{type_name(X)}>", k, 128, *sums.arrays, *inverses, now.values, then.values, *outputs)
        then.prepare()
        tree = device.define("RECENTER_TREE", 1024)
        device.launch("finish_iteration", 1, tree, moved_sq, moved, threshold, shift_sq, state, k)
        now, then = then, now
    if not np.array_equal(now.values, then.values):
        rows.labels = backend.label(rows, now)[0]
    code = exact.FixedPoint.for_peaks(backend.own_sqdist(rows, now.values), n)
    inertia = exact.inertia(code, *backend.inertia(rows, code))
    return naive.Fit(rows.labels.copy(), now.values.copy(), inertia, n_iter)


def plus_plus(backend: SimtBackend, X: Any, k: int, rng: Any, w: Any = None) -> np.ndarray:
    """Rows that k-means++ chooses through gpukmeans.seeding."""
    rows = backend.rows(X, w)
    return seeding.kmeans_plusplus(backend, [rows], k, rng, encoding_of(backend, rows))[1]  # type: ignore[arg-type]
