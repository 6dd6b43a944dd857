"""Streams and events."""

from __future__ import annotations

import threading
import warnings
from typing import Any

from . import device, queues
from .control import control
from .errors import CUDARuntimeError, invalid, need_device

_local = threading.local()
_next_ptr = 0x1000


def reset() -> None:
    """Every thread is back on the default stream."""
    global _local
    _local = threading.local()


class _BaseStream:
    def __init__(self, ptr: int, device_id: int) -> None:
        self.ptr, self.device_id = ptr, device_id

    @property
    def _queue(self) -> queues.Queue:
        where = device.getDevice() if self.device_id == -1 else self.device_id
        queue = queues.find(where, self.ptr)
        if queue is None:
            invalid(CUDARuntimeError, f"no stream {self.ptr} on device {where}", 400)
        return queue

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BaseStream) and self.ptr == other.ptr

    def __hash__(self) -> int:
        return self.ptr

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.ptr} (device {self.device_id})>"

    def __cuda_stream__(self) -> tuple[int, int]:
        return (0, self.ptr)

    def __enter__(self) -> _BaseStream:
        stack = _stack(self._matching_device())
        stack.append(self)
        _local.entered = [*getattr(_local, "entered", []), stack]
        return self

    def __exit__(self, *error: object) -> None:
        _local.entered.pop().pop()

    def _matching_device(self) -> int:
        current = device.getDevice()
        if self.device_id not in (-1, current):
            raise RuntimeError(
                f"The device that the stream is created on ({self.device_id})"
                f" does not match with the current device ({current})"
            )
        return current

    def use(self) -> _BaseStream:
        _stack(self._matching_device())[-1] = self
        return self

    @property
    def done(self) -> bool:
        """The first question says no, the next one yes, if there was work: a loop of questions ends."""
        queue = self._queue
        if not queue.pending:
            return True
        control.log.syncs["query"] += 1
        queue.run()
        return False

    def synchronize(self) -> None:
        control.log.syncs["stream"] += 1
        self._queue.run()

    def begin_capture(self, mode: int | None = None) -> None:
        if self.ptr == 0:
            raise RuntimeError("stand-in: the default stream cannot be captured")
        self._queue.captured = []

    def is_capturing(self) -> bool:
        return self._queue.captured is not None

    def end_capture(self) -> Graph:
        captured, self._queue.captured = self._queue.captured, None
        if captured is None:
            raise RuntimeError("stand-in: nothing was being captured")
        return Graph._of(captured)

    def record(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        if event._place is not None:
            self._queue.submit(lambda: None, needs=[event._place])


class Stream(_BaseStream):
    null: Stream
    ptds: Stream

    def __init__(
        self, null: bool = False, non_blocking: bool = False, ptds: bool = False, priority: int | None = None
    ) -> None:
        global _next_ptr
        if null or ptds:
            super().__init__(0 if null else 2, -1)
            return
        need_device()
        with queues.running:
            _next_ptr += 0x10
            super().__init__(_next_ptr, device.getDevice())
        queues.add(queues.Queue(self.device_id, self.ptr, blocking=not non_blocking))

    @classmethod
    def from_external(cls, obj: Any) -> Stream:
        if not hasattr(obj, "__cuda_stream__"):
            raise TypeError(f"{obj!r} does not implement __cuda_stream__")
        stream = cls.__new__(cls)
        _BaseStream.__init__(stream, obj.__cuda_stream__()[1], -1)
        stream._foreign = obj
        return stream


class ExternalStream(_BaseStream):
    def __init__(self, ptr: int, device_id: int = -1) -> None:
        warnings.warn(
            "ExternalStream is deprecated. Use Stream.from_external() instead to interoperate with external streams"
            " that implement the CUDA stream protocol.",
            DeprecationWarning,
            stacklevel=2,
        )
        super().__init__(ptr, device_id)


Stream.null, Stream.ptds = Stream(null=True), Stream(ptds=True)


class Graph:
    _operations: list[queues.Operation]

    @classmethod
    def _of(cls, operations: list[queues.Operation]) -> Graph:
        self = cls.__new__(cls)
        self._operations = operations
        return self

    def launch(self, stream: _BaseStream | None = None) -> None:
        queue = (get_current_stream() if stream is None else stream)._queue
        control.log.graphs += 1
        for op in self._operations:
            if any(block.freed for block in op.touches):
                raise RuntimeError("stand-in: a graph works on memory that has been freed")
            control.log.launches.update([op.kernel] * bool(op.kernel))
            queue.submit(op.run, touches=op.touches)


class Event:
    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None:
        if interprocess and not disable_timing:
            raise ValueError("Timing must be disabled for interprocess events")
        need_device()
        self._place: queues.Place | None = None
        self._device, self._timed = device.getDevice(), not disable_timing

    def _is_done(self) -> bool:
        return self._place is None or self._place.queue.done >= self._place.n

    @property
    def done(self) -> bool:
        """As Stream.done."""
        if self._is_done():
            return True
        control.log.syncs["query"] += 1
        self._run()
        return False

    def _run(self) -> None:
        if self._place is not None:
            self._place.queue.run(self._place.n)

    def record(self, stream: _BaseStream | None = None) -> None:
        queue = (get_current_stream() if stream is None else stream)._queue
        if queue.device != self._device:
            invalid(CUDARuntimeError, f"event of device {self._device} on a stream of device {queue.device}", 400)
        self._place = queue.submit(lambda: None)

    def synchronize(self) -> None:
        control.log.syncs["event"] += 1
        self._run()


def _stack(device_id: int) -> list[_BaseStream]:
    stacks = _local.__dict__.setdefault("stacks", {})
    return stacks.setdefault(device_id, [Stream.null])


def get_current_stream(device_id: int = -1) -> _BaseStream:
    return _stack(device.getDevice() if device_id == -1 else device_id)[-1]


def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    for event in (start_event, end_event):
        if not event._timed or event._place is None:
            invalid(CUDARuntimeError, "an event without timing or never recorded", 400)
        if not event._is_done():
            invalid(CUDARuntimeError, "an event that is not done", 600)
    return 1.0


def queue_for(stream: _BaseStream | None, device_id: int) -> queues.Queue:
    """The queue of a stream that is to work on memory of a device."""
    queue = (get_current_stream() if stream is None else stream)._queue
    if queue.device != device_id:
        invalid(CUDARuntimeError, f"memory of device {device_id} on a stream of device {queue.device}", 400)
    return queue
