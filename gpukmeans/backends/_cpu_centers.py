"""Centers as the fast pass of the CPU wants them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import exact
from ..exact import Float64Array, FloatArray
from . import _numba_centers
from ._layout import BLOCKS, GROUPS, LANES
from ._scratch import aligned


class Packed(NamedTuple):
    """Centers as float32, minus a shift, with the bound of their scores: memory that `pack` fills.

    Attributes
    ----------
    order : ndarray of int32, shape (n_clusters,)
        Center of each place.
    shift : tuple of ndarrays, shape (max(n_features, LANES),)
        As float32 and as float64, see `both_types`.
    groups : ndarray of float32, shape (n_groups, n_features, width)
        For rows in the lanes; empty if `blocks` is not.
    blocks : ndarray of float32, shape (n_blocks, n_chunks, width, LANES)
        For features in the lanes.
    half : ndarray of float32
        Half the squared norm of each center; infinite for padding and for all but the first of equal centers.
    bound : ndarray of float32, shape (4,)
        `exact.score_bound`, rounded up, and an upper bound of the norm of every center.
    work : ndarray of float64
        Scratch of `prepare` and `recenter`.
    terms : tuple of float
        `exact.bound_terms`.
    """

    order: NDArray[np.int32]
    shift: tuple[FloatArray, FloatArray]
    groups: NDArray[np.float32]
    blocks: NDArray[np.float32]
    half: NDArray[np.float32]
    bound: NDArray[np.float32]
    work: Float64Array
    terms: exact.BoundTerms

    def pack(self, centers: Float64Array, precision: str) -> int:
        """Lay these centers out; returns how many equal one before."""
        return int(_numba_centers.prepare_alone(centers, *self, precision == "exact"))


def packed_for(n_clusters: int, n_features: int, dtype: np.dtype[Any]) -> Packed:
    """Memory for a dense pass over rows of the given dtype, in the form that `features_in_lanes` chooses."""
    k, d = n_clusters, n_features
    if not features_in_lanes(d, k):
        return packed_groups(np.arange(k, dtype=np.int32), d, group_width(k, d), k, dtype)
    width = min(BLOCKS, key=lambda width: -(-k // width) * width * (1 + 0.005 * (6 - width)))
    n_blocks, n_chunks = -(-k // width), -(-d // LANES)
    blocks = aligned(n_blocks * n_chunks * width * LANES, np.float32).reshape(n_blocks, n_chunks, width, LANES)
    blocks[:] = 0
    # one lane, the tree over the lanes, the half norm
    terms = exact.bound_terms(d, steps=n_chunks + LANES.bit_length())
    groups = np.empty((0, 0, 0), dtype=np.float32)
    return _memory(np.arange(k, dtype=np.int32), d, groups, blocks, n_blocks * width, dtype, terms)


def packed_groups(
    order: NDArray[np.int32], n_features: int, width: int, multiple: int, dtype: np.dtype[Any]
) -> Packed:
    """Memory for centers in the given order, `width` side by side, padded to a multiple of `multiple` centers."""
    n_groups = -(-(-(-len(order) // multiple) * multiple) // width)
    groups = np.zeros((n_groups, n_features, width), dtype=np.float32)
    terms = exact.bound_terms(n_features, chain=exact.CHAIN)
    blocks = np.empty((0, 0, 0, 0), dtype=np.float32)
    return _memory(order, n_features, groups, blocks, n_groups * width, dtype, terms)


def _memory(
    order: NDArray[np.int32],
    n_features: int,
    groups: NDArray[np.float32],
    blocks: NDArray[np.float32],
    n_places: int,
    dtype: np.dtype[Any],
    terms: exact.BoundTerms,
) -> Packed:
    half = np.full(n_places, np.inf, dtype=np.float32)
    shift = both_types(np.zeros(max(n_features, LANES), dtype=dtype))
    work = np.empty(3 * len(order) + n_features)
    return Packed(order, shift, groups, blocks, half, np.empty(4, dtype=np.float32), work, terms)


def both_types(array: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The array as kernels for float32 and float64 take it: a place for each, the other one is empty."""
    empty = np.empty((0, *array.shape[1:]), dtype=np.float64 if array.dtype == np.float32 else np.float32)
    return (array, empty) if array.dtype == np.float32 else (empty, array)


def features_in_lanes(n_features: int, n_clusters: int) -> bool:
    """Whether rows are scored in place, features in the lanes: where transposing them would cost more (measured)."""
    return n_features >= max(LANES, 96) and n_clusters <= (5 if n_features < 192 else 10)


def group_width(n_clusters: int, n_features: int) -> int:
    """Centers side by side in registers: the cheapest with its padding (measured).

    A center costs its features and what finds the two smallest scores, which fits the registers better for 4.
    """
    costs = {6: n_features + 7.0, 4: 1.06 * (n_features + 4.0)}
    return min(GROUPS, key=lambda width: -(-n_clusters // width) * width * costs[width])
