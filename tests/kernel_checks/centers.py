"""Checks of recenter.cu: centers from sums, what the next fast pass needs of them, the state of the loop."""

from fractions import Fraction
from typing import Any

import numpy as np
import support

from gpukmeans import exact
from gpukmeans.backends import _cuda_stages, _launch, _tensor_config, get_backend
from gpukmeans.backends.base import State

from .machine import encoding_of, launch, on_card, problem
from .sums import sums_of, sums_on_card
from .tensor import LARGE, assert_packed


def assert_loaded(centers: Any, values: Any, *, certify: bool = True) -> None:
    """All that the next fast pass needs of these centers: shifted copies, half norms, hidden duplicates, bound."""
    values = np.asarray(values)
    k, d = values.shape
    support.assert_same_array(centers.values.get(), values, "centers")
    shift, scores_of = centers.shift.get(), centers.scores_of.get()
    c = (values - shift[:d]).astype(np.float32)
    support.assert_same_array(scores_of[:k, :d], c, "shifted centers")
    assert not shift[d:].any(), "padding"
    assert not scores_of[k:].any() and not scores_of[:, d:].any(), "padding"  # noqa: PT018
    half, norms_sq = centers.half.get(), (c.astype(np.float64) ** 2).sum(axis=1)
    first = np.unique(values, axis=0, return_index=True)[1]
    assert np.flatnonzero(np.isfinite(half)).tolist() == sorted(first), "the lowest of equal centers"
    np.testing.assert_allclose(half[first], norms_sq[first] / 2, rtol=1e-7, atol=1e-45)
    expected = np.array(exact.score_bound(d, float(np.sqrt(norms_sq.max())), chain=exact.CHAIN))
    bound = centers.bound.get()
    if certify:
        assert (bound >= expected).all(), "bound"
        assert (bound <= expected * (1 + 1e-6)).all(), "bound"
    else:
        assert bound.tolist() == [-np.inf, 0, 0]
    at_work, norm = centers.norm.get()
    assert at_work == 0
    norm = float(norm.view(np.float32))
    assert np.sqrt(norms_sq.max()) <= norm <= np.sqrt(norms_sq.max()) * (1 + 1e-6) + 2e-45


def assert_mean(got: Any, values: Any) -> None:
    """About the mean of the centers; it decides no bits."""
    mean, size = values.astype(np.float64).mean(axis=0), np.abs(values).max()
    assert np.abs(got - mean).max() <= 1e-6 * size, "mean"


def check_load(dtypes: Any = ("f4", "f8")) -> None:
    """Given centers."""
    backend = get_backend("cupy")
    for dtype in dtypes:
        for d, k, kind in (
            (3, 7, "wide"),
            (130, 9, "noise"),
            (33, 40, "offset"),
            (5, 70, "duplicates"),
            (1, 1, "noise"),
        ):
            C = problem(k, d, 1, dtype, kind)[0]
            now = backend.load(C.astype(np.float64), [backend.rows(on_card(C))])
            assert_loaded(now, C)
            assert_mean(now.shift.get()[:d], C)
            never_sure = get_backend("cupy", "float32")
            assert_loaded(never_sure.load(C.astype(np.float64), [never_sure.rows(on_card(C))]), C, certify=False)


def check_recenter(dtypes: Any = ("f4", "f8")) -> None:
    """Centers, shift and record from sums; clusters that stay empty; centers that hardly move."""
    for dtype in dtypes:
        for n, d, k, kind, weights in (
            (60, 3, 7, "wide", True),
            (90, 130, 9, "noise", False),
            (40, 33, 40, "duplicates", True),
            (8, 1, 1, "noise", False),
        ):
            X, C, w = problem(n, d, k, dtype, kind, weights=weights)
            backend, encoding = get_backend("cupy"), encoding_of(X, w)
            rows = backend.rows(on_card(X), w)
            now = backend.load(C.astype(np.float64), [rows])
            some = max(1, k - 2)  # two clusters stay empty; without weights others are equally heavy
            labels = np.arange(n) % some if w is None else np.random.default_rng(n).integers(0, some, n)
            integers = sums_of(X, w, labels, k, encoding)
            sums = sums_on_card(rows, integers, k, encoding)
            weight = exact.cluster_weights(encoding, integers[2], integers[3])
            expected = exact.new_centers(encoding, integers[0], integers[1], weight, X.dtype)
            run, n_empty = now.run, int((weight == 0).sum())
            run.stage = stage_of(now, {3: "tf32", 130: "bf16", 33: "fp16", 1: "tf32"}[d])
            run.tally.set(np.array([3, 4, 0, 0, 5], np.uint64))
            now.shift[:d].set(np.full(d, 7, dtype))
            shift_sq = exact.shift_sq(expected, C.astype(np.float64))
            after, pending = backend.recenter(sums, now, encoding, shift_sq, relocated=True)
            outcome = pending.read()
            n_changed = int((expected != C).any(axis=1).sum())
            assert outcome == (State.WITHIN_TOL, shift_sq, 3, 4, n_empty, n_changed > 0)
            record = after.run.records[0].get().view(_record())[0]
            assert record["n_changed"] == n_changed
            assert_mean(after.shift.get()[:d], C)
            assert_loaded(after, expected.astype(dtype))
            assert_packed(run.stage, after)
            assert_drift(run, expected, C)
            assert (run.heads.get() == -1).all(), "chains are cut"
            # the next ones are shifted by the mean of these
            run.go_on()
            again, pending = backend.recenter(sums, after, encoding, -1.0, relocated=True)
            pending.read()
            assert_mean(after.shift.get()[:d], expected)
            assert_loaded(again, expected.astype(dtype))
            assert_packed(run.stage, again)
            assert run.tally.get().tolist() == [0] * 5
    check_small_moves()
    check_low_limbs()


def stage_of(centers: Any, kind: str) -> Any:
    """A pass in this type, whose centers `recenter` is to pack."""
    config = _tensor_config.config(_launch.Problem(9, centers.d, centers.k, "f4"), LARGE, kind)
    return _cuda_stages.Stage(config, centers, certify=True)


def assert_drift(run: Any, after: Any, before: Any) -> None:
    """How far each center has moved, not less and hardly more; the largest of it; whether a center is hidden."""
    drift, motion = run.drift.get(), run.motion.get()
    for found, a, b in zip(drift.tolist(), np.asarray(after).tolist(), np.asarray(before).tolist(), strict=True):
        sq = sum(((Fraction(x) - Fraction(y)) ** 2 for x, y in zip(a, b, strict=True)), Fraction(0))
        assert Fraction(found) ** 2 >= sq, "drift"
        assert found <= np.sqrt(float(sq)) * (1 + 2e-6) + 3e-45 * (a != b), "drift"
    hidden = len(np.unique(after, axis=0)) < len(after)
    assert motion.tolist() == [0, int(drift.max().view(np.uint32)), hidden]


def check_small_moves() -> None:
    """A center that moves by less than a square can tell has changed, and one that did not has not."""
    X = np.random.default_rng(0).normal(size=(2, 130))
    X[:, :2] = 3e-200
    backend, encoding = get_backend("cupy"), encoding_of(X, None)
    rows = backend.rows(on_card(X))
    settled = exact.new_centers(encoding, *sums_of(X, None, np.arange(2), 2, encoding)[:2], np.ones(2), X.dtype)
    for changes in ([], [(0, 0)], [(0, 1)], [(0, 0), (1, 129)]):
        before = settled.copy()
        for at in changes:
            before[at] *= 0.5
        now = backend.load(before, [rows])
        now.run.tally.set(np.array([1, 0, 0, 0, 0], np.uint64))
        sums = sums_on_card(rows, sums_of(X, None, np.arange(2), 2, encoding), 2, encoding)
        after, pending = backend.recenter(sums, now, encoding, -1.0)
        pending.read()
        support.assert_same_array(after.values.get(), settled, "centers")
        record = now.run.records[0].get().view(_record())[0]
        assert record["n_changed"] == len(changes)
        assert record["shift_sq"] == exact.shift_sq(settled, before)
        assert_drift(now.run, settled, before)


def check_low_limbs() -> None:
    """What decides is in the second limb: a sum that cancels, a cluster that weighs next to nothing."""
    X, w = np.array([[1.0], [-1.0], [3 * 2.0**-60], [0.5], [1.0]]), np.array([1, 1, 1, 2.0**-60, 1])
    backend, encoding = get_backend("cupy"), encoding_of(X, w)
    rows = backend.rows(on_card(X), w)
    now = backend.load(np.array([[0.0], [1.0], [2.0]]), [rows])
    sums = sums_on_card(rows, sums_of(X, w, np.array([0, 0, 0, 1, 2]), 3, encoding), 3, encoding)
    after, pending = backend.recenter(sums, now, encoding, 0.0)
    assert pending.read().n_empty == 0
    assert after.values.get().ravel().tolist() == [2.0**-60, 0.5, 1.0]


def check_duplicates() -> None:
    """Of equal centers only the lowest is scored; one that differs in the last bit, or among subnormals, is no copy."""
    backend = get_backend("cupy")
    C = np.random.default_rng(0).normal(size=(9, 5))[[0, 1, 0, 2, 3, 1, 0, 4, 4] * 9]
    for dtype in ("f4", "f8"):
        values = C.astype(dtype)
        values[40, 2] = np.nextafter(values[40, 2], np.array(9, dtype))
        assert_loaded(backend.load(values.astype(np.float64), [backend.rows(on_card(values))]), values)
    values = np.array([[1e-44], [3e-45], [1e-44]], np.float32)
    assert_loaded(backend.load(values.astype(np.float64), [backend.rows(on_card(values))]), values)
    # equal hashes: the values decide. A feature more adds 0x9e37... to the bits before they are mixed
    less = (np.array([1.0, 2.0]).view(np.uint64) - np.uint64(0x9E3779B97F4A7C15)).view(np.float64)
    values = np.array([[5, 1.0, less[1]], [5, 2.0, less[0]], [5, 1.0, less[1]]])
    now = backend.load(values, [backend.rows(on_card(values))])
    assert len(set(now.hash.get().tolist())) == 1
    assert_loaded(now, values)


def _record() -> np.dtype:
    from gpukmeans.backends import _cuda_centers

    return _cuda_centers.RECORD


def finish(values, tally, threshold, relocated=False, state=0):
    """Run recenter so that center i moves by values[i]: record, state and tally afterwards."""
    k = len(values)
    X, labels, backend = np.array(values)[:, None], np.arange(k), get_backend("cupy")
    encoding, rows = encoding_of(X, None), backend.rows(on_card(X))
    now = backend.load(np.zeros((k, 1)), [rows])
    now.run.tally.set(np.array([*tally, 9], np.uint64))
    now.run.state.set(np.array([state], np.int32))
    now.run.records[0].data.memset_async(0xEE, now.run.records[0].nbytes)
    sums = sums_on_card(rows, sums_of(X, None, labels, k, encoding), k, encoding)
    _, pending = backend.recenter(sums, now, encoding, threshold, relocated=relocated)
    pending.copied.synchronize()
    run = now.run
    assert run.ticket.get()[0] == 0
    return tuple(run.records[0].get().view(_record())[0].tolist()), int(run.state.get()[0]), run.tally.get().tolist()


def check_state(ks: Any = (1, 2, 7, 9, 21, 133)) -> None:
    """The shift is summed over the tree; the state follows; the tally is 0 again, or waits for the relocation."""
    for k in ks:
        assert_state(k)


def assert_state(k: int) -> None:
    """All states, for k clusters."""
    rng = np.random.default_rng(k)
    # whole numbers, which the sums hold exactly
    values = np.rint(rng.normal(size=k) * 2.0 ** rng.integers(8, 26, k)) + 0.0
    total, moved = exact.tree_sum(values**2), int((values != 0).sum())
    below = np.nextafter(total, 0)
    for tally, threshold, relocated, state in (
        ([0, 2, 0, 3], total, False, 1),
        ([3, 2, 0, 3], total, False, 2),
        ([3, 2, 0, 3], below, False, 0),
        ([3, 2, 1, 3], total, False, 3),
        ([0, 2, 1, 3], below, False, 3),
        ([3, 2, 1, 3], total, True, 2),
        ([3, 2, 1, 3], below, True, 0),
        ([0, 2, 1, 3], below, True, 1),
    ):
        left = [*tally[:2], 0, 0, 9] if state == 3 else [0] * 5
        expected = (total, *tally[:3], tally[3] + moved, state, 9)
        assert finish(values, tally, threshold, relocated) == (expected, state, left)
    untouched = (*np.full(56, 0xEE, np.uint8).view("u8").tolist(),)
    record, state, tally = finish(values, [0, 2, 0, 3], total, state=2)
    assert np.array(record[0]).view("u8") == untouched[0]
    assert (state, tally) == (2, [0, 2, 0, 3, 9])


def bound_of(norm: float, constants: Any, certify: bool = True) -> tuple[list[float], int]:
    """The bound that one center 0 gets where the largest norm is given; and what is left of the norm at work."""
    cmax, bound = on_card(np.array([norm, 7], np.float32).view(np.uint32)), on_card(np.zeros(3), np.float32)
    scores = (on_card([0], np.float32), on_card(np.zeros((1, 8)), np.float32), on_card([0], np.float32))
    chains = (on_card([0], np.uint64), on_card([-1], np.int32), on_card([0], np.int32), cmax)
    rest = (*constants, int(certify), bound, on_card([0], np.uint32), None, None, 1, 8, 1)
    args = (on_card([0], np.float32), *scores, *chains, *rest)
    launch("publish_centers<float>", 1, _launch.TILES.recenter_threads, *args)
    left, kept = cmax.get()
    assert kept == np.float32(norm).view(np.uint32)
    return bound.get().tolist(), int(left)


def check_bound(ds: Any = (1, 257)) -> None:
    """The bound is that of exact, rounded up; where a score could overflow nothing is certified."""
    from gpukmeans.backends import _cuda_centers

    for d in ds:
        constants = _cuda_centers.bound_constants(d)
        for norm in (0.0, 1e-20, 0.37, 1e6, 2.0**55):
            expected = np.array(exact.score_bound(d, float(np.float32(norm)), chain=exact.CHAIN))
            bound, left = bound_of(norm, constants)
            assert (bound >= expected).all()
            assert (bound <= expected * (1 + 2e-7)).all()
            assert left == 0
        for norm in (2.0**56, np.inf, np.nan):
            assert bound_of(norm, constants) == ([np.inf, 0, 0], 0)
            assert bound_of(norm, constants, certify=False) == ([-np.inf, 0, 0], 0)
    for constants, expected in (((1, 0, 0), [4.5, 3, 0]), ((0, 1, 0), [9, 0, 1]), ((0, 0, 1), [4, 1, 0])):
        assert bound_of(3.0, map(float, constants))[0] == expected  # each term alone


def check_halted(dtypes: Any = ("f4",)) -> None:
    """Every kernel of the loop leaves everything as it is once the state is not 0."""
    from gpukmeans.backends import _cuda_centers

    for dtype in dtypes:
        for d in (3, 20):
            X, C, w = problem(40, d, 5, dtype, "noise", weights=True)
            C[3] = C[1]
            backend, encoding = get_backend("cupy"), encoding_of(X, w)
            rows = backend.rows(on_card(X), w)
            now = backend.load(C.astype(np.float64), [rows])
            after, run, scratch = now.other, now.run, rows.scratch()
            rows.running = _cuda_centers.Sums(rows, 5, encoding)
            rows.labels = on_card(np.arange(40) % 5, np.int32)
            kept = [a for a in rows.running.arrays if a is not None]
            kept += [now.bound, now.shift, run.tally, run.moved_sq, run.ticket, run.heads, *run.records]
            kept += [run.drift, run.motion]
            kept += [after.values, after.shift, after.scores_of, after.half, after.hash, after.norm, after.bound]
            kept += [after.links]
            stage = stage_of(now, "bf16")
            kept += [rows.labels, scratch.labels, scratch.uncertain, stage.packing[0]]
            for i, array in enumerate(kept):
                array.data.memset_async(i % 3, array.nbytes)
            bits = [support.bits(a.get()) for a in kept]
            for first in (True, False):
                run.state.set(np.array([2], np.int32))
                rows.running.is_empty = first
                sums = backend.step(rows, now, encoding)
                scratch.count.set(np.array([3], np.uint64))
                run.stage = stage
                backend.recenter(sums, now, encoding, 1e30)
                run.stage = None
                for i, (array, was) in enumerate(zip(kept, bits, strict=True)):
                    support.assert_same_array(support.bits(array.get()), was, f"array {i}")
                assert run.state.get().tolist() == [2]
