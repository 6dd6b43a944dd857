"""Mini-batches over the verbs of a backend: running means, reassignment, when to stop. It knows no device.

The rules are scikit-learn's [1]_, the draws too; sums over the rows of a batch are integers, so that a batch gives the
same bits on every backend.

References
----------
.. [1] D. Sculley, "Web-scale k-means clustering", WWW 2010.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import exact, seeding
from .backends.base import Backend, Rows
from .exact import Encoding, Float64Array

REASSIGN_AFTER = 10
"""Rows for each cluster after which light clusters are looked for."""


@dataclass
class RunningMeans:
    """Centers that are the means of the rows which all batches so far have given them.

    Attributes
    ----------
    means : ndarray of float64, shape (n_clusters, n_features)
        In the units of the rows times ``2**scale``.
    dtype : dtype
        Of the data; the centers that rows are compared with are rounded to it.
    batch_size : int
    peak : float
        Largest absolute value of all rows so far.
    scale : int
    weights : ndarray of float64, shape (n_clusters,)
        What each mean is made of, times ``2**weight_scale``; 0 for a start that no row has joined yet.
    weight_scale : int
    n_since_reassignment : int
        Rows, in batches of `batch_size`.
    """

    means: Float64Array
    dtype: Any
    batch_size: int
    peak: float
    scale: int
    weights: Float64Array = field(init=False)
    weight_scale: int = 0
    n_since_reassignment: int = 0

    def __post_init__(self) -> None:
        self.weights = np.zeros(len(self.means))

    @property
    def centers(self) -> Float64Array:
        """The means rounded to the dtype of the data, as float64."""
        return np.ascontiguousarray(self.means.astype(self.dtype).astype(np.float64))

    def rescale(self, peak: float, scale: int) -> None:
        """Go over to the units of rows up to that value, which are scaled by another power of two."""
        self.means = np.ldexp(self.means, scale - self.scale)
        self.peak, self.scale = peak, scale

    def is_time_to_reassign(self) -> bool:
        """Whether light clusters are looked for in the next batch: there are empty ones, or it is long ago."""
        self.n_since_reassignment += self.batch_size
        if (self.weights == 0).any() or self.n_since_reassignment >= REASSIGN_AFTER * len(self.weights):
            self.n_since_reassignment = 0
            return True
        return False

    def step(
        self,
        backend: Backend,
        blocks: Sequence[Rows],
        encoding: Encoding,
        rng: seeding.RandomState,
        *,
        weight_scale: int = 0,
        reassignment_ratio: float,
    ) -> tuple[float, int]:
        """Assign the rows of a batch and move the means; returns its inertia before they move, and how many jumped."""
        reassign = self.is_time_to_reassign() and reassignment_ratio > 0
        for rows in blocks:
            backend.forget(rows)
        centers = backend.load(self.centers, blocks)
        partials = [backend.sums(backend.step(rows, centers, encoding)) for rows in blocks]
        inertia = backend.total_inertia(blocks, centers)
        partial = functools.reduce(operator.add, partials)
        totals = encoding.features.decode(partial.sums, 0 if partial.sums_low is None else partial.sums_low)
        added = exact.cluster_weights(encoding, partial.weights, partial.weights_low)
        if weight_scale != self.weight_scale:  # the smaller power of two for all: nothing overflows
            both = min(weight_scale, self.weight_scale)
            totals, added = np.ldexp(totals, both - weight_scale), np.ldexp(added, both - weight_scale)
            self.weights, self.weight_scale = np.ldexp(self.weights, both - self.weight_scale), both
        self.means = exact.running_means(self.means, self.weights, totals, added)
        self.weights = self.weights + added
        return inertia, self._reassign(blocks, rng, reassignment_ratio) if reassign else 0

    def _reassign(self, blocks: Sequence[Rows], rng: seeding.RandomState, ratio: float) -> int:
        """Let clusters that are light beside the heaviest one jump to rows of this batch; returns how many.

        At most as many as half of the rows, the lightest (of equals those of the lowest index). They get the weight of
        the lightest one that stays: less, and the next batch would find them light again.
        """
        n_rows = sum(rows.n_samples for rows in blocks)
        light = self.weights < ratio * self.weights.max()
        most = int(0.5 * n_rows)
        if np.count_nonzero(light) > 0.5 * n_rows:
            light[np.argsort(self.weights, kind="stable")[most:]] = False
        n_light = int(np.count_nonzero(light))
        if n_light:
            chosen = rng.choice(n_rows, size=n_light, replace=False)
            self.means[light] = seeding.take(blocks, chosen)
            self.weights[light] = self.weights[~light].min() if n_light < len(light) else self.weights.max()
        return n_light


class Convergence:
    """When to stop: the smoothed inertia of batches has not improved for long, or the centers have moved little.

    Inertias are means over the rows of a batch; the average weighs a batch by the share of the rows that it is.
    """

    def __init__(self, n_samples: int, batch_size: int, threshold: float, max_no_improvement: int | None) -> None:
        self.alpha = min(batch_size * 2.0 / (n_samples + 1), 1)
        self.threshold = threshold
        self.max_no_improvement = max_no_improvement
        self.smoothed: float | None = None
        self.least: float | None = None
        self.n_without_improvement = 0

    def reason(self, step: int, inertia: float, shift_sq: float) -> str | None:
        """Why to stop after this step (from 0), if at all; `inertia` is the mean of the batch."""
        if step == 0:  # that of the start
            return None
        if self.smoothed is None:
            self.smoothed = inertia
        else:
            self.smoothed = self.smoothed * (1 - self.alpha) + inertia * self.alpha
        if self.threshold > 0 and shift_sq <= self.threshold:
            return "small centers change"
        if self.least is None or self.smoothed < self.least:
            self.least, self.n_without_improvement = self.smoothed, 0
        else:
            self.n_without_improvement += 1
        if self.max_no_improvement is not None and self.n_without_improvement >= self.max_no_improvement:
            return "lack of improvement in inertia"
        return None
