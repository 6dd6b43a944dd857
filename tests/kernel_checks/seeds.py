"""Checks of seed.cu: nearest distances, trials, and the row that a prefix sum passes."""

from typing import Any

import numpy as np
import support

import naive
from gpukmeans import exact
from gpukmeans.backends import get_backend

from .machine import launch, on_card, problem


def potentials(code: exact.FixedPoint, weight: Any, closest: Any) -> Any:
    """Integers of the weighted distances."""
    return code.high((weight * closest.astype(np.float64))[:, None])[:, 0]


def seeded(dtype: Any) -> Any:
    """Problems with a first center: rows, weights, distances to the center and their code."""
    for n, d, kind, weights in ((1, 1, "noise", False), (700, 2, "wide", True), (130, 17, "subnormal", False)):
        X, _, w = problem(n, d, 1, dtype, kind, weights=weights)
        weight, closest = np.ones(n) if w is None else w, naive.seeding_distance(X, X[0])
        top = float((weight * closest.astype(np.float64)).max())
        yield X, w, weight, closest, exact.FixedPoint.for_peaks(top, n), top


def check_seed_distances(dtypes: Any = ("f4", "f8")) -> None:
    """Distances to the nearest of one and two centers; trials, in more than one pass."""
    backend = get_backend("cupy")
    for dtype in dtypes:
        for X, w, weight, closest, code, top in seeded(dtype):
            rows, n = backend.rows(on_card(X), w), len(X)
            assert backend.seed_update(rows, X[0], True) == top
            support.assert_same_array(rows.closest.get(), closest, "closest")
            nearer = np.minimum(closest, naive.seeding_distance(X, X[n // 2]))
            assert backend.seed_update(rows, X[n // 2], False) == (weight * nearer.astype(np.float64)).max()
            support.assert_same_array(rows.closest.get(), nearer, "closest")
            few = X[: min(n, 19)]
            after = [np.minimum(nearer, naive.seeding_distance(X, c)) for c in few]
            expected = [int(potentials(code, weight, values).sum()) for values in after]
            assert backend.seed_trials(rows, few, code) == expected


def check_seed_search(dtypes: Any = ("f4", "f8")) -> None:
    """Sums of groups of rows, their prefix sums (more than one trip of the scan), rows that prefix sums pass."""
    backend = get_backend("cupy")
    for dtype in dtypes:
        for X, w, weight, closest, code, _ in seeded(dtype):
            rows, n = backend.rows(on_card(X), w), len(X)
            rows.closest, prefix = on_card(closest), np.cumsum(potentials(code, weight, closest))
            assert backend.seed_total(rows, code) == prefix[-1]
            if prefix[-1] > 0:
                near = [prefix[i] + e for i in range(0, n, 13) for e in (-1, 0)]
                wanted = sorted({int(v) for v in [0, *near, prefix[-1] - 1] if 0 <= v < prefix[-1]})
                expected = np.searchsorted(prefix, wanted, side="right").tolist()
                assert backend.seed_find(rows, code, wanted) == expected
    for m in (1, 256, 600):
        ends = np.random.default_rng(m).integers(0, 1 << 50, m)
        scanned = on_card(ends)
        launch("seed_scan", 1, 256, scanned, m)
        support.assert_same_array(scanned.get(), np.cumsum(ends), "prefix sums")
