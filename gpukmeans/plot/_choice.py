"""ElbowDisplay and CriteriaDisplay: what `choose_k` found."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..choosing import KChoice
from ._style import COLOURS, INK, axes_for, new_grid

BLUE, RED = COLOURS[0], COLOURS[2]
N_COLUMNS = 3

TITLES = {
    "silhouette": "silhouette: the largest",
    "simplified_silhouette": "simplified silhouette: the largest",
    "elbow": "elbow: the largest distance below the line",
    "gap": "gap: the first that the next does not beat",
    "davies_bouldin": "Davies-Bouldin: the smallest",
    "calinski_harabasz": "Calinski-Harabasz: the largest",
}


class ElbowDisplay:
    """Inertia over the number of clusters, and where it lies farthest below the line from its first to its last value.

    Parameters
    ----------
    n_clusters : array-like of int, shape (n_numbers,)
    inertia : array-like of float, shape (n_numbers,)
    elbow : int or None
        The number of clusters to mark.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
    figure_ : matplotlib.figure.Figure

    See Also
    --------
    CriteriaDisplay : The other criteria.

    Examples
    --------
    >>> from gpukmeans import choose_k
    >>> from gpukmeans.datasets import make_blobs
    >>> from gpukmeans.plot import ElbowDisplay
    >>> X, _ = make_blobs(500, 2, centers=4, random_state=1)
    >>> choice = choose_k(X, range(2, 8), ["elbow"], random_state=0)
    >>> ElbowDisplay.from_choice(choice).figure_.savefig("elbow.png")
    """

    def __init__(self, n_clusters: Any, inertia: Any, elbow: int | None = None) -> None:
        self.n_clusters = np.asarray(n_clusters)
        self.inertia = np.asarray(inertia, dtype=np.float64)
        self.elbow = elbow

    @classmethod
    def from_choice(cls, choice: KChoice, *, ax: Any = None) -> ElbowDisplay:
        """Draw what `choose_k` found.

        Parameters
        ----------
        choice : KChoice
        ax : matplotlib.axes.Axes, default=None

        Returns
        -------
        display : ElbowDisplay
        """
        return cls(choice.table["n_clusters"], choice.table["inertia"], choice.votes.get("elbow")).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> ElbowDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None

        Returns
        -------
        display : ElbowDisplay
            Itself.
        """
        self.figure_, self.ax_ = axes_for(ax)
        ks, inertia = self.n_clusters, self.inertia
        self.ax_.plot(ks, inertia, color=BLUE, marker="o", label="inertia")
        line = {"color": INK, "linewidth": 0.9, "linestyle": ":"}
        self.ax_.plot(ks[[0, -1]], inertia[[0, -1]], label="from first to last", **line)
        if self.elbow is not None:
            _mark(self.ax_, self.elbow, float(inertia[ks == self.elbow][0]))
        self.ax_.set(xlabel="number of clusters", ylabel="inertia", ylim=(0, None))
        _whole_numbers(self.ax_)
        self.ax_.legend(frameon=False)
        return self


class CriteriaDisplay:
    """Every criterion of `choose_k` over the number of clusters, with the number that it would choose.

    Parameters
    ----------
    choice : KChoice

    Attributes
    ----------
    axes_ : ndarray of matplotlib.axes.Axes
        One for each criterion.
    figure_ : matplotlib.figure.Figure

    See Also
    --------
    ElbowDisplay : The inertia itself.

    Examples
    --------
    >>> from gpukmeans import choose_k
    >>> from gpukmeans.datasets import make_blobs
    >>> from gpukmeans.plot import CriteriaDisplay
    >>> X, _ = make_blobs(500, 2, centers=4, random_state=1)
    >>> choice = choose_k(X, range(2, 8), ["silhouette", "elbow"], random_state=0)
    >>> CriteriaDisplay.from_choice(choice).figure_.savefig("criteria.png")
    """

    def __init__(self, choice: KChoice) -> None:
        self.choice = choice

    @classmethod
    def from_choice(cls, choice: KChoice) -> CriteriaDisplay:
        """Draw what `choose_k` found.

        Parameters
        ----------
        choice : KChoice

        Returns
        -------
        display : CriteriaDisplay
        """
        return cls(choice).plot()

    def plot(self) -> CriteriaDisplay:
        """Draw.

        Returns
        -------
        display : CriteriaDisplay
            Itself.
        """
        votes, table = self.choice.votes, self.choice.table
        n_columns = min(N_COLUMNS, len(votes))
        n_rows = -(-len(votes) // n_columns)
        self.figure_, grid = new_grid(n_rows, n_columns, figsize=(max(4.2, 3.6 * n_columns), 2.7 * n_rows))
        self.axes_ = grid.ravel()[: len(votes)]
        ks = np.asarray(table["n_clusters"])
        for ax, (name, vote) in zip(self.axes_, votes.items(), strict=True):
            values = np.asarray(table[name], dtype=np.float64)
            errors = table.get(f"{name}_error")
            ax.errorbar(ks, values, yerr=errors, color=BLUE, marker="o", markersize=4.5, capsize=3)
            ax.set_title(TITLES.get(name, name), size="medium")
            if vote is not None:
                _mark(ax, vote, float(values[ks == vote][0]))
            _whole_numbers(ax)
        for ax in grid.ravel()[len(votes) :]:
            ax.set_axis_off()
        for column in grid.T:
            [ax for ax in column if ax.axison][-1].set_xlabel("number of clusters")
        self.figure_.suptitle(f"k = {self.choice.k}: {self.choice.reason}", size="medium", wrap=True)
        return self


def _mark(ax: Any, k: int, value: float) -> None:
    """A line at the chosen number, and a ring around its value."""
    ax.axvline(k, color=RED, linewidth=1, linestyle="--", zorder=1, label=f"k = {k}")
    ax.plot([k], [value], color=RED, marker="o", markersize=9, fillstyle="none", markeredgewidth=1.6, linestyle="")


def _whole_numbers(ax: Any) -> None:
    """Ticks at numbers of clusters, of which there are no halves."""
    ax.xaxis.get_major_locator().set_params(integer=True)
