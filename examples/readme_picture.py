"""Draws the picture of the README: ``python examples/readme_picture.py`` writes docs/readme.png."""

from pathlib import Path

import numpy as np

from gpukmeans.datasets import make_blobs
from gpukmeans.pictures import compress, write_png
from gpukmeans.plot import StepsDisplay

TARGET = Path(__file__).parent.parent / "docs" / "readme.png"


def write(target: Path = TARGET) -> None:
    """Four blobs, and Lloyd's algorithm from a bad start, each of its steps; in few colours, for a small file."""
    X, _ = make_blobs(400, centers=[[-6, -3], [-2, 4], [2, -4], [6, 3]], random_state=11)
    figure = StepsDisplay.from_centers(X, X[np.argsort(X[:, 0])[:4]]).figure_
    figure.set_dpi(80)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[:, :, :3]
    write_png(target, compress(pixels, 64, random_state=0).pixels)


if __name__ == "__main__":
    TARGET.parent.mkdir(exist_ok=True)
    write()
