"""The emulated matrix instructions, fed word by word as the PTX ISA lays fragments out over lanes; and copies.

A kernel and an emulator by one hand may share a mistake that cancels, so nothing of a kernel is used here: the formulas
are those of "Matrix Fragments for mma.m16n8k16 / m16n8k8" and of "ldmatrix", element by element.
"""

import numpy as np
import pytest
import support
from simt import build
from tensor_scores import KINDS, MODELS, accumulate, bits_in_type, in_type

from gpukmeans.backends import _source

SOURCE = """
template <int KIND> __global__ void multiply(const unsigned* a, const unsigned* b, const float* c, float* d) {
  const int l = threadIdx.x;
  const unsigned words[4] = {a[4 * l], a[4 * l + 1], a[4 * l + 2], a[4 * l + 3]};
  const float start[4] = {c[4 * l], c[4 * l + 1], c[4 * l + 2], c[4 * l + 3]};
  float out[4];
  mma<KIND>(out, words, b[2 * l], b[2 * l + 1], start);
  for (int i = 0; i < 4; i++) d[4 * l + i] = out[i];
}
template <int KIND> __global__ void convert(const float* v, unsigned* words, int n) {
  for (int i = threadIdx.x; i < n; i += 32) words[i] = word_of<KIND>(v[2 * i], v[2 * i + 1]);
}
extern "C" __global__ void load(const char* from, const int* row_of, unsigned* words, float* quads) {
  DYNAMIC_SHARED(char, smem);
  const int l = threadIdx.x;
  cp_async16(shared_address(smem + 16 * l), from + 16 * l);
  cp_async_commit();
  cp_async_wait<0>();
  __syncwarp();
  unsigned r[4];
  float q[4];
  ldmatrix_x4(r, shared_address(smem + 16 * row_of[l]));
  load_x4(q, shared_address(smem + 16 * l));
  for (int i = 0; i < 4; i++) { words[4 * l + i] = r[i]; quads[4 * l + i] = q[i]; }
}
extern "C" __global__ void keys(const float* a, const float* b, float* low, float* high, int* less, int n) {
  const int i = threadIdx.x;
  if (i < n) { low[i] = key_min(a[i], b[i]); high[i] = key_max(a[i], b[i]); less[i] = if_less(a[i], b[i], 1, 0); }
}
"""


def text_of_header():
    """kernels/tensor.cuh with its own headers."""
    whole = _source.source("recheck").partition("constexpr int RECHECK_THREADS")[0]
    return whole + _source.read("tensor.cuh").replace('#include "exact.cuh"', "").replace("#pragma once", "")


@pytest.fixture(scope="module")
def library():
    if build.compiler() is None:
        support.missing("simt", "it needs g++ on x86-64 Linux")
    names = [f"{kernel}<{kind}>" for kernel in ("multiply", "convert") for kind in range(3)]
    return build.build(text_of_header() + SOURCE, [*names, "load", "keys"], checked=True)


def run(library, kernel, *arrays, n=None, shared=0, seed=0):
    library.clear_allocations()
    for a in arrays:
        library.add_allocation(a.ctypes.data, a.nbytes)
    values = [np.uint64(a.ctypes.data).tobytes() for a in arrays]
    if n is not None:
        values.append(np.int32(n).tobytes())
    library.launch(kernel, 1, 32, values, shared=shared, seed=seed, checked=True)


# The formulas of the PTX ISA. i counts the elements of a lane; two of 16 bits make a word, the first in its low half.
def place_of_a(kind, lane, i):
    """Row and column of a_i."""
    group, thread = lane >> 2, lane % 4
    if kind == "tf32":
        return group if i in (0, 2) else group + 8, thread if i in (0, 1) else thread + 4
    row = group if 0 <= i < 2 or 4 <= i < 6 else group + 8
    return row, thread * 2 + (i & 1) + (8 if i >= 4 else 0)


def place_of_b(kind, lane, i):
    """Row and column of b_i."""
    group, thread = lane >> 2, lane % 4
    if kind == "tf32":
        return thread + 4 * i, group
    return thread * 2 + (i & 1) + (8 if i >= 2 else 0), group


def place_of_c(lane, i):
    """Row and column of c_i and d_i."""
    group, thread = lane >> 2, lane % 4
    return group if i < 2 else group + 8, thread * 2 + (i & 1)


def words_of(kind, matrix, place, n_words):
    """Registers of all lanes, shape (32, n_words)."""
    bits, per_word = bits_in_type(matrix, kind), 1 if kind == "tf32" else 2
    words = np.zeros((32, n_words), np.uint32)
    for lane in range(32):
        for i in range(n_words * per_word):
            words[lane, i // per_word] |= bits[place(kind, lane, i)] << np.uint32(16 * (i % per_word))
    return words


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_matrix_instruction_multiplies_fragments_of_the_ptx_isa(library, kind, model):
    rng, size = np.random.default_rng(0), 8 if kind == "tf32" else 16
    A, B = (in_type(rng.normal(size=s) * 2.0 ** rng.integers(-6, 7, s), kind) for s in ((16, size), (size, 8)))
    C = (rng.normal(size=(16, 8)) * 30).astype(np.float32)
    c, d = np.zeros((32, 4), np.float32), np.zeros((32, 4), np.float32)
    for lane in range(32):
        for i in range(4):
            c[lane, i] = C[place_of_c(lane, i)]
    a, b = words_of(kind, A, place_of_a, 4), words_of(kind, B, place_of_b, 2)
    expected = accumulate(C, A, B, kind, model)
    library.set_rounding(model)
    for seed in (0, 3):
        run(library, f"multiply<{KINDS.index(kind)}>", a, b, c, d, seed=seed)
        for lane in range(32):
            for i in range(4):
                assert d[lane, i] == expected[place_of_c(lane, i)], (lane, i)
    np.testing.assert_allclose(expected, C + A.astype(np.float64) @ B, rtol=1e-5, atol=1e-3)


def test_the_models_of_rounding_differ():
    c, ones = np.ones((1, 1), np.float32), np.ones((16, 1), np.float32)
    a = np.full((1, 16), 0.75 * 2.0**-23, np.float32)  # three quarters of the accumulator's last place
    once, each, blocks = (float(accumulate(c, a, ones, "bf16", model)[0, 0]) - 1 for model in MODELS)
    assert once == 12 * 2.0**-23
    assert each == blocks == 0
    a = np.array([[-0.75, 0.25 * 2.0**-23, 0, 0]], np.float32)  # a small sum of terms aligned to 1
    once, each, blocks = (float(accumulate(c, a, ones[:4], "tf32", model)[0, 0]) - 0.25 for model in MODELS)
    assert once == each == 0.25 * 2.0**-23
    assert blocks == 0


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_rounded_to_the_nearest_of_the_type(library, kind):
    rng = np.random.default_rng(1)
    v = (rng.normal(size=4000) * 2.0 ** rng.integers(-30, 14, 4000)).astype(np.float32)
    v[:8] = 0, -0.0, 1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-11, 1 + 3 * 2.0**-11, np.inf, -np.inf  # ties, infinities
    words = np.zeros(2000, np.uint32)
    run(library, f"convert<{KINDS.index(kind)}>", v, words, n=2000)
    expected = bits_in_type(v[::2], kind)
    if kind != "tf32":
        expected = expected | bits_in_type(v[1::2], kind) << np.uint32(16)
    np.testing.assert_array_equal(words, expected)
    v = v[8:]
    half_unit = np.maximum(np.abs(v) * 2.0 ** (-8 if kind == "bf16" else -11), 2.0**-25 if kind == "fp16" else 0)
    assert (np.abs(in_type(v, kind) - v) <= half_unit).all()


def test_ldmatrix_gives_each_lane_a_word_of_the_rows_that_lanes_point_to(library):
    rng = np.random.default_rng(2)
    pieces, row_of = rng.integers(0, 1 << 30, (32, 4)).astype(np.uint32), rng.permutation(32).astype(np.int32)
    words, quads = np.zeros((32, 4), np.uint32), np.zeros((32, 4), np.float32)
    run(library, "load", pieces, row_of, words, quads, shared=512)
    for lane in range(32):
        for i in range(4):  # matrix i: its row lane / 4 is where lane 8 i + lane / 4 points to
            assert words[lane, i] == pieces[row_of[8 * i + lane // 4], lane % 4]
    np.testing.assert_array_equal(quads.view(np.uint32), pieces)


def test_banks_are_counted(library):
    pieces, words, quads = np.zeros((32, 4), np.uint32), np.zeros((32, 4), np.uint32), np.zeros((32, 4), np.float32)
    in_order = np.arange(32, dtype=np.int32)
    library.bank_conflicts()
    run(library, "load", pieces, in_order, words, quads, shared=512)
    assert library.bank_conflicts() == 1
    strided = (in_order % 4 * 8 + in_order // 4).astype(np.int32)  # two of the 8 groups of banks for 8 rows
    run(library, "load", pieces, strided, words, quads, shared=512)
    assert library.bank_conflicts() == (4 * 1 + 4 * 1 + 4 * 4) / 12  # copies, vector loads, ldmatrix


@pytest.mark.parametrize(
    ("old", "new", "report"),
    [
        ("cp_async_wait<0>();\n", "\n", None),
        ("cp_async_commit();\n", "\n", None),
        ("  __syncwarp();\n", "", "race|uninitialised"),
        ("smem + 16 * l), from", "smem + 16 * l + 16), from", "past its shared|outside|race|uninitialised"),
        ("smem + 16 * l), from", "smem + 8 * l), from", "misaligned|race"),
        ("smem + 16 * row_of[l]", "smem + 16 * row_of[l] + 2", "misaligned"),
    ],
)
def test_a_wrong_copy_is_seen(old, new, report):
    assert SOURCE.count(old) == 1
    library = build.build(text_of_header() + SOURCE.replace(old, new), ["load"], checked=True)
    pieces, words, quads = np.ones((32, 4), np.float32), np.zeros((32, 4), np.uint32), np.zeros((32, 4), np.float32)
    row_of = np.arange(32, dtype=np.int32)[::-1].copy()
    if report is None:
        run(library, "load", pieces, row_of, words, quads, shared=512)
        assert np.isnan(quads).all()
        return
    with pytest.raises(build.SimtError, match=report):
        run(library, "load", pieces, row_of, words, quads, shared=512)


def test_keys_keep_subnormals_and_drop_nan(library):
    one, nan = np.float32(1e-45), np.float32("nan")  # the smallest: an index in the low bits of a score that is 0
    a, b = np.array([one, 2 * one, -one, nan, 1, 1], np.float32), np.array([2 * one, one, 0, 1, nan, 2], np.float32)
    low, high, less = np.zeros(6, np.float32), np.zeros(6, np.float32), np.zeros(6, np.int32)
    run(library, "keys", a, b, low, high, less, n=6)
    support.assert_same_array(low, np.array([one, one, -one, 1, 1, 1], np.float32))
    support.assert_same_array(high, np.array([2 * one, 2 * one, 0, 1, 1, 2], np.float32))
    assert less.tolist() == [1, 0, 1, 0, 0, 1]
