"""What only a card can tell: the bits of the cupy backend on it, then the time of each kernel, of whole fits, and the
rates that the choice of tensor cores takes for granted.

    benchmarks/on_gpu.sh --output benchmarks/results/NAME.json    ten minutes at most
    python -m benchmarks.report --card benchmarks/results/NAME.json

Nothing is timed unless all answers have the bits of the numpy backend. Kernels are timed by the card's events, launched
one by one; fits beside the GPU libraries that are installed, as `gpukmeans bench` does it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import tensor_rates
from gpukmeans import available_backends, bench, verify
from gpukmeans.backends import _launch
from gpukmeans.bench import Case
from gpukmeans.doctor import examine

MINUTES = 9.0
"""No case is begun later."""
FOR_RATES = 2.0
"""Minutes of these that are left to the rates of tensor cores."""
ITERATIONS = 12
CASES = [
    Case(1_000_000, 2, 8), Case(10_000, 16, 64), Case(100_000, 32, 64), Case(1_000_000, 64, 256),
    Case(200_000, 128, 1024), Case(50_000, 128, 4096), Case(50_000, 784, 10), Case(200_000, 64, 256, "float64"),
]  # fmt: skip
"""No larger ones: the numpy backend must give the answers within the time."""


@contextmanager
def timed_launches() -> Iterator[list[tuple[str, Any, Any]]]:
    """Collect each launch with the events before and behind it; no graphs meanwhile, which launch by themselves."""
    import cupy

    from gpukmeans.backends._cupy import CupyDevice

    launches: list[tuple[str, Any, Any]] = []
    launch, clocks = CupyDevice.launch, _launch.GRAPH_CLOCKS

    def timed(self: Any, what: Any, *args: Any) -> None:
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        begin.record()
        launch(self, what, *args)
        end.record()
        launches.append((what.kernel, begin, end))

    CupyDevice.launch, _launch.GRAPH_CLOCKS = timed, 0  # type: ignore[method-assign]
    try:
        yield launches
    finally:
        CupyDevice.launch, _launch.GRAPH_CLOCKS = launch, clocks  # type: ignore[method-assign]


def kernels(case: Case, card: Any) -> dict[str, dict[str, Any]]:
    """Of each kernel of a fit: how often it ran, its median milliseconds; of the assignment the share of the floor."""
    import cupy

    (ours,) = (c for c in bench.contestants(["cupy"])[0] if c.name == "cupy, on card")
    X, start = case.make()
    rows = ours.place(X)
    ours.fit(rows, start, 2)  # compiles
    with timed_launches() as launches:
        ours.fit(rows, start, ITERATIONS)
        cupy.cuda.Device().synchronize()
    found: dict[str, list[float]] = defaultdict(list)
    for kernel, begin, end in launches:
        found[kernel].append(cupy.cuda.get_elapsed_time(begin, end))
    floor = None if card is None else 1e3 * card.floor(case)
    return {
        kernel: {
            "launches": len(times),
            "milliseconds": statistics.median(times),
            "share_of_floor": floor / statistics.median(times) if floor and kernel.startswith("assign") else None,
        }
        for kernel, times in found.items()
    }


def run(
    cases: Sequence[Case], problems: Any = None, *, repeat: int = 3, minutes: float = MINUTES, sizes: Any = None
) -> dict[str, Any]:
    """All that is measured, rates with `sizes`; raises WrongAnswerError before anything is timed if a bit is wrong."""
    very_end = time.monotonic() + 60 * minutes
    end = very_end - 60 * FOR_RATES
    checked = verify.verify("cupy", problems)
    wrong = [f"{case.name}: {'; '.join(case.differences)}" for case in checked if case.differences]
    if wrong:
        raise bench.WrongAnswerError("other bits than numpy; nothing was timed. " + "\n".join(wrong))
    card, (able, absent) = bench.peak_of_card(), bench.contestants(["cupy"])
    chosen = [c for c in able if c.on_card]
    of_kernels, results, left_out = {}, [], []
    for case in cases:
        if time.monotonic() > end:
            left_out.append(case.name)
            continue
        of_kernels[case.name] = kernels(case, card)
        results.append(bench.measure(case, chosen, repeat=repeat, card=card))
    rates = tensor_rates.measure(very_end, **(sizes or {}))
    measured = bench.as_json(results, examine().machine, absent, repeat=repeat, card=card)
    fits = {result.case.name: bench.lines(result) for result in results}
    found = {"verified": len(checked), "kernels": of_kernels, "fits": fits, "left_out": left_out, "bench": measured}
    return {**found, "tensor_rates": rates}


def main(arguments: list[str] | None = None) -> int:
    """The command; 2 where there is no card, 1 where an answer is wrong."""
    parser = argparse.ArgumentParser(prog="on_gpu.sh", description="Verify and time the cupy backend on this card.")
    parser.add_argument("--output", type=Path, required=True, help="the JSON that is written")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="no case is begun later")
    options = parser.parse_args(arguments)
    reason = available_backends()["cupy"]
    if reason is not None:
        print(f"Nothing to measure: {reason}", file=sys.stderr)
        return 2
    try:
        found = run(CASES, minutes=options.minutes)
    except bench.WrongAnswerError as error:
        print(error, file=sys.stderr)
        return 1
    options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
