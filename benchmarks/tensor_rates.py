"""What the model of the pass on tensor cores takes for granted, and only a card can tell (`_tensor_config`).

Each type, by the bytes of a row and by how many rows a block holds, against the pass in float32 over the same rows:

* products a clock of one multiprocessor: the rate of the matrix instructions, beside the data sheet's;
* 64 and 128 bytes of a row against 512: whether best and second best, not the products, take the time there; and the
  two forms of keys, and keys of four centers, against each other, where the card has them;
* blocks of many rows against blocks of few: whether 8 warps hide what they wait for;
* the time of float32 over that of a type: what `SPEEDS` says before rows are opened again.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from gpukmeans.backends import _launch, _tensor_config, get_backend
from gpukmeans.backends._cuda_stages import Stage

WIDE = 2048
"""Bytes of a row that stands for all that come in chunks."""
WAVES = 8
"""Blocks for each multiprocessor."""
CLUSTERS = 4096
REPEAT = 5


def configs(card: Any, kinds: Any) -> list[_tensor_config.Config]:
    """Every shape of block that the card has room for, and all forms of keys that it has."""
    shapes = _tensor_config.SHAPES
    found: dict[_tensor_config.Config, None] = {}
    for kind in kinds:
        for key in (*_tensor_config.ROW_BYTES, _tensor_config.LONGER):
            row_bytes = key if key != _tensor_config.LONGER else WIDE
            for shape in (shapes.many_rows[key], shapes.few_rows[key]):
                if shape.shared(row_bytes) <= card.shared_per_block:
                    of_card = row_bytes in _tensor_config.OFFSET.get(card.compute_capability, ())
                    forms = (False, True) if of_card else (False,)
                    found |= {_tensor_config.Config(kind, row_bytes, shape, form): None for form in forms}
    in_groups = _tensor_config.configs(_tensor_config.ROW_BYTES, card)
    found |= {config: None for config in in_groups if config.is_grouped and config.kind in kinds}
    return list(found)


def seconds_of(work: Callable[[], None], repeat: int) -> float:
    """Median time on the card; the first call, which compiles, is left out."""
    import cupy

    times = []
    for _ in range(repeat + 1):
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        begin.record()
        work()
        end.record()
        end.synchronize()
        times.append(cupy.cuda.get_elapsed_time(begin, end) / 1e3)
    return statistics.median(times[1:])


def of_config(backend: Any, config: _tensor_config.Config, n: int, n_clusters: int, repeat: int) -> dict[str, Any]:
    """Times of the pass in one way, and in float32."""
    import cupy

    device, card = backend.device, backend.device.card
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((n_clusters, config.columns), dtype=np.float32)
    X = cupy.asarray(rng.standard_normal((n, config.columns), dtype=np.float32))
    rows = backend.rows(X)
    problem, loaded = rows.problem(n, n_clusters), backend._load(rows, centers.astype(np.float64), False)
    stage, scratch, never = Stage(config, loaded, certify=True), rows.scratch(), loaded.run.never
    stage.reserve(problem)
    backend._publish(problem, loaded, stage)
    listed = scratch.uncertain, scratch.count

    def in_type() -> None:
        device.clear(scratch.count)
        stage.label(problem, loaded, X, scratch.labels, listed, never)

    def in_float32() -> None:
        device.clear(scratch.count)
        args = (X, *loaded.for_scores, loaded.bound, scratch.labels, *listed, never, np.int64(n))
        sizes = (np.int32(loaded.d), np.int32(loaded.form.columns), np.int32(loaded.form.rows))
        device.launch(_launch.assign(problem, card), *args, *sizes)

    seconds, reference = seconds_of(in_type, repeat), seconds_of(in_float32, repeat)
    clocks = 1e3 * cupy.cuda.Device().attributes.get("ClockRate", 0) * seconds * card.n_multiprocessors
    speeds = _tensor_config.SPEEDS[card.shared_per_block >= _tensor_config.LARGE_SHARED]
    return {
        "kind": config.kind, "row_bytes": config.row_bytes, "rows_of_block": config.shape.rows,
        "is_offset": config.is_offset, "is_grouped": config.is_grouped,
        "n_samples": n, "n_clusters": n_clusters, "milliseconds": 1e3 * seconds,
        "products_a_clock": n * n_clusters * config.columns / clocks if clocks else None,
        "float32_over_this": reference / seconds, "model": speeds[config.kind],
    }  # fmt: skip


def measure(
    end: float = float("inf"), *, n_samples: int | None = None, n_clusters: int = CLUSTERS, repeat: int = REPEAT
) -> list[dict[str, Any]]:
    """A row for each type and shape; none is begun after `end` (of `time.monotonic`)."""
    backend: Any = get_backend("cupy")
    card, found = backend.device.card, []
    with backend.device:
        for config in configs(card, backend.device.tensor_types):
            if time.monotonic() > end:
                break
            n = n_samples or config.shape.rows * card.n_multiprocessors * WAVES
            found.append(of_config(backend, config, n, n_clusters, repeat))
    return found


def table(rates: list[dict[str, Any]]) -> list[str]:
    """Lines of Markdown."""
    head = ["type", "bytes of a row", "rows of a block", "offset", "grouped"]
    head += ["ms", "products a clock and SM", "float32 / this", "model"]
    lines = [f"| {' | '.join(head)} |"]
    lines += ["|---|---:|---:|---|---|---:|---:|---:|---:|"]
    for row in rates:
        products = "" if row["products_a_clock"] is None else f"{row['products_a_clock']:.0f}"
        cells = [row["kind"], row["row_bytes"], row["rows_of_block"], "yes" if row["is_offset"] else ""]
        cells += ["yes" if row["is_grouped"] else ""]
        cells += [f"{row['milliseconds']:.3f}", products]
        lines.append("| " + " | ".join(map(str, [*cells, f"{row['float32_over_this']:.2f}", row["model"]])) + " |")
    return lines
