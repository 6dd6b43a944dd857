"""The backend `numba-cuda`: the verbs as kernels in Python, compiled by Numba for a card, for machines without CuPy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Self

import numpy as np
from numba import cuda as numba_cuda
from numba.cuda.cudadrv import driver as numba_driver
from numpy.typing import NDArray

from ..arrays import as_numba, is_numba, on_device
from ..halves import Halves
from . import _cuda, _launch, _numba_cuda_assign
from ._card import Device
from ._cuda_verbs import CudaBackend
from ._numba_cuda_exact import MAX_THREADS
from ._numba_cuda_kernels import KERNELS

cuda: Any = numba_cuda  # untyped
driver: Any = numba_driver
OUT_OF_MEMORY = 2
"""CUDA_ERROR_OUT_OF_MEMORY."""


class NumbaCudaDevice(Device):
    """A card through Numba: work goes to the default stream."""

    failures = (numba_driver.CudaAPIError,)

    def __init__(self, device_id: int | None) -> None:
        self._stack: list[ExitStack] = []
        cuda.current_context()  # makes one where there is none
        self._gpu = cuda.gpus.current if device_id is None else cuda.gpus[device_id]
        self.id = self._gpu.id
        major, minor = self._gpu.compute_capability
        self.card = _launch.Card(
            10 * major + minor,
            self._property("MULTIPROCESSOR_COUNT", 1),
            0,  # the kernels take no dynamic shared memory
            self._property("MAX_THREADS_PER_MULTI_PROCESSOR", 1024),
        )

    def _property(self, name: str, in_simulator: int) -> int:
        return int(getattr(self._gpu, name, in_simulator))

    def __enter__(self) -> Self:
        stack = ExitStack()
        stack.enter_context(self._gpu)
        self._stack.append(stack)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.pop().close()

    def is_out_of_memory(self, error: BaseException) -> bool:
        return getattr(error, "code", None) == OUT_OF_MEMORY

    def holds(self, x: Any) -> bool:
        return is_numba(x)

    def address(self, array: Any) -> int:
        return 0  # nothing depends on it: the kernels load one value at a time

    # ---- memory
    def empty(self, shape: Any, dtype: Any) -> Any:
        return cuda.device_array(shape, dtype)

    def clear(self, array: Any, byte: int = 0) -> None:
        driver.device_memset(array, byte, array.nbytes, stream=self.current_stream())

    def put(self, values: NDArray[Any]) -> Any:
        return cuda.to_device(values)

    def copy(self, array: Any) -> Any:
        copied = cuda.device_array(array.shape, array.dtype)
        copied.copy_to_device(array, stream=self.current_stream())
        return copied

    def get(self, array: Any, out: NDArray[Any] | None = None) -> NDArray[Any]:
        values: NDArray[Any] = array.copy_to_host(out)
        return values

    def take(self, array: Any, indices: NDArray[np.int64]) -> NDArray[Any]:
        taken = [array[int(i) : int(i) + 1].copy_to_host() for i in indices]
        return np.concatenate(taken) if taken else np.empty((0, *array.shape[1:]), array.dtype)

    def n_used(self, labels: Any) -> int:
        return int(np.count_nonzero(np.bincount(labels.copy_to_host())))

    def memory(self) -> tuple[int, int]:
        free, total = cuda.current_context().get_memory_info()
        return int(free), int(total)

    def name(self) -> str:
        name = getattr(self._gpu, "name", "of the simulator")
        return name.decode() if isinstance(name, bytes) else str(name)

    # ---- streams
    def page_locked(self, shape: Any, dtype: Any) -> NDArray[Any]:
        memory: NDArray[Any] = cuda.pinned_array(shape, dtype)
        return memory

    def current_stream(self) -> Any:
        return cuda.default_stream()

    def new_stream(self) -> Any:
        return cuda.stream()

    def new_event(self) -> Any:
        return cuda.event()

    def wait(self, stream: Any, event: Any) -> None:
        event.wait(stream)

    def send(self, values: NDArray[Any], to: Any, stream: Any) -> None:
        to.copy_to_device(values, stream=stream)

    def fetch(self, array: Any, to: NDArray[Any]) -> None:
        array.copy_to_host(to, stream=self.current_stream())

    def launch(self, launch: _launch.Launch, *args: Any) -> None:
        name = launch.kernel.partition("<")[0]
        if name in _STEPS:
            for kernel, grid, own in _STEPS[name](*args):
                KERNELS[kernel][grid, MAX_THREADS, self.current_stream()](*own)
            return
        # any block of up to MAX_THREADS will do, but for the square of `assign`; all loop over what the grid leaves
        block = _numba_cuda_assign.SIDE**2 if name.startswith("assign") else min(launch.block, MAX_THREADS)
        KERNELS[name][launch.grid, block, self.current_stream()](*args)


def _publish(values: Any, *rest: Any) -> Iterator[tuple[str, int, tuple[Any, ...]]]:
    """`publish_centers` of recenter.cu, kernel by kernel."""
    shift, cs, half, hashes, _, _, cmax, chain, share, tiny, certify, bound, _, _, _, d, ldc, k = rest
    never = cuda.to_device(np.zeros(1, np.int32))
    yield "publish_centers", int(k), (values, shift, cs, half, hashes, cmax, d, ldc)
    yield "hide_duplicates", int(k), (values, hashes, half, never, d, k)
    yield "bound_terms", 1, (cmax, chain, share, tiny, certify, bound, never)


def _recenter(*args: Any) -> Iterator[tuple[str, int, tuple[Any, ...]]]:
    """`recenter` of recenter.cu, kernel by kernel; the mean that it leaves for the next one is taken there."""
    sums, (before, after, _) = args[:7], args[7:10]
    shift, cs, half, hashes, _, _, cmax, chain, share, tiny, certify, bound, _, _, _ = args[10:25]
    moved_sq, tally, threshold, relocated, record, state, d, ldc, k = args[27:]
    scores = (shift, cs, half, hashes, cmax)
    yield "mean_center", int(d), (before, shift, state, d, k)
    yield "recenter", int(k), (*sums, before, after, *scores, moved_sq, tally, state, d, ldc, k)
    yield "hide_duplicates", int(k), (after, hashes, half, state, d, k)
    yield "bound_terms", 1, (cmax, chain, share, tiny, certify, bound, state)
    yield "finish_iteration", 1, (moved_sq, tally, threshold, relocated, record, state, k)


_STEPS = {"publish_centers": _publish, "recenter": _recenter}
"""What is one kernel of recenter.cu is several here."""


class NumbaCudaBackend(CudaBackend):
    """Kernels in Python on an NVIDIA card: simple where those of `cupy` are fast. No tensor cores, no bounds."""

    name = "numba-cuda"

    def __init__(self, precision: str = "exact") -> None:
        super().__init__(precision)
        self.device = NumbaCudaDevice(_cuda.chosen_device())

    def accept(self, X: Any) -> Any:
        """X itself, as an array of Numba if it lies on a card; 16-bit rows in float32."""
        X = X.toarray() if isinstance(X, Halves) else X
        return as_numba(X) if on_device(X) else X
