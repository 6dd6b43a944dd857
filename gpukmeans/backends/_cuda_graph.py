"""Several iterations as one CUDA graph: small problems would wait for their launches.

Every kernel of an iteration does nothing once the state is not 0, so a graph may hold more iterations than are needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ._cuda_centers import RECORD, Centers, Pending
from ._launch import GRAPH_ITERATIONS


class Batch:
    """Iterations from `start` on, and their records: on the card, and twice on the host, for two batches on their way.

    `iterate(centers, record)` launches one iteration and gives the centers after it.
    """

    def __init__(self, start: Centers, iterate: Callable[[Centers, Any], Centers]) -> None:
        device, size = start.run.device, RECORD.itemsize
        self.device, self.start = device, start
        self.records = device.zeros(GRAPH_ITERATIONS * size, np.uint8)
        self.on_host = [device.page_locked(GRAPH_ITERATIONS, RECORD) for _ in range(2)]
        self.copied = [device.new_event() for _ in range(2)]
        self.n_launched = 0

        def work() -> None:
            now = start
            for i in range(GRAPH_ITERATIONS):
                now = iterate(now, self.records[i * size : (i + 1) * size])

        self.graph = device.capture(work)

    def launch(self) -> list[Pending]:
        """Start the iterations; their outcomes come in one copy."""
        slot = self.n_launched % 2
        self.n_launched += 1
        self.graph.launch()
        self.device.fetch(self.records, self.on_host[slot])
        self.copied[slot].record(self.device.current_stream())
        records, run = self.on_host[slot], self.start.run
        return [Pending(records[i : i + 1], self.copied[slot], run) for i in range(GRAPH_ITERATIONS)]
