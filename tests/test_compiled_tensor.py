"""The machine code of the tensor pass: its tile loop multiplies, reads shared memory without waste, flushes no key."""

import re

import pytest
import support
from compiled import compile as nvrtc
from compiled import launches, record, sass, tensor_loops
from compiled.tensor_loops import Sizes, chunk_loop, loop

from gpukmeans.backends import _tensor_config

pytestmark = pytest.mark.extra

ARCHITECTURES = record.chosen(tensor_loops.ARCHITECTURES)
# Least multiply-adds of a warp for an instruction: those of the trial, which are more than Triton's.
GOALS = {(a, *of): goal for of, goals in tensor_loops.TRIAL.items() for a, goal in goals.items()}
INSTANCES = [(a, instance) for a in ARCHITECTURES for instance in launches.instances("assign_sm80", a)]
WIDE = [(a, instance) for a in ARCHITECTURES for instance in launches.instances("assign_sm80_wide", a)]


@pytest.fixture(scope="module", autouse=True)
def tools():
    if reason := nvrtc.missing():
        support.missing("nvrtc", reason)


@pytest.mark.parametrize(("architecture", "instance"), INSTANCES)
def test_the_tile_loop_is_little_but_matrix_instructions_and_its_epilogue(architecture, instance):
    sizes, found = Sizes.of(instance), loop(instance, architecture)
    body = sass.tile_loop(nvrtc.kernels("assign_sm80", architecture)[instance])
    assert sass.count(body, "HMMA") == sizes.instructions
    has_minimum_of_three = architecture >= (90 if sizes.form else 100) and architecture != 120
    assert found.epilogue_a_score <= (3.7 if has_minimum_of_three else 4.2)
    if sizes.form:
        most = 3.1 if sizes.row_bytes == 512 else 2.8  # what is not for the scores weighs more where these are fewer
        assert found.slow_a_score <= (most if has_minimum_of_three else 3.4), "the index is for the multipliers"
    if sizes.row_blocks == _tensor_config.SHAPES.many_rows[sizes.row_bytes].row_blocks:
        assert found.products_an_instruction >= GOALS.get((architecture, sizes.kind, sizes.row_bytes), 0)


@pytest.mark.parametrize("architecture", [a for a in ARCHITECTURES if a in _tensor_config.GROUPED])
def test_keys_are_grouped_by_the_count_of_what_is_compiled(architecture):
    """As products bind there, and minimum and maximum where each score has a key."""
    shape = 64, _tensor_config.SHAPES.many_rows[64].row_blocks
    short = [(i, Sizes.of(i)) for a, i in INSTANCES if a == architecture]
    short = [(i, sizes.group) for i, sizes in short if (sizes.row_bytes, sizes.row_blocks) == shape]
    each, grouped = ([i for i, group in short if group == size] for size in (1, _tensor_config.GROUP))
    assert len(each) == len(grouped) == len(_tensor_config.KINDS)
    for instances, clocks in zip((each, grouped), _tensor_config.GROUPED[architecture], strict=True):
        assert [tensor_loops.clocks(i, architecture) for i in instances] == pytest.approx([clocks] * 3, rel=0.03)


@pytest.mark.parametrize(("architecture", "instance"), INSTANCES)
def test_the_tile_loop_moves_16_bytes_at_a_time(architecture, instance):
    sizes, body = Sizes.of(instance), sass.tile_loop(nvrtc.kernels("assign_sm80", architecture)[instance])
    codes = sass.opcodes([line for line in body if not line.startswith("@!PT")])  # never executed: before a copy
    matrices = [code for code in codes if code.startswith("LDSM")]
    assert len(matrices) == sizes.row_bytes // 64 * sizes.center_blocks
    assert all(code.endswith(".4") for code in matrices), matrices
    assert [code for code in codes if re.match(r"LDS\b", code)] == ["LDS.128"] * sizes.center_blocks
    copies = [code for code in codes if code.startswith("LDGSTS")]
    assert len(copies) == sizes.center_blocks * 8 * sizes.row_bytes // 16 // (32 * sizes.warps)
    assert all(".128" in code for code in copies), copies
    assert [sass.count(body, code) for code in (r"LDG\b", r"STS\b")] == [1, 1], "a half norm of each thread"


@pytest.mark.parametrize(("architecture", "instance"), INSTANCES)
def test_no_key_is_flushed(architecture, instance):
    """A score of 0 with an index in its low bits is subnormal: -ftz=true must not reach it."""
    body = sass.tile_loop(nvrtc.kernels("assign_sm80", architecture)[instance])
    compared = [code for code in sass.opcodes(body) if re.match(r"FMNMX|FSETP", code)]
    if Sizes.of(instance).form:
        assert not compared
        assert sass.count(body, r"V?IMNMX3?\b") > Sizes.of(instance).scores - (Sizes.of(instance).group > 1)
        return
    assert compared
    assert not [code for code in compared if "FTZ" in code]


@pytest.mark.parametrize(("architecture", "instance"), WIDE)
def test_the_loop_over_chunks_of_long_rows_does_little_else_and_moves_16_bytes_at_a_time(architecture, instance):
    sizes, function = Sizes.of(instance), nvrtc.kernels("assign_sm80_wide", architecture)[instance]
    body = sass.tile_loop(function)
    codes = sass.opcodes([line for line in body if not line.startswith("@!PT")])
    assert sass.count(body, "HMMA") == sizes.instructions
    least = (700 if sizes.row_blocks == 4 else 600) / (2 if sizes.kind == 2 else 1)
    assert chunk_loop(instance, architecture).products_an_instruction >= least
    matrices = [code for code in codes if code.startswith("LDSM")]
    assert len(matrices) == 4 * (sizes.row_blocks + sizes.center_blocks // 2)
    assert all(code.endswith(".4") for code in matrices), matrices
    copies = [code for code in codes if code.startswith("LDGSTS")]
    threads, pieces = 64 * sizes.warps, (16 * sizes.row_blocks * sizes.warps + 16 * sizes.center_blocks) * 8
    assert len(copies) == pieces // threads + 1
    assert all(".128" in code for code in copies), copies
    whole = min((b for b in sass.loops(function) if sass.count(b, "FMNMX") and sass.count(b, "HMMA")), key=len)
    compared = [code for code in sass.opcodes(whole) if re.match(r"FMNMX|FSETP", code)]
    assert compared
    assert not [code for code in compared if "FTZ" in code], "a key is flushed"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_plain_minimum_would_be_flushed(architecture):
    text = 'extern "C" __global__ void k(float* v) { v[0] = fminf(v[1], v[2]); }'
    lines = nvrtc.functions("probe", text, ["k"], architecture)["k"].lines
    assert [code for code in sass.opcodes(lines) if re.match(r"FMNMX.*FTZ", code)]
