"""The label of every row on an NVIDIA card: a fast pass, then the rows that it left open."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from ..exact import Float64Array
from . import _cuda_pruning, _launch, _tensor_config
from ._cuda_centers import TALLY_WORDS, Centers, Run
from ._cuda_rows import CudaRows, on_card
from ._cuda_seeding import SeedingVerbs
from ._cuda_stages import Stage

_log = logging.getLogger("gpukmeans")


class LabelVerbs(SeedingVerbs):
    """What assigns: float32 and what it leaves open, or tensor cores, float32 for what they leave open, and so on.

    Once bounds prove that most rows keep their labels, only the others are scored.
    """

    @property
    def is_exact(self) -> bool:
        """Whether labels are certified, or decided in float64."""
        return self.precision == "exact"

    # ---- centers
    def load(self, centers: Any, blocks: Sequence[Any]) -> Centers:
        loaded: Centers = self._load(blocks[0], centers, True)
        return loaded

    @on_card
    def _load(self, rows: CudaRows, values: Float64Array, in_turns: bool) -> Centers:
        problem = rows.problem(rows.n_samples, len(values))
        run = Run(self.device, len(values))
        centers = Centers(values, problem, run)
        if in_turns:
            Centers(values, problem, run, centers)
        run.stage = self._stage_of_precision(rows, problem, centers)
        if run.stage is not None:
            run.stage.reserve(rows.problem(rows.block))
        self._publish(problem, centers, run.stage)
        return centers

    def _publish(self, problem: _launch.Problem, centers: Centers, stage: Stage | None) -> None:
        """Lay the centers out for the fast pass; it may be done again, for another stage."""
        args = (centers.values, *centers.published(self.is_exact, stage), *centers.sizes)
        self.device.launch(_launch.centers("publish_centers", problem), *args)

    def _stage_of_precision(self, rows: CudaRows, problem: _launch.Problem, centers: Centers) -> Stage | None:
        """The only stage of a precision that names the type of one."""
        if self.precision not in _tensor_config.KINDS:
            return None
        config = self._config(rows, problem, self.precision)
        if config is None:
            _log.debug("precision %s in float32: no tensor cores, or too many features", self.precision)
        return None if config is None else Stage(config, centers, certify=False)

    def _config(self, rows: CudaRows, problem: _launch.Problem, kind: str) -> _tensor_config.Config | None:
        """How this card makes the pass in a type, if it does."""
        if kind not in self.device.tensor_types:
            return None
        found = _tensor_config.config(problem, self.device.card, kind)
        # long rows that are streamed wait for the bus, and what the pass holds of them is memory that they lack
        return None if found is not None and found.is_wide and rows.is_streamed else found

    def _loaded(self, rows: CudaRows, centers: Any) -> Centers:
        if isinstance(centers, Centers):
            return centers
        loaded: Centers = self._load(rows, centers, False)
        self._reconsider(rows, loaded)
        return loaded

    def unload(self, centers: Centers) -> Float64Array:
        with self.device:
            values: Float64Array = self.device.get(centers.values).astype(np.float64)
            return values

    # ---- the first stage
    def _reconsider(self, rows: CudaRows, centers: Centers) -> None:
        """Choose how labels are found by what each way leaves open of a sample; again after 2, 4, 8, ... iterations.

        It decides no bits. What it takes is a copy of 4,096 rows, once, and a few short launches that are waited for.
        """
        run = centers.run
        if run.pruning is not None and run.pruning.is_over:
            _log.debug("iteration %d: bounds are given up, they leave too many rows open", run.n_started)
            run.pruning = rows.bounds = rows.batch = None
        if not self.is_exact or not self.device.tensor_types or run.n_started < run.reconsider_at:
            return
        run.reconsider_at = max(2, 2 * run.n_started)
        problem, stages = rows.problem(rows.n_samples, centers.k), {}

        def left_open(config: _tensor_config.Config) -> float:
            sample, stage = rows.sample(), Stage(config, centers, certify=True)
            stages[config.kind] = stage
            sizes, found = rows.problem(len(sample.x), centers.k), (sample.left_open, sample.count)
            stage.reserve(rows.problem(max(rows.block, len(sample.x))))
            self._publish(problem, centers, stage)
            self.device.clear(sample.count)
            stage.label(sizes, centers, sample.x, sample.labels, found, run.never)
            return float(self.device.get(sample.count)[0]) / len(sample.x)

        kinds = [kind for kind in self.device.tensor_types if self._config(rows, problem, kind) is not None]
        chosen: _tensor_config.Config | None = None
        shares: dict[str, float] = {}
        with self.device, self._memory_for("tensor cores"):
            chosen, shares = _tensor_config.choose(problem, self.device.card, kinds, left_open)
        now = None if run.stage is None else run.stage.config
        if shares or chosen != now:
            listed = ", ".join(f"{kind} would leave {share:.2%} of the rows open" for kind, share in shares.items())
            name = "float32" if chosen is None else chosen.kind
            _log.debug("iteration %d: first stage %s (%s)", run.n_started, name, listed)
        if chosen != now:
            run.stage = None if chosen is None else stages[chosen.kind]
            rows.batch = None  # a graph launches what it was made of
        share = 0.0 if chosen is None else shares.get(chosen.kind, 0.0)
        self._reconsider_bounds(rows, centers, _tensor_config.clocks(problem, self.device.card, chosen, share))

    @contextmanager
    def _memory_for(self, what: str) -> Iterator[None]:
        """Do without where the card's memory runs out."""
        try:
            yield
        except self.device.failures as error:
            if not self.device.is_out_of_memory(error):
                raise
            _log.debug("no memory for %s: %s", what, error)

    # ---- bounds
    def _reconsider_bounds(self, rows: CudaRows, centers: Centers, dense: float) -> None:
        """Keep bounds from here on where that pays beside passes of so many clocks; they decide no bits."""
        problem, card, run = rows.problem(rows.n_samples, centers.k), self.device.card, centers.run
        if run.pruning is not None and rows.bounds is not None:
            run.pruning.dense = dense
            return
        # streamed rows cross the bus in any case; before 2 iterations nothing is known of how far centers move;
        # of several cards only the first one tells the host how many rows are open
        is_alone = run.counted is run.tally
        if not self.device.prunes or not is_alone or rows.is_streamed or run.n_started < 2:
            return
        run.pruning = None
        if not _cuda_pruning.pays(problem, card, dense, 0.0):
            return
        with self.device, self._memory_for("bounds"):
            share = self._open_share(rows, centers)
            _log.debug("iteration %d: bounds would leave %.2f%% of the rows open", run.n_started, 100 * share)
            if _cuda_pruning.pays(problem, card, dense, share):
                rows.bounds, run.pruning = self._no_bounds(rows.n_samples), _cuda_pruning.Watch(problem, card, dense)
                rows.batch = None

    def _no_bounds(self, n_samples: int) -> Any:
        """Memory for bounds, of which nothing is known yet."""
        bounds = self.device.empty((n_samples, 2), np.float32)
        self.device.clear(bounds, 0xFF)  # NaN
        return bounds

    def _open_share(self, rows: CudaRows, centers: Centers) -> float:
        """Share of the rows of a sample that bounds leave open if all centers move again as they did last."""
        sample, m = rows.sample(), len(rows.sample().x)
        tally, labels = self.device.zeros(TALLY_WORDS, np.uint64), self.device.empty(m, np.int32)
        bounds = self._no_bounds(m)
        for before, after in ((sample.labels, labels), (labels, sample.labels)):
            self._prune(centers, sample.x, before, bounds, after, tally, centers.run.never)
        return (int(self.device.get(tally)[4]) - m) / m

    def _prune(
        self, centers: Centers, x: Any, before: Any, bounds: Any, labels: Any, tally: Any, halted: Any
    ) -> None:
        """Labels of one block, of which only the rows that bounds leave open are read."""
        run, problem = centers.run, replace(centers.problem, n_samples=len(x))
        args = (x, centers.values, *centers.for_scores, centers.bound, run.drift, run.motion)
        args = (*args, before, bounds, labels, tally, halted, np.int64(len(x)), *centers.sizes)
        self.device.launch(_launch.prune(problem, self.device.card), *args)

    # ---- labels
    def _label(self, rows: CudaRows, centers: Centers, x: Any, labels: Any, halted: Any) -> None:
        """Labels of one block: the fast pass, then the rows that it left open."""
        problem, run, card = rows.problem(len(x), centers.k), centers.run, self.device.card
        scratch = rows.scratch()
        self.device.clear(scratch.count)
        found = (scratch.uncertain, scratch.count)
        if run.stage is None:
            args = (x, *centers.for_scores, centers.bound, labels, *found, halted, np.int64(len(x)))
            sizes = (np.int32(centers.d), np.int32(centers.form.columns), np.int32(centers.form.rows))
            self.device.launch(_launch.assign(problem, card), *args, *sizes)
        else:
            run.stage.label(problem, centers, x, labels, found, halted)
        if self.is_exact:
            # after tensor cores float32 first, which certifies most of them
            of_stage = () if run.stage is None else (centers.bound,)
            left = _launch.recheck(problem, card) if run.stage is None else _launch.resolve(problem, card)
            args = (x, centers.values, *centers.for_scores, *of_stage, *found, labels, run.tally, halted)
            self.device.launch(left, *args, *centers.sizes)

    @on_card
    def assign(self, rows: CudaRows, centers: Any) -> int:
        centers = self._loaded(rows, centers)
        labels, run = rows.kept("labels", np.int32), centers.run
        rows.scratch()  # before anything is changed
        rows.bounds = None  # they were of other labels
        self.device.clear(run.tally)
        for part, x, _ in rows.passes():
            self._label(rows, centers, x, labels[part], run.never)
        return int(self.device.get(run.tally)[1])
