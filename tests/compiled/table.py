"""The tables of kernels/README.md: ``python -m compiled.table`` (in tests/) prints, ``--write`` writes them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from gpukmeans.backends import _source

from . import compile as nvrtc
from . import floors, launches, sass, tensor_loops

README = Path(__file__).parents[2] / "kernels" / "README.md"


def resources() -> str:
    """Registers, shared memory and resident blocks of every instance."""
    large = {architecture: launches.largest(architecture) for architecture in nvrtc.ARCHITECTURES}
    lines = [
        f"NVRTC {nvrtc.nvrtc_version()}. Registers of a thread / blocks that one multiprocessor holds.",
        "",
        "| instance | threads | shared bytes |" + "".join(f" sm_{a} |" for a in nvrtc.ARCHITECTURES),
        "|---" * (3 + len(nvrtc.ARCHITECTURES)) + "|",
    ]
    n_compiled = n_spilling = 0
    for instance, file in _source.FILE_OF.items():
        cells, shared = [], set()
        for architecture in nvrtc.ARCHITECTURES:
            if instance not in launches.instances(file, architecture):
                cells.append("-")
                continue
            n_compiled += 1
            launch, function = large[architecture][instance], nvrtc.kernels(file, architecture)[instance]
            spills = bool(function.stack or sass.local_accesses(function))
            n_spilling += spills
            blocks = sass.resident(architecture, function, launch.block, launch.shared)
            cells.append(f"{function.registers} / {blocks}" + " **spills**" * spills)
            shared.add(launch.shared + function.static_shared)
        bytes_ = f"{shared.pop():,}" if len(shared) == 1 else "what fits"
        lines.append(f"| `{instance}` | {launch.block} | {bytes_} | " + " | ".join(cells) + " |")
    spill = f"{n_spilling} use" if n_spilling else "none uses"
    lines[0] += f" Of {n_compiled} compiled kernels {spill} stack or local memory."
    return "\n".join(lines)


def hot_loops() -> str:
    """Share of multiply-adds in the inner loops of the fast pass."""
    lines = [
        f"NVRTC {nvrtc.nvrtc_version()}. Multiply-adds among the instructions of the inner loop.",
        "",
        "| inner loop |" + "".join(f" sm_{a} |" for a in nvrtc.ARCHITECTURES),
        "|---" * (1 + len(nvrtc.ARCHITECTURES)) + "|",
    ]
    for instance in _source.INSTANCES["assign"]:
        loops = [sass.hot_loop(nvrtc.kernels("assign", a)[instance]) for a in nvrtc.ARCHITECTURES]
        shares = [sass.share(loop, "FFMA2?") for loop in loops]
        lines.append(f"| `{instance}` | " + " | ".join(f"{100 * share:.1f} %" for share in shares) + " |")
    return "\n".join(lines)


BLOCKS = {
    "work": floors.work_table,
    "floors": floors.floor_table,
    "resources": resources,
    "hot-loops": hot_loops,
    "tensor-loops": tensor_loops.table,
}
COMPILED = ("resources", "hot-loops", "tensor-loops")
"""Those that another version of the compiler changes."""


def between(text: str, block: str) -> str:
    """What stands between the markers of a block."""
    found = re.search(rf"<!-- {block}:begin -->\n(.*?)\n?<!-- {block}:end -->", text, re.DOTALL)
    assert found is not None, f"{README.name} has no markers of {block}"
    return found[1]


def names(written: str) -> list[str]:
    """First cells of a table."""
    return re.findall(r"^\| (\S[^|]*?) \|", written, re.MULTILINE)


def main() -> None:
    """Print, or write."""
    text = README.read_text(encoding="utf-8")
    for block, print_it in BLOCKS.items():
        new = print_it()
        if "--write" in sys.argv[1:]:
            begin, end = f"<!-- {block}:begin -->\n", f"<!-- {block}:end -->"
            before, after = text.split(begin)[0], text.split(end)[1]
            text = f"{before}{begin}{new}\n{end}{after}"
        else:
            print(f"## {block}\n\n{new}\n")
    if "--write" in sys.argv[1:]:
        README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
