"""Reading machine code: instructions, loops, and what a multiprocessor can hold of it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from .compile import Function


@dataclass(frozen=True)
class Limits:
    """What one multiprocessor has. Reserved: bytes of shared memory that the system takes of each block."""

    threads: int
    blocks: int
    shared: int
    shared_per_block: int
    reserved: int
    granule: int


_AMPERE, _SMALL = (1024, 128), (100 << 10, 99 << 10)
LIMITS = {
    75: Limits(1024, 16, 64 << 10, 64 << 10, 0, 256),
    80: Limits(2048, 32, 164 << 10, 163 << 10, *_AMPERE),
    86: Limits(1536, 16, *_SMALL, *_AMPERE),
    89: Limits(1536, 24, *_SMALL, *_AMPERE),
    90: Limits(2048, 32, 228 << 10, 227 << 10, *_AMPERE),
    100: Limits(2048, 32, 228 << 10, 227 << 10, *_AMPERE),
    120: Limits(1536, 24, *_SMALL, *_AMPERE),
}
"""By compute capability: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"."""
REGISTERS = 65536
"""Of a multiprocessor, on all of them: a quarter for each of four partitions; a warp takes them in units of 256."""


def resident(architecture: int, function: Function, threads: int, dynamic_shared: int) -> int:
    """Blocks of a kernel that one multiprocessor holds at once; 0: it cannot be launched."""
    limits, warps = LIMITS[architecture], -(-threads // 32)
    shared = function.static_shared + dynamic_shared
    if shared > limits.shared_per_block:
        return 0
    of_warp = math.ceil(function.registers * 32 / 256) * 256
    by_registers = REGISTERS // 4 // of_warp * 4 // warps
    taken = math.ceil((shared + limits.reserved) / limits.granule) * limits.granule
    by_shared = limits.shared // taken if taken else limits.blocks
    return min(limits.blocks, limits.threads // (32 * warps), by_registers, by_shared)


def opcode(line: str) -> str:
    """Operation of an instruction with its modifiers, "" for a label."""
    found = re.match(r"(?:@!?U?P[T\d]+\s+)?([A-Z][\w.]*)", line)
    return found[1] if found else ""


def opcodes(lines: Sequence[str]) -> list[str]:
    """Operations of all instructions."""
    return [code for line in lines if (code := opcode(line))]


def count(lines: Sequence[str], pattern: str) -> int:
    """Instructions whose operation matches, from its beginning."""
    return sum(1 for code in opcodes(lines) if re.match(pattern, code))


def local_accesses(function: Function) -> int:
    """Loads and stores of local memory: spilled registers, or arrays that are indexed at run time."""
    return count(function.lines, r"(LDL|STL)\b")


def loops(function: Function) -> list[tuple[str, ...]]:
    """The body of each loop: from the target of a branch backwards to the branch."""
    lines = function.lines
    at = {line[:-1]: i for i, line in enumerate(lines) if line.endswith(":")}
    found = []
    for i, line in enumerate(lines):
        if opcode(line).startswith("BRA") and (target := re.search(r"(\.L_[\w.]+)", line)):
            start = at.get(target[1], i)
            if start < i:
                found.append(lines[start : i + 1])
    return found


def hot_loop(function: Function) -> tuple[str, ...]:
    """The loop with the largest share of multiply-adds."""
    return max(loops(function), key=lambda body: share(body, "FFMA2?"))


def tile_loop(function: Function) -> tuple[str, ...]:
    """The shortest loop with the most matrix instructions."""
    return max(loops(function), key=lambda body: (count(body, "HMMA"), -len(body)))


def share(body: Sequence[str], pattern: str) -> float:
    """Part of a loop's instructions whose operation matches."""
    return count(body, rf"({pattern})\b") / max(1, len(opcodes(body)))
