"""PaletteDisplay: a picture with few colours beside the original, and which colours these are."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import to_host
from ..pictures import Pixels, as_pixels, as_rows, palette_of
from ._style import library


class PaletteDisplay:
    """A picture, the same with few colours, and these colours, each as broad as it has pixels.

    Parameters
    ----------
    original, pixels : ndarray of uint8, shape (height, width, 3)

    Attributes
    ----------
    palette_ : ndarray of uint8, shape (n_colours, 3)
        The colours of `pixels`, from dark to light.
    shares_ : ndarray of float64, shape (n_colours,)
        Share of the pixels that each of them has.
    axes_ : ndarray of matplotlib.axes.Axes
        Of the original, the compressed picture, and the palette.
    figure_ : matplotlib.figure.Figure

    Examples
    --------
    >>> from sklearn.datasets import load_sample_image
    >>> from gpukmeans.pictures import compress
    >>> from gpukmeans.plot import PaletteDisplay
    >>> picture = load_sample_image("china.jpg")[::4, ::4]
    >>> display = PaletteDisplay.from_predictions(picture, compress(picture, 16, random_state=0).pixels)
    >>> display.figure_.savefig("palette.png")
    """

    def __init__(self, original: Pixels, pixels: Pixels) -> None:
        self.original = original
        self.pixels = pixels

    @classmethod
    def from_estimator(cls, estimator: Any, picture: Any) -> PaletteDisplay:
        """Draw a picture in the colours of a fitted estimator.

        Parameters
        ----------
        estimator : KMeans or another fitted clusterer with `predict` and `cluster_centers_`
            Of colours from 0 to 1, as of ``compress(picture, n_colours).model``.
        picture : ndarray of uint8, shape (height, width, 3)

        Returns
        -------
        display : PaletteDisplay
        """
        labels = to_host(estimator.predict(as_rows(picture)))
        return cls.from_predictions(picture, as_pixels(to_host(estimator.cluster_centers_), labels, picture))

    @classmethod
    def from_predictions(cls, original: Any, pixels: Any) -> PaletteDisplay:
        """Draw a picture and what became of it.

        Parameters
        ----------
        original, pixels : ndarray of uint8, shape (height, width, 3)

        Returns
        -------
        display : PaletteDisplay
        """
        for picture in (original, pixels):
            as_rows(picture)  # refuses what is no picture
        return cls(np.asarray(original), np.asarray(pixels)).plot()

    def plot(self) -> PaletteDisplay:
        """Draw.

        Returns
        -------
        display : PaletteDisplay
            Itself.
        """
        palette, _, counts = palette_of(self.pixels)
        order = np.argsort(palette @ np.array([0.299, 0.587, 0.114]), kind="stable")
        self.palette_, self.shares_ = palette[order], counts[order] / counts.sum()
        height, width, _ = self.original.shape
        plt = library()
        size = (9.0, min(9.0, 4.4 * height / width) + 1.4)
        self.figure_, axes = plt.subplot_mosaic(
            [["original", "pixels"], ["palette", "palette"]], figsize=size, layout="constrained",
            height_ratios=[size[1] - 1.1, 0.5],
        )  # fmt: skip
        self.axes_ = np.array([axes["original"], axes["pixels"], axes["palette"]])
        n_colours = len(palette)
        said = f"{n_colours:,} {'colour' if n_colours == 1 else 'colours'}"
        names = (f"original: {len(palette_of(self.original)[0]):,} colours", said)
        for ax, picture, name in zip(self.axes_, (self.original, self.pixels), names, strict=False):
            ax.imshow(picture)
            ax.set_title(name, size="medium")
            ax.set_axis_off()
        ends = np.cumsum(self.shares_)
        ax = self.axes_[2]
        ax.bar(ends - self.shares_, 1, self.shares_, align="edge", color=self.palette_ / 255, linewidth=0)
        ax.set(xlim=(0, 1), ylim=(0, 1), yticks=[], xticks=[0, 0.25, 0.5, 0.75, 1])
        ax.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
        ax.set_xlabel("share of the pixels, from dark to light")
        return self
