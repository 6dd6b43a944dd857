"""Compiled kernels of the iterations: the fast pass, its certificate, the recheck, the rows that moved, new centers."""

from __future__ import annotations

import numpy as np

from ._layout import TILE
from ._numba_centers import prepare, recenter
from ._numba_compiler import compiled
from ._numba_distance import recheck
from ._tiles import VECTOR_CODE, load_tile, score_blocks, score_groups

if VECTOR_CODE:
    from ._atomic import fetch_add, pause, read, write
    from ._simd_passes import code
else:
    from ._plain_atomic import fetch_add, pause, read, write
    from ._plain_passes import code

LABELS, REBUILD, MOVED = 0, 1, 2
"""What `assign` does with the sums: leaves them, adds every row, or moves the rows that changed."""

REBUILD_SHARE = 0.5
"""Sums are added up afresh when more of the rows than this moved: one addition a row instead of two."""

GO_ON, STRICT, WITHIN_TOL, EMPTY = 0.0, 1.0, 2.0, 3.0
"""`base.State`."""

PASS, NEXT, INSIDE, MODE, SIZE = 0, 8, 16, 24, 32
"""Of a team: 2 i + 1 while pass i is open, negative at the end; next row; workers in the pass; what it does with the
sums; rows of a range. Each in a line of the cache of its own."""

TEAM_SIZE = 40
"""Numbers of a team."""

ASSIGN_LINES = 3
"""Lines of scratch memory that `assign` needs of each kind."""


def _assign(  # type: ignore[no-untyped-def]
    X, low, high, labels, centers, shift, groups, blocks, half, bound, mode, weight, scale, sums, counts, scratch
):  # fmt: skip
    """Renew the labels of rows low..high and bring the sums of this worker up to date (see LABELS, REBUILD, MOVED).

    X: the rows as float32 and as float64, one of them empty: so there is one kernel for both. shift: likewise, so that
    x - shift is rounded once. groups or blocks: the packed centers, the other one
    is empty. bound: (const, linear, quadratic) in float32, rounded up. counts: (moved, rechecked), added to.
    weight, scale, sums: see `move_rows`.
    scratch: `_scratch.Scratch` with ASSIGN_LINES lines of float32 and of int32, one more a center for `blocks`.
    """
    n_features = centers.shape[1]
    in_blocks = blocks.size > 0
    const, linear, quadratic = bound[0], bound[1], bound[2]
    tile, doubles, longs, floats, ints = scratch
    x = doubles[:n_features]
    rows, address = longs[0], longs[1]
    norm, best, second, scores = floats[0], floats[1], floats[2], floats[3:]
    label, old, new = ints[0], ints[1], ints[2]
    for start in range(low, high, TILE):
        m = min(TILE, high - start)
        for i in range(TILE):
            rows[i] = min(start + i, high - 1)  # the last row fills the last tile
        if in_blocks:
            score_blocks(X, rows, address, shift, blocks, half, scores, norm, best, label, second)
        else:
            load_tile(X, rows, m == TILE, address, doubles, shift, tile, norm)
            score_groups(tile, groups, 0, groups.shape[0], half, best, label, second)
        is_open = np.int32(0)
        for i in range(TILE):
            v = norm[i]
            norm[i] = const + v * (linear + quadratic * v)
            # as a difference: an infinity or a NaN is never certified
            is_open |= np.int32(0) if second[i] - best[i] > norm[i] else np.int32(1)
        if is_open:
            for i in range(m):
                if not (second[i] - best[i] > norm[i]):
                    label[i] = recheck(X, start + i, centers, x)
                    counts[1] += 1
        before = labels[start : start + m]  # an index that might be negative would be gathered
        moved = np.int64(0)
        for i in range(m):
            moved += before[i] != label[i]
        counts[0] += moved
        if mode == REBUILD:
            moved = np.int64(m)
            for i in range(m):
                old[i], new[i] = -1, label[i]
        elif mode == MOVED and moved > 0:
            moved = np.int64(0)
            for i in range(m):
                if before[i] != label[i]:
                    rows[moved], old[moved], new[moved] = rows[i], before[i], label[i]
                    moved += 1
        if mode != LABELS and moved > 0:
            move_rows(X, rows, moved, old, new, weight, scale, sums)
        for i in range(m):
            before[i] = label[i]


def _move_rows(X, rows, m, old, new, weight, scale, sums):  # type: ignore[no-untyped-def]
    """Take each of the first m rows out of the sums of its old cluster (-1: of none) and add it to the new one's.

    weight: of each row, or empty. scale: what is multiplied to make a code of each feature, of a weight, and of what is
    left for the low limb. sums: a line a cluster with the codes' sum of each feature, of the weights, the low limb of
    that, and for data of float64 the low limbs of the features.
    """
    n_features = X[0].shape[1]
    two_limbs = X[1].size > 0
    low_scale = scale[n_features + 1]
    for i in range(m):
        a, b, row = old[i], new[i], rows[i]
        w = 1.0
        high = np.int64(1)
        if weight.size > 0:
            w = weight[row]
            y = w * scale[n_features]
            high = code(y)
            low = code((y - np.rint(y)) * low_scale)
            sums[b, n_features + 1] += low
            if a >= 0:
                sums[a, n_features + 1] -= low
        sums[b, n_features] += high
        if a >= 0:
            sums[a, n_features] -= high
        if two_limbs:  # a loop a limb, in a slice: else the compiler makes no vectors of them
            lows = sums[b, n_features + 2 :]
            if a >= 0:
                old_lows = sums[a, n_features + 2 :]
                for j in range(n_features):
                    high = code(w * X[1][row, j] * scale[j])
                    sums[b, j] += high
                    sums[a, j] -= high
                for j in range(n_features):
                    y = w * X[1][row, j] * scale[j]
                    low = code((y - np.rint(y)) * low_scale)
                    lows[j] += low
                    old_lows[j] -= low
            else:
                for j in range(n_features):
                    sums[b, j] += code(w * X[1][row, j] * scale[j])
                for j in range(n_features):
                    y = w * X[1][row, j] * scale[j]
                    lows[j] += code((y - np.rint(y)) * low_scale)
        elif a >= 0:
            for j in range(n_features):
                high = code(w * np.float64(X[0][row, j]) * scale[j])
                sums[b, j] += high
                sums[a, j] -= high
        else:
            for j in range(n_features):
                sums[b, j] += code(w * np.float64(X[0][row, j]) * scale[j])


def _iterate(  # type: ignore[no-untyped-def]
    X, low, high, labels, centers, order, shift, groups, blocks, half, bound, work, terms, certify, mode,
    weight, scale, sums, counts, scratch, n_iterations, share, threshold, unscale, records, team, worker,
):  # fmt: skip
    """One pass over rows low..high as `assign` does it, for ``centers[0]``, or whole iterations until the loop ends.

    With ``n_iterations = 0`` the pass alone. Else low..high are all rows, `centers` (2, n_clusters, n_features) takes
    the new centers in turn, and each iteration writes (state, shift_sq, moved, rechecked, empty, changed) to a line of
    `records`. share: of the rows that moved in the iteration before, negative in the first. The others are those of
    `prepare`, `assign` and `recenter`; sums, counts: an array a worker. Returns how many iterations were made.

    Worker 0 leads, and never waits for a worker that has not begun: the others join a pass that is open, take ranges of
    rows from it, and wait for the next one until team[PASS] is negative. They wait without sleeping: to wake a thread
    takes as long as a pass over 10000 rows.
    """
    n_lines, width = sums.shape[1:]
    relocated = np.bool_(False)  # for a literal `recenter` would be compiled once more
    number = 0
    joined = np.int64(0)
    while True:
        if worker == 0:
            prepare(centers[number % 2], order, shift, groups, blocks, half, bound, work, terms, certify)
            if n_iterations > 0:
                mode = MOVED
                if share < 0 or share > REBUILD_SHARE:
                    mode = REBUILD
                    for w in range(sums.shape[0]):
                        for k in range(n_lines):
                            for j in range(width):
                                sums[w, k, j] = 0
                for w in range(sums.shape[0]):
                    counts[w, 0] = 0
                    counts[w, 1] = 0
            team[MODE] = mode
            write(team, NEXT, low)
            write(team, PASS, 2 * number + 1)
        else:
            opened = read(team, PASS)
            while opened == joined or opened % 2 == 0:
                pause()
                opened = read(team, PASS)
            if opened < 0:
                return 0
            fetch_add(team, INSIDE, 1)
            if read(team, PASS) != opened:  # closed again: its leader may not have seen this worker
                fetch_add(team, INSIDE, -1)
                continue
            joined = opened
            number = opened // 2
            mode = team[MODE]
        while True:
            first = fetch_add(team, NEXT, team[SIZE])
            if first >= high:
                break
            last = min(first + team[SIZE], high)
            assign(
                X, first, last, labels, centers[number % 2], shift, groups, blocks, half, bound, mode, weight, scale,
                sums[worker], counts[worker], scratch,
            )  # fmt: skip
        if worker > 0:
            fetch_add(team, INSIDE, -1)
            continue
        write(team, PASS, 2 * number + 2)
        while read(team, INSIDE) > 0:
            pause()
        if n_iterations == 0:
            break
        # the sums of all workers in those of worker 0; a share alone may wrap around, the total cannot
        for w in range(1, sums.shape[0]):
            counts[0, 0] += counts[w, 0]
            counts[0, 1] += counts[w, 1]
            for k in range(n_lines):
                for j in range(width):
                    sums[0, k, j] += sums[w, k, j]
                    sums[w, k, j] = 0
        moved = counts[0, 0]
        # all rows "move" in the first pass; that says nothing of the second
        share = 0.0 if share < 0 else moved / (high - low)
        n_empty, shift_sq, changed = recenter(
            sums[0], unscale, relocated, centers[number % 2], centers[1 - number % 2], work
        )
        state = GO_ON
        if n_empty > 0:
            state = EMPTY
        elif moved == 0:
            state = STRICT
        elif shift_sq <= threshold:
            state = WITHIN_TOL
        record = records[number]
        record[0], record[1], record[2], record[3] = state, shift_sq, moved, counts[0, 1]
        record[4], record[5] = n_empty, changed
        number += 1
        if state != GO_ON or number == n_iterations:
            break
    write(team, PASS, -1)
    return number


move_rows = compiled(_move_rows, inner=True)
assign = compiled(_assign, inline="always")
iterate = compiled(_iterate)
