"""The commands that look at this machine: doctor and bench."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ._arguments import check_output
from ._terminal import phase, show, write
from .errors import GpuKMeansError

__all__ = ["bench", "doctor"]


def doctor(
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare a backend with numpy, bit by bit; prints a report for an issue.")
    ] = False,
    backend: Annotated[
        str | None, typer.Option(help="With --verify: which one. By default the best one that works.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="With --verify: larger problems too.")] = False,
    warm: Annotated[
        bool, typer.Option("--warm", help="Compile the kernels of the CPU now, so that no later call waits for it.")
    ] = False,
) -> None:
    """Show what is installed, which backends work, and what to do about the others."""
    from .doctor import examine

    for hint, is_given in (("--backend", backend is not None), ("--full", full)):
        if is_given and not verify:
            raise typer.BadParameter("is an option of --verify", param_hint=hint)
    if warm and verify:
        raise typer.BadParameter("is no option of --verify", param_hint="--warm")
    with phase("looking"):
        report = examine()
    if warm:
        _warm(report.backends.get("numba"), report.cache_directory, report.cache_problem)
    elif verify:
        _verify(backend, report.machine, report.backends, full)
    else:
        show(report.summary())


def _warm(why: str | None, directory: str | None, problem: str | None) -> None:
    """Compile, and say how long it took and where the kernels are."""
    from .doctor import warm

    if why is not None:
        raise GpuKMeansError(f"there are no kernels to compile for the CPU: {why}")
    with phase("compiling"):
        seconds = warm()
    kept = f"not kept: {problem}" if problem else f"kept in {directory}"
    write(f"The kernels of the CPU for float32 and float64 were ready after {seconds:.1f} s and are {kept}.")


def _verify(name: str | None, machine: dict[str, str], backends: dict[str, str | None], full: bool) -> None:
    """Compare, print the report, and fail if anything differs."""
    from . import verify

    others = [other for other in backends if other != verify.REFERENCE]
    if name is None:
        name = next((other for other in others if backends[other] is None), None)
        if name is None:
            why = "; ".join(f"{other}: {backends[other]}" for other in others)
            raise GpuKMeansError(f"only {verify.REFERENCE} works here, which the others are compared with ({why})")
    elif name not in others:
        what = f"{name!r} is none of {', '.join(others)}"
        if name == verify.REFERENCE:
            what = f"{name} is the one that the others are compared with: {', '.join(others)}"
        raise typer.BadParameter(what, param_hint="--backend")
    cases, problems = [], verify.problems(name, full=full)
    for i, problem in enumerate(problems, 1):
        with phase(f"{i} of {len(problems)}: {problem.name}"):
            cases.append(verify.check(name, problem))
    write(verify.report(cases, name, machine))
    n_different = sum(not case.ok for case in cases)
    if n_different:
        raise GpuKMeansError(
            f"{name} gives other bits than {verify.REFERENCE} in {n_different} of {len(cases)} cases: please report it "
            "with the text above"
        )


def bench(
    backend: Annotated[
        list[str] | None, typer.Option(help="Only this one (may be given more than once). By default all that work.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small sizes, one repetition: a look, no measurement.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write all repetitions, versions, the machine.")
    ] = None,
) -> None:
    """Time the backends, scikit-learn, and cuML, faiss-gpu, flash-kmeans, fastkmeans where they are installed."""
    if output is not None:
        check_output("--json", output)
    from . import bench as timing
    from .backends import get_backend
    from .data_files import atomic_write
    from .doctor import examine

    with phase("looking"):
        report = examine()
    for name in backend or ():
        if name not in report.backends:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(report.backends)}", param_hint="--backend")
        get_backend(name)  # or say why it does not work
    names = backend or [name for name, why in report.backends.items() if why is None]
    chosen, absent = timing.contestants(names)
    card = timing.peak_of_card() if "cupy" in names else None
    repeat = 1 if quick else 5

    if report.backends.get("cupy") is not None:
        write(f"No card can be used, so only backends of the CPU: {report.backends['cupy']}.")
    write(f"{report.platform}, threads: {report.n_threads} of {report.n_cpus} processors.")
    for name, text in report.cuda.items():
        write(f"{name}: {text}.")
    if quick:
        write("Quick: small sizes and one repetition. These times are a look, no measurement.")
    else:
        write(f"Medians of {repeat} repetitions in turn.")
    for name, why in absent.items():
        write(f"Not measured: {name}, {why}.")
    write("\n".join(["", *timing.heading()]))
    results = []
    for case in timing.grid(quick=quick):
        with phase(case.name):
            results.append(timing.measure(case, chosen, repeat=repeat, card=card))
        write("\n".join(timing.lines(results[-1])))
    notes = {t.name: t.note for result in results for t in result.timings if t.note}
    write("\n".join(["", *(f"{name}: {note}." for name, note in notes.items()), timing.LEGEND]))
    if output is not None:
        found = timing.as_json(results, report.machine, absent, repeat=repeat, card=card)
        with atomic_write(output) as file:
            file.write(json.dumps(found, indent=1).encode() + b"\n")
