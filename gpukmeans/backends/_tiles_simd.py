"""A tile of rows loaded, scored and bounded by vector code (`_simd`, `_simd_bounds`)."""

from __future__ import annotations

from ..exact import CHAIN
from . import _simd_bounds
from ._layout import LANES, TILE
from ._numba_compiler import compiled
from ._simd import make_dot_tile, make_score_tile
from ._simd_rows import (
    address_of,
    copy_rows,
    make_pack_narrow,
    make_pack_tile,
    make_round_up_norms,
    make_square_norms,
    row_addresses,
)
from ._tiles_common import smallest_two

_pack32 = make_pack_tile(double=False)
_pack64 = make_pack_tile(double=True)
_pack32_2, _pack32_3, _pack32_4 = (make_pack_narrow(d, double=False) for d in (2, 3, 4))
_pack64_2, _pack64_3, _pack64_4 = (make_pack_narrow(d, double=True) for d in (2, 3, 4))
_score6 = make_score_tile(6, chained=False)
_score4 = make_score_tile(4, chained=False)
_score6_chained = make_score_tile(6, chained=True)
_score4_chained = make_score_tile(4, chained=True)
_dot32_5, _dot32_4 = (make_dot_tile(width, double=False) for width in (5, 4))
_dot64_5, _dot64_4 = (make_dot_tile(width, double=True) for width in (5, 4))
_square_norms = make_square_norms()
_round_up_norms = make_round_up_norms()
_merge, _excess, _slack = _simd_bounds.merge, _simd_bounds.excess, _simd_bounds.slack


def _pack_narrow(rows, itemsize, n_features, shift, tile):  # type: ignore[no-untyped-def]
    if itemsize == 4:
        if n_features == 2:
            _pack32_2(rows, shift, tile)
        elif n_features == 3:
            _pack32_3(rows, shift, tile)
        else:
            _pack32_4(rows, shift, tile)
    elif n_features == 2:
        _pack64_2(rows, shift, tile)
    elif n_features == 3:
        _pack64_3(rows, shift, tile)
    else:
        _pack64_4(rows, shift, tile)


pack_narrow = compiled(_pack_narrow, inner=True)


def _load_rows(  # type: ignore[no-untyped-def]
    data, double, n_samples, n_features, first, rows, in_order, address, padded, shift, tile, norm
):  # fmt: skip
    row_bytes = n_features * (8 if double else 4)
    if in_order and 2 <= n_features <= 4:
        pack_narrow(data + first * row_bytes, 8 if double else 4, n_features, shift, tile)
    else:
        last = row_addresses(rows, data, row_bytes, address)
        if n_features < LANES and last + LANES > n_samples:  # LANES values of every row could not be read
            copy_rows(address, row_bytes, padded)
            in_order = False
        ahead = TILE * row_bytes if in_order else 0
        if double:
            _pack64(address, ahead, shift, tile, n_features)
        else:
            _pack32(address, ahead, shift, tile, n_features)
    _square_norms(tile, norm, n_features)
    _round_up_norms(norm, n_features)


load_rows = compiled(_load_rows, inner=True)


def _load_tile(X, rows, in_order, address, padded, shift, tile, norm):  # type: ignore[no-untyped-def]
    """Transpose x - shift of the given rows into the tile; `norm`: upper bounds of |x'|. `address`, `padded`: scratch.

    in_order: the rows follow each other in memory.
    """
    n_features = X[0].shape[1]
    double = X[1].size > 0
    data, shifts = address_of(X[0], 0), address_of(shift[0], 0)
    if double:
        data, shifts = address_of(X[1], 0), address_of(shift[1], 0)
    n_samples = X[0].shape[0] + X[1].shape[0]
    load_rows(
        data, double, n_samples, n_features, rows[0], address_of(rows, 0), in_order, address_of(address, 0),
        address_of(padded, 0), shifts, address_of(tile, 0), address_of(norm, 0),
    )  # fmt: skip


def _score_addresses(  # type: ignore[no-untyped-def]
    tile, centers, half, best, label, second, n_features, n_groups, width
):  # fmt: skip
    # by address: an array is seven arguments, and these calls are many
    if n_features > 2 * CHAIN:
        if width == 6:
            _score6_chained(tile, centers, half, best, label, second, n_features, n_groups)
        else:
            _score4_chained(tile, centers, half, best, label, second, n_features, n_groups)
    elif width == 6:
        _score6(tile, centers, half, best, label, second, n_features, n_groups)
    else:
        _score4(tile, centers, half, best, label, second, n_features, n_groups)


score_addresses = compiled(_score_addresses, inner=True)


def _score_groups(tile, packed, first, n_groups, half, best, label, second):  # type: ignore[no-untyped-def]
    """Best and second best score of each row of the tile among `n_groups` groups of centers from `first` on."""
    n_features, width = packed.shape[1:]
    score_addresses(
        address_of(tile, 0), address_of(packed, first * n_features * width), address_of(half, first * width),
        address_of(best, 0), address_of(label, 0), address_of(second, 0), n_features, n_groups, width,
    )  # fmt: skip


def _score_blocks(  # type: ignore[no-untyped-def]
    X, rows, address, shift, packed, half, scores, norm, best, label, second
):  # fmt: skip
    """As `load_tile` and `score_groups`, with the features in the lanes and the rows in place."""
    n_features = X[0].shape[1]
    n_blocks, _, width, _ = packed.shape
    double = X[1].size > 0
    itemsize = 8 if double else 4
    base = address_of(X[1], 0) if double else address_of(X[0], 0)
    for i in range(TILE):
        address[i] = base + rows[i] * n_features * itemsize
    ahead = base + (rows[TILE - 1] + 1) * n_features * itemsize
    a, c, out, v = address_of(address, 0), address_of(packed, 0), address_of(scores, 0), address_of(norm, 0)
    if double:
        s = address_of(shift[1], 0)
        if width == 5:
            _dot64_5(a, ahead, s, c, out, v, n_features, n_blocks)
        else:
            _dot64_4(a, ahead, s, c, out, v, n_features, n_blocks)
    else:
        s = address_of(shift[0], 0)
        if width == 5:
            _dot32_5(a, ahead, s, c, out, v, n_features, n_blocks)
        else:
            _dot32_4(a, ahead, s, c, out, v, n_features, n_blocks)
    _round_up_norms(address_of(norm, 0), n_features)
    smallest_two(scores, half, best, label, second)


def _merge_group(group_best, group_second, group_label, first, best, second, label):  # type: ignore[no-untyped-def]
    """Add the two smallest scores of a group whose places begin at `first` to those of the groups before.

    `group_label` becomes places.
    """
    _merge(
        address_of(group_best, 0), address_of(group_second, 0), address_of(group_label, 0), first, address_of(best, 0),
        address_of(second, 0), address_of(label, 0),
    )  # fmt: skip


def _excess_over(anchor, best, norm, error, u):  # type: ignore[no-untyped-def]
    """Fill u with upper bounds of the distance to the best score's center; returns one of the largest u - anchor."""
    return _excess(
        address_of(best, 0), address_of(norm, 0), address_of(error, 0), address_of(anchor, 0), address_of(u, 0)
    )  # fmt: skip


def _slack_under(group_best, group_second, group_label, label, norm, error, u):  # type: ignore[no-untyped-def]
    """Lower bound of the smallest l - u, l the distance to the nearest center of the group that is not `label`."""
    return _slack(
        address_of(group_best, 0), address_of(group_second, 0), address_of(group_label, 0), address_of(label, 0),
        address_of(norm, 0), address_of(error, 0), address_of(u, 0),
    )  # fmt: skip


load_tile = compiled(_load_tile, inline="always")
score_groups = compiled(_score_groups, inline="always")
score_blocks = compiled(_score_blocks, inner=True)
merge_group = compiled(_merge_group, inline="always")
excess_over = compiled(_excess_over, inline="always")
slack_under = compiled(_slack_under, inline="always")
