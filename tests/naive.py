"""The oracle: the whole of k-means as plain loops that nobody could get wrong.

It knows nothing of gpukmeans and uses NumPy for arrays and dtypes only. Every floating-point operation is one
NumPy operation (so it is rounded on its own), every sum over rows is a sum of integers. Where a line works on a
whole column at once, each element still goes through exactly the operations that a loop over rows would do.

Exact data is what every backend must return bit for bit; this file is the definition of those bits.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

SMALLEST_SCALED, LARGEST_SCALED = -40, 40  # binary exponents between which data is left as it is


class Fit(NamedTuple):
    """What one fit returns."""

    labels: np.ndarray
    centers: np.ndarray
    inertia: float
    n_iter: int


# ---------------------------------------------------------------------------------------------- numbers


def as_data(X: Any) -> np.ndarray:
    """X as float32 or float64: float16 becomes float32, integers and bool become float64."""
    X = np.asarray(X)
    if X.dtype in (np.float32, np.float64):
        return X
    return X.astype(np.float32 if X.dtype == np.float16 else np.float64)


def exponent_of(value: float) -> int:
    """The exponent ex of value = m * 2^ex with 0.5 <= m < 1."""
    return math.frexp(value)[1]


def limb_bits(n_samples: int) -> int:
    """How many bits one row may use, so that n_samples of them never overflow an int64; 50 are enough."""
    return min(62 - n_samples.bit_length(), 50)


def exponent(peak: float, bits: int) -> int:
    """The power of two that brings values up to peak into `bits` bits."""
    return 0 if peak == 0 else min(bits - exponent_of(peak), 1000)


def high_limb(y: np.ndarray, e: int) -> np.ndarray:
    """rint(y * 2^e) as integers."""
    return np.rint(y * math.ldexp(1.0, e)).astype(np.int64)


def low_limb(y: np.ndarray, e: int, bits: int) -> np.ndarray:
    """What the high limb has lost, times 2^bits, as integers."""
    scaled = y * math.ldexp(1.0, e)
    return np.rint((scaled - np.rint(scaled)) * math.ldexp(1.0, bits)).astype(np.int64)


def total(hi: int, lo: int, bits: int) -> float:
    """The sum that two integer limbs stand for, still times 2^e."""
    return float(int(hi)) + float(int(lo)) * math.ldexp(1.0, -bits)


def tree_sum(values: Any) -> float:
    """Sum by a binary tree: pad with zeros to a power of two, add neighbours until one is left."""
    level = [float(v) for v in values]
    while len(level) & (len(level) - 1):
        level.append(0.0)
    while len(level) > 1:
        level = [level[j] + level[j + 1] for j in range(0, len(level), 2)]
    return level[0]


def scale_exponent(values: np.ndarray) -> int:
    """The power of two that all values are multiplied by; 0 unless they are very large or very small."""
    peak = float(np.max(np.abs(values)))
    if peak == 0:
        return 0
    ex = exponent_of(peak)
    if ex > LARGEST_SCALED:
        return LARGEST_SCALED - ex
    if ex < SMALLEST_SCALED:
        return SMALLEST_SCALED - ex
    return 0


def scaled_by(values: np.ndarray, s: int) -> np.ndarray:
    """values * 2^s in their own dtype."""
    if s == 0:
        return values
    with np.errstate(all="ignore"):
        return np.ldexp(values, s)


# ---------------------------------------------------------------------------------------------- labels


def distance(x: Any, c: Any) -> float:
    """The canonical squared distance of one row to one center: float64, feature order, no fused steps."""
    result = 0.0
    for xj, cj in zip(x, c, strict=True):
        t = float(xj) - float(cj)
        result = result + t * t
    return result


def distances(X: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """distance() of every row to every center, shape (n_samples, n_clusters)."""
    with np.errstate(all="ignore"):
        X, centers = X.astype(np.float64), centers.astype(np.float64)
        result = np.zeros((len(X), len(centers)))
        for j in range(X.shape[1]):
            t = X[:, j, None] - centers[None, :, j]
            t *= t
            result += t
    return result


def nearest(D: np.ndarray) -> np.ndarray:
    """For each row the lowest index of the smallest distance; 0 where all are infinite."""
    labels = np.zeros(len(D), np.int32)
    best = np.full(len(D), np.inf)
    for k in range(D.shape[1]):
        closer = D[:, k] < best
        labels[closer] = k
        best[closer] = D[closer, k]
    return labels


def labels(X: Any, centers: Any) -> np.ndarray:
    """The label of every row, without any scaling."""
    return nearest(distances(as_data(X), as_data(centers)))


def predict(X: Any, centers: np.ndarray, s: int = 0) -> np.ndarray:
    """Labels of new rows for a model whose training data was scaled by 2^s."""
    return nearest(distances(scaled_by(as_data(X), s), scaled_by(centers, s)))


# ---------------------------------------------------------------------------------------------- one fit


def mean_variance(X: np.ndarray) -> float:
    """Mean over features of the unweighted variance, from integer sums around the middle of each column."""
    n, d = X.shape
    bits = limb_bits(n)
    result = 0.0
    for j in range(d):
        column = X[:, j].astype(np.float64)
        low, high = float(column.min()), float(column.max())
        pivot = low / 2 + high / 2
        q = column - pivot
        peak = max(abs(low - pivot), abs(high - pivot))
        e1, e2 = exponent(peak, bits), exponent(peak * peak, bits)
        a = float(int(high_limb(q, e1).sum())) * math.ldexp(1.0, -e1)
        b = float(int(high_limb(q * q, e2).sum())) * math.ldexp(1.0, -e2)
        result = result + max((b - a * a / n) / n, 0.0)
    return result / d


def inertia_of(D_own: np.ndarray, weight: np.ndarray) -> float:
    """Sum of weight * distance over the rows, in two integer limbs."""
    bits = limb_bits(len(weight))
    y = weight * D_own
    e = exponent(float(y.max()), bits)
    return total(high_limb(y, e).sum(), low_limb(y, e, bits).sum(), bits) * math.ldexp(1.0, -e)


def lloyd(X: np.ndarray, centers: np.ndarray, weight: np.ndarray, max_iter: int, tol: float) -> Fit:
    """Lloyd's iterations on data that is already scaled."""
    n, d = X.shape
    n_clusters = len(centers)
    bits = limb_bits(n)
    rows = np.arange(n)
    two_limbs = X.dtype == np.float64

    # Each row as integers: its weight, and weight * x for each feature.
    e_weight = exponent(float(weight.max()), bits)
    weight_hi, weight_lo = high_limb(weight, e_weight), low_limb(weight, e_weight, bits)
    e_feature = []
    row_hi, row_lo = np.zeros((n, d), np.int64), np.zeros((n, d), np.int64)
    for j in range(d):
        y = weight * X[:, j].astype(np.float64)
        e = exponent(float(np.abs(y).max()), bits)
        e_feature.append(e)
        row_hi[:, j] = high_limb(y, e)
        if two_limbs:
            row_lo[:, j] = low_limb(y, e, bits)

    threshold = tol * mean_variance(X) if tol > 0 else 0.0
    old_labels = np.full(n, -1)
    n_iter = 0
    for _ in range(max_iter):
        n_iter += 1
        D = distances(X, centers)
        new_labels = nearest(D)
        own = D[rows, new_labels]

        # Integer sums of each cluster.
        sum_hi, sum_lo = np.zeros((n_clusters, d), np.int64), np.zeros((n_clusters, d), np.int64)
        cluster_hi, cluster_lo = np.zeros(n_clusters, np.int64), np.zeros(n_clusters, np.int64)
        np.add.at(sum_hi, new_labels, row_hi)
        np.add.at(sum_lo, new_labels, row_lo)
        np.add.at(cluster_hi, new_labels, weight_hi)
        np.add.at(cluster_lo, new_labels, weight_lo)

        def weight_of(k: int, hi: np.ndarray = cluster_hi, lo: np.ndarray = cluster_lo) -> float:
            return total(hi[k], lo[k], bits) * math.ldexp(1.0, -e_weight)

        # An empty cluster takes the row that is farthest from its own center, then the next farthest.
        empty = [k for k in range(n_clusters) if weight_of(k) == 0]
        takers = sorted((-float(own[i]), i) for i in rows if weight[i] > 0) if empty else []
        if takers and takers[0][0] != 0:
            for k, (_, i) in zip(empty, takers, strict=False):
                donor = new_labels[i]
                sum_hi[donor] -= row_hi[i]
                sum_lo[donor] -= row_lo[i]
                cluster_hi[donor] -= weight_hi[i]
                cluster_lo[donor] -= weight_lo[i]
                sum_hi[k] += row_hi[i]
                sum_lo[k] += row_lo[i]
                cluster_hi[k] += weight_hi[i]
                cluster_lo[k] += weight_lo[i]

        # New centers; a cluster that is still empty goes to the new center of the heaviest.
        W = [weight_of(k) for k in range(n_clusters)]
        new_centers = np.zeros_like(centers)
        for k in range(n_clusters):
            if W[k] != 0:
                for j in range(d):
                    mean = total(sum_hi[k, j], sum_lo[k, j], bits) / W[k] * math.ldexp(1.0, -e_feature[j])
                    new_centers[k, j] = X.dtype.type(mean)
        for k in range(n_clusters):
            if W[k] == 0:
                new_centers[k] = new_centers[W.index(max(W))]

        with np.errstate(all="ignore"):  # a start far outside may be infinitely far away
            shift_sq = tree_sum([distance(new_centers[k], centers[k]) for k in range(n_clusters)])
        label_centers, centers = centers, new_centers
        moved = (new_labels != old_labels).any()
        old_labels = new_labels
        if not moved or shift_sq <= threshold:
            break

    if not np.array_equal(label_centers, centers):
        old_labels = labels(X, centers)
    own = distances(X, centers)[rows, old_labels]
    return Fit(old_labels, centers, inertia_of(own, weight), n_iter)


def prepared(X: Any, sample_weight: Any) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Scaled data, scaled weights and their two exponents."""
    X = as_data(X)
    weight = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    s, s_weight = scale_exponent(X), scale_exponent(weight)
    return scaled_by(X, s), scaled_by(weight, s_weight), s, s_weight


def restored(result: Fit, X: np.ndarray, weight: np.ndarray, s: int, s_weight: int) -> Fit:
    """The result in the units of the data.

    Centers among the subnormal numbers lose bits on their way back; labels and inertia are then made anew with what
    is left of them, so that labels are always those that predict gives.
    """
    centers = scaled_by(result.centers, -s)
    labels_, inertia, kept = result.labels, result.inertia, scaled_by(centers, s)
    if not np.array_equal(kept, result.centers):
        labels_ = labels(X, kept)
        inertia = inertia_of(distances(X, kept)[np.arange(len(X)), labels_], weight)
    with np.errstate(all="ignore"):
        inertia = float(np.ldexp(np.float64(inertia), -2 * s - s_weight))
    return Fit(labels_, centers, inertia, result.n_iter)


def fit(X: Any, centers: Any, *, sample_weight: Any = None, max_iter: int = 300, tol: float = 1e-4) -> Fit:
    """A fit from given initial centers."""
    scaled, weight, s, s_weight = prepared(X, sample_weight)
    start = scaled_by(np.asarray(centers).astype(scaled.dtype), s)
    return restored(lloyd(scaled, start, weight, max_iter, tol), scaled, weight, s, s_weight)


# ---------------------------------------------------------------------------------------------- seeding


def first_target(u: float, whole: int) -> int:
    """u times the total, rounded down to an integer below the total."""
    return min(math.floor(u * float(whole)), whole - 1)


def first_above(prefix_sums: np.ndarray, u: float) -> int:
    """The first row whose prefix sum exceeds u times the total."""
    target = first_target(u, int(prefix_sums[-1]))
    for i, s in enumerate(prefix_sums.tolist()):
        if s > target:
            return i
    raise AssertionError("the last prefix sum exceeds every target")


def seeding_distance(X: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Squared distance of every row to one row c, in the dtype of X, feature order."""
    acc = np.zeros(len(X), X.dtype)
    with np.errstate(all="ignore"):
        for j in range(X.shape[1]):
            t = X[:, j] - c[j]
            acc = acc + t * t
    assert acc.dtype == X.dtype
    return acc


def plus_plus(X: np.ndarray, n_clusters: int, rng: Any, weight: np.ndarray, trials: int | None) -> list[int]:
    """The rows that k-means++ chooses, on data that is already scaled."""
    bits = limb_bits(len(X))
    trials = 2 + int(math.log(n_clusters)) if trials is None else trials
    e_weight = exponent(float(weight.max()), bits)
    chosen = [first_above(np.cumsum(high_limb(weight, e_weight)), float(rng.uniform()))]
    closest = seeding_distance(X, X[chosen[0]])
    while len(chosen) < n_clusters:
        y = weight * closest.astype(np.float64)
        e = exponent(float(y.max()), bits)
        prefix_sums = np.cumsum(high_limb(y, e))
        draws = rng.uniform(size=trials)
        best = None
        for u in draws.tolist():
            fallback = int(np.flatnonzero(weight > 0)[0])
            candidate = first_above(prefix_sums, u) if prefix_sums[-1] > 0 else fallback
            nearer = np.minimum(closest, seeding_distance(X, X[candidate]))
            potential = int(high_limb(weight * nearer.astype(np.float64), e).sum())
            if best is None or potential < best[0]:
                best = (potential, candidate, nearer)
        assert best is not None
        chosen.append(best[1])
        closest = best[2]
    return chosen


def kmeans_plusplus(
    X: Any, n_clusters: int, rng: Any, sample_weight: Any = None, n_local_trials: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Centers and row numbers that k-means++ chooses; rng is a RandomState or a Generator."""
    scaled, weight, _, _ = prepared(X, sample_weight)
    chosen = plus_plus(scaled, n_clusters, rng, weight, n_local_trials)
    return as_data(X)[chosen], np.array(chosen)


def random_rows(n_clusters: int, rng: Any, weight: np.ndarray) -> np.ndarray:
    """Row numbers of init="random"."""
    bits = limb_bits(len(weight))
    e = exponent(float(weight.max()), bits)
    hi, lo = int(high_limb(weight, e).sum()), int(low_limb(weight, e, bits).sum())
    whole = total(hi, lo, bits) * math.ldexp(1.0, -e)
    return rng.choice(len(weight), size=n_clusters, replace=False, p=weight / whole)


def same_clustering(new: np.ndarray, best: np.ndarray) -> bool:
    """Whether each cluster of `new` lies within one cluster of `best`."""
    partner: dict[int, int] = {}
    return all(partner.setdefault(int(a), int(b)) == int(b) for a, b in zip(new, best, strict=True))


def fit_seeded(
    X: Any,
    n_clusters: int,
    rng: Any,
    *,
    init: str | Callable[..., Any] | np.ndarray = "k-means++",
    n_init: int | str = "auto",
    sample_weight: Any = None,
    max_iter: int = 300,
    tol: float = 1e-4,
) -> Fit:
    """A whole fit: n_init starts drawn one after the other from one rng, the best of them returned."""
    scaled, weight, s, s_weight = prepared(X, sample_weight)
    if n_init == "auto":
        n_init = 10 if callable(init) or (isinstance(init, str) and init == "random") else 1
    best = None
    for _ in range(int(n_init)):
        if callable(init):
            drawn = np.asarray(init(as_data(X), n_clusters, random_state=rng)).astype(scaled.dtype)
            start = scaled_by(drawn, s)
        elif not isinstance(init, str):
            start = scaled_by(np.asarray(init).astype(scaled.dtype), s)
        elif init == "random":
            start = scaled[random_rows(n_clusters, rng, weight)]
        else:
            start = scaled[plus_plus(scaled, n_clusters, rng, weight, None)]
        run = lloyd(scaled, start, weight, max_iter, tol)
        if best is None or (run.inertia < best.inertia and not same_clustering(run.labels, best.labels)):
            best = run
    assert best is not None
    return restored(best, scaled, weight, s, s_weight)


# ---------------------------------------------------------------------------------------------- mini-batches


class Means(NamedTuple):
    """Mini-batch centers between two batches: their means in float64, and the weight of the rows in each."""

    means: np.ndarray
    weights: np.ndarray

    def centers(self, dtype: Any) -> np.ndarray:
        """What rows are compared with: the means rounded to the dtype of the data."""
        return self.means.astype(dtype)


def add_batch(
    X: np.ndarray, weight: np.ndarray, state: Means, peaks: Any, more_weight: int = 0
) -> tuple[Means, float]:
    """The means after one batch of rows that are already scaled, and the inertia of the rows before they move.

    `peaks` is the largest |weight * x| of each feature that the integer codes of the sums must hold. The weights of
    the batch are in units 2^more_weight of those of the means.
    """
    unit = math.ldexp(1.0, more_weight)
    n, d = X.shape
    bits = limb_bits(n)
    centers = state.centers(X.dtype)
    D = distances(X, centers)
    own = nearest(D)
    added = integer_sums(weight, own, len(centers), float(weight.max()), bits, two_limbs=True) * unit
    hit = added > 0
    grown = state.weights + added
    means = state.means.copy()
    for j in range(d):
        y = weight * X[:, j].astype(np.float64)
        sums = integer_sums(y, own, len(centers), float(peaks[j]), bits, two_limbs=X.dtype == np.float64) * unit
        means[hit, j] = (means[hit, j] * state.weights[hit] + sums[hit]) / grown[hit]
    return Means(means, grown), inertia_of(D[np.arange(n), own], weight)


def integer_sums(
    y: np.ndarray, own: np.ndarray, n_clusters: int, peak: float, bits: int, *, two_limbs: bool
) -> np.ndarray:
    """Sum of y for each cluster, by way of integers that can hold values up to peak."""
    e = exponent(peak, bits)
    hi, lo = np.zeros(n_clusters, np.int64), np.zeros(n_clusters, np.int64)
    np.add.at(hi, own, high_limb(y, e))
    if two_limbs:
        np.add.at(lo, own, low_limb(y, e, bits))
    return (hi.astype(np.float64) + lo.astype(np.float64) * math.ldexp(1.0, -bits)) * math.ldexp(1.0, -e)


def reassigned(X: np.ndarray, state: Means, rng: Any, ratio: float) -> Means:
    """Clusters that are light beside the heaviest one jump to random rows of the batch."""
    means, weights = state.means.copy(), state.weights.copy()
    heaviest = max(weights)
    light = [k for k in range(len(weights)) if weights[k] < ratio * heaviest]
    if len(light) > 0.5 * len(X):
        lightest = sorted(range(len(weights)), key=lambda k: (weights[k], k))[: int(0.5 * len(X))]
        light = sorted(k for k in lightest if k in light)
    if light:
        stay = [weights[k] for k in range(len(weights)) if k not in light]
        for k, i in zip(light, rng.choice(len(X), size=len(light), replace=False), strict=True):
            means[k] = X[i].astype(np.float64)
            weights[k] = min(stay) if stay else heaviest
    return Means(means, weights)


class BatchFit(NamedTuple):
    """What a fit by mini-batches returns."""

    labels: np.ndarray
    centers: np.ndarray
    inertia: float
    n_steps: int


def drawn_rows(rng: Any, n_samples: int, size: int) -> np.ndarray:
    """Rows drawn with replacement, each as likely."""
    return rng.integers(0, n_samples, size) if isinstance(rng, np.random.Generator) else rng.randint(0, n_samples, size)


def mini_batch(
    X: Any,
    n_clusters: int,
    rng: Any,
    *,
    init: str | np.ndarray = "k-means++",
    n_init: int = 1,
    batch_size: int = 1024,
    init_size: int | None = None,
    max_iter: int = 100,
    tol: float = 0.0,
    max_no_improvement: int | None = 10,
    reassignment_ratio: float = 0.01,
    sample_weight: Any = None,
) -> BatchFit:
    """A fit by mini-batches."""
    scaled, weight, s, s_weight = prepared(X, sample_weight)
    n = len(scaled)
    batch_size = min(batch_size, n)
    init_size = 3 * batch_size if init_size is None else init_size
    init_size = min(n, init_size if init_size >= n_clusters else 3 * n_clusters)

    # The start: of n_init, the one with the least inertia of some rows.
    compared, best = drawn_rows(rng, n, init_size), None
    for _ in range(n_init):
        some = drawn_rows(rng, n, init_size) if init_size < n else np.arange(n)
        part, part_weight = scaled[some], scaled_by(weight[some], scale_exponent(weight[some]))
        if not isinstance(init, str):
            start = scaled_by(np.asarray(init).astype(scaled.dtype), s)
        elif init == "random":
            start = part[random_rows(n_clusters, rng, part_weight)]
        else:
            start = part[plus_plus(part, n_clusters, rng, part_weight, None)]
        part, part_weight = scaled[compared], scaled_by(weight[compared], scale_exponent(weight[compared]))
        inertia = inertia_of(distances(part, start).min(axis=1), part_weight)
        if best is None or inertia < best[0]:
            best = (inertia, start)
    assert best is not None
    state = Means(best[1].astype(np.float64), np.zeros(n_clusters))

    # Batches: drawn by weight, which then counts no more.
    e_weight = exponent(float(weight.max()), limb_bits(n))
    ends = None if sample_weight is None else np.cumsum(high_limb(weight, e_weight))
    peaks = np.abs(scaled.astype(np.float64)).max(axis=0)
    threshold = tol * mean_variance(scaled) if tol > 0 else 0.0
    since, smoothed, least, n_waiting = 0, None, None, 0
    n_steps = max_iter * n // batch_size
    for step in range(n_steps):
        whole = n if ends is None else int(ends[-1])
        targets = [first_target(u, whole) for u in rng.uniform(size=batch_size).tolist()]
        rows = scaled[targets if ends is None else [int((ends <= t).sum()) for t in targets]]
        since += batch_size
        is_time = (state.weights == 0).any() or since >= 10 * n_clusters
        since = 0 if is_time else since
        before = state.centers(scaled.dtype)
        state, inertia = add_batch(rows, np.ones(batch_size), state, peaks)
        if is_time and reassignment_ratio > 0:
            state = reassigned(rows, state, rng, reassignment_ratio)
        if step == 0:
            continue
        inertia = inertia / batch_size
        alpha = min(batch_size * 2.0 / (n + 1), 1)
        smoothed = inertia if smoothed is None else smoothed * (1 - alpha) + inertia * alpha
        moved = [distance(new, old) for new, old in zip(state.centers(scaled.dtype), before, strict=True)]
        if threshold > 0 and tree_sum(moved) <= threshold:
            break
        if least is None or smoothed < least:
            least, n_waiting = smoothed, 0
        else:
            n_waiting += 1
        if max_no_improvement is not None and n_waiting >= max_no_improvement:
            break

    centers = scaled_by(state.centers(scaled.dtype), -s)
    D = distances(scaled, scaled_by(centers, s))
    own = nearest(D)
    with np.errstate(all="ignore"):
        inertia = float(np.ldexp(np.float64(inertia_of(D[np.arange(n), own], weight)), -2 * s - s_weight))
    return BatchFit(own, centers, inertia, step + 1)


# ---------------------------------------------------------------------------------------------- bisection


def bisect(
    X: Any, n_clusters: int, rng: Any, *, strategy: str, sample_weight: Any = None, **options: Any
) -> tuple[np.ndarray, np.ndarray, float]:
    """Labels, centers and inertia of a tree: the leaf with the highest score is divided in two by a fit of its rows."""
    X = as_data(X)
    weight = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    leaves = [(np.arange(len(X)), np.zeros(X.shape[1], X.dtype), 0.0)]  # rows, center, inertia; from left to right
    while len(leaves) < n_clusters:
        scores = [inertia if strategy == "biggest_inertia" else len(rows) for rows, _, inertia in leaves]
        can = [i for i, (rows, _, _) in enumerate(leaves) if np.count_nonzero(weight[rows]) > 1]
        chosen = max(can, key=lambda i: scores[i])
        rows = leaves[chosen][0]
        given = None if sample_weight is None else weight[rows]
        two = fit_seeded(X[rows], 2, rng, sample_weight=given, **options)
        s = scale_exponent(X[rows])
        leaves[chosen : chosen + 1] = [
            (rows[two.labels == side], two.centers[side], one_inertia(X, weight, rows[two.labels == side], center, s))
            for side, center in enumerate(two.centers)
        ]
    labels_ = np.zeros(len(X), np.int32)
    for label, (rows, _, _) in enumerate(leaves):
        labels_[rows] = label
    return labels_, np.stack([center for _, center, _ in leaves]), tree_sum([inertia for _, _, inertia in leaves])


def one_inertia(X: np.ndarray, weight: np.ndarray, rows: np.ndarray, center: np.ndarray, s: int) -> float:
    """Inertia of rows that have one center, in the units of the data."""
    if not len(rows):
        return 0.0
    D = distances(scaled_by(X[rows], s), scaled_by(center[None], s))[:, 0]
    with np.errstate(all="ignore"):
        return float(np.ldexp(np.float64(inertia_of(D, weight[rows])), -2 * s))


# ---------------------------------------------------------------------------------------------- exact truth


def true_distance(x: Any, c: Any) -> Fraction:
    """The squared distance without any rounding; for tests of the error bound."""
    return sum(((Fraction(float(a)) - Fraction(float(b))) ** 2 for a, b in zip(x, c, strict=True)), Fraction(0))
