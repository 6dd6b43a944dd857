"""Random problems, drawn by hypothesis as a short recipe that a failure prints and anyone can build again."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

KINDS = ("blobs", "noise", "uniform", "grid", "duplicates", "scales", "constant")
STARTS = ("rows", "repeated rows", "near rows", "far", "very far")
WEIGHTS = (None, None, "random", "integer", "zeros", "1e-30", "1e30", "powers", "extreme")
SCALES = {
    "f4": (1e-30, 1e-22, 1e-15, 1e-6, 1e6, 1e15, 1e19, 1e30),
    "f8": (1e-300, 1e-30, 1e-15, 1e-6, 1e6, 1e15, 1e30, 1e300),
}


class Problem(NamedTuple):
    X: np.ndarray
    centers: np.ndarray
    sample_weight: np.ndarray | None
    tol: float
    max_iter: int

    @property
    def n_clusters(self) -> int:
        return len(self.centers)


@dataclass(frozen=True)
class Recipe:
    seed: int
    n: int
    d: int
    k: int
    kind: str = "noise"
    dtype: str = "f4"
    scale: float = 1.0
    offset: float = 0.0
    start: str = "rows"
    weights: str | None = None
    tol: float = 0.0
    max_iter: int = 100

    def build(self) -> Problem:
        rng = np.random.default_rng(self.seed)
        X = self._rows(rng)
        if self.dtype == "?":
            X = X > 0
        elif self.dtype[0] in "iu":
            X = np.clip(np.rint(X * 10), 0 if self.dtype[0] == "u" else -120, 120).astype(self.dtype)
        else:
            with np.errstate(all="ignore"):
                limit = float(np.finfo(self.dtype).max)
                X = ((X + self.offset) * self.scale).clip(-limit, limit).astype(self.dtype)
        return Problem(X, self._centers(rng, X), self._sample_weight(rng), self.tol, self.max_iter)

    def _rows(self, rng: np.random.Generator) -> np.ndarray:
        n, d = self.n, self.d
        if self.kind == "blobs":
            middles = rng.normal(size=(self.k, d)) * 10
            return middles[rng.integers(0, self.k, n)] + rng.normal(size=(n, d)) * rng.choice([0.3, 3.0])
        if self.kind == "noise":
            return rng.normal(size=(n, d))
        if self.kind == "uniform":
            return rng.random((n, d))
        if self.kind == "grid":
            return rng.integers(-3, 4, (n, d)).astype(float)
        if self.kind == "duplicates":
            few = max(1, n // 4)
            return rng.normal(size=(few, d))[rng.integers(0, few, n)]
        if self.kind == "scales":
            return rng.normal(size=(n, d)) * 10.0 ** rng.integers(-6, 7, d)
        return np.full((n, d), rng.normal())

    def _centers(self, rng: np.random.Generator, X: np.ndarray) -> np.ndarray:
        kept = X.dtype if self.dtype in ("f4", "f8") else np.dtype("f4" if self.dtype == "f2" else "f8")
        chosen = X[rng.choice(self.n, self.k, replace=self.start == "repeated rows")].astype(kept)
        if self.start in ("rows", "repeated rows"):
            return chosen
        spread = max(float(np.ptp(X.astype(float))), 2.0**-1000)
        with np.errstate(all="ignore"):
            if self.start == "near rows":
                return (chosen + rng.normal(size=chosen.shape) * spread).astype(kept)
            far = rng.random(self.k) < 0.5
            reach = 1e6 if self.start == "far" else 1e15
            moved = chosen + far[:, None] * rng.normal(size=chosen.shape) * min(spread * reach, 1e300)
            largest = np.finfo(kept).max
            return np.clip(moved, -largest, largest).astype(kept)

    def _sample_weight(self, rng: np.random.Generator) -> np.ndarray | None:
        n = self.n
        if self.weights is None:
            return None
        if self.weights == "random":
            return rng.random(n) + 0.01
        if self.weights == "integer":
            return rng.integers(1, 5, n).astype(float)
        if self.weights == "zeros":
            weight = rng.integers(0, 3, n).astype(float)
            weight[rng.integers(n)] = 1.5
            return weight
        if self.weights == "powers":
            return 2.0 ** rng.integers(-12, 13, n)
        if self.weights == "extreme":
            return rng.random(n) * 10.0 ** rng.choice([-30, 0, 30], n)
        return (rng.random(n) + 0.01) * float(self.weights)


@st.composite
def recipes(draw: Any, *, max_n: int = 600, dtypes: Any = None, **fixed: Any) -> Recipe:
    """A recipe; `fixed` sets fields by name."""
    n = draw(st.one_of(st.integers(1, min(70, max_n)), st.integers(1, max_n), st.sampled_from([64, 65, 127, 128, 129])))
    n = min(n, max_n)
    d = draw(st.one_of(st.integers(1, 5), st.integers(1, 40), st.sampled_from([257, 300, 513])))
    k = n if n <= 60 and draw(st.integers(0, 9)) == 9 else draw(st.integers(1, min(n, 60)))
    dtype = draw(st.sampled_from(dtypes or ("f4", "f4", "f8", "f8", "f2", "i4", "u1", "?")))
    scale, offset = 1.0, 0.0
    if dtype in SCALES:
        scale = draw(st.one_of(st.just(1.0), st.sampled_from(SCALES[dtype])))
        offset = draw(st.one_of(st.just(0.0), st.sampled_from([1e4, 1e6])))
    recipe = Recipe(
        seed=draw(st.integers(0, 2**32 - 1)),
        n=n,
        d=d,
        k=k,
        kind=draw(st.sampled_from(KINDS)),
        dtype=dtype,
        scale=scale,
        offset=offset,
        start=draw(st.sampled_from(STARTS)),
        weights=draw(st.sampled_from(WEIGHTS)),
        tol=draw(st.sampled_from([0.0, 1e-4, 1e-2])),
        max_iter=draw(st.sampled_from([1, 3, 100])),
    )
    return replace(recipe, **fixed)


def large(seed: int, dtype: str, **fields: Any) -> Recipe:
    """A problem of the size that crosses every block and tile."""
    return replace(Recipe(seed=seed, n=3000, d=40, k=60, dtype=dtype, max_iter=8), **fields)
