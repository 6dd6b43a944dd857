"""Several cards as one device: each has a share of the rows, all have the centers, and sums go from card to card.

In an iteration every card labels its rows and sums them up. The first one fetches the sums of the others, integers that
add exactly, and adds them; the others fetch the total; then each makes the new centers, and the state of the loop, of
the same numbers. So the cards stay alike, and nothing has to be said to them by the host, which reads the record of the
first card one iteration late, as with one card. How many there are, and where a share ends, changes no bit.

A thread of the host for each card launches and waits for it, so the cards work at the same time. Where rows are read
from a source the cards take turns in the passes that read: the reader is what they would wait for.
"""

from __future__ import annotations

import copy
import functools
import operator
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from ..errors import OutOfMemoryError
from ..exact import Encoding, Float64Array, FloatArray, Int64Array
from . import _cuda_rows
from ._card import Device
from ._cuda_centers import TALLY_WORDS, Centers, Sums
from ._cuda_rows import CudaRows
from ._cuda_verbs import CudaBackend
from ._spread import Spread
from .base import Backend, Partial, Rows, Summary

LEAST_ROWS = 1 << 14
"""Rows that a card is given at least; fewer are not worth its part of the exchange."""


def ends_of_shares(data: Any, n_cards: int) -> Int64Array:
    """Where the share of each card ends; there may be fewer shares than cards."""
    n, unit = data.shape[0], 1
    if hasattr(data, "block_rows"):  # of a source: blocks follow each other as its reader has begun to read them
        block = _cuda_rows.PASS_ROWS if data.may_reside else data.block_rows
        unit = max(1, min(block, _cuda_rows.STAGE_BYTES // (data.shape[1] * data.dtype.itemsize)))
    units = -(-n // unit)
    n_shares = max(1, min(n_cards, units, n // LEAST_ROWS))
    return np.array([min(n, unit * (units * (i + 1) // n_shares)) for i in range(n_shares)], dtype=np.int64)


class Share(CudaRows):
    """The rows of one card; `turn` is held while they are copied to it."""

    def __init__(self, data: Any, start: int, sample_weight: Any, device: Device, turn: Any) -> None:
        super().__init__(data, start, sample_weight, device)
        self.turn = turn

    def _staged(self, most: int, into: Any = None) -> Generator[tuple[slice, Any], None, None]:
        with self.turn:
            yield from super()._staged(most, into)


class CardsRows(Rows):
    """The rows of a data set on several cards: consecutive shares, about equal ones."""

    def __init__(self, data: Any, start: int, sample_weight: Any, device: CardsBackend) -> None:
        super().__init__(data, start, sample_weight, labels=None)  # type: ignore[arg-type]
        self.device = device
        self.ends = ends_of_shares(data, len(device.cards))
        self._of_source = hasattr(data, "block_rows")
        turn = threading.RLock() if self._of_source else nullcontext()  # a source is read in one place at a time
        self.parts = [
            Share(data[low:high], low, None if sample_weight is None else sample_weight[low:high], card.device, turn)
            for low, high, card in zip([0, *self.ends[:-1].tolist()], self.ends.tolist(), device.cards, strict=False)
        ]
        self.totals: list[int] = []
        if self._of_source and not data.may_reside:
            for part in self.parts:
                part.may_reside, part.block = False, min(part.block, data.block_rows)

    def take(self, indices: Any) -> FloatArray:
        """Rows by index, on the host, shape (n_indices, n_features)."""
        return self.device.take(self, np.asarray(indices, dtype=np.intp))

    @property
    def is_read(self) -> bool:
        """Whether a pass reads rows from a source: it is read in order if the cards do not pass over it at once."""
        return self._of_source and any(part.resident is None for part in self.parts)


class Replicas(tuple[Centers, ...]):
    """The same centers on each card."""


class JointSums(Sums):
    """Sums of the rows of one card, and room for those of all, with what they count: each in one piece, one copy."""

    def __init__(self, rows: CudaRows, k: int, encoding: Encoding, *, fetches: bool) -> None:
        super().__init__(rows, k, encoding)
        self.total = copy.copy(self)  # as `recenter` and `relocate` take sums
        self.words, self.tally = self._lay_out()
        self.total_words, self.total_tally = JointSums._lay_out(self.total)
        self.landing = rows.device.empty(self.words.size, np.int64) if fetches else None  # for those of another card
        self.ready = rows.device.new_event()

    def _lay_out(self) -> tuple[Any, Any]:
        """Put the arrays end to end, and a tally behind them: all words, and those of the tally."""
        sizes = [0 if a is None else a.size for a in self.arrays]
        words = self.rows.device.zeros(sum(sizes) + TALLY_WORDS, np.int64)
        ends = np.cumsum(sizes).tolist()
        self.arrays = [
            None if a is None else words[end - a.size : end].reshape(a.shape)
            for a, end in zip(self.arrays, ends, strict=True)
        ]
        return words, words[ends[-1] :]


class CardsBackend(Spread):
    """Several cards, each through a backend of its own.

    Parameters
    ----------
    cards : sequence of CudaBackend
    precision : str
    """

    def __init__(self, cards: Sequence[CudaBackend], precision: str = "exact") -> None:
        super().__init__(precision)
        self.cards = list(cards)
        self._threads = ThreadPoolExecutor(len(self.cards), thread_name_prefix="gpukmeans-card")

    # ---- the cards
    @contextmanager
    def _on(self, i: int) -> Iterator[Device]:
        """Card `i` and its default stream: the same one in every thread of the host."""
        device = self.cards[i].device
        with device, device.default_stream():
            yield device

    def _each(self, rows: CardsRows, work: Callable[[int, Any, Any], Any], which: Any = None) -> list[Any]:
        """``work(i, card, part)`` for each part (or for those in `which`), at the same time."""

        def run(i: int) -> Any:
            with self._on(i):
                try:
                    return work(i, self.cards[i], rows.parts[i])
                except OutOfMemoryError as error:
                    raise OutOfMemoryError(self._which_card(rows, i, error)) from error

        chosen = list(range(len(rows.parts)) if which is None else which)
        if len(chosen) == 1 or rows.is_read:
            return [run(i) for i in chosen]
        begun = [self._threads.submit(run, i) for i in chosen]
        wait(begun)  # for all: no card is left at work when an error leaves here
        return [done.result() for done in begun]

    def _which_card(self, rows: CardsRows, i: int, error: BaseException) -> str:
        low, high = self._starts(rows)[i], rows.ends[i] - 1
        return f"Card {self.cards[i].device.id}, {i + 1} of {len(rows.parts)} with rows {low} to {high}: {error}"

    def _all(
        self, rows: Any, verb: str, *args: Any, by_part: dict[int, Any] | None = None, **options: Any
    ) -> list[Any]:
        def work(i: int, card: Any, part: Any) -> Any:
            given = [a[i] if isinstance(a, Replicas) else a for a in args]
            own = () if by_part is None else (by_part[i],)
            return part.take(*own) if verb == "take" else getattr(card, verb)(part, *given, *own, **options)

        return self._each(rows, work, by_part)

    # ---- data
    def blocks(self, X: Any, sample_weight: Float64Array | None = None) -> list[Rows]:
        """One handle: it divides the rows itself."""
        return [self.rows(X, sample_weight)]

    def rows(self, data: Any, sample_weight: Float64Array | None = None, start: int = 0) -> Rows:
        return CardsRows(data, start, sample_weight, self)

    def forget(self, rows: Any) -> None:
        for part in rows.parts:
            part.closest = part.seeding = part.sqdist = None  # whoever chose the start does not know the parts
        self._all(rows, "forget")

    def n_shares(self, X: Any) -> int:
        return len(ends_of_shares(X, len(self.cards)))

    def for_few(self) -> Backend:
        return self.cards[0]

    def labels(self, blocks: Sequence[Any]) -> Any:
        return self._gathered(blocks[0], "labels", np.int32)

    def sqdist(self, blocks: Sequence[Any]) -> Any:
        return self._gathered(blocks[0], "sqdist", np.float64)

    def _gathered(self, rows: CardsRows, name: str, dtype: Any) -> Any:
        """What the cards keep for each row, on the host."""
        values, starts = np.empty(rows.n_samples, dtype), self._starts(rows)

        def fetch(i: int, card: CudaBackend, part: CudaRows) -> None:
            card.device.get(getattr(part, name), values[starts[i] : rows.ends[i]])

        self._each(rows, fetch)
        return values

    def summary(self, rows: Any) -> Summary:
        of_all: Summary = functools.reduce(operator.or_, self._all(rows, "summary"))
        return of_all

    # ---- the loop
    def lag(self, blocks: Sequence[Any]) -> int:
        """As with one card."""
        return 0 if any(part.is_streamed for part in blocks[0].parts) else 1

    def load(self, centers: Float64Array, blocks: Sequence[Any]) -> Any:
        return Replicas(self._each(blocks[0], lambda i, card, part: card.load(centers, [part])))

    def unload(self, centers: Replicas) -> Float64Array:
        with self._on(0):
            return self.cards[0].unload(centers[0])

    def assign(self, rows: Any, centers: Any) -> int:
        return sum(self._all(rows, "assign", centers))

    def step(self, rows: Any, centers: Any, encoding: Encoding) -> Any:
        """Nothing waits in here, unless rows are streamed or a type of tensor cores is chosen."""

        def begin(i: int, card: CudaBackend, part: CudaRows) -> JointSums:
            own = centers[i]
            card._reconsider(part, own)
            if part.running is None:
                part.running = part.in_memory(lambda: JointSums(part, own.k, encoding, fetches=i == 0))
            joint: JointSums = part.running
            own.run.tally = joint.tally
            card.step(part, own, encoding)
            own.run.n_started += 1
            joint.ready.record(card.device.current_stream())
            return joint

        joints: list[JointSums] = self._each(rows, begin)
        self._exchange(joints, centers)
        return [joint.total for joint in joints]

    def _exchange(self, joints: list[JointSums], centers: Replicas) -> None:
        """Add up the sums of all cards on the first one, and give them to the others; what is counted is counted on.

        Nothing waits: streams wait for events of each other. Sums that have been fetched change only in the next step,
        which comes after the total on every card. An iteration of a loop that has stopped counts nothing and changes no
        sum, so that the total stays as it is.
        """
        first, others = joints[0], joints[1:]
        with self._on(0) as device:
            stream = device.current_stream()
            for joint in others:  # first of all: the others have then also fetched the total before this one
                device.wait(stream, joint.ready)
            device.bring(first.words, first.total_words)
            for joint in others:
                device.bring(joint.words, first.landing)
                device.add(first.landing, first.total_words)
            first.ready.record(stream)
        for i, joint in enumerate(joints):
            with self._on(i) as device:
                if i:
                    device.wait(device.current_stream(), first.ready)
                    device.bring(first.total_words, joint.total_words)
                device.clear(joint.tally)
                device.add(joint.total_tally, centers[i].run.counted)

    def sums(self, partial: Any) -> Partial:
        with self._on(0):
            return self.cards[0].sums(partial[0])

    def recenter(
        self, partial: Any, centers: Any, encoding: Encoding, threshold: float, *, relocated: bool = False
    ) -> tuple[Any, Any]:
        made = []
        for i, (total, own) in enumerate(zip(partial, centers, strict=True)):
            with self._on(i):
                made.append(self.cards[i].recenter(total, own, encoding, threshold, relocated=relocated))
        return Replicas(after for after, _ in made), made[0][1]

    # ---- empty clusters
    def empty_clusters(self, partial: Any, encoding: Encoding) -> list[int]:
        with self._on(0):
            return self.cards[0].empty_clusters(partial[0], encoding)

    def relocate(self, partial: Any, *moves: Any) -> Any:
        sums = []
        for i, total in enumerate(partial):
            with self._on(i):
                sums.append(self.cards[i].relocate(total, *moves))
        return sums

    # ---- after the loop
    def own_sqdist(self, rows: Any, centers: Any) -> float:
        return float(max(self._all(rows, "own_sqdist", centers)))

    def transform(self, rows: Any, centers: Float64Array) -> Any:
        parts = self._all(rows, "transform", centers)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    # ---- seeding
    def seed_update(self, rows: Any, center: FloatArray, first: bool) -> float:
        return float(max(self._all(rows, "seed_update", center, first)))
