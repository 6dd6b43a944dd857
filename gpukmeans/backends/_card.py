"""A card as the CUDA verbs see it: memory, copies, streams and launches of whichever library drives it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ._launch import Card, Launch


class Device(ABC):
    """One card, through one library. Used as a context it is the current one; work goes to the current stream.

    Attributes
    ----------
    id : int
        Index of the card.
    card : Card
        The properties that launches depend on.
    failures : tuple of exception types
        What the library raises, among others, when the card's memory runs out.
    tensor_types : collection of str
        Types that there are kernels for tensor cores in, on cards that have such cores.
    prunes : bool
        Whether there is a kernel that skips rows by bounds.
    """

    id: int
    card: Card
    failures: ClassVar[tuple[type[BaseException], ...]]
    tensor_types: ClassVar[Collection[str]] = ()
    prunes: ClassVar[bool] = False

    @abstractmethod
    def __enter__(self) -> Self:
        """Make this card the current one."""

    @abstractmethod
    def __exit__(self, *exception: object) -> None:
        """Make the one before the current one again."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether one of the `failures` says that the card's memory has run out."""
        return True

    @abstractmethod
    def holds(self, x: Any) -> bool:
        """Whether `x` is an array of this library: then it is used in place."""

    @abstractmethod
    def address(self, array: Any) -> int:
        """Where an array begins."""

    # ---- memory
    @abstractmethod
    def empty(self, shape: Any, dtype: Any) -> Any:
        """New memory. Of a structured dtype, in the form in which kernels take it."""

    @abstractmethod
    def clear(self, array: Any, byte: int = 0) -> None:
        """Set all bytes, in the order of the stream."""

    def zeros(self, shape: Any, dtype: Any) -> Any:
        """New memory, cleared."""
        array = self.empty(shape, dtype)
        self.clear(array)
        return array

    @abstractmethod
    def put(self, values: NDArray[Any]) -> Any:
        """A copy of a NumPy array on the card."""

    @abstractmethod
    def copy(self, array: Any) -> Any:
        """A copy on the card of an array there."""

    @abstractmethod
    def get(self, array: Any, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """A copy of an array on the host (in `out`); waits for it."""

    @abstractmethod
    def take(self, array: Any, indices: NDArray[np.int64]) -> NDArray[Any]:
        """Some rows of an array, on the host."""

    @abstractmethod
    def n_used(self, labels: Any) -> int:
        """How many different labels there are, for labels from 0 on."""

    @abstractmethod
    def memory(self) -> tuple[int, int]:
        """Bytes that are free, and bytes in all."""

    @abstractmethod
    def name(self) -> str:
        """The card's name."""

    # ---- streams
    @abstractmethod
    def page_locked(self, shape: Any, dtype: Any) -> NDArray[Any]:
        """Memory of the host that copies on a stream may read and write later."""

    @abstractmethod
    def current_stream(self) -> Any:
        """The stream that kernels are launched on."""

    @abstractmethod
    def new_stream(self) -> Any:
        """A stream for copies beside the kernels; it has `synchronize`."""

    @abstractmethod
    def new_event(self) -> Any:
        """An event; it has `record(stream)` and `synchronize`."""

    @abstractmethod
    def wait(self, stream: Any, event: Any) -> None:
        """Let what is queued on the stream from here on wait for the event."""

    @abstractmethod
    def send(self, values: NDArray[Any], to: Any, stream: Any) -> None:
        """Copy page-locked values to the card on a stream."""

    @abstractmethod
    def fetch(self, array: Any, to: NDArray[Any]) -> None:
        """Copy an array to page-locked memory on the current stream."""

    def capture(self, work: Callable[[], None]) -> Any:
        """A graph of the launches that `work` makes, which are not made; its `launch()` makes them. None: no graphs."""
        return None

    # ---- beside other cards of the same library
    def default_stream(self) -> Any:
        """A context in which the current stream is the card's default one, in any thread."""
        raise NotImplementedError

    def bring(self, array: Any, to: Any) -> None:
        """Copy an array, which may lie on another card, to an array of the same size on this one."""
        raise NotImplementedError

    def add(self, values: Any, to: Any) -> None:
        """Add integers to others, both on this card."""
        raise NotImplementedError

    @abstractmethod
    def launch(self, launch: Launch, *args: Any) -> None:
        """Run a kernel on the current stream; None is a null pointer."""
