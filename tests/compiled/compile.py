"""Compile kernels to machine code for any architecture, and disassemble them. No device and no driver are needed.

It takes NVRTC by the binding of the installed CuPy, so it is the compiler and the options of a user's fit; and NVIDIA's
cuobjdump and nvdisasm, from their wheels or from PATH.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import tempfile
import warnings
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpukmeans.backends import _source

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
CUPY_OPTIONS = ("-ftz=true", "--device-as-default-execution-space")  # what CuPy 14 adds for a RawModule
TOOLS = ("cuobjdump", "nvdisasm")


@dataclass(frozen=True)
class Function:
    """Machine code of one kernel: what it takes, and its lines: labels ``name:``, instructions without address."""

    registers: int
    stack: int
    static_shared: int
    lines: tuple[str, ...]


def missing() -> str | None:
    """Why nothing can be compiled here, or None."""
    if importlib.util.find_spec("cupy_backends") is None:
        return "CuPy is not installed"
    try:
        nvrtc_version()
    except (ImportError, OSError, RuntimeError) as error:
        return f"CuPy finds no NVRTC: {error}"
    absent = [tool for tool in TOOLS if _tool(tool) is None]
    packages = " ".join(f"nvidia-cuda-{tool}" for tool in absent)
    return f"no {' and no '.join(absent)}: pip install {packages}" if absent else None


def nvrtc_version() -> str:
    """Version of the compiler, such as 12.9."""
    major, minor = _nvrtc().getVersion()
    return f"{major}.{minor}"


@functools.cache
def kernels(file: str, architecture: int) -> dict[str, Function]:
    """The instances of one of our files that the architecture's card may be asked for, by instance."""
    from . import launches  # which reads machine code, too

    wanted = launches.instances(file, architecture)
    return functions(file, _source.source(file), wanted, architecture) if wanted else {}


def functions(name: str, text: str, instances: Iterable[str], architecture: int) -> dict[str, Function]:
    """The named kernels of a source text; kept on disk under all that decides them."""
    instances = tuple(instances)
    options = (f"-arch=sm_{architecture}", *CUPY_OPTIONS, *_source.options())
    versions = nvrtc_version(), *(_version_of(tool) for tool in TOOLS)
    wanted = (text, instances, options, versions, Path(__file__).read_text())
    kept = cache_directory() / f"{hashlib.sha256(repr(wanted).encode()).hexdigest()[:20]}.z"
    if not kept.exists():
        cubin, symbols = _compile(name, text, instances, options)
        found = _disassemble(cubin, symbols, architecture)
        half = kept.with_suffix(f".{os.getpid()}")
        half.write_bytes(zlib.compress(json.dumps(found).encode(), 1))
        half.replace(kept)  # whole or not at all, also with two writers
    found = json.loads(zlib.decompress(kept.read_bytes()))
    return {k: Function(**{**v, "lines": tuple(v["lines"])}) for k, v in found.items()}


def cache_directory() -> Path:
    """Where results are kept: GPUKMEANS_COMPILED_CACHE, or a folder of the system's temporary directory."""
    default = Path(tempfile.gettempdir()) / f"gpukmeans-compiled-{os.getuid()}"
    path = Path(os.environ.get("GPUKMEANS_COMPILED_CACHE", default))
    path.mkdir(parents=True, exist_ok=True)
    return path


def _nvrtc() -> Any:
    """CuPy's binding of the compiler."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it may miss a driver or other libraries
        import cupy  # noqa: F401  (finds NVRTC's library)
        from cupy_backends.cuda.libs import nvrtc
    return nvrtc


def _compile(name: str, text: str, instances: Iterable[str], options: tuple[str, ...]) -> tuple[bytes, dict[str, str]]:
    """Machine code, and the symbol of each instance."""
    nvrtc = _nvrtc()
    program = nvrtc.createProgram(text, f"{name}.cu", (), ())
    try:
        for instance in instances:
            nvrtc.addNameExpression(program, instance)
        try:
            nvrtc.compileProgram(program, options)
        except nvrtc.NVRTCError as error:
            raise RuntimeError(f"{name}.cu, {options[0]}: {nvrtc.getProgramLog(program)}") from error
        symbols = {nvrtc.getLoweredName(program, instance): instance for instance in instances}
        # CuPy drops the last byte, as if the code were a string; the driver does not mind, the tools do
        return nvrtc.getCUBIN(program) + b"\0", symbols
    finally:
        nvrtc.destroyProgram(program)


def _disassemble(cubin: bytes, symbols: Mapping[str, str], architecture: int) -> dict[str, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.cubin"
        path.write_bytes(cubin)
        usage, code = _run("cuobjdump", "-res-usage", str(path)), _run("nvdisasm", "-c", str(path))
    found: dict[str, dict[str, Any]] = {}
    for symbol, line in re.findall(r"Function ([\w$.]+):\s*\n\s*(REG:.*)", usage):
        if symbol in symbols:
            value = {key: int(number) for key, number in re.findall(r"([A-Z]+)(?:\[\d+\])?:(\d+)", line)}
            # code for compute capability 9 and later counts the KiB that the system keeps in each block
            shared = value["SHARED"] - (1024 if architecture >= 90 else 0)
            found[symbols[symbol]] = {
                "registers": value["REG"],
                "stack": value["STACK"] + value["LOCAL"],
                "static_shared": max(0, shared),
                "lines": [],
            }
    lines = None
    for line in code.splitlines():
        if section := re.match(r"\s*\.section\s+(\S+?),", line):
            lines = found.get(symbols.get(section[1].removeprefix(".text."), ""), {}).get("lines")
        elif lines is not None:
            if label := re.match(r"\s*(\.L_[\w.]+:)", line):
                lines.append(label[1])
            elif (instruction := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;", line)) and instruction[1] != "NOP":
                lines.append(instruction[1])
    return found


def _run(tool: str, *arguments: str) -> str:
    path = _tool(tool)
    assert path is not None, tool
    return subprocess.run([path, *arguments], capture_output=True, text=True, check=True).stdout


@functools.cache
def _tool(name: str) -> str | None:
    """Path of one of NVIDIA's tools."""
    try:
        for file in importlib.metadata.files(f"nvidia-cuda-{name}") or ():
            if file.stem == name and "bin" in file.parts:
                return str(file.locate())
    except importlib.metadata.PackageNotFoundError:
        pass
    return shutil.which(name)


@functools.cache
def _version_of(tool: str) -> str:
    return _run(tool, "--version")
