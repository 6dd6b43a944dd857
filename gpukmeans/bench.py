"""How fast the backends are on this machine, beside scikit-learn and GPU libraries; nothing is printed here.

Answers come first: the backends must agree bit for bit, or nothing is timed. Then everybody takes turns, in another
order each round, and medians count. All make the same number of iterations (no `tol`), twice: few and more, whose
difference is the time of an iteration.
"""

from __future__ import annotations

import functools
import gc
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ._contestants import REFERENCE, Answer, Contestant, backend, contestants, inertia, peak_of_card
from ._grid import Case, Peak, grid, peak
from .arrays import to_host
from .errors import GpuKMeansError
from .exact import FloatArray

__all__ = [
    "Case", "Peak", "Result", "Timing", "WrongAnswerError", "as_json", "contestants", "grid", "heading", "lines",
    "measure", "peak", "peak_of_card",
]  # fmt: skip

FEW, MORE = 2, 12
"""Iterations of the two fits."""
_OF_OTHERS = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError, OSError, RuntimeError,
    TypeError, ValueError,
)  # fmt: skip
_COLUMNS = (
    ("n", 8), ("d", 4), ("k", 5), ("dtype", 8), ("who", 14), ("ms/iteration", 12), ("fit, s", 8), ("spread", 6),
    (f"{REFERENCE} / it", 17), ("of floor", 8), ("equal labels", 12), ("inertia / ours", 14),
)  # fmt: skip
_WORDS = ("dtype", "who")
LEGEND = f"""\
- ms/iteration: a fit of {MORE} iterations less one of {FEW}, over the iterations between
- fit: {MORE} iterations and all that a call does beside them; spread: of its repetitions, over the median
- {REFERENCE} / it: its fit, over this one
- of floor: how much of an iteration a card needs at least, for 2 n k d operations at the float32 peak of its CUDA cores
  or for one reading of the rows, whichever is more
- equal labels, inertia / ours: against the numpy backend"""
"""What the columns of the table are."""


class WrongAnswerError(GpuKMeansError):
    """A backend gave another answer than the numpy backend, or a bad one; nothing was timed."""


@dataclass(frozen=True)
class Timing:
    """Times of one contestant in one case.

    Attributes
    ----------
    name, note : str
        Who, and what it does in another way than the others.
    n_iter : list of int
        Iterations of the two fits: fewer than asked for if no label changed any more.
    seconds_few, seconds : list of float
        All repetitions.
    equal_labels : float
        Share of the labels that are those of the numpy backend.
    inertia_ratio : float
        Inertia, relative to that of the numpy backend.
    floor : float or None
        Seconds that an iteration takes at least on this card; None for a CPU and an unknown card.
    """

    name: str
    note: str
    n_iter: list[int]
    seconds_few: list[float]
    seconds: list[float]
    equal_labels: float
    inertia_ratio: float
    floor: float | None

    @property
    def fit(self) -> float:
        """Median of the seconds of a whole fit."""
        return statistics.median(self.seconds)

    @property
    def iteration(self) -> float | None:
        """Seconds of one more iteration; None if they are lost in the noise."""
        more = self.fit - statistics.median(self.seconds_few)
        few, n = self.n_iter
        return more / (n - few) if n > few and more > 0 else None

    @property
    def spread(self) -> float | None:
        """Longest less shortest fit, over the median: a quiet machine stays below 0.2. None for one repetition."""
        return None if len(self.seconds) < 2 else (max(self.seconds) - min(self.seconds)) / self.fit

    @property
    def share(self) -> float | None:
        """How much of the time of an iteration the card needs at least."""
        return None if self.floor is None or self.iteration is None else self.floor / self.iteration


@dataclass(frozen=True)
class Result:
    """One case: the times of all, and why a library could not do it."""

    case: Case
    timings: list[Timing]
    failed: dict[str, str]


def measure(case: Case, chosen: Iterable[Contestant], *, repeat: int = 5, card: Peak | None = None) -> Result:
    """Check the answers of all contestants, then time them.

    Parameters
    ----------
    case : Case
    chosen : iterable of Contestant
    repeat : int, default=5
        Rounds; in each everybody fits twice.
    card : Peak, optional
        What the card can do.

    Returns
    -------
    Result

    Raises
    ------
    WrongAnswerError
        Before anything is timed.
    """
    X, start = case.make()
    able = {c.name: c for c in chosen if case.dtype in c.dtypes}
    rows: dict[str, Any] = {}
    answers: dict[str, Answer] = {}
    failed: dict[str, str] = {}
    for name, c in able.items():  # the first call compiles, and fills caches
        try:
            rows[name] = c.place(X)
            answers[name] = _on_host(c.fit(rows[name], start, MORE))
        except _OF_OTHERS as error:
            if c.is_ours:
                raise
            failed[name] = f"{type(error).__name__}: {' '.join(str(error).split())}"
    right = _on_host(backend("numpy")[0].fit(X, start, MORE))
    _check(case, right, {name: answer for name, answer in answers.items() if able[name].is_ours})
    inertias = {name: inertia(X, answer.labels, answer.centers) for name, answer in answers.items()}
    ours = inertia(X, right.labels, right.centers)
    if ours > 1.01 * inertias.get(REFERENCE, ours):
        raise WrongAnswerError(f"{case.name}: inertia {ours:.8g}, {REFERENCE} has {inertias[REFERENCE]:.8g}")
    n_iter, few, more = _time([able[name] for name in answers], rows, start, repeat)
    timings = [
        Timing(
            name=name,
            note=able[name].note,
            n_iter=n_iter[name],
            seconds_few=few[name],
            seconds=more[name],
            equal_labels=float(np.mean(answer.labels == right.labels)),
            inertia_ratio=inertias[name] / ours,
            floor=card.floor(case) if card is not None and able[name].on_card else None,
        )
        for name, answer in answers.items()
    ]
    return Result(case, timings, failed)


def _time(
    order: list[Contestant], rows: Mapping[str, Any], start: FloatArray, repeat: int
) -> tuple[dict[str, list[int]], dict[str, list[float]], dict[str, list[float]]]:
    """Iterations of the two fits of each, the times of the short one, those of the long one."""
    n_iter = {c.name: [0, 0] for c in order}
    few: dict[str, list[float]] = {c.name: [] for c in order}
    more: dict[str, list[float]] = {c.name: [] for c in order}
    for _ in range(repeat):
        for c in order:
            for i, (times, n) in enumerate(((few, FEW), (more, MORE))):
                gc.collect()
                seconds, answer = c.clock(functools.partial(c.fit, rows[c.name], start, n))
                times[c.name].append(seconds)
                n_iter[c.name][i] = answer.n_iter
        order = order[1:] + order[:1]
    return n_iter, few, more


def _on_host(answer: Answer) -> Answer:
    return answer._replace(labels=to_host(answer.labels), centers=to_host(answer.centers))


def _check(case: Case, right: Answer, answers: Mapping[str, Answer]) -> None:
    for name, answer in answers.items():
        for what, got, expected in zip(Answer._fields, answer, right, strict=True):
            if np.asarray(got).tobytes() != np.asarray(expected).tobytes():
                raise WrongAnswerError(
                    f"{case.name}: {name} has other {what} than numpy; nothing of this case was timed. Please report "
                    f"it, with the output of `gpukmeans doctor --verify --backend {name.partition(',')[0]}`"
                )


def heading() -> list[str]:
    """Give the two first lines of the table, in Markdown."""
    return [
        _line([n for n, _ in _COLUMNS]),
        _line([("-" * (w - 1) + ("-" if n in _WORDS else ":")) for n, w in _COLUMNS]),
    ]


def lines(result: Result) -> list[str]:
    """Give the lines of the table for one case.

    Parameters
    ----------
    result : Result

    Returns
    -------
    list of str
    """
    case = result.case
    shape = (str(case.n_samples), str(case.n_features), str(case.n_clusters), case.dtype)
    reference = next((t.fit for t in result.timings if t.name == REFERENCE), None)
    return [
        _line((
            *shape,
            t.name,
            "" if t.iteration is None else f"{1e3 * t.iteration:.3f}",
            f"{t.fit:.4f}",
            "" if t.spread is None else f"{t.spread:.0%}",
            "" if reference is None else f"{reference / t.fit:.2f}",
            "" if t.share is None else f"{t.share:.0%}",
            f"{t.equal_labels:.4%}",
            f"{t.inertia_ratio:.6f}",
        ))
        for t in result.timings
    ] + [_line((*shape, name, f"failed: {why}")) for name, why in result.failed.items()]  # fmt: skip


def _line(cells: Sequence[str]) -> str:
    texts = (c.ljust(w) if n in _WORDS else c.rjust(w) for c, (n, w) in zip(cells, _COLUMNS, strict=False))
    return f"| {' | '.join(texts)} |"


def as_json(
    results: Sequence[Result], machine: dict[str, str], absent: dict[str, str], *, repeat: int, card: Peak | None
) -> dict[str, Any]:
    """Give all that was measured, and on what.

    Parameters
    ----------
    results : sequence of Result
    machine : dict of str to str
    absent : dict of str to str
        Why a library was not measured.
    repeat : int
    card : Peak or None

    Returns
    -------
    dict
    """
    return {
        "machine": machine,
        "absent": absent,
        "repeat": repeat,
        "iterations": [FEW, MORE],
        "card": None if card is None else card._asdict(),
        "cases": [asdict(result) for result in results],
    }
