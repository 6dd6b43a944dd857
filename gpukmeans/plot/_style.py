"""How clusters are told apart, and where a display finds its axes. matplotlib is imported here only, when drawing."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from ..exact import Float64Array

# M. A. Petroff, "Accessible color sequences for data visualization" (2021): told apart by the colour-blind too.
COLOURS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
MARKERS = "os^DvPX"
N_STYLES = len(COLOURS) * len(MARKERS)
"""As many pairs of colour and marker: 10 and 7 have no common divisor."""
GREY, INK = "#b8bcc4", "#20242c"


def style(cluster: int) -> tuple[str, str]:
    """Colour and marker of a cluster; the first 70 differ from each other."""
    return COLOURS[cluster % len(COLOURS)], MARKERS[cluster % len(MARKERS)]


def rgb(n_clusters: int) -> Float64Array:
    """Colours of the first clusters as numbers from 0 to 1, shape (n_clusters, 3).

    The second ten are darker than the first: in a picture made of cells there are no markers.
    """
    numbers = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in COLOURS])
    k = np.arange(n_clusters)
    values: Float64Array = numbers[k % len(COLOURS)] * np.where(k // len(COLOURS) % 2, 0.55, 1.0)[:, None]
    return values


def library(name: str = "matplotlib.pyplot") -> Any:
    """A module of matplotlib, or an error that says how to get it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "matplotlib":
            raise
        raise ImportError("gpukmeans.plot needs matplotlib: pip install 'gpukmeans[plot]'", name=error.name) from error


def need_matplotlib() -> Any:
    """Give matplotlib itself, or raise the error that says how to get it.

    Returns
    -------
    matplotlib : module
    """
    return library("matplotlib")


def axes_for(ax: Any) -> tuple[Any, Any]:
    """Figure and axes to draw on: those of the caller, or new ones."""
    plt = library()
    figure, ax = plt.subplots(layout="constrained") if ax is None else (ax.figure, ax)
    return figure, ax


def new_grid(n_rows: int, n_columns: int, **options: Any) -> tuple[Any, Any]:
    """A new figure and its axes, an array of shape (n_rows, n_columns)."""
    figure, axes = library().subplots(n_rows, n_columns, squeeze=False, layout="constrained", **options)
    return figure, axes


def number_centers(ax: Any, places: Float64Array, *, small: bool = False) -> None:
    """Draw centers, each with the number of its cluster, which tells more clusters apart than colours can."""
    n_clusters, colours = len(places), rgb(len(places))
    if n_clusters > 50:  # no room for numbers
        ax.scatter(*places.T, s=25, c=colours, zorder=4, label="centers", edgecolors=INK, linewidths=0.8)
        return
    area = 90 if small else 190
    ax.scatter(*places.T, s=area, c=colours, zorder=4, label="centers", edgecolors="white", linewidths=1.2)
    brightness = colours @ [0.299, 0.587, 0.114]
    font = {"size": 6 if small else 8, "weight": "bold", "ha": "center", "va": "center_baseline"}
    for k, place in enumerate(places):
        ax.annotate(str(k), place, color=INK if brightness[k] > 0.5 else "white", zorder=5, **font)
