"""How much memory a fit takes, and how it is made to take no more than it may: what `max_memory` and `plan` go by."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._reading import PIECE_BYTES
from .halves import Halves
from .streaming import Streamed

VARIABLE = "GPUKMEANS_MAX_MEMORY"
SMALLEST_BLOCK = 1 << 18
"""Bytes of a block below which a pass would be all overhead."""
OVERHEAD = 4 << 20
"""Bytes for what is not worth a line below: temporaries of a few thousand rows, objects of Python."""
SUMS_BYTES = 64 << 20
"""Of the sums of all blocks, up to which they are kept from iteration to iteration where no cap is set."""
CARD_ROWS = 1 << 22
"""Rows of one launch on a card."""
SAMPLE_ROWS = 4096
"""Rows that the choice of tensor cores looks at."""
LONG_ROWS = 192 * 256
"""Rows of all blocks at work at once, on the largest of cards."""

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}


def parse_bytes(value: Any) -> int | None:
    """A number of bytes, or a text like '500MB', '1.5 GB' or '2GiB', as an int; None for anything else."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int(value) if value > 0 else None
    if not isinstance(value, str):
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?b?)\s*", value, re.IGNORECASE)
    unit = _UNITS.get(found[2].upper()) if found else None
    return int(float(found[1]) * unit) or None if found and unit else None


def cap_of(max_memory: Any) -> int | None:
    """The cap in bytes: the parameter, else the environment variable, else none."""
    if max_memory is not None:
        return parse_bytes(max_memory)
    given = os.environ.get(VARIABLE)
    if not given:
        return None
    cap = parse_bytes(given)
    if cap is None:
        raise ValueError(f"The variable {VARIABLE} must be a size like 500MB or 2GiB. Got {given!r} instead.")
    return cap


def as_text(n_bytes: int) -> str:
    """Bytes for people, in three digits."""
    for unit in ("GB", "MB", "kB"):
        if n_bytes >= _UNITS[unit.upper()]:
            return f"{n_bytes / _UNITS[unit.upper()]:.3g} {unit}"
    return f"{n_bytes} B"


@dataclass(frozen=True)
class Job:
    """What a fit is asked to do, as far as memory depends on it."""

    n_samples: int
    n_features: int
    n_clusters: int
    itemsize: int
    init: str
    n_init: int
    weighted: bool
    backend: str
    workers: int
    n_cards: int = 1  # that the rows are spread over
    stored: int = 0  # bytes of a value of X where it is held in others than are computed with

    @property
    def row_bytes(self) -> int:
        """Of a row of X."""
        return self.n_features * (self.stored or self.itemsize)

    @property
    def on_card(self) -> bool:
        """Whether a card does the work."""
        return self.backend in ("cupy", "numba-cuda", "cupy:all")

    @property
    def per_row(self) -> int:
        """Bytes of host memory for each row of the data set, beside X, at the worst moment of a streamed fit."""
        start, weights = 0, 8 * self.weighted
        if self.init == "k-means++":
            groups = -(-(2 + int(math.log(self.n_clusters))) // 8)
            kept = 4 + 3 * min(groups, 4) if self.backend == "numba" else 0
            start = max(0 if self.on_card else self.itemsize + kept, 24 * self.weighted)
        elif self.init == "k-means||":
            start = max(24 if self.on_card else 28, 24 * self.weighted)
        elif self.init == "random":
            start = 25 + 24 * self.weighted
        earlier = 4 * (self.n_init > 1)  # labels of the best run so far
        loop = 0 if self.on_card else 8  # distances, for empty clusters
        own = 0 if self.on_card else 4
        compared = 9 if self.n_init > 1 else 4  # labels in one piece, and against those of the best run
        return weights + earlier + own + max(start, loop, compared)

    @property
    def sums(self) -> int:
        """Bytes of the sums of a block and of what its passes are made with."""
        k, d = self.n_clusters, self.n_features
        width = (2 * d if self.itemsize == 8 else d) + 2
        return self.workers * ((k + 8) * width * 8 + (1 << 18)) + k * (6 * d + 32)

    @property
    def fixed(self) -> int:
        """Bytes that depend neither on the rows nor on the block."""
        k, d = self.n_clusters, self.n_features
        width = (2 * d if self.itemsize == 8 else d) + 2
        passes = OVERHEAD + 2 * PIECE_BYTES + (8 << 20 if self.backend == "numpy" else 0)
        candidates = 12 * k * d * (self.itemsize + 24) if self.init == "k-means||" else 0
        return passes + self.sums + k * (3 * width + 8 * d) * 8 + candidates

    def per_block_row(self) -> int:
        """Bytes for each row of a block: two of them are held, four while they go to a card."""
        return (4 if self.on_card else 2) * self.row_bytes + (0 if self.on_card else 56)

    def card(self, block_rows: int, resident: bool) -> int:
        """Bytes on each card; 0 without one."""
        if not self.on_card:
            return 0
        n, k, d = -(-self.n_samples // self.n_cards), self.n_clusters, self.n_features
        rows = n * self.row_bytes if resident else 2 * block_rows * self.row_bytes
        per_row = 12 + 8 * self.weighted + 8 * (self.itemsize == 8) + 8 * resident  # bounds
        tiles = -(-k // 128) * 128
        centers = tiles * -(-d // 8) * 8 * 8 * self.itemsize
        # of tensor cores: a sample, centers in three types, and in the type of the pass long rows that are worked on
        cores = min(n, SAMPLE_ROWS) * (self.row_bytes + 40) + 3 * tiles * (4 * max(128, d + 32) + 8)
        if d > 128 and resident:
            cores += min(n, LONG_ROWS) * 4 * (d + 32)
        return rows + n * per_row + min(n, CARD_ROWS if resident else block_rows) * 20 + centers + cores

    @property
    def in_memory(self) -> int:
        """Bytes beside X for a fit of rows in memory."""
        bounds = 16 if self.backend == "numba" else 0
        return self.n_samples * (self.per_row + bounds) + self.fixed


@dataclass(frozen=True)
class Plan:
    """What a fit would do; it prints as lines of text.

    Attributes
    ----------
    n_samples, n_features, n_clusters : int
    dtype : str
        In which the rows are worked on.
    backend, why : str
        Where, and why there.
    kernel : str
        What the backend says that it does.
    mode : {'in memory', 'streamed'}
        Whether all rows are held, or read block by block in every pass.
    block_rows, n_blocks : int
        Rows of a block, and how many there are.
    start_passes, other_passes : int
        Passes over the data for the start of each run, and before and after the iterations; each iteration is one more.
    host_bytes, card_bytes : int
        Upper estimates: memory of the host, and of each card (0 without one), that the fit takes at most. Python, the
        libraries and compiled kernels come to it, and so does an array that the caller holds anyway.
    max_memory : int or None
        The cap, in bytes.
    n_cards : int
        That the rows are spread over.
    """

    n_samples: int
    n_features: int
    n_clusters: int
    dtype: str
    backend: str
    why: str
    kernel: str
    mode: str
    block_rows: int
    n_blocks: int
    start_passes: int
    other_passes: int
    host_bytes: int
    card_bytes: int
    max_memory: int | None
    keeps_sums: bool = False
    resident: bool = True
    n_cards: int = 1

    def lines(self) -> dict[str, str]:
        """Names and values to print."""
        rows = f"{self.n_samples:,} x {self.n_features} {self.dtype}"
        blocks = f"{self.n_blocks:,} of {self.block_rows:,} rows"
        passes = f"{self.start_passes:,} to start, 1 an iteration, {self.other_passes} more"
        cap = "none" if self.max_memory is None else as_text(self.max_memory)
        card = "none" if not self.card_bytes else f"at most {as_text(self.card_bytes)}"
        where = self.mode if self.mode == "in memory" else f"{self.mode}, {blocks}"
        if self.n_cards > 1:
            share = -(-self.n_samples // self.n_cards)
            where += f"; about {share:,} rows on each of {self.n_cards} cards"
        return {
            "rows": rows,
            "clusters": f"{self.n_clusters:,}",
            "backend": f"{self.backend}: {self.why}",
            "kernel": self.kernel,
            "rows are": where,
            "passes over the rows": passes,
            "memory of the host": f"at most {as_text(self.host_bytes)}",
            "memory of a card": card,
            "max_memory": cap,
        }

    def __str__(self) -> str:
        return "\n".join(f"{name}: {value}" for name, value in self.lines().items())


def fit_plan(job: Job, X: Any, cap: int | None, *, why: str, kernel: str, with_variance: bool) -> Plan:
    """Decide how to do a job, or refuse it: raises ValueError with what would be needed.

    `X` is `Streamed` rows, whose ``held`` is the array that the caller holds, or checked data in memory.
    """
    streams = isinstance(X, Streamed)
    held = X.held is not None if streams else bool(job.stored) or not isinstance(X, Halves)
    copy = 0 if held else job.n_samples * job.row_bytes
    read = getattr(getattr(X, "source", None), "overhead", 0)
    start = {"k-means++": 2 * (job.n_clusters - 1), "k-means||": 6}.get(job.init, 0)

    def plan(mode: str, block_rows: int, host: int, card: int, **more: bool) -> Plan:
        n_blocks = -(-job.n_samples // block_rows)
        dtype = "float32" if job.itemsize == 4 else "float64"
        return Plan(
            job.n_samples, job.n_features, job.n_clusters, dtype, job.backend, why, kernel, mode, block_rows, n_blocks,
            start * job.n_init, 1 + job.weighted + with_variance + 2 * job.n_init, host, card, cap,
            n_cards=job.n_cards, **more,
        )  # fmt: skip

    whole = job.in_memory + copy + read
    if not job.on_card and (not streams or (cap is not None and whole <= cap)):
        if cap is not None and whole > cap:
            raise _too_little(job, cap, whole, "and the rows are of a kind that is not streamed")
        return plan("in memory", job.n_samples, whole, 0)
    if not streams:
        card = job.card(job.n_samples, True)
        host = job.n_samples * job.per_row + job.fixed + copy + job.n_cards * (128 << 20)
        if cap is not None and max(host, card) > cap:
            raise _too_little(job, cap, max(host, card), "and the rows are of a kind that is not streamed")
        return plan("in memory", job.n_samples, host, card)
    least = job.n_samples * job.per_row + job.fixed + read
    per_block_row, n = job.per_block_row(), job.n_samples
    block_rows = most = X.block_rows
    resident = X.may_reside and (cap is None or job.card(n, True) <= cap)
    if cap is not None:
        smallest = min(most, max(1, SMALLEST_BLOCK // job.row_bytes))
        block_rows = min(most, max(0, cap - least) // per_block_row)
        if job.on_card and not resident:
            on_card = job.card(0, False)
            block_rows = min(block_rows, max(0, cap - on_card) // (2 * job.row_bytes + 36))
        if block_rows < smallest:
            needed = max(least + smallest * per_block_row, job.card(smallest, False))
            needed = needed if job.on_card else min(needed, whole)
            raise _too_little(job, cap, needed, "even with rows streamed in the smallest blocks", read)
    n_blocks = -(-n // block_rows)
    host = least + block_rows * per_block_row
    left = SUMS_BYTES if cap is None else cap - host
    keeps = not job.on_card and (n_blocks - 1) * job.sums <= left
    host += (n_blocks - 1) * job.sums if keeps else 0
    card = job.card(block_rows, resident)
    return plan("streamed", block_rows, host, card, keeps_sums=keeps, resident=resident)


def _too_little(job: Job, cap: int, needed: int, why: str, read: int = 0) -> ValueError:
    unpacked = f"{as_text(read)} are what is unpacked to read a few rows, and " if read else ""
    return ValueError(
        f"max_memory={as_text(cap)} is too little: this fit needs {as_text(needed)} ({needed:,} bytes), {why}. Of it "
        f"{unpacked}{as_text(job.n_samples * job.per_row)} are {job.per_row} bytes for each of {job.n_samples:,} rows, "
        "4 of them for the label. Give more, or fewer rows; init with an array takes less than 'k-means++' or 'random'."
    )
