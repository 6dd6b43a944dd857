"""Centers on a card: laid out for the fast pass, and what a run of the loop keeps beside them."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import exact
from ..exact import Encoding, Float64Array
from . import _launch
from ._card import Device
from ._cuda_rows import CudaRows
from .base import Outcome, State

RECORD = np.dtype(
    [
        ("shift_sq", "f8"),
        ("n_moved", "u8"),
        ("n_rechecked", "u8"),
        ("n_empty", "u8"),
        ("n_changed", "u8"),
        ("state", "i8"),
        ("n_open", "u8"),
    ],
    align=True,
)
"""`Record` of recenter.cu."""
TALLY_WORDS = 5
"""64-bit words of a `Tally` of exact.cuh."""


class Run:
    """What one run of the loop keeps on the card: its state, its counts, and two records on their way to the host."""

    def __init__(self, device: Device, n_clusters: int) -> None:
        self.device = device
        self.state = device.zeros(1, np.int32)
        self.never = device.zeros(1, np.int32)  # the state for kernels that work after the loop, too
        self.tally = self.counted = device.zeros(TALLY_WORDS, np.uint64)  # of this card; of all, if it is not alone
        self.ticket = device.zeros(1, np.uint32)
        self.heads = device.empty(n_clusters, np.int32)
        device.clear(self.heads, 0xFF)
        self.moved_sq = device.empty(n_clusters, np.float64)
        self.drift, self.motion = device.zeros(n_clusters, np.float32), device.zeros(3, np.uint32)
        self.records = [device.zeros(1, RECORD) for _ in range(2)]
        self.on_host = [device.page_locked(1, RECORD) for _ in range(2)]
        self.copied = [device.new_event() for _ in range(2)]
        self.n_recorded = 0
        self.stage: Any = None  # the pass on tensor cores that comes first, or None
        self.pruning: Any = None  # who watches whether bounds pay, or None
        self.n_started = self.reconsider_at = 0  # iterations; when the stage is chosen again

    def go_on(self) -> None:
        """Let kernels work again after a state that halted them."""
        self.device.clear(self.state)

    def next_record(self) -> Any:
        """Where the next iteration writes its record."""
        return self.records[self.n_recorded % 2]

    def send_record(self) -> Pending:
        """Start the way of that record to the host."""
        slot = self.n_recorded % 2
        self.n_recorded += 1
        self.device.fetch(self.records[slot], self.on_host[slot])
        self.copied[slot].record(self.device.current_stream())
        return Pending(self.on_host[slot], self.copied[slot], self)


@dataclass
class Pending:
    """The outcome of an iteration that the card may not have reached yet."""

    host: Any
    copied: Any
    run: Run

    def read(self) -> Outcome:
        """Wait for the card and read."""
        self.copied.synchronize()
        record = self.host[0]
        if self.run.pruning is not None:
            self.run.pruning.hear(int(record["n_open"]))
        return Outcome(
            State(int(record["state"])),
            float(record["shift_sq"]),
            int(record["n_moved"]),
            int(record["n_rechecked"]),
            int(record["n_empty"]),
            bool(record["n_changed"]),
        )


class Centers:
    """Centers, and their form for the fast pass (see recenter.cu). Two of them take turns in a run."""

    def __init__(self, values: Float64Array, problem: _launch.Problem, run: Run, other: Centers | None = None) -> None:
        self.problem, (self.k, self.d) = problem, values.shape
        form = self.form = _launch.layout(problem)
        device, dtype = run.device, np.dtype(problem.dtype)
        with np.errstate(over="ignore"):
            self.values = device.put(np.ascontiguousarray(values.astype(dtype)))
        shift = np.zeros(form.columns)
        shift[: self.d] = values.mean(axis=0)  # near the data, so that scores stay small: it decides no bits
        self.shift = device.put(shift.astype(dtype))
        self.scores_of = device.zeros((form.rows, form.columns), np.float32)
        self.half = device.put(np.full(form.rows, np.inf, dtype=np.float32))
        self.hash = device.zeros(self.k, np.uint64)
        self.links = device.zeros(self.k, np.int32)
        self.norm = device.zeros(2, np.uint32)  # at work, of these centers
        self.bound = device.zeros(3, np.float32)
        self.run = run
        self.other = other
        if other is not None:
            other.other = self

    @property
    def for_scores(self) -> tuple[Any, ...]:
        """Arguments of the kernels that score: shift, centers, half norms."""
        return self.shift, self.scores_of, self.half

    @property
    def sizes(self) -> tuple[np.int32, np.int32, np.int32]:
        """Features, columns of `scores_of`, clusters."""
        return np.int32(self.d), np.int32(self.form.columns), np.int32(self.k)

    def published(self, certify: bool, stage: Any) -> tuple[Any, ...]:
        """Arguments of the kernels that lay out centers: what they write, for `stage` too, and what bounds are of."""
        run, constants = self.run, bound_constants(self.d)
        chains = (self.hash, run.heads, self.links, self.norm)
        packing = (None, None) if stage is None else stage.packing
        return *self.for_scores, *chains, *constants, np.int32(certify), self.bound, run.ticket, *packing


def bound_constants(n_features: int) -> tuple[np.float64, np.float64, np.float64]:
    """What `exact.score_bound` multiplies with the largest norm: the chain's roundings, those of D, underflow."""
    at_0 = exact.score_bound(n_features, 0.0, chain=exact.CHAIN)
    at_1 = exact.score_bound(n_features, 1.0, chain=exact.CHAIN)
    return np.float64(at_1.linear - at_0.linear), np.float64(at_0.quadratic), np.float64(at_0.linear)


class Sums:
    """Integer sums of all rows of a run, in the order that accumulate.cu and recenter.cu take them."""

    def __init__(self, rows: CudaRows, k: int, encoding: Encoding) -> None:
        self.rows = rows
        device, d = rows.device, rows.data.shape[1]
        self.arrays = [
            device.zeros((k, d), np.int64),
            device.zeros((k, d), np.int64) if encoding.two_limbs else None,
            device.zeros(k, np.int64),
            None if rows.sample_weight is None else device.zeros(k, np.int64),
        ]
        code = encoding.features
        weight_scale = encoding.weights.scale[0]
        self.scales = device.put(code.scale), weight_scale, np.float64(code.low_scale)
        inverse_scale = device.put(np.ldexp(1.0, -code.exponents))
        self.inverses = inverse_scale, np.float64(1 / code.low_scale), 1 / weight_scale
        self.is_empty = True

    def copy(self) -> Sums:
        """The same sums in memory of their own."""
        other = copy.copy(self)
        other.arrays = [None if a is None else self.rows.device.copy(a) for a in self.arrays]
        return other
