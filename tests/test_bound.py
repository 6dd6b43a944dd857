"""Attacks on the error bound of the fast pass: data made to be labelled wrongly, if that could be done.

Each attack on a term is run three times: as it is (no wrong label), with all of the bound halved and with that term
left out. The last two must give wrong labels, or the attack proves nothing.

The fast pass subtracts the mean of the centers. The attacks need that shift to be exactly 0, so the centers come with
mirrored ones or with dummies that no row is near to.
"""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpukmeans
import naive
from gpukmeans import exact

U = 2.0**-24  # half an ulp of a float32 in [1, 2)
JUST_ABOVE_1 = 1 + 3e-6
ROWS = 256


class Attack(NamedTuple):
    X: np.ndarray
    centers: np.ndarray

    def n_wrong(self, backend: str) -> int:
        """Wrong labels that predict gives, for a model of just these centers that scales nothing."""
        model = gpukmeans.KMeans(1, max_iter=1, backend=backend).fit(np.ones((1, self.X.shape[1])))
        model.cluster_centers_ = self.centers
        return int((model.predict(self.X) != naive.labels(self.X, self.centers)).sum())


def weaken(monkeypatch, factor=1.0, without=()):
    """Scale the whole bound, or leave terms out."""
    terms = exact.bound_terms

    def weaker_terms(*args, **options):
        kept = terms(*args, **options)
        return exact.BoundTerms(*(factor * value for value in kept._replace(**dict.fromkeys(without, 0.0))))

    monkeypatch.setattr(exact, "bound_terms", weaker_terms)


def score_in_chains(monkeypatch):
    """Keep the CPU from adding up lane by lane: most attacks are made for the longer chain of features."""
    from gpukmeans.backends import _cpu_centers

    monkeypatch.setattr(_cpu_centers, "features_in_lanes", lambda n_features, n_clusters: False)


def chain_positions(n_features):
    """Features after the first whose roundings all meet the large partial sum; see exact.CHAIN."""
    if n_features <= 2 * exact.CHAIN:
        return np.arange(1, n_features)
    return np.concatenate([np.arange(1, exact.CHAIN), np.arange(exact.CHAIN, n_features, exact.CHAIN)])


def lane_positions(n_features):
    """Features that are added up in the lane of the first one, where the features lie in the lanes."""
    from gpukmeans.backends._layout import LANES

    return np.arange(LANES, n_features, LANES)


def product_attack(n_features, share, positions=None):
    """Every rounding of x'.c' goes the wrong way: one large product, then products just below half an ulp.

    Center 1 is nearer than center 0 by (1 - share) of what its small products are worth; the pass loses them all.
    """
    positions = chain_positions(n_features) if positions is None else positions
    far, t = 8.0, np.float32(2.0**-10)
    q = np.float32(0.98 * U / t)
    gap = share * 2 * len(positions) * 0.98 * U
    a = np.float32(far - np.sqrt(far * far - 2 * (JUST_ABOVE_1 + gap)))  # both far * a - a^2 / 2 are just above 1
    X = np.zeros((ROWS, n_features), np.float32)
    X[:, positions], X[:, 0] = t, far
    pair = np.zeros((2, n_features), np.float32)
    pair[0, positions], pair[1, positions] = -q, q
    pair[:, 0] = a, a - np.float32(gap / (far - a))
    return Attack(X, np.concatenate([pair, -pair]))


def half_norm_attack(n_features, share):
    """The same with the large number in |c'|^2 / 2: rows near the mean, centers far from it."""
    positions = np.arange(1, n_features - 1)
    q = np.float32(2.0**-14)
    t = np.float32(0.98 * U / q)
    a = np.float32(np.sqrt(2 * JUST_ABOVE_1))
    gap = share * 2 * len(positions) * 0.98 * U
    X = np.zeros((ROWS, n_features), np.float32)
    X[:, positions] = t
    pair = np.zeros((2, n_features), np.float32)
    pair[0, positions], pair[1, positions] = -q, q
    pair[:, 0] = -a, -(a + np.float32(gap / a))
    dummies = np.zeros((2, n_features), np.float32)  # a little farther out, on the other side
    dummies[:, 0], dummies[:, -1] = -pair[:, 0], (0.03, -0.03)
    return Attack(X, np.concatenate([pair, dummies]))


def equal_distances_attack():
    """Centers so near each other that D calls them equal (label 0), though their scores differ."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 8)).astype(np.float32)
    half = rng.normal(size=(5, 8)).astype(np.float32) * np.float32(1e-20)
    return Attack(X, np.concatenate([half, -half]))


def underflow_attack():
    """Products of about 2^-150, as in a data set that has one large row (so that nothing is scaled)."""
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(3000, 64)) * 2.0**-75).astype(np.float32)
    half = (rng.normal(size=(8, 64)) * 2.0**-75).astype(np.float32)
    return Attack(X, np.concatenate([half, -half]))


PRODUCT = [(16, 0.9)] + [(d, 0.75) for d in (32, 128, 256, 300, 512, 784)]
HALF_NORM = [(16, 0.9)] + [(d, 0.75) for d in (32, 128, 256)]

# For each term of the bound: attacks that only it holds off.
TERMS = {
    "chain_product": [product_attack(d, share) for d, share in PRODUCT],
    "chain_half_norm": [half_norm_attack(d, share) for d, share in HALF_NORM],
    "canonical_quadratic": [equal_distances_attack()],
    "tiny": [underflow_attack()],
}
CASES = [
    pytest.param(term, attack, id=f"{term}-{attack.X.shape[1]}") for term, list_ in TERMS.items() for attack in list_
]


@pytest.mark.parametrize(("term", "attack"), CASES)
def test_the_shift_of_the_attacks_is_zero(term, attack):
    assert (attack.centers.astype(float).mean(axis=0) == 0).all()


@pytest.mark.parametrize(("term", "attack"), CASES)
def test_no_attack_gives_a_wrong_label(backend, term, attack):
    assert attack.n_wrong(backend) == 0


@pytest.mark.parametrize(("term", "attack"), CASES)
def test_without_its_term_the_attack_gives_wrong_labels(numba_backend, monkeypatch, term, attack):
    score_in_chains(monkeypatch)
    weaken(monkeypatch, without=[term])
    assert attack.n_wrong(numba_backend) > 100


@pytest.mark.parametrize(("term", "attack"), [case for case in CASES if "chain" in case.values[0]])
def test_with_half_the_bound_the_attack_gives_wrong_labels(numba_backend, monkeypatch, term, attack):
    score_in_chains(monkeypatch)
    weaken(monkeypatch, factor=0.5)
    assert attack.n_wrong(numba_backend) > 100


@pytest.mark.parametrize("n_features", [128, 256, 300, 784])
def test_with_seven_tenths_of_the_bound_long_chains_give_wrong_labels(numba_backend, monkeypatch, n_features):
    score_in_chains(monkeypatch)
    weaken(monkeypatch, factor=0.7)
    assert product_attack(n_features, 0.85).n_wrong(numba_backend) > 100


@pytest.mark.parametrize("n_features", [1568, 3000])
def test_with_seven_tenths_of_the_bound_long_lanes_give_wrong_labels(numba_backend, monkeypatch, n_features):
    attack = product_attack(n_features, 0.9, lane_positions(n_features))
    assert attack.n_wrong(numba_backend) == 0
    weaken(monkeypatch, factor=0.7)
    assert attack.n_wrong(numba_backend) > 100


def test_the_constant_part_of_the_rounding_of_d_is_far_below_what_an_attack_could_show():
    # The rounding of D adds 2 (d + 3) 2^-53 cmax^2 to a term of r 2^-24 cmax^2: no data can tell, so none is made.
    for n_features in (1, 8, 256, 784):
        terms = exact.bound_terms(n_features)
        assert set(terms._fields) == TERMS.keys() | {"canonical_const"}
        assert 0 < terms.canonical_const < 2.0**-26 * terms.chain_half_norm


@pytest.mark.parametrize("n_features", [1, 2, 8, 64, 128, 256, 257, 300, 512, 784])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.99, 1.01])
def test_no_share_of_the_worst_case_gives_a_wrong_label(backend, n_features, share):
    for attack in (product_attack, half_norm_attack):
        if n_features > 2:
            assert attack(n_features, share).n_wrong(backend) == 0


# ---------------------------------------------------------------------------------------------- other attacks


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    d=st.one_of(st.integers(1, 64), st.sampled_from([300, 512])),
    k=st.integers(2, 40),
    dtype=st.sampled_from(["f4", "f8"]),
    spread=st.sampled_from([1e-3, 1.0, 1e3]),
    offset=st.sampled_from([0.0, 1e3, 1e6]),
    reach=st.sampled_from([0.0, 1e-2, 1.0, 1e2, 1e5]),
    ulps=st.integers(0, 3),
)
def test_rows_halfway_between_two_centers_get_the_right_label(backend, seed, d, k, dtype, spread, offset, reach, ulps):
    rng = np.random.default_rng(seed)
    n = 400
    centers = rng.normal(size=(k, d)) * spread + offset
    i, j = rng.integers(0, k, (2, n))
    apart = centers[i] - centers[j]
    length = (apart * apart).sum(axis=1, keepdims=True)
    aside = rng.normal(size=(n, d)) * np.abs(centers - centers.mean(axis=0)).max() * reach
    aside -= (aside * apart).sum(axis=1, keepdims=True) / np.where(length == 0, 1, length) * apart
    X = ((centers[i] + centers[j]) / 2 + aside).astype(dtype)
    for _ in range(ulps):
        X = np.nextafter(X, X + rng.choice([-1, 0, 1], X.shape).astype(dtype) * np.abs(X)).astype(dtype)
    assert Attack(X, centers.astype(dtype)).n_wrong(backend) == 0


def halfway_attack(dtype):
    """Rows in the middle between two centers, up to rounding."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(2, 20)).astype(dtype)
    apart = (centers[0] - centers[1]).astype(float)
    aside = rng.normal(size=(3000, 20))
    aside -= np.outer(aside @ apart, apart) / (apart @ apart)
    return Attack((centers.astype(float).mean(axis=0) + aside).astype(dtype), centers)


def test_rows_in_the_middle_get_the_right_label_only_because_of_the_bound(backend, monkeypatch):
    attack = halfway_attack("f8")
    assert attack.n_wrong(backend) == 0
    weaken(monkeypatch, factor=2.0**-10)
    assert attack.n_wrong(backend) > 100


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    d=st.sampled_from([1, 2, 8, 40, 300]),
    k=st.integers(2, 30),
    closeness=st.sampled_from([1e-20, 1e-16, 1e-12, 1e-8, 1e-4]),
    dtype=st.sampled_from(["f4", "f8"]),
)
def test_nearly_equal_centers_far_from_the_rows_give_the_right_label(backend, seed, d, k, closeness, dtype):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(400, d)).astype(dtype)
    middle = rng.choice([0.0, 1.0, 3.0], (1, d))
    centers = (middle + rng.normal(size=(k, d)) * closeness).astype(dtype)
    assert Attack(X, centers).n_wrong(backend) == 0


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    d=st.sampled_from([1, 2, 8, 40, 300]),
    k=st.integers(2, 30),
    nearness=st.sampled_from([1e-8, 1e-5, 1e-3]),
    dtype=st.sampled_from(["f4", "f8"]),
)
def test_rows_near_the_mean_of_far_centers_get_the_right_label(backend, seed, d, k, nearness, dtype):
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(k, d))
    directions /= np.sqrt((directions * directions).sum(axis=1, keepdims=True))
    centers = np.concatenate([directions, -directions]).astype(dtype)
    X = (rng.normal(size=(400, d)) * nearness).astype(dtype)
    assert Attack(X, centers).n_wrong(backend) == 0


@pytest.mark.parametrize("scale", [1e-30, 1e-26, 1e-22, 1e-18, 1e-14, 1e-10, 1e10, 1e15, 1e17, 1e18, 1e19])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_very_small_and_very_large_data_gets_the_right_label(backend, scale, dtype):
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(500, 5)) * scale).astype(dtype)
    centers = (rng.normal(size=(9, 5)) * scale).astype(dtype)
    expected = naive.predict(X, centers, naive.scale_exponent(centers))
    labels = gpukmeans.pairwise_distances_argmin(X, centers, backend=backend)
    assert (labels == expected).all()


@pytest.mark.parametrize("scale", [2.0**-30, 2.0**-60, 2.0**-70, 2.0**-73, 2.0**-76, 2.0**-100, 2.0**-140])
def test_rows_far_smaller_than_the_largest_get_the_right_label(backend, scale):
    rng = np.random.default_rng(1)
    X = (rng.normal(size=(500, 12)) * scale).astype(np.float32)
    centers = (rng.normal(size=(9, 12)) * scale).astype(np.float32)
    assert Attack(X, centers).n_wrong(backend) == 0


@pytest.mark.parametrize("power", [-530, -536, -538, -540])
def test_distances_among_the_subnormal_numbers_decide_as_they_are_rounded(backend, power):
    rng = np.random.default_rng(2)
    X = rng.normal(size=(500, 12)) * 2.0**power
    centers = rng.normal(size=(9, 12)) * 2.0**power
    assert Attack(X, centers).n_wrong(backend) == 0


def test_a_half_norm_that_overflows_is_not_taken_for_infinitely_far(backend):
    # Half norms on either side of the largest float32. Center 1 has the larger one, and is the nearer.
    a = np.sqrt(2.0) * 2.0**64 * np.sqrt(1 - 2.0**-25 - 2.0**-29)
    X = np.zeros((ROWS, 3))
    X[:, 1] = 2.0**39
    pair = np.array([[a, 0, 0], [0, a * (1 + 2.0**-27), 0]])
    with np.errstate(over="ignore"):
        assert np.isfinite(np.float32(a * a / 2))
        assert np.isinf(np.float32((a * (1 + 2.0**-27)) ** 2 / 2))
    for centers in (np.concatenate([pair, -pair]), np.concatenate([pair, -pair.sum(axis=0, keepdims=True)]), pair):
        assert Attack(X, centers).n_wrong(backend) == 0


@pytest.mark.parametrize("size", [1e15, 1e18, 1e19, 3e19, 1e25, 1e38])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_centers_far_beyond_the_data_give_the_right_label(backend, size, dtype):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(500, 4)).astype(dtype)
    X[0] *= 1e11
    far = (rng.normal(size=(8, 4)) * size * 0.2).astype(dtype)
    for centers in (far, np.concatenate([far, X[:3]]), np.concatenate([X[:3], far])):
        assert Attack(X, centers).n_wrong(backend) == 0


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), d=st.integers(1, 12), k=st.integers(2, 30), dtype=st.sampled_from(["f4", "f8"]))
def test_equal_centers_give_the_lowest_index(backend, seed, d, k, dtype):
    rng = np.random.default_rng(seed)
    few = rng.normal(size=(max(1, k // 3), d)).astype(dtype)
    centers = few[rng.integers(0, len(few), k)]
    X = rng.normal(size=(300, d)).astype(dtype)
    X[:50] = centers[rng.integers(0, k, 50)]
    assert Attack(X, centers).n_wrong(backend) == 0


@pytest.mark.parametrize("d", [1, 2, 3, 6])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_centers_at_the_same_distance_from_their_mean_are_not_taken_for_equal(backend, d, dtype):
    corners = np.array(np.meshgrid(*[[-1.0, 1.0]] * d)).reshape(d, -1).T.astype(dtype)
    axes = np.concatenate([np.eye(d), -np.eye(d)]).astype(dtype)
    X = np.random.default_rng(4).normal(size=(300, d)).astype(dtype)
    for centers in (corners, axes, np.concatenate([axes, corners, axes])):
        assert Attack(X, centers).n_wrong(backend) == 0


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), d=st.integers(1, 30), k=st.integers(2, 30))
def test_entries_spread_over_many_powers_of_two_give_the_right_label(backend, seed, d, k):
    # Squares that need more than 53 bits: a fused multiply-add in the canonical distance would show.
    rng = np.random.default_rng(seed)
    spread = 2.0 ** rng.integers(-14, 15, (300, d))
    X = (rng.normal(size=(300, d)) * spread).astype(np.float32)
    centers = X[rng.integers(0, 300, k)] * (1 + rng.integers(-2, 3, (k, d)) * 2.0**-23).astype(np.float32)
    assert Attack(X, centers.astype(np.float32)).n_wrong(backend) == 0
