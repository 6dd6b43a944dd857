"""Which architectures the tests compile for: all seven, or two where all have passed on these very files before.

After a change, once `test_compiled.py` and `test_compiled_tensor.py` pass: ``python -m compiled.record`` (in tests/).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from pathlib import Path

from gpukmeans.backends import _source

from . import table

ROOT = Path(__file__).parents[2]
RECORD = Path(__file__).with_name("passed.txt")
DECISIVE = (
    "kernels/*.cu*", "tests/compiled/*.py", "tests/compiled/*.cu", "tests/test_compiled*.py",
    "gpukmeans/backends/_launch.py", "gpukmeans/backends/_source.py", "gpukmeans/backends/_tensor_config.py",
)  # fmt: skip
"""Files that decide what is compiled, and what is said of it; beside them the compiler, and what the README has."""
COMPILER = ("nvidia-cuda-nvrtc-cu12", "nvidia-cuda-cuobjdump", "nvidia-cuda-nvdisasm")
AGAIN = (80, 120)


def fingerprint() -> str:
    """Of all that decides."""
    digest = hashlib.sha256(repr(_source.options()).encode())
    for path in sorted(path for pattern in DECISIVE for path in ROOT.glob(pattern)):
        digest.update(f"{path.relative_to(ROOT).as_posix()} {path.stat().st_size}\n".encode() + path.read_bytes())
    text = table.README.read_text(encoding="utf-8")
    digest.update("\n".join(table.between(text, block) for block in table.COMPILED).encode())
    for name in COMPILER:
        try:
            digest.update(importlib.metadata.version(name).encode())
        except importlib.metadata.PackageNotFoundError:
            digest.update(b"none")
    return digest.hexdigest()


def all_passed() -> bool:
    """Whether a run for all architectures was recorded; GPUKMEANS_COMPILED=all forgets it."""
    return os.environ.get("GPUKMEANS_COMPILED") != "all" and RECORD.read_text().strip() == fingerprint()


def chosen(architectures: tuple[int, ...]) -> tuple[int, ...]:
    """Of these the ones that a run of the tests compiles for."""
    return tuple(a for a in architectures if a in AGAIN) if all_passed() else architectures


if __name__ == "__main__":
    RECORD.write_text(fingerprint() + "\n")
