"""What the checks run on: a small card that is played, problems for it, launches of single kernels."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import support

from gpukmeans import exact
from gpukmeans.backends import _launch, _source, _tensor_config
from gpukmeans.backends._tensor_config import LONGER, Shape, Shapes
from gpukmeans.halves import Halves

SHRUNK = _launch.Tiles(assign_side=4, assign_small_floats=64, seed_block_rows=96, recenter_threads=32)
SHRUNK_SHAPES = Shapes(
    many_rows={
        64: Shape(2, 2, 4), 128: Shape(2, 2, 4), 256: Shape(2, 4, 4), 512: Shape(2, 8, 8), LONGER: Shape(2, 4, 2, 2)
    },
    few_rows={
        64: Shape(1, 2, 4), 128: Shape(1, 2, 4), 256: Shape(1, 4, 4), 512: Shape(1, 8, 8), LONGER: Shape(1, 2, 4, 2)
    },
)  # fmt: skip
# Two blocks of 256 threads or four of 128 fill this card: loops over the grid make several trips.
SMALL_CARD = {"MultiProcessorCount": 1, "MaxThreadsPerMultiProcessor": 256}
NUMBERS = {"i4": np.int32, "i8": np.int64, "u4": np.uint32, "u8": np.uint64, "f4": np.float32, "f8": np.float64}


@contextmanager
def machine(*, tiles: Any = SHRUNK, edit: Any = None, kernels: Any = (), **settings: Any) -> Iterator[Any]:
    """A small card, with these tiles compiled in; `settings` as for `support.standin_cupy`.

    `edit` changes the source of the named kernels, and of no others: what is built need not be built again.
    """
    asked_for: list[str] = []
    compile_ = _source._compile

    def compile_and_tell(instance: str) -> Any:
        asked_for[:] = [instance.partition("<")[0]]
        return compile_(instance)

    def edited(source: str) -> str:
        return edit(source) if asked_for[0] in kernels else source

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_launch, "TILES", tiles)
        patch.setattr(_tensor_config, "SHAPES", _tensor_config.SHAPES if tiles == _launch.Tiles() else SHRUNK_SHAPES)
        tensor = dict.fromkeys(_tensor_config.instances(), "assign_sm80")
        tensor |= dict.fromkeys(_tensor_config.wide_instances(), "assign_sm80_wide")
        patch.setattr(_source, "FILE_OF", {**_source.FILE_OF, **tensor})
        patch.setattr(_source, "_compile", compile_and_tell)
        properties = {**SMALL_CARD, **settings.pop("properties", {})}
        with support.standin_cupy(properties=properties, edits=edit and edited, **settings) as control:
            yield control


def problem(n, d, k, dtype, kind, *, weights=False, seed=0):
    """Rows, starting centers, weights. `wide`: entries spread over 2^+-14, where a fused multiply-add shows."""
    rng = np.random.default_rng((n, d, k, seed))
    X = rng.normal(size=(n, d))
    if kind == "wide":
        X *= 2.0 ** rng.integers(-14, 15, (n, d))
    elif kind == "ties":
        X = rng.integers(0, 3, (n, d)).astype(float)
    elif kind == "duplicates":
        X = X[rng.integers(0, max(1, n // 4), n)]
    elif kind == "offset":
        X += 1e6
    elif kind == "subnormal":  # some entries so small that a flush to zero would show in sums and distances
        X *= np.where(rng.random((n, d)) < 0.5, 2.0 ** (-141 if dtype == "f4" else -1060), 1.0)
    X = X.astype(dtype)
    w = rng.uniform(0, 3, n) * (rng.random(n) < 0.9) if weights else None
    if w is not None:
        w[rng.integers(n)] = 1.5
    return X, X[rng.choice(n, k, replace=False)], w


def on_card(values: Any, dtype: Any = None, *, skip: int = 0) -> Any:
    """A copy on the card, which begins `skip` values behind an address that is a multiple of 16."""
    import cupy

    values = np.ascontiguousarray(values, dtype)
    return cupy.asarray(np.append(values.ravel()[:skip], values))[skip:].reshape(values.shape)


def halved(X: Any, kind: str) -> Halves:
    """Rows rounded to 16 bits (bf16: toward 0), on the host."""
    words = X.astype(np.float16).view(np.uint16) if kind == "fp16" else (X.view(np.uint32) >> 16).astype(np.uint16)
    return Halves(words, kind, None)


def as_stored(X: Any, *, skip: int = 0) -> Any:
    """`on_card` for rows, which may have 16 bits."""
    return Halves(on_card(X.words, skip=skip), X.kind, None) if isinstance(X, Halves) else on_card(X, skip=skip)


def launch(instance: str, grid: int, block: int, *args: Any, shared: int = 0) -> None:
    """Run one kernel; Python numbers become what it wants."""
    kernel = _source.kernels(0)(instance, shared)
    wants = kernel._module._current_library().signature[instance]
    assert len(args) == len(wants), f"{instance} takes {len(wants)} arguments"
    values = (NUMBERS[w](a) if isinstance(a, (int, float)) else a for a, w in zip(args, wants, strict=True))
    kernel((grid,), (block,), tuple(values), shared_mem=shared)


def library_of(instance: str, shared: int = 0) -> Any:
    """The library of an instance, which knows how matrix instructions add and counts its bank conflicts."""
    return _source.kernels(0)(instance, shared)._module._current_library()


def never() -> Any:
    """The state of a loop that goes on."""
    return on_card([0], np.int32)


def type_of(X: Any) -> str:
    """The kernels' name of a dtype."""
    return {"f4": "float", "f8": "double"}[X.dtype.str[1:]]


def encoding_of(X: Any, w: Any) -> exact.Encoding:
    """The codes of a fit of these rows."""
    y = X.astype(np.float64) if w is None else w[:, None] * X.astype(np.float64)
    return exact.Encoding.for_peaks(np.abs(y).max(axis=0), None if w is None else float(w.max()), len(X), X.dtype)
