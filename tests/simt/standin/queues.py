"""Queues of work behind streams. Work is lazy: it runs when something waits for it.

An operation has a place in its queue and may need other queues to have reached a place first; all needs point to work
that was submitted earlier. That order is all that CUDA promises, so anything a test sees beyond it is a forgotten wait.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .control import control

running = threading.RLock()  # threads of the host share the machine, and a kernel's library runs one launch at a time


@dataclass
class Place:
    """After the first `n` operations of a queue."""

    queue: Queue
    n: int


@dataclass
class Operation:
    run: Callable[[], Any]
    needs: list[Place]
    touches: tuple[Any, ...]  # the blocks of device memory it uses
    kernel: str = ""  # the name, if it is one


class Queue:
    """What one CUDA stream is on the device."""

    going_ahead = False  # of all of them

    def __init__(self, device: int, ptr: int, *, blocking: bool) -> None:
        self.device, self.ptr, self.blocking = device, ptr, blocking
        self.pending: deque[Operation] = deque()
        self.done = 0
        self.captured: list[Operation] | None = None  # while it is captured nothing is queued

    @property
    def end(self) -> int:
        return self.done + len(self.pending)

    def here(self) -> Place:
        """The place after all that was submitted."""
        return Place(self, self.end)

    def submit(
        self, run: Callable[[], Any], needs: Iterable[Place] = (), touches: Iterable[Any] = (), kernel: str = ""
    ) -> Place:
        """Queue an operation. The legacy default stream and the blocking streams wait for each other."""
        with running:
            if self.captured is not None:
                if list(needs):
                    raise RuntimeError("stand-in: a stream that is captured waits for nothing")
                self.captured.append(Operation(run, [], tuple(touches), kernel))
                return self.here()
            return self._submit(run, needs, touches)

    def _submit(self, run: Callable[[], Any], needs: Iterable[Place], touches: Iterable[Any]) -> Place:
        implied = [q.here() for q in queues.values() if q.device == self.device and self._orders(q) and q.pending]
        self.pending.append(Operation(run, [*implied, *needs], tuple(touches)))
        return self.here()

    def _orders(self, other: Queue) -> bool:
        return self is not other and self.blocking and other.blocking and 0 in (self.ptr, other.ptr)

    def run(self, n: int | None = None) -> None:
        """Run the first n operations (all of them), and before each one what it needs."""
        if self.captured is not None:
            raise RuntimeError("stand-in: a stream that is captured cannot be waited for")
        with running:
            n = self.end if n is None else n
            while self.done < n:
                self._step()

    def _step(self) -> None:
        op = self.pending[0]
        for place in op.needs:
            place.queue.run(place.n)
        for block in op.touches:  # freed, and nothing orders its reuse after this: it may have been reused already
            freed = block.freed
            if freed and freed.queue is not self and freed.queue.done < freed.n and not reaches(freed, self):
                freed.queue.run(freed.n)
        if control.streams == "ahead" and not Queue.going_ahead:
            self._let_others_go_ahead()
        self._run_alone(op)

    def _let_others_go_ahead(self) -> None:
        """As far as they may without the next operation here. What they need is run in order, or this would nest."""
        Queue.going_ahead = True
        try:
            for other in list(queues.values()):
                while other is not self and other.pending and not reaches(Place(other, other.done + 1), self):
                    other._run_alone()
        finally:
            Queue.going_ahead = False

    def _run_alone(self, op: Operation | None = None) -> None:
        op = op or self.pending[0]
        for place in op.needs:
            place.queue.run(place.n)
        if not self.pending or self.pending[0] is not op:
            return  # another queue that ran ahead has run it
        self.pending.popleft()
        self.done += 1
        op.run()


def reaches(place: Place, queue: Queue) -> bool:
    """Whether running up to a place needs the next operation of a queue."""
    furthest: dict[Queue, int] = {}
    todo = [place]
    while todo:
        p = todo.pop()
        start = max(furthest.get(p.queue, 0), p.queue.done)
        if p.n <= start:
            continue
        if p.queue is queue:
            return True
        furthest[p.queue] = p.n
        for i in range(start, p.n):
            todo += p.queue.pending[i - p.queue.done].needs
    return False


queues: dict[tuple[int, int], Queue] = {}  # by device and stream pointer


def find(device: int, ptr: int) -> Queue | None:
    """The queue of a stream's pointer; 0 and 1 are the legacy default stream, 2 that of the thread."""
    ptr = 0 if ptr == 1 else ptr
    if ptr in (0, 2) and (device, ptr) not in queues:
        add(Queue(device, ptr, blocking=True))
    return queues.get((device, ptr))


def add(queue: Queue) -> None:
    """A new queue, unless another thread has just added it."""
    with running:
        queues.setdefault((queue.device, queue.ptr), queue)


def run_device(device: int) -> None:
    """Run everything on a device."""
    for queue in list(queues.values()):
        if queue.device == device:
            queue.run()
