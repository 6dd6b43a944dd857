"""What is wrong with the words of a call, said before the work begins."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from .errors import DataFileError

__all__ = ["MODEL_HELP", "BadCall", "check", "check_output", "message"]

MODEL_HELP = "Model file that `fit` or gpukmeans.model_file.save wrote."

# Typer's own errors: of click, which by the version of Typer is a package beside it or a part of it.
BadCall: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def message(error: BaseException) -> str:
    """Give the message of an error in one line."""
    if isinstance(error, BadCall):
        return str(error.format_message())
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or ("not enough memory" if isinstance(error, MemoryError) else type(error).__name__)


def check(hint: str, check: Callable[[Any], object], path: str | Path) -> None:
    """Call ``check(path)``; what is wrong with a path that was passed is a bad call."""
    try:
        check(path)
    except (DataFileError, OSError) as error:
        raise typer.BadParameter(message(error), param_hint=hint) from None


def check_output(hint: str, path: Path) -> None:
    """Refuse, before the work, a place where nothing can be written."""
    folder = Path(os.path.realpath(path)).parent
    if path.is_dir() or not folder.is_dir():
        reason = "is a directory" if path.is_dir() else f"the directory {folder} does not exist"
        raise typer.BadParameter(f"{path}: {reason}", param_hint=hint)
