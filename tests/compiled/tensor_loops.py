"""The inner loops of the passes on tensor cores in machine code: what they multiply, and what else they take."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gpukmeans.backends import _source, _tensor_config

from . import compile as nvrtc
from . import sass

EPILOGUE = r"((FMNMX3?|LOP3|FSETP|FSEL|SEL|V?IMNMX3?)\b|IMAD$)"
"""Index into the key, minimum and maximum, tile of the best."""
SLOW = r"(FMNMX3?|LOP3|[FI]SETP|FSEL|SEL|V?IMNMX3?|LEA|IADD3|PRMT|SHF)\b"
"""Instructions for the units of 16 lanes a scheduler, so two clocks of a warp: all but copies and multiplications."""
MATRIX_CLOCKS = {80: 8.0, 90: 8 * 1024 / 1270}
"""Of a matrix instruction, for a scheduler: a data sheet's; on sm_90 of what is said of instructions for one warp."""
ARCHITECTURES = tuple(a for a in nvrtc.ARCHITECTURES if a >= _tensor_config.OLDEST)

TRITON = {
    (0, 128): {80: 189, 90: 242}, (0, 256): {80: 327, 90: 460}, (2, 256): {80: 165, 90: 232},
    (2, 512): {80: 261, 90: 413},
}  # fmt: skip
"""Multiply-adds for an instruction in fused Triton kernels, by type and bytes of a row, counted in the same way in what
Triton compiled for the fastest of the other libraries. On sm_90 by instructions for groups of warps."""
TRIAL = {
    (0, 64): {80: 210, 90: 233}, (0, 128): {80: 358, 90: 392}, (0, 256): {80: 575, 90: 617},
    (0, 512): {80: 741, 90: 738}, (2, 64): {80: 105, 90: 117}, (2, 128): {80: 179, 90: 196},
    (2, 256): {80: 287, 90: 309}, (2, 512): {80: 398, 90: 418},
}  # fmt: skip
"""The same of a trial, by hand: the goal. Where it offset scores, one B was in all half norms, for all rows."""


@dataclass(frozen=True)
class Sizes:
    """Template arguments of an instance; of longer rows: the warps that have rows of their own, and a chunk's bytes.

    `form` of its keys: 1 where scores are offset; `group`: centers that share one.
    """

    kind: int
    row_bytes: int
    row_blocks: int
    warps: int
    center_blocks: int
    form: int = 0
    group: int = 1

    @classmethod
    def of(cls, instance: str) -> Sizes:
        """From ``assign_sm80<0, 64, 4, 8, 16, 1>`` or ``assign_sm80_wide<0, 4, 4, 8>``."""
        given = [int(number) for number in re.findall(r"[<,] ?(\d+)", instance)]
        if len(given) == 4:
            given.insert(1, _tensor_config.CHUNK_BYTES)
        return cls(*given)

    @property
    def instructions(self) -> int:
        """Matrix instructions of a warp for a tile."""
        return self.row_bytes // 32 * self.row_blocks * self.center_blocks

    @property
    def products(self) -> int:
        """Multiply-adds of these."""
        return self.instructions * 16 * 8 * (8 if self.kind == 2 else 16)

    @property
    def scores(self) -> float:
        """Scores of a thread in a tile."""
        return 16 * self.row_blocks * 8 * self.center_blocks / 32


@dataclass(frozen=True)
class Loop:
    """Of the whole loop, with copies and barrier; of short rows with best and second best, too."""

    products_an_instruction: float
    epilogue_a_score: float
    slow_a_score: float

    @property
    def cell(self) -> str:
        """Of the table."""
        return f"{self.products_an_instruction:.0f} / {self.epilogue_a_score:.2f} / {self.slow_a_score:.2f}"


def loop(instance: str, architecture: int) -> Loop:
    """What is counted."""
    body, sizes = sass.tile_loop(nvrtc.kernels("assign_sm80", architecture)[instance]), Sizes.of(instance)
    counts = (sass.count(body, pattern) / sizes.scores for pattern in (EPILOGUE, SLOW))
    return Loop(sizes.products / len(sass.opcodes(body)), *counts)


def clocks(instance: str, architecture: int) -> float:
    """Of a warp for a tile: the larger of those of the tensor cores and of the units of minimum and maximum."""
    sizes, found = Sizes.of(instance), loop(instance, architecture)
    return max(MATRIX_CLOCKS[architecture] * sizes.instructions, 2 * found.slow_a_score * sizes.scores)


def chunk_loop(instance: str, architecture: int) -> Loop:
    """The same for long rows: one chunk of them. Best and second best are outside, once for all chunks."""
    function, sizes = nvrtc.kernels("assign_sm80_wide", architecture)[instance], Sizes.of(instance)
    body = sass.tile_loop(function)
    whole = min((b for b in sass.loops(function) if sass.count(b, "FMNMX") and sass.count(b, "HMMA")), key=len)
    counts = ((sass.count(whole, pattern) - sass.count(body, pattern)) / sizes.scores for pattern in (EPILOGUE, SLOW))
    return Loop(sizes.products / len(sass.opcodes(body)), *counts)


def table() -> str:
    """In a 16-bit type and in TF32; fp16 is compiled to the same as bf16."""
    lines = [
        f"NVRTC {nvrtc.nvrtc_version()}. Multiply-adds of a warp for an instruction of the tile loop / "
        "instructions of its epilogue for a score / those for the units of minimum and maximum.",
        "",
        "| tile loop |" + "".join(f" sm_{a} |" for a in ARCHITECTURES),
        "|---" * (1 + len(ARCHITECTURES)) + "|",
    ]
    for instance in (*_tensor_config.instances(), *_tensor_config.wide_instances()):
        if Sizes.of(instance).kind != _tensor_config.KINDS["fp16"]:
            cells, file = [], _source.FILE_OF[instance]
            for architecture in ARCHITECTURES:
                has = instance in nvrtc.kernels(file, architecture)
                found = (loop if file == "assign_sm80" else chunk_loop)(instance, architecture) if has else None
                cells.append(found.cell if found else "-")
            lines.append(f"| `{instance}` | " + " | ".join(cells) + " |")
    names = {number: name for name, number in _tensor_config.KINDS.items()}
    for whose, figures in (("the trial", TRIAL), ("Triton", TRITON)):
        for (kind, row_bytes), by_architecture in figures.items():
            cells = [str(by_architecture.get(architecture, "")) for architecture in ARCHITECTURES]
            lines.append(f"| {whose}, {names[kind]}, {row_bytes} bytes | " + " | ".join(cells) + " |")
    return "\n".join(lines)
