"""A device that is the harness: arrays in host memory and launches by kernel name."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .build import KERNELS, Library, build

INSTANCES = {
    "assign": [
        *(
            f"assign_tiled<{t}, {a}, {c}>"
            for t in ("float", "double")
            for a in ("true", "false")
            for c in ("true", "false")
        ),
        *(f"assign_small<{t}, {dp}, 4>" for t in ("float", "double") for dp in (4, 8, 16)),
    ],
    "recheck": ["recheck<float>", "recheck<double>"],
    "accumulate": [f"{v}<{t}>" for v in ("add_all_rows", "move_rows") for t in ("float", "double")],
    "recenter": [
        *(f"{v}<{t}>" for v in ("publish_centers", "recenter", "hide_duplicates") for t in ("float", "double")),
        "finish_iteration",
        "bound_terms",
    ],
    "seed": [
        *(
            f"{v}<{t}>"
            for v in ("seed_update", "seed_potentials", "seed_find", "seed_trials")
            for t in ("float", "double")
        ),
        "seed_scan",
    ],
    "inertia": ["own_distance<float>", "own_distance<double>", "inertia_sum"],
    "summary": [f"{v}<{t}>" for v in ("summary", "weighted_peaks", "moments") for t in ("float", "double")],
}
_FILE_OF = {instance: file for file, instances in INSTANCES.items() for instance in instances}
_KINDS = {"i4": np.int32, "i8": np.int64, "u4": np.uint32, "u8": np.uint64, "f4": np.float32, "f8": np.float64}


class Device:
    """Launches kernels on the CPU.

    Parameters
    ----------
    checked : bool
        Report bounds, alignment, uninitialised shared memory, races.
    seed : int
        Order of threads and blocks, another one for every launch; 0 runs them in order.
    defines : dict
        Macros, such as smaller tiles.
    edits : dict
        File name -> (old, new): a one-line defect.
    only : str
        Build the instances that contain this text, where there are such (assign.cu has many).
    """

    def __init__(
        self,
        *,
        checked: bool = False,
        seed: int = 0,
        defines: Mapping[str, int] | None = None,
        edits: Mapping[str, tuple[str, str]] | None = None,
        only: str = "",
    ) -> None:
        self.only = only
        self.checked, self.seed, self.defines, self.edits = checked, seed, dict(defines or {}), dict(edits or {})
        self._libraries: dict[str, Library] = {}
        self._arrays: list[np.ndarray] = []

    def define(self, name: str, default: int) -> int:
        """A tile size: as shipped, or as this device was told."""
        return self.defines.get(name, default)

    def _text(self, name: str) -> str:
        text = (KERNELS / name).read_text()
        if name in self.edits:
            old, new = self.edits[name]
            assert text.count(old) >= 1, f"{name} has no line {old!r}"
            text = text.replace(old, new, 1)
        return text

    def library(self, file: str) -> Library:
        """The library of one .cu file; built on its first use."""
        if file not in self._libraries:
            headers = {p.name: self._text(p.name) for p in KERNELS.glob("*.cuh")}
            instances = [i for i in INSTANCES[file] if self.only in i or "<" not in i]
            self._libraries[file] = build(
                self._text(f"{file}.cu"), instances, headers=headers, defines=self.defines, checked=self.checked
            )
            self._libraries[file].clear_allocations()
            for a in self._arrays:
                self._libraries[file].add_allocation(a.ctypes.data, a.nbytes)
        return self._libraries[file]

    def array(self, values: Any, dtype: Any = None) -> np.ndarray:
        """A copy of an array, aligned as a device's allocator would."""
        values = np.ascontiguousarray(values, dtype)
        raw = np.empty(values.nbytes + 512, np.uint8)
        offset = -raw.ctypes.data % 256
        copy = raw[offset : offset + values.nbytes].view(values.dtype).reshape(values.shape)
        copy[...] = values
        for library in self._libraries.values():
            library.add_allocation(copy.ctypes.data, copy.nbytes)
        self._arrays.append(copy)
        return copy

    def zeros(self, shape: Any, dtype: Any) -> np.ndarray:
        """An array of zeros."""
        return self.array(np.zeros(shape, dtype))

    def free(self) -> None:
        """Forget all arrays."""
        self._arrays.clear()
        for library in self._libraries.values():
            library.clear_allocations()

    def launch(self, name: str, grid: int, block: int, *args: Any, shared: int = 0) -> None:
        """Run one kernel; None is a null pointer, Python numbers become what the kernel wants."""
        library = self.library(_FILE_OF[name])
        wants = library.signature[name]
        assert len(args) == len(wants), f"{name} takes {len(wants)} arguments, got {len(args)}"
        values = []
        for a, want in zip(args, wants, strict=True):
            if want == "p8":
                assert a is None or isinstance(a, np.ndarray), f"{name}: {a!r} where it wants an array"
                values.append(np.uint64(0 if a is None else a.ctypes.data).tobytes())
            else:
                assert not isinstance(a, np.ndarray) or a.ndim == 0, f"{name}: an array where it wants {want}"
                values.append(_KINDS[want](a).tobytes())
        self.seed += self.seed > 0
        library.launch(name, int(grid), block, values, shared=shared, seed=self.seed, checked=self.checked)
