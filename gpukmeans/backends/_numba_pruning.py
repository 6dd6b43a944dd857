"""Compiled kernels of the pruned assignment: tiles of rows whose labels provably stay are not read.

Rows lie in tiles of rows of the same cluster, centers in groups of neighbours. With a reference distance a_i kept for
each row (its *anchor*), two numbers say all that is known of a tile:

    offset      >= u_i - a_i       for each row, where u_i is at least the distance to its own center
    slack[g]    <= l_ig - a_i      for each row, where l_ig is at most the distance to every other center of group g

so a group whose slack exceeds the offset holds no center that is as near as the own one, for any row of the tile.
When centers move, the offset grows by the largest move of an own center and the slack shrinks by the largest move of
the group (kept as a running sum for each group, `cum`, so that no tile need be touched).

Every number is rounded outward: MARGIN covers a few float32 roundings of a sum, relative to the sizes of its terms;
the error of a squared distance made from a score is in `_prepare_errors`. A NaN leaves a group open.
"""

from __future__ import annotations

import numpy as np

from ._layout import MARGIN as _MARGIN
from ._layout import TILE
from ._numba_assign import move_rows
from ._numba_compiler import compiled
from ._numba_distance import recheck
from ._tiles import excess_over, load_tile, merge_group, score_groups, slack_under
from ._tiles_common import nothing_scored

MARGIN = np.float32(_MARGIN)

PRUNED_FLOATS, PRUNED_INTS = 7, 4
"""Lines of scratch memory that `assign_pruned` needs; two more of float32 and one of int32 for each group."""


def _sort_rows(labels, rank, stride, ends, order):  # type: ignore[no-untyped-def]
    """Fill `order` with every `stride`-th row, sorted by the rank of its label (-1: left out); returns how many.

    ends: a zero for each rank, and one more.
    """
    n_ranks = ends.size - 1
    for i in range(0, labels.size, stride):
        ends[rank[labels[i]] + 1] += 1
    ends[0] = 0
    for r in range(n_ranks):
        ends[r + 1] += ends[r]
    for i in range(0, labels.size, stride):
        r = rank[labels[i]]
        if r >= 0:
            order[ends[r]] = i
            ends[r] += 1
    return ends[n_ranks - 1]


def _prepare_errors(norm, bound, n_features, centers_norm, threshold, error):  # type: ignore[no-untyped-def]
    """What two scores of a row may be wrong by (`threshold`), and a squared distance made of one (`error`).

    The squared distance is ``2 score + v v`` with v the upper bound of |x'|. Twice a score is wrong by the threshold;
    v v by what v was rounded up by, (3 d + 30) 2**-24 of itself and twice v times what stands for squares that
    vanish; adding the terms, none of which exceeds 2 (v v + cmax cmax), by a few units in the last place.
    """
    relative = np.float32((2 * n_features + 40) * 2.0**-23)
    vanished = np.float32(2.0**-58 * np.sqrt(np.float64(n_features)))
    top = centers_norm * centers_norm
    for i in range(TILE):
        v = norm[i]
        threshold[i] = bound[0] + v * (bound[1] + bound[2] * v)
        error[i] = threshold[i] + (v * v + top) * relative + v * vanished


sort_rows = compiled(_sort_rows)
prepare_errors = compiled(_prepare_errors, inner=True)


def _assign_pruned(  # type: ignore[no-untyped-def]
    X, first, last, order, own, common, anchor, slack, offset, fresh, labels, keep,
    centers, shift, groups, half, bound, centers_norm, parts, center_at, position_of, group_of, cum, drift,
    weight, scale, sums, counts, scratch,
):  # fmt: skip
    """As `assign`, for tiles first..last of `order`; `fresh`: nothing is known of the tiles yet.

    order: row of each place; own: its label; common: label of all rows of a tile, or -1; anchor: as above;
    slack: (n_tiles, n_groups); offset: (n_tiles,). groups: the packed centers in the order `center_at` (a place to its
    center; `position_of` is its inverse), `parts` packed
    groups to a group. drift: how far each center moved. counts: (moved, rechecked, groups scored, tiles read).
    keep: labels and sums are brought up to date; else only what is kept here (a trial). scratch: `_scratch.Scratch`.
    """
    n_features = centers.shape[1]
    n_groups = slack.shape[1]
    width = groups.shape[2] * parts
    tile, doubles, longs, floats, ints = scratch
    x = doubles[:n_features]
    rows, address, scored = longs[0], longs[1], longs[2]
    norm, threshold, error, u, a, best, second = (
        floats[0], floats[1], floats[2], floats[3], floats[4], floats[5], floats[6]
    )  # fmt: skip
    label, old, new, is_own = ints[0], ints[1], ints[2], ints[3]
    group_best, group_second = floats[PRUNED_FLOATS:], floats[PRUNED_FLOATS + n_groups :]
    group_label = ints[PRUNED_INTS:]
    for t in range(first, last):
        start = t * TILE
        m = min(TILE, order.size - start)
        the_own = common[t]
        moved_by = drift[max(the_own, 0)]
        if the_own < 0:
            moved_by = np.float32(0)
            for i in range(m):
                step = drift[own[start + i]]
                moved_by = step if step > moved_by else moved_by
        top = offset[t] + moved_by + (abs(offset[t]) + moved_by) * MARGIN
        if not fresh:
            is_open = np.int32(0)
            for g in range(n_groups):
                gap = slack[t, g] - cum[g] - (abs(slack[t, g]) + cum[g]) * MARGIN
                is_open |= np.int32(0) if gap > top else np.int32(1)
            if not is_open:
                offset[t] = top
                continue
        counts[3] += 1
        for i in range(m):
            rows[i] = order[start + i]
            a[i] = anchor[start + i]
        for i in range(m, TILE):  # the last row fills the last tile
            rows[i] = rows[m - 1]
            a[i] = a[m - 1]
        load_tile(X, rows, m < 0, address, doubles, shift, tile, norm)
        prepare_errors(norm, bound, n_features, centers_norm, threshold, error)
        nothing_scored(best, second, label)
        for g in range(n_groups):
            is_own[g] = 1 if fresh else 0
        if the_own >= 0:
            is_own[group_of[the_own]] = 1
        else:
            for i in range(m):
                is_own[group_of[own[start + i]]] = 1
        n_scored = 0
        for others in range(2):
            for g in range(n_groups):
                if (is_own[g] == 1) == (others == 1):
                    continue
                if others == 1:
                    gap = slack[t, g] - cum[g] - (abs(slack[t, g]) + cum[g]) * MARGIN
                    if gap > top:
                        continue
                b, s, p = group_best[n_scored], group_second[n_scored], group_label[n_scored]
                score_groups(tile, groups, g * parts, parts, half, b, p, s)
                merge_group(b, s, p, g * width, best, second, label)
                scored[n_scored] = g
                n_scored += 1
                if others == 1:
                    top = excess_over(a, best, norm, error, u)
            if others == 0:
                top = excess_over(a, best, norm, error, u)
        counts[2] += n_scored
        is_open = np.int32(0)
        for i in range(TILE):
            is_open |= np.int32(0) if second[i] - best[i] > threshold[i] else np.int32(1)
        if is_open:
            for i in range(TILE):
                if not (second[i] - best[i] > threshold[i]):
                    label[i] = position_of[recheck(X, rows[i], centers, x)]
                    counts[1] += i < m
        # the anchors move to where the rows are now: what was not scored pays for it, what was is exact again
        for g in range(n_groups):
            slack[t, g] = slack[t, g] - top - (abs(slack[t, g]) + abs(top)) * MARGIN
        for i in range(m):
            anchor[start + i] = u[i]
        offset[t] = 0
        for q in range(n_scored):
            g = scored[q]
            low = slack_under(group_best[q], group_second[q], group_label[q], label, norm, error, u)
            slack[t, g] = low + cum[g] - (abs(low) + cum[g]) * MARGIN
        is_mixed = np.int32(0)
        for i in range(TILE):
            is_mixed |= label[i] ^ label[0]
        before = the_own
        the_own = np.int32(-1) if is_mixed else center_at[label[0]]
        common[t] = the_own
        if before >= 0 and before == the_own:
            continue
        moved = np.int64(0)  # not a literal, see `assign`
        for i in range(m):
            cluster = center_at[label[i]]
            if cluster != own[start + i]:
                rows[moved], old[moved], new[moved] = rows[i], own[start + i], cluster
                own[start + i] = cluster
                moved += 1
        counts[0] += moved
        if keep:
            for i in range(moved):
                labels[rows[i]] = new[i]
        if keep and moved > 0 and sums.size > 0:
            move_rows(X, rows, moved, old, new, weight, scale, sums)


assign_pruned = compiled(_assign_pruned)
