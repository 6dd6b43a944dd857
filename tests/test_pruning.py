"""Pruning on the CPU: it never changes a bit, its bounds hold for real numbers, its rule never loses much."""

from fractions import Fraction

import numpy as np
import problems
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from problems import Recipe
from support import assert_same_fit, quiet_fit, result_of, run

import gpukmeans
import naive

pytestmark = pytest.mark.usefixtures("numba_backend")


@pytest.fixture
def pruning(monkeypatch):
    """The module, with no problem too small for it."""
    from gpukmeans.backends import _cpu_pruning

    monkeypatch.setattr(_cpu_pruning, "SMALLEST", 1)
    return _cpu_pruning


def scripted(monkeypatch, pruning, decide):
    """Let `decide(question)` answer what the rule is asked; returns the names of the questions that were asked."""
    asked = []

    def answer(question):
        def method(self, *args):
            asked.append(question)
            return decide(question)

        return method

    for question in ("tries", "enters", "stays", "sorts_again"):
        monkeypatch.setattr(pruning.Rule, question, answer(question))
    return asked


# ---------------------------------------------------------------------------------------------- the bits


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(0, 1500, 5, 40, kind="blobs", max_iter=30),
        Recipe(1, 1500, 3, 90, kind="uniform", max_iter=30),
        Recipe(2, 1000, 40, 25, kind="noise", dtype="f8", max_iter=20),
        Recipe(3, 1200, 2, 30, kind="grid", max_iter=20),
        Recipe(4, 1200, 17, 50, kind="duplicates", start="far", weights="zeros", dtype="f8", max_iter=20),
        Recipe(5, 1500, 8, 30, kind="blobs", offset=1e6, weights="random", max_iter=30),
        Recipe(6, 700, 300, 20, kind="blobs", dtype="f8", weights="integer", max_iter=15),
        Recipe(7, 1500, 4, 130, kind="scales", max_iter=30),
        Recipe(8, 1000, 1, 60, kind="uniform", dtype="f8", offset=1e3, max_iter=40),
    ],
    ids=repr,
)
def test_a_pruned_fit_gives_the_bits_of_the_oracle(monkeypatch, pruning, recipe, n_threads):
    asked = scripted(monkeypatch, pruning, lambda question: question != "sorts_again")
    p = recipe.build()
    options = {"sample_weight": p.sample_weight, "tol": p.tol, "max_iter": p.max_iter}
    fit = run(p.X, p.centers, n_threads=n_threads, backend="numba", **options)
    assert_same_fit(fit, naive.fit(p.X, p.centers, **options))
    assert "stays" in asked or fit.n_iter < 3 or recipe.kind in ("grid", "duplicates")


@settings(max_examples=60)
@given(
    recipe=problems.recipes(dtypes=("f4", "f8"), max_n=400),
    seed=st.integers(0, 2**32 - 1),
    n_threads=st.sampled_from([1, 2]),
)
@example(recipe=Recipe(3, 200, 5, 9, start="very far", dtype="f4", scale=1e19), seed=0, n_threads=2)
@example(recipe=Recipe(2, 300, 4, 20, start="far", weights="zeros"), seed=1, n_threads=2)
def test_whatever_the_rule_says_the_bits_are_those_of_the_oracle(recipe, seed, n_threads):
    from gpukmeans.backends import _cpu_pruning

    rng = np.random.default_rng(seed)
    p = recipe.build()
    options = {"sample_weight": p.sample_weight, "tol": p.tol, "max_iter": min(p.max_iter, 15)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_cpu_pruning, "SMALLEST", 1)
        scripted(patch, _cpu_pruning, lambda question: bool(rng.random() < 0.7))
        assert_same_fit(
            run(p.X, p.centers, n_threads=n_threads, backend="numba", **options),
            naive.fit(p.X, p.centers, **options),
        )


def test_the_rule_itself_prunes_blobs_and_the_labels_are_those_of_numpy(caplog, pruning):
    X, _ = gpukmeans.datasets.make_blobs(20_000, 8, centers=60, random_state=0)
    model = gpukmeans.KMeans(60, init=X[:60], n_init=1, tol=0.0)
    with caplog.at_level("DEBUG", logger="gpukmeans"):
        quiet_fit(model.set_params(backend="numba"), X)
    assert any("pruning begins" in message for message in caplog.messages)
    pruned = result_of(model)
    assert_same_fit(pruned, result_of(quiet_fit(model.set_params(backend="numpy"), X)))


def test_equal_centers_that_part_take_their_rows_along(monkeypatch, pruning):
    """What tiles learn while two centers are equal says nothing of the one that is left out of the scores."""
    scripted(monkeypatch, pruning, lambda question: question != "sorts_again")
    near, far = np.linspace(-10, 10, 256), np.full(25_600, -1000.0)
    X = np.concatenate([near, far, [10.5, 10.5]]).astype(np.float32)[:, None]
    centers = np.array([[-1000.0], [1e6], [2e6]], dtype=np.float32)
    # the first pass leaves two clusters empty, which both go to 10.5; the second one of them, which goes to -10
    options = {"tol": 0.0, "max_iter": 4}
    expected = naive.fit(X, centers, **options)
    assert (expected.centers[1:] > -10).all()
    assert (np.bincount(expected.labels) > 50).all()  # both have rows in the end
    assert_same_fit(run(X, centers, backend="numba", **options), expected)


def test_without_exactness_nothing_is_pruned(monkeypatch, pruning):
    asked = scripted(monkeypatch, pruning, lambda question: True)
    X = np.random.default_rng(0).normal(size=(2000, 4)).astype(np.float32)
    quiet_fit(gpukmeans.KMeans(20, init=X[:20], n_init=1, backend="numba", precision="float32"), X)
    assert "stays" not in asked


# ---------------------------------------------------------------------------------------------- the bounds


def moving_centers(seed, n_steps, step):
    """Rows on a line between two centers that move along it: no bound by the triangle inequality can be tighter."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(256, 1)).astype(np.float32) * np.float32(1e-6)
    start = np.array([[-1.0], [1.5], [4.0]])
    return X, [start + i * step * np.array([[-1.0], [-1.0], [0.0]]) for i in range(n_steps)]


def labels_of_passes(pruning, X, passes):
    """Number of wrong labels over all passes of one set of tiles, and how often a tile was not read."""
    from gpukmeans.backends import _cpu_centers, _cpu_steps, get_backend

    get_backend("numba")
    labels = naive.labels(X, passes[0]).astype(np.int32)
    tiles = pruning.Tiles(labels, passes[0])
    wrong = unread = 0
    for centers in passes:
        packed = _cpu_centers.packed_groups(tiles.center_at, X.shape[1], tiles.packed, tiles.width, X.dtype)
        packed.pack(centers, "exact")
        counts = tiles.assign(X, labels, centers, packed, [_cpu_steps._NO_SUMS], keep=True)
        unread += tiles.n_tiles - int(counts[3])
        wrong += int((labels != naive.labels(X, centers)).sum())
    return wrong, unread


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("step", [2.0**-6, 2.0**-10, 0.3e-3])
def test_bounds_that_are_tight_give_no_wrong_label(pruning, seed, step):
    wrong, unread = labels_of_passes(pruning, *moving_centers(seed, int(0.5 / step) + 2, step))
    assert wrong == 0
    assert unread > 0  # or nothing was tried


def test_a_tile_that_was_read_late_is_not_read_again(pruning):
    """What the groups had moved by until then does not count against it."""
    X, (here, *_) = moving_centers(0, 1, 0.0)
    there = here + np.array([[0.0], [3.0], [3.0]])
    wrong, unread = labels_of_passes(pruning, X, [here, there] * 5 + [here] * 4)
    n_tiles = -(-len(X) // tile_size())
    assert wrong == 0
    assert unread >= 3 * n_tiles


@pytest.mark.parametrize(("share", "of_groups"), [(0.99, True), (0.0, True), (1.0, False)])
def test_without_all_of_the_drift_labels_are_wrong(monkeypatch, pruning, share, of_groups):
    whole = pruning.Tiles._drift

    def less(tiles, centers):
        drift = whole(tiles, centers)
        if not of_groups:
            tiles.moved_by = np.zeros_like(tiles.moved_by)
        return drift * np.float32(share)

    monkeypatch.setattr(pruning.Tiles, "_drift", less)
    wrong, _ = labels_of_passes(pruning, *moving_centers(0, 600, 2.0**-10))
    assert wrong > 0


def tile_of(values):
    from gpukmeans.backends._layout import TILE

    return np.resize(np.asarray(values, dtype=np.float32), TILE)


def run_bounds(best, norm, error, anchor):
    """u and the largest excess, as the vector code gives them."""
    import numba as nb

    from gpukmeans.backends import _simd_bounds

    excess = _simd_bounds.excess

    @nb.njit
    def call(best, norm, error, anchor, u):
        return excess(best.ctypes.data, norm.ctypes.data, error.ctypes.data, anchor.ctypes.data, u.ctypes.data)

    u = np.empty_like(best)
    return u, call(best, norm, error, anchor, u)


def run_slack(best, second, is_own, norm, error, u):
    """The smallest slack, as the vector code gives it."""
    import numba as nb

    from gpukmeans.backends import _simd_bounds

    slack = _simd_bounds.slack

    @nb.njit
    def call(best, second, places, labels, norm, error, u):
        return slack(
            best.ctypes.data, second.ctypes.data, places.ctypes.data, labels.ctypes.data, norm.ctypes.data,
            error.ctypes.data, u.ctypes.data,
        )  # fmt: skip

    return call(best, second, np.zeros(len(best), np.int32), np.where(is_own, 0, 1).astype(np.int32), norm, error, u)


def is_at_least_root(value, sq):
    """Whether value >= sqrt(sq), in rational numbers."""
    return Fraction(float(value)) ** 2 >= sq and value >= 0


def test_distances_and_excesses_are_rounded_up():
    rng = np.random.default_rng(0)
    norm = tile_of(rng.uniform(0.5, 2, 1000))
    best = tile_of(rng.uniform(-0.1, 0.5, 1000))
    anchor = tile_of(rng.uniform(0, 3, 1000))
    u, top = run_bounds(best, norm, tile_of([0]), anchor)
    for i in range(len(u)):
        true_sq = 2 * Fraction(float(best[i])) + Fraction(float(norm[i])) ** 2
        # the sum is rounded too: that is what `error` is for, beyond a few units in its last place
        assert is_at_least_root(u[i], true_sq)
        assert Fraction(float(top)) >= Fraction(float(u[i])) - Fraction(float(anchor[i]))
    plain = np.sqrt(np.float32(2) * best + norm * norm)  # without the margin some are below the truth
    assert any(
        not is_at_least_root(p, 2 * Fraction(float(b)) + Fraction(float(v)) ** 2)
        for p, b, v in zip(plain, best, norm, strict=True)
    )


def test_slacks_are_rounded_down():
    rng = np.random.default_rng(1)
    n = len(tile_of([0]))
    norm, u = tile_of(rng.uniform(0.5, 2, 1000)), tile_of(rng.uniform(0, 3, 1000))
    best = tile_of(rng.uniform(-0.1, 0.5, 1000))
    second = best + tile_of(rng.uniform(0, 1, 1000))
    is_own = rng.random(n) < 0.5
    low = run_slack(best, second, is_own, norm, tile_of([0]), u)
    score = np.where(is_own, second, best)
    true_sq = [2 * Fraction(float(s)) + Fraction(float(v)) ** 2 for s, v in zip(score, norm, strict=True)]
    gaps = [(Fraction(float(low)) + Fraction(float(x)), sq) for x, sq in zip(u, true_sq, strict=True)]
    assert all(bound <= 0 or bound**2 <= sq for bound, sq in gaps)
    assert min(float(sq) ** 0.5 - float(x) for sq, x in zip(true_sq, u, strict=True)) - low < 1e-5


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_score_that_is_no_number_proves_nothing(bad):
    one = tile_of([1])
    spoiled = one.copy()
    spoiled[3] = bad
    _, top = run_bounds(spoiled, one, tile_of([0]), one)
    assert top == np.inf
    assert run_slack(tile_of([np.nan]), one, np.zeros(len(one), bool), one, tile_of([0]), one) == -np.inf


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    d=st.sampled_from([1, 2, 7, 16, 40, 300]),
    spread=st.sampled_from([2.0**-38, 1e-6, 1.0, 1e6, 2.0**38]),
    offset=st.sampled_from([0.0, 1.0, 1e3]),
    dtype=st.sampled_from(["f4", "f8"]),
)
def test_the_bounds_of_real_rows_hold_for_their_true_distances(seed, d, spread, offset, dtype):
    """After one pass: anchors are no less than the distance to the own center, slacks no more than all others allow."""
    from gpukmeans.backends import _cpu_pruning

    rng = np.random.default_rng(seed)
    k, n = 30, 200
    X = ((rng.normal(size=(n, d)) + offset) * spread).astype(dtype)
    X[: n // 2] = X[0] + (X[: n // 2] * dtype_eps(dtype) * 4).astype(dtype)  # some rows on top of each other
    centers = X[rng.choice(n, k, replace=False)].astype(np.float64)
    if len(np.unique(centers, axis=0)) < k:
        return
    tiles, labels = pass_of(_cpu_pruning, X, centers)
    D = naive_roots(X[tiles.order], centers)
    own = labels[tiles.order]
    rows = np.arange(n)
    assert (tiles.anchor >= D[rows, own]).all()
    D[rows, own] = np.inf
    for g in range(tiles.n_groups):
        nearest = D[:, tiles.group_of == g].min(axis=1)
        for t in range(tiles.n_tiles):
            part = np.s_[t * tile_size() : (t + 1) * tile_size()]
            slack = float(tiles.slack[t, g])
            assert slack <= (nearest[part] - tiles.anchor[part]).min() or not np.isfinite(nearest[part]).any()


def dtype_eps(dtype):
    return np.finfo(dtype).eps


def tile_size():
    from gpukmeans.backends._layout import TILE

    return TILE


def pass_of(pruning, X, centers):
    """Tiles after one pass over X, and the labels."""
    from gpukmeans.backends import _cpu_centers, _cpu_steps

    labels = naive.labels(X, centers).astype(np.int32)
    tiles = pruning.Tiles(labels, centers)
    packed = _cpu_centers.packed_groups(tiles.center_at, X.shape[1], tiles.packed, tiles.width, X.dtype)
    packed.pack(centers, "exact")
    tiles.assign(X, labels, centers, packed, [_cpu_steps._NO_SUMS], keep=True)
    return tiles, labels


def naive_roots(X, centers):
    """Distances in extended precision."""
    difference = X[:, None, :].astype(np.longdouble) - centers[None].astype(np.longdouble)
    return np.sqrt((difference * difference).sum(axis=2))


# ---------------------------------------------------------------------------------------------- the tiles


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 3000), k=st.integers(1, 200), d=st.integers(1, 5))
def test_the_tiles_hold_every_row_once_and_the_groups_every_center(seed, n, k, d):
    from gpukmeans.backends import _cpu_pruning

    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n).astype(np.int32)
    centers = rng.normal(size=(k, d))
    tiles = _cpu_pruning.Tiles(labels, centers)
    assert sorted(tiles.order) == list(range(n))
    assert sorted(tiles.center_at) == list(range(k))
    assert (np.diff(tiles.position_of[labels[tiles.order]]) >= 0).all()
    sample = _cpu_pruning.Tiles(labels, centers, only_some=True)
    assert len(np.unique(sample.order)) == len(sample.order) <= n
    assert (sample.own == labels[sample.order]).all()


@pytest.mark.parametrize(("d", "k"), [(2, 8), (8, 1000), (32, 256), (64, 1000), (3, 20_000)])
def test_a_row_costs_sixteen_bytes_at_most(d, k):
    from gpukmeans.backends import _cpu_pruning

    n = 64_000
    rng = np.random.default_rng(0)
    tiles = _cpu_pruning.Tiles(rng.integers(0, k, n).astype(np.int32), rng.normal(size=(k, d)))
    of_rows = (tiles.order, tiles.own, tiles.common, tiles.anchor, tiles.slack, tiles.offset)
    assert sum(array.nbytes for array in of_rows) <= 16 * n


# ---------------------------------------------------------------------------------------------- the rule


def rule(d=32, k=256, groups=22, n_workers=2):
    from gpukmeans.backends._pruning_rule import Rule

    return Rule(d, k, groups, n_workers)


def test_a_trial_is_made_when_few_rows_move_and_again_when_half_as_many_do():
    r = rule()
    assert not r.tries(1.0)
    assert not r.tries(0.3)
    assert r.tries(0.2)
    assert not r.tries(0.15)
    assert r.tries(0.1)
    assert not r.tries(0.0)  # nothing moves: the fit is over


def test_pruning_begins_where_the_sample_says_that_it_pays():
    assert rule().enters(1.0, 0.1)
    assert not rule().enters(22.0, 1.0)
    assert not rule(d=2, k=4, groups=1).enters(1.0, 1.0)


def test_pruning_ends_after_two_passes_that_lost():
    r = rule()
    assert r.enters(1.0, 0.1)
    assert r.stays(22.0, 1.0, 0.1)  # the first pass scores everything
    assert r.stays(22.0, 1.0, 0.1)
    assert not r.stays(22.0, 1.0, 0.1)
    assert not r.tries(0.09)
    assert r.tries(0.05)


def test_one_pass_that_lost_is_forgiven():
    r = rule()
    assert r.enters(1.0, 0.1)
    for scored in (22.0, 22.0, 2.0, 22.0, 2.0):
        assert r.stays(scored, 1.0, 0.1)


def test_rows_are_sorted_again_when_many_have_moved_and_much_was_spent():
    r = rule()
    assert r.enters(5.0, 1.0)
    passes = 0
    while not r.sorts_again():
        assert r.stays(8.0, 1.0, 0.05)
        passes += 1
        assert passes < 100
    assert passes > 5
    assert not r.sorts_again()
    for _ in range(100):
        assert r.stays(8.0, 1.0, 0.0)
        assert not r.sorts_again()  # nothing moves


@settings(max_examples=200)
@given(
    d=st.sampled_from([2, 3, 8, 16, 32, 64, 128, 384]),
    k=st.sampled_from([8, 32, 64, 256, 1000]),
    seed=st.integers(0, 2**32 - 1),
    n_iter=st.integers(20, 200),
)
def test_on_data_that_cannot_be_pruned_little_is_lost(d, k, seed, n_iter):
    """Samples tell the truth up to a tenth; trials are charged as what they do."""
    from gpukmeans.backends import _cpu_pruning

    groups = -(-k // (6 * _cpu_pruning.parts_of_group(d, k)))
    r = rule(d, k, groups)
    rng = np.random.default_rng(seed)
    share, spent, trial, pruned = 1.0, 0.0, False, False
    for _ in range(n_iter):
        scored, read = groups * rng.uniform(0.9, 1.0), 1.0
        if trial and not pruned:
            spent += _cpu_pruning.SAMPLE_SHARE * r.cost(groups, 1.0)
            pruned = r.enters(scored * rng.uniform(0.9, 1.1), read)
            spent += max(0.0, r.entry) if pruned else 0.0
        if pruned:
            spent += r.cost(scored, read)
            pruned = r.stays(scored, read, share)
        else:
            spent += 1.0
            trial = r.tries(share)
            spent += _cpu_pruning.SAMPLE_SHARE * r.cost(groups, 1.0) if trial else 0.0
        share = max(1e-3, share * rng.uniform(0.6, 1.0))
    assert spent <= 1.05 * n_iter + 1.5
