"""What a worker of a cluster does with one chunk of rows: a verb, from a state that it kept, or makes anew.

A task holds all that its result depends on, so that any worker can do it, at any time: it names the state which the
rows were left in (the labels of some centers, distances to some seeds) and brings what that state is made of. The
worker that has them so goes on from there; another one, after a death or a move, makes it first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import __version__
from .arrays import to_host
from .backends import Work, _threads, get_backend
from .backends.base import Backend, Partial, Rows
from .errors import DataFileError
from .exact import Encoding, Float64Array, FloatArray
from .validation import first_non_finite

NEW, LABELS, SQDIST, SEEDS = "new", "labels", "sqdist", "seeds"


@dataclass(frozen=True)
class Job:
    """What all chunks of a fit have in common."""

    key: str
    backend: str
    precision: str
    n_clusters: int
    exponent: int = 0
    version: str = __version__


@dataclass(frozen=True)
class State:
    """How a verb finds the rows, by a number; `kind` says how to make that of the centers which come with the task."""

    number: int
    kind: str = NEW


@dataclass
class _Kept:
    number: int
    backend: Backend
    rows: Rows


_kept: dict[tuple[str, int, int], _Kept] = {}
_over: set[str] = set()


def forget(key: str) -> None:
    """Give up what was kept for a fit, also by a task that is not done yet."""
    _over.add(key)
    for place in [place for place in _kept if place[0] == key]:
        _kept.pop(place, None)


def load(source: Any, start: int, stop: int) -> FloatArray:
    """Rows of a source; an error names where they lie."""
    try:
        return np.asarray(source.read(start, stop))
    except DataFileError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        raise DataFileError(f"{source.where(start, stop)}: {type(error).__name__}: {error}") from error


def apply(
    chunk: Any, weight: Float64Array | None, chunk_number: int, job: Job, before: State, made_of: Any,
    verb: str, args: tuple[Any, ...], after: int,
) -> Any:  # fmt: skip
    """Do a verb with the rows of a chunk, which are then in the state `after`."""
    if job.version != __version__:
        raise RuntimeError(
            f"A worker has gpukmeans {__version__}, and the client has {job.version}: install one version everywhere."
        )
    place = (job.key, chunk_number, job.exponent)
    with _share_of_cores():
        kept = _kept.pop(place, None)  # an error leaves nothing half done
        if kept is None:
            kept = _Kept(-1, *_rows(chunk, weight, job))
        if before.kind == NEW or kept.number != before.number:
            _make(kept.backend, kept.rows, before.kind, made_of)
        own = _OWN.get(verb)
        result = getattr(kept.backend, verb)(kept.rows, *args) if own is None else own(kept.backend, kept.rows, *args)
        if job.key not in _over:
            _kept[place] = replace(kept, number=after)
    return result


@contextmanager
def _share_of_cores() -> Iterator[None]:
    """As many threads as are left to a task if all threads of the worker are at one."""
    from distributed import get_worker

    try:
        threads = int(get_worker().state.nthreads)
    except ValueError:  # not on a worker
        threads = 1
    with _threads.limit(max(1, min(_threads.effective_n_threads(), (os.cpu_count() or 1) // threads))):
        yield


def _rows(chunk: Any, weight: Float64Array | None, job: Job) -> tuple[Backend, Rows]:
    X = np.ascontiguousarray(chunk)
    X = X if X.dtype in (np.float32, np.float64) else X.astype(np.float32 if X.dtype == np.float16 else np.float64)
    backend = get_backend(job.backend, job.precision, Work.of(X, job.n_clusters, n_passes=20))
    return backend, backend.rows(backend.scaled(backend.accept(X), job.exponent), weight)


def _make(backend: Backend, rows: Rows, kind: str, made_of: Any) -> None:
    backend.forget(rows)
    rows.closest = rows.seeding = None
    if kind in (LABELS, SQDIST):
        backend.assign(rows, made_of)
    if kind == SQDIST:
        backend.own_sqdist(rows, made_of)
    if kind == SEEDS:
        for i, center in enumerate(made_of):
            backend.seed_update(rows, center, first=i == 0)


# ---- what is no verb of the waist, or gives something else there
def _step(backend: Backend, rows: Rows, centers: Float64Array, encoding: Encoding) -> Partial:
    now = backend.load(centers, [rows])
    partial: Any = backend.step(rows, now, encoding)
    if isinstance(partial, Partial):
        return partial
    sums = backend.sums(partial)
    outcome = backend.recenter(partial, now, encoding, 0.0)[1].read()  # a card counts where it makes new centers
    return replace(sums, n_moved=outcome.n_moved, n_rechecked=outcome.n_rechecked)


def _labels(backend: Backend, rows: Rows) -> Any:
    return np.asarray(to_host(backend.labels([rows])))


def _sqdist(backend: Backend, rows: Rows) -> Any:
    return np.asarray(to_host(backend.sqdist([rows])))


def _non_finite(backend: Backend, rows: Rows, _: None) -> tuple[int, int, float]:
    """Row and column of the first value that is not finite, and that."""
    X = to_host(rows.data)
    row, column = first_non_finite(X)
    return row, column, float(X[row, column])


def _take(backend: Backend, rows: Rows, indices: NDArray[np.intp]) -> FloatArray:
    return rows.take(indices)


def _used(backend: Backend, rows: Rows, n_clusters: int) -> NDArray[np.bool_]:
    """Which clusters have a row."""
    used = np.zeros(n_clusters, dtype=bool)
    used[_labels(backend, rows)] = True
    return used


def _renaming(backend: Backend, rows: Rows, n_clusters: int, other: Float64Array) -> NDArray[np.int32] | None:
    """For each cluster the one that its rows have under `other` centers (-1: no rows); None if they have several."""
    labels = _labels(backend, rows)
    again = backend.rows(rows.data, rows.sample_weight)
    backend.assign(again, other)
    others = _labels(backend, again)
    renamed = np.full(n_clusters, -1, dtype=np.int32)
    renamed[labels] = others
    return renamed if np.array_equal(renamed[labels], others) else None


_OWN: dict[str, Callable[..., Any]] = {
    "step": _step, "labels": _labels, "sqdist": _sqdist, "non_finite": _non_finite, "take": _take, "used": _used,
    "renaming": _renaming,
}  # fmt: skip
