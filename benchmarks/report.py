"""Results (JSON of harness.py) to the README's table and the plots.

    python -m benchmarks.report benchmarks/results/NAME.json ...          write the table and the plots
    python -m benchmarks.report --check benchmarks/results/NAME.json ...  say whether README.md has this table
    python -m benchmarks.report --card benchmarks/results/NAME.json ...   print what on_gpu.sh has found

The table stands between two markers of README.md and is made here only. Every measured case is in it, those
that gpukmeans loses too. The JSON of memory.py, batch.py, starts.py, streamed.py and workers.py may be among the files.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import tensor_rates
from benchmarks.cases import parse
from benchmarks.competitors import COMPETITORS
from gpukmeans import bench

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- benchmark:begin -->", "<!-- benchmark:end -->"
OURS, REFERENCE = "gpukmeans", "scikit-learn"
OTHERS = [name for name in COMPETITORS if name not in (OURS, REFERENCE)]
VECTORS = {"SkylakeX": "AVX-512", "Haswell": "AVX2", "Zen": "AVX2"}

Row = dict[str, Any]


def load(paths: list[Path]) -> tuple[list[Row], list[Row], dict[str, Row]]:
    """Runs; their rows of cases with the limits of their machine; the results of other scripts by what is in them."""
    files = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    runs = [file for file in files if "cases" in file]
    rows = [{**row, "limits": run["limits"], "vectors": vectors(run)} for run in runs for row in run["cases"]]
    keys = ("libraries", "law", "batches", "start_cases", "streamed", "workers")
    others = {key: file for key in keys for file in files if key in file}
    return runs, rows, others


def vectors(run: Row) -> str:
    """The widest vectors of the processor, by what OpenBLAS chose for it: processors of one name differ in that."""
    architectures = [pool["architecture"] for pool in run["machine"]["thread_pools"] if pool["architecture"]]
    return VECTORS.get(architectures[0], architectures[0]) if architectures else ""


def seconds(row: Row, name: str) -> float | None:
    """Median time of a competitor in a case; None if it was not measured."""
    result = row["competitors"].get(name)
    return None if result is None else float(result["median_seconds"])


def floor_seconds(row: Row) -> float:
    """Least time of a full assignment here: its arithmetic at the peak, or its data at the memory's speed."""
    work = 2 * row["n_samples"] * row["n_features"] * row["n_clusters"]
    size = row["n_samples"] * row["n_features"] * (4 if row["dtype"] == "float32" else 8)
    limits = row["limits"]
    return float(max(work / limits[row["dtype"] + "_flops"], size / limits["bytes_per_second"]))


def assignments(row: Row) -> int:
    """Full assignments that a plain program makes in the case."""
    return int(row["competitors"][OURS]["n_iter"]) if row["verb"] == "fit" else 1


def milliseconds(value: float) -> str:
    """A time for the table: three digits."""
    return f"{value * 1e3:.0f}" if value >= 0.1 else f"{value * 1e3:.3g}"


def ratio(row: Row, name: str) -> str:
    """Time of a competitor over ours: above 1 we are faster. Bold where we are not."""
    theirs, ours = seconds(row, name), seconds(row, OURS)
    if theirs is None or ours is None:
        return ""
    return times_of(ours, theirs)


def times_of(ours: float, theirs: float) -> str:
    """The ratio of two times as text."""
    value = theirs / ours
    text = f"{value:.2f}x" if value < 10 else f"{value:.1f}x"
    return f"**{text}**" if value < 1 else text


def agreement(row: Row) -> str:
    """Share of labels (or of chosen rows) that are the same in scikit-learn."""
    result = row["competitors"][REFERENCE]
    share = result.get("equal_labels", result.get("equal_rows_chosen"))
    return "all" if share == 1 else f"{100 * share:.4g} %"


def iterations(row: Row) -> str:
    """Iterations of gpukmeans, and of scikit-learn where they differ."""
    ours = row["competitors"][OURS]["n_iter"]
    theirs = row["competitors"][REFERENCE]["n_iter"]
    return str(ours) if ours == theirs else f"{ours} / {theirs}"


def table(rows: list[Row]) -> list[str]:
    """Lines of one Markdown table; columns of competitors that were not measured are left out."""
    others = [name for name in OTHERS if any(name in row["competitors"] for row in rows)]
    is_fit, is_seeding = rows[0]["verb"] == "fit", rows[0]["verb"] == "seeding"
    head = ["n, d, k", "data", "vectors", OURS, REFERENCE, "ratio", *others]
    head += ["same rows chosen" if is_seeding else "same labels"]
    head += ["iterations"] if is_fit else []
    head += [] if is_seeding else ["floor", "of it"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        ours, reference = seconds(row, OURS), seconds(row, REFERENCE)
        assert ours is not None
        assert reference is not None
        cells = [f"{row['n_samples']:,}, {row['n_features']}, {row['n_clusters']}", row["kind"], row["vectors"]]
        cells += [f"{milliseconds(ours)} ms", f"{milliseconds(reference)} ms", ratio(row, REFERENCE)]
        cells += [ratio(row, name) for name in others]
        cells += [agreement(row)]
        cells += [iterations(row)] if is_fit else []
        if not is_seeding:
            floor = floor_seconds(row)
            cells += [f"{milliseconds(floor)} ms", f"{100 * floor * assignments(row) / ours:.0f} %"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def sections(rows: list[Row]) -> list[tuple[str, list[Row]]]:
    """Rows of the grid by what was measured."""
    titles = {
        ("fit", "float32"): "Whole `fit`, float32",
        ("fit", "float64"): "Whole `fit`, float64",
        ("seeding", "float32"): "k-means++ alone, float32",
        ("predict", "float32"): "`predict`, float32",
    }
    grid = [row for row in rows if row["group"] == "grid"]
    places = {name: place for place, name in reversed(list(enumerate(row["case"] for row in grid)))}
    grid.sort(key=lambda row: places[row["case"]])  # those of one case stand together
    found = {key: [row for row in grid if (row["verb"], row["dtype"]) == key] for key in titles}
    return [(titles[key], found[key]) for key in titles if found[key]]


def of_estimators(found: Row) -> list[str]:
    """Lines of the table of silhouettes and mini-batches, and of what was seen of the law."""
    head = ["", "n, d, k", "dtype", "data", OURS, REFERENCE, "ratio"]
    lines = [f"Measured {found['date']}.", "", "| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in found["timed"]:
        verb, shape, clusters, dtype, kind = row["case"].split("/")
        size = ", ".join([f"{int(shape.split('x')[0]):,}", shape.split("x")[1], clusters.removeprefix("k")])
        times = [float(row[name]["median_seconds"]) for name in (OURS, REFERENCE)]
        what = verb if verb == "silhouette" else f"{row['n_steps']} batches of {row['batch_size']:,}"
        cells = [what, size, dtype, kind]
        lines.append("| " + " | ".join([*cells, *(f"{milliseconds(t)} ms" for t in times), times_of(*times)]) + " |")
    worst = max(abs(row["ratio"] - 1) for row in found["law"])
    shapes = ", ".join(f"{row['kind']} ({row['n_features']}, {row['n_clusters']})" for row in found["law"])
    return [
        *lines,
        "",
        f"Mean inertia of `MiniBatchKMeans` over {len(found['law'][0][OURS])} seeds, over scikit-learn's: 1 to within "
        f"{worst:.0e}, on 20,000 rows of float64 of (d, k) {shapes}.",
    ]


def batch_table(batch: Row) -> list[str]:
    """Lines of the table of many small problems; the part of the start is what given starts save."""
    ours, given, *loops = batch["batches"][0]["median_seconds"]
    head = ["problems", "each n, d, k", "data", ours, "of it the start", *(f"{name} | ratio" for name in loops)]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * (len(head) + len(loops))]
    for row in batch["batches"]:
        times = row["median_seconds"]
        cells = [f"{row['n_problems']:,}", f"{row['n_samples']}, {row['n_features']}, {row['n_clusters']}", row["kind"]]
        cells += [f"{milliseconds(times[ours])} ms", f"{100 * (1 - times[given] / times[ours]):.0f} %"]
        for name in loops:
            cells += [f"{milliseconds(times[name])} ms", f"{times[name] / times[ours]:.1f}x"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def starts_table(starts: Row) -> list[str]:
    """Lines of the table of k-means++ and k-means||."""
    head = ["n, d, k", "data", "start", "time", "passes", "inertia of it", "after the fit", "iterations"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in starts["start_cases"]:
        size = f"{row['n_samples']:,}, {row['n_features']}, {row['n_clusters']}"
        for name, result in row["starts"].items():
            cells = [size, row["kind"], name.replace("|", "\\|"), f"{milliseconds(result['median_seconds'])} ms"]
            cells += [f"{result['passes']:,}", f"{result['inertia_of_start']:.4g}", f"{result['inertia']:.4g}"]
            lines.append("| " + " | ".join([*cells, f"{result['n_iter']:.3g}"]) + " |")
    return lines


def streamed_table(streamed: Row) -> list[str]:
    """Lines of the table of files larger than the memory that a fit may take."""
    head = ["file", "k", "max_memory", "taken", "iteration", "reading alone", "in memory", "of the slower"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in streamed["streamed"]:
        size = f"{row['file_bytes'] / 1e9:.2g} GB, {row['n_samples']:,} x {row['n_features']}"
        cells = [size, f"{row['n_clusters']}", row["max_memory"], f"{row['grown_bytes'] / 1e6:.0f} MB"]
        times = [row[f"{name}_seconds"] for name in ("iteration", "reading", "memory")]
        cells += [*(f"{milliseconds(value)} ms" for value in times), f"{100 * row['share_of_the_slower']:.0f} %"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def workers_table(workers: Row) -> list[str]:
    """Lines of the table of a fit on workers of Dask."""
    row = workers["workers"]
    size = f"{row['n_samples']:,}, {row['n_features']}, {row['n_clusters']}"
    first = next(iter(row["median_seconds"].values()))
    lines = [f"n, d, k: {size}; {row['n_iter']} iterations. All have the same bits.", ""]
    lines += ["| | fit | of one thread |", "|---|---|---|"]
    for name, value in row["median_seconds"].items():
        lines.append(f"| {name} | {milliseconds(value)} ms | {first / value:.2f}x |")
    return lines


def folded(title: str, lines: list[str]) -> list[str]:
    """Lines that a reader unfolds."""
    return ["", f"<details><summary>{title}</summary>", "", *lines, "", "</details>"]


def markdown(runs: list[Row], rows: list[Row], others: dict[str, Row]) -> str:
    """All that stands between the markers."""
    machine = runs[0]["machine"]
    versions = {**machine["versions"], **runs[0]["competitors"]}
    listed = ", ".join(f"{name} {version}" for name, version in versions.items() if name != OURS)
    dates = sorted({run["date"] for run in runs})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    text = [
        f"Measured {when} on {machine['processor']}, {machine['n_threads']} threads, "
        f"{machine['system']}, Python {machine['python']}; {listed}. Medians of "
        f"{min(run['repeat'] for run in runs)} interleaved runs; same data, same start, same `tol`.",
        "",
        "A ratio is the other library's time over ours, **bold** where gpukmeans is slower. Floor: what this",
        "machine needs for the arithmetic, or for reading the data, of one full assignment; of it: the share",
        "of that speed reached, over the whole call (above 100 % where work was proved needless). Vectors: the",
        "widest of the processor; where a case has two rows, they are of two machines.",
    ]
    for number, (title, section) in enumerate(sections(rows)):
        if number == 0:
            text += ["", f"{title}:", "", *table(section)]
        else:
            text += folded(title, table(section))
    if "law" in others:
        title = "`silhouette_score`, and whole fits of `MiniBatchKMeans`"
        text += folded(title, of_estimators(others["law"]))
    if "start_cases" in others:
        seeds = others["start_cases"]["start_cases"][0]["seeds"]
        title = f"k-means++ and k-means||, float32; inertias are means over {seeds} seeds"
        text += folded(title, starts_table(others["start_cases"]))
    if "batches" in others:
        text += folded("Many small problems at once, float32, start and fit", batch_table(others["batches"]))
    if "streamed" in others:
        text += folded("A file larger than the memory that a fit may take, float32", streamed_table(others["streamed"]))
    if "workers" in others:
        title = "A file on workers of Dask, processes of this machine, float32"
        text += folded(title, workers_table(others["workers"]))
    notes = {
        name: result["note"]
        for row in rows
        for name, result in row["competitors"].items()
        if result.get("note")
    }
    if notes:
        text += ["", *(f"* {name} {note}." for name, note in notes.items())]
    if "libraries" in others:
        memory = others["libraries"]
        case = parse(memory["case"])
        extra = [f"{result['extra_mb']:.0f} MB ({name})" for name, result in memory["libraries"].items()]
        shape = f"{case.n_samples:,} x {case.n_features} {case.dtype}, k = {case.n_clusters}"
        text += ["", f"Peak memory of a fit beyond its data, {shape}: {', '.join(extra)}."]
    return "\n".join(text)


def with_table(readme: str, body: str) -> str:
    """The README with `body` between the markers."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"README.md has no {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n\n{body}\n\n{END}{after}"


def shape_of(row: Row) -> tuple[Any, ...]:
    """What makes a place in the plot."""
    return tuple(row[name] for name in ("n_samples", "n_features", "n_clusters", "dtype", "vectors"))


def plot_ratios(rows: list[Row], path: Path) -> None:
    """Bars: how much faster than scikit-learn each fit of the grid is."""
    from matplotlib.figure import Figure

    fits = [row for row in rows if row["group"] == "grid" and row["verb"] == "fit"]
    shapes = list(dict.fromkeys(shape_of(r) for r in fits))
    figure = Figure(figsize=(9, 0.42 * len(shapes) + 1.6), layout="constrained")
    axes = figure.subplots()
    for offset, kind, color in ((0.2, "blobs", "tab:blue"), (-0.2, "noise", "tab:orange")):
        values = {
            shape_of(r): seconds(r, REFERENCE) / seconds(r, OURS) for r in fits if r["kind"] == kind
        }
        places = [-i + offset for i, shape in enumerate(shapes) if shape in values]
        bars = axes.barh(places, [values[s] for s in shapes if s in values], 0.38, color=color, label=kind)
        axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    axes.axvline(1, color="black", linewidth=0.8)
    labels = [f"{n:,} x {d}, k = {k}, {dtype}, {vectors}" for n, d, k, dtype, vectors in shapes]
    axes.set_yticks([-i for i in range(len(shapes))], labels)
    axes.set_xlabel("time of scikit-learn / time of gpukmeans (whole fit, same start)")
    axes.legend()
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def plot_growth(rows: list[Row], path: Path) -> None:
    """Time per iteration as each size is doubled, on two logarithmic axes."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, NullLocator

    groups = list(dict.fromkeys(row["group"] for row in rows if row["group"] != "grid"))
    figure = Figure(figsize=(4.2 * len(groups), 3.8), layout="constrained")
    for axes, group in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups, strict=True):
        points = [row for row in rows if row["group"] == group]
        sizes = [row[group] for row in points]
        for name in COMPETITORS:
            times = [seconds(row, name) for row in points]
            if None not in times:
                per_iteration = [
                    1e3 * time / row["competitors"][name]["n_iter"]
                    for time, row in zip(times, points, strict=True)
                    if time is not None
                ]
                axes.plot(
                    sizes, per_iteration, marker="o", label=name, linewidth=2.2 if name == OURS else 1.2
                )
        axes.plot(sizes, [1e3 * floor_seconds(row) for row in points], "k:", label="floor")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        held = {g: points[0][g] for g in ("n_samples", "n_features", "n_clusters") if g != group}
        axes.set_title(group + "\n" + ", ".join(f"{k} = {v:,}" for k, v in held.items()), fontsize=9)
        axes.set_ylabel("ms per iteration")
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def of_card(found: Row) -> str:
    """What on_gpu.sh has found: the machine, the kernels and the fits of each case."""
    measured = found["bench"]
    lines = [f"{found['verified']} problems have the bits of the numpy backend.", ""]
    lines += [f"- {name}: {value}" for name, value in measured["machine"].items()]
    lines += [f"- {name} was not measured: {why}" for name, why in measured["absent"].items()]
    for case, kernels in found["kernels"].items():
        lines += ["", f"## {case}", "", "| kernel | launches | milliseconds | of floor |", "|---|---:|---:|---:|"]
        for kernel, row in kernels.items():
            share = "" if row["share_of_floor"] is None else f"{row['share_of_floor']:.0%}"
            lines.append(f"| `{kernel}` | {row['launches']} | {row['milliseconds']:.4f} | {share} |")
        lines += ["", *bench.heading(), *found["fits"][case]]
    lines += [f"There was no time for {case}." for case in found["left_out"]]
    if found["tensor_rates"]:
        lines += ["", "## Tensor cores", "", *tensor_rates.table(found["tensor_rates"])]
    return "\n".join([*lines, "", bench.LEGEND])


def main(arguments: list[str] | None = None) -> int:
    """Write the table and the plots, or check the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="+", type=Path, help="JSON files of machines that differ in their vectors")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    parser.add_argument(
        "--plots", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the plots"
    )
    parser.add_argument("--no-plots", action="store_true", help="only the table: matplotlib is not needed")
    parser.add_argument(
        "--check", action="store_true", help="change nothing; 1 if the README has another table"
    )
    parser.add_argument("--card", action="store_true", help="only print what on_gpu.sh has written")
    options = parser.parse_args(arguments)
    if options.card:
        for path in options.results:
            print(of_card(json.loads(path.read_text(encoding="utf-8"))))
        return 0
    runs, rows, others = load(options.results)
    readme = options.readme.read_text(encoding="utf-8")
    wanted = with_table(readme, markdown(runs, rows, others))
    if options.check:
        print(
            "README.md has the table of these results" if wanted == readme else "README.md has another table"
        )
        return int(wanted != readme)
    options.readme.write_text(wanted, encoding="utf-8")
    if options.no_plots:
        return 0
    options.plots.mkdir(parents=True, exist_ok=True)
    if any(row["group"] == "grid" and row["verb"] == "fit" for row in rows):
        plot_ratios(rows, options.plots / "fit.png")
    if any(row["group"] != "grid" for row in rows):
        plot_growth(rows, options.plots / "growth.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
