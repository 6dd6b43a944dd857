"""StepsDisplay: the E and M steps of Lloyd's algorithm as a row of pictures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..steps import Step, lloyd_steps
from ._scene import Scene, checked_labels
from ._style import INK, new_grid

N_COLUMNS = 4


class StepsDisplay:
    """The start, the E and the M steps of Lloyd's algorithm, a picture each.

    An E step gives each row the colour of its nearest center, an M step moves each center (a line from where it was) to
    the mean of its rows. With many steps the first ones and the last are shown, and the title says how many are left
    out.

    Parameters
    ----------
    scene : Scene
        The rows in one or two dimensions.
    steps : list of Step
        All steps, as :func:`gpukmeans.lloyd_steps` gives them.
    start : ndarray of shape (n_clusters, n_features)
        The centers before the first step.

    Attributes
    ----------
    axes_ : ndarray of matplotlib.axes.Axes
        One for each picture, in reading order.
    figure_ : matplotlib.figure.Figure

    Notes
    -----
    Holds 16 bytes a row, and 4 bytes a row for each step.

    Examples
    --------
    >>> from gpukmeans.datasets import make_blobs
    >>> from gpukmeans.plot import StepsDisplay
    >>> X, _ = make_blobs(300, 2, centers=3, random_state=0)
    >>> StepsDisplay.from_centers(X, X[:3]).figure_.savefig("steps.png")
    """

    def __init__(self, scene: Scene, steps: list[Step], start: Any) -> None:
        self.scene = scene
        self.steps = steps
        self.start = start

    @classmethod
    def from_centers(cls, X: Any, centers: Any, *, max_pictures: int = 8, **parameters: Any) -> StepsDisplay:
        """Run the algorithm from given centers and draw its steps.

        Parameters
        ----------
        X : {array-like, sparse matrix, device array} of shape (n_samples, n_features)
        centers : array-like of shape (n_clusters, n_features)
        max_pictures : int, default=8
            At least 2: the start and the last step.
        **parameters
            Of :func:`gpukmeans.lloyd_steps`: sample_weight, max_iter, tol, backend.

        Returns
        -------
        display : StepsDisplay
        """
        return cls.from_predictions(X, lloyd_steps(X, centers, **parameters), max_pictures=max_pictures)

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, *, max_pictures: int = 8) -> StepsDisplay:
        """Draw the steps of a KMeans whose `init` is an array.

        Parameters
        ----------
        estimator : KMeans
            Need not be fitted.
        X : {array-like, sparse matrix, device array} of shape (n_samples, n_features)
        max_pictures : int, default=8

        Returns
        -------
        display : StepsDisplay
        """
        if isinstance(estimator.init, str) or callable(estimator.init):
            raise ValueError(
                f"StepsDisplay.from_estimator needs an estimator whose 'init' is an array. Got {estimator.init!r}: "
                "draw the start first, for example init=gpukmeans.kmeans_plusplus(X, n_clusters, random_state=0)[0]."
            )
        options = {name: getattr(estimator, name) for name in ("max_iter", "tol")}
        return cls.from_centers(X, estimator.init, max_pictures=max_pictures, **options)

    @classmethod
    def from_predictions(cls, X: Any, steps: Iterable[Any], *, max_pictures: int = 8) -> StepsDisplay:
        """Draw steps that were made before.

        Parameters
        ----------
        X : {array-like, sparse matrix, device array} of shape (n_samples, n_features)
        steps : iterable of (labels, centers, inertia)
            What ``lloyd_steps(X, centers)`` gives, from the first step on.
        max_pictures : int, default=8

        Returns
        -------
        display : StepsDisplay
        """
        if max_pictures < 2:
            raise ValueError(f"max_pictures must be at least 2, for the start and the last step. Got {max_pictures!r}.")
        scene, made = Scene.of(X), []
        for labels, centers, inertia in steps:
            centers = scene.checked_centers(centers)
            made.append(Step(checked_labels(labels, len(scene.points), len(centers)), centers, float(inertia)))
        if not made:
            raise ValueError("steps is empty: lloyd_steps(X, centers) gives each of its steps once.")
        return cls(scene, made, made[0].centers).plot(max_pictures=max_pictures)

    def plot(self, *, max_pictures: int = 8) -> StepsDisplay:
        """Draw.

        Parameters
        ----------
        max_pictures : int, default=8

        Returns
        -------
        display : StepsDisplay
            Itself.
        """
        shown = list(range(len(self.steps)))
        n_left_out = max(0, len(shown) + 1 - max_pictures)
        if n_left_out:
            shown = [*shown[: max_pictures - 2], shown[-1]]
        n_columns = min(N_COLUMNS, len(shown) + 1)
        n_rows = -(-(len(shown) + 1) // n_columns)
        size = (3.1 * n_columns, 3.1 * n_rows)
        self.figure_, grid = new_grid(n_rows, n_columns, figsize=size)
        axes = grid.ravel()
        self.axes_ = axes[: len(shown) + 1]
        self.scene.draw(axes[0], None, self.start, small=True)
        axes[0].set_title("start", size="medium")
        for ax, i in zip(axes[1:], shown, strict=False):
            self._draw_step(ax, i)
        for ax in axes[len(shown) + 1 :]:
            ax.set_axis_off()
        self._align(grid)
        if n_left_out:
            self.figure_.suptitle(f"{n_left_out} steps before the last are not shown", size="medium")
        return self

    def _align(self, grid: Any) -> None:
        """The same view in each picture: that which holds the centers of all of them. Names at the outer ones only."""
        everywhere = self.scene.place(np.concatenate([self.start, *(step.centers for step in self.steps)]))
        for ax in self.axes_:
            if self.scene.n_dims == 2:
                ax.update_datalim(everywhere)
                ax.autoscale_view()
        for ax in grid[:, 1:].ravel():
            ax.set_ylabel("")
            ax.tick_params(labelleft=False)
        for column in grid.T:
            for ax in [ax for ax in column if ax.axison][:-1]:
                ax.set_xlabel("")
                ax.tick_params(labelbottom=False)

    def _draw_step(self, ax: Any, i: int) -> None:
        """Even steps gave labels, odd ones moved the centers."""
        step = self.steps[i]
        self.scene.draw(ax, step.labels, step.centers, small=True)
        is_last = i == len(self.steps) - 1
        name = f"{'EM'[i % 2]} step {i // 2 + 1}{', the last' if is_last else ''}"
        ax.set_title(f"{name}\ninertia {step.inertia:.6g}", size="medium")
        if i % 2 and self.scene.n_dims == 2:
            before, after = self.scene.place(self.steps[i - 1].centers), self.scene.place(step.centers)
            for k in np.flatnonzero((before != after).any(axis=1)):
                ax.plot(
                    *zip(before[k], after[k], strict=True), color=INK, linewidth=1.4, zorder=3.5,
                    marker="o", markevery=[0], markersize=4.5, markerfacecolor="white",
                )  # fmt: skip
