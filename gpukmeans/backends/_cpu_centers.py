"""Centers as the fast pass of the CPU wants them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import exact
from ..exact import Float64Array, FloatArray
from . import _numba_assign
from ._layout import BLOCKS, GROUPS, LANES


class Packed(NamedTuple):
    """Centers as float32, minus a shift, with the bound of their scores.

    Attributes
    ----------
    shift : tuple of ndarrays, shape (max(n_features, LANES),)
        As float32 and as float64, see `both_types`.
    groups : ndarray of float32, shape (n_groups, n_features, width)
        For rows in the lanes; empty if `blocks` is not.
    blocks : ndarray of float32, shape (n_blocks, n_chunks, width, LANES)
        For features in the lanes.
    half : ndarray of float32
        Half the squared norm of each center; infinite for padding and for all but the first of equal centers.
    bound : ndarray of float32, shape (3,)
        `exact.score_bound`, rounded up.
    norm : float32
        At least the norm of every center.
    n_equal : int
        Centers that equal one before.
    """

    shift: tuple[FloatArray, FloatArray]
    groups: NDArray[np.float32]
    blocks: NDArray[np.float32]
    half: NDArray[np.float32]
    bound: NDArray[np.float32]
    norm: np.float32
    n_equal: int


def pack(centers: Float64Array, dtype: np.dtype[Any], precision: str) -> Packed:
    """Pack the centers for a dense pass over rows of the given dtype, in the form that `features_in_lanes` chooses."""
    k, d = centers.shape
    if not features_in_lanes(d, k):
        return pack_groups(centers, np.arange(k, dtype=np.int32), best_width(k, GROUPS), k, dtype, precision)
    shift = _shift(centers, dtype)
    width = best_width(k, BLOCKS)
    n_blocks, n_chunks = -(-k // width), -(-d // LANES)
    half = np.full(n_blocks * width, np.inf, dtype=np.float32)
    norm, n_equal = _half_norms(centers, shift, half)
    blocks = np.zeros((n_blocks, n_chunks, width, LANES), dtype=np.float32)
    _numba_assign.pack_blocks(centers, shift.astype(np.float64), blocks)
    # one lane, the tree over the lanes, the half norm
    bound = exact.score_bound(d, norm, steps=n_chunks + LANES.bit_length())
    none = np.zeros((0, 0, 0), dtype=np.float32)
    return Packed(both_types(shift), none, blocks, half, _rounded(bound, precision), _up(norm), n_equal)


def pack_groups(
    centers: Float64Array, order: NDArray[np.int32], width: int, multiple: int, dtype: np.dtype[Any], precision: str
) -> Packed:
    """Pack the centers in the given order, `width` side by side, padded to a multiple of `multiple` centers."""
    k, d = centers.shape
    shift = _shift(centers, dtype)
    n_groups = -(-(-(-k // multiple) * multiple) // width)
    half = np.full(n_groups * width, np.inf, dtype=np.float32)
    norm, n_equal = _half_norms(centers, shift, half)
    half[:k] = half[order]
    groups = np.zeros((n_groups, d, width), dtype=np.float32)
    _numba_assign.pack_groups(centers, order, shift.astype(np.float64), groups)
    bound = exact.score_bound(d, norm, chain=exact.CHAIN)
    blocks = np.zeros((0, 0, 0, 0), dtype=np.float32)
    return Packed(both_types(shift), groups, blocks, half, _rounded(bound, precision), _up(norm), n_equal)


def both_types(array: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The array as kernels for float32 and float64 take it: a place for each, the other one is empty."""
    empty = np.empty((0, *array.shape[1:]), dtype=np.float64 if array.dtype == np.float32 else np.float32)
    return (array, empty) if array.dtype == np.float32 else (empty, array)


def features_in_lanes(n_features: int, n_clusters: int) -> bool:
    """Whether rows are scored in place, features in the lanes: where transposing them would cost more (measured)."""
    return n_features >= max(LANES, 32) and n_clusters <= max(5, n_features // 12)


def best_width(n_clusters: int, widths: tuple[int, ...]) -> int:
    """Centers side by side in registers: what wastes the least on padding."""
    return min(widths, key=lambda width: -(-n_clusters // width) * width * (1 + 0.005 * (6 - width)))


def _shift(centers: Float64Array, dtype: np.dtype[Any]) -> FloatArray:
    # any shift gives the same labels; this one keeps the scores small
    shift = np.zeros(max(centers.shape[1], LANES), dtype=dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        shift[: centers.shape[1]] = centers.mean(axis=0)
    return shift


def _half_norms(centers: Float64Array, shift: FloatArray, half: NDArray[np.float32]) -> tuple[float, int]:
    """Fill `half`; returns an upper bound of the largest |c'|, and how many centers equal one before."""
    norms = np.empty(len(centers))
    _numba_assign.squared_norms(centers, shift.astype(np.float64), norms)
    with np.errstate(over="ignore"):
        half[: len(centers)] = 0.5 * norms
    n_equal = _numba_assign.drop_equal(centers, norms, np.argsort(norms, kind="stable"), half)
    return math.sqrt(norms.max()) * (1.0 + (centers.shape[1] + 8) * 2.0**-53), n_equal


def _rounded(bound: exact.ScoreBound, precision: str) -> NDArray[np.float32]:
    if precision != "exact":
        return np.array([-np.inf, 0, 0], dtype=np.float32)  # every row passes
    with np.errstate(over="ignore"):
        return np.nextafter(np.array(bound, dtype=np.float32), np.float32(np.inf))


def _up(norm: float) -> np.float32:
    with np.errstate(over="ignore"):
        return np.float32(np.nextafter(np.float32(norm), np.float32(np.inf)))
