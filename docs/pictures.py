"""The pictures of the page on the arithmetic, drawn from the arithmetic itself."""

from pathlib import Path
from typing import Any

import numpy as np

from gpukmeans import exact
from gpukmeans.exact import FixedPoint


def draw(folder: Path) -> None:
    """Draw the pictures that the folder does not have yet."""
    import matplotlib.pyplot as plt

    folder.mkdir(exist_ok=True)
    plt.rcParams["svg.hashsalt"] = "gpukmeans"  # the same file every time
    for name, make in {"certificate": _certificate, "sums": _sums}.items():
        file = folder / f"{name}.svg"
        if not file.exists():
            figure = make(plt)
            figure.savefig(file, metadata={"Date": None})
            plt.close(figure)


def _certificate(plt: Any) -> Any:
    """Rows whose two best scores are nearer than the bound of a pass, for three types."""
    rng = np.random.default_rng(3)
    X = rng.uniform(-1, 1, size=(40_000, 2))
    centers = rng.uniform(-0.9, 0.9, size=(9, 2))
    norm = float(np.sqrt((centers**2).sum(axis=1)).max())
    scores = np.sort((centers**2).sum(axis=1) / 2 - X @ centers.T, axis=1)
    gap, length = scores[:, 1] - scores[:, 0], np.sqrt((X**2).sum(axis=1))
    bounds = {
        "bfloat16 (8 bits)": exact.tensor_bound(2, norm, "bf16", 0),
        "TF32 (11 bits)": exact.tensor_bound(2, norm, "tf32", 0),
        "float32 (24 bits)": exact.score_bound(2, norm),
    }
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.4), layout="constrained")
    for ax, (name, bound) in zip(axes, bounds.items(), strict=True):
        left_open = gap <= bound.const + length * (bound.linear + bound.quadratic * length)
        for rows, color in ((~left_open, "#c7dbea"), (left_open, "#c2410c")):
            ax.scatter(*X[rows].T, s=1, color=color, linewidths=0, rasterized=True)
        ax.scatter(*centers.T, s=22, color="black", marker="x", linewidths=1.2)
        ax.set_title(f"{name}\n{left_open.sum():,} of {len(X):,} rows left open", fontsize=9)
        ax.set(xticks=[], yticks=[], aspect="equal")
    return figure


def _sums(plt: Any) -> Any:
    """The sum of one column in a thousand orders: of floats, and of their integers."""
    rng = np.random.default_rng(0)
    column = rng.lognormal(size=20_000).astype(np.float32)
    code = FixedPoint.for_peaks(column.max(), len(column))
    integers = code.high(column.astype(np.float64)[:, None])[:, 0]
    floats, exacts = [], []
    for _ in range(1000):
        order = rng.permutation(len(column))
        floats.append(float(np.cumsum(column[order])[-1]))  # one after the other, as a thread would
        exacts.append(float(code.decode(integers[order].sum(), 0)[0]))
    figure, ax = plt.subplots(figsize=(9, 2.6), layout="constrained")
    ax.hist(np.array(floats) - exacts[0], bins=60, color="#7f9fb8", label=f"float32: {len(set(floats))} different sums")
    ax.axvline(0, color="#c2410c", linewidth=2, label=f"integers: {len(set(exacts))} sum")
    ax.set(xlabel="sum of the column less its sum by integers", ylabel="orders of adding", yticks=[])
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.legend(frameon=False, fontsize=9)
    return figure
