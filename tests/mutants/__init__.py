"""One-line defects of the kernels, and whether the checks of tests/kernel_checks see them."""

from dataclasses import dataclass
from typing import Any

import kernel_checks
import pytest
from simt.build import SimtError

from . import centers, labels, passes, sums, tensor

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
    for table in (labels.TABLE, sums.TABLE, centers.TABLE, passes.TABLE, tensor.TABLE)
    for (file, check, kernels), rows in table.items()
    for old, new in rows
]
