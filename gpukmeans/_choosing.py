"""The command that says how many clusters: choose-k."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ._arguments import check, check_output
from ._drawing import check_picture, needs_matplotlib, save_figure
from ._terminal import phase, progress, show, write

__all__ = ["choose_k"]


def choose_k(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Table of numbers: .npy, .npz (or FILE.npz:NAME), .csv, .parquet.")
    ],
    first: Annotated[int, typer.Option("--from", help="Least number of clusters.")] = 2,
    last: Annotated[int, typer.Option("--to", help="Largest number of clusters.")] = 10,
    criteria: Annotated[
        str | None,
        typer.Option(
            help="Separated by commas: silhouette, elbow, gap, davies_bouldin, calinski_harabasz (by default these), "
            "and simplified_silhouette, for many rows."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="MODEL", help="Also write the model that is recommended.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw the criteria: .png, .pdf or .svg (needs matplotlib).")
    ] = None,
    n_init: Annotated[int, typer.Option(help="Starts for each number of clusters.")] = 1,
    seed: Annotated[int | None, typer.Option(help="Seed of the random numbers.")] = None,
    backend: Annotated[str, typer.Option(help="auto, or one that `gpukmeans doctor` lists.")] = "auto",
) -> None:
    """Fit a range of numbers of clusters to the rows of DATA, and recommend one with its reason."""
    from .data_files import check_data_path, read_data

    check("DATA", check_data_path, data)
    if first < 2 or last <= first:
        raise typer.BadParameter(f"{first} to {last}: at least two numbers from 2 on", param_hint="--from, --to")
    if output is not None:
        check_output("-o", output)
    if plot is not None:
        check_picture("--plot", plot)
        needs_matplotlib()
    from . import choosing, model_file
    from .validation import check_parameters

    check_parameters("KMeans", n_init=n_init, random_state=seed, backend=backend)
    names = choosing.DEFAULT if criteria is None else tuple(name.strip() for name in criteria.split(","))
    unknown = [name for name in names if name not in choosing.CRITERIA]
    if unknown:
        what = f"{unknown[0]!r} is none of {', '.join(choosing.CRITERIA)}"
        raise typer.BadParameter(what, param_hint="--criteria")
    with phase("reading"):
        X = read_data(data)
    if last >= len(X):
        raise typer.BadParameter(f"{data} has {len(X)} rows, so at most {len(X) - 1} clusters", param_hint="--to")
    options: dict[str, Any] = {"n_init": n_init, "random_state": seed, "backend": backend}
    with progress("choosing", last - first + 2) as tell:  # the fits, and judging them

        def on_fit(k: int) -> None:
            if tell is not None:
                tell(f"fitted k = {k}" if k < last else "judging", k - first + 1)

        choice = choosing.choose_k(X, range(first, last + 1), names, on_fit=on_fit, **options)
    if output is not None:
        # the generator that drew all the starts is of no use for this fit alone
        model_file.save(choice.model.set_params(random_state=None), output, labels=False)
    if plot is not None:
        from .plot import CriteriaDisplay

        with phase("drawing"):
            save_figure(CriteriaDisplay.from_choice(choice), plot)
    write(str(choice))
    written = {"model": output, "picture": plot}
    if any(written.values()):
        show({name: path for name, path in written.items() if path is not None})
