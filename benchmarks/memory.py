"""Peak memory of a fit, over what the process had with X loaded and a small fit done before.

    python -m benchmarks.memory --output benchmarks/results/memory.json

Every library is measured in a new process. Linux: the kernel's own peak (VmHWM), reset just before the fit.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.cases import Case, make_data

CASE = Case("fit", 1_000_000, 16, 64, "float32", "blobs")
MAX_ITER = 20


def _status(field: str) -> int:
    """Bytes of a field of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def measure(library: str) -> dict[str, Any]:
    """Peak of one fit in this process. Call it once per process."""
    if library == "gpukmeans":
        from gpukmeans import KMeans
    else:
        from sklearn.cluster import KMeans
    X, init = make_data(CASE)

    def fit(rows: Any) -> Any:
        return KMeans(len(init), init=init, n_init=1, max_iter=MAX_ITER, tol=1e-4).fit(rows)

    fit(X[:5000])
    before = _status("VmRSS")
    reset = True
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        reset = False
        before = _status("VmHWM")  # the old peak is all that the new one can be held against
    model = fit(X)
    return {
        "before_bytes": before,
        "peak_bytes": _status("VmHWM"),
        "extra_mb": round((_status("VmHWM") - before) / 1e6, 1),
        "peak_was_reset": reset,
        "data_mb": round(X.nbytes / 1e6, 1),
        "n_iter": int(model.n_iter_),
        "n_threads": machine.n_threads(),
    }


def measure_in_new_process(library: str) -> dict[str, Any]:
    """Peak of one fit, with nothing of earlier fits in the process."""
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", "--one", library],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    result: dict[str, Any] = json.loads(run.stdout)
    return result


def main() -> None:
    """Measure every library and print or write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--one", choices=["gpukmeans", "scikit-learn"], help="measure one, in this process")
    parser.add_argument("--output", type=Path, help="JSON file")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one)))
        return
    report = {
        "case": CASE.name,
        "max_iter": MAX_ITER,
        "machine": machine.describe(),
        "libraries": {name: measure_in_new_process(name) for name in ("gpukmeans", "scikit-learn")},
    }
    for name, result in report["libraries"].items():  # type: ignore[attr-defined]
        print(f"{name}: {result['extra_mb']} MB over {result['before_bytes'] / 1e6:.0f} MB")
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
