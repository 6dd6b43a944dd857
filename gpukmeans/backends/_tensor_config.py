"""How the pass on tensor cores is laid out and launched: pure functions of sizes and properties, as in `_launch`.

Verified without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from ._launch import Card, Launch, Problem

OLDEST = 80
"""Oldest compute capability with the instructions of ``kernels/tensor.cuh``."""
KINDS = {"bf16": 0, "fp16": 1, "tf32": 2}
"""Types of the pass (`exact.TENSOR_TYPES`) by their number in ``kernels/tensor.cuh``."""
ROW_BYTES = (64, 128, 256, 512)
"""Bytes of a row of features in the type of the pass that are compiled in; zeros fill it."""
LARGE_SHARED = 128 << 10
"""Bytes of shared memory of a block that tell cards whose tensor cores the other units can hardly keep up with."""
SPEEDS = {True: {"bf16": 8.0, "fp16": 8.0, "tf32": 4.0}, False: {"bf16": 2.0, "fp16": 2.0, "tf32": 1.0}}
"""Multiply-adds in the time of one of float32, on cards of LARGE_SHARED and others. About half of what data sheets and
the machine code of the tile loop say for the former, the data sheets' ratio for the latter. No card has confirmed them.
"""
PAIR = 4
"""What best and second best of a row and a center cost, in multiply-adds. From the machine code."""
OPEN = 1.5
"""What float32 takes for a row that is left open, against one of a pass over all: the loop of tile.cuh has 60 %
multiply-adds where that of assign.cu has 87 %."""
READ = 8
"""Multiply-adds of float32 while a byte comes from memory: 5 on an A100, 41 on an RTX 4090, by their data sheets."""
WORTHWHILE = 1 << 17
"""Clocks, some 0.1 ms, that must be gained in an iteration before rows are sampled."""
FORCED: str | None = None
"""The type of the first stage whatever it costs, if the card has it: what `verify` sets for some of its problems."""
GAIN = 0.8
"""A type is tried, and taken, only where it takes less than this part of the time of what has been found."""


@dataclass(frozen=True)
class Shape:
    """What a block works on: `row_blocks` of 16 rows in each of `warps`, tiles of `center_blocks` of 8 centers."""

    row_blocks: int
    warps: int
    center_blocks: int

    @property
    def rows(self) -> int:
        """Rows of a block."""
        return 16 * self.row_blocks * self.warps

    @property
    def tile(self) -> int:
        """Centers of a tile."""
        return 8 * self.center_blocks

    @property
    def index_bits(self) -> int:
        """Low bits of a score that hold a place in the tile: one lane sees a quarter of it."""
        return (self.tile // 4).bit_length() - 1

    def shared(self, row_bytes: int) -> int:
        """Bytes of dynamic shared memory: three stages of a tile with its half norms, and a norm for each row."""
        return 3 * self.tile * (row_bytes + 8) + 4 * self.rows


@dataclass(frozen=True)
class Shapes:
    """Shapes by the bytes of a row: the most rows that registers hold, and fewer."""

    many_rows: dict[int, Shape]
    few_rows: dict[int, Shape]


SHAPES = Shapes(
    many_rows={64: Shape(4, 8, 16), 128: Shape(4, 8, 8), 256: Shape(3, 8, 8), 512: Shape(2, 8, 8)},
    few_rows={64: Shape(2, 8, 16), 128: Shape(2, 8, 8), 256: Shape(2, 8, 8), 512: Shape(1, 8, 8)},
)


@dataclass(frozen=True)
class Config:
    """One way of making the pass: the type it multiplies in, and the shape of its blocks."""

    kind: str
    row_bytes: int
    shape: Shape

    @property
    def columns(self) -> int:
        """Features of a row of the packed centers."""
        return self.row_bytes // (4 if self.kind == "tf32" else 2)

    @property
    def index_bits(self) -> int:
        """What `exact.tensor_bound` takes."""
        return self.shape.index_bits

    def rows(self, n_clusters: int) -> int:
        """Rows of the packed centers."""
        return -(-n_clusters // self.shape.tile) * self.shape.tile

    def kernel(self, of_type: str) -> str:
        """Template instance for rows of this type of the kernels."""
        shape = self.shape
        sizes = (KINDS[self.kind], self.row_bytes, shape.row_blocks, shape.warps, shape.center_blocks)
        return f"assign_sm80<{of_type}, {', '.join(map(str, sizes))}>"


def config(problem: Problem, card: Card, kind: str) -> Config | None:
    """How to make the pass in this type; None where the card has no such cores or a row does not fit into registers."""
    size = 4 if kind == "tf32" else 2
    row_bytes = next((bytes_ for bytes_ in ROW_BYTES if bytes_ >= size * problem.n_features), None)
    if card.compute_capability < OLDEST or row_bytes is None:
        return None
    shape = SHAPES.many_rows[row_bytes]
    fills = problem.n_samples >= shape.rows * card.n_multiprocessors
    if card.shared_per_block < LARGE_SHARED or not fills:
        shape = SHAPES.few_rows[row_bytes]
    return Config(kind, row_bytes, shape) if shape.shared(row_bytes) <= card.shared_per_block else None


def assign(problem: Problem, found: Config) -> Launch:
    """The pass over a block of rows."""
    shape = found.shape
    grid = -(-problem.n_samples // shape.rows)
    return Launch(found.kernel(problem.type), grid, 32 * shape.warps, shape.shared(found.row_bytes))


def clocks(problem: Problem, card: Card, found: Config | None, share: float = 0.0) -> float:
    """Clocks of an assignment in float32, or in the type of a config that leaves open this share of the rows."""
    n, d, k = problem.n_samples, problem.n_features, problem.n_clusters
    in_float32 = k * (d + PAIR)
    work = float(in_float32)
    if found is not None:
        speed = SPEEDS[card.shared_per_block >= LARGE_SHARED][found.kind]
        work = k * (found.columns / speed + PAIR) + share * OPEN * in_float32
    reading = READ * d * int(problem.dtype[1:])
    return n * max(work, reading) / (128 * card.n_multiprocessors)


def choose(
    problem: Problem, card: Card, kinds: Collection[str], left_open: Callable[[Config], float]
) -> tuple[Config | None, dict[str, float]]:
    """First stage of the assignment: its config, or None for float32; and the shares of open rows that decided.

    Types are tried in the order of what they are likely to take; `left_open` is asked only for those that may be
    better by far than what has been found.
    """
    if FORCED is not None:
        chosen = config(problem, card, FORCED) if FORCED in kinds else None
        return chosen, {} if chosen is None else {FORCED: left_open(chosen)}
    chosen, least, shares = None, clocks(problem, card, None), {}
    for kind in ("fp16", "tf32", "bf16"):
        found = config(problem, card, kind) if kind in kinds else None
        if found is None or clocks(problem, card, found) > min(GAIN * least, least - WORTHWHILE):
            continue
        shares[kind] = left_open(found)
        cost = clocks(problem, card, found, shares[kind])
        if cost < GAIN * least:
            chosen, least = found, cost
    return chosen, shares


def instances(of_types: tuple[str, ...], *, many_rows: bool = True) -> tuple[str, ...]:
    """Every instance that :func:`assign` may launch, on cards with or without much shared memory."""
    tables = (SHAPES.many_rows, SHAPES.few_rows) if many_rows else (SHAPES.few_rows,)
    shapes = dict.fromkeys((b, by_bytes[b]) for b in ROW_BYTES for by_bytes in tables)
    configs = [Config(kind, row_bytes, shape) for kind in KINDS for row_bytes, shape in shapes]
    return tuple(found.kernel(of_type) for of_type in of_types for found in configs)
