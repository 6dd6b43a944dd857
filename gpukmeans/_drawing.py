"""The commands that make pictures: plot and compress."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ._arguments import MODEL_HELP, check, check_output
from ._terminal import phase, show

__all__ = ["check_picture", "compress", "needs_matplotlib", "plot", "save_figure"]

_FORMATS = (".png", ".pdf", ".svg")
_DPI = 150


def check_picture(hint: str, path: Path, formats: tuple[str, ...] = _FORMATS) -> None:
    """Refuse, before the work, a name that is no picture's and a place where nothing can be written."""
    if path.suffix.lower() not in formats:
        raise typer.BadParameter(f"{path}: the name must end in {' or '.join(formats)}", param_hint=hint)
    check_output(hint, path)


def needs_matplotlib() -> None:
    """Say before the work that matplotlib is missing; and draw to files, whatever screen there is."""
    from .plot import need_matplotlib

    need_matplotlib().use("agg")


def save_figure(display: Any, path: Path) -> None:
    """Write the figure of a display, whole or not at all."""
    from .data_files import atomic_write

    with atomic_write(path) as file:
        display.figure_.savefig(file, format=path.suffix[1:].lower(), dpi=_DPI)


def plot(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="Picture to write: .png, .pdf or .svg.")
    ],
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA",
            help="Table of numbers: .npy, .npz (or FILE.npz:NAME), .csv, .parquet. Not for --kind convergence.",
        ),
    ] = None,
    kind: Annotated[
        Literal["clusters", "voronoi", "silhouette", "simplified-silhouette", "convergence"],
        typer.Option(help="clusters: the rows; voronoi: and the boundaries, of 2 features; convergence: of the fit."),
    ] = "clusters",
) -> None:
    """Draw the rows of DATA as MODEL clusters them (needs matplotlib)."""
    from .data_files import check_data_path, read_data

    check("MODEL", os.stat, model)
    if (data is None) != (kind == "convergence"):
        what = "is needed for this kind of picture" if data is None else "is not for --kind convergence"
        raise typer.BadParameter(what, param_hint="DATA")
    if data is not None:
        check("DATA", check_data_path, data)
    check_picture("-o", output)
    needs_matplotlib()
    from . import model_file, plot

    with phase("reading"):
        fitted = model_file.load(model)
        X = None if data is None else read_data(data)
    with phase("drawing"):
        display: Any
        if kind == "clusters":
            display = plot.ClusterDisplay.from_estimator(fitted, X)
        elif kind == "voronoi":
            display = plot.VoronoiDisplay.from_estimator(fitted, X)
        elif kind == "convergence":
            display = plot.ConvergenceDisplay.from_estimator(fitted)
        else:
            is_simplified = kind == "simplified-silhouette"
            display = plot.SilhouetteDisplay.from_estimator(fitted, X, simplified=is_simplified)
        save_figure(display, output)
    show({"picture": output, **({} if X is None else {"rows": len(X)})})


def compress(
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="PNG, JPEG or another format of Pillow.")],
    n_colours: Annotated[int, typer.Option("-k", "--n-colours", help="Number of colours.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="PNG", help="Picture to write.")],
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also draw both, with the palette: .png, .pdf or .svg (needs matplotlib)."),
    ] = None,
    n_init: Annotated[int, typer.Option(help="Number of starts.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the random numbers.")] = 0,
    backend: Annotated[str, typer.Option(help="auto, or one that `gpukmeans doctor` lists.")] = "auto",
) -> None:
    """Reduce PICTURE to few colours; with at most 256 the PNG is small."""
    check("PICTURE", os.stat, picture)
    check_picture("-o", output, (".png",))
    if plot is not None:
        check_picture("--plot", plot)
        needs_matplotlib()
    from . import pictures
    from .validation import check_parameters

    check_parameters("KMeans", n_clusters=n_colours, n_init=n_init, random_state=seed, backend=backend)
    with phase("reading"):
        original, n_bytes = pictures.read_picture(picture), picture.stat().st_size
    n_pixels = original.shape[0] * original.shape[1]
    if n_colours > n_pixels:
        raise typer.BadParameter(f"{picture} has {n_pixels} pixels, fewer than {n_colours} colours", param_hint="-k")
    options: dict[str, Any] = {"n_init": n_init, "random_state": seed, "backend": backend, "verbose": 2}
    compression = pictures.compress(original, n_colours, **options)
    with phase("writing"):
        pictures.write_png(output, compression.pixels)
        if plot is not None:
            from .plot import PaletteDisplay

            save_figure(PaletteDisplay.from_predictions(original, compression.pixels), plot)
    sizes = {"bytes": f"{output.stat().st_size} ({picture.name}: {n_bytes})"}
    beside = {} if plot is None else {"palette": plot}
    show({"picture": output, **beside, **compression.summary(), **sizes, "backend": compression.model.backend_})
