"""NumPy's functions as work on the current stream: what CuPy's own kernels would do, when the queue runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import array as arrays
from .control import control
from .device import getDevice
from .memory import Block
from .stream import get_current_stream


def unsupported(value: Any) -> TypeError:
    """The error for a NumPy array where CuPy wants its own."""
    return TypeError(f"Unsupported type {type(value)}")


def check(*values: Any) -> list[Any]:
    """The device arrays among arguments, all on the current device; NumPy arrays are refused."""
    found = []
    for v in values:
        if isinstance(v, (list, tuple)):
            found += check(*v)
        elif isinstance(v, arrays.ndarray):
            if v.device.id != getDevice():
                raise ValueError(f"stand-in: an array of device {v.device.id} where device {getDevice()} is current")
            found.append(v)
        elif isinstance(v, np.ndarray):
            raise unsupported(v)
    return found


def views(value: Any) -> Any:
    """Arguments with NumPy views in the place of device arrays."""
    if isinstance(value, (list, tuple)):
        return type(value)(views(v) for v in value)
    return value._a if isinstance(value, arrays.ndarray) else value


def blocks(found: list[Any]) -> list[Block]:
    """The memory of device arrays."""
    return [a.data.mem._block for a in found if a.data.mem._block is not None]


def lazily(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """A new array with the function's result, when the queue has run. Its shape must not depend on values."""
    found = check(args)
    given = views(args)
    with np.errstate(all="ignore"):
        like = np.asarray(function(*given, **options))  # of values that may not be there yet: for shape and dtype only
    c_order = like.flags.c_contiguous or not like.flags.f_contiguous
    result = arrays.ndarray(like.shape, like.dtype, order="C" if c_order else "F")
    into = result._a

    def run() -> None:
        with np.errstate(all="ignore"):
            into[...] = function(*given, **options)

    get_current_stream()._queue.submit(run, touches=blocks([*found, result]))
    return result


def at_once(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Results whose shape depends on values: CuPy waits for the stream, too."""
    check(args)
    wait()
    result = function(*views(args), **options)
    return tuple(map(_to_device, result)) if isinstance(result, tuple) else _to_device(result)


def wait() -> None:
    """Wait for the current stream because a value is needed."""
    control.log.syncs["get"] += 1
    get_current_stream()._queue.run()


def _to_device(values: Any) -> Any:
    values = np.asarray(values)
    result = arrays.ndarray(values.shape, values.dtype)
    into = result._a
    get_current_stream()._queue.submit(lambda: into.__setitem__(..., values), touches=blocks([result]))
    return result
