"""The tile loop of assign_sm80 in machine code: what it multiplies, and what else it takes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gpukmeans.backends import _tensor_config

from . import compile as nvrtc
from . import sass

EPILOGUE = r"(FMNMX3?|LOP3|FSETP|FSEL|SEL|V?IMNMX3?)\b"
"""Index into the key, minimum and maximum, tile of the best."""
ARCHITECTURES = tuple(a for a in nvrtc.ARCHITECTURES if a >= _tensor_config.OLDEST)


@dataclass(frozen=True)
class Sizes:
    """Template arguments of an instance."""

    kind: int
    row_bytes: int
    row_blocks: int
    warps: int
    center_blocks: int

    @classmethod
    def of(cls, instance: str) -> Sizes:
        """From ``assign_sm80<float, 0, 64, 4, 8, 16>``."""
        return cls(*map(int, re.findall(r", (\d+)", instance)))

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
    """Of the whole loop, with copies, barrier, best and second best."""

    products_an_instruction: float
    epilogue_a_score: float


def loop(instance: str, architecture: int) -> Loop:
    """What is counted."""
    body, sizes = sass.tile_loop(nvrtc.kernels("assign_sm80", architecture)[instance]), Sizes.of(instance)
    return Loop(sizes.products / len(sass.opcodes(body)), sass.count(body, EPILOGUE) / sizes.scores)


def table() -> str:
    """Of float32 rows in a 16-bit type and in TF32; fp16 is compiled to the same as bf16."""
    lines = [
        f"NVRTC {nvrtc.nvrtc_version()}. Multiply-adds of a warp for an instruction of the tile loop / "
        "instructions of its epilogue for a score.",
        "",
        "| tile loop |" + "".join(f" sm_{a} |" for a in ARCHITECTURES),
        "|---" * (1 + len(ARCHITECTURES)) + "|",
    ]
    for instance in _tensor_config.instances(("float",)):
        if Sizes.of(instance).kind != _tensor_config.KINDS["fp16"]:
            cells = []
            for architecture in ARCHITECTURES:
                has = instance in nvrtc.kernels("assign_sm80", architecture)
                found = loop(instance, architecture) if has else None
                cells.append(f"{found.products_an_instruction:.0f} / {found.epilogue_a_score:.2f}" if found else "-")
            lines.append(f"| `{instance}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)
