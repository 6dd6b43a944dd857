"""Rows of 16 bits, float16 or bfloat16: kept as they are, and worked on in float32, which has all their values."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import as_cupy, is_cupy, is_numba, is_torch, on_device, to_host
from .exact import FloatArray


class Halves:
    """Rows of 16 bits as the verbs take them: float32 to all but the kernels, which convert a value as they read it.

    Parameters
    ----------
    words : array of uint16, of NumPy or CuPy, C-contiguous, shape (n_samples, n_features)
        Their bits.
    kind : {"fp16", "bf16"}
    source : object
        The array that was passed.
    """

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(self, words: Any, kind: str, source: Any) -> None:
        self.words, self.kind, self.source = words, kind, source
        self.shape: tuple[int, int] = words.shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        """Of a slice the same of these rows; else rows, or a value by row and column, in float32 on the host."""
        if isinstance(key, slice):
            return Halves(self.words[key], self.kind, self.source)
        return self.expand(to_host(self.words[key]))

    def expand(self, words: NDArray[np.uint16]) -> FloatArray:
        """What these bits stand for."""
        if self.kind == "fp16":
            values: FloatArray = words.view(np.float16).astype(np.float32)
        else:
            values = (words.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return values

    def toarray(self, order: str = "C") -> FloatArray:
        """All of them, on the host."""
        return self.expand(to_host(self.words))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> FloatArray:
        return self.toarray()


def halves(X: Any) -> Any:
    """`X` as `Halves` if it is a C-contiguous matrix of 16-bit floats, of NumPy, torch or on a card; else itself."""
    kind = {"float16": "fp16", "bfloat16": "bf16"}.get(str(getattr(X, "dtype", "")).removeprefix("torch."))
    if kind is None or getattr(X, "ndim", 0) != 2 or 0 in X.shape or is_numba(X):
        return X
    words = _words(X, kind)
    return X if words is None else Halves(words, kind, X)


def _words(X: Any, kind: str) -> Any:
    """The bits of an array in place, or None."""
    if is_torch(X):
        X = X.detach()
        if not X.is_contiguous():
            return None
        X = X.view(sys.modules["torch"].int16)  # neither NumPy nor CuPy has bfloat16
        X = X if X.is_cuda else X.numpy()
    if on_device(X):
        if not is_cupy(X) and find_spec("cupy") is None:
            return None
        X = as_cupy(X)
    elif type(X) not in (np.ndarray, np.memmap) or not X.dtype.isnative:
        return None
    return X.view(np.uint16) if X.flags.c_contiguous else None
