"""How the pass on tensor cores is laid out and launched: pure functions of sizes and properties, as in `_launch`.

Verified without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from ._launch import Card, Launch, Problem

OLDEST = 80
"""Oldest compute capability with the instructions of ``kernels/tensor.cuh``."""
KINDS = {"bf16": 0, "fp16": 1, "tf32": 2}
"""Types of the pass (`exact.TENSOR_TYPES`) by their number in ``kernels/tensor.cuh``."""
ROW_BYTES = (64, 128, 256, 512)
"""Bytes of a row of features in the type of the pass that registers hold (assign_sm80.cu); zeros fill it."""
CHUNK_BYTES = 128
"""Longer rows come in chunks of so many bytes (assign_sm80_wide.cu)."""
MOST_FEATURES = 1 << 16
"""Of these rows. The bound grows with the additions of a score: for so many, to a hundredth of it and more."""
LONGER = 0
"""What stands for the bytes of longer rows in :class:`Shapes`."""
OFFSET = {80: (64, 128), 90: ROW_BYTES}
"""Bytes of a row whose scores are offset into one binade (keys.cuh, FORM 1), by compute capability.

That spares the units that take minimum and maximum, which bind for short rows; on 9.0, where whole numbers have a
minimum of three, it takes fewer instructions for all. kernels/README.md has the count. From 10.0 on float has a minimum
of three, too; and the tensor cores of other cards are so slow that nothing else binds.
"""
GROUPED = {80: (1584, 1024), 90: (1320, 826)}
"""Clocks of a warp for 64 rows of 64 bytes and 128 centers, by compute capability: a key for each score; one for four
(keys.cuh, rescore.cuh). The larger of those of the units that bind: kernels/README.md has the count.
"""
GROUP = 4
"""Centers that share a key, where any do."""
RESCORED = {2: 260, 4: 260, 8: 350}
"""Instructions of a warp for 8 rows whose four centers are scored again, by the bytes of a value of the rows."""
L2 = 64
"""Bytes from the second cache for a multiprocessor in a clock."""
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
    """What a block works on: `row_blocks` of 16 rows and `center_blocks` of 8 centers in each of its `warps`.

    Warps have rows of their own and the same centers; or two of them the same rows, and each half of the centers.
    """

    row_blocks: int
    warps: int
    center_blocks: int
    warps_across: int = 1

    @property
    def rows(self) -> int:
        """Rows of a block."""
        return 16 * self.row_blocks * self.warps // self.warps_across

    @property
    def tile(self) -> int:
        """Centers of a tile."""
        return 8 * self.center_blocks * self.warps_across

    @property
    def index_bits(self) -> int:
        """Low bits of a score that hold a place: one lane sees two of each block of 8 centers."""
        return (2 * self.center_blocks).bit_length() - 1

    def shared(self, row_bytes: int) -> int:
        """Bytes of dynamic shared memory: three stages, half norms of their centers, and a norm for each row."""
        if self.warps_across == 1:
            return 3 * self.tile * (row_bytes + 8) + 4 * self.rows
        return 3 * CHUNK_BYTES * (self.rows + self.tile) + 8 * self.tile + 4 * self.rows


@dataclass(frozen=True)
class Shapes:
    """Shapes by the bytes of a row, or LONGER: the most rows that a block can hold, and fewer."""

    many_rows: dict[int, Shape]
    few_rows: dict[int, Shape]


SHAPES = Shapes(
    many_rows={
        64: Shape(4, 8, 16), 128: Shape(4, 8, 8), 256: Shape(3, 8, 8), 512: Shape(2, 8, 8), LONGER: Shape(4, 8, 8, 2)
    },
    few_rows={
        64: Shape(2, 8, 16), 128: Shape(2, 8, 8), 256: Shape(2, 8, 8), 512: Shape(1, 8, 8), LONGER: Shape(2, 8, 8, 2)
    },
)  # fmt: skip


@dataclass(frozen=True)
class Config:
    """One way of making the pass: the type it multiplies in, and the shape of its blocks."""

    kind: str
    row_bytes: int
    shape: Shape
    is_offset: bool = False
    """Whether scores lie in one binade, so that keys are whole numbers."""
    is_grouped: bool = False
    """Whether :data:`GROUP` centers share a key, and those of the best one are scored again in float32."""

    @property
    def is_wide(self) -> bool:
        """Whether rows are too long for registers and come in chunks."""
        return self.shape.warps_across > 1

    @property
    def columns(self) -> int:
        """Features of a row of the packed centers."""
        return self.row_bytes // (4 if self.kind == "tf32" else 2)

    @property
    def index_bits(self) -> int:
        """What `exact.tensor_bound` takes."""
        return self.shape.index_bits - (GROUP.bit_length() - 1 if self.is_grouped else 0)

    def rows(self, n_clusters: int) -> int:
        """Rows of the packed centers."""
        return -(-n_clusters // self.shape.tile) * self.shape.tile

    @property
    def kernel(self) -> str:
        """Template instance, for rows of any type."""
        shape, kind = self.shape, KINDS[self.kind]
        if self.is_wide:
            return f"assign_sm80_wide<{kind}, {shape.row_blocks}, {shape.warps // 2}, {shape.center_blocks}>"
        sizes = (kind, self.row_bytes, shape.row_blocks, shape.warps, shape.center_blocks, int(self.is_offset))
        group = (GROUP,) if self.is_grouped else ()
        return f"assign_sm80<{', '.join(map(str, sizes + group))}>"


def config(problem: Problem, card: Card, kind: str) -> Config | None:
    """How to make the pass in this type; None where the card has no such cores or a block does not fit."""
    if card.compute_capability < OLDEST or problem.n_features > MOST_FEATURES:
        return None
    filled = (4 if kind == "tf32" else 2) * problem.n_features
    row_bytes = next((bytes_ for bytes_ in ROW_BYTES if bytes_ >= filled), -(-filled // CHUNK_BYTES) * CHUNK_BYTES)
    many, few = (shapes.get(row_bytes, shapes[LONGER]) for shapes in (SHAPES.many_rows, SHAPES.few_rows))
    fills = problem.n_samples >= many.rows * card.n_multiprocessors
    shape = many if fills and card.shared_per_block >= LARGE_SHARED else few
    if shape.shared(row_bytes) > card.shared_per_block:
        return None
    is_offset = row_bytes in OFFSET.get(card.compute_capability, ())
    is_grouped = row_bytes == 64 and shape == many and groups_pay(problem, card)
    return Config(kind, row_bytes, shape, is_offset, is_grouped)


def groups_pay(problem: Problem, card: Card) -> bool:
    """Whether one key for four centers takes less than GAIN of the time, for rows of 64 bytes that fill the card.

    By the count, of one block of 512 rows: a scheduler has two of its warps, and in the end each row is read again,
    with four centers of float32. With float32 rows of 32 features that is from 1,281 centers on, on compute capability
    9.0 from 1,409; with up to 26 features from 1,025 and 1,153. No card has confirmed it.
    """
    if card.compute_capability not in GROUPED:
        return False
    each, grouped = (2 * clocks * -(-problem.n_clusters // 128) for clocks in GROUPED[card.compute_capability])
    reading = 512 * problem.n_features * (4 * GROUP + problem.itemsize) / L2
    return grouped + max(reading, 512 / 8 / 4 * RESCORED[problem.itemsize]) < GAIN * each


def assign(problem: Problem, card: Card, found: Config) -> Launch:
    """The pass over a block of rows. Blocks for longer rows loop, as each of them takes memory: see `converted`."""
    shape = found.shape
    grid = -(-problem.n_samples // shape.rows)
    if found.is_wide:
        grid = min(grid, card.n_multiprocessors)
    return Launch(found.kernel, grid, 32 * shape.warps, shape.shared(found.row_bytes))


def converted(launch: Launch, found: Config) -> int:
    """Bytes of the card's memory that the blocks of :func:`assign` take for rows in the type of the pass."""
    return launch.grid * found.shape.rows * found.row_bytes if found.is_wide else 0


def clocks(problem: Problem, card: Card, found: Config | None, share: float = 0.0) -> float:
    """Clocks of an assignment in float32, or in the type of a config that leaves open this share of the rows."""
    n, d, k = problem.n_samples, problem.n_features, problem.n_clusters
    in_float32 = k * (d + PAIR)
    work, reading = float(in_float32), READ * d * problem.itemsize
    if found is not None:
        speed = SPEEDS[card.shared_per_block >= LARGE_SHARED][found.kind]
        work = k * (found.columns / speed + PAIR) + share * OPEN * in_float32
    waits = reading if found is not None and found.is_wide else 0  # a block converts its rows before it multiplies
    return n * max(work + waits, reading) / (128 * card.n_multiprocessors)


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


def instances(card: Card | None = None) -> tuple[str, ...]:
    """Every instance for rows in registers, of one card or of all."""
    return tuple(found.kernel for found in configs(ROW_BYTES, card))


def wide_instances(card: Card | None = None) -> tuple[str, ...]:
    """The same for rows that are longer than ROW_BYTES."""
    return tuple(found.kernel for found in configs((LONGER,), card))


def configs(row_bytes: tuple[int, ...], card: Card | None = None) -> list[Config]:
    """What :func:`config` may give for these bytes of a row, on one card or on any."""
    has_many = card is None or card.shared_per_block >= LARGE_SHARED
    tables = (SHAPES.many_rows, SHAPES.few_rows) if has_many else (SHAPES.few_rows,)
    shapes = dict.fromkeys((b, by_bytes[b]) for b in row_bytes for by_bytes in tables)
    forms = [OFFSET.get(card.compute_capability, ())] if card is not None else [(), *OFFSET.values()]
    found = [Config(kind, b, s, b in offset) for kind in KINDS for b, s in shapes for offset in forms]
    if card is None or card.compute_capability in GROUPED:
        many = 64, SHAPES.many_rows[64], True
        offset = [one for one in found if (one.row_bytes, one.shape, one.is_offset) == many]
        found += [replace(one, is_grouped=True) for one in offset]
    return list(dict.fromkeys(found))
