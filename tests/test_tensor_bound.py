"""Attacks on the error bound of the tensor pass (exact.tensor_bound), on the pass as tests/tensor_scores.py has it.

As in test_bound.py: an attack gives no wrong label with the bound as it is, and only wrong ones without the share of it
that the attack is made for, which is left out alone.
"""

from typing import NamedTuple

import numpy as np
import pytest
import support
from hypothesis import given, settings
from hypothesis import strategies as st
from tensor_scores import KINDS, MODELS, accumulate, fast_pass, grouped_pass, in_type, keys

import naive
from gpukmeans import exact

ROWS = 128


class Attack(NamedTuple):
    X: np.ndarray
    centers: np.ndarray
    kind: str
    model: int
    index_bits: int = 4
    is_offset: bool = False
    is_grouped: bool = False

    def n_wrong(self, *, of_group: bool = True) -> int:
        """Rows with a wrong label that is certified; not `of_group`: without a look at the others of its group."""
        norm, form = largest_norm(self.centers), (self.kind, self.index_bits)
        offset = binade_of(self.X, norm, *form) if self.is_offset else None
        bound = exact.tensor_bound(self.X.shape[1], norm, *form, offset=offset)
        offsets = None if offset is None else np.full(len(self.X), offset, np.float32)
        if self.is_grouped:
            bound = exact.grouped_bound(exact.score_bound(self.X.shape[1], norm), bound)
            found = grouped_pass(self.X, self.centers, self.kind, self.model, self.index_bits, offsets)
            best, next_best, second, labels = found
            second = np.minimum(second, next_best) if of_group else second
        else:
            best, second, labels = fast_pass(self.X, self.centers, self.kind, self.model, self.index_bits, offsets)
        certified = second - best > gaps(self.X, bound)
        return int((certified & (labels != naive.labels(self.X, self.centers))).sum())


def largest_norm(centers):
    return float(np.sqrt((centers.astype(np.float64) ** 2).sum(axis=1)).max()) * 1.0000002


def binade_of(X, norm, kind, index_bits):
    """B of rows that are offset together."""
    size, with_norm = exact.offset_size(X.shape[1], norm, kind)
    return exact.binade(size + with_norm * float(np.sqrt((X.astype(np.float64) ** 2).sum(axis=1).max())), index_bits)


def gaps(X, bound):
    """2 E of each row, in float32."""
    norms = np.sqrt((X.astype(np.float32) ** 2).sum(axis=1, dtype=np.float32))
    const, linear, quadratic = np.array(bound, np.float32)
    return const + norms * (linear + quadratic * norms)


def weaken(monkeypatch, without, factor=0.0):
    """Scale one share of the bound."""
    shares = exact._tensor_shares

    def weaker(*args):
        kept = shares(*args)
        return {**kept, without: factor * kept[without]}

    monkeypatch.setattr(exact, "_tensor_shares", weaker)


def opposite_centers(x, p, share, error):
    """Center 0 at p and 1 at -p, so that errors of x and p add; the last feature, where x is 0, makes up for x.p.

    Center 0 is nearer by `share` of `error`, which the pass is to lose.
    """
    x, p = np.float32(x), np.float32(p)
    pair = np.zeros((2, len(p) + 1), np.float32)
    pair[:, :-1] = p, -p
    pair[0, -1] = np.sqrt(2 * (2 * (x.astype(np.float64) @ p) - share * error))
    X = np.zeros((ROWS, len(x) + 1), np.float32)
    X[:, :-1] = x
    return X, pair


def rounding_attack(kind, model):
    """Values just below the middle between two of the type; rows near to the shift, so that half norms are alike."""
    unit = exact.TENSOR_TYPES[kind].unit
    x, p = np.full((2, 16), 1 + 0.98 * unit) * [[2.0**-5], [1]]
    return Attack(*opposite_centers(x, p, 0.02, 4 * unit * (x @ p)), kind, model)


def small_rows_attack(model):
    """Rows below half of the smallest number of fp16: nothing is left of them."""
    x, p = np.full(16, 0.98 * 2.0**-25), np.full(16, 2.0**-12)
    return Attack(*opposite_centers(x, p, 0.02, 2 * (x @ p)), "fp16", model)


def small_centers_attack(model):
    """The same of centers."""
    x, p = np.full(16, 2.0**-15), np.full(16, 0.98 * 2.0**-25)
    return Attack(*opposite_centers(x, p, 0.02, 2 * (x @ p)), "fp16", model)


def truncation_attack(kind, model, d=126, q=2.0**-4, unit=2.0**-23, *, share=0.96, is_offset=False):
    """Products add not quite a unit in the last place each to center 1's half norm and are lost; center 0 has none.

    Where the cores round once, all products of an instruction add not quite half a unit.
    """
    together = {0: 16 if kind == "tf32" else 32, 1: 1, 2: 1}[model]
    step = 31 / 32 * unit / together  # 0.97 of a unit in the last place of 1, and in every type q times a value
    lost = d * step
    X, pair = np.zeros((ROWS, d + 1), np.float32), np.zeros((2, d + 1), np.float32)
    X[:, :-1], pair[1, :-1] = step / q, -q
    pair[:, -1] = np.sqrt(2 * (1 + 2.0**-20 + np.array([share * lost, -q * q * d / 2])))
    return Attack(X, pair, kind, model, 3, is_offset)


def offset_attack(kind, model):
    """The same where scores are offset by 1.5 B = 6, so that a unit is 2^-21 and 4 times as much is lost."""
    sizes = {"d": 1000, "q": 2.0**-7, "share": 0.7} if model == 0 else {}
    return truncation_attack(kind, model, unit=2.0**-21, is_offset=True, **sizes)


def apart(attack):
    """The same where groups of centers share a key, the two in groups of their own."""
    return attack._replace(centers=attack.centers[[0, 0, 1]], is_offset=True, is_grouped=True)


def vanishing_attack(kind, d=126, q=2.0**-4):
    """As `offset_attack`, but what is lost would make center 0 the nearer one: its score is too high.

    Where groups share a key that is the one way: a score that is too low is made again. Products that vanish are those
    of aligned blocks; where each sum is truncated, no score of offset numbers is too high.
    """
    step = 31 / 32 * 2.0**-21
    lost = d * step
    X, pair = np.zeros((ROWS, d + 1), np.float32), np.zeros((2, d + 1), np.float32)
    X[:, :-1], pair[0, :-1] = step / q, q
    pair[:, -1] = np.sqrt(2 * (1 + 2.0**-20 + np.array([0.9 * lost - q * q * d / 2, 0])))
    return apart(Attack(X, pair, kind, 2, 3))


def twins_attack(kind):
    """Two centers so near each other that float32 does not tell them apart, in one group."""
    rng = np.random.default_rng(0)
    near = rng.normal(size=(1, 8)).astype(np.float32)
    pair = np.concatenate([near, near + np.float32(2.0**-20)])
    X = (near + 2.0**-5 * rng.normal(size=(ROWS, 8))).astype(np.float32)
    return Attack(X, np.concatenate([pair, -pair]), kind, 0, 3, is_offset=True, is_grouped=True)


def index_attack(kind, model, index_bits=5):
    """Two scores one unit in the last place apart, in the wrong order by their rounding; the index widens the gap.

    Of two scores the lower one has only ones in its low bits and index 0, the other zeros and the largest index. Found
    among centers near (-1/2, a) and (1/2, a), whose half norms are just above 1/2.
    """
    unit, steps = exact.TENSOR_TYPES[kind].unit, np.arange(-300, 300) * 2.0**-24
    # v and x will be rounded down
    v, x, a = 0.5 * (1 + 0.98 * unit), 2.0**-23 / unit * (1 + 0.98 * unit), np.sqrt(0.75) + 2.0**-10
    X = np.zeros((ROWS, 2), np.float32)
    X[:, 0] = x
    near, far = (np.stack([np.full(600, s * v), a + s * x * v / a + steps], axis=1).astype(np.float32) for s in (1, -1))
    found = []
    for c, index in ((far, 0), (near, (1 << index_bits) - 1)):
        half = ((c.astype(np.float64) ** 2).sum(axis=1) / 2).astype(np.float32)
        scores = accumulate(half[None], -in_type(X[:1], kind), in_type(c, kind).T, kind, model)[0]
        key = scores.view(np.uint32) & ~np.uint32((1 << index_bits) - 1) | np.uint32(index)
        found.append((naive.distances(X[:1], c)[0], key.view(np.float32)))
    (D_far, key_far), (D_near, key_near) = found
    gap = np.where(D_near < D_far[:, None], key_near - key_far[:, None], -1)
    a, b = np.unravel_index(gap.argmax(), gap.shape)
    centers = np.repeat(far[a][None], 4 << index_bits, axis=0)  # equal centers are hidden, all but the first
    centers[-1] = near[b]
    return Attack(X, centers, kind, model, index_bits)


SMALL = (small_rows_attack, small_centers_attack)
# The share of the bound that an attack is made for, the part of it that still gives wrong labels, and the attack.
CASES = [
    *(pytest.param("rounding", 0.7, rounding_attack(t, m), id=f"rounding-{t}-{m}") for t in KINDS for m in MODELS),
    *(pytest.param("least", 0.7, make(m), id=f"{make.__name__}-{m}") for make in SMALL for m in MODELS),
    *(pytest.param("chain", 0.2, truncation_attack(t, m), id=f"chain-{t}-{m}") for t in KINDS for m in (1, 2)),
    *(pytest.param("chain", 0.2, truncation_attack(t, 1, 2000, 2.0**-6), id=f"long-chain-{t}") for t in KINDS),
    *(pytest.param("index", 0.5, index_attack(t, m), id=f"index-{t}-{m}") for t in KINDS for m in MODELS),
    *(pytest.param("offset", 0.2, offset_attack(t, m), id=f"offset-{t}-{m}") for t in KINDS for m in (1, 2)),
    *(pytest.param("offset", 0.002, offset_attack(t, 0), id=f"offset-{t}-0") for t in KINDS),
    *(pytest.param("rounding", 0.5, apart(rounding_attack(t, 0)), id=f"grouped-rounding-{t}") for t in KINDS),
    *(pytest.param("offset", 0.3, vanishing_attack(t), id=f"grouped-offset-{t}") for t in KINDS),
]


@pytest.mark.parametrize(("share", "part", "attack"), CASES)
def test_no_attack_gives_a_wrong_label(share, part, attack):
    assert attack.n_wrong() == 0


@pytest.mark.parametrize(("share", "part", "attack"), CASES)
def test_without_its_share_of_the_bound_the_attack_gives_wrong_labels(monkeypatch, share, part, attack):
    weaken(monkeypatch, share)
    assert attack.n_wrong() == ROWS


@pytest.mark.parametrize(("share", "part", "attack"), CASES)
def test_with_a_part_of_its_share_the_attack_gives_wrong_labels(monkeypatch, share, part, attack):
    weaken(monkeypatch, share, part)
    assert attack.n_wrong() == ROWS


@pytest.mark.parametrize("kind", KINDS)
def test_without_the_others_of_its_group_a_label_is_wrong(kind):
    attack = twins_attack(kind)
    assert attack.n_wrong() == 0
    assert attack.n_wrong(of_group=False) > ROWS / 10


def test_every_share_of_the_bound_is_attacked():
    shares = [exact._tensor_shares(8, "fp16", 4, is_offset) for is_offset in (False, True)]
    assert {case.values[0] for case in CASES} == {name for named in shares for name, share in named.items() if share}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [1, 2, 3, 7, 16, 100, 256, 257, 4096])
def test_the_bound_is_nowhere_below_that_of_the_float32_pass(kind, d):
    """So a recheck in float32 finds the winner among the centers within 2 E of the best score of this pass."""
    for norm in (0.0, 1e-10, 1.0, 3e4):
        for chain in (None, exact.CHAIN):
            plain, tensor = exact.score_bound(d, norm, chain=chain), exact.tensor_bound(d, norm, kind, 3)
            assert all(t >= p for t, p in zip(tensor, plain, strict=True))
            size, with_norm = exact.offset_size(d, norm, kind)
            for length in (0.0, norm / 100, 100 * norm):
                B = 2 * (size + with_norm * length)  # the least that it may be
                tensor = exact.tensor_bound(d, norm, kind, 3, offset=B)
                of_row = [b.const + length * (b.linear + b.quadratic * length) for b in (plain, tensor)]
                assert of_row[0] <= of_row[1]


@pytest.mark.parametrize("index_bits", [3, 4, 5])
def test_offset_scores_lie_in_one_binade_and_their_keys_below_that_of_an_infinity(index_bits):
    infinity = keys(np.array([[np.inf]], np.float32), index_bits, is_offset=True)[0, 0]
    for exponent in range(-140, 120):
        for size in (2.0**exponent, 1.99 * 2.0**exponent, 0.0):
            B = exact.binade(size, index_bits)
            assert np.float32(B) == B
            assert 2 * size < B <= max(8 * size, 2.0**-123)
            ends = np.array([[1.5 * B - size, 1.5 * B + size, np.inf]], np.float32)
            assert B <= ends[0, 0] <= ends[0, 1] < 2 * B
            low, high, hidden = keys(ends, index_bits, is_offset=True)[0]
            assert low <= high < infinity <= hidden


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_certified_where_values_may_overflow(kind):
    largest = exact.TENSOR_TYPES[kind].largest
    assert np.isfinite(exact.tensor_bound(8, largest, kind, 4)).all()
    for norm in (largest * 1.001, np.inf, np.nan):
        assert exact.tensor_bound(8, norm, kind, 4) == (np.inf, 0, 0)
    assert np.isfinite(in_type(np.array([largest * 1.9], np.float32), kind)).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    d=st.integers(1, 70),
    k=st.integers(1, 150),
    spread=st.sampled_from([0, 3, 14]),
    power=st.sampled_from([-70, -12, 0, 9]),
    nearness=st.sampled_from([0.0, 2.0**-13, 2.0**-9, 1.0]),
    index_bits=st.sampled_from([3, 4, 5]),
    is_offset=st.booleans(),
)
def test_scores_are_within_the_bound_and_certified_labels_are_right(
    kind, model, seed, d, k, spread, power, nearness, index_bits, is_offset
):
    assert_within_the_bound(kind, model, seed, d, k, spread, power, nearness, index_bits, is_offset)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("d", [256, 257, 300, 768, 1000, 4096])
def test_so_they_are_for_long_rows(kind, model, d):
    for nearness in (2.0**-12, 2.0**-7):
        assert_within_the_bound(kind, model, d, d, 10, 3, 0, nearness, 4, d == 256)


def assert_within_the_bound(kind, model, seed, d, k, spread, power, nearness, index_bits, is_offset):
    rng = np.random.default_rng(seed)
    centers = (rng.normal(size=(k, d)) * 2.0 ** (power + rng.integers(-spread, spread + 1, (k, d)))).astype(np.float32)
    a, b = rng.integers(0, k, (2, 60))
    t = 0.5 + nearness * rng.normal(size=(60, 1))  # rows about halfway between two centers
    X = (t * centers[a] + (1 - t) * centers[b]).astype(np.float32)
    X = X[np.linalg.norm(X.astype(np.float64), axis=1) <= exact.TENSOR_TYPES[kind].largest]  # others are left open
    norm = largest_norm(centers)
    bound = exact.tensor_bound(d, norm, kind, index_bits, offset=0.0 if is_offset else None)
    if kind == "fp16" and not norm <= 2.0**15:
        assert bound.const == np.inf
        return
    gap, offsets = gaps(X, bound), None
    if is_offset:
        blocks = [binade_of(X[i : i + 20], norm, kind, index_bits) for i in range(0, len(X), 20)]
        offsets = np.repeat(blocks, 20)[: len(X)].astype(np.float32)
        gap += np.float32(exact.tensor_terms(d, kind, index_bits, is_offset=True).offset) * offsets
    if is_offset:
        fine = exact.score_bound(d, norm)
        half_gap = (gap + gaps(X, fine)) / 2
        best, next_best, second, labels = grouped_pass(X, centers, kind, model, index_bits, offsets)
        certified = np.minimum(next_best, second) - best > half_gap
        support.assert_same_array(labels[certified], naive.labels(X, centers)[certified].astype(labels.dtype))
    best, second, labels = fast_pass(X, centers, kind, model, index_bits, offsets)
    certified = second - best > gap
    support.assert_same_array(labels[certified], naive.labels(X, centers)[certified].astype(labels.dtype))
    x, c = X.astype(np.float64), centers.astype(np.float64)
    scores = np.sort((c * c).sum(axis=1) / 2 - x @ c.T, axis=1)
    assert (np.abs(best - scores[:, 0]) <= gap / 2).all()
    if k > 1 and len(np.unique(centers, axis=0)) == k:
        assert (np.abs(second - scores[:, 1]) <= gap / 2).all()
