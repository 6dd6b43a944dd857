"""Rows as a picture shows them: in one or two dimensions, as points or, if there are many, as counts in cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import column_or_1d

from ..arrays import to_host
from ..exact import Float64Array, FloatArray
from ..validation import check_data, check_init_centers, refuse_non_finite
from ._style import GREY, INK, N_STYLES, number_centers, rgb, style

MOST_POINTS = 200_000
"""More rows are counted in cells: drawn one over the other they would hide each other, and take long."""
CELLS = (480, 360)
"""About one for each pixel of a picture in a notebook."""
BINS = 80
BLOCK_ROWS = 1 << 18


@dataclass
class Scene:
    """Rows in at most two dimensions.

    Attributes
    ----------
    points : ndarray of float64, shape (n_samples, 1) or (n_samples, 2)
    names : list of str
        Of the axes.
    explained : float
        Share of the variance that the axes show; 1 for at most two features.
    pca : sklearn.decomposition.PCA or None
    """

    points: Float64Array
    names: list[str]
    explained: float = 1.0
    pca: Any = None

    @classmethod
    def of(cls, X: Any) -> Scene:
        """Rows with one or two features as they are, others in the plane in which they vary most."""
        names = [str(name) for name in getattr(X, "columns", [])]
        rows = to_host(check_data(X))
        values = rows if isinstance(rows, np.ndarray) else rows.data
        if not np.isfinite(values).all():
            refuse_non_finite(rows, feature_names=names or None)
        n_samples, n_features = rows.shape
        if n_features <= 2:
            dense = rows if isinstance(rows, np.ndarray) else rows.toarray()
            return cls(dense.astype(np.float64), names or [f"feature {j}" for j in range(n_features)])
        if n_samples < 2:
            raise ValueError(f"A plane for {n_features} features needs at least 2 rows. Got {n_samples}.")
        from sklearn.decomposition import PCA

        with np.errstate(invalid="ignore"):  # 0 / 0 if all rows are equal
            pca = PCA(2, random_state=0).fit(rows)
        shares = np.nan_to_num(pca.explained_variance_ratio_)
        names = [f"principal component {i + 1} ({_percent(s)})" for i, s in enumerate(shares)]
        return cls(pca.transform(rows).astype(np.float64), names, float(shares.sum()), pca)

    @property
    def n_dims(self) -> int:
        """1 or 2."""
        return int(self.points.shape[1])

    def place(self, centers: Any) -> Float64Array:
        """Where centers lie in the picture."""
        placed = to_host(centers) if self.pca is None else self.pca.transform(to_host(centers))
        return np.asarray(placed, dtype=np.float64)

    def checked_centers(self, centers: Any) -> FloatArray:
        """Centers as an array of float64 with as many features as the rows."""
        n_features = self.n_dims if self.pca is None else self.pca.n_features_in_
        return check_init_centers(centers, np.empty((0, n_features)), None, "centers")

    def draw(self, ax: Any, labels: NDArray[np.int32] | None, centers: Any = None, *, small: bool = False) -> None:
        """Draw the rows, in the colours of their clusters (grey without labels), and the numbered centers."""
        ax.set_xlabel(self.names[0])
        if self.n_dims == 1:
            self._draw_bars(ax, labels)
        else:
            ax.set_ylabel(self.names[1])
            draw = self._draw_points if len(self.points) <= MOST_POINTS else self._draw_cells
            draw(ax, labels)
        if centers is not None:
            self._draw_centers(ax, centers, small)
        if self.n_dims == 2:
            self._set_aspect(ax)

    def _draw_centers(self, ax: Any, centers: Any, small: bool) -> None:
        """Draw the centers: marks with a number in two dimensions, lines in one."""
        places = self.place(centers)
        if self.n_dims == 2:
            number_centers(ax, places, small=small)
            return
        low, high = ax.get_ylim()
        ax.set_ylim(low, high * 1.12)
        ax.vlines(places[:, 0], 0, high * 1.04, color=INK, linewidth=1, linestyle="--", label="centers")
        number_centers(ax, np.column_stack([places[:, 0], np.full(len(places), high * 1.04)]), small=small)

    def _draw_points(self, ax: Any, labels: NDArray[np.int32] | None) -> None:
        n = len(self.points)
        size = float(np.clip(30_000 / n, 1.0, 26.0))
        options = {"s": size, "linewidths": 0, "alpha": 0.75 if n < 20_000 else 0.5, "rasterized": n > 5_000}
        if labels is None:
            ax.scatter(*self.points.T, color=GREY, **options)
            return
        colours = rgb(int(labels.max()) + 1)
        for first in range(min(N_STYLES, len(colours))):
            mine = labels % N_STYLES == first
            if mine.any():
                c = colours[labels[mine]]
                ax.scatter(*self.points[mine].T, c=c, marker=style(first)[1], label=f"cluster {first}", **options)

    def _draw_cells(self, ax: Any, labels: NDArray[np.int32] | None) -> None:
        low, high = self.points.min(axis=0), self.points.max(axis=0)
        span = np.where(high > low, high - low, 1.0)
        picture = self.cells(labels, low, span)
        extent = (low[0], low[0] + span[0], low[1], low[1] + span[1])
        ax.imshow(picture, extent=extent, origin="lower", aspect="auto", interpolation="nearest")
        ax.margins(0.02)

    def cells(self, labels: NDArray[np.int32] | None, low: Float64Array, span: Float64Array) -> Float64Array:
        """Colour and opacity of each cell: the mean colour of its rows, and the more opaque the more rows it has.

        In blocks: beside the rows it takes 40 MB.
        """
        columns, lines = CELLS
        total = np.zeros((4, columns * lines))
        grey = np.array([[0.4, 0.42, 0.46]])
        colours = grey if labels is None else rgb(int(labels.max()) + 1)
        for begin in range(0, len(self.points), BLOCK_ROWS):
            part = slice(begin, begin + BLOCK_ROWS)
            x, y = ((self.points[part] - low) / span * CELLS).astype(np.int64).clip(max=(columns - 1, lines - 1)).T
            cell = y * columns + x
            own = 0 if labels is None else labels[part]
            for channel in range(3):
                weights = np.broadcast_to(colours[own, channel], cell.shape)
                total[channel] += np.bincount(cell, weights, minlength=total.shape[1])
            total[3] += np.bincount(cell, minlength=total.shape[1])
        counts = total[3]
        seen = counts > 0
        total[:3, seen] /= counts[seen]
        total[3, seen] = 0.4 + 0.6 * np.log1p(counts[seen]) / np.log1p(counts.max())
        return np.clip(total.T.reshape(lines, columns, 4), 0, 1)

    def _draw_bars(self, ax: Any, labels: NDArray[np.int32] | None) -> None:
        """A histogram, the clusters stacked."""
        values = self.points[:, 0]
        edges = np.histogram_bin_edges(values, BINS)
        ax.set_ylabel("rows")
        below = np.zeros(BINS)
        if labels is None:
            ax.stairs(np.histogram(values, edges)[0], edges, fill=True, color=GREY)
            return
        colours = rgb(int(labels.max()) + 1)
        for k in np.unique(labels):
            top = below + np.histogram(values[labels == k], edges)[0]
            ax.stairs(top, edges, baseline=below, fill=True, color=colours[k], label=f"cluster {k}")
            below = top
        ax.set_ylim(0, below.max() * 1.05)

    def _set_aspect(self, ax: Any) -> None:
        """The same scale on both axes, as distances see it, unless one axis would be a line then."""
        spans = np.ptp(self.points, axis=0)
        if spans.min() * 5 > spans.max():
            ax.set_aspect("equal", adjustable="datalim")


def checked_labels(labels: Any, n_samples: int, n_clusters: int | None) -> NDArray[np.int32]:
    """Labels as numbers of clusters, one a row."""
    values = column_or_1d(to_host(labels))
    if len(values) != n_samples:
        raise ValueError(f"labels has {len(values)} values for the {n_samples} rows of X: give one a row.")
    if values.dtype.kind not in "iu":
        raise ValueError(f"labels must be the numbers of clusters, integers from 0 on. Got the dtype {values.dtype}.")
    most = np.inf if n_clusters is None else n_clusters - 1
    wrong = np.flatnonzero((values < 0) | (values > most))
    if len(wrong):
        rule = "from 0 on" if n_clusters is None else f"from 0 to {most}, one for each of the {n_clusters} centers"
        raise ValueError(f"labels must be integers {rule}. Got {values[wrong[0]]} in row {wrong[0]}.")
    return np.asarray(values, dtype=np.int32)


def title(scene: Scene, n_clusters: int) -> str:
    """How many clusters and rows there are, and how they are shown."""
    n = len(scene.points)
    text = f"{n_clusters} {'cluster' if n_clusters == 1 else 'clusters'}, {n:,} {'row' if n == 1 else 'rows'}"
    if n > MOST_POINTS and scene.n_dims == 2:
        text += f", counted in {CELLS[0]} x {CELLS[1]} cells"
    return text if scene.pca is None else f"{text}\nThe plane shows {_percent(scene.explained)} of the variance"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
