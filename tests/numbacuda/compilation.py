"""Compile every kernel for some architectures, without a driver, and tell what is in the code, as JSON.

    python compilation.py ARCHITECTURE...

A line each: ``{instance: {"ptx": {...counts}, "log": what ptxas -v says, or null without ptxas}}``.
"""

import functools
import json
import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from types import SimpleNamespace

import numpy as np
from numba import from_dtype, types
from numba.cuda import compile_ptx, compiler, dispatcher

from gpukmeans.backends import _numba_cuda_exact as exact
from gpukmeans.backends import _numba_cuda_kernels as kernels

RECORD = np.dtype(
    [
        ("shift_sq", "f8"),
        *((f"n_{name}", "u8") for name in ("moved", "rechecked", "empty", "changed")),
        ("state", "i8"),
    ],
    align=True,
)
I4, I8, U4, U8, F4, F8 = types.int32, types.int64, types.uint32, types.uint64, types.float32, types.float64


def ptxas():
    """The assembler of NVIDIA's wheel, else the one in PATH; None without either."""
    spec = find_spec("nvidia")
    for folder in spec.submodule_search_locations if spec else ():
        for file in Path(folder).glob("*/bin/ptxas"):
            return str(file)
    return which("ptxas")


def vector(dtype):
    return types.Array(dtype, 1, "C")


def matrix(dtype):
    return types.Array(dtype, 2, "C")


def record(fields):
    return vector(from_dtype(np.dtype(fields)))


def signatures(T, has_weights):
    """Argument types by kernel, for data of type T: two limbs of the sums for float64, as in exact.Encoding."""
    weight = vector(F8) if has_weights else types.none
    sums_low = matrix(I8) if T == F8 else types.none
    weights_low = vector(I8) if has_weights else types.none
    listed, far = record(kernels.UNCERTAIN), record(kernels.FAR)
    for_scores = (vector(T), matrix(F4), vector(F4))
    sums = (matrix(I8), sums_low, vector(I8), weights_low)
    move = (matrix(T), weight, vector(I4), vector(I4), vector(F8), F8, F8, *sums, vector(U8), vector(I4), I8, I4)
    return {
        "assign": (matrix(T), *for_scores, vector(F4), vector(I4), listed, vector(U8), vector(I4), I8, I4, I4, I4),
        "recheck": (
            *(matrix(T), matrix(T), *for_scores, listed, vector(U8), vector(I4), vector(U8), vector(I4)),
            *(I4, I4, I4),
        ),
        "move_rows": (*move, I4),
        "add_all_rows": (*move, I4, I4),
        "mean_center": (matrix(T), vector(T), vector(I4), I4, I4),
        "publish_centers": (matrix(T), *for_scores, vector(U8), vector(U4), I4, I4),
        "recenter": (
            *(*sums, vector(F8), F8, F8, matrix(T), matrix(T), *for_scores, vector(U8), vector(U4), vector(F8)),
            *(vector(U8), vector(I4), I4, I4, I4),
        ),
        "hide_duplicates": (matrix(T), vector(U8), vector(F4), vector(I4), I4, I4),
        "bound_terms": (vector(U4), F8, F8, F8, I4, vector(F4), vector(I4)),
        "finish_iteration": (vector(F8), vector(U8), F8, I4, record(RECORD), vector(I4), I4),
        "own_distance": (matrix(T), matrix(T), vector(I4), weight, vector(F8), vector(F8), I8, I4),
        "inertia_sum": (vector(F8), weight, F8, F8, vector(I8), I8),
        "farthest_of_block": (vector(F8), weight, far, I4, far, I8),
        "farthest_of_all": (far, I4, far, I4),
        "transform": (matrix(T), matrix(T), matrix(T), I8, I4, I4),
        "seed_update": (matrix(T), vector(T), weight, vector(T), vector(F8), I4, I8, I4),
        "seed_potentials": (vector(T), weight, F8, vector(I8), I8),
        "seed_scan": (vector(I8), I8),
        "seed_find": (vector(T), weight, F8, vector(I8), vector(I8), vector(I8), I8),
        "seed_trials": (matrix(T), matrix(T), vector(T), weight, F8, vector(I8), I8, I4, I4),
        "summary": (matrix(T), vector(U8), vector(U8), vector(U4), I8, I4, I4),
        "weighted_peaks": (matrix(T), weight, vector(F8), I8, I4, I4),
        "moments": (matrix(T), vector(F8), vector(F8), vector(F8), vector(I8), vector(I8), I8, I4, I4),
        "scale_values": (vector(T), vector(T), F8, F8, I8),
    }


def instances():
    """Name, Python function and argument types: every kernel for both types, with and without weights."""
    seen = set()
    for T in (F4, F8):
        for has_weights in (False, True):
            for name, args in signatures(T, has_weights).items():
                if (name, args) not in seen:
                    seen.add((name, args))
                    kernel = kernels.KERNELS["assign_tiled" if name == "assign" else name]
                    yield f"{name} {T}{' weights' * has_weights}", kernel.py_func, args


def contracted(x, out):
    """What the kernels must not do: Numba fuses it."""
    acc = 0.0
    for j in range(x.shape[0]):
        t = exact.sub(x[j], 1.0)
        acc = acc + t * t
    out[0] = acc


PATTERNS = {
    "extern": r"^\s*\.extern",
    "calls": r"^\s*call",
    "local": r"^\s*(?:ld|st)\.local|\.local \.align",
    "ftz": r"\.ftz",
    "approximate": r"\.approx",
    "fma64": r"\bfma\.\w+\.f64",
    "fma32": r"\bfma\.rn\.f32",
    "arithmetic64": r"\b(?:add|sub|mul|fma|div|sqrt)\.[\w.]*f64",
    "div64": r"\bdiv\.rn\.f64",
    "to64": r"\bcvt\.f64\.f32",
    "to32": r"\bcvt\.rn\.f32\.f64",
}


def counts(ptx):
    return {name: len(re.findall(pattern, ptx, re.MULTILINE)) for name, pattern in PATTERNS.items()}


def assemble(ptx, architecture, folder):
    """What ptxas says of it, or None without ptxas."""
    tool = ptxas()
    if tool is None:
        return None
    file = Path(folder, "kernel.ptx")
    file.write_text(ptx)
    command = [tool, "-v", f"-arch=sm_{architecture}", "-o", str(Path(folder, "kernel.cubin")), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr + f"exit status {done.returncode}"


def main(architecture):
    cc = (architecture // 10, architecture % 10)
    # device functions ask for the card's capability when they are typed, once for all: there is no card
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=cc)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, function, args in [*instances(), ("control", contracted, (vector(F4), vector(F8)))]:
            ptx, _ = compile_ptx(function, args, cc=cc)
            assert f".target sm_{architecture}" in ptx
            found[name] = {"ptx": counts(ptx), "log": assemble(ptx, architecture, folder)}
    print(json.dumps(found), flush=True)


def translate_once():
    """Only the last step of compilation depends on the architecture: keep what comes before, which takes most time."""
    translate = getattr(compiler, "_compile_pyfunc_with_fixup", None)
    if translate is not None:  # it is private to numba-cuda
        kept = functools.cache(lambda function, args: {})

        def translate_or_recall(function, args, **options):
            found = kept(function, args)
            if not found:
                found["library"] = translate(function, args, **options)
            return found["library"]

        compiler._compile_pyfunc_with_fixup = translate_or_recall


if __name__ == "__main__":
    translate_once()
    for argument in sys.argv[1:]:
        main(int(argument))
