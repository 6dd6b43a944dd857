"""ClusterDisplay and VoronoiDisplay: the rows in the colours of their clusters, and where the clusters end."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import to_host
from ..exact import Float64Array, FloatArray
from ._scene import Scene, checked_labels, title
from ._style import INK, axes_for, library, rgb


class ClusterDisplay:
    """Rows in the colours of their clusters, and the centers with their numbers.

    One feature is shown as a histogram, two as they are, more in the plane in which the rows vary most (PCA); the title
    says how much of the variance it shows. Beyond 200,000 rows their numbers in 480 x 360 cells are drawn; each row
    counts.

    Parameters
    ----------
    scene : Scene
        The rows in one or two dimensions.
    labels : ndarray of int32, shape (n_samples,)
    centers : ndarray of shape (n_clusters, n_features) or None

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
    figure_ : matplotlib.figure.Figure

    See Also
    --------
    VoronoiDisplay : With the boundaries between clusters.

    Notes
    -----
    Holds 16 bytes a row, and copies of X while the plane is sought.

    Examples
    --------
    >>> from gpukmeans import KMeans
    >>> from gpukmeans.datasets import make_blobs
    >>> from gpukmeans.plot import ClusterDisplay
    >>> X, _ = make_blobs(500, 4, centers=3, random_state=0)
    >>> display = ClusterDisplay.from_estimator(KMeans(3, random_state=0).fit(X), X)
    >>> display.figure_.savefig("clusters.png")
    """

    def __init__(self, scene: Scene, labels: NDArray[np.int32], centers: FloatArray | None = None) -> None:
        self.scene = scene
        self.labels = labels
        self.centers = centers

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, *, ax: Any = None) -> Any:
        """Draw what a fitted estimator predicts for rows.

        Parameters
        ----------
        estimator : KMeans or another fitted clusterer with `predict`
            Its `cluster_centers_`, if it has them, are drawn too.
        X : {array-like, sparse matrix, device array} of shape (n_samples, n_features)
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None: on a new figure.

        Returns
        -------
        display : ClusterDisplay
        """
        labels, centers = estimator.predict(X), getattr(estimator, "cluster_centers_", None)
        return cls.from_predictions(X, labels, centers, ax=ax)

    @classmethod
    def from_predictions(cls, X: Any, labels: Any, centers: Any = None, *, ax: Any = None) -> Any:
        """Draw rows with given labels.

        Parameters
        ----------
        X : {array-like, sparse matrix, device array} of shape (n_samples, n_features)
        labels : array-like of int, shape (n_samples,)
            From 0 on.
        centers : array-like of shape (n_clusters, n_features), default=None
            None: no centers are drawn, and a legend names the clusters.
        ax : matplotlib.axes.Axes, default=None

        Returns
        -------
        display : ClusterDisplay
        """
        scene = Scene.of(X)
        if centers is not None:
            centers = scene.checked_centers(centers)
        n_clusters = None if centers is None else len(centers)
        return cls(scene, checked_labels(labels, len(scene.points), n_clusters), centers).plot(ax=ax)

    @property
    def n_clusters(self) -> int:
        """How many centers there are, or else labels."""
        return int(self.labels.max()) + 1 if self.centers is None else len(self.centers)

    def plot(self, *, ax: Any = None) -> Any:
        """Draw.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None

        Returns
        -------
        display : ClusterDisplay
            Itself.
        """
        self.figure_, self.ax_ = axes_for(ax)
        self.scene.draw(self.ax_, self.labels, self.centers)
        self.ax_.set_title(title(self.scene, self.n_clusters), size="medium")
        if self.centers is None and self.n_clusters <= 20:
            self._name_clusters()
        return self

    def _name_clusters(self) -> None:
        """A legend beside the axes, of the clusters that have rows."""
        handles, names = self.ax_.get_legend_handles_labels()
        if not handles:  # cells have none
            patch, colours = library("matplotlib.patches").Patch, rgb(self.n_clusters)
            names = [f"cluster {k}" for k in np.unique(self.labels)]
            handles = [patch(color=colours[k]) for k in np.unique(self.labels)]
        legend = self.ax_.legend(
            handles, names, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False
        )
        for handle in legend.legend_handles:
            if hasattr(handle, "set_sizes"):
                handle.set_sizes([30])
                handle.set_alpha(1)


class VoronoiDisplay(ClusterDisplay):
    """Rows with two features, and the straight boundaries between their clusters.

    The cell of a center is where it is the nearest one: the region that `predict` gives its label to.

    Parameters
    ----------
    scene : Scene
        The rows in two dimensions.
    labels : ndarray of int32, shape (n_samples,)
    centers : ndarray of shape (n_clusters, 2)

    Attributes
    ----------
    cells_ : list of (ndarray of shape (n_corners, 2) or None)
        Corners of the cell of each center, cut far outside the picture; None for a center that equals one before it.
    ax_ : matplotlib.axes.Axes
    figure_ : matplotlib.figure.Figure

    See Also
    --------
    ClusterDisplay : For any number of features.

    Examples
    --------
    >>> from gpukmeans import KMeans
    >>> from gpukmeans.datasets import make_blobs
    >>> from gpukmeans.plot import VoronoiDisplay
    >>> X, _ = make_blobs(500, 2, centers=4, random_state=0)
    >>> VoronoiDisplay.from_estimator(KMeans(4, random_state=0).fit(X), X).figure_.savefig("cells.png")
    """

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, *, ax: Any = None) -> Any:
        """Draw what a fitted estimator predicts for rows, and the cells of its centers.

        Parameters
        ----------
        estimator : KMeans, MiniBatchKMeans or another fitted clusterer that predicts the nearest center
        X : {array-like, sparse matrix, device array} of shape (n_samples, 2)
        ax : matplotlib.axes.Axes, default=None

        Returns
        -------
        display : VoronoiDisplay

        Raises
        ------
        ValueError
            For other than 2 features, and for a BisectingKMeans, which predicts by its tree.
        """
        if hasattr(estimator, "bisecting_strategy"):  # this package's and scikit-learn's
            raise ValueError(
                f"VoronoiDisplay draws where each center is the nearest one, and {type(estimator).__name__} predicts "
                "otherwise: down its tree. Take ClusterDisplay, or VoronoiDisplay.from_predictions with the labels of "
                "the nearest centers."
            )
        return super().from_estimator(estimator, X, ax=ax)

    @classmethod
    def from_predictions(cls, X: Any, labels: Any, centers: Any = None, *, ax: Any = None) -> Any:
        """Draw rows with given labels and the cells of given centers.

        Parameters
        ----------
        X : {array-like, sparse matrix, device array} of shape (n_samples, 2)
        labels : array-like of int, shape (n_samples,)
        centers : array-like of shape (n_clusters, 2)
        ax : matplotlib.axes.Axes, default=None

        Returns
        -------
        display : VoronoiDisplay
        """
        if centers is None:
            raise ValueError("VoronoiDisplay needs the centers: its cells are where each of them is the nearest one.")
        shape = np.shape(to_host(centers))
        if shape[1:] != (2,):
            raise ValueError(
                f"VoronoiDisplay needs centers with 2 features, got the shape {shape}. Fit two columns, or the first "
                "two of sklearn.decomposition.PCA, or take ClusterDisplay, which shows any number."
            )
        return super().from_predictions(X, labels, centers, ax=ax)

    def plot(self, *, ax: Any = None) -> Any:
        """Draw.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None

        Returns
        -------
        display : VoronoiDisplay
            Itself.
        """
        assert self.centers is not None
        super().plot(ax=ax)
        places = self.scene.place(self.centers)
        seen = np.vstack([self.scene.points, places])
        low, high = seen.min(axis=0), seen.max(axis=0)
        # beyond the axes, whatever their shape; of a single place by its size, or nothing is left of the margin
        margin = 3 * ((high - low).max() or max(np.abs(seen).max(), 1.0))
        self.cells_ = voronoi_cells(places, low - margin, high + margin)
        known = [k for k, cell in enumerate(self.cells_) if cell is not None]
        colours = rgb(self.n_clusters)[known]
        corners = [self.cells_[k] for k in known]
        draw = library("matplotlib.collections").PolyCollection
        self.ax_.add_collection(draw(corners, facecolors=colours, alpha=0.16, linewidths=0, zorder=0.5), autolim=False)
        lines = draw(corners, facecolors="none", edgecolors=INK, linewidths=0.9, zorder=3)
        self.ax_.add_collection(lines, autolim=False)
        return self


def voronoi_cells(centers: Float64Array, low: Float64Array, high: Float64Array) -> list[Float64Array | None]:
    """Cells of centers within a rectangle that holds them all.

    Each center is mirrored at the four sides: the sides are then boundaries like the others, and no cell is infinite.
    """
    from scipy.spatial import Voronoi

    unit = (high - low).max()  # Qhull takes no coordinates far from 1
    span = (high - low) / unit
    distinct, first = np.unique((centers - low) / unit, axis=0, return_index=True)
    mirrored = [distinct]
    for axis in (0, 1):
        for side in (0.0, span[axis]):
            image = distinct.copy()
            image[:, axis] = 2 * side - image[:, axis]
            mirrored.append(image)
    diagram = Voronoi(np.concatenate(mirrored))
    cells: list[Float64Array | None] = [None] * len(centers)
    for i, k in enumerate(first):
        corners = diagram.vertices[diagram.regions[diagram.point_region[i]]]
        about = corners - distinct[i]
        order = np.argsort(np.arctan2(about[:, 1], about[:, 0]))
        cells[k] = low + np.clip(corners[order], 0, span) * unit
    return cells
