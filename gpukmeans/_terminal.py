"""How the command line speaks: lines on stderr, results on stdout, progress on a terminal."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["drop_stdout", "phase", "printable", "progress", "say", "show", "show_warning", "write"]


def printable(text: str) -> str:
    """Give the text in one line, and without what steers a terminal: it may come from a stranger's file."""
    text = " ".join(text.split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def say(line: str) -> None:
    """Print a line on stderr."""
    Console(stderr=True).print(printable(line), markup=False, highlight=False, soft_wrap=True)


def write(text: str) -> None:
    """Print a text on stdout as it is."""
    Console().print(text, markup=False, highlight=False, soft_wrap=True)


def drop_stdout() -> None:
    """Forget what cannot be written to stdout; Python would try once more at exit, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Print a warning as one line on stderr; stands in for ``warnings.showwarning``."""
    say(f"gpukmeans: warning: {message}")


def show(pairs: dict[str, Any]) -> None:
    """Print results on stdout: a table on a terminal, lines elsewhere."""
    texts = {printable(key): printable(str(value)) for key, value in pairs.items()}
    if not sys.stdout.isatty():
        for key, text in texts.items():
            write(f"{key}: {text}")
        return
    table = Table(show_header=False)
    for key, text in texts.items():
        table.add_row(key, text)
    Console(markup=False, highlight=False).print(table)


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[..., None] | None]:
    """Show that something long goes on, how far it is and for how long: on stderr if it is a terminal, or a notebook.

    Gives a function of a text to show beside, and of how many of `total` are done; None where nothing is shown.
    """
    console = Console(stderr=True)
    if not _can_redraw(console):
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = [TextColumn(f"{{task.{field}}}", markup=False) for field in ("description", "fields[note]")]
    bars = Progress(
        columns[0], BarColumn(), TimeElapsedColumn(), columns[1], console=console, transient=True,
        redirect_stdout=False,  # what is printed meanwhile belongs on stdout, which may be a pipe
    )  # fmt: skip
    with bars as bar:
        task = bar.add_task(what, total=total, note="")
        yield lambda note="", done=None: bar.update(task, note=note, completed=done)


def _can_redraw(console: Console) -> bool:
    """Whether it is a terminal, or a notebook with what redraws a cell; a process without a console has no stderr."""
    if console.is_jupyter:
        return find_spec("ipywidgets") is not None
    return sys.stderr is not None and sys.stderr.isatty()


def phase(what: str) -> AbstractContextManager[Any]:
    """Show that something long is going on, of which it is not known how far it is."""
    return progress(what)
