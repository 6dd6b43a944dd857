"""The two jobs of ``gpukmeans demo``: compress a photograph, and race scikit-learn on blobs."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .datasets import make_blobs

if TYPE_CHECKING:
    from .kmeans import KMeans
    from .pictures import Compression

__all__ = ["Race", "compress_photograph", "race_scikit_learn", "warm_up"]

_ROUNDS = 3


@dataclass(frozen=True)
class Race:
    """Both fits of the same data from the same start; seconds are medians of interleaved fits."""

    shape: tuple[int, int]
    n_clusters: int
    seconds: tuple[float, float]
    inertia: tuple[float, float]
    n_iter: tuple[int, int]
    n_different: int
    n_different_float64: int | None  # against scikit-learn's fit in float64, made only if labels differ

    def summary(self) -> dict[str, str]:
        """Give what the demo prints."""
        (ours, theirs), (n_samples, n_features) = self.seconds, self.shape
        equal = f"{n_samples - self.n_different} of {n_samples}"
        if self.n_different:
            equal += (
                f"; {self.n_different} differ, since scikit-learn rounds to float32: near ties fall otherwise, and the "
                f"centers follow; from its fit in float64 {self.n_different_float64} differ"
            )
        return {
            "blobs": f"{n_samples} x {n_features} float32, {self.n_clusters} clusters, same start",
            "gpukmeans": f"{ours:.3f} s, {self.n_iter[0]} iterations, inertia {self.inertia[0]!r}",
            "scikit-learn": f"{theirs:.3f} s, {self.n_iter[1]} iterations, inertia {self.inertia[1]!r}",
            "ratio": f"{theirs / ours:.1f} (medians of {_ROUNDS} fits each, run in turn)",
            "equal labels": equal,
        }


def warm_up() -> float:
    """Compile what both jobs need, on a few rows; give the seconds that it took."""
    start = time.perf_counter()
    for n_features in (3, 16):
        X, _ = make_blobs(2000, n_features, centers=8, random_state=0, dtype=np.float32)
        _kmeans(n_clusters=8, random_state=0, max_iter=3).fit(X)
    return time.perf_counter() - start


def compress_photograph(output: str | os.PathLike[str], *, quick: bool = False) -> "Compression":
    """Reduce scikit-learn's china.jpg to 64 colours, and write it as a PNG beside the original.

    Parameters
    ----------
    output : str or path-like
        The PNG file: the original left, the compressed picture right.
    quick : bool, default=False
        Whether to take a 64th of the pixels and 16 colours.
    """
    from sklearn.datasets import load_sample_image

    from .pictures import compress, write_png

    photograph, n_colours = load_sample_image("china.jpg"), 64
    if quick:
        photograph, n_colours = photograph[::8, ::8], 16
    compression = compress(photograph, n_colours, random_state=0)
    write_png(output, np.hstack([photograph, compression.pixels]))
    return compression


def race_scikit_learn(*, quick: bool = False) -> Race:
    """Fit a million rows with gpukmeans and with scikit-learn, in turn, from the same start.

    Parameters
    ----------
    quick : bool, default=False
        Whether to take 20,000 rows and 8 clusters.
    """
    from sklearn.cluster import KMeans as ScikitLearn

    n_samples, n_clusters = (20_000, 8) if quick else (1_000_000, 64)
    X, _ = make_blobs(n_samples, 16, centers=n_clusters, random_state=0, dtype=np.float32)
    start = X[np.random.default_rng(0).choice(n_samples, n_clusters, replace=False)]
    same: dict[str, Any] = {
        "n_clusters": n_clusters,
        "init": start,
        "n_init": 1,
        "max_iter": 100,
        "tol": 1e-4,
    }
    contestants: list[Callable[[], Any]] = [
        lambda: _kmeans(**same),
        lambda: ScikitLearn(algorithm="lloyd", **same),
    ]
    for make in contestants:
        make().fit(X[:5000])
    seconds: tuple[list[float], list[float]] = ([], [])
    models: list[Any] = [None, None]
    for _ in range(_ROUNDS):
        for i, make in enumerate(contestants):
            begin = time.perf_counter()
            models[i] = make().fit(X)
            seconds[i].append(time.perf_counter() - begin)
    ours, theirs = models
    n_different = int(np.count_nonzero(ours.labels_ != theirs.labels_))
    n_different_float64 = None
    if n_different:
        in_float64 = ScikitLearn(**same).fit(X.astype(np.float64))
        n_different_float64 = int(np.count_nonzero(ours.labels_ != in_float64.labels_))
    return Race(
        shape=X.shape,
        n_clusters=n_clusters,
        seconds=(statistics.median(seconds[0]), statistics.median(seconds[1])),
        inertia=(float(ours.inertia_), float(theirs.inertia_)),
        n_iter=(int(ours.n_iter_), int(theirs.n_iter_)),
        n_different=n_different,
        n_different_float64=n_different_float64,
    )


def _kmeans(**params: Any) -> "KMeans":
    from .kmeans import KMeans

    return KMeans(**params)
