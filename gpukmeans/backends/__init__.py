"""Backends: where the verbs of k-means run. Nothing is imported until it is asked for."""

from __future__ import annotations

import difflib
import importlib
import logging

from ..errors import BackendUnavailableError
from .base import Backend

_log = logging.getLogger("gpukmeans")

# in the order in which "auto" tries them
_REGISTRY = {
    "numba": "_numba:NumbaBackend",
    "numpy": "_numpy:NumpyBackend",
}


def _backend_class(name: str) -> type[Backend]:
    module, _, attribute = _REGISTRY[name].partition(":")
    backend: type[Backend] = getattr(importlib.import_module(f".{module}", __name__), attribute)
    return backend


def available_backends() -> dict[str, str | None]:
    """Say which backends work on this machine.

    Returns
    -------
    dict
        From the name of each backend to None if it works, else to one sentence that says why not and what to do.

    Examples
    --------
    >>> import gpukmeans
    >>> gpukmeans.available_backends()["numpy"] is None
    True
    """
    return {name: _backend_class(name).why_unavailable() for name in _REGISTRY}


def backend_names() -> list[str]:
    """Names that the `backend` parameter takes."""
    return ["auto", *_REGISTRY]


def get_backend(name: str = "auto", precision: str = "exact") -> Backend:
    """Make a backend by name; "auto" takes the first that works and logs which and why.

    Parameters
    ----------
    name : {"auto", "numba", "numpy"}
    precision : {"exact", "float32"}

    Returns
    -------
    Backend

    Raises
    ------
    BackendUnavailableError
        If the named backend does not work on this machine. A backend that was asked for by name is never replaced
        by another one.
    ValueError
        If there is no backend of that name.
    """
    if name == "auto":
        for candidate in _REGISTRY:
            backend = _backend_class(candidate)
            reason = backend.why_unavailable()
            if reason is None:
                _log.debug("backend %s: the first of %s that works", candidate, list(_REGISTRY))
                return backend(precision)
            _log.debug("backend %s passed over: %s", candidate, reason)
        raise BackendUnavailableError("no backend works on this machine; run `gpukmeans doctor`")
    if name not in _REGISTRY:
        near = difflib.get_close_matches(name, backend_names(), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"There is no backend {name!r}; known are {', '.join(backend_names())}.{hint}")
    backend = _backend_class(name)
    reason = backend.why_unavailable()
    if reason is not None:
        raise BackendUnavailableError(f"The backend {name!r} does not work here: {reason}")
    return backend(precision)
