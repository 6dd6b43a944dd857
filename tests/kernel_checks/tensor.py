"""Checks of pack.cuh, assign_sm80.cu and assign_sm80_wide.cu: packed centers, keys bit by bit, the list, labels."""

from dataclasses import replace
from typing import Any

import numpy as np
import support
from tensor_scores import KINDS, all_scores, bits_in_type, group_keys, group_of, keys, two_smallest

import naive
from gpukmeans import exact
from gpukmeans.backends import _cuda_stages, _launch, _tensor_config, get_backend

from .labels import UNCERTAIN, between
from .machine import as_stored, launch, library_of, never, on_card, problem

LARGE = _launch.Card(100, 1, 163 << 10, 256)
OFFSET = _launch.Card(90, 1, 163 << 10, 256)
"""Scores of rows in registers are offset there."""
SMALL = _launch.Card(86, 1, 99 << 10, 256)


class Pass:
    """Rows and centers on the card, and the pass in one type over them."""

    def __init__(
        self, X: Any, C: Any, kind: str, card: Any, *, certify: bool = True, is_grouped: bool = False
    ) -> None:
        self.X, self.C, self.kind, self.k, self.d = np.asarray(X), C, kind, len(C), X.shape[1]
        self.backend = get_backend("cupy")
        self.rows = self.backend.rows(as_stored(X))
        self.sizes = self.rows.problem(len(X), len(C))
        self.config = _tensor_config.config(self.sizes, card, kind)
        assert self.config is not None
        if is_grouped:  # as it would be with more rows and centers
            self.config = replace(self.config, shape=_tensor_config.SHAPES.many_rows[64], is_grouped=True)
        self.pass_launch = _tensor_config.assign(self.sizes, card, self.config)
        self.centers = self.backend.load(C.astype(np.float64), [self.rows])
        self.stage = _cuda_stages.Stage(self.config, self.centers, certify)

    def pack(self) -> None:
        self.backend._publish(self.sizes, self.centers, self.stage)

    def assign(self, model: int, halted: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """Labels and the list."""
        n, found = len(self.X), self.pass_launch
        self.labels, self.listed = on_card(np.full(n, -7), np.int32), on_card(np.zeros(n, UNCERTAIN).view(np.uint8))
        self.count = on_card([0], np.uint64)
        library_of(found.kernel, found.shared).set_rounding(model)
        of_type = list(_launch.ROW_TYPES.values()).index(self.sizes.row_type)
        now, x, sizes = self.centers, (self.rows.stored, self.centers.shift, of_type), (n, self.d, self.k)
        out = self.labels, self.listed, self.count, never() if halted is None else halted
        if self.config.is_wide:
            x = *x, on_card(np.full(_tensor_config.converted(found, self.config), 7, np.uint8))
            sizes = *sizes, self.config.row_bytes // _tensor_config.CHUNK_BYTES
        else:
            out = *out, now.scores_of, now.half, now.bound
            sizes = *sizes, now.form.columns
        given = *x, self.stage.packed, self.stage.quads, self.stage.bound, *out, *sizes
        launch(found.kernel, found.grid, found.block, *given, shared=found.shared)
        return self.labels.get(), self.listed.get().view(UNCERTAIN)[: int(self.count.get()[0])]

    def recheck(self) -> np.ndarray:
        """Labels of all rows."""
        now, tally = self.centers, on_card(np.zeros(4), np.uint64)
        head = self.rows.stored, now.values, *now.for_scores, self.listed, self.count, self.labels, tally, never()
        launch(f"recheck<{self.sizes.row_type}>", 3, 128, *head, self.d, now.form.columns, self.k)
        return self.labels.get()


def assert_bound(bound: Any, d: int, norm: float, config: Any) -> None:
    """That of exact.tensor_bound for d features, rounded up to float32, and what there is for B of offset scores."""
    form, offset, sizes = (config.kind, config.index_bits), 0.0, (0.0, 0.0)
    if config.is_offset:
        terms = exact.tensor_terms(d, *form, is_offset=True)
        if norm <= terms.largest:
            offset, sizes = terms.offset, exact.offset_size(d, norm, config.kind)
    else:
        bound = bound[:4]
    wanted = exact.tensor_bound(d, norm, *form, offset=0.0 if config.is_offset else None)
    wanted = np.array([*wanted, offset, *sizes])[: len(bound)]
    assert (bound >= wanted).all(), "bound"
    assert (bound <= np.maximum(wanted * (1 + 2e-7), 1e-36)).all(), "bound"


def assert_packed(stage: Any, now: Any) -> None:
    """Rounded centers, half norms and bound; zeros and HIDDEN around them."""
    config, k, d = stage.config, now.k, now.d
    expected = np.zeros((config.rows(k), config.columns), np.uint32)
    expected[:k, :d] = bits_in_type(now.scores_of.get()[:k, :d], config.kind)
    got = stage.packed.get().view(np.uint32 if config.kind == "tf32" else np.uint16)
    np.testing.assert_array_equal(got.reshape(expected.shape), expected)
    half = np.full(len(expected), np.inf if config.is_offset else 1e38, np.float32)
    half[:k] = np.minimum(now.half.get()[:k], half[:k])
    np.testing.assert_array_equal(stage.quads.get().reshape(-1, 4), np.tile(half.reshape(-1, 2), 2))
    assert_bound(stage.bound.get(), d, float(now.norm.get()[1:].view(np.float32)[0]), config)


def offsets_of(norms: Any, p: Pass) -> np.ndarray:
    """B of each row: that of the largest of its block."""
    of_block, bound = p.config.shape.rows, p.stage.bound.get()
    most = np.where(norms < 2.0**64, norms, 0)  # the square of others is infinite
    most = np.maximum.reduceat(most, np.arange(0, len(norms), of_block))
    sizes = bound[5] * np.sqrt(most * most + p.d * 2.0**-125) + bound[4]
    parts = np.log2(sizes[sizes > 0]) % 1
    assert ((parts > 1e-5) & (parts < 1 - 1e-5)).all(), "a size that may be rounded to either binade"
    found = np.array([exact.binade(float(size), p.config.index_bits) for size in sizes])
    return np.repeat(found, of_block)[: len(norms)].astype(np.float32)


def assert_pass(p: Pass, model: int) -> None:
    """Keys are those of tensor_scores; the list has the rows that the bound leaves open; labels are right."""
    labels, found = p.assign(model)
    n, now, bound = len(p.X), p.centers, p.stage.bound.get()
    assert ((labels >= 0) & (labels < p.k)).all(), "labels"
    assert ((found["row"] >= 0) & (found["row"] < n)).all(), "rows of the list"
    listed = np.zeros(n, bool)
    listed[found["row"]] = True
    assert listed.sum() == len(found), "a row is listed once"
    with np.errstate(over="ignore", invalid="ignore"):
        x = (p.X - now.shift.get()[: p.d]).astype(np.float32)
        norms = np.sqrt((x.astype(np.float64) ** 2).sum(axis=1))
        flushed = np.sqrt(norms * norms + p.d * 2.0**-125)  # squares may have been
        gaps = bound[0] + flushed * (bound[1].astype(np.float64) + bound[2] * flushed)
    within = norms <= (2.0**15 if p.kind == "fp16" else 2.0**60)  # false for NaN
    offsets = None
    if p.config.is_offset:
        offsets = offsets_of(norms if p.kind != "fp16" else np.where(within, norms, np.inf), p)
        gaps = gaps + bound[3].astype(np.float64) * offsets
    assert listed[~within].all(), "rows that overflow"
    c, half = now.scores_of.get()[: p.k, : p.d], now.half.get()[: p.k]
    bits, of_rows = p.config.index_bits, None if offsets is None else offsets[within]
    scores = all_scores(x[within], c, half, p.kind, model, of_rows)
    is_grouped = p.config.is_grouped
    found_keys = group_keys(scores, bits) if is_grouped else keys(scores, bits, is_offset=p.config.is_offset)
    all_keys = np.zeros((n, found_keys.shape[1]), found_keys.dtype)
    all_keys[within] = found_keys
    of_label = group_of(labels) if is_grouped else labels
    assert (all_keys[np.arange(n), of_label] == all_keys.min(axis=1))[within].all(), "the best key"
    best, second = two_smallest(all_keys, bits, offsets)
    fine = np.zeros(n)
    if is_grouped:
        with np.errstate(over="ignore", invalid="ignore"):  # of rows that are not within
            best, next_best, fine = of_group(p, x.astype(np.float64), flushed, labels)
            assert (best <= next_best + fine)[within].all(), "the best of the four"
            second, gaps = np.minimum(next_best, second), (gaps + fine) / 2
    with np.errstate(invalid="ignore"):
        is_clear = within & (np.abs(second - best - gaps) > 1e-3 * gaps + fine)
    assert (listed == ~(second - best > gaps))[is_clear].all(), "the list"
    mine = within[found["row"]]
    off = np.abs(found["best"][mine] - best[found["row"]][mine])
    assert (off <= fine[found["row"]][mine]).all(), "scores of the list"
    np.testing.assert_allclose(found["gap"][mine], gaps[found["row"]][mine], rtol=1e-5)
    is_finite = np.isfinite(p.X).all(axis=1)
    expected = naive.labels(p.X[is_finite], p.C)
    support.assert_same_array(labels[is_finite & ~listed], expected[~listed[is_finite]], "certified labels")
    support.assert_same_array(p.recheck()[is_finite], expected, "labels after the recheck")


def of_group(p: Pass, x: Any, norms: Any, labels: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score of each label, the least of the others in its group, and by what two scores in float32 may be off."""
    const, linear, quadratic = p.centers.bound.get().astype(np.float64)
    fine = const + norms * (linear + quadratic * norms)
    scores = p.centers.half.get()[: p.k] - x @ p.centers.scores_of.get()[: p.k, : p.d].T.astype(np.float64)
    scores[group_of(np.arange(p.k)) != group_of(labels)[:, None]] = np.inf
    best = scores[np.arange(len(x)), labels].copy()
    scores[np.arange(len(x)), labels] = np.inf
    return best, scores.min(axis=1), fine


def rows_and_centers(n: int, d: int, k: int, dtype: str, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows as they come, between two centers, at the end far away, infinite, NaN; equal centers, one at the shift."""
    X, C, _ = problem(max(n, k), d, k, dtype, kind)
    X = X[:n]
    if k > 4:
        half = C[: k // 2]
        C = np.concatenate([half, np.zeros((k % 2, d), dtype), -half])  # their mean is 0
        C[1] = C[0]
        C[-2] = C[-1]
    X[:1] *= 4  # the largest of its block
    strange = np.zeros((2, d), dtype)
    strange[:, d // 2] = np.nan, np.inf
    aside = between(C, 15, dtype) if k > 1 else X[:0]
    return np.concatenate([X, aside, X[:2] * 2.0**17, X[:2] * 2.0**36, strange]).astype(dtype), C


def check(
    kind: str,
    n: int,
    d: int,
    k: int,
    dtype: str,
    data: str,
    *,
    card: Any = LARGE,
    models: Any = (0, 1, 2),
    scale: float = 1,
    is_grouped: bool = False,
) -> Pass:
    """One pass: packed centers, then the labels in each model of rounding; shared memory without conflicts."""
    X, C = rows_and_centers(n, d, k, dtype, data)
    if is_grouped:
        X = np.concatenate([between_members(C), X])
    p = Pass(X * X.dtype.type(scale), C * C.dtype.type(scale), kind, card, is_grouped=is_grouped)
    p.pack()
    assert_packed(p.stage, p.centers)
    for model in models:
        assert_pass(p, model)
    conflicts = library_of(p.pass_launch.kernel, p.pass_launch.shared).bank_conflicts()  # counted in checked mode
    assert conflicts in (None, 1), f"bank conflicts {conflicts}"
    return p


def check_tensor() -> None:
    """Many tiles and more than a block of rows, in both forms of keys, two types and sizes of a row.

    Of some rows B is one that is passed over.
    """
    check("bf16", 84, 61, 150, "f4", "noise", card=OFFSET, models=(0, 2), scale=0.03)
    check("tf32", 37, 13, 70, "f8", "offset", models=(1,))


def check_tensor_types() -> None:
    """Every type and size of a row; one row, one center, one feature.

    Of some open rows B is the one behind that which is passed over; of others it were half, but for the half norms.
    """
    check("fp16", 40, 32, 37, "f4", "noise", card=OFFSET, scale=0.09)
    check("fp16", 5, 33, 33, "f8", "wide", card=SMALL)
    check("bf16", 70, 128, 40, "f4", "noise", card=OFFSET, models=(1,), scale=0.872)
    check("bf16", 70, 250, 131, "f8", "noise", models=(2,))
    check("tf32", 70, 31, 64, "f4", "wide", card=SMALL, models=(0,))
    check("tf32", 40, 64, 65, "f4", "ties", models=(1,))
    check("tf32", 70, 101, 33, "f4", "noise", models=(2,))
    check("bf16", 1, 1, 1, "f4", "noise", card=OFFSET)
    check("fp16", 9, 2, 5, "f4", "subnormal", card=OFFSET)


def between_members(C: Any) -> Any:
    """Rows halfway between two centers of a group, and at the last center, which may be alone in its group."""
    first = np.array([c for c in range(2, len(C) - 9, 5) if c % 16 < 8], int)
    others = first ^ np.array([1, 8, 9])[np.arange(len(first)) % 3]
    return np.concatenate([(C[first] + C[others]) / 2, C[-1:]]).astype(C.dtype)


def check_tensor_groups() -> None:
    """Keys of four centers, scored again in float32: few features and many, tiles that are not full, one center."""
    for n, d, k, dtype, data, model in (
        (70, 29, 70, "f4", "noise", 0),
        (50, 18, 37, "f8", "offset", 2),
        (20, 13, 37, "f4", "ties", 1),
        (5, 5, 40, "f4", "noise", 0),
        (1, 1, 1, "f4", "noise", 0),
    ):
        check("bf16", n, d, k, dtype, data, card=OFFSET, is_grouped=True, models=(model,))


def check_tensor_wide() -> None:
    """Rows that registers do not hold: a block that takes two tiles of them, two blocks; several tiles of centers."""
    p = check("bf16", 70, 261, 70, "f4", "noise", models=(2,))
    check("tf32", 5, 133, 70, "f8", "noise", card=_launch.Card(86, 2, 99 << 10, 256), models=(1,))
    labels, found = p.assign(0, halted=on_card([1], np.int32))
    assert (labels == -7).all(), "halted"
    assert len(found) == 0, "halted"


def bound_of(norm: float, config: Any, terms: Any, certify: bool = True) -> list[float]:
    """The bound of the pass that one center 0 gets where the largest norm is given."""
    stage = np.array([(*terms, KINDS.index(config.kind), config.row_bytes, 8, certify)], _cuda_stages.PACKING)
    memory, cmax = on_card(np.zeros(2 * config.row_bytes + 22, np.float32)), on_card([0, 7], np.uint32)
    cmax.set(np.array([np.float32(norm).view(np.uint32), 7], np.uint32))
    scores = (on_card([0], np.float32), on_card(np.zeros((1, 8)), np.float32), on_card([0], np.float32))
    chains = (on_card([0], np.uint64), on_card([-1], np.int32), on_card([0], np.int32), cmax)
    rest = (0.0, 0.0, 0.0, 1, on_card(np.zeros(3), np.float32), on_card([0], np.uint32))
    args = (*scores, *chains, *rest, memory, on_card(stage.view(np.uint8)), 1, 8, 1)
    launch("publish_centers<float>", 1, _launch.TILES.recenter_threads, on_card([0], np.float32), *args)
    return memory.get()[-6:]


def check_pack() -> None:
    """The bound at every size of centers; all rows certified without one; a loop that has stopped."""
    sizes = [10.0**p for p in range(-36, 16)] + [2.0**15, 2.0**15 * 1.0001, 2.0**55, 2.0**55 * 1.0001, np.inf, np.nan]
    for kind in KINDS:
        X, C = rows_and_centers(20, 21, 37, "f4", "noise")
        p = Pass(X, C, kind, OFFSET, certify=False)
        for i, size in enumerate(sizes):
            terms = exact.tensor_terms(i + 1, kind, p.config.index_bits, is_offset=True)
            assert_bound(bound_of(size, p.config, terms), i + 1, float(np.float32(size)), p.config)
        alone = ([4.5, 0, 0, 0], [0, 3, 0, 0], [9, 0, 1, 0], [4, 1, 0, 0], [4, 1, 0, 0], [0, 0, 0, 1])  # of a term
        for term, bound in enumerate(alone):
            values = [1.0 * (i == term) for i in range(6)]
            assert bound_of(3.0, p.config, [*values[:5], 9.0, values[5]])[:4].tolist() == bound
        p.pack()
        assert p.stage.bound.get()[:4].tolist() == [-np.inf, 0, 0, 0]
        _, found = p.assign(0)
        finite = np.isfinite(X[found["row"]]).all(axis=1) & (kind != "fp16")
        assert not finite.any(), "rows of the list"
        labels, found = p.assign(0, halted=on_card([1], np.int32))
        assert (labels == -7).all(), "halted"
        assert len(found) == 0, "halted"
        p = Pass(X, C * np.float32(2.0**56), kind, OFFSET)
        p.pack()
        assert p.stage.bound.get().tolist() == [np.inf, 0, 0, 0, 0, 0]
        assert len(p.assign(0)[1]) == len(X)
