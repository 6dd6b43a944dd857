"""Compile .cu source text to a CPU shared library and launch its kernels."""

import ctypes
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).parent
KERNELS = Path(__file__).parents[2] / "kernels"
FLAGS = ["-std=c++17", "-fPIC", "-fvisibility=hidden", "-fno-gnu-unique", "-fno-strict-aliasing", "-ffp-contract=off"]
FLAGS += ["-Wall", "-Wno-unknown-pragmas", "-Wno-unused-function", "-Wno-unused-variable"]
FAST = ["-O1", "-march=native"]  # -O2 takes ten times as long for the unrolled tiles
CHECKED = ["-Og", "-g1", "-fsanitize=thread", "-DSIMT_CHECK"]  # half the time of -O1 -g


class SimtError(RuntimeError):
    """What the harness found wrong with a kernel or with its launch."""


class _LaunchArgs(ctypes.Structure):
    _fields_ = [
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("smem", ctypes.c_uint64),
        ("seed", ctypes.c_uint64),
        ("check", ctypes.c_int),
        ("yield_1_in", ctypes.c_int),
        ("first_block", ctypes.c_uint),
    ]


def compiler() -> str | None:
    """Path of g++, or None."""
    on_linux = sys.platform == "linux" and platform.machine() == "x86_64"  # fibers switch x86-64 registers
    return shutil.which("g++") if on_linux else None


def cache_directory() -> Path:
    """Where built libraries are kept: GPUKMEANS_SIMT_CACHE, or a folder of the system's temporary directory."""
    default = Path(tempfile.gettempdir()) / f"gpukmeans-simt-{os.getuid()}"
    path = Path(os.environ.get("GPUKMEANS_SIMT_CACHE", default))
    path.mkdir(parents=True, exist_ok=True)
    return path


def build(
    source: str,
    kernels: Sequence[str],
    *,
    headers: Mapping[str, str] | None = None,
    defines: Mapping[str, int] | None = None,
    checked: bool = False,
) -> "Library":
    """Library with the named kernels (template instances too) of a source text.

    `headers` maps the names of headers to their text; they are written beside the source. A library is built once for
    a source, its headers, the harness and the flags.
    """
    names = {name: f"k{i}" for i, name in enumerate(kernels)}
    text = source + "".join(f"\nSIMT_REGISTER({i}, {name})" for name, i in names.items()) + "\n"
    headers = dict(headers or {})
    mode = [*FLAGS, *(CHECKED if checked else FAST)]
    flags = [*mode, *(f"-D{k}={v}" for k, v in (defines or {}).items())]
    library = cache_directory() / f"{_key(text, sorted(headers.items()), flags, _harness())}.so"
    if not library.exists():
        _compile(text, headers, flags, _parsed(mode), library)
    return Library(library, names)


def _key(*decisive: object) -> str:
    return hashlib.sha256(repr(decisive).encode()).hexdigest()[:20]


def _harness() -> dict[str, str]:
    """Text of its headers, by name."""
    return {p.name: p.read_text() for p in sorted(HERE.glob("*.h"))}


def _parsed(mode: Sequence[str]) -> Path:
    """The harness in a folder with what g++ made of it: half the time of a build is reading it.

    No macro of a kernel stands in it, so it is the same for all of them.
    """
    harness = _harness()
    folder = cache_directory() / f"{_key(mode, harness)}.h"
    if not folder.exists():
        new = Path(tempfile.mkdtemp(dir=cache_directory()))
        for name, text in harness.items():
            (new / name).write_text(text)
        header = str(new / "simt_host.h")
        _run(["g++", *mode, "-w", "-x", "c++-header", header, "-o", f"{header}.gch"])  # -w: `#pragma once`
        try:
            new.rename(folder)
        except OSError:  # another builder was first
            shutil.rmtree(new)
    return folder / "simt_host.h"


def _compile(text: str, headers: Mapping[str, str], flags: Sequence[str], harness: Path, library: Path) -> None:
    folder = library.with_suffix(f".{os.getpid()}")
    folder.mkdir()
    try:
        (folder / "kernel.cu").write_text(text)
        for name, content in headers.items():
            (folder / name).write_text(content)
        include = ["-I", str(folder), "-x", "c++", "-include", str(harness)]
        _run(["g++", *flags, *include, "-c", str(folder / "kernel.cu"), "-o", str(folder / "kernel.o")])
        # no -fsanitize here: the harness has the hooks
        _run(["g++", "-shared", str(folder / "kernel.o"), "-o", str(folder / "kernel.so")])
        (folder / "kernel.so").replace(library)  # whole or not at all, also with two builders
    finally:
        shutil.rmtree(folder)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SimtError(f"compile failed:\n{done.stderr}")


class Library:
    """Compiled kernels; `signature` maps each one to its parameters, such as ["p8", "i4"]."""

    def __init__(self, path: Path, names: Mapping[str, str]) -> None:
        self.path, self.names, self._lib = path, names, ctypes.CDLL(str(path))
        self._lib.simt_banks.argtypes = [ctypes.c_void_p]
        self._lib.simt_error.restype = ctypes.c_char_p
        self._lib.simt_base.restype = ctypes.c_void_p
        self.signature: dict[str, list[str]] = {}
        for name, i in names.items():
            text = ctypes.create_string_buffer(1024)
            getattr(self._lib, f"simt_sig_{i}")(text)
            self.signature[name] = text.value.decode().split()

    def add_allocation(self, pointer: int, size: int) -> None:
        """Tell checked mode of memory that kernels may use."""
        self._lib.simt_add_alloc(ctypes.c_void_p(pointer), ctypes.c_size_t(size))

    def clear_allocations(self) -> None:
        """Forget all memory."""
        self._lib.simt_clear_allocs()

    def set_rounding(self, model: int) -> None:
        """How matrix instructions add: 0 rounded once, 1 truncated after each product, 2 in blocks, truncated."""
        self._lib.simt_set_rounding(model)

    def bank_conflicts(self) -> float | None:
        """Clocks of shared memory for a group of 8 lanes, 16 bytes each, since the last call; 1 without conflicts.

        Checked mode counts the loads and copies of kernels/tensor.cuh; None where there were none.
        """
        counted = (ctypes.c_uint64 * 2)()
        self._lib.simt_banks(counted)
        return counted[1] / counted[0] if counted[0] else None

    def launch(
        self,
        name: str,
        grid: int,
        block: int,
        values: Sequence[bytes],
        *,
        shared: int = 0,
        seed: int = 0,
        checked: bool = False,
        first_block: int = 0,
    ) -> None:
        """Run one kernel; `values` are the bytes of its arguments. Seed 0 runs threads in order.

        Blocks before `first_block` are left out: so the end of an array that is too large to work through is reached.
        """
        buffers = [ctypes.create_string_buffer(raw, max(16, len(raw))) for raw in values]
        pointers = (ctypes.c_void_p * max(1, len(buffers)))(*[ctypes.addressof(b) for b in buffers])
        three = ctypes.c_uint * 3
        yield_1_in = 50 if checked and seed else 0
        args = _LaunchArgs(three(grid, 1, 1), three(block, 1, 1), shared, seed, int(checked), yield_1_in, first_block)
        if getattr(self._lib, f"simt_launch_{self.names[name]}")(ctypes.byref(args), pointers):
            raise SimtError(f"{name}: {self._explain(self._lib.simt_error().decode())}")

    def _explain(self, message: str) -> str:
        """Add the source line of the program counter in a report."""
        found = re.search(r"pc (0x[0-9a-f]+)", message)
        if not found or not shutil.which("addr2line"):
            return message
        offset = hex(int(found.group(1), 16) - self._lib.simt_base() - 1)
        line = subprocess.run(["addr2line", "-e", str(self.path), offset], capture_output=True, text=True, check=False)
        return f"{message}\n    at {line.stdout.strip().split('/')[-1]}"
