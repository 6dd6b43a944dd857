"""The grid: what is measured, on which data, from which start.

A case is fully described by its name, for example ``fit/1000000x16/k64/float32/blobs``; the same name gives
the same data and start on every machine.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

DATA_SEED = 0
START_SEED = 1
TOL = 1e-4


@dataclass(frozen=True)
class Case:
    """One row of the report."""

    verb: str  # fit, seeding or predict
    n_samples: int
    n_features: int
    n_clusters: int
    dtype: str
    kind: str  # blobs or noise
    group: str = "grid"  # or the size that grows: n_samples, n_features, n_clusters

    @property
    def name(self) -> str:
        shape = f"{self.n_samples}x{self.n_features}/k{self.n_clusters}"
        prefix = "" if self.group == "grid" else f"growth-{self.group}/"
        return f"{prefix}{self.verb}/{shape}/{self.dtype}/{self.kind}"

    @property
    def max_iter(self) -> int:
        """Most iterations of a fit: fewer where scikit-learn would take minutes."""
        if self.group != "grid":
            return 10
        return 100 if self.n_samples * self.n_features * self.n_clusters < 10**10 else 40

    @property
    def tol(self) -> float:
        """Growth is measured per iteration: there no fit may stop early."""
        return TOL if self.group == "grid" else 0.0

    @property
    def work(self) -> int:
        """Multiplications and additions of one full assignment: 2 n k d."""
        return 2 * self.n_samples * self.n_features * self.n_clusters


def make_data(case: Case) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows of the case, and the rows among them that every competitor starts from.

    blobs: standard deviation 1 around centers uniform in -10 .. 10; noise: uniform in 0 .. 1.
    """
    rng = np.random.default_rng(DATA_SEED)
    dtype: Any = np.dtype(case.dtype).type
    shape = (case.n_samples, case.n_features)
    if case.kind == "noise":
        X = rng.random(shape, dtype=dtype)
    else:
        centers = rng.uniform(-10, 10, (case.n_clusters, case.n_features)).astype(dtype)
        X = rng.standard_normal(shape, dtype=dtype)
        X += centers[rng.integers(0, case.n_clusters, case.n_samples)]
    rows = np.random.default_rng(START_SEED).choice(case.n_samples, case.n_clusters, replace=False)
    return X, X[rows]


FIT_SHAPES = [
    (1_000_000, 2, 8),
    (1_000_000, 3, 100),
    (1_000_000, 16, 64),
    (200_000, 32, 256),
    (100_000, 64, 1000),
    (200_000, 8, 1000),
    (100_000, 128, 256),
    (50_000, 784, 10),
    (50_000, 384, 1000),
]
SMALL_SHAPES = [  # where what surrounds the arithmetic counts
    (150, 4, 3),
    (1_000, 10, 5),
    (1_000, 784, 50),
    (3_000, 784, 100),
    (5_000, 384, 64),
    (20_000, 50, 20),
]
SEEDING_SHAPES = [(1_000_000, 16, 64), (200_000, 32, 256), (100_000, 64, 1000)]
PREDICT_SHAPES = [(1_000_000, 2, 8), (1_000_000, 16, 64), (200_000, 64, 1000)]
KINDS = ["blobs", "noise"]
GROWTH_BASE = {"n_samples": 62_500, "n_features": 8, "n_clusters": 16}


def _growth() -> list[Case]:
    """Each size doubled four times from a common base, the others held."""
    cases: list[Case] = []
    for group, base in GROWTH_BASE.items():
        sizes = [{**GROWTH_BASE, group: base * factor} for factor in (1, 2, 4, 8, 16)]
        cases += [Case("fit", **size, dtype="float32", kind="noise", group=group) for size in sizes]
    return cases


CASES = [
    *(Case("fit", *shape, "float32", kind) for shape in FIT_SHAPES for kind in KINDS),
    *(Case("fit", *shape, "float32", "noise") for shape in SMALL_SHAPES),
    *(Case("fit", *shape, "float64", kind) for shape in FIT_SHAPES[:-1] for kind in KINDS),
    *(Case("seeding", *shape, "float32", kind) for shape in SEEDING_SHAPES for kind in KINDS),
    *(Case("predict", *shape, "float32", kind) for shape in PREDICT_SHAPES for kind in KINDS),
    *_growth(),
]


def select(patterns: list[str]) -> list[Case]:
    """Cases whose names match any of the patterns (``fit/*/float32/*``), in the order of the grid.

    A name that is not in the grid makes a case of its own, so that any shape can be tried.
    """
    chosen = [case for case in CASES if any(fnmatch.fnmatchcase(case.name, p) for p in patterns)]
    in_grid = [p for p in patterns if any(fnmatch.fnmatchcase(case.name, p) for case in CASES)]
    return chosen + [parse(pattern) for pattern in patterns if pattern not in in_grid]


def parse(name: str) -> Case:
    """Case with the given name, in the grid or not."""
    try:
        verb, shape, clusters, dtype, kind = name.split("/")
        n_samples, n_features = shape.split("x")
        case = Case(verb, int(n_samples), int(n_features), int(clusters.removeprefix("k")), dtype, kind)
    except ValueError:
        raise SystemExit(
            f"No case matches {name!r}; a name is like fit/1000000x16/k64/float32/blobs"
        ) from None
    if verb not in ("fit", "seeding", "predict") or dtype not in ("float32", "float64") or kind not in KINDS:
        raise SystemExit(f"No case matches {name!r}: verb, dtype or kind is not known")
    return case
