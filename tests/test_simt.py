"""The harness itself: it reports what it should, and nothing of a kernel that is right."""

import numpy as np
import pytest
import support
from simt import build

REVERSE = """
extern "C" __global__ void reverse(const int* in, int* out, int n) {
  DYNAMIC_SHARED(int, s);
  const int i = threadIdx.x;
  if (i < n) s[i] = in[i];
  __syncthreads();
  if (i < n) out[i] = s[n - 1 - i];
}
"""

LANES = """
extern "C" __global__ void lanes(int* out) {
  __shared__ int s[32];
  const int i = threadIdx.x;
  s[i] = __shfl_xor_sync(0xffffffffu, i, 1);
  __syncwarp();
  const unsigned odd = __ballot_sync(0xffffffffu, s[31 - i] % 2);
  atomicAdd(out, __popc(odd) + s[31 - i]);
}
"""

LAST = """
extern "C" __global__ void last(int* out, unsigned* ticket) {
  __shared__ bool is_last;
  out[1 + blockIdx.x * 32 + threadIdx.x] = 1;
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    is_last = atomicAdd(ticket, 1u) == gridDim.x - 1;
    __threadfence();
  }
  __syncthreads();
  int sum = 0;
  if (is_last && threadIdx.x < 2) for (int i = 0; i < 48; i++) sum += out[1 + threadIdx.x * 48 + i];
  if (sum) atomicAdd(out, sum);
}
"""

DEFECTS = {
    "no barrier": (REVERSE, "  __syncthreads();\n", "", "race in shared|uninitialised"),
    "one thread too many": (
        REVERSE,
        "if (i < n) out",
        "if (i <= n) out",
        "runs past its shared|outside every allocation",
    ),
    "read past the end": (
        REVERSE,
        "if (i < n) s[i] = in[i]",
        "if (i < n) s[i] = in[i + 1]",
        "outside every allocation",
    ),
    "never written": (REVERSE, "if (i < n) s[i] =", "if (i < n - 1) s[i] =", "uninitialised shared memory"),
    "barrier in a branch": (
        REVERSE,
        "  __syncthreads();",
        "  if (i < 32) __syncthreads();",
        "divergent __syncthreads|race",
    ),
    "an early return": (REVERSE, "  if (i < n) s", "  if (i >= n) return;\n  s", "divergent __syncthreads"),
    "misaligned": (REVERSE, "= in[i];", "= *(const int*)((const char*)in + i);", "misaligned"),
    "all write one word": (REVERSE, "out[i] = s", "out[0] = s", "write-write race in global memory"),
    "no syncwarp": (LANES, "  __syncwarp();\n", "", "race in shared|uninitialised"),
    "no atomic": (
        LANES,
        "atomicAdd(out, __popc(odd) + s[31 - i])",
        "*out += __popc(odd) + s[31 - i]",
        "race in global memory",
    ),
    "no fence before the ticket": (LAST, "{\n    __threadfence();", "{", "race in global memory"),
    "no fence behind the ticket": (LAST, "- 1;\n    __threadfence();", "- 1;", "race in global memory"),
    "no barrier before the ticket": (LAST, "= 1;\n  __syncthreads();", "= 1;", "race in global memory"),
    "no barrier behind the ticket": (LAST, "  }\n  __syncthreads();", "  }", "race|uninitialised"),
    "the last but one": (LAST, "gridDim.x - 1", "gridDim.x - 2", "race in global memory"),
    "not in its own mask": (LANES, "__ballot_sync(0xffffffffu", "__ballot_sync(0xffffu", "not in its own mask"),
    "a lane stays away": (LANES, "  __syncwarp();", "  if (i) __syncwarp();", "deadlock|mismatch|race"),
    "wrong lanes meet": (
        LANES,
        "  __syncwarp();",
        "  if (i) __syncwarp(); else __ballot_sync(0xffffffffu, 1);",
        "mismatch",
    ),
}


def run(source: str, *, checked: bool, seed: int) -> np.ndarray:
    kernel = next(name for name in ("lanes", "last", "reverse") if f"void {name}" in source)
    library = build.build(source, [kernel], checked=checked)
    given, out = np.arange(40, dtype=np.int32), np.zeros({"lanes": 1, "last": 97, "reverse": 40}[kernel], np.int32)
    library.clear_allocations()
    if kernel == "last":
        given = np.zeros(1, np.uint32)
    for a in (given, out):
        library.add_allocation(a.ctypes.data, a.nbytes)
    pointers = [np.uint64(a.ctypes.data).tobytes() for a in (given, out)]
    if kernel == "lanes":
        library.launch(kernel, 1, 32, pointers[1:], seed=seed, checked=checked)
    elif kernel == "last":
        library.launch(kernel, 3, 32, pointers[::-1], seed=seed, checked=checked)
    else:
        library.launch(kernel, 1, 64, [*pointers, np.int32(40).tobytes()], shared=160, seed=seed, checked=checked)
    return out


@pytest.fixture(scope="module", autouse=True)
def gpp():
    if build.compiler() is None:
        support.missing("simt", "it needs g++ on x86-64 Linux")


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_right_kernel_gives_its_result_and_no_report(checked, seed):
    assert run(REVERSE, checked=checked, seed=seed).tolist() == list(range(39, -1, -1))
    assert run(LANES, checked=checked, seed=seed)[0] == 32 * 16 + sum(range(32))
    assert run(LAST, checked=checked, seed=seed)[0] == 96


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_reported(name):
    source, old, new, report = DEFECTS[name]
    assert source.count(old) == 1
    with pytest.raises(build.SimtError, match=report):  # noqa: PT012
        for seed in (0, 1, 2):
            run(source.replace(old, new), checked=True, seed=seed)


def test_a_report_names_the_source_line():
    source, old, new, _ = DEFECTS["no barrier"]
    with pytest.raises(build.SimtError, match=r"kernel.cu:\d+"):
        run(source.replace(old, new), checked=True, seed=0)


def test_source_that_does_not_compile_says_why():
    with pytest.raises(build.SimtError, match="nonsense"):
        build.build('extern "C" __global__ void k() { nonsense; }', ["k"])
