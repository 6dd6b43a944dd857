"""What `bench` measures: the cases, and the least time that a card needs for an iteration of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .datasets import make_blobs
from .exact import FloatArray


@dataclass(frozen=True)
class Case:
    """Rows to cluster: overlapping blobs, which are far from settled after a dozen iterations.

    Attributes
    ----------
    n_samples, n_features, n_clusters : int
    dtype : {"float32", "float64"}
    """

    n_samples: int
    n_features: int
    n_clusters: int
    dtype: str = "float32"

    @property
    def name(self) -> str:
        """Shape and type."""
        return f"{self.n_samples} x {self.n_features}, k={self.n_clusters}, {self.dtype}"

    def make(self) -> tuple[FloatArray, FloatArray]:
        """Rows and start, the same every time."""
        std = 3.5 * self.n_features**0.5  # a fixed share of the distance of two centers: they overlap in any dimension
        X, *_ = make_blobs(
            self.n_samples, self.n_features, centers=self.n_clusters, cluster_std=std, dtype=self.dtype, random_state=0
        )
        rows = np.random.default_rng(1).choice(self.n_samples, self.n_clusters, replace=False)
        return X, X[rows]


def grid(*, quick: bool = False) -> list[Case]:
    """Give what is measured.

    Parameters
    ----------
    quick : bool, default=False
        Whether to take small sizes: a look, no measurement.

    Returns
    -------
    list of Case

    Examples
    --------
    >>> from gpukmeans._grid import grid
    >>> grid(quick=True)[0].name
    '20000 x 2, k=8, float32'
    """
    if quick:
        return [Case(20_000, 2, 8), Case(20_000, 16, 64), Case(5000, 64, 100), Case(20_000, 16, 64, "float64")]
    shapes = [(1_000_000, 2, 8), (1_000_000, 16, 64), (200_000, 32, 256), (100_000, 64, 1000), (100_000, 128, 256)]
    shapes.append((50_000, 784, 10))
    return [*(Case(*shape) for shape in shapes), *(Case(*shape, "float64") for shape in shapes[1:3])]


class Peak(NamedTuple):
    """What a card can do at most, by calculation."""

    flops: float
    bytes: float

    def floor(self, case: Case) -> float:
        """Seconds of an iteration that makes 2 n k d operations and reads the rows once, whichever takes longer."""
        n_values = case.n_samples * case.n_features
        n_bytes = n_values * np.dtype(case.dtype).itemsize
        return max(2 * n_values * case.n_clusters / self.flops, n_bytes / self.bytes)


def peak(attributes: Mapping[str, int], capability: int) -> Peak | None:
    """Give the float32 operations (of its CUDA cores) and bytes a second of a card.

    Parameters
    ----------
    attributes : mapping of str to int
        As ``cupy.cuda.Device().attributes``.
    capability : int
        Compute capability: 80 for 8.0.

    Returns
    -------
    Peak or None
        None if the driver does not tell the clocks.

    Examples
    --------
    >>> from gpukmeans._grid import peak
    >>> a100 = {"MultiProcessorCount": 108, "ClockRate": 1410000, "MemoryClockRate": 1215000}
    >>> peak({**a100, "GlobalMemoryBusWidth": 5120}, 80)
    Peak(flops=19491840000000.0, bytes=1555200000000.0)
    """
    names = ("MultiProcessorCount", "ClockRate", "MemoryClockRate", "GlobalMemoryBusWidth")
    n_processors, clock, memory_clock, bus_width = (attributes.get(name, 0) for name in names)
    lanes = 64 if capability in (75, 80) else 128
    found = Peak(n_processors * lanes * 2 * clock * 1e3, memory_clock * 1e3 * 2 * bus_width / 8)
    return found if min(found) > 0 else None
