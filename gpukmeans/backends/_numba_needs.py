"""What the backend `numba` needs, told without importing what may be missing."""

from __future__ import annotations

import functools
import importlib.util


@functools.cache
def why_unavailable() -> str | None:
    """None where Numba imports."""
    if importlib.util.find_spec("numba") is None:
        return "Numba is not installed: pip install numba"
    try:
        from . import _numba  # noqa: F401
    except ImportError as error:
        return f"Numba does not import ({error}): pip install --upgrade numba numpy"
    return None
