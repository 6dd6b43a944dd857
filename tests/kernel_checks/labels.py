"""Checks of assign.cu and recheck.cu: the fast pass, its list of open rows, and what becomes of them."""

from typing import Any

import numpy as np
import support

import naive
from gpukmeans import exact
from gpukmeans.backends import get_backend

from .machine import as_stored, launch, never, on_card, problem, type_of

UNCERTAIN = np.dtype([("row", np.int64), ("best", np.float32), ("gap", np.float32)])


def between(C: Any, n: int, dtype: Any) -> np.ndarray:
    """Rows in the middle between a center and its nearest one, off by about what the fast pass can tell."""
    rng = np.random.default_rng(len(C))
    a = rng.integers(0, len(C), n)
    D = naive.distances(C, C)
    np.fill_diagonal(D, np.inf)
    b = D.argmin(axis=1)[a]
    bound = exact.score_bound(C.shape[1], float(np.linalg.norm(C, axis=1).max()), chain=exact.CHAIN)
    t = rng.uniform(-2, 2, n) * (bound.const + bound.linear) / np.maximum(D[a, b], 1e-9)
    A, B = C[a].astype(np.float64), C[b].astype(np.float64)
    return ((A + B) / 2 + t[:, None] * (B - A)).astype(dtype)


def long_chain(dtype: Any, part: float = 0.49) -> tuple[np.ndarray, np.ndarray]:
    """A row whose score loses (or gains) more than the bound allows if its chain of multiply-adds is not cut.

    The first product is 1.5, and each of the others `part` of a unit in the last place of what a chain then holds.
    """
    c = np.full(2000, 2.0**-12)
    c[0] = 1
    near = c.copy()
    near[1999] *= 1 - 2.0**-12
    x = np.full((1, 2000), part * 2.0**-11)
    x[0, 0] = 1.5
    return x.astype(dtype), np.stack([near, c, -c, -near]).astype(dtype)  # their mean, the shift, is 0


def fast_pass(backend: Any, X: Any, C: Any, skip: int = 0) -> tuple[Any, np.ndarray, np.ndarray]:
    """Loaded centers, labels and list of the fast pass alone."""
    rows = backend.rows(as_stored(X, skip=skip))
    centers = backend.load(C.astype(np.float64), [rows])
    get_backend("cupy", "float32").assign(rows, centers)  # without recheck; the bound is that of `load`
    scratch = rows.scratch()
    found = scratch.uncertain.get().view(UNCERTAIN)[: int(scratch.count.get()[0])]
    return centers, rows.labels.get(), found


def assert_fast_pass(backend: Any, X: Any, C: Any, skip: int = 0) -> None:
    """Labels and list of the fast pass alone."""
    assert_certified(np.asarray(X), C, *fast_pass(backend, X, C, skip))


def scores_norms_and_gaps(X: Any, C: Any, centers: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """In float64: scores of all pairs, |x'| and 2 E of each row."""
    d = X.shape[1]
    shift, half = centers.shift.get()[:d], centers.half.get()[: len(C)].astype(np.float64)
    c = centers.scores_of.get()[: len(C), :d].astype(np.float64)
    x = (X - shift).astype(np.float32).astype(np.float64)
    norms, bound = np.sqrt((x * x).sum(axis=1)), centers.bound.get().astype(np.float64)
    return half - x @ c.T, norms, bound[0] + norms * (bound[1] + bound[2] * norms)


def two_best(scores: np.ndarray) -> np.ndarray:
    """Best and second best of each row."""
    if scores.shape[1] == 1:
        return np.stack([scores[:, 0], np.full(len(scores), np.inf)])
    return np.partition(scores, 1, axis=1)[:, :2].T


def assert_certified(X: Any, C: Any, centers: Any, labels: np.ndarray, found: np.ndarray) -> None:
    """The best score wins; the list has the rows, and no others, whose two best scores are closer than the bound."""
    scores, _, gaps = scores_norms_and_gaps(X, C, centers)
    best, second = two_best(scores)
    assert ((labels >= 0) & (labels < len(C))).all(), "labels"
    assert (scores[np.arange(len(X)), labels] <= best + gaps / 2).all(), "the best score"
    listed = np.zeros(len(X), bool)
    assert ((found["row"] >= 0) & (found["row"] < len(X))).all(), "rows of the list"
    listed[found["row"]] = True
    assert listed.sum() == len(found), "a row is listed once"
    clear = np.abs(second - best - gaps) > 0.3 * gaps
    assert (listed == (second - best < gaps))[clear].all(), "the list"
    support.assert_same_array(labels[~listed], naive.labels(X, C)[~listed], "certified labels")
    np.testing.assert_allclose(found["gap"], gaps[found["row"]], rtol=1e-5)
    assert (np.abs(found["best"] - best[found["row"]]) <= gaps[found["row"]] / 2).all(), "scores of the list"


def check_assign(dtypes: Any = ("f4",)) -> None:
    """Every variant, more than a tile of rows, centers and features; rows that float32 can hardly tell apart."""
    for dtype in dtypes:
        for n, d, k, kind in (
            (5, 2, 5, "noise"),
            (530, 3, 37, "wide"),  # small
            (70, 7, 20, "noise"),
            (40, 15, 9, "offset"),
            (68, 20, 35, "noise"),  # tiled, aligned
            (9, 20, 3, "noise"),  # rows of whole quads that are not aligned
            (37, 19, 33, "wide"),
            (33, 18, 70, "noise"),
            (34, 260, 33, "noise"),  # cut chains
            (33, 386, 5, "wide"),
        ):
            X, C, _ = problem(n, d, min(n, k), dtype, kind)
            X = np.concatenate([X, between(C, 21, dtype), X[:2] * 2**36])  # far away the rounding of D counts
            assert_fast_pass(get_backend("cupy"), X, C, skip=n % 2)
        assert_fast_pass(get_backend("cupy"), *long_chain(dtype))


def is_clear(X: Any, C: Any, centers: Any) -> np.ndarray:
    """Whether each row is open, or is not, by so much that the roundings of its scores do not matter."""
    scores, _, gaps = scores_norms_and_gaps(X, C, centers)
    best, second = two_best(scores)
    return np.abs(second - best - gaps) > 0.1 * gaps


def assert_resolved(X: Any, C: Any, chosen: Any, n_open: int | None = None) -> None:
    """Labels of the rows in a list, and of no others; how many of them were rechecked, where that is known."""
    backend = get_backend("cupy")
    rows = backend.rows(as_stored(X))
    centers = backend.load(C.astype(np.float64), [rows])
    listed = on_card(np.array([(row, 0, np.inf) for row in chosen], UNCERTAIN).view(np.uint8))
    labels, tally = on_card(np.full(len(X), -7), np.int32), on_card([1, 2, 3, 4, 5], np.uint64)
    args = rows.stored, centers.values, *centers.for_scores, centers.bound, listed, on_card([len(chosen)], np.uint64)
    for halted in (on_card([1], np.int32), never()):
        assert set(labels.get().tolist()) == {-7}, "halted"
        assert tally.get().tolist() == [1, 2, 3, 4, 5], "halted"
        sizes = X.shape[1], centers.form.columns, len(C)
        launch(f"resolve<{centers.problem.row_type}>", 2, 256, *args, labels, tally, halted, *sizes)
    expected = np.where(np.isin(np.arange(len(X)), chosen), naive.labels(np.asarray(X), C), -7).astype(np.int32)
    support.assert_same_array(labels.get(), expected, "labels of the rows in the list")
    if n_open is not None:
        assert tally.get().tolist() == [1, 2 + n_open, 3, 4, 5], "rows rechecked"


def check_resolve(dtypes: Any = ("f4", "f8")) -> None:
    """Rows in a list, in any order: more than a tile of them and of centers; one row, one center, one feature.

    Of the rows no score is so near the bound that it might be taken for either, so it is known how many are rechecked.
    """
    backend = get_backend("cupy")
    for dtype in dtypes:
        for n, d, k in ((170, 37, 130), (41, 16, 65), (40, 250, 32), (30, 260, 9), (1, 1, 1)):
            X, C, _ = problem(n, d, min(n, k), dtype, "wide" if d == 16 else "noise")
            if k > 1:
                C[-1] = C[0]
                X = np.concatenate([between(C, 90, dtype), X, X[:2] * 2**36])
            centers = backend.load(C.astype(np.float64), [backend.rows(on_card(X))])
            X = X[is_clear(X, C, centers)]
            scores, _, gaps = scores_norms_and_gaps(X, C, centers)
            best, second = two_best(scores)
            chosen = np.random.default_rng(n).permutation(len(X))[: max(1, len(X) - 3)]
            assert_resolved(X, C, chosen, int((second - best <= gaps)[chosen].sum()))
            assert 0 in chosen
            assert k == 1 or second[0] - best[0] <= gaps[0], "the first row is open"
        for part in (0.49, 0.51):
            assert_resolved(*long_chain(dtype, part), [0])
    # the second center is nearer by less than float32 can tell, where there is one so far away
    C = np.array([[1 + 2.0**-23, 0], [1, 0], [-1000, 0]], np.float32)
    assert_resolved(np.zeros((1, 2), np.float32), C, [0], 1)


def assert_labels(backend: Any, X: Any, C: Any) -> None:
    """Labels after the recheck are the oracle's."""
    rows = backend.rows(as_stored(X))
    backend.assign(rows, C.astype(np.float64))
    support.assert_same_array(rows.labels.get(), naive.labels(np.asarray(X), C), "labels")


def check_recheck(dtypes: Any = ("f4", "f8")) -> None:
    """Rows that the fast pass leaves open, and all rows with all centers as candidates."""
    backend = get_backend("cupy")
    for dtype in dtypes:
        for n, d, k, kind in ((40, 2, 40, "ties"), (21, 40, 33, "noise"), (9, 300, 5, "noise"), (40, 5, 40, "wide")):
            X, C, _ = problem(n, d, min(n, k), dtype, kind)
            X = np.concatenate([X, between(C, 15, dtype)])
            assert_labels(backend, X, C)
            rows = backend.rows(on_card(X))
            centers = backend.load(C.astype(np.float64), [rows])
            listed, tally = np.random.default_rng(n).permutation(len(X))[1:], on_card([1, 2, 3, 4], np.uint64)
            labels = on_card(np.full(len(X), -7), np.int32)
            found = np.array([(row, 0, np.inf) for row in listed], UNCERTAIN)
            head = (rows.data, centers.values, *centers.for_scores, on_card(found.view(np.uint8)))
            count, sizes = on_card([len(found)], np.uint64), (d, centers.form.columns, len(C))
            launch(f"recheck<{type_of(X)}>", 3, 128, *head, count, labels, tally, on_card([1], np.int32), *sizes)
            assert set(labels.get().tolist()) == {-7}, "halted"
            assert tally.get().tolist() == [1, 2, 3, 4], "halted"
            launch(f"recheck<{type_of(X)}>", 3, 128, *head, count, labels, tally, never(), *sizes)
            expected = np.where(np.isin(np.arange(len(X)), listed), naive.labels(X, C), -7).astype(np.int32)
            support.assert_same_array(labels.get(), expected, "labels of the rows in the list")
            assert tally.get().tolist() == [1, 2 + len(found), 3, 4]
        assert_labels(backend, *long_chain(dtype))
    # the last center is nearer by less than float32 can tell
    assert_labels(backend, np.zeros((1, 2), np.float32), np.array([[1 + 2.0**-23, 0], [1, 0]], np.float32))
    # two scores overflow: their difference is NaN, which certifies nothing
    assert_labels(backend, np.array([[2.0**78]]), np.array([[2.0**53], [2.0**54], [-(2.0**54)]]))
