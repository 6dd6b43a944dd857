"""Compiled kernels of what is done to the centers between two passes over the rows."""

from __future__ import annotations

import numpy as np

from ..exact import OVERFLOW_NORM
from ._layout import LANES
from ._numba_compiler import compiled
from ._numba_distance import any_order

ROUND_UP = 1 + 2.0**-22
"""Times a float64 and then rounded to float32 it is not smaller than before."""


def _equals_earlier(centers, norms, k):  # type: ignore[no-untyped-def]
    """Whether a center with a lower index equals center k."""
    n_alike = np.int64(0)
    for b in range(k):
        n_alike += norms[b] == norms[k]
    if n_alike == 0:
        return False
    for b in range(k):
        if norms[b] == norms[k]:
            same = True
            for j in range(centers.shape[1]):
                same &= centers[b, j] == centers[k, j]
            if same:
                return True
    return False


def _prepare(  # type: ignore[no-untyped-def]
    centers, order, shift, groups, blocks, half, bound, work, terms, certify
):  # fmt: skip
    """Lay the centers out for the fast pass, in the given order; returns how many equal one before.

    Fills what `_cpu_centers.Packed` holds, but for the padding. Of equal centers all but the first get an infinite
    half norm: the label is the first one's anyway, and a row between two equal centers could never be certified.
    work: n_clusters + n_features values; terms: `exact.bound_terms`.
    """
    n_clusters, n_features = centers.shape
    norms, mean = work[:n_clusters], work[n_clusters : n_clusters + n_features]
    # any shift gives the same labels; this one keeps the scores small
    for j in range(n_features):
        mean[j] = 0.0
    for k in range(n_clusters):
        for j in range(n_features):
            mean[j] += centers[k, j]
    for j in range(n_features):
        mean[j] /= n_clusters
        if shift[0].size:
            shift[0][j] = np.float32(mean[j])
            mean[j] = np.float64(shift[0][j])
        else:
            shift[1][j] = mean[j]
    top = 0.0
    is_finite = True
    for k in range(n_clusters):
        norms[k] = any_order(mean, centers[k])
        top = max(top, norms[k])
        is_finite &= norms[k] < np.inf
    n_equal = 0
    for p in range(n_clusters):
        half[p] = np.float32(0.5 * norms[order[p]])
        if equals_earlier(centers, norms, order[p]):
            half[p] = np.inf
            n_equal += 1
    for p in range(n_clusters):
        center = centers[order[p]]
        if groups.size:
            width = groups.shape[2]
            group, place = groups[p // width], p % width
            for j in range(n_features):
                group[j, place] = -np.float32(center[j] - mean[j])
        else:
            n_chunks, width = blocks.shape[1:3]
            block, place = blocks[p // width], p % width
            for chunk in range(n_chunks - 1):
                for lane in range(LANES):
                    j = chunk * LANES + lane
                    block[chunk, place, lane] = -np.float32(center[j] - mean[j])
            for j in range((n_chunks - 1) * LANES, n_features):  # in the last lanes: the others are in the chunk before
                block[n_chunks - 1, place, j + LANES - n_features] = -np.float32(center[j] - mean[j])
    norm = np.sqrt(top) * (1.0 + (n_features + 8) * 2.0**-53)
    chain_half_norm, chain_product, canonical_const, canonical_quadratic, tiny = terms
    if not certify:
        bound[0], bound[1], bound[2] = -np.inf, 0.0, 0.0  # every row passes
    elif is_finite and norm <= OVERFLOW_NORM:  # as `exact.BoundTerms.at`
        of_norm = (chain_half_norm + canonical_const) * norm * norm
        bound[0] = np.float32((of_norm + tiny * (1 + norm)) * ROUND_UP)
        bound[1] = np.float32((chain_product * norm + tiny) * ROUND_UP)
        bound[2] = np.float32(canonical_quadratic * ROUND_UP)
    else:
        bound[0], bound[1], bound[2] = np.inf, 0.0, 0.0
    bound[3] = np.float32(norm * ROUND_UP)
    return n_equal


def _recenter(sums, unscale, relocated, before, after, work):  # type: ignore[no-untyped-def]
    """Fill `after` with the new centers, as `exact.new_centers`; returns (n_empty, shift as `exact.shift_sq`, changed).

    Does nothing if a cluster is empty, unless they have been `relocated`: what is still empty then goes to the heaviest
    cluster's center. sums: as `move_rows` leaves them; unscale: the inverse of its `scale`; work: as many
    values as clusters and as the next power of two.
    """
    n_clusters, n_features = before.shape
    two_limbs = sums.shape[1] > n_features + 2
    weight_unit, low_unit = unscale[n_features], unscale[n_features + 1]
    weight_of, sq = work[:n_clusters], work[n_clusters:]
    heaviest, n_empty = 0, 0
    for k in range(n_clusters):
        weight = (np.float64(sums[k, n_features]) + np.float64(sums[k, n_features + 1]) * low_unit) * weight_unit
        weight_of[k] = weight
        n_empty += weight == 0
        if weight > weight_of[heaviest]:
            heaviest = k
    if n_empty and not relocated:
        return n_empty, 0.0, False
    changed = False
    for k in range(n_clusters):
        source = k if weight_of[k] > 0 else heaviest
        divisor = weight_of[source] if weight_of[source] > 0 else 1.0
        for j in range(n_features):
            mantissa = np.float64(sums[source, j])
            if two_limbs:
                mantissa += np.float64(sums[source, n_features + 2 + j]) * low_unit
            center = (mantissa / divisor) * unscale[j]
            if not two_limbs:  # data of float32
                center = np.float64(np.float32(center))
            changed |= center != before[k, j]
            after[k, j] = center
    size = 1
    while size < n_clusters:
        size *= 2
    for k in range(n_clusters, size):
        sq[k] = 0.0
    for k in range(0, n_clusters, 4):  # side by side: one chain of additions waits for itself
        k1, k2, k3 = min(k + 1, n_clusters - 1), min(k + 2, n_clusters - 1), min(k + 3, n_clusters - 1)
        s0 = s1 = s2 = s3 = 0.0
        for j in range(n_features):
            t0, t1 = after[k, j] - before[k, j], after[k1, j] - before[k1, j]
            t2, t3 = after[k2, j] - before[k2, j], after[k3, j] - before[k3, j]
            s0, s1, s2, s3 = s0 + t0 * t0, s1 + t1 * t1, s2 + t2 * t2, s3 + t3 * t3
        sq[k], sq[k1], sq[k2], sq[k3] = s0, s1, s2, s3
    while size > 1:
        size //= 2
        for k in range(size):
            sq[k] = sq[2 * k] + sq[2 * k + 1]
    return n_empty, sq[0], changed


equals_earlier = compiled(_equals_earlier, inner=True)
prepare = compiled(_prepare, inner=True)
recenter = compiled(_recenter, inner=True)


def _prepare_alone(  # type: ignore[no-untyped-def]
    centers, order, shift, groups, blocks, half, bound, work, terms, certify
):  # fmt: skip
    return prepare(centers, order, shift, groups, blocks, half, bound, work, terms, certify)


def _recenter_alone(sums, unscale, relocated, before, after, work):  # type: ignore[no-untyped-def]
    return recenter(sums, unscale, relocated, before, after, work)


# for Python: most fits do without
prepare_alone = compiled(_prepare_alone)
recenter_alone = compiled(_recenter_alone)
