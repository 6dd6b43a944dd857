"""What `_tiles_simd` does, in plain loops: slower, and compiled wherever Numba is."""

from __future__ import annotations

import numpy as np

from ..exact import CHAIN
from ._layout import LANES, MARGIN, TILE, TINY, VANISHED
from ._numba_compiler import compiled
from ._tiles_common import nothing_scored, smallest_two

_MARGIN, _TINY = np.float32(MARGIN), np.float32(TINY)


def _round_up_norms(norm, n_features):  # type: ignore[no-untyped-def]
    """Squares of |x'|, rounded while they were added, to upper bounds of |x'|."""
    inflate = np.float32(1.0 + (n_features + 8) * 2.0**-24)
    tiny = np.float32(VANISHED)
    for i in range(TILE):
        norm[i] = np.sqrt(norm[i]) * inflate + tiny


def _moved(X, row, j, shift):  # type: ignore[no-untyped-def]
    """The value minus the shift, rounded once in the dtype of X, then to float32."""
    if X[1].size:
        return np.float32(X[1][row, j] - shift[1][j])
    return X[0][row, j] - shift[0][j]


def _load_tile(X, rows, in_order, address, padded, shift, tile, norm):  # type: ignore[no-untyped-def]
    """Transpose x - shift of the given rows into the tile; `norm`: upper bounds of |x'|."""
    n_features = X[0].shape[1]
    for i in range(TILE):
        for j in range(n_features):
            tile[j, i] = moved(X, rows[i], j, shift)
    norm[:] = 0
    for j in range(n_features):
        for i in range(TILE):
            norm[i] += tile[j, i] * tile[j, i]
    round_up_norms(norm, n_features)


def _score_groups(tile, packed, first, n_groups, half, best, label, second):  # type: ignore[no-untyped-def]
    """Best and second best score of each row of the tile among `n_groups` groups of centers from `first` on."""
    n_features, width = packed.shape[1:]
    chain = CHAIN if n_features > 2 * CHAIN else n_features
    total = np.empty((1, TILE), np.float32)
    part = np.empty(TILE, np.float32)
    nothing_scored(best, second, label)
    for c in range(n_groups * width):
        total[:] = half[first * width + c]
        for start in range(0, n_features, chain):
            part[:] = 0
            for j in range(start, min(start + chain, n_features)):
                for i in range(TILE):
                    part[i] += packed[first + c // width, j, c % width] * tile[j, i]
            for i in range(TILE):
                total[0, i] += part[i]
        for i in range(TILE):
            is_less = total[0, i] < best[i]
            loser = best[i] if is_less else total[0, i]
            second[i] = loser if loser < second[i] else second[i]
            label[i] = np.int32(c) if is_less else label[i]
            best[i] = total[0, i] if is_less else best[i]


def _score_blocks(X, rows, address, shift, packed, half, scores, norm, best, label, second):  # type: ignore[no-untyped-def]
    """As `load_tile` and `score_groups`, for centers in blocks; lane by lane, as its bound wants it."""
    n_features = X[0].shape[1]
    n_blocks, n_chunks, width, _ = packed.shape
    lanes = np.empty(LANES, np.float32)
    x = np.empty(n_chunks * LANES, np.float32)
    for i in range(TILE):
        for lane in range(n_chunks * LANES):  # the last chunk holds the last LANES features
            j = lane if lane < (n_chunks - 1) * LANES else lane - (n_chunks * LANES - n_features)
            x[lane] = moved(X, rows[i], j, shift)
        for c in range(n_blocks * width):
            lanes[:] = 0
            for chunk in range(n_chunks):
                for lane in range(LANES):
                    lanes[lane] += packed[c // width, chunk, c % width, lane] * x[chunk * LANES + lane]
            scores[c, i] = sum_of_lanes(lanes)
        lanes[:] = 0
        for chunk in range(n_chunks):
            for lane in range(LANES):
                lanes[lane] += x[chunk * LANES + lane] * x[chunk * LANES + lane]
        norm[i] = sum_of_lanes(lanes)
    round_up_norms(norm, n_features)
    smallest_two(scores, half, best, label, second)


def _sum_of_lanes(lanes):  # type: ignore[no-untyped-def]
    """Sum by a tree, which overwrites them."""
    step = LANES // 2
    while step:
        for lane in range(step):
            lanes[lane] += lanes[lane + step]
        step //= 2
    return lanes[0]


def _merge_group(group_best, group_second, group_label, first, best, second, label):  # type: ignore[no-untyped-def]
    """Add the two smallest scores of a group whose places begin at `first` to those of the groups before."""
    for i in range(TILE):
        group_label[i] += np.int32(first)
        is_less = group_best[i] < best[i]
        loser = best[i] if is_less else group_best[i]
        runner_up = group_second[i] if group_second[i] < second[i] else second[i]
        second[i] = loser if loser < runner_up else runner_up
        label[i] = group_label[i] if is_less else label[i]
        best[i] = group_best[i] if is_less else best[i]


def _distance(score, norm, error, margin):  # type: ignore[no-untyped-def]
    sq = np.float32(2) * score + norm * norm + error
    sq = np.float32(0) if sq < 0 else sq
    return np.sqrt(sq) * (np.float32(1) + margin)


def _gap(low, high):  # type: ignore[no-untyped-def]
    """Lower bound of ``low - high``; -inf for a NaN."""
    value = low - high - (abs(low) + abs(high)) * _MARGIN
    return value if value == value else -np.float32(np.inf)


def _excess_over(anchor, best, norm, error, u):  # type: ignore[no-untyped-def]
    """Fill u with upper bounds of the distance to the best score's center; returns one of the largest u - anchor."""
    low = np.float32(np.inf)
    for i in range(TILE):
        u[i] = distance(best[i], norm[i], error[i], _MARGIN) + _TINY
        low = min(low, gap(anchor[i], u[i]))
    return -low


def _slack_under(group_best, group_second, group_label, label, norm, error, u):  # type: ignore[no-untyped-def]
    """Lower bound of the smallest l - u, l the distance to the nearest center of the group that is not `label`."""
    low = np.float32(np.inf)
    for i in range(TILE):
        score = group_second[i] if group_label[i] == label[i] else group_best[i]
        low = min(low, gap(distance(score, norm[i], -error[i], -_MARGIN) - _TINY, u[i]))
    return low


round_up_norms = compiled(_round_up_norms, inner=True)
moved = compiled(_moved, inner=True)
sum_of_lanes = compiled(_sum_of_lanes, inner=True)
distance = compiled(_distance, inner=True)
gap = compiled(_gap, inner=True)
load_tile = compiled(_load_tile, inner=True)
score_groups = compiled(_score_groups, allocates=True)
score_blocks = compiled(_score_blocks, allocates=True)
merge_group = compiled(_merge_group, inner=True)
excess_over = compiled(_excess_over, inner=True)
slack_under = compiled(_slack_under, inner=True)
