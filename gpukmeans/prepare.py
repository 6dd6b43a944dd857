"""From checked input to what the loop works on: blocks of rows, scaled where needed, and how they are summed."""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import exact
from .backends.base import Backend, Rows, Summary
from .exact import Encoding, Float64Array, FloatArray, Moments
from .streaming import Streamed
from .validation import refuse_non_finite


@dataclass
class Prepared:
    """A data set ready for the loop.

    ``scale`` is the exponent of the power of two that the rows were multiplied by, ``weight_scale`` that of the
    weights; both are 0 unless the data lies outside 2**-40 .. 2**40. ``peak`` is the largest absolute value before.
    """

    blocks: list[Rows]
    n_samples: int
    encoding: Encoding
    summary: Summary
    peak: float
    scale: int
    weight_scale: int

    def scaled(self, centers: FloatArray) -> Float64Array:
        """Centers in the units of the blocks, as float64."""
        if self.scale:  # ldexp takes as long for a thousand centers of a thousand features as a pass over so many rows
            centers = np.ldexp(centers, self.scale)
        return np.ascontiguousarray(centers, dtype=np.float64)

    def unscaled(self, centers: FloatArray, dtype: Any) -> FloatArray:
        """Centers in the user's units and in `dtype`."""
        restored = centers.astype(dtype)
        return np.ldexp(restored, -self.scale) if self.scale else restored

    def unscaled_sq(self, value: float, *, weighted: bool = False) -> float:
        """A squared distance in the user's units; `weighted`: a sum of weighted ones."""
        exponent = 2 * self.scale + (self.weight_scale if weighted else 0)
        with np.errstate(over="ignore"):  # beyond float64 it is infinite, in the user's units as in truth
            return float(np.ldexp(value, -exponent))


def prepare(
    backend: Backend, X: Any, sample_weight: Float64Array | None, feature_names: Any, least_peak: float = 0.0
) -> Prepared:
    """Look through the data once: refuse NaN and infinity, choose the scale and the integer codes.

    `least_peak` is the largest absolute value of rows that these are a part of: they are scaled by what suits both.
    """
    n_samples = X.shape[0]
    blocks = blocks_of(backend, X, sample_weight)
    summary = _summary(backend, blocks)
    if not summary.finite:
        refuse_non_finite(X, feature_names=feature_names)
    peak = max(float(summary.peaks.max()), least_peak)
    scale = exact.scale_exponent(peak)
    weight_scale = 0 if sample_weight is None else exact.scale_exponent(float(sample_weight.max()))
    if sample_weight is not None and weight_scale:
        sample_weight = np.ldexp(sample_weight, weight_scale)
    if scale or weight_scale:
        X = backend.scaled(X, scale)
        blocks = blocks_of(backend, X, sample_weight)
        summary = _summary(backend, blocks)
    if sample_weight is None:
        peaks, weight_peak = summary.peaks, None
    else:
        peaks = functools.reduce(np.maximum, [backend.weighted_peaks(rows) for rows in blocks])
        weight_peak = float(sample_weight.max())
    encoding = Encoding.for_peaks(peaks, weight_peak, n_samples, X.dtype)
    return Prepared(blocks, n_samples, encoding, summary, peak, scale, weight_scale)


def blocks_of(backend: Backend, X: Any, sample_weight: Float64Array | None) -> list[Rows]:
    """Handles of all rows; those of streamed ones may have to stay away from the card's memory but for a block."""
    blocks = backend.blocks(X, sample_weight)
    if isinstance(X, Streamed) and not X.may_reside:
        for rows in blocks:
            if hasattr(rows, "may_reside"):
                rows.may_reside, rows.block = False, min(rows.block, X.block_rows)  # type: ignore[attr-defined]
    return blocks


def mean_variance(backend: Backend, data: Prepared) -> float:
    """Mean over the features of their variance (unweighted), which `tol` is relative to."""
    codes = Moments.for_range(data.summary.low, data.summary.high, data.n_samples)
    sums = [backend.moments(rows, codes) for rows in data.blocks]
    first = functools.reduce(operator.add, [a for a, _ in sums])
    second = functools.reduce(operator.add, [b for _, b in sums])
    return codes.mean_variance(first, second, data.n_samples)


def _summary(backend: Backend, blocks: list[Rows]) -> Summary:
    return functools.reduce(operator.or_, [backend.summary(rows) for rows in blocks])


def check_finite(backend: Backend, blocks: list[Rows], X: Any, name: str, feature_names: Any = None) -> None:
    """Refuse NaN and infinity in rows that are only to be assigned."""
    if not all(backend.is_finite(rows) for rows in blocks):
        refuse_non_finite(X, name=name, feature_names=feature_names)
