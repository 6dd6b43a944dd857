"""Devices, the current device of a thread, and the functions of cupy.cuda.runtime."""

from __future__ import annotations

import threading
from typing import Any

from . import queues
from .control import control
from .errors import CUDARuntimeError, invalid, need_device

is_hip = False
streamLegacy, streamPerThread = 1, 2  # noqa: N816
errorMemoryAllocation = 2  # noqa: N816
_local = threading.local()
_generation = 0


def reset() -> None:
    """Every device as after a start of the process."""
    global _local, _generation
    from . import memory, stream

    _local = threading.local()
    _generation += 1  # what dies later belongs to the past
    queues.queues.clear()
    memory.reset()
    stream.reset()


def generation() -> int:
    """Changes with every reset."""
    return _generation


def getDeviceCount() -> int:  # noqa: N802
    need_device()
    return control.n_devices


def getDevice() -> int:  # noqa: N802
    need_device()
    return getattr(_local, "device", 0)


def setDevice(device: int) -> None:  # noqa: N802
    need_device()
    _known(device)
    _local.device = device


def _known(device: int) -> int:
    if not 0 <= device < control.n_devices:
        invalid(CUDARuntimeError, f"device {device} of {control.n_devices}", 101)
    return device


def runtimeGetVersion() -> int:  # noqa: N802
    return control.runtime_version


def driverGetVersion() -> int:  # noqa: N802
    return control.driver_version


def deviceSynchronize() -> None:  # noqa: N802
    control.log.syncs["device"] += 1
    queues.run_device(getDevice())


def streamSynchronize(stream: int) -> None:  # noqa: N802
    queue = queues.find(getDevice(), stream)
    if queue is None:
        invalid(CUDARuntimeError, f"no stream {stream} on device {getDevice()}", 400)
    control.log.syncs["stream"] += 1
    queue.run()


def memGetInfo() -> tuple[int, int]:  # noqa: N802
    from . import memory

    return control.device_memory - memory.pool_of(getDevice()).total, control.device_memory


def deviceCanAccessPeer(device: int, peerDevice: int) -> int:  # noqa: N802
    _known(device), _known(peerDevice)
    return 0


def getDeviceProperties(device: int) -> dict[str, Any]:  # noqa: N802
    need_device()
    _known(device)
    a = control.attributes()
    return {
        "name": control.device_name,
        "totalGlobalMem": control.device_memory,
        "major": a["ComputeCapabilityMajor"],
        "minor": a["ComputeCapabilityMinor"],
        "multiProcessorCount": a["MultiProcessorCount"],
        "sharedMemPerBlock": a["MaxSharedMemoryPerBlock"],
        "sharedMemPerBlockOptin": a["MaxSharedMemoryPerBlockOptin"],
        "sharedMemPerMultiprocessor": a["MaxSharedMemoryPerMultiprocessor"],
        "regsPerBlock": a["MaxRegistersPerBlock"],
        "regsPerMultiprocessor": a["MaxRegistersPerMultiprocessor"],
        "maxThreadsPerBlock": a["MaxThreadsPerBlock"],
        "maxThreadsPerMultiProcessor": a["MaxThreadsPerMultiProcessor"],
        "warpSize": a["WarpSize"],
        "l2CacheSize": a["L2CacheSize"],
        "memoryBusWidth": a["GlobalMemoryBusWidth"],
        "pciBusID": device + 1,
    }


class Device:
    def __init__(self, device: int | Device | None = None) -> None:
        self.id = getDevice() if device is None else int(device)
        self._stack: list[int] = []

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self) -> int:
        return self.id

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"

    def __enter__(self) -> Device:
        self._stack.append(getDevice())
        self.use()
        return self

    def __exit__(self, *error: object) -> None:
        setDevice(self._stack.pop())

    def use(self) -> None:
        setDevice(self.id)

    def synchronize(self) -> None:
        with self:
            deviceSynchronize()

    @property
    def compute_capability(self) -> str:
        need_device()
        _known(self.id)
        return control.compute_capability

    @property
    def attributes(self) -> dict[str, int]:
        """As CuPy, without the two that it leaves to `compute_capability`."""
        need_device()
        _known(self.id)
        return {k: v for k, v in control.attributes().items() if not k.startswith("ComputeCapability")}

    @property
    def mem_info(self) -> tuple[int, int]:
        with self:
            return memGetInfo()

    @property
    def pci_bus_id(self) -> str:
        _known(self.id)
        return f"0000:{self.id + 1:02X}:00.0"
