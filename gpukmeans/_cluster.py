"""A cluster of workers as one more device: rows are chunks on the workers, and a verb is a task for each of them.

The loop and the seeding know nothing of it. What the tasks return adds exactly, in any order, so how many chunks and
workers there are changes no bit; a task that is done again, after a worker died, gives what it gave before (see
`_chunks`). Chunks are results of tasks, never data that was sent: what is lost with a worker is made again.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from . import _chunks
from ._chunks import LABELS, SEEDS, SQDIST, Job, State
from .backends import get_backend
from .backends._spread import Spread
from .backends.base import Backend, Partial, Rows, Summary
from .errors import ClusterLostError
from .exact import Encoding, Float64Array, FloatArray, Int64Array
from .validation import non_finite_message

FAN_IN = 8
"""Partial sums that one task adds."""


class Shape(NamedTuple):
    """What is known here of rows that lie elsewhere."""

    shape: tuple[int, int]
    dtype: np.dtype[Any]


@dataclass
class Chunks:
    """A data set on the workers.

    Attributes
    ----------
    data : Shape
    futures : list of Future
        Of each chunk: an array of shape (n_rows, n_features).
    ends : ndarray of int64, shape (n_chunks,)
        Row at which each chunk ends.
    where : callable
        Given rows `start` and `stop`, in which file they lie; an empty text if in none.
    exponent : int
        The workers multiply the rows by 2**exponent.
    """

    data: Shape
    futures: list[Any]
    ends: Int64Array
    where: Callable[[int, int], str]
    exponent: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        """(n_samples, n_features)."""
        return self.data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """In which the rows are worked on."""
        return self.data.dtype


class ClusterRows(Rows):
    """All rows of a data set on the workers, and the state that the last verb left them in."""

    def __init__(self, chunks: Chunks, device: ClusterBackend, sample_weight: Float64Array | None) -> None:
        super().__init__(chunks.data, 0, sample_weight, labels=None)  # type: ignore[arg-type]
        self.chunks, self.device, self.ends = chunks, device, chunks.ends
        self.job = replace(device.job, exponent=chunks.exponent)
        self.state, self.made_of = State(-1), None  # of the last verb
        self.seeds: list[FloatArray] = []
        self.totals: list[int] = []  # potentials of each chunk

    def take(self, indices: Any) -> FloatArray:
        """Rows by index, from the workers."""
        return self.device.take(self, np.asarray(indices, dtype=np.intp))


class ClusterBackend(Spread):
    """Workers of a cluster, each of which uses a backend of its own.

    Parameters
    ----------
    client : distributed.Client
    job : Job
    """

    name = "dask"

    def __init__(self, client: Any, job: Job) -> None:
        super().__init__(job.precision)
        self.client, self.job = client, job
        self._numbers = itertools.count()
        self._weights: dict[int, list[Any]] = {}

    # ---- data
    def accept(self, X: Any) -> Any:
        return X

    def blocks(self, X: Any, sample_weight: Float64Array | None = None) -> list[Rows]:
        return [ClusterRows(X, self, sample_weight)]

    def scaled(self, X: Any, exponent: int) -> Any:
        """The same chunks, for workers that scale them."""
        return replace(X, exponent=X.exponent + exponent)

    def for_few(self) -> Backend:
        return get_backend("auto", self.precision)

    def forget(self, rows: Any) -> None:
        rows.state, rows.made_of, rows.seeds = State(-1), None, []

    def release(self) -> None:
        """Have the workers give up what they keep for this fit."""
        self.client.run(_chunks.forget, self.job.key, on_error="ignore")

    # ---- before the loop
    def summary(self, rows: Any) -> Summary:
        results: list[Summary] = self._all(rows, "summary")
        for i, summary in enumerate(results):
            if not summary.finite:
                ((row, column, value),) = self._all(rows, "non_finite", by_part={i: None})
                row += self._starts(rows)[i]
                raise ValueError(non_finite_message(row, column, value, place=rows.chunks.where(row, row + 1)))
        return functools.reduce(operator.or_, results)

    def is_finite(self, rows: Any) -> bool:
        return self.summary(rows).finite

    # ---- the loop
    def assign(self, rows: Any, centers: Float64Array) -> int:
        sent = self._sent(centers)
        return sum(self._all(rows, "assign", sent, then=(LABELS, sent)))

    def step(self, rows: Any, centers: Float64Array, encoding: Encoding) -> Partial:
        sent = self._sent(centers)
        parts = self._begin(rows, "step", sent, encoding, then=(LABELS, sent))
        totals = parts
        while len(totals) > 1:
            groups = [totals[low : low + FAN_IN] for low in range(0, len(totals), FAN_IN)]
            totals = [self.client.submit(_added, *group, pure=False) for group in groups]
        result: Partial = self._results(rows, parts, totals)[0]
        return result

    # ---- empty clusters, and after the loop
    def own_sqdist(self, rows: Any, centers: Float64Array) -> float:
        sent = rows.made_of if rows.state.kind == LABELS else self._sent(centers)
        return float(max(self._all(rows, "own_sqdist", sent, then=(SQDIST, sent))))

    def transform(self, rows: Any, centers: Float64Array) -> Any:
        raise NotImplementedError("an array of distances is made by dask, chunk by chunk")

    def labels(self, blocks: Any) -> Any:
        """What fetches them from the workers if they are asked for."""
        return _Remote(self, blocks[0], "labels")

    def sqdist(self, blocks: Any) -> Any:
        """As `labels`."""
        return _Remote(self, blocks[0], "sqdist")

    def used(self, rows: Any, n_clusters: int) -> int:
        """How many clusters have a row."""
        return int(np.count_nonzero(np.any(self._all(rows, "used", n_clusters), axis=0)))

    def is_same_clustering(self, rows: Any, other: Float64Array, n_clusters: int) -> bool:
        """Whether these rows have under `other` centers the labels that they have now, but for the clusters' names."""
        known = np.full(n_clusters, -1, dtype=np.int32)
        for renamed in self._all(rows, "renaming", n_clusters, self._sent(other)):
            if renamed is None or ((known >= 0) & (renamed >= 0) & (known != renamed)).any():
                return False
            known = np.maximum(known, renamed)
        return True

    # ---- seeding
    def seed_update(self, rows: Any, center: FloatArray, first: bool) -> float:
        if first:
            self.forget(rows)
        rows.seeds.append(np.asarray(center))
        return float(max(self._all(rows, "seed_update", center, first, then=(SEEDS, self._sent(rows.seeds)))))

    # ---- tasks
    def _sent(self, array: Any) -> Any:
        """The array as the result of a task, which holds it once for all that need it, and can be done again."""
        return self.client.submit(_itself, np.asarray(array), pure=False)

    def _weight(self, rows: Any) -> list[Any]:
        """Weights of each chunk, sent once."""
        if rows.sample_weight is None:
            return [None] * len(rows.chunks.futures)
        if id(rows.sample_weight) not in self._weights:
            parts = np.split(rows.sample_weight, rows.chunks.ends[:-1])
            self._weights[id(rows.sample_weight)] = [rows.sample_weight, [self._sent(part) for part in parts]]
        sent: list[Any] = self._weights[id(rows.sample_weight)][1]
        return sent

    def _begin(
        self, rows: Any, verb: str, *args: Any, then: tuple[str, Any] | None = None,
        by_part: dict[int, Any] | None = None,
    ) -> list[Any]:  # fmt: skip
        """A task for each chunk, or for those with an argument of their own. `then`: kind of the state after it."""
        before, made_of = rows.state, rows.made_of
        after = before if then is None else State(next(self._numbers), then[0])
        weights = self._weight(rows)
        futures = [
            self.client.submit(
                _chunks.apply, rows.chunks.futures[i], weights[i], i, rows.job, before, made_of, verb,
                args if by_part is None else (*args, by_part[i]), after.number, pure=False,
            )
            for i in (range(len(weights)) if by_part is None else by_part)
        ]  # fmt: skip
        if then is not None:
            rows.state, rows.made_of = after, then[1]
        return futures

    def _all(self, rows: Any, verb: str, *args: Any, **options: Any) -> list[Any]:
        futures = self._begin(rows, verb, *args, **options)
        return self._results(rows, futures, futures, options.get("by_part"))

    def _results(self, rows: Any, parts: list[Any], wanted: list[Any], chosen: Any = None) -> list[Any]:
        """What the tasks `wanted` give; an error is that of one of the `parts`, and its chunk is named."""
        from concurrent.futures import CancelledError

        from distributed import KilledWorker

        try:
            results: list[Any] = self.client.gather(wanted)
        except KilledWorker as error:
            where = self._failed(rows, parts, chosen)
            raise ClusterLostError(
                f"{where}: every worker that had it died, {error.allowed_failures + 1} in all. What kills them is "
                "likely to be that chunk: memory that does not do for it, or a file that its reader does not survive. "
                "Make smaller chunks, or raise the workers' memory limit. Where many workers may vanish at once for "
                "other reasons, raise distributed.scheduler.allowed-failures."
            ) from error
        except CancelledError as error:
            raise ClusterLostError(
                "The scheduler has forgotten the rows, and they cannot be made again: they were sent to workers that "
                "are lost. Give data that can be read again: files, or a dask array of them."
            ) from error
        return results

    def _failed(self, rows: Any, parts: list[Any], chosen: Any) -> str:
        numbers = list(range(len(rows.chunks.futures))) if chosen is None else list(chosen)
        starts = self._starts(rows)
        for i, future in zip(numbers, parts, strict=True):
            if future.status == "error" or rows.chunks.futures[i].status == "error":
                stop = int(rows.chunks.ends[i])
                where = rows.chunks.where(starts[i], stop) or f"rows {starts[i]} to {stop - 1}"
                return f"Chunk {i} of {len(rows.chunks.futures)} ({where})"
        return "A chunk"


class _Remote:
    """One value for each row, on the workers: an array for whom asks for one, as long as the rows keep their state."""

    def __init__(self, device: ClusterBackend, rows: Any, verb: str) -> None:
        self.device, self.rows, self.verb = device, rows, verb

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.concatenate(self.device._all(self.rows, self.verb)).astype(dtype, copy=False)


def _itself(array: Any) -> Any:
    return array


def _added(*parts: Partial) -> Partial:
    return functools.reduce(operator.add, parts)

