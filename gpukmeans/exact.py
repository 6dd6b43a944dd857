"""The arithmetic that makes every backend give the same bits.

Three rules keep the promise: labels are certified, sums are integers, scalars have one definition.

**Labels.** The canonical distance is ``D(x, c) = sum_j (x_j - c_j)**2``, features in order, float64, every operation
rounded on its own (no fused multiply-add). A label is the lowest ``k`` with the smallest ``D(x, c_k)``. No backend
computes all of them: a fast pass scores every pair in cheap arithmetic and :func:`score_bound` says when the best
score is certain to be the label; the rows left open are decided by ``D`` itself.

**Sums.** A float sum depends on the order of adding, an integer sum does not. Every sum over rows in this package is
made of the integers of a :class:`FixedPoint` code, so blocks, threads, cards and machines add in any order.

**Scalars.** Center shift (:func:`tree_sum`), variance (:class:`Moments`), inertia and the new centers
(:func:`new_centers`) are each defined here, once.

Nothing else in the package sums over rows, and nothing here knows a device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]
IntcArray = NDArray[np.intc]
FloatArray = NDArray[Any]

CHAIN = 128
"""Features in one multiply-add chain of the fast pass once ``n_features`` passes ``2 * CHAIN``."""

U32 = 2.0**-24  # half a unit in the last place of float32, relative
U64 = 2.0**-53

OVERFLOW_NORM = 2.0**55
"""Largest |c'| for which no product of the float32 pass can overflow."""

_SAFE_EXPONENT = 40  # data within 2**-40 .. 2**40 is used as it is
_MAX_EXPONENT = 1000  # 2**1000 is the largest power that we multiply by


# ------------------------------------------------------------------------------------------------ scaling
def scale_exponent(peak: float) -> int:
    """Power of two that brings data with the largest absolute value `peak` into 2**-40 .. 2**40.

    Scaling by a power of two is exact; with it neither squares overflow nor vanish, in float32 scores as in float64
    distances. Values more than 2**500 times smaller than the largest one are not told apart from zero.
    """
    if not peak > 0 or not math.isfinite(peak):
        return 0
    exponent = math.frexp(peak)[1]
    if exponent > _SAFE_EXPONENT:
        return _SAFE_EXPONENT - exponent
    if exponent < -_SAFE_EXPONENT:
        return -_SAFE_EXPONENT - exponent
    return 0


# ------------------------------------------------------------------------------------------------ fixed point
MOST_BITS = 50
"""Of a limb: where ``|y| <= 2**50``, the float64 sum ``y + 1.5 2**52`` is rounded to a whole number, ties to even as by
`rint`, and its last bits are that number. So a processor without an instruction for it makes codes in its vectors."""


@dataclass(frozen=True)
class FixedPoint:
    """Code of float64 values as integers: ``hi = rint(y 2**e)``, ``lo = rint((y 2**e - hi) 2**bits)``.

    One exponent ``e`` a column, from the largest absolute value that the column holds, so that the sum of `n_samples`
    integers cannot overflow: ``|sum| < 2**62``.

    Parameters
    ----------
    exponents : ndarray of C int, shape (n_columns,)
    bits : int
        Width of one limb: ``62 - bit_length(n_samples)``, at most MOST_BITS.
    """

    exponents: IntcArray
    bits: int

    @classmethod
    def for_peaks(cls, peaks: Any, n_samples: int) -> FixedPoint:
        """Code for columns whose largest absolute values are `peaks` (a maximum has no order, so neither has this)."""
        bits = min(MOST_BITS, 62 - int(n_samples).bit_length())
        peaks = np.atleast_1d(np.asarray(peaks, dtype=np.float64))
        exponents = np.minimum(bits - np.frexp(peaks)[1], _MAX_EXPONENT).astype(np.intc)
        exponents[peaks == 0] = 0
        return cls(exponents, bits)

    @property
    def scale(self) -> Float64Array:
        """``2**e``, shape (n_columns,)."""
        return np.ldexp(1.0, self.exponents)

    @property
    def low_scale(self) -> float:
        """``2**bits``: from the rest of the first limb to the second."""
        return math.ldexp(1.0, self.bits)

    def high(self, y: Float64Array) -> Int64Array:
        """First limb of values of shape (..., n_columns)."""
        return np.rint(y * self.scale).astype(np.int64)

    def low(self, y: Float64Array) -> Int64Array:
        """Second limb of values of shape (..., n_columns)."""
        scaled = y * self.scale
        return np.rint((scaled - np.rint(scaled)) * self.low_scale).astype(np.int64)

    def mantissa(self, high: Any, low: Any) -> Any:
        """``float64(hi) + float64(lo) 2**-bits``: the decoded sum, still times ``2**e``."""
        return np.asarray(high, dtype=np.float64) + np.asarray(low, dtype=np.float64) / self.low_scale

    def decode(self, high: Any, low: Any) -> Any:
        """Value of a sum of codes, in float64."""
        return self.mantissa(high, low) * np.ldexp(1.0, -self.exponents)


@dataclass(frozen=True)
class Encoding:
    """How rows become integers in one fit: one code for the features, one for the weights.

    ``two_limbs`` is true for float64 data; for float32 data the first limb alone is the definition (it holds at least
    42 bits of a column at a million rows, float32 has 24). Weights always have both limbs. Without weights every row
    counts as the integer 1.
    """

    features: FixedPoint
    weights: FixedPoint
    two_limbs: bool

    @classmethod
    def for_peaks(
        cls, peaks: Float64Array, weight_peak: float | None, n_samples: int, dtype: np.dtype[Any]
    ) -> Encoding:
        """Encoding for data whose largest ``|w x|`` by feature is `peaks`; `weight_peak` is None without weights."""
        features = FixedPoint.for_peaks(peaks, n_samples)
        if weight_peak is None:
            weights = FixedPoint(np.zeros(1, dtype=np.intc), features.bits)
        else:
            weights = FixedPoint.for_peaks(weight_peak, n_samples)
        return cls(features, weights, np.dtype(dtype) == np.float64)


# ------------------------------------------------------------------------------------------------ distances
def sq_distances(X: FloatArray, Y: FloatArray) -> Float64Array:
    """Canonical D between rows of `X` (..., n_features) and rows of `Y`, broadcast against each other.

    ``sq_distances(X[:, None], centers[None])`` is the (n_samples, n_clusters) matrix.
    """
    X = np.asarray(X, dtype=np.float64)
    Y = np.asarray(Y, dtype=np.float64)
    total = np.zeros(np.broadcast_shapes(X.shape[:-1], Y.shape[:-1]))
    # an overflow to infinity ties with the others that overflow, which is the right answer for such a row
    with np.errstate(over="ignore"):
        for j in range(X.shape[-1]):
            t = X[..., j] - Y[..., j]
            total += t * t
    return total


class ScoreBound(NamedTuple):
    """``2 E(x) = const + |x'| (linear + quadratic |x'|)``: what two scores of a row may be wrong by, together."""

    const: float
    linear: float
    quadratic: float


class BoundTerms(NamedTuple):
    """What the terms of :func:`score_bound` are multiplied with: powers of ``|x'|`` and of the largest ``|c'|``."""

    chain_half_norm: float
    chain_product: float
    canonical_const: float
    canonical_quadratic: float
    tiny: float

    def at(self, centers_norm: float) -> ScoreBound:
        """The bound for centers of at most that norm."""
        if not centers_norm <= OVERFLOW_NORM:
            return ScoreBound(math.inf, 0.0, 0.0)
        of_norm = (self.chain_half_norm + self.canonical_const) * centers_norm * centers_norm
        return ScoreBound(
            of_norm + self.tiny * (1 + centers_norm),
            self.chain_product * centers_norm + self.tiny,
            self.canonical_quadratic,
        )


def bound_terms(
    n_features: int, *, chain: int | None = None, steps: int | None = None, unit: float = U32
) -> BoundTerms:
    """Terms of :func:`score_bound`, apart: for kernels that know the norm, and for a test that leaves one out."""
    if steps is None:
        steps = n_features if chain is None or n_features <= 2 * chain else chain + -(-n_features // chain)
    roundings = steps + 4
    second_order = 1.002
    of_chain = 2 * roundings * unit / (1 - roundings * unit) * second_order
    canonical = 2 * (n_features + 3) * U64 * second_order
    return BoundTerms(of_chain / 2, of_chain, canonical, canonical, 8 * (n_features + 4) * 2.0**-126)


def score_bound(
    n_features: int, centers_norm: float, *, chain: int | None = None, steps: int | None = None, unit: float = U32
) -> ScoreBound:
    r"""Bound of the fast pass: the label is certified where ``second - best > 2 E(x)``.

    The fast pass works on data minus a common shift (any shift: it changes no label), ``x'`` and ``c'`` rounded to
    the type of the pass, and computes ``score(x, c) = |c'|^2 / 2 - x' . c'``, which orders centers as D does with
    half its gaps.

    Parameters
    ----------
    n_features : int
    centers_norm : float
        Upper bound of ``|c'|`` over the centers (not squared).
    chain : int, optional
        Features in one multiply-add chain; None for a single chain over all features.
    steps : int, optional
        Additions that a product goes through on its way into the score, where they are not one chain or chains: for
        partial sums in the lanes of a vector, those of a lane and of the tree over the lanes.
    unit : float
        Half a unit in the last place of the type of the pass (2**-24 for float32, 2**-53 for float64).

    Returns
    -------
    ScoreBound
        Such that ``2 E(x) = const + |x'| (linear + quadratic |x'|)``. Its evaluation in float32 is allowed for.

    Notes
    -----
    With ``u`` the unit and ``U = 2**-53``. Every quantity that enters a score is at most
    ``m = |c'|^2 / 2 + |x'| |c'|`` (Cauchy-Schwarz, also for the partial sums of absolute products).

    1. *Roundings of the pass.* ``r`` of them touch a term on its way into the score: those of ``x'``, ``c'`` and the
       half norm, the multiply-adds of its chain (d, or ``chain`` and then ``d / chain`` additions of parts), and one to
       spare; a separate product and addition instead of a fused one is covered, because each of the two is charged
       with all of ``m``'s partial sums. So one score is within ``r u / (1 - r u) m``, two within twice that. The
       chain starts at the half norm, hence its share ``|c'|^2 / 2``.
    2. *Rounding of D itself.* D is within ``(d + 3) U D`` of the true square, ``D <= 2 (|x'|^2 + |c'|^2)``, and a
       score is half of D: ``(d + 3) U (|x'|^2 + |c'|^2)`` a score. Without it a pair that D calls a tie (broken by
       the lower index) would be certified the other way.
    3. *Underflow*, also when subnormals are flushed to zero: each of the d + 4 results may be off by ``2**-126``, and
       each ``x'_j`` or ``c'_j`` by as much, times the other: ``8 (d + 4) 2**-126 (1 + |c'| + |x'|)``.

    4. *Overflow.* From ``|c'| = 2**55`` on a float32 score could be infinite without being the largest: nothing is
       certified. (The same happens by itself for a row beyond 2**64, whose norm overflows.)

    A factor 1.002 covers second-order terms and the evaluation of the bound and of ``second - best`` in float32.
    No constant can be shaved: with 0.7 E, adversarial rows are labelled wrongly from d = 128 on. An infinity or a
    NaN in the comparison leaves the row open, never certified, because it is written as a difference.
    """
    return bound_terms(n_features, chain=chain, steps=steps, unit=unit).at(centers_norm)


class TensorType(NamedTuple):
    """A type that tensor cores multiply in: values rounded to it are within ``unit |v| + least``."""

    unit: float
    least: float  # where small values have less precision than float32's; elsewhere `tiny` covers it
    largest: float  # |c'| and |x'| up to which no value and no score overflows


TENSOR_TYPES = {
    "bf16": TensorType(2.0**-8, 0.0, OVERFLOW_NORM),
    "fp16": TensorType(2.0**-11, 2.0**-25, 2.0**15),
    "tf32": TensorType(2.0**-11, 0.0, OVERFLOW_NORM),
}
"""By name; products of two of their values are exact in float32."""


class TensorTerms(NamedTuple):
    """What :func:`tensor_bound` multiplies with the largest norm ``c``; the card does the same (pack.cuh).

    ``const = half_norm c^2 / 2 + canonical c^2 + tiny (1 + c) + least (c + least)``,
    ``linear = product c + tiny + least``, ``quadratic = canonical``; infinite where not ``c <= largest``. Where scores
    are offset, ``const`` grows by ``offset B``.
    """

    half_norm: float
    product: float
    canonical: float
    tiny: float
    least: float
    largest: float
    offset: float  # 0: the index is in the low bits of a score


def _tensor_shares(n_features: int, kind: str, index_bits: int, is_offset: bool) -> dict[str, float]:
    """Shares of :func:`tensor_terms`, apart, so that a test can remove each one and see a wrong label."""
    unit, least, _ = TENSOR_TYPES[kind]
    steps = n_features + 2 * -(-n_features // 4) + 4
    chain = steps * 2.0**-23 / (1 - steps * 2.0**-23)
    return {
        "chain": 0.0 if is_offset else 2 * chain,
        "offset": 2 * chain if is_offset else 0.0,
        "index": 0.0 if is_offset else 2 * 2.0 ** (index_bits - 23) * (1 + chain),
        "rounding": 2 * ((1 + unit) ** 2 - 1),
        "least": 2 * (1 + unit) * least * math.sqrt(n_features),
    }


def tensor_terms(n_features: int, kind: str, index_bits: int, *, is_offset: bool = False) -> TensorTerms:
    """Constants of :func:`tensor_bound` for one type of :data:`TENSOR_TYPES`."""
    shares, plain = _tensor_shares(n_features, kind, index_bits, is_offset), bound_terms(n_features)
    second_order, grown, scores = 1.002, (1 + TENSOR_TYPES[kind].unit) ** 2, shares["chain"] + shares["index"]
    return TensorTerms(
        half_norm=second_order * scores,
        product=second_order * (scores * grown + shares["rounding"]),
        canonical=plain.canonical_quadratic,
        tiny=plain.tiny,
        least=second_order * (1 + scores / 2) * shares["least"],
        largest=TENSOR_TYPES[kind].largest,
        offset=second_order * shares["offset"],
    )


def offset_size(n_features: int, centers_norm: float, kind: str) -> tuple[float, float]:
    """Size of the scores that :func:`binade` takes: this, and this times ``|x'|``; the card has the same (pack.cuh).

    Not less than any partial sum of a score. With ``e`` and ``b`` as in :func:`tensor_bound`, these are at most
    ``|c'|^2 / 2 + (1 + e)^2 (|x'| + b) (|c'| + b)``. 3 % more cover ``(1 + e)^2``, this evaluation in float32, and the
    roundings of the sum itself: a step costs ``2^-23 B``, up to ``2^-20`` of the size, so some 10,000 features.
    """
    least = tensor_terms(n_features, kind, 0, is_offset=True).least  # not less than b
    reach = centers_norm + least
    return 1.03 * (centers_norm**2 / 2 + least * reach), 1.03 * reach


def binade(size: float, index_bits: int) -> float:
    """B, a power of two above ``2 size``, up to ``8 size``: ``1.5 B`` and scores up to it lie in ``[B, 2 B)``.

    A key is the bits of such a score times ``2^index_bits``, plus an index: the upper bits that are lost are the same
    for all scores. One binade in ``2^(9 - index_bits)`` is passed over, that of an infinity without the lost bits, so
    that centers whose half norm is infinite are behind all others.
    """
    exponent = 2 + (math.frexp(size)[1] + 126 if size >= 2.0**-126 else 0)  # as float32 keeps it
    is_passed_over = (exponent + 1) % (1 << (9 - index_bits)) == 0
    return math.ldexp(1.0, exponent + is_passed_over - 127)


def tensor_bound(
    n_features: int, centers_norm: float, kind: str, index_bits: int, *, offset: float | None = None
) -> ScoreBound:
    r"""Bound of the pass on tensor cores: as :func:`score_bound`, certified where ``second - best > 2 E(x)``.

    The pass rounds ``x'`` and ``c'`` (float32, of the shifted data) to `kind`, multiplies exactly, adds in float32 to
    ``|c'|^2 / 2``, and replaces the lowest `index_bits` bits of a score by a part of the center's index. Or it adds to
    ``|c'|^2 / 2 + 1.5 B``, so that the bits of all scores are whole numbers that lose nothing to an index.

    Parameters
    ----------
    n_features : int
    centers_norm : float
        Upper bound of ``|c'|`` over the centers (not squared).
    kind : str
        One of :data:`TENSOR_TYPES`.
    index_bits : int
    offset : float, default=None
        ``B`` of the row, by :func:`binade`: that of the largest of the rows of its block, up to 512. None: the index is
        in low bits. Cards of compute capability 8.0 and 9.0 offset scores (`backends._tensor_config.OFFSET`).

    Returns
    -------
    ScoreBound
        Of rows with ``|x'|`` up to the type's ``largest``; of others nothing may be certified.

    Notes
    -----
    With ``e`` the type's unit, ``b = least sqrt(d)`` and ``m`` as in :func:`score_bound`.

    1. *Rounding to the type.* Rounded vectors are within ``e |v| + b`` of their own, so the product is within
       ``((1 + e)^2 - 1) |x'| |c'| + b (1 + e) (|x'| + |c'|) + b^2``. It is the same ``x'`` in both scores, but
       centers on opposite sides of the shift make its two errors add: twice that. Absolute products may have grown:
       what follows charges ``m`` with ``(1 + e)^2 |x'| |c'|`` (and the terms of b) in place of ``|x'| |c'|``.
    2. *Adding.* How the cores add is not documented. A step of a chain costs at most ``2^-23`` of m, whether it rounds
       or truncates. If they align the products of a block to the largest one or the accumulator, truncate and add
       exactly, each product costs a step and each block one more. Blocks have at least 4 products: ``d`` steps and
       ``2 ceil(d / 4)`` (not 1 for each: features that fill no block may lie in several). The roundings of ``x'``,
       ``c'`` and the half norm to float32 are 3 of the other 4 steps at twice their size. Twice, for two scores.
    3. *Index.* A score moves by less than ``2^index_bits`` units in its last place: ``2^(index_bits - 23)`` of it;
       twice. (That no order of scores is reversed by it does not help: other errors may do that, and the index then
       widens the gap.)
    4. *Rounding of D* and *underflow*: as there. Among subnormal numbers the type's own rounding, each sum and the
       index are off by ``2^-126`` at most; less than ``8 (d + 4)`` of these meet.
    5. *Overflow.* Beyond the type's largest norm nothing is certified.
    6. *Offset*, in place of 3 and of the shares of ``m`` in 2. No partial sum is above ``B / 2`` (:func:`offset_size`),
       so with ``1.5 B`` all of them lie in ``[B, 2 B)``, where a unit in the last place is ``2^-23 B``: that is what
       each of the steps of 2 costs. To add ``1.5 B`` to a half norm costs half a step more; the roundings to float32
       cost a quarter of one each, as ``m < B / 2``: together less than the 4 steps that are counted for them. To
       subtract it is exact, and so is the index. ``2 (d + 2 ceil(d / 4) + 4) 2^-23 B``, with ``B > 2 m``, is more than
       what the float32 pass has for its roundings.
    7. *Groups.* Where one key stands for the least score of a group of centers, those of the best group are scored
       again in float32: :func:`grouped_bound`.

    The bound is nowhere below that of :func:`score_bound`, so candidates of a row left open, scored in float32, are
    those within 2 E of the best score of this pass.
    """
    terms, c = tensor_terms(n_features, kind, index_bits, is_offset=offset is not None), centers_norm
    if not c <= terms.largest:
        return ScoreBound(math.inf, 0.0, 0.0)
    const = terms.half_norm * c * c / 2 + terms.canonical * c * c + terms.tiny * (1 + c)
    const += terms.least * (c + terms.least)
    return ScoreBound(
        const + terms.offset * (offset or 0.0),
        terms.product * c + terms.tiny + terms.least,
        terms.canonical,
    )


def grouped_bound(fine: ScoreBound, tensor: ScoreBound) -> ScoreBound:
    """Bound where tensor cores name the best group of centers, and float32 scores (of the bound `fine`) its best one.

    A label is certified where ``min(next, second) - best > E(x) + F(x)``: `best` and `next` are the two lowest float32
    scores in the group, within F of their true ones; `second` is the least tensor score of all other centers, so none
    of these is truly below ``second - E``. E and F are half of `tensor` and of `fine`, each with its share of the
    rounding of D: a center whose score minus its error is above the label's plus its own has the larger D. For the
    others of the group 2 F would do, which is not more, as the tensor bound is nowhere below that of float32.

    It holds for any group, whichever is taken for the best one where keys are equal, as long as `second` is not above
    the key of any other. The key of a group has no index in its bits that would widen a gap, as scores are offset.
    """
    return ScoreBound(*((of_one + of_other) / 2 for of_one, of_other in zip(fine, tensor, strict=True)))


# ------------------------------------------------------------------------------------------------ scalars
def tree_sum(values: Float64Array) -> float:
    """Sum by a binary tree over neighbours, padded with zeros to a power of two: one order on every device."""
    size = 1 << max(0, (len(values) - 1).bit_length())
    level = np.zeros(size)
    level[: len(values)] = values
    while len(level) > 1:
        level = level[0::2] + level[1::2]
    return float(level[0])


def shift_sq(new: Float64Array, old: Float64Array) -> float:
    """Squared distance between old and new centers, summed over clusters: features in order, then :func:`tree_sum`."""
    return tree_sum(sq_distances(new, old))


def cluster_weights(encoding: Encoding, high: Int64Array, low: Int64Array | None) -> Float64Array:
    """Decoded weight of each cluster, shape (n_clusters,)."""
    return np.asarray(encoding.weights.decode(high, 0 if low is None else low), dtype=np.float64)


def new_centers(
    encoding: Encoding,
    sums: Int64Array,
    sums_low: Int64Array | None,
    weights: Float64Array,
    dtype: np.dtype[Any],
) -> Float64Array:
    """Centers from integer sums: ``((hi + lo 2**-bits) / W) 2**-e``, rounded to the dtype of X, returned as float64.

    A cluster of weight 0 is put at the center of the heaviest one (lowest index).
    """
    mantissa = encoding.features.mantissa(sums, 0 if sums_low is None else sums_low)
    filled = np.where(weights > 0, weights, 1.0)
    # divided before it is scaled back: the mean of large values does not overflow where their sum would
    centers = (mantissa / filled[:, None]) * np.ldexp(1.0, -encoding.features.exponents)
    centers = np.ascontiguousarray(centers.astype(dtype).astype(np.float64))
    centers[weights == 0] = centers[int(np.argmax(weights))]
    return centers


def running_means(
    means: Float64Array, weights: Float64Array, totals: Float64Array, added: Float64Array
) -> Float64Array:
    """Means after a batch whose clusters have these sums and the weights `added`: ``(m W + S) / (W + w)``.

    In float64, each operation rounded; a cluster of the weight 0 in this batch stays where it is. `means` are not
    rounded to the dtype of X from batch to batch: after many batches what a batch adds would be lost.
    """
    grown = np.where(added > 0, weights + added, 1.0)
    moved = (means * weights[:, None] + totals) / grown[:, None]
    return np.where((added > 0)[:, None], moved, means)


@dataclass(frozen=True)
class Moments:
    """Codes for the variance of each feature: of ``q = x - pivot`` and of ``q q``, first limbs only.

    ``pivot = min / 2 + max / 2``, so that ``q`` has no common offset left to cancel.
    """

    pivot: Float64Array
    first: FixedPoint
    second: FixedPoint

    @classmethod
    def for_range(cls, low: Float64Array, high: Float64Array, n_samples: int) -> Moments:
        """Codes for data whose features lie between `low` and `high`, each of shape (n_features,)."""
        pivot = low / 2 + high / 2
        reach = np.maximum(np.abs(low - pivot), np.abs(high - pivot))
        return cls(pivot, FixedPoint.for_peaks(reach, n_samples), FixedPoint.for_peaks(reach * reach, n_samples))

    def mean_variance(self, first: Int64Array, second: Int64Array, n_samples: int) -> float:
        """Mean over the features of their (unweighted) variance, from the sums of the two codes."""
        a = self.first.decode(first, 0)
        b = self.second.decode(second, 0)
        variance = np.maximum((b - a * a / n_samples) / n_samples, 0.0)
        return float(np.add.accumulate(variance)[-1]) / len(variance)  # one after the other: `sum` has its own order


def inertia(code: FixedPoint, high: int, low: int) -> float:
    """Sum of weighted squared distances from its two integer limbs."""
    return float(code.decode(high, low)[0])


def sample_index(u: float, total: int) -> int:
    """Integer that the prefix sum of the sampled row must exceed: ``floor(u total)``, below `total`."""
    return min(math.floor(u * float(total)), total - 1)


def sample_indices(u: Float64Array, total: int) -> Int64Array:
    """:func:`sample_index` for many draws."""
    return np.minimum(np.floor(u * float(total)).astype(np.int64), total - 1)
