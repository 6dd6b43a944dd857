"""The backend `cupy`: the kernels of ``kernels/``, CUDA C++, compiled and launched by CuPy on its current stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import cupy
import numpy as np
from numpy.typing import NDArray

from ..arrays import as_cupy, is_cupy, on_device
from ..halves import Halves
from . import _cuda, _cuda_ragged, _source, _tensor_config
from ._card import Device
from ._cards import CardsBackend
from ._cuda_verbs import CudaBackend
from ._launch import Card, Launch
from .base import Small, SmallFit


class CupyDevice(Device):
    """A card through CuPy."""

    failures = (cupy.cuda.memory.OutOfMemoryError,)
    tensor_types = _tensor_config.KINDS
    prunes = True

    def __init__(self, device_id: int | None) -> None:
        self._device = cupy.cuda.Device(device_id)
        self.id = self._device.id
        self._kernels = _source.kernels(self.id)
        has = self._device.attributes
        self.card = Card(
            int(self._device.compute_capability),
            has["MultiProcessorCount"],
            has["MaxSharedMemoryPerBlockOptin"],
            has["MaxThreadsPerMultiProcessor"],
        )

    def __enter__(self) -> Self:
        self._device.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._device.__exit__(*exception)

    def holds(self, x: Any) -> bool:
        return is_cupy(x)

    def address(self, array: Any) -> int:
        return int(array.data.ptr)

    # ---- memory
    def empty(self, shape: Any, dtype: Any) -> Any:
        dtype = np.dtype(dtype)
        if dtype.fields:  # CuPy has no structured arrays
            return cupy.empty(shape * dtype.itemsize, np.uint8)
        return cupy.empty(shape, dtype)

    def clear(self, array: Any, byte: int = 0) -> None:
        array.data.memset_async(byte, array.nbytes)

    def put(self, values: NDArray[Any]) -> Any:
        return cupy.asarray(values)

    def copy(self, array: Any) -> Any:
        return array.copy()

    def get(self, array: Any, out: NDArray[Any] | None = None) -> NDArray[Any]:
        values: NDArray[Any] = array.get(out=out)
        return values

    def take(self, array: Any, indices: NDArray[np.int64]) -> NDArray[Any]:
        taken: NDArray[Any] = array[cupy.asarray(indices)].get()
        return taken

    def n_used(self, labels: Any) -> int:
        return int((cupy.bincount(labels) > 0).sum())

    def memory(self) -> tuple[int, int]:
        free, total = self._device.mem_info
        pool = cupy.get_default_memory_pool()
        return free + pool.total_bytes() - pool.used_bytes(), total

    def name(self) -> str:
        return _cuda.device_name(self.id)

    # ---- streams
    def page_locked(self, shape: Any, dtype: Any) -> NDArray[Any]:
        size = int(np.prod(shape))
        memory = cupy.cuda.alloc_pinned_memory(size * np.dtype(dtype).itemsize)
        return np.frombuffer(memory, dtype, size).reshape(shape)

    def current_stream(self) -> Any:
        return cupy.cuda.get_current_stream()

    def new_stream(self) -> Any:
        return cupy.cuda.Stream(non_blocking=True)

    def new_event(self) -> Any:
        return cupy.cuda.Event(disable_timing=True)

    def wait(self, stream: Any, event: Any) -> None:
        stream.wait_event(event)

    def send(self, values: NDArray[Any], to: Any, stream: Any) -> None:
        to.set(values, stream=stream)

    def fetch(self, array: Any, to: NDArray[Any]) -> None:
        array.get(out=to.view(array.dtype), stream=cupy.cuda.get_current_stream(), blocking=False)

    def capture(self, work: Callable[[], None]) -> Any:
        stream = cupy.cuda.Stream(non_blocking=True)  # the default one cannot
        with stream:
            stream.begin_capture()
            try:
                work()
            finally:
                graph = stream.end_capture()
        return graph

    def default_stream(self) -> Any:
        return cupy.cuda.Stream.null

    def bring(self, array: Any, to: Any) -> None:
        # from card to card where the machine lets them reach each other, else the driver goes through the host
        to.data.copy_from_device_async(array.data, array.nbytes)

    def add(self, values: Any, to: Any) -> None:
        to += values.view(to.dtype)

    def launch(self, launch: Launch, *args: Any) -> None:
        function = self._kernels(launch.kernel, launch.shared)
        function((launch.grid,), (launch.block,), args, shared_mem=launch.shared)


class CupyBackend(CudaBackend):
    """CUDA C++ kernels on an NVIDIA card."""

    name = "cupy"
    most_small = 1 << 21  # for larger ones a block would work while the rest of the card waits
    keeps_halves = True

    def __init__(self, precision: str = "exact", device_id: int | None = None) -> None:
        super().__init__(precision)
        self.device = CupyDevice(_cuda.chosen_device() if device_id is None else device_id)

    def fit_small(self, problems: Sequence[Small], tol: float, max_iter: int) -> list[SmallFit]:
        return _cuda_ragged.fit_small(self.device, problems, tol, max_iter)

    def accept(self, X: Any) -> Any:
        """X itself; what lies on a card decides which one is used."""
        words = X.words if isinstance(X, Halves) else X
        if not on_device(words):
            return X
        words = as_cupy(words)
        if words.device.id != self.device.id:
            self.device = CupyDevice(words.device.id)
        return X if isinstance(X, Halves) else words


class CupyCardsBackend(CardsBackend):
    """CUDA C++ kernels on all NVIDIA cards that are visible, each with a share of the rows."""

    name = "cupy:all"
    most_small = CupyBackend.most_small
    keeps_halves = True

    def __init__(self, precision: str = "exact") -> None:
        super().__init__([CupyBackend(precision, i) for i in range(cupy.cuda.runtime.getDeviceCount())], precision)

    def accept(self, X: Any) -> Any:
        """X on the host: 16 bits as they are, too, unless they lie on a card."""
        return X if isinstance(X, Halves) and not on_device(X.words) else super().accept(X)

    def fit_small(self, problems: Sequence[Small], tol: float, max_iter: int) -> list[SmallFit]:
        """By the first card: each of them is the work of one block."""
        return self.cards[0].fit_small(problems, tol, max_iter)
