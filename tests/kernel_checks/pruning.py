"""Checks of prune.cu and bounds.cuh: what is proved is not read, the rest is scored; bounds hold for real numbers."""

from fractions import Fraction
from typing import Any

import numpy as np
import support

import naive
from gpukmeans.backends import get_backend

from .labels import between, is_clear, scores_norms_and_gaps, two_best
from .machine import as_stored, never, on_card, problem


def up(value: Any) -> np.float32:
    """The smallest float32 that is not below."""
    found = np.float32(value)
    return found if Fraction(float(found)) >= value else np.nextafter(found, np.float32(np.inf))


def down(value: Any) -> np.float32:
    """The largest float32 that is not above."""
    return -up(-value)


def moved(bounds: np.ndarray, own: np.ndarray, most: np.float32) -> np.ndarray:
    """Bounds (n, 2) after the own centers have moved by `own`, none by more than `most`."""
    pairs = zip(bounds.tolist(), own.tolist(), strict=True)
    ends = [(up(Fraction(u) + Fraction(o)), down(Fraction(v) - Fraction(float(most)))) for (u, v), o in pairs]
    return np.array(ends, np.float32).reshape(-1, 2)


def drift_of(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    """How far each center has moved, rounded up."""
    return np.array([up(Fraction(float(v))) for v in np.linalg.norm(after - before, axis=1) * (1 + 1e-6)], np.float32)


class Rows:
    """Rows on the card, with labels and bounds from pass to pass."""

    def __init__(self, X: np.ndarray, labels: np.ndarray, bounds: Any = None) -> None:
        self.labels, n = labels, len(X)
        self.backend = get_backend("cupy")
        self.rows = self.backend.rows(as_stored(X))
        self.bounds = np.full((n, 2), np.nan, np.float32) if bounds is None else bounds
        self.tally = np.zeros(5, np.uint64)

    def load(self, C: np.ndarray) -> Any:
        return self.backend.load(C.astype(np.float64), [self.rows])

    def prune(self, now: Any, drift: np.ndarray, hidden: int = 0, halted: int = 0) -> None:
        """One pass: the labels, bounds and tally after it."""
        now.run.drift.set(np.asarray(drift, np.float32))
        now.run.motion.set(np.array([0, np.max(drift).astype(np.float32).view(np.uint32), hidden], np.uint32))
        before, bounds = on_card(self.labels, np.int32), on_card(self.bounds)
        tally = on_card([1, 2, 3, 4, 5], np.uint64)
        labels = on_card(np.full(len(before), -7), np.int32)
        stop = never() if not halted else on_card([1], np.int32)
        self.backend._prune(now, self.rows.stored, before, bounds, labels, tally, stop)
        self.labels, self.bounds, self.tally = labels.get(), bounds.get(), tally.get()


def assert_pruned(X: Any, C: Any, labels: np.ndarray, bounds: np.ndarray, drift: Any, hidden: int = 0) -> int:
    """A pass over rows with these labels, right or wrong, and bounds, valid or not; returns how many are proved."""
    drift = np.asarray(drift, np.float32)
    rows = Rows(X, labels, bounds)
    now = rows.load(C)
    rows.prune(now, drift, hidden, halted=1)
    assert set(rows.labels.tolist()) == {-7}, "halted"
    assert rows.tally.tolist() == [1, 2, 3, 4, 5], "halted"
    support.assert_same_array(rows.bounds, bounds, "halted")
    rows.labels = labels
    rows.prune(now, drift, hidden)
    proved = bounds[:, 0] < bounds[:, 1]
    after = moved(bounds[proved], drift[labels[proved]], drift.max())
    proved[proved] = after[:, 0] < after[:, 1]
    support.assert_same_array(rows.labels[proved], labels[proved].astype(np.int32), "labels of rows that are proved")
    support.assert_same_array(rows.bounds[proved], after[after[:, 0] < after[:, 1]], "bounds of rows that are proved")
    X, labels, bounds = np.asarray(X)[~proved], rows.labels[~proved], rows.bounds[~proved].astype(np.float64)
    support.assert_same_array(labels, naive.labels(X, C), "labels of open rows")
    scores, norms, gaps = scores_norms_and_gaps(X, C, now)
    best, second = two_best(scores)
    is_certain = second - best > gaps
    assert rows.tally.tolist() == [1, 2 + int((~is_certain).sum()), 3, 4, 5 + len(X)], "rows rechecked, rows open"
    known = ~np.isnan(bounds).any(axis=1)
    assert not (known & ~(is_certain & (hidden == 0))).any(), "of which rows bounds are known"
    D = naive.distances(X, C)
    own = D[np.arange(len(X)), labels].copy()
    D[np.arange(len(X)), labels] = np.inf
    slack = 1.1 * (gaps + norms**2 * (X.shape[1] + 16) * 2.0**-23)
    if not hidden and len(C) > 1:
        assert known[is_certain & (D.min(axis=1) > 2 * slack)].all(), "of which rows they are not"
    for i in np.flatnonzero(known):
        assert Fraction(bounds[i, 0]) ** 2 >= exact_sq(X[i], C[labels[i]]), "the own center is farther than its bound"
        assert bounds[i, 0] ** 2 <= (own[i] + 2 * slack[i]) * (1 + 1e-6) + 1e-30, "upper"
        if len(C) > 1:
            other = C[D[i].argmin()]
            assert Fraction(bounds[i, 1]) ** 2 <= exact_sq(X[i], other), "another center is nearer than its bound"
            assert bounds[i, 1] >= 0
            assert bounds[i, 1] ** 2 >= (D[i].min() - 2 * slack[i]) * (1 - 1e-6), "lower"
    return int(proved.sum())


def exact_sq(x: np.ndarray, c: np.ndarray) -> Fraction:
    """Squared distance in rational numbers."""
    return sum(((Fraction(float(a)) - Fraction(float(b))) ** 2 for a, b in zip(x, c, strict=True)), Fraction(0))


def check_prune(dtypes: Any = ("f4", "f8")) -> None:
    """All kinds of bounds, in all places of a block; more than a tile of open rows, few, none; one center."""
    n_proved = 0
    for dtype in dtypes:
        for n, d, k, kind in ((700, 3, 37, "wide"), (90, 20, 70, "noise"), (65, 261, 9, "noise"), (3, 1, 1, "noise")):
            X, C, _ = problem(n, d, min(n, k), dtype, kind)
            X = np.concatenate([X, between(C, 25, dtype)]) if k > 1 else X
            X = X[is_clear(X, C, Rows(X, X).load(C))][:513]  # or fewer; a block's second turn has one row
            rng = np.random.default_rng(n)
            for share in (0.7, 0.02):
                for drift in (np.array([0, 2.0**-60, 2.0**-61])[np.arange(len(C)) % 3], rng.uniform(0, 2, len(C))):
                    bounds, labels = some_bounds(rng, len(X), share), rng.integers(0, len(C), len(X))
                    n_proved += assert_pruned(X, C, labels, bounds, drift)
            assert_pruned(X, C, labels, bounds, drift, hidden=1)
            assert assert_pruned(X, C, labels, some_bounds(rng, len(X), 0.0), drift) == len(X), "all are proved"
        # more open rows for a block than its queue has room for
        X, C, _ = problem(1100, 1, 5, dtype, "noise")
        X = X[is_clear(X, C, Rows(X, X).load(C))]
        assert_pruned(X, C, np.zeros(len(X), np.int64), np.full((len(X), 2), np.nan, np.float32), np.zeros(5))
    assert n_proved > 1000, "rows that are proved"
    check_moved()
    check_bounds_of()


def some_bounds(rng: Any, n: int, share: float) -> np.ndarray:
    """Bounds that prove a row, but for a share of them: unknown, crossed, closer than centers move."""
    bounds = np.array([0.1, 100], np.float32) * rng.uniform(1, 1.5, (n, 1)).astype(np.float32)
    kinds = np.array([[np.nan, np.nan], [1.0, 1.0], [3.0, 2.0], [1.0, 1 + 2.0**-23], [np.inf, np.inf]], np.float32)
    open_ = rng.random(n) < share
    bounds[open_] = kinds[rng.integers(0, len(kinds), open_.sum())]
    return bounds


def check_moved() -> None:
    """Bounds are rounded outward, to the last bit: one unit decides whether a row is proved."""
    X, C = np.linspace(-3, 3, 64, dtype=np.float32)[:, None], np.array([[-2.0], [0.0], [2.5]], np.float32)
    X = X[is_clear(X, C, Rows(X, X).load(C))]
    one, step, tiny = 1.0, 2.0**-23, 2.0**-60
    for bounds, drift, proves in (
        ((one, one + step), (tiny, 0, 0), False),  # the upper one rounded up meets the lower one
        ((one, one + 2 * step), (tiny, 0, 0), False),  # and the lower one down, as another center moves
        ((one, one + 3 * step), (tiny, 0, 0), True),
        ((one, one + step), (0, 0, 0), True),
        ((one, one + 2 * step), (0, tiny, 0), True),
        ((one, one + step), (0, tiny, 0), False),
        ((one, 1.75), (0.25, 0.5, 0.5), False),  # 1.25 is not below 1.25
        ((one, 1.75 + step), (0.25, 0.5, 0.5), True),
        ((one, 1.5), (0.25, 0.25, 0), False),
        ((0.0, 2.0**-149), (0, 0, 0), True),
        ((0.0, 2.0**-148), (2.0**-149, 0, 0), False),
        ((0.0, 2.0**-148 + 2.0**-149), (2.0**-149, 0, 0), True),
    ):
        labels, known = np.zeros(len(X), np.int64), np.array([bounds] * len(X), np.float32)
        assert assert_pruned(X, C, labels, known, drift) == (len(X) if proves else 0), (bounds, drift)


def check_bounds_of() -> None:
    """Whole numbers, of which scores and norms are exact: the bounds are those of the formula, to the last bit."""
    rng = np.random.default_rng(0)
    half = rng.integers(-40, 40, (4, 6)).astype(np.float32)
    X, C = rng.integers(-50, 50, (150, 6)).astype(np.float32), np.concatenate([half, -half])  # their mean is 0
    rows = Rows(X, np.zeros(len(X), np.int64))
    now = rows.load(C)
    rows.prune(now, np.zeros(8))
    best, second = two_best(scores_norms_and_gaps(X, C, now)[0])
    x2, bound, f4 = (X**2).sum(axis=1), now.bound.get(), np.float32
    norm = np.sqrt(x2 + f4(6) * f4(2.0**-125))
    gap = (bound[0] + norm * (bound[1] + bound[2] * norm)).astype(f4)
    x2, slack = x2.astype(np.float64), gap.astype(np.float64) + x2.astype(np.float64) * (22 * 2.0**-23) + 6 * 2.0**-125
    own, other = x2 + 2 * best + slack, np.maximum(x2 + 2 * second - slack, 0)
    ends = [(up(Fraction(a)), down(Fraction(b))) for a, b in np.sqrt([own, other]).T.tolist()]
    is_certain = second - best > gap
    assert is_certain.sum() > 100
    support.assert_same_array(rows.bounds[is_certain], np.array(ends, f4)[is_certain], "bounds")


def check_line() -> None:
    """Rows between two centers that move along a line, where no bound by the triangle inequality can be tighter."""
    rng = np.random.default_rng(0)
    X = np.zeros((96, 3), np.float32)
    X[:, 1] = rng.normal(size=96) * 1e-6
    start, step = np.array([[0, -1.0, 0], [0, 1.5, 0], [0, 4.0, 0]]), 2.0**-5
    before, n_open = start.astype(np.float32), []
    rows = Rows(X, np.zeros(len(X), np.int64))
    for i in range(20):
        C = (start + i * step * np.array([[0, -1.0, 0], [0, -1.0, 0], [0, 0, 0]])).astype(np.float32)
        rows.prune(rows.load(C), drift_of(C.astype(np.float64), before.astype(np.float64)))
        support.assert_same_array(rows.labels, naive.labels(X, C), f"labels after {i} steps")
        n_open.append(int(rows.tally[4]) - 5)
        before = C
    assert n_open[0] == len(X)
    assert 0 in n_open, "nothing was proved"
    assert len(set(rows.labels.tolist())) == 1
    assert rows.labels[0] == 1
