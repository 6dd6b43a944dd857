"""From a model and its data to the plan of a fit, and to rows that keep to it."""

from __future__ import annotations

import os
from typing import Any

from .backends import Work, available_backends, get_backend
from .backends._threads import effective_n_threads
from .backends.base import Backend
from .halves import Halves
from .memory import SMALLEST_BLOCK, Job, Plan, as_text, cap_of, fit_plan
from .streaming import Streamed

TYPICAL_ITERATIONS = 20
"""What a fit is taken to need where a backend is chosen by the size of the work."""


def chosen_backend(model: Any, X: Any, n_init: int) -> Backend:
    """The backend of a fit."""
    n_passes = n_init * min(model.max_iter, TYPICAL_ITERATIONS)
    return get_backend(model.backend, model.precision, Work.of(X, model.n_clusters, n_passes=n_passes))


def plan_of(model: Any, X: Any, init: Any, n_init: int, weighted: bool, backend: Backend) -> Plan:
    """What a fit of checked data would do; raises ValueError where `max_memory` is too little."""
    start = init if isinstance(init, str) else "array"
    job = _job(X, model.n_clusters, start, n_init, weighted, backend)
    kernel = (type(backend).__doc__ or "").partition("\n")[0].rstrip(".")
    why = _why(model.backend, backend.name)
    return fit_plan(job, X, cap_of(model.max_memory), why=why, kernel=kernel, with_variance=model.tol > 0)


def as_planned(X: Any, plan: Plan) -> Any:
    """The rows as the plan wants them: all of them in memory, or streamed in blocks of some size."""
    if not isinstance(X, Streamed):
        return X
    if plan.mode == "in memory":
        return X.whole()
    X.block_rows, X.keeps_block_sums, X.may_reside = plan.block_rows, plan.keeps_sums, plan.resident
    return X


def limit_blocks(X: Streamed, max_memory: Any, n_clusters: int, backend: Backend, per_row: int) -> None:
    """Keep to the cap in one pass or some over streamed rows, of which `per_row` bytes are held; or refuse it."""
    cap = cap_of(max_memory)
    if cap is None:
        return
    job = _job(X, n_clusters, "array", 1, False, backend)
    left = cap - job.fixed - per_row * X.shape[0]
    block_rows = left // job.per_block_row()
    smallest = min(X.block_rows, max(1, SMALLEST_BLOCK // job.row_bytes))
    if block_rows < smallest:
        needed = cap - left + smallest * job.per_block_row()
        held = f", {per_row} for each of {X.shape[0]:,} rows (none with predict(..., out=FILE))" if per_row else ""
        needs = f"this needs {as_text(needed)} ({needed:,} bytes){held}."
        raise ValueError(f"max_memory={as_text(cap)} is too little: {needs}")
    X.block_rows, X.may_reside = min(X.block_rows, block_rows), False


def _job(X: Any, n_clusters: int, init: str, n_init: int, weighted: bool, backend: Backend) -> Job:
    n_samples, n_features = X.shape
    workers = effective_n_threads() if backend.name == "numba" else 1
    stored = 2 if isinstance(X, Halves) and backend.keeps_halves else 0
    sizes = (n_samples, n_features, n_clusters, X.dtype.itemsize)
    return Job(*sizes, init, n_init, weighted, backend.name, workers, backend.n_shares(X), stored)


def _why(asked: str, chosen: str) -> str:
    if asked != "auto":
        return "asked for"
    if os.environ.get("GPUKMEANS_BACKEND"):
        return "GPUKMEANS_BACKEND says so"
    reasons = available_backends()
    before = list(reasons)[: list(reasons).index(chosen)]
    passed = "; ".join(f"not {name}: {reasons[name] or 'its card would wait for the data'}" for name in before)
    return "the first that works here and suits the work" + (f" ({passed})" if passed else "")
