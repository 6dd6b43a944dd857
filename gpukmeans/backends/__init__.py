"""Backends: where the verbs of k-means run. Nothing is imported until it is asked for."""

from __future__ import annotations

import difflib
import importlib
import logging
import os
from dataclasses import dataclass
from typing import Any

from ..arrays import on_device
from ..errors import BackendUnavailableError
from .base import Backend

_log = logging.getLogger("gpukmeans")

# In the order in which "auto" tries them, as far as the one that works anywhere: class, and the function that says None
# where the backend works here, else one sentence that a user can act on. The class is imported only where it works.
_REGISTRY = {
    "cupy": ("_cupy:CupyBackend", "_cuda:why_unavailable"),
    "numba-cuda": ("_numba_cuda:NumbaCudaBackend", "_numba_cuda_needs:why_unavailable"),
    "numba": ("_numba:NumbaBackend", "_numba_needs:why_unavailable"),
    "numpy": ("_numpy:NumpyBackend", "_numpy:why_unavailable"),
    "cupy:all": ("_cupy:CupyCardsBackend", "_cuda:why_not_all"),
}
_DEVICES = ("cupy", "numba-cuda")  # those to which data must be moved
_VARIABLE = "GPUKMEANS_BACKEND"


@dataclass(frozen=True)
class Work:
    """How much a backend will have to do, so that "auto" can weigh it.

    Attributes
    ----------
    n_samples, n_features, n_clusters : int
    itemsize : int
        Bytes of a value.
    n_passes : int
        Assignments of all rows.
    on_device : bool
        Whether the rows lie on a CUDA device already.
    """

    n_samples: int
    n_features: int
    n_clusters: int
    itemsize: int
    n_passes: int
    on_device: bool

    @classmethod
    def of(cls, X: Any, n_clusters: int, *, n_passes: int) -> Work:
        """Work of `n_passes` assignments of the rows of X."""
        n_samples, n_features = X.shape
        return cls(n_samples, n_features, n_clusters, X.dtype.itemsize, n_passes, on_device(getattr(X, "words", X)))

    @property
    def is_for_the_host(self) -> bool:
        """Whether a CPU is likely to be done before a card has got the data.

        By calculation, with round figures, measured on no card: a CPU of a few cores does 1e11 multiply-adds and reads
        1e10 bytes a second; a card has the rows after 1 ms and 1e10 bytes a second, and an iteration after 0.1 ms. The
        answer has the same bits either way.
        """
        if self.on_device:
            return False
        n_bytes = self.n_samples * self.n_features * self.itemsize
        multiply_adds = self.n_samples * self.n_features * self.n_clusters
        on_host = self.n_passes * max(multiply_adds / 1e11, n_bytes / 1e10)
        return on_host < 1e-3 + n_bytes / 1e10 + self.n_passes * 1e-4


def _found(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(f".{module}", __name__), attribute)


def _made(name: str, precision: str, work: Work | None) -> Backend:
    if name == "cupy:all" and ((work is not None and work.on_device) or _found("_cuda:n_cards")() == 1):
        name = "cupy"  # rows that lie on a card are worked on there
    backend: Backend = _found(_REGISTRY[name][0])(precision)
    return backend


def _why_unavailable(name: str) -> str | None:
    reason: str | None = _found(_REGISTRY[name][1])()
    return reason


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
    return {name: _why_unavailable(name) for name in _REGISTRY}


def backend_names() -> list[str]:
    """Names that the `backend` parameter takes."""
    return ["auto", *_REGISTRY]


def get_backend(name: str = "auto", precision: str = "exact", work: Work | None = None) -> Backend:
    """Make a backend by name; "auto" takes the first that works and suits the work, and logs which and why.

    Parameters
    ----------
    name : {"auto", "cupy", "numba-cuda", "numba", "numpy", "cupy:all"}
        For "auto" the environment variable GPUKMEANS_BACKEND may name another one. "cupy:all" is "cupy" where there is
        one card, and for rows that lie on a card already.
    precision : {"exact", "float32", "tf32", "bf16"}
    work : Work, optional
        What it is wanted for. A problem too small for a card runs on the CPU, unless its data is on the card.

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
    source = ""
    if name == "auto" and os.environ.get(_VARIABLE):
        name, source = os.environ[_VARIABLE], f" (from the environment variable {_VARIABLE})"
    if name == "auto":
        for candidate in _REGISTRY:
            if candidate in _DEVICES and work is not None and work.is_for_the_host:
                _log.debug("backend %s passed over: %s is less work than moving it to a card", candidate, work)
                continue
            reason = _why_unavailable(candidate)
            if reason is None:
                _log.debug("backend %s: the first of %s that works and suits %s", candidate, list(_REGISTRY), work)
                return _made(candidate, precision, work)
            _log.debug("backend %s passed over: %s", candidate, reason)
        raise BackendUnavailableError("no backend works on this machine; run `gpukmeans doctor`")
    if name not in _REGISTRY:
        near = difflib.get_close_matches(name, backend_names(), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"There is no backend {name!r}{source}; known are {', '.join(backend_names())}.{hint}")
    reason = _why_unavailable(name)
    if reason is not None:
        raise BackendUnavailableError(f"The backend {name!r}{source} does not work here: {reason}")
    return _made(name, precision, work)
