"""What `_atomic` does, for a single thread: where the intrinsics do not compile."""

from __future__ import annotations

from ._numba_compiler import compiled


def _fetch_add(array, index, value):  # type: ignore[no-untyped-def]
    before = array[index]
    array[index] = before + value
    return before


def _read(array, index):  # type: ignore[no-untyped-def]
    return array[index]


def _write(array, index, value):  # type: ignore[no-untyped-def]
    array[index] = value


def _pause():  # type: ignore[no-untyped-def]
    return


fetch_add = compiled(_fetch_add, inline="always")
read = compiled(_read, inline="always")
write = compiled(_write, inline="always")
pause = compiled(_pause, inline="always")
