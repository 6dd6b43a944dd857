"""Checks of accumulate.cu and inertia.cu: integer sums."""

from typing import Any

import numpy as np
import support

import naive
from gpukmeans import exact
from gpukmeans.backends import _launch, get_backend

from .machine import encoding_of, launch, never, on_card, problem


def sums_of(X: Any, w: Any, labels: Any, k: int, encoding: exact.Encoding) -> list[Any]:
    """Integer sums in the order of `Sums.arrays`; a row with label -1 is in no cluster."""
    y = X.astype(np.float64) if w is None else w[:, None] * X.astype(np.float64)
    ones = np.ones(len(X), np.int64)
    limbs = [
        encoding.features.high(y),
        encoding.features.low(y) if encoding.two_limbs else None,
        ones if w is None else encoding.weights.high(w),
        None if w is None else encoding.weights.low(w),
    ]
    sums = []
    for limb in limbs:
        total = None if limb is None else np.zeros((k, *limb.shape[1:]), np.int64)
        if total is not None:
            np.add.at(total, labels[labels >= 0], limb[labels >= 0])
        sums.append(total)
    return sums


def sums_on_card(rows: Any, integers: Any, k: int, encoding: exact.Encoding) -> Any:
    """`Sums` of these integers."""
    from gpukmeans.backends import _cuda_centers

    sums = _cuda_centers.Sums(rows, k, encoding)
    for to, values in zip(sums.arrays, integers, strict=True):
        if to is not None:
            to.set(values)
    return sums


class Accumulator:
    """Sums on the card, brought from one set of labels to the next."""

    def __init__(self, X: Any, w: Any, k: int, encoding: exact.Encoding) -> None:
        from gpukmeans.backends import _cuda_centers

        self.backend = get_backend("cupy")
        self.rows, self.k, self.encoding = self.backend.rows(on_card(X), w), k, encoding
        self.sums = _cuda_centers.Sums(self.rows, k, encoding)
        self.labels, self.tally = on_card(np.full(len(X), -1), np.int32), on_card([0, 5, 6, 7], np.uint64)

    def update(self, fresh: Any, *, first: bool) -> None:
        """Launch as the backend's `step` does."""
        n, d = self.rows.data.shape
        weight = self.rows.weight
        sizes = {"two_limbs": self.encoding.two_limbs, "has_weights": weight is not None}
        how = _launch.accumulate(self.rows.problem(n, self.k), self.backend.device.card, first=first, **sizes)
        assert how.kernel.startswith("add_all_rows") == first
        args = (self.rows.data, weight, on_card(fresh, np.int32), self.labels, *self.sums.scales, *self.sums.arrays)
        args = (*args, self.tally, never(), n, d, *([self.k] if first else []), _launch.lanes(d))
        launch(how.kernel, how.grid, how.block, *args, shared=how.shared)

    def assert_sums(self, expected: Any, labels: Any, n_moved: int) -> None:
        """What is on the card."""
        for got, want, name in zip(self.sums.arrays, expected, ("sums", "low", "weights", "low weights"), strict=True):
            assert (got is None) == (want is None)
            if got is not None:
                support.assert_same_array(got.get(), want, name)
        support.assert_same_array(self.labels.get(), labels.astype(np.int32), "labels")
        assert self.tally.get().tolist() == [n_moved, 5, 6, 7]


def check_accumulate(dtypes: Any = ("f4", "f8")) -> None:
    """All rows at once, then some that move; the other way round; from rows that are in no cluster."""
    for dtype in dtypes:
        for n, d, k, kind, weights in (
            (1100, 1, 5, "noise", False),
            (600, 3, 4, "wide", True),
            (90, 40, 3, "offset", False),
            (70, 33, 2, "wide", True),
            (40, 7, 40, "subnormal", True),
        ):
            X, _, w = problem(n, d, k, dtype, kind, weights=weights)
            rng, encoding = np.random.default_rng(d), encoding_of(X, w)
            first = rng.integers(0, k, n)
            for first_by_all in (True, False):
                a = Accumulator(X, w, k, encoding)
                a.update(first, first=first_by_all)
                a.assert_sums(sums_of(X, w, first, k, encoding), first, n)
                now, moved = first, n
                for share in (0.4, 0.02, 0.0):
                    then = np.where(rng.random(n) < share, rng.integers(0, k, n), now)
                    a.update(then, first=False)
                    moved += int((then != now).sum())
                    now = then
                a.assert_sums(sums_of(X, w, now, k, encoding), now, moved)


def check_inertia(dtypes: Any = ("f4", "f8")) -> None:
    """Distances, the largest weighted one, and their sum in two limbs; a row that is infinitely far and weighs 0."""
    backend = get_backend("cupy")
    for dtype in dtypes:
        for n, d, k, kind, weights in (
            (1, 1, 1, "noise", False),
            (700, 3, 5, "wide", True),
            (650, 5, 7, "wide", False),
            (70, 40, 9, "subnormal", True),
        ):
            X, C, w = problem(n, d, k, dtype, kind, weights=weights)
            far = dtype == "f8" and w is not None
            if far:
                w[n // 2], X[n // 2, 0] = 0.0, 1e300
            rows = backend.rows(on_card(X), w)
            labels = np.random.default_rng(n).integers(0, k, n)
            rows.labels = on_card(labels, np.int32)
            top = backend.own_sqdist(rows, C.astype(np.float64))
            own = naive.distances(X, C)[np.arange(n), labels]
            assert np.isinf(own[n // 2]) == far
            support.assert_same_array(rows.sqdist.get(), own, "distances")
            with np.errstate(invalid="ignore"):
                y = own if w is None else np.where(w > 0, w * own, 0.0)
            assert top == y.max()
            code = exact.FixedPoint.for_peaks(top, n)
            expected = int(code.high(y[:, None]).sum()), int(code.low(y[:, None]).sum())
            assert backend.inertia(rows, code) == expected
