"""When pruning pays: a rule of what the passes have done, with no clock in it, so that it is the same in every run.

Costs are cycles of a tile of rows, calibrated on one processor; only their ratios count. The dense pass costs 1.
"""

from __future__ import annotations

from ._layout import TILE, VECTORS

FIRST_TRY = 0.25  # share of rows that moved below which a trial is made; again each time it has halved
PAYS_BACK_IN = 3.0  # passes in which entering must have paid for itself
SORT_AFTER = 4.0  # rows are sorted again when pruned passes have cost as much as so many dense ones,
SORT_MOVED = 0.25  # and so many of the rows have moved since they were sorted last


class Rule:
    """State of the choice for one block.

    Parameters
    ----------
    n_features, n_clusters, n_groups : int
    n_workers : int
        Threads: sorting uses one of them.
    """

    def __init__(self, n_features: int, n_clusters: int, n_groups: int, n_workers: int) -> None:
        size = TILE / 64
        load = size * 300 + VECTORS * 7.5 * n_features
        dense = load + size * 400 + VECTORS * n_clusters * (n_features + 3)
        self.skip = (60 + 2 * n_groups) / dense
        self.read = (1.5 * load + size * 2800) / dense
        self.score = (VECTORS * n_clusters / n_groups * (n_features + 3) + 250) / dense
        sort = size * 1000 * n_workers / dense
        self.entry = sort + self.cost(n_groups, 1.0) - 1  # more than the dense pass that it replaces
        self.next_try = FIRST_TRY
        self.is_fresh = False
        self._begin()

    def _begin(self) -> None:
        self.spent = self.moved = 0.0
        self.losses = 0

    def cost(self, groups_scored: float, share_read: float) -> float:
        """Of a pruned pass in which each tile had so many groups scored and so many tiles were read."""
        return self.skip + share_read * self.read + groups_scored * self.score

    def tries(self, moved_share: float) -> bool:
        """Whether to look at a sample, after a dense pass in which so many rows moved."""
        if not 0 < moved_share <= self.next_try:
            return False
        self.next_try = moved_share / 2
        return True

    def enters(self, groups_scored: float, share_read: float) -> bool:
        """Whether to prune from the coming pass on, for what the sample showed."""
        saved = 1 - self.cost(groups_scored, share_read)
        if saved <= 0 or max(0.0, self.entry) > PAYS_BACK_IN * saved:
            return False
        self.is_fresh = True
        self._begin()
        return True

    def stays(self, groups_scored: float, share_read: float, moved_share: float) -> bool:
        """Whether to go on pruning, after a pruned pass."""
        if self.is_fresh:  # the first pass scores everything
            self.is_fresh = False
            return True
        cost = self.cost(groups_scored, share_read)
        self.spent += cost
        self.moved += moved_share
        self.losses = self.losses + 1 if cost > 1 else 0
        if self.losses < 2:
            return True
        self.next_try = moved_share / 2
        return False

    def sorts_again(self) -> bool:
        """Whether the rows should be sorted again before the coming pass: their tiles have come apart."""
        if self.is_fresh or self.spent < max(SORT_AFTER, 2 * self.entry) or self.moved < SORT_MOVED:
            return False
        self.is_fresh = True
        self._begin()
        return True
