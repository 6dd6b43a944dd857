"""How a verb is launched: ``(Problem, Card) -> Launch``, pure functions of sizes and properties, no device needed.

Names of cards mean nothing here: a card that nobody has listed gets its launch from its registers and shared memory.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..exact import CHAIN

WARP = 32
STATIC_SHARED = 48 << 10
"""Dynamic shared memory of a block that needs no opting in."""
OLDEST = 75
"""Oldest compute capability that the kernels are compiled and checked for."""


@dataclass(frozen=True)
class Tiles:
    """Sizes that are compiled in; the macros of the same names in ``kernels/`` have the same defaults.

    Attributes
    ----------
    assign_side : int
        Threads along a side of a block of `assign_tiled`; a thread has 8 x 8 scores.
    assign_small_floats : int
        Floats of centers that `assign_small` holds in shared memory at a time.
    seed_block_rows : int
        Rows of one partial potential of k-means++.
    recenter_threads : int
        Threads of a block that makes a center.
    """

    assign_side: int = 16
    assign_small_floats: int = 4096
    seed_block_rows: int = 2048
    recenter_threads: int = 128

    @property
    def options(self) -> tuple[str, ...]:
        """The macros for the compiler."""
        return tuple(f"-D{name.upper()}={value}" for name, value in vars(self).items())


TILES = Tiles()
GRAPH_ITERATIONS = 8
"""An even number: two sets of centers take turns."""
GRAPH_CLOCKS = 1 << 20
"""Clocks of 128 multiply-adds on each multiprocessor (some 0.7 ms): shorter iterations are launched as a graph."""
ROW_TYPES = {"f4": "float", "f8": "double", "fp16": "Float16", "bf16": "Bfloat16"}
"""What a row may be stored in, by the kernels' names; their order is that of `of_type` in ``kernels/device.cuh``."""
SMALL_ROWS = 4
"""Rows a thread of `assign_small`."""


@dataclass(frozen=True)
class Card:
    """What a launch depends on, of one device.

    Attributes
    ----------
    compute_capability : int
        80 for 8.0.
    n_multiprocessors : int
    shared_per_block : int
        Bytes of shared memory that a block may opt into.
    threads_per_multiprocessor : int
    """

    compute_capability: int
    n_multiprocessors: int
    shared_per_block: int
    threads_per_multiprocessor: int


@dataclass(frozen=True)
class Problem:
    """Sizes of one call."""

    n_samples: int
    n_features: int
    n_clusters: int
    dtype: str  # "f4" or "f8"
    in_quads: bool = True  # whether the rows begin at multiples of 16 bytes, so that four values are loaded at once
    halves: str = ""  # "fp16" or "bf16" where the rows are stored in 16 bits; the dtype is then "f4"

    @property
    def type(self) -> str:
        """The kernels' name of the dtype: what centers and distances are in."""
        return ROW_TYPES[self.dtype]

    @property
    def row_type(self) -> str:
        """The kernels' name of what the rows are stored in."""
        return ROW_TYPES[self.halves or self.dtype]

    @property
    def itemsize(self) -> int:
        """Bytes of a value of a row."""
        return 2 if self.halves else int(self.dtype[1:])


@dataclass(frozen=True)
class Launch:
    """One launch: template instance, blocks, threads a block, bytes of dynamic shared memory.

    `resident` is the claim that at least so many blocks fit on a multiprocessor of the card at once; the compiled
    code is held to it by a test.
    """

    kernel: str
    grid: int
    block: int
    shared: int = 0
    resident: int = 1


@dataclass(frozen=True)
class Layout:
    """How the centers lie for `assign`: `rows` x `columns` float32, padded so that no kernel tests k."""

    tiled: bool
    rows: int
    columns: int


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


# ------------------------------------------------------------------------------------------------ assign
def layout(problem: Problem) -> Layout:
    """Few features: one thread holds whole rows. Else tiles."""
    if problem.n_features <= 16:
        columns = next(size for size in (4, 8, 16) if size >= problem.n_features)
        return Layout(False, _round_up(problem.n_clusters, 4), columns)
    return Layout(True, _round_up(problem.n_clusters, 8 * TILES.assign_side), _round_up(problem.n_features, 8))


def assign(problem: Problem, card: Card) -> Launch:
    """The fast pass over a block of rows."""
    form = layout(problem)
    if not form.tiled:
        floats = TILES.assign_small_floats
        grid = -(-problem.n_samples // (128 * SMALL_ROWS))
        shared = 4 * (floats + floats // form.columns)
        return Launch(f"assign_small<{problem.row_type}, {form.columns}, {SMALL_ROWS}>", grid, 128, shared, 2)
    side = TILES.assign_side
    aligned = problem.in_quads and problem.n_features % 4 == 0 and not problem.halves
    cut = problem.n_features > 2 * CHAIN
    kernel = f"assign_tiled<{problem.row_type}, {str(aligned).lower()}, {str(cut).lower()}>"
    shared = 4 * (4 * 8 * (8 * side + 4) + 24 * side * side + 8 * side)
    # two blocks hide each other's barriers; cut chains and float64 rows need the registers of one
    resident = 1 if cut or problem.dtype == "f8" or card.compute_capability == 75 else 2
    return Launch(kernel, -(-problem.n_samples // (8 * side)), side * side, shared, resident)


def resolve(problem: Problem, card: Card) -> Launch:
    """The rows that tensor cores left open, tiles of 64."""
    return Launch(f"resolve<{problem.row_type}>", filled(card, 256, problem.n_samples, 64), 256, resident=2)


def recheck(problem: Problem, card: Card) -> Launch:
    """The rows that `assign` left open: how many is known only on the device, so the grid fills the card."""
    return Launch(f"recheck<{problem.row_type}>", filled(card, 128, problem.n_samples, 4), 128, resident=8)


def prune(problem: Problem, card: Card) -> Launch:
    """All rows, most of them proved unchanged: few blocks, as each may score a tile that is not full."""
    grid = max(1, min(2 * card.n_multiprocessors, -(-problem.n_samples // 256)))
    return Launch(f"prune<{problem.row_type}>", grid, 256, resident=2)


# ------------------------------------------------------------------------------------------------ sums
def lanes(n_features: int) -> int:
    """Threads that share one row: a power of two."""
    return min(WARP, 1 << (n_features - 1).bit_length())


def accumulate(problem: Problem, card: Card, *, first: bool, two_limbs: bool, has_weights: bool) -> Launch:
    """Sums of the clusters: all rows in shared memory the first time, where they fit; else the rows that moved."""
    cells = problem.n_clusters * problem.n_features * (2 if two_limbs else 1)
    shared = 8 * (cells + problem.n_clusters * (2 if has_weights else 1))
    if first and shared <= card.shared_per_block:
        grid = filled(card, 256, problem.n_samples, 256 // lanes(problem.n_features))
        return Launch(f"add_all_rows<{problem.row_type}>", grid, 256, shared)
    return move_rows(problem, card)


def move_rows(problem: Problem, card: Card) -> Launch:
    """Rows that leave one cluster for another."""
    return Launch(f"move_rows<{problem.row_type}>", filled(card, 256, problem.n_samples, 256), 256, 8 * 256, 4)


def centers(verb: str, problem: Problem) -> Launch:
    """New centers of the sums and the end of the iteration (recenter), given centers (publish_centers)."""
    return Launch(f"{verb}<{problem.type}>", problem.n_clusters, TILES.recenter_threads, resident=8)


def iterations_at_once(problem: Problem, card: Card) -> int:
    """Iterations in one graph: several where the card is done with one about as soon as the host has launched it."""
    clocks = problem.n_samples * problem.n_features * (problem.n_clusters + WARP) / (128 * card.n_multiprocessors)
    return GRAPH_ITERATIONS if clocks < GRAPH_CLOCKS else 1


# ------------------------------------------------------------------------------------------------ passes over rows
def row_pass(verb: str, problem: Problem, card: Card) -> Launch:
    """A kernel that takes a thread a row, any number of blocks."""
    threads = {"own_distance": 128, "seed_update": 256, "seed_trials": 256}[verb]
    return Launch(f"{verb}<{problem.row_type}>", filled(card, threads, problem.n_samples, threads), threads, resident=2)


def feature_pass(verb: str, problem: Problem, card: Card) -> Launch:
    """A kernel that takes `lanes` threads a row, any number of blocks: summary, weighted_peaks, moments."""
    rows = 256 // lanes(problem.n_features)
    return Launch(f"{verb}<{problem.row_type}>", filled(card, 256, problem.n_samples, rows), 256, resident=4)


def value_pass(kernel: str, n_values: int, card: Card) -> Launch:
    """A kernel that takes a thread a value, any number of blocks."""
    threads = {"inertia_sum": 128}.get(kernel, 256)
    return Launch(kernel, filled(card, threads, n_values, threads), threads, resident=4)


def transform(problem: Problem) -> Launch:
    """Squares of 16 x 16 distances."""
    grid = -(-problem.n_samples // 16) * -(-problem.n_clusters // 16)
    return Launch(f"transform<{problem.row_type}>", grid, 256, resident=2)


def seed_potentials(problem: Problem) -> Launch:
    """One block for each partial potential."""
    grid = -(-problem.n_samples // TILES.seed_block_rows)
    return Launch(f"seed_potentials<{problem.type}>", grid, 256, resident=4)


def seed_scan() -> Launch:
    """Prefix sums of the partial potentials."""
    return Launch("seed_scan", 1, 256)


def seed_find(problem: Problem, n_values: int) -> Launch:
    """One warp a value."""
    return Launch(f"seed_find<{problem.type}>", n_values, WARP, resident=8)


def farthest(n_samples: int, card: Card) -> tuple[Launch, Launch]:
    """The farthest row: of each block, then of all."""
    first = value_pass("farthest_of_block", n_samples, card)
    return first, Launch("farthest_of_all", 1, 256)


def fit_small(problem: Problem, n_problems: int, card: Card) -> Launch:
    """One block a problem of the dtype; each takes another one when it is done."""
    return Launch(f"fit_small<{problem.type}>", filled(card, 128, n_problems, 1), 128, resident=3)


def filled(card: Card, threads: int, items: int, items_per_block: int) -> int:
    """Blocks enough for all items, but no more than twice what the card holds at once: they loop over the rest."""
    most = 2 * card.n_multiprocessors * max(1, card.threads_per_multiprocessor // threads)
    return max(1, min(most, -(-items // items_per_block)))
