"""The runs of a fit from different starts, of which the best is kept; what is said of them meanwhile."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from . import seeding
from ._callbacks import Tasks
from .arrays import namespace
from .backends.base import Backend
from .checkpoint import BestRun, Saved, Watch, rng_state, write
from .exact import Float64Array
from .lloyd import Iteration, Position, Result, fit_lloyd
from .prepare import Prepared

_log = logging.getLogger("gpukmeans")


@dataclass
class Runs:
    """All that runs of Lloyd's loop from several starts are made with."""

    backend: Backend
    data: Prepared
    dtype: Any  # of X
    start: Callable[[], Float64Array]
    n_clusters: int
    rng: seeding.RandomState
    n_init: int
    threshold: float
    max_iter: int
    prints: bool
    identity: dict[str, Any] = field(default_factory=dict)  # of the fit, for checkpoints

    def best(self, tell: Any, watch: Watch, saved: Saved | None = None, tasks: Tasks | None = None) -> Result:
        """The run with the lowest inertia; of those that find the same clusters the first.

        `saved`: go on from there. The watch, or a callback, may end it before all runs are done.
        """
        best = None if saved is None or saved.best is None else self._labelled(saved.best)
        for run in range(1 if saved is None else saved.run, self.n_init + 1):
            if tasks is not None:
                tasks.begin_start(self.max_iter)
            result = self._run(run, tell, watch, best, saved.position if saved and run == saved.run else None, tasks)
            if best is None or (result.inertia < best.inertia and not self.is_same(result, best)):
                best = result
            enough = tasks is not None and tasks.end_start(result.centers)
            if enough or watch.ended:
                break
        assert best is not None
        return _as_stored(self.backend, self.data, best, self.dtype)

    def is_same(self, result: Result, best: Result) -> bool:
        """Whether the run that has just ended has found the clusters of the best one, in any order."""
        return _is_same_clustering(result.labels, best.labels, self.n_clusters)

    def _labelled(self, best: BestRun) -> Result:
        """The best run of a checkpoint, with labels."""
        for rows in self.data.blocks:
            self.backend.forget(rows)
            self.backend.assign(rows, best.centers)
        return Result(self.backend.labels(self.data.blocks), *best)

    def _run(
        self, run: int, tell: Any, watch: Watch, best: Result | None, position: Position | None, tasks: Tasks | None
    ) -> Result:
        centers = self.start() if position is None else position.now
        if self.prints:
            print("Initialization complete")

        def save(position: Position, path: Any) -> None:
            kept = None if best is None else BestRun(*(getattr(best, name) for name in BestRun._fields))
            write(path, self.identity, Saved(run, position, kept, rng_state(self.rng)))

        watch.save = save
        watch.start_run()
        result = fit_lloyd(
            self.backend,
            self.data.blocks,
            centers,
            self.data.encoding,
            threshold=self.threshold,
            max_iter=self.max_iter,
            with_inertia=self.prints,
            one_by_one=tasks is not None,
            on_iteration=functools.partial(
                _report, self.data, self.prints, tell, f"start {run} of {self.n_init}", tasks
            ),
            watch=None if watch.is_idle else watch,
            position=position,
        )
        if self.prints:
            _print_end(self.data, result, self.threshold)
        return result


def too_few_clusters(n_found: int, n_clusters: int) -> str:
    """What is said where some clusters have no row."""
    return (
        f"Number of distinct clusters ({n_found}) found smaller than n_clusters ({n_clusters}). "
        "Possibly due to duplicate points in X."
    )


def _as_stored(backend: Backend, data: Prepared, result: Result, dtype: Any) -> Result:
    """Make the result that of the centers as the model stores them.

    Centers of data among the subnormal numbers lose bits when they are scaled back; the labels must be those that
    `predict` finds without these bits.
    """
    if data.scale == 0:
        return result
    stored = data.scaled(data.unscaled(result.centers, dtype))
    if np.array_equal(stored, result.centers):
        return result
    rechecked = sum(backend.assign(rows, stored) for rows in data.blocks)
    return replace(
        result,
        labels=backend.labels(data.blocks),
        centers=stored,
        inertia=backend.total_inertia(data.blocks, stored),
        n_rechecked=result.n_rechecked + rechecked,
    )


def _is_same_clustering(labels: Any, others: Any, n_clusters: int) -> bool:
    """Whether `others` is `labels` up to a renaming of the clusters."""
    xp = namespace(labels)
    renamed = xp.full(n_clusters, -1, dtype=np.int32)
    renamed[labels] = others
    return bool(xp.array_equal(renamed[labels], others))


def in_user_units(data: Prepared, record: Iteration) -> Iteration:
    """A record of the history in the units of the data before it was scaled."""
    if data.scale == 0 and data.weight_scale == 0:
        return record
    inertia = None if record.inertia is None else data.unscaled_sq(record.inertia, weighted=True)
    return record._replace(shift_sq=data.unscaled_sq(record.shift_sq), inertia=inertia)


def _report(
    data: Prepared,
    prints: bool,
    tell: Any,
    run: str,
    tasks: Tasks | None,
    i: int,
    record: Iteration,
    centers: Callable[[], Float64Array],
) -> bool:
    record = in_user_units(data, record)
    _log.debug("iteration %d: %d rows moved, %d rechecked", i, record.n_moved, record.n_rechecked)
    if prints:
        print(f"Iteration {i}, inertia {record.inertia}.")
    if tell is not None:
        tell(f"{run}, iteration {i + 1}: {record.n_moved:,} rows moved")
    return tasks is not None and tasks.iteration(centers)


def _print_end(data: Prepared, result: Result, threshold: float) -> None:
    last = result.n_iter - 1
    if result.strict:
        print(f"Converged at iteration {last}: strict convergence.")
    elif result.converged:
        shift, tolerance = data.unscaled_sq(result.history[-1].shift_sq), data.unscaled_sq(threshold)
        print(f"Converged at iteration {last}: center shift {shift} within tolerance {tolerance}.")
