"""One-line defects of the kernels, and whether the checks of tests/kernel_checks see them."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kernel_checks
import pytest
from simt.build import SimtError

from . import centers, labels, passes, pruning, small, sums, tensor

SEEDS = (2, 0, 9)
SEEN = (SimtError, AssertionError, pytest.fail.Exception)


@dataclass(frozen=True)
class Mutant:
    """`old` becomes `new` in `file` where these kernels are built, and a check is to see it."""

    file: str
    check: str
    kernels: tuple[str, ...]
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.file} {' '.join(self.old.split())[:40]} -> {' '.join(self.new.split())[:40]}"

    def edit(self, source: str) -> str:
        """A translation unit with the defect."""
        if source.count(self.old) != 1:
            raise LookupError(f"{source.count(self.old)} times in {self.kernels}: {self.old!r}")
        return source.replace(self.old, self.new)

    def report(self) -> str:
        """What checked mode or a comparison says of it; empty if nothing does."""
        return report(self.check, edit=self.edit, kernels=self.kernels)


def report(check: str, **mutation: Any) -> str:
    """The first complaint of a check in checked mode over a few orders of threads and blocks, or nothing."""
    for seed in SEEDS:
        with kernel_checks.machine(checked=True, seed=seed, **mutation):
            try:
                kernel_checks.CHECKS[check]()
            except SEEN as seen:
                return f"{type(seen).__name__}: {seen}"
    return ""


MUTANTS = [
    Mutant(file, check, tuple(kernels.split()), old, new)
    for table in (labels.TABLE, sums.TABLE, centers.TABLE, passes.TABLE, tensor.TABLE, pruning.TABLE, small.TABLE)
    for (file, check, kernels), rows in table.items()
    for old, new in rows
]


ROOT = Path(__file__).parents[2]
RECORD = Path(__file__).with_name("seen.txt")
DECISIVE = (
    "kernels/*.cu*", "tests/simt/*.[hp]*", "tests/kernel_checks/*.py", "tests/mutants/*.py", "tests/tensor_scores.py",
    "tests/support.py", "tests/naive.py", "gpukmeans/exact.py", "gpukmeans/backends/_c[au]*.py",
    "gpukmeans/backends/_launch.py", "gpukmeans/backends/_source.py", "gpukmeans/backends/_tensor_config.py",
)  # fmt: skip
"""Files that decide whether a mutant is seen."""


def fingerprint() -> str:
    """Of these files."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in DECISIVE for path in ROOT.glob(pattern)):
        digest.update(f"{path.relative_to(ROOT).as_posix()} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def all_were_seen() -> bool:
    """Whether a run of all mutants on these very files was recorded; GPUKMEANS_MUTANTS=all forgets it."""
    return os.environ.get("GPUKMEANS_MUTANTS") != "all" and RECORD.read_text().strip() == fingerprint()


def record() -> None:
    """Note that all mutants were seen on the files as they are."""
    RECORD.write_text(fingerprint() + "\n")
