"""The command `plan`, and what commands share that take data which does not fit in memory."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ._arguments import check
from ._terminal import phase, show

__all__ = ["check_data", "limited", "load", "plan"]

DATA_HELP = (
    "Table of numbers: .npy, .npz (or FILE.npz:NAME), .csv, .parquet. Read block by block: .fvecs, .bvecs, .ivecs, "
    ".h5 (or FILE:NAME), .zarr, and folders of such files."
)
MEMORY_HELP = "Most memory to take, like 500MB; rows are then read block by block where it is needed."
MaxMemory = Annotated[str | None, typer.Option("--max-memory", metavar="SIZE", help=MEMORY_HELP)]


def is_streamed(data: str, max_memory: str | None) -> bool:
    """Whether to open the data as a source: it is of no other kind, or memory is limited."""
    from .memory import VARIABLE, cap_of
    from .sources import EXTENSIONS

    path = Path(data) if Path(data).exists() else Path(data.rpartition(":")[0])
    extension = path.suffix.lower()
    if extension in (".npy", ".parquet") and path.is_file():
        return cap_of(max_memory) is not None
    if extension in (".csv", ".npz") and max_memory is not None:
        raise typer.BadParameter(f"{data} is read as a whole; only {', '.join(EXTENSIONS)} can be limited "
                                 f"(nor by {VARIABLE})", param_hint="--max-memory")  # fmt: skip
    return path.is_dir() or extension in EXTENSIONS


def check_data(data: str, max_memory: str | None) -> None:
    """Refuse, before the work, data that cannot be opened, or no size."""
    from .data_files import check_data_path
    from .memory import parse_bytes
    from .sources import open_source

    if max_memory is not None and parse_bytes(max_memory) is None:
        raise typer.BadParameter(f"{max_memory!r} is no size like 500MB or 2GiB", param_hint="--max-memory")
    check("DATA", open_source if is_streamed(data, max_memory) else check_data_path, data)


def load(data: str, max_memory: str | None) -> Any:
    """An array, or a source where it is to be read block by block."""
    from .data_files import read_data
    from .sources import open_source

    return open_source(data) if is_streamed(data, max_memory) else read_data(data)


@contextmanager
def limited(max_memory: str | None) -> Iterator[None]:
    """The limit for models of every kind, which have no parameter for it but follow the environment."""
    from .memory import VARIABLE

    before = os.environ.get(VARIABLE)
    if max_memory is not None:
        os.environ[VARIABLE] = max_memory
    try:
        yield
    finally:
        if max_memory is not None and before is None:
            del os.environ[VARIABLE]
        elif max_memory is not None and before is not None:
            os.environ[VARIABLE] = before


def plan(
    data: Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP)],
    n_clusters: Annotated[int, typer.Option("-k", "--n-clusters", help="Number of clusters.")],
    init: Annotated[str, typer.Option(help="k-means++ or random.")] = "k-means++",
    n_init: Annotated[str, typer.Option(help="Number of starts, or auto.")] = "auto",
    backend: Annotated[str, typer.Option(help="auto, or one that `gpukmeans doctor` lists.")] = "auto",
    max_memory: MaxMemory = None,
) -> None:
    """Say what `fit` would do: passes, blocks, memory, backend and why. No row is read."""
    check_data(data, max_memory)
    from .kmeans import KMeans

    n_starts: str | int = int(n_init) if n_init.isdecimal() else n_init
    with phase("planning"):
        model = KMeans(n_clusters, init=init, n_init=n_starts, backend=backend, max_memory=max_memory)
        found = model.plan(load(data, max_memory))
    show(found.lines())
