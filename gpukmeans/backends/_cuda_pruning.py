"""Pruning on a card: what a pass with bounds costs, and when it pays. Pure functions, as in `_tensor_config`.

No card has confirmed the constants.
"""

from __future__ import annotations

from dataclasses import dataclass

from ._launch import Card, Problem
from ._tensor_config import GAIN, OPEN, PAIR, READ, WORTHWHILE

BYTES = 24
"""Of memory for each row of a pass: its label and its bounds, read and written."""
DEPTH = 16
"""Features that tile.cuh multiplies at a time; zeros fill the last ones."""
LOSSES = 3
"""Passes in a row that cost more than others would, after which bounds are given up. The first one always does."""


def clocks(problem: Problem, card: Card, open_share: float) -> float:
    """Clocks of a pass with bounds that leave this share of the rows open, in float32."""
    n, d, k = problem.n_samples, problem.n_features, problem.n_clusters
    scoring = open_share * OPEN * k * (-(-d // DEPTH) * DEPTH + PAIR)
    reading = READ * (BYTES + open_share * d * problem.itemsize)
    return n * max(scoring, reading) / (128 * card.n_multiprocessors)


def pays(problem: Problem, card: Card, dense: float, open_share: float) -> bool:
    """Whether bounds are to be kept, where a pass over all rows takes `dense` clocks."""
    least = clocks(problem, card, open_share)
    return least < GAIN * dense and dense - least > WORTHWHILE


@dataclass
class Watch:
    """Passes with bounds, as their records tell of them: whether they still pay.

    Parameters
    ----------
    problem : Problem
    card : Card
    dense : float
        Clocks of a pass over all rows.
    """

    problem: Problem
    card: Card
    dense: float
    losses: int = 0

    def hear(self, n_open: int) -> None:
        """Of a pass that scored so many rows; 0 of one that was begun without bounds."""
        cost = clocks(self.problem, self.card, n_open / self.problem.n_samples)
        self.losses = self.losses + 1 if cost > self.dense else 0

    @property
    def is_over(self) -> bool:
        """Whether bounds are to be given up."""
        return self.losses >= LOSSES
