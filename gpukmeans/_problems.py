"""What a backend is compared on with the numpy backend: shapes, types and kinds of data that have code of their own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse

from .exact import FloatArray

_EXPONENT = {  # a power of two that moves values of about 10 out of the range that is not scaled, and stays finite
    "subnormal": {"float32": -140, "float64": -1060},
    "tiny": {"float32": -100, "float64": -900},
    "huge": {"float32": 110, "float64": 1000},
}


@dataclass(frozen=True)
class Problem:
    """Rows to cluster, from a start among them; the same on every machine.

    Attributes
    ----------
    n_samples, n_features, n_clusters : int
    dtype : {"float32", "float64", "float16"}
    kind : str
        "blobs" that overlap; "ties": small whole numbers; "duplicates": fewer distinct rows than clusters, so that
        clusters stay empty; "offset": blobs near 1e6; "spread": entries scaled by 2**-14 to 2**14; "subnormal",
        "tiny", "huge": all scaled.
    weighted : bool
        Whether rows have weights; a fifth of them are 0.
    layout : {"array", "odd", "csr"}
        "odd": a view that starts one value behind the beginning of its memory; "csr": a sparse matrix.
    max_iter : int
    streamed : bool
        Whether the card is given too little memory to hold the rows.
    first_stage : {"", "bf16", "fp16", "tf32"}
        Type in which tensor cores make the first pass, if the card has them for it, whatever that costs; "": as ever.
    """

    n_samples: int
    n_features: int
    n_clusters: int
    dtype: str = "float32"
    kind: str = "blobs"
    weighted: bool = False
    layout: str = "array"
    max_iter: int = 20
    streamed: bool = False
    first_stage: str = ""

    @property
    def name(self) -> str:
        """Shape and all that is special about it."""
        parts = [f"{self.n_samples} x {self.n_features}", f"k={self.n_clusters}", self.dtype, self.kind]
        special = {"weights": self.weighted, self.layout: self.layout != "array", "streamed": self.streamed}
        special[f"{self.first_stage} first"] = bool(self.first_stage)
        return ", ".join([*parts, *(word for word, holds in special.items() if holds)])

    @property
    def size(self) -> int:
        """Multiplications of one assignment."""
        return self.n_samples * self.n_features * self.n_clusters

    def make(self) -> tuple[Any, FloatArray, Any]:
        """Rows, start and weights (or None)."""
        rng = np.random.default_rng([self.n_samples, self.n_features, self.n_clusters])
        X = np.ascontiguousarray(self._values(rng), dtype=self.dtype)
        start = X[rng.choice(self.n_samples, self.n_clusters, replace=False)]
        weights = None
        if self.weighted:
            weights = rng.uniform(0.1, 3, self.n_samples) * (rng.random(self.n_samples) > 0.2)
        if self.layout == "odd":
            memory = np.empty(X.size + 1, X.dtype)
            memory[1:] = X.ravel()
            X = memory[1:].reshape(X.shape)
        return sparse.csr_matrix(X) if self.layout == "csr" else X, start, weights

    def _values(self, rng: np.random.Generator) -> Any:
        shape = self.n_samples, self.n_features
        if self.kind == "ties":
            return rng.integers(0, 4, shape)
        centers = rng.uniform(-10, 10, (self.n_clusters, self.n_features))
        X = centers[rng.integers(0, self.n_clusters, self.n_samples)] + 3 * rng.standard_normal(shape)
        if self.kind == "duplicates":
            return X[rng.integers(0, max(1, self.n_clusters // 2), self.n_samples)]
        if self.kind == "offset":
            return X + 1e6
        if self.kind == "spread":
            return np.ldexp(X, rng.integers(-14, 15, shape))
        if self.layout == "csr":
            return X * (rng.random(shape) < 0.3)
        return np.ldexp(X, _EXPONENT[self.kind][self.dtype]) if self.kind in _EXPONENT else X


def problems(backend: str, *, full: bool = False) -> list[Problem]:
    """Give the table of problems for a backend.

    Parameters
    ----------
    backend : str
        "cupy" has some in addition that are streamed.
    full : bool, default=False
        Whether to add larger problems, up to a million rows: half a minute more on two cores.

    Returns
    -------
    list of Problem

    Examples
    --------
    >>> from gpukmeans.verify import problems
    >>> problems("numba")[0].name
    '600 x 1, k=3, float32, blobs'
    """
    shapes = [(600, 1, 3), (1000, 2, 8), (1000, 3, 5), (1500, 5, 130), (1000, 16, 16), (1000, 17, 33), (1000, 20, 7)]
    shapes += [(1500, 64, 140), (400, 257, 9), (300, 300, 3), (60, 3, 60)]
    small = [Problem(*shape) for shape in shapes]
    small += [Problem(1000, 6, 12, weighted=True), Problem(1000, 18, 140, weighted=True)]
    small += [Problem(1000, 2, 9, kind="ties"), Problem(1000, 17, 9, kind="ties", weighted=True)]
    small += [Problem(1000, 3, 12, kind="duplicates"), Problem(500, 20, 150, kind="duplicates", weighted=True)]
    small += [Problem(1000, d, 8, kind=kind) for kind in ("offset", "spread", *_EXPONENT) for d in (5, 24)]
    small += [Problem(1000, 6, 8, kind=kind, weighted=True) for kind in _EXPONENT]
    small += [Problem(1001, d, 8, layout="odd") for d in (3, 16, 33)] + [Problem(1000, 20, 8, layout="csr")]
    halves: list[Problem] = []
    if backend == "cupy":
        small += [Problem(4000, 64, 16, streamed=True), Problem(4000, 96, 140, weighted=True, streamed=True)]
        for stage in ("bf16", "fp16", "tf32"):
            small += [Problem(*shape, first_stage=stage) for shape in ((200, 40, 70), (1000, 18, 20), (150, 300, 9))]
            small += [Problem(300, 24, 40, kind=kind, first_stage=stage) for kind in ("ties", "duplicates", "offset")]
            small += [Problem(20_000, 100, 300, max_iter=5, first_stage=stage)]
            small += [Problem(70_000, 5, 1200, max_iter=2, first_stage=stage)]  # enough of both for keys of four
        halves += [Problem(*shape, "float16") for shape in ((1000, 3, 5), (700, 33, 20), (300, 257, 9))]
        halves += [Problem(1000, 20, 40, "float16", weighted=True)]
        halves += [Problem(1001, 16, 8, "float16", layout="odd"), Problem(4000, 64, 16, "float16", streamed=True)]
        halves += [Problem(500, d, 40, "float16", first_stage="fp16") for d in (24, 300)]
    large = [Problem(100_000, 32, 256, max_iter=5), Problem(200_000, 3, 8, "float64", weighted=True)]
    if full:
        if backend == "cupy":
            large.append(Problem(400_000, 128, 64, max_iter=5, streamed=True))
        large += [Problem(1_000_000, 3, 16), Problem(1_000_000, 16, 64, max_iter=10)]
        large += [Problem(200_000, 128, 512, max_iter=5), Problem(100_000, 64, 300, "float64", max_iter=5)]
    return [*small, *(replace(problem, dtype="float64") for problem in small), *halves, *large]
