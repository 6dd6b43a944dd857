"""A fit that can be broken off and gone on with: where it is, in a file; and the time that it may take.

The labels of an iteration are a function of the centers that it began with, so centers before and after it, the
history, the best run so far and the state of the random numbers are all that is kept, in a .npz without pickles.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import seeding
from .backends.base import Backend
from .data_files import CORRUPT, atomic_write
from .errors import CheckpointError
from .exact import Float64Array, Moments
from .lloyd import Iteration, Position

if TYPE_CHECKING:
    from .prepare import Prepared

_log = logging.getLogger("gpukmeans")

_FORMAT, _VERSION = "gpukmeans-checkpoint", 1
SAMPLED_ROWS = 64
"""Rows that are looked at one by one to see whether the data is the same."""


class BestRun(NamedTuple):
    """The best of the runs that are done, but for its labels, which follow from its centers."""

    centers: Float64Array
    inertia: float
    history: list[Iteration]
    n_rechecked: int
    strict: bool
    converged: bool


class Saved(NamedTuple):
    """Where a fit is."""

    run: int
    position: Position
    best: BestRun | None
    rng_state: dict[str, Any]


@dataclass
class Watch:
    """Writes a checkpoint every so many seconds, and ends a fit in time.

    Parameters
    ----------
    path : path or None
        Of the checkpoint.
    every, max_seconds : float or None
        Seconds between two checkpoints; seconds that the fit may take, which count from now.
    """

    path: Any = None
    every: float = 60.0
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        self.began = self.last = self.written = time.monotonic()
        self.longest = 0.0
        self.ended = False
        self.save: Callable[[Position, Any], None] = lambda position, path: None

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to watch for."""
        return self.path is None and self.max_seconds is None

    def is_due(self) -> bool:
        """Whether to be told after the next iteration."""
        now = time.monotonic()
        self.longest, self.last = max(self.longest, now - self.last), now
        return self._is_late(now, 4) or (self.path is not None and now - self.written >= self.every)

    def wants_end(self, position: Position) -> bool:
        """Write the checkpoint; whether the time is up."""
        self.ended = self._is_late(time.monotonic(), 3)
        if self.path is not None:
            try:
                self.save(position, self.path)
            except OSError as error:  # a full disk is no reason to lose the fit
                warnings.warn(f"No checkpoint was written, and the fit goes on: {error}", RuntimeWarning, stacklevel=2)
            self.written = time.monotonic()
        return self.ended

    def start_run(self) -> None:
        """What lies between two runs is no iteration."""
        self.last = time.monotonic()

    def _is_late(self, now: float, passes: int) -> bool:
        """Whether so many more passes (the last two make labels and inertia) would take too long."""
        return self.max_seconds is not None and now - self.began + passes * self.longest >= self.max_seconds


# ------------------------------------------------------------------------------------------------ which fit it is
def identity(
    params: dict[str, Any], init: Any, n_init: int, data: Prepared, X: Any, backend: Backend
) -> dict[str, Any]:
    """What must be the same for a fit to go on: the version, parameters that decide bits, and the data."""
    from . import __version__

    random_state = params["random_state"]
    is_plain = random_state is None or isinstance(random_state, int | np.integer)
    return {
        "gpukmeans": __version__,
        "n_clusters": int(params["n_clusters"]),
        "init": f"array {_digest(init)}" if isinstance(init, np.ndarray) else getattr(init, "__qualname__", init),
        "n_init": n_init,
        "max_iter": int(params["max_iter"]),
        "tol": float(params["tol"]),
        "random_state": random_state if random_state is None else int(random_state) if is_plain else "a generator",
        "precision": params["precision"],
        "shape of X": list(X.shape),
        "dtype of X": str(X.dtype),
        "sample_weight": _digest(*(rows.sample_weight for rows in data.blocks)),
        "content of X": _fingerprint(backend, data),
    }


def _fingerprint(backend: Backend, data: Prepared) -> str:
    """Of ranges and sums of each feature and of some rows: the same for any blocks and on any backend."""
    codes = Moments.for_range(data.summary.low, data.summary.high, data.n_samples)
    sums = [backend.moments(rows, codes) for rows in data.blocks]
    rows = np.unique(np.linspace(0, data.n_samples - 1, SAMPLED_ROWS).astype(np.intp))
    ranges = data.summary.low + 0.0, data.summary.high + 0.0  # no -0.0
    return _digest(*ranges, sum(a for a, _ in sums), sum(b for _, b in sums), seeding.take(data.blocks, rows))


def _digest(*arrays: Any) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        if array is not None:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


# ------------------------------------------------------------------------------------------------ the file
def write(path: str | os.PathLike[str], fit: dict[str, Any], saved: Saved) -> None:
    """Write a checkpoint, whole or not at all."""
    best = saved.best
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "fit": fit,
        "run": saved.run,
        "history": saved.position.history,
        "best": None if best is None else best._asdict() | {"centers": None},
        "rng_state": saved.rng_state,
    }
    arrays = {"before": saved.position.before, "now": saved.position.now}
    if best is not None:
        arrays["best"] = best.centers
    text = np.frombuffer(json.dumps(header, default=_plain).encode(), np.uint8)
    with atomic_write(path) as file:
        np.savez(file, allow_pickle=False, header=text, **arrays)
    _log.debug("checkpoint %s: run %d, %d iterations", path, saved.run, len(saved.position.history))


def read(path: str | os.PathLike[str], fit: dict[str, Any]) -> Saved:
    """Read a checkpoint of this fit; one of another fit is refused with what differs."""
    name = os.fspath(path)
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                header = json.loads(archive["header"].tobytes())
                if header["format"] != _FORMAT or header["version"] != _VERSION:
                    raise CheckpointError(f"{name} is a checkpoint of another version of gpukmeans.")
                _refuse_others(name, header["fit"], fit)
                history = [Iteration(*record) for record in header["history"]]
                position = Position(archive["before"], archive["now"], history)
                best = header["best"]
                if best is not None:
                    best["history"] = [Iteration(*record) for record in best["history"]]
                    best = BestRun(**best | {"centers": archive["best"]})
                return Saved(int(header["run"]), position, best, _arrays(header["rng_state"]))
        except CheckpointError:
            raise
        except (AttributeError, MemoryError, zipfile.BadZipFile, *CORRUPT) as error:
            raise CheckpointError(f"{name} is no checkpoint of gpukmeans, or it is truncated or corrupt.") from error


def _refuse_others(name: str, saved: dict[str, Any], fit: dict[str, Any]) -> None:
    different = [key for key in fit if saved[key] != fit[key]]
    if different:
        listed = "; ".join(
            f"{key} differs" if key == "content of X" else f"{key} was {saved[key]!r} and is {fit[key]!r}"
            for key in different
        )
        raise CheckpointError(f"{name} is a checkpoint of another fit: {listed}.")


# ------------------------------------------------------------------------------------------------ random numbers
def rng_state(rng: seeding.RandomState) -> dict[str, Any]:
    """The state of the random numbers, which JSON can hold."""
    if isinstance(rng, np.random.Generator):
        return dict(rng.bit_generator.state)
    state: dict[str, Any] = rng.get_state(legacy=False)
    return state


def set_rng_state(rng: seeding.RandomState, state: dict[str, Any], name: object) -> None:
    """Let random numbers go on from a state."""
    try:
        if isinstance(rng, np.random.Generator):
            rng.bit_generator.state = state
        else:
            rng.set_state(state)
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{name} was written with another kind of random_state: {error}") from error


def _plain(value: Any) -> Any:
    """Values of NumPy for JSON."""
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": value.dtype.str}
    return value.item()


def _arrays(value: Any) -> Any:
    """What `_plain` made arrays of."""
    if not isinstance(value, dict):
        return value
    if value.keys() == {"array", "dtype"}:
        return np.array(value["array"], dtype=value["dtype"])
    return {key: _arrays(item) for key, item in value.items()}
