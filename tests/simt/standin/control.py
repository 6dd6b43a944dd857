"""What tests set and read: the machine that is played, how strictly, and what happened on it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

MIB = 1 << 20

# What cupy.cuda.Device(i).attributes gives, for a card like an A100; `control.properties` overrides.
A100 = {
    "MultiProcessorCount": 108,
    "MaxSharedMemoryPerBlock": 48 << 10,
    "MaxSharedMemoryPerBlockOptin": 163 << 10,
    "MaxSharedMemoryPerMultiprocessor": 164 << 10,
    "ReservedSharedMemoryPerBlock": 1 << 10,
    "MaxRegistersPerBlock": 65536,
    "MaxRegistersPerMultiprocessor": 65536,
    "MaxThreadsPerBlock": 1024,
    "MaxThreadsPerMultiProcessor": 2048,
    "MaxBlocksPerMultiprocessor": 32,
    "WarpSize": 32,
    "ClockRate": 1_410_000,  # kHz
    "MemoryClockRate": 1_215_000,
    "GlobalMemoryBusWidth": 5120,
    "L2CacheSize": 40 * MIB,
    "SingleToDoublePrecisionPerfRatio": 2,
    "MaxGridDimX": 2**31 - 1,
    "MaxGridDimY": 65535,
    "MaxGridDimZ": 65535,
    "MaxBlockDimX": 1024,
    "MaxBlockDimY": 1024,
    "MaxBlockDimZ": 64,
}


@dataclass
class Log:
    """What happened since the last `clear()`.

    `syncs` counts how often the host waited, by what it waited for: "stream", "event", "device", "get" (of an array,
    blocking; also item, int, bool, and functions whose result's shape depends on values), "interface" (asarray of
    another library's array), "query" (a `done` that was not). Copies are counted when they are asked for.
    """

    launches: Counter[str] = field(default_factory=Counter)  # those of a graph each time that it is launched
    graphs: int = 0  # launched
    syncs: Counter[str] = field(default_factory=Counter)
    allocations: int = 0
    allocated_bytes: int = 0
    to_device: list[int] = field(default_factory=list)  # bytes of every copy
    to_host: list[int] = field(default_factory=list)
    within_device: list[int] = field(default_factory=list)
    between_devices: list[int] = field(default_factory=list)

    def clear(self) -> None:
        """Forget what happened."""
        fresh = Log()
        for f in fields(self):
            setattr(self, f.name, getattr(fresh, f.name))


@dataclass
class Control:
    """The machine that is played. Set attributes directly, or all of them by `reset`."""

    checked: bool = False  # kernels report bounds, alignment, uninitialised shared memory, races
    seed: int = 0  # order of threads and blocks, another one for every launch; 0 runs them in order
    streams: str = "lazy"  # a queue runs when it must; "ahead": every other queue first runs as far as it may
    n_devices: int = 1
    device_memory: int = 1 << 30
    compute_capability: str = "80"
    device_name: bytes = b"Stand-in for NVIDIA A100"
    properties: dict[str, int] = field(default_factory=dict)
    runtime_version: int = 12090
    driver_version: int = 12090  # 0: no driver; below 12000: too old. Both fail as status 35 does
    nvrtc_version: tuple[int, int] | None = (12, 9)  # None: the library is not installed
    num_regs: int = 64
    local_size_bytes: int = 0
    fail_allocation: int | None = None  # the i-th allocation on a device from now (1 = the next) has no memory, once
    edits: Callable[[str], str] | None = None  # applied to a module's source before it is built: mutants
    log: Log = field(default_factory=Log)

    def reset(self, **settings: Any) -> None:
        """Defaults, except for the settings given; devices forget all arrays, streams and current devices."""
        from . import device

        fresh = Control()
        for f in fields(self):
            setattr(self, f.name, getattr(fresh, f.name))
        for name, value in settings.items():
            if name not in Control.__dataclass_fields__:
                raise AttributeError(f"control has no setting {name!r}")
            setattr(self, name, value)
        device.reset()

    def attributes(self) -> dict[str, int]:
        """What Device.attributes gives."""
        major, minor = divmod(int(self.compute_capability), 10)
        return {**A100, "ComputeCapabilityMajor": major, "ComputeCapabilityMinor": minor, **self.properties}

    def status(self) -> int:
        """CUDA's error code for asking anything of this machine; 0 if it has a device."""
        if self.driver_version < self.runtime_version // 1000 * 1000:
            return 35
        return 0 if self.n_devices else 100

    def next_seed(self) -> int:
        """The seed of the next launch."""
        self.seed += self.seed > 0
        return self.seed

    def allocation_fails(self) -> bool:
        """Count one allocation on a device, and whether it is the one to fail."""
        self.log.allocations += 1
        if self.fail_allocation is None:
            return False
        self.fail_allocation -= 1
        if self.fail_allocation > 0:
            return False
        self.fail_allocation = None
        return True


control = Control()
