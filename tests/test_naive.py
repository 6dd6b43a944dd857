"""The oracle itself, against cases that were worked out by hand."""

from fractions import Fraction

import numpy as np
import pytest

import naive

FOUR = np.array([[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [1.0, 1.0]])
LINE = np.array([[0.0], [1.0], [10.0]])


class Draws:
    """A generator that returns given numbers."""

    def __init__(self, *values):
        self.values = list(values)

    def uniform(self, size=None):
        if size is None:
            return self.values.pop(0)
        return np.array([self.values.pop(0) for _ in range(size)])


def fit(X, centers, **options):
    return naive.fit(np.asarray(X, float), np.asarray(centers, float), **options)


def test_exponents_are_those_of_frexp():
    assert [naive.exponent_of(v) for v in (1.0, 0.99, 2.0, 3.0, 0.25)] == [1, 0, 2, 2, -1]


def test_limbs_of_n_rows_fit_an_int64():
    for n in (1, 2, 3, 4, 7, 8, 1000, 10**6, 2**31):
        assert n * 2 ** naive.limb_bits(n) <= 2**62
    assert naive.limb_bits(1) == naive.limb_bits(4095) == 50
    assert naive.limb_bits(4096) == 49


def test_exponent_fills_the_bits_and_no_more():
    assert naive.exponent(1.0, 59) == 58
    assert naive.exponent(0.999, 59) == 59
    assert naive.exponent(0.0, 59) == 0
    assert naive.exponent(1e-300, 59) == 1000


def test_two_limbs_together_lose_nothing_of_a_double():
    y = np.array([1 / 3, -0.1, 1.0, 1e-9, 0.0])
    hi, lo = naive.high_limb(y, 20), naive.low_limb(y, 20, 59)
    for value, a, b in zip(y.tolist(), hi.tolist(), lo.tolist(), strict=True):
        assert abs(Fraction(value) * 2**20 - a - Fraction(b, 2**59)) <= Fraction(1, 2**60)


def test_tree_sum_adds_neighbours():
    e = 2.0**-53
    assert naive.tree_sum([1.0, e, e, 0.0]) == 1.0  # (1 + e) + (e + 0)
    assert naive.tree_sum([1.0, 0.0, e, e]) == 1.0 + 2 * e  # (1 + 0) + (e + e)
    assert naive.tree_sum([1.0, 0.0, e, e, 0.5]) == 1.5 + 2 * e
    assert naive.tree_sum([3.0]) == 3.0


def test_distance_rounds_every_step_in_feature_order():
    assert naive.distance([0.0, 0.0], [3.0, 4.0]) == 25.0
    tiny = 2.0**-27  # its square is a quarter ulp of 1: three are lost one by one, but not if they come first
    assert naive.distance([1.0, tiny, tiny, tiny], [0.0] * 4) == 1.0
    assert naive.distance([tiny, tiny, tiny, 1.0], [0.0] * 4) == 1.0 + 2.0**-52


def test_the_whole_matrix_of_distances_is_distance_of_each_pair():
    rng = np.random.default_rng(0)
    X, centers = rng.normal(size=(7, 5)).astype(np.float32), rng.normal(size=(3, 5)).astype(np.float32)
    D = naive.distances(X, centers)
    assert D.tolist() == [[naive.distance(x, c) for c in centers] for x in X]


def test_distance_is_not_fused():
    x, c = [1.0, 1.0 + 2.0**-30], [0.0, 0.0]
    square = (1 + Fraction(1, 2**30)) ** 2
    assert naive.distance(x, c) == 1.0 + float(square)
    assert Fraction(float(square)) != square


def test_ties_go_to_the_lowest_cluster():
    assert naive.labels([[1.0], [3.0]], [[0.0], [2.0], [4.0], [0.0]]).tolist() == [0, 1]


def test_rows_infinitely_far_from_all_centers_get_label_0():
    assert naive.nearest(np.full((2, 3), np.inf)).tolist() == [0, 0]


def test_four_points_by_hand():
    result = fit(FOUR, [[0, 0], [1, 1]])
    assert result.labels.tolist() == [0, 0, 1, 1]
    assert result.centers.tolist() == [[0.25, 0.0], [0.75, 1.0]]
    assert (result.inertia, result.n_iter) == (0.25, 2)


@pytest.mark.parametrize("factor", [1.0, 2.0**60, 2.0**-60])
def test_four_weighted_points_by_hand(factor):
    result = fit(FOUR, [[0, 0], [1, 1]], sample_weight=np.array([3.0, 1, 1, 3]) * factor)
    assert result.centers.tolist() == [[0.125, 0.0], [0.875, 1.0]]
    assert (result.inertia, result.n_iter) == (0.375 * factor, 2)


def test_one_iteration_moves_centers_and_then_labels_once_more():
    # Centers 0 and 5 take {0, 1, 2} and {10}; the new centers are 1 and 10.
    result = fit([[0.0], [1.0], [2.0], [10.0]], [[0.0], [5.0]], max_iter=1)
    assert result.centers.tolist() == [[1.0], [10.0]]
    assert result.labels.tolist() == [0, 0, 0, 1]
    assert (result.inertia, result.n_iter) == (2.0, 1)


def test_tol_stops_early():
    # Variance of 0, 1, 2, 10 around the mean is 15.6875; the first shift is 1 + 25 = 26.
    X = [[0.0], [1.0], [2.0], [10.0]]
    assert naive.mean_variance(np.array(X)) == 15.6875
    assert fit(X, [[0.0], [5.0]], tol=26 / 15.6875).n_iter == 1
    assert fit(X, [[0.0], [5.0]], tol=25.9 / 15.6875).n_iter == 2


def test_empty_clusters_take_the_farthest_rows_in_order():
    # All rows are nearest to 0; cluster 1 takes 10 and cluster 2 takes 1.
    result = fit(LINE, [[0.0], [100.0], [200.0]], tol=0)
    assert result.centers.tolist() == [[0.0], [10.0], [1.0]]
    assert result.labels.tolist() == [0, 2, 1]
    assert (result.inertia, result.n_iter) == (0.0, 2)


def test_equally_far_rows_are_taken_in_row_order():
    # Both ends are 1 away from the center; cluster 1 takes row 0.
    result = fit([[-1.0], [0.0], [1.0]], [[0.0], [100.0]], max_iter=1)
    assert result.centers.tolist() == [[0.5], [-1.0]]


def test_a_cluster_that_gave_its_only_row_away_goes_to_the_heaviest():
    # Row 5 is alone in cluster 1 and farthest; cluster 2 takes it; cluster 1 goes to cluster 0's center.
    result = fit([[0.0], [0.0], [5.0]], [[0.0], [4.0], [100.0]], tol=0)
    assert result.centers.tolist() == [[0.0], [0.0], [5.0]]
    assert result.labels.tolist() == [0, 0, 2]
    assert result.n_iter == 2


def test_nothing_is_relocated_when_all_rows_sit_on_their_centers():
    result = fit([[1.0], [1.0], [1.0]], [[1.0], [1.0]], tol=0)
    assert result.labels.tolist() == [0, 0, 0]
    assert result.centers.tolist() == [[1.0], [1.0]]
    assert (result.inertia, result.n_iter) == (0.0, 1)


def test_rows_without_weight_count_for_nothing_and_are_not_taken():
    # The far row has no weight: the empty cluster takes 1, not 10.
    result = fit(LINE, [[0.0], [100.0]], sample_weight=[1.0, 1.0, 0.0], max_iter=1)
    assert result.centers.tolist() == [[0.0], [1.0]]
    assert result.labels.tolist() == [0, 1, 1]
    assert result.inertia == 0.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("power", [100, -100, 60, -60])
def test_data_times_a_power_of_two_gives_centers_times_that_power(dtype, power):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(40, 3)).astype(dtype)
    plain, scaled = (naive.fit(A, A[:4]) for A in (X, np.ldexp(X, power)))
    assert scaled.labels.tolist() == plain.labels.tolist()
    assert np.array_equal(scaled.centers, np.ldexp(plain.centers, power))
    assert scaled.centers.dtype == dtype
    assert scaled.inertia == np.ldexp(plain.inertia, 2 * power)
    assert scaled.n_iter == plain.n_iter


def test_labels_follow_centers_that_lost_bits_among_the_subnormal_numbers():
    smallest = 5e-324
    X = np.array([[0.0], [3.0], [4.0], [7.0]]) * smallest
    result = naive.fit(X, X[[0, 3]])  # the means 1.5 and 5.5 become 2 and 6; 4 is nearest to 2, a tie
    assert (result.centers / smallest).tolist() == [[2.0], [6.0]]
    assert result.labels.tolist() == naive.predict(X, result.centers, naive.scale_exponent(X)).tolist() == [0, 0, 0, 1]


def test_scale_exponents_leave_ordinary_data_alone():
    assert naive.scale_exponent(np.array([2.0**39])) == 0
    assert naive.scale_exponent(np.array([2.0**40])) == -1
    assert naive.scale_exponent(np.array([-(2.0**-41)])) == 0
    assert naive.scale_exponent(np.array([2.0**-42])) == 1
    assert naive.scale_exponent(np.array([0.0])) == 0


def test_centers_have_the_dtype_of_the_data():
    for dtype, kept in [("f2", "f4"), ("f4", "f4"), ("f8", "f8"), ("i8", "f8"), ("?", "f8"), ("u1", "f8")]:
        assert naive.fit(np.array([[0], [1]], dtype), [[0], [1]]).centers.dtype == kept


def test_a_float32_center_is_the_float64_mean_rounded_once():
    X = np.array([[0.1], [0.2], [0.4]], np.float32)
    assert naive.fit(X, X[:1]).centers[0, 0] == np.float32(X.astype(np.float64).mean())


def test_first_above_takes_rows_by_their_share():
    prefix_sums = np.array([1, 3, 3, 6])
    assert [naive.first_above(prefix_sums, u) for u in (0.0, 0.16, 0.17, 0.49, 0.5, 0.99)] == [0, 0, 1, 1, 3, 3]
    assert naive.first_above(prefix_sums, np.nextafter(1.0, 0)) == 3


def test_first_above_never_runs_past_the_end():
    prefix_sums = np.array([2**61 - 1])
    assert naive.first_above(prefix_sums, np.nextafter(1.0, 0)) == 0


def test_kmeans_plusplus_by_hand():
    # Row 0 first (0.1 of 4 rows). Distances 0, 1, 4, 9: prefix shares 0, 1, 5, 14 of 14. With one trial:
    # 0.5 -> 7 -> row 3. Then the distances are 0, 1, 1, 0: 0.4 -> 0.8 -> row 1.
    X = np.array([[0.0], [1.0], [2.0], [3.0]])
    centers, rows = naive.kmeans_plusplus(X, 3, Draws(0.1, 0.5, 0.4), n_local_trials=1)
    assert rows.tolist() == [0, 3, 1]
    assert centers.tolist() == [[0.0], [3.0], [1.0]]


def test_kmeans_plusplus_keeps_the_trial_with_the_lowest_potential():
    # Potentials after row 0: row 1 leaves 0+0+1+4 = 5, row 2 leaves 0+1+0+1 = 2, row 3 leaves 0+1+1+0 = 2.
    X = np.array([[0.0], [1.0], [2.0], [3.0]])
    for draws, best in [((0.0, 0.2, 0.9), 2), ((0.9, 0.2, 0.0), 3), ((0.0, 0.0, 0.01), 1)]:
        assert naive.kmeans_plusplus(X, 2, Draws(0.1, *draws), n_local_trials=3)[1].tolist() == [0, best]


def test_kmeans_plusplus_on_duplicates_takes_the_first_row_with_weight():
    X = np.ones((4, 2))
    assert naive.kmeans_plusplus(X, 2, Draws(0.9, 0.3, 0.3), None)[1].tolist() == [3, 0]
    assert naive.kmeans_plusplus(X, 2, Draws(0.9, 0.3, 0.3), [0.0, 0.0, 1.0, 1.0])[1].tolist() == [3, 2]


def test_random_init_draws_as_numpy_does():
    weight = np.array([1.0, 2.0, 3.0, 4.0])
    rows = naive.random_rows(2, np.random.RandomState(0), weight)
    assert rows.tolist() == np.random.RandomState(0).choice(4, 2, replace=False, p=weight / 10).tolist()


def test_same_clustering_is_containment():
    assert naive.same_clustering(np.array([1, 1, 0]), np.array([0, 0, 1]))
    assert naive.same_clustering(np.array([1, 2, 0]), np.array([0, 0, 1]))
    assert not naive.same_clustering(np.array([0, 0, 1]), np.array([0, 1, 1]))
