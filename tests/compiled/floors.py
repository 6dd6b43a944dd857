"""The least time that data sheets permit: what each kernel reads, writes and computes, and cards' published rates.

Arithmetic only. Nothing was timed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """One call of a kernel: expressions of its sizes, `s` bytes an element, `m` rows moved, `r` rows rechecked."""

    bytes: str
    flops: str
    dtype: str  # of the operations
    note: str = ""


WORK = {
    "assign_tiled, assign_small": Work("n*d*s + 4*n", "2*n*k*d", "float32", "centers from L2, once a block"),
    "assign_sm80": Work("n*d*s + 4*n", "2*n*k*d", "16 bit or TF32", "centers from L2, once a block"),
    "assign_sm80_wide": Work("n*d*s + 4*n", "2*n*k*d", "16 bit or TF32", "rows and centers from L2, once a tile"),
    "resolve": Work("16*r + r*d*s + 4*r", "2*r*k*d", "float32", "`r`: not certified by tensor cores"),
    "prune": Work("24*n + r*d*s", "2*r*k*d", "float32", "`r`: not proved unchanged"),
    "recheck": Work("16*r + r*d*s + 4*r", "2*r*k*d", "float32", "3 d float64 for each candidate"),
    "move_rows": Work("8*n + m*(d*s + 4)", "2*m*d", "float64", "2 m (d + 1) 64-bit adds in L2"),
    "add_all_rows": Work("8*n + n*d*s", "2*n*d", "float64", "n (d + 1) adds in shared memory"),
    "recenter": Work("8*k*(d + 1) + 4*k*d*s + 4*k*d", "9*k*d", "float64", "sums twice as long for float64 data"),
    "own_distance, inertia_sum": Work("n*d*s + 4*n + 16*n", "3*n*d", "float64"),
    "transform": Work("n*d*s + n*k*s", "3*n*k*d", "float64", "X from L2 for every 16 centers"),
    "seed_update, seed_trials": Work("n*d*s + 2*n*s", "3*n*d", "dtype of X", "operations for each trial"),
    "summary, weighted_peaks, moments": Work("n*d*s", "3*n*d", "float64", "once a fit"),
    "fit_small": Work("2*n*d*s + 12*n", "3*n*k*d", "float64", "each iteration of a problem, X from L2"),
    "scale_values": Work("2*n*d*s", "2*n*d", "float64", "where the data need it"),
    "farthest_*": Work("8*n", "n", "comparisons", "for each empty cluster"),
}
ITERATION = ("assign_tiled, assign_small", "recheck", "move_rows", "recenter")
"""Kernels of one iteration after the first, in order."""

CARDS = {"H100 SXM": (67.0, 3.35), "A100 80 GB SXM": (19.5, 2.04), "RTX 4090": (82.6, 1.008), "L4": (30.3, 0.300)}
"""What NVIDIA states: peak of the CUDA cores in 10^12 float32 operations a second, memory in 10^12 bytes a second."""
PROBLEMS = ((1_000_000, 8, 16), (1_000_000, 128, 64), (1_000_000, 128, 1024), (10_000_000, 64, 256), (60_000, 784, 10))
"""n, d, k"""
MOVED, RECHECKED = 0.05, 0.01
"""Shares of rows that the floors assume."""


def _value(expression: str, n: int, d: int, k: int) -> float:
    sizes = {"n": n, "d": d, "k": k, "s": 4, "m": MOVED * n, "r": RECHECKED * n}
    return float(eval(expression, {"__builtins__": {}}, sizes))  # expressions of this file


def floor(kernel: str, card: str, problem: tuple[int, int, int]) -> tuple[float, str]:
    """Seconds, and what binds: "bytes" or "flops". Operations that are not float32 count as if they were free."""
    work, (tera_flops, tera_bytes) = WORK[kernel], CARDS[card]
    memory = _value(work.bytes, *problem) / tera_bytes / 1e12
    compute = _value(work.flops, *problem) / tera_flops / 1e12 if work.dtype == "float32" else 0.0
    return max((memory, "bytes"), (compute, "flops"))


def work_table() -> str:
    """What each kernel moves and computes."""
    lines = ["| kernel | bytes of memory | operations | | |", "|---|---|---|---|---|"]
    for kernel, work in WORK.items():
        name = ", ".join(f"`{part}`" for part in kernel.split(", "))
        spelled = [expression.replace("*", " ") for expression in (work.bytes, work.flops)]
        lines.append(f"| {name} | {spelled[0]} | {spelled[1]} | {work.dtype} | {work.note} |")
    return "\n".join(lines)


def floor_table() -> str:
    """Least milliseconds of an assignment, and of an iteration."""
    lines = [
        f"By calculation, float32 data, {MOVED:.0%} of the rows moved, {RECHECKED:.0%} rechecked. "
        "Milliseconds: assignment / iteration, and what binds the assignment.",
        "",
        "| n | d | k | " + " | ".join(f"{card}<br>{f} Tflop/s, {b} TB/s" for card, (f, b) in CARDS.items()) + " |",
        "|---" * (3 + len(CARDS)) + "|",
    ]
    for problem in PROBLEMS:
        cells = []
        for card in CARDS:
            seconds, binds = floor(ITERATION[0], card, problem)
            whole = sum(floor(kernel, card, problem)[0] for kernel in ITERATION)
            cells.append(f"{1e3 * seconds:.3g} / {1e3 * whole:.3g} {binds}")
        lines.append("| " + " | ".join(f"{size:,}" for size in problem) + " | " + " | ".join(cells) + " |")
    return "\n".join(lines)
