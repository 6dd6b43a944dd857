"""ConvergenceDisplay: how a fit came to its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..lloyd import Iteration
from ._style import COLOURS, MARKERS, new_grid


class ConvergenceDisplay:
    """Rows that changed their cluster, the way that the centers went, and the inertia if it is known, by iteration.

    Parameters
    ----------
    history : sequence of Iteration
        `history_` of a fitted KMeans.

    Attributes
    ----------
    axes_ : ndarray of matplotlib.axes.Axes
        One for each quantity, one below the other.
    figure_ : matplotlib.figure.Figure

    Notes
    -----
    The inertia of each iteration is known after a fit with ``verbose=1``.

    Examples
    --------
    >>> from gpukmeans import KMeans
    >>> from gpukmeans.datasets import make_blobs
    >>> from gpukmeans.plot import ConvergenceDisplay
    >>> X, _ = make_blobs(500, 2, centers=4, random_state=1)
    >>> display = ConvergenceDisplay.from_estimator(KMeans(20, random_state=0).fit(X))
    >>> display.figure_.savefig("convergence.png")
    """

    def __init__(self, history: Sequence[Iteration]) -> None:
        self.history = history

    @classmethod
    def from_estimator(cls, estimator: Any) -> ConvergenceDisplay:
        """Draw the `history_` of a fitted estimator.

        Parameters
        ----------
        estimator : KMeans
            Fitted.

        Returns
        -------
        display : ConvergenceDisplay
        """
        from sklearn.utils.validation import check_is_fitted

        if not hasattr(estimator, "history_"):
            check_is_fitted(estimator)
            raise ValueError(f"Only KMeans keeps the history_ that is drawn here. Got a {type(estimator).__name__}.")
        return cls(estimator.history_).plot()

    def plot(self) -> ConvergenceDisplay:
        """Draw.

        Returns
        -------
        display : ConvergenceDisplay
            Itself.
        """
        shifts = np.array([record.shift_sq for record in self.history], dtype=np.float64)
        columns = {
            "rows that changed\ntheir cluster": np.array([float(record.n_moved) for record in self.history]),
            "way that the centers went\n(root of the sum of squares)": np.sqrt(shifts),
        }
        inertia = [record.inertia for record in self.history if record.inertia is not None]
        if inertia:
            columns["inertia"] = np.array(inertia)
        size = (6.4, 0.6 + 2.2 * len(columns))
        self.figure_, grid = new_grid(len(columns), 1, figsize=size, sharex=True)
        self.axes_ = grid.ravel()
        iterations = np.arange(1, len(self.history) + 1)
        for i, (ax, (name, values)) in enumerate(zip(self.axes_, columns.items(), strict=True)):
            few = len(values) <= 60
            marker = MARKERS[i] if few else None
            ax.plot(iterations, values, color=COLOURS[2 * i], marker=marker, markersize=4, clip_on=False, zorder=3)
            ax.set_ylabel(name)
            ax.grid(alpha=0.25)
            if name != "inertia":
                self._set_scale(ax, values)
        self.axes_[-1].set_xlabel("iteration")
        self.axes_[-1].xaxis.get_major_locator().set_params(integer=True)
        n = len(self.history)
        self.axes_[0].set_title(f"{n} {'iteration' if n == 1 else 'iterations'}", size="medium")
        return self

    def _set_scale(self, ax: Any, values: Any) -> None:
        """Powers of ten, with a place for the 0 at which a fit ends."""
        positive = values[(values > 0) & np.isfinite(values)]
        if len(positive):
            smallest = 10 ** np.floor(np.log10(positive.min()))
            ax.set_yscale("symlog", linthresh=smallest, linscale=0.5)
            ax.set_ylim(0, 3 * positive.max())
