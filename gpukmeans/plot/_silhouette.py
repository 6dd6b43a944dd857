"""SilhouetteDisplay: the knife plot."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import metrics
from ..exact import Float64Array
from ._scene import checked_labels
from ._style import INK, axes_for, rgb

MOST_CORNERS = 2000
"""Of a knife: finer than a picture can show. The rows between two corners lie between them in value too."""


class SilhouetteDisplay:
    """The silhouettes of the rows, sorted within each cluster: a knife for each of them.

    A good clustering has knives of similar width that all reach beyond the mean (the dashed line), and few rows below
    0, which are nearer to another cluster than to their own.

    Parameters
    ----------
    silhouettes : ndarray of float64, shape (n_samples,)
    labels : ndarray of int32, shape (n_samples,)
    n_clusters : int
    name : str, default="silhouette"
        What the values are.

    Attributes
    ----------
    mean_ : float
        Of all rows: the silhouette score.
    ax_ : matplotlib.axes.Axes
    figure_ : matplotlib.figure.Figure

    See Also
    --------
    gpukmeans.metrics.silhouette_samples : The values.

    Notes
    -----
    Costs O(n_samples**2 n_features); with ``simplified=True``, for the distances to the centers instead of the mean
    distances to the rows of a cluster, O(n_samples n_clusters n_features).

    Examples
    --------
    >>> from gpukmeans import KMeans
    >>> from gpukmeans.datasets import make_blobs
    >>> from gpukmeans.plot import SilhouetteDisplay
    >>> X, _ = make_blobs(500, 2, centers=4, random_state=1)
    >>> SilhouetteDisplay.from_estimator(KMeans(4, random_state=0).fit(X), X).figure_.savefig("knives.png")
    """

    def __init__(
        self, silhouettes: Float64Array, labels: NDArray[np.int32], n_clusters: int, name: str = "silhouette"
    ) -> None:
        self.silhouettes = silhouettes
        self.labels = labels
        self.n_clusters = n_clusters
        self.name = name

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, *, simplified: bool = False, ax: Any = None) -> SilhouetteDisplay:
        """Draw the silhouettes of what a fitted estimator predicts.

        Parameters
        ----------
        estimator : KMeans or another fitted clusterer with `predict`
        X : {array-like, sparse matrix, device array} of shape (n_samples, n_features)
        simplified : bool, default=False
            Whether to judge by the distances to `cluster_centers_`: for many rows.
        ax : matplotlib.axes.Axes, default=None

        Returns
        -------
        display : SilhouetteDisplay
        """
        labels = estimator.predict(X)
        if not simplified:
            return cls.from_predictions(X, labels, ax=ax)
        centers = estimator.cluster_centers_
        values = metrics.simplified_silhouette_samples(X, centers)
        checked = checked_labels(labels, len(values), len(centers))
        return cls(values, checked, len(centers), "simplified silhouette").plot(ax=ax)

    @classmethod
    def from_predictions(cls, X: Any, labels: Any, *, ax: Any = None) -> SilhouetteDisplay:
        """Draw the silhouettes of rows with given labels.

        Parameters
        ----------
        X : {array-like, sparse matrix, device array} of shape (n_samples, n_features)
        labels : array-like of int, shape (n_samples,)
            From 0 on.
        ax : matplotlib.axes.Axes, default=None

        Returns
        -------
        display : SilhouetteDisplay
        """
        values = metrics.silhouette_samples(X, labels)
        checked = checked_labels(labels, len(values), None)
        return cls(values, checked, int(checked.max()) + 1).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> SilhouetteDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None

        Returns
        -------
        display : SilhouetteDisplay
            Itself.
        """
        self.figure_, self.ax_ = axes_for(ax)
        self.mean_ = float(self.silhouettes.mean())
        sizes = np.bincount(self.labels, minlength=self.n_clusters)
        colours = rgb(self.n_clusters)
        gap, begin = len(self.labels) * min(0.02, 0.3 / self.n_clusters), 0.0
        middles = []
        for k, size in enumerate(sizes):
            if size:
                values = np.sort(self.silhouettes[self.labels == k])
                corners = np.unique(np.linspace(0, size - 1, min(size, MOST_CORNERS)).astype(np.int64))
                edges = begin + np.column_stack([corners, corners + 1]).ravel()
                self.ax_.fill_betweenx(edges, 0, np.repeat(values[corners], 2), color=colours[k], linewidth=0)
            middles.append(begin + size / 2)
            begin += size + gap
        self.ax_.axvline(self.mean_, color=INK, linestyle="--", linewidth=1.2, label=f"mean {self.mean_:.3f}")
        self.ax_.axvline(0, color=INK, linewidth=0.8)
        low = min(-0.05, float(self.silhouettes.min()) - 0.02)
        self.ax_.set(xlim=(low, 1), ylim=(begin, -gap), xlabel=self.name, ylabel="cluster")
        shown = [k for k in range(self.n_clusters) if self.n_clusters <= 50 or k % 10 == 0]
        self.ax_.set_yticks([middles[k] for k in shown], [str(k) for k in shown])
        self.ax_.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
        return self
