"""Whether a backend gives the bits of the numpy backend on this machine; nothing is printed here.

Every problem is a whole fit from a given start, then predict, transform, score, and k-means++ on the same rows. On a
card the rows are passed as a CuPy array too, and some have less of its memory than they need: they are streamed.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from ._problems import Problem, problems
from .arrays import is_cupy, to_host
from .exact import FloatArray
from .kmeans import KMeans, kmeans_plusplus

__all__ = ["REFERENCE", "Case", "Problem", "check", "problems", "report", "verify"]

REFERENCE = "numpy"
"""The backend that the others are compared with."""
_TRANSFORMED = 256  # rows: distances of all rows to all centers would be the largest array by far
_SEEDING_WORK = 10**8  # values read while seeding: numpy takes seconds for as many


@dataclass(frozen=True)
class Case:
    """What a comparison gave.

    Attributes
    ----------
    name : str
        Name of the problem.
    differences : tuple of str
        One for each result that is another one than numpy's, or the error that the backend raised; empty if all bits
        are equal.
    seconds : float
        Time taken, with that of the numpy backend.
    """

    name: str
    differences: tuple[str, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether all bits are equal."""
        return not self.differences


def verify(backend: str, chosen: Iterable[Problem] | None = None) -> list[Case]:
    """Compare a backend with the numpy backend, bit by bit.

    Parameters
    ----------
    backend : str
        Its name, as in :func:`gpukmeans.available_backends`.
    chosen : iterable of Problem, default=None
        What to compare on. None: all of :func:`problems` but the full ones; ten seconds on two cores.

    Returns
    -------
    list of Case

    Raises
    ------
    BackendUnavailableError
        If the backend does not work here.
    ValueError
        If there is no backend of that name, or it is the one that the others are compared with.

    Examples
    --------
    >>> from gpukmeans.verify import Problem, verify
    >>> [case.ok for case in verify("numba", [Problem(100, 3, 4)])]
    [True]
    """
    return [check(backend, problem) for problem in (problems(backend) if chosen is None else chosen)]


def check(backend: str, problem: Problem) -> Case:
    """Compare a backend with the numpy backend on one problem; `verify` is this for many.

    Parameters
    ----------
    backend : str
    problem : Problem

    Returns
    -------
    Case

    Raises
    ------
    BackendUnavailableError, ValueError
        As `verify`.
    """
    from .backends import get_backend

    if backend == REFERENCE:
        raise ValueError(f"the backend {REFERENCE!r} is the one that the others are compared with")
    get_backend(backend)
    begin = time.perf_counter()
    X, start, weights = problem.make()
    expected = _answers(REFERENCE, problem, X, start, weights)
    differences: list[str] = []
    with _card_of(backend):
        for way, rows in _ways(backend, problem, X):
            try:
                with _memory_for(problem), _first_stage(problem):
                    got = _answers(backend, problem, rows, start, weights)
            except (MemoryError, RuntimeError) as error:  # the other problems may still tell something
                differences.append(f"{way}{type(error).__name__}: {error}")
                continue
            found = (_difference(name, got[name], expected[name], is_cupy(rows)) for name in expected)
            differences += [way + difference for difference in found if difference]
    return Case(problem.name, tuple(differences), time.perf_counter() - begin)


class _Array(NamedTuple):
    """A result that lies where the rows lay."""

    values: Any


def _answers(backend: str, problem: Problem, X: Any, start: FloatArray, weights: Any) -> dict[str, Any]:
    """All that the backend says about the problem."""
    n, d, k = problem.n_samples, problem.n_features, problem.n_clusters
    n_seeds = min(k, max(4, _SEEDING_WORK // (n * d)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Number of distinct clusters")
        model = KMeans(k, init=start, n_init=1, max_iter=problem.max_iter, backend=backend)
        model.fit(X, sample_weight=weights)
    seeds, indices = kmeans_plusplus(X, n_seeds, sample_weight=weights, random_state=0, backend=backend)
    return {
        "labels_": _Array(model.labels_),
        "cluster_centers_": _Array(model.cluster_centers_),
        "inertia_": np.float64(model.inertia_),
        "n_iter_": np.int64(model.n_iter_),
        "predict": _Array(model.predict(X)),
        "transform": _Array(model.transform(X[:_TRANSFORMED])),
        "score": np.float64(model.score(X, sample_weight=weights)),
        "kmeans_plusplus centers": _Array(seeds),
        "kmeans_plusplus indices": indices,
    }


def _card_of(backend: str) -> AbstractContextManager[Any]:
    """The card that the backend uses as the current one: arrays are made there, and its memory is limited."""
    if backend != "cupy":
        return nullcontext()
    import cupy

    from .backends import _cuda

    device: AbstractContextManager[Any] = cupy.cuda.Device(_cuda.chosen_device())
    return device


def _ways(backend: str, problem: Problem, X: Any) -> Iterator[tuple[str, Any]]:
    """Passing the rows: as they are, on a card as a CuPy array too."""
    yield "", X
    if backend != "cupy" or problem.streamed or sparse.issparse(X):
        return
    import cupy

    first = int(problem.layout == "odd")
    memory = cupy.asarray(np.concatenate([np.zeros(first, X.dtype), X.ravel()]))
    yield "CuPy array: ", memory[first:].reshape(X.shape)


@contextmanager
def _memory_for(problem: Problem) -> Iterator[None]:
    """Leave too little memory on the card for the rows of a streamed problem, and enough for the rest."""
    if not problem.streamed:
        yield
        return
    import cupy

    n, d, k = problem.n_samples, problem.n_features, problem.n_clusters
    pool = cupy.get_default_memory_pool()
    before = pool.get_limit()
    pool.free_all_blocks()
    for_each_row, for_centers = 32 * n, 128 * k * (d + 8)
    half = n * d * np.dtype(problem.dtype).itemsize // 2
    pool.set_limit(size=pool.total_bytes() + for_each_row + for_centers + half)
    try:
        yield
    finally:
        pool.set_limit(size=before)


@contextmanager
def _first_stage(problem: Problem) -> Iterator[None]:
    """Let tensor cores make the first pass, in the problem's type."""
    from .backends import _tensor_config

    _tensor_config.FORCED = problem.first_stage or None
    try:
        yield
    finally:
        _tensor_config.FORCED = None


def _difference(name: str, got: Any, expected: Any, on_card: bool) -> str | None:
    """What is other, in words; None if all bits are equal."""
    if isinstance(got, _Array):
        if is_cupy(got.values) != on_card:
            return f"{name}: {type(got.values).__module__} array for {'CuPy' if on_card else 'NumPy'} rows"
        got, expected = got.values, expected.values
    got, expected = np.asarray(to_host(got)), np.asarray(expected)
    if (got.dtype, got.shape) != (expected.dtype, expected.shape):
        return f"{name}: {got.dtype} {got.shape}, {REFERENCE} has {expected.dtype} {expected.shape}"
    other = np.argwhere(_bits(got) != _bits(expected))
    if not len(other):
        return None
    at = tuple(other[0].tolist())
    where = f": {len(other)} of {got.size} differ, the first at {at}" if at else ""
    return f"{name}{where}: {got[at]!r}, {REFERENCE} has {expected[at]!r}"


def _bits(values: Any) -> Any:
    """As integers: a NaN is equal to itself, -0.0 is not 0.0."""
    return np.ascontiguousarray(values).view(f"u{values.itemsize}").reshape(values.shape)


def report(cases: Sequence[Case], backend: str, machine: dict[str, str]) -> str:
    """Give the comparison as a text for an issue, in Markdown.

    Parameters
    ----------
    cases : sequence of Case
    backend : str
    machine : dict of str to str
        What it was made on, as :attr:`gpukmeans.doctor.Report.machine`.

    Returns
    -------
    str
    """
    lines = [f"### gpukmeans doctor --verify: {backend} against {REFERENCE}", ""]
    lines += [f"- {key}: {value}" for key, value in machine.items()]
    lines += ["", "| case | result | seconds |", "|---|---|---:|"]
    for case in cases:
        result = "ok" if case.ok else f"DIFFERENT: {'; '.join(case.differences)}"
        result = " ".join(result.replace("|", "\\|").split())
        lines.append(f"| {case.name} | {result} | {case.seconds:.2f} |")
    n_ok, seconds = sum(case.ok for case in cases), sum(case.seconds for case in cases)
    return "\n".join([*lines, "", f"{n_ok} of {len(cases)} cases equal, bit for bit; {seconds:.1f} s in all."])
