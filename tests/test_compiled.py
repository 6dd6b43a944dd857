"""The kernels' machine code for seven architectures: resources, the hot loop, nothing fused that decides a bit.

Compiled by NVRTC and disassembled; no GPU is needed. Nothing here says how fast a kernel is.
"""

import functools
import re
from pathlib import Path

import pytest
import support
from compiled import compile as nvrtc
from compiled import launches, record, sass, table

from gpukmeans.backends import _source

pytestmark = pytest.mark.extra

CHOSEN = record.chosen(nvrtc.ARCHITECTURES)
ARCHITECTURES = pytest.mark.parametrize("architecture", CHOSEN)
OF_ARCHITECTURES = [(a, f) for a in CHOSEN for f in _source.INSTANCES if launches.instances(f, a)]
PROBES = Path(__file__).parent / "compiled" / "probes.cu"

# Least share of multiply-adds in the hot loop, in percent. Rows that are not 16-byte aligned are loaded value by value.
GOALS = {
    "assign_tiled<float, true, false>": dict.fromkeys(nvrtc.ARCHITECTURES, 85),
    "assign_tiled<float, false, false>": dict.fromkeys(nvrtc.ARCHITECTURES, 85) | {100: 83, 120: 83},
}
# These decide no bits, or divide and take roots, whose expansions fuse: for their other operations the probes stand.
MAY_FUSE = re.compile(r"(recenter|publish_centers|assign_|prune|transform|fit_small)")


@pytest.fixture(scope="module", autouse=True)
def tools():
    if reason := nvrtc.missing():
        support.missing("nvrtc", reason)


@functools.cache
def probes(architecture):
    text = re.sub(r"#line .*", "", _source.source("recheck").partition("constexpr int RECHECK_THREADS")[0])
    names = re.findall(r"^PROBE (\w+)", PROBES.read_text(), re.MULTILINE)
    return nvrtc.functions("probes", text + PROBES.read_text(), names, architecture)


def instances(architecture):
    for file in _source.INSTANCES:
        yield from nvrtc.kernels(file, architecture).items()


def test_every_instance_is_compiled_for_some_architecture():
    compiled = [(f, launches.instances(f, a)) for a in nvrtc.ARCHITECTURES for f in _source.INSTANCES]
    assert {file for file, instances in compiled if instances} == set(_source.INSTANCES)
    assert {instance for _, instances in compiled for instance in instances} == set(_source.FILE_OF)


@pytest.mark.parametrize(("architecture", "file"), OF_ARCHITECTURES)
def test_every_instance_compiles_and_none_spills(file, architecture):
    found = nvrtc.kernels(file, architecture)
    assert set(found) == set(launches.instances(file, architecture))
    for instance, function in found.items():
        assert function.lines, instance
        assert function.stack == 0, f"{instance}: {function.stack} bytes of stack"
        assert sass.local_accesses(function) == 0, instance


@ARCHITECTURES
def test_a_multiprocessor_holds_the_blocks_that_a_launch_claims(architecture):
    seen = set()
    for launch in launches.launches(launches.CARDS[architecture]):
        if launch not in seen:
            seen.add(launch)
            function = nvrtc.kernels(_source.FILE_OF[launch.kernel], architecture)[launch.kernel]
            held = sass.resident(architecture, function, launch.block, launch.shared)
            assert held >= launch.resident, f"{launch} of {function.registers} registers: {held} blocks"
    wanted = {instance for file in _source.INSTANCES for instance in launches.instances(file, architecture)}
    assert {launch.kernel for launch in seen} == wanted


def test_too_many_registers_or_too_much_shared_memory_would_be_seen():
    def held(registers, shared):
        return sass.resident(86, nvrtc.Function(registers, 0, 0, ()), 256, shared)

    assert [held(128, 0), held(129, 0), held(32, 0)] == [2, 1, 6]
    assert [held(32, 49 << 10), held(32, 50 << 10), held(32, 100 << 10)] == [2, 1, 0]


@ARCHITECTURES
@pytest.mark.parametrize("instance", GOALS)
def test_the_hot_loop_multiplies(instance, architecture):
    hot = sass.hot_loop(nvrtc.kernels("assign", architecture)[instance])
    assert sass.count(hot, "FFMA2?") == 8 * 8 * 8  # one stage: 8 features of 8 x 8 scores
    share = 100 * sass.share(hot, "FFMA2?")
    assert share >= GOALS[instance][architecture], f"{share:.1f} %"


@ARCHITECTURES
def test_shared_memory_is_read_in_16_bytes(architecture):
    for instance, function in nvrtc.kernels("assign", architecture).items():
        reads = [code for code in sass.opcodes(sass.hot_loop(function)) if re.match(r"LDSM?\b", code)]
        assert reads, instance
        assert all(".128" in code for code in reads), (instance, reads)


@ARCHITECTURES
def test_no_operation_of_a_canonical_kernel_is_fused(architecture):
    checked = 0
    for instance, function in instances(architecture):
        if not MAY_FUSE.match(instance):
            assert sass.count(function.lines, "DFMA") == 0, instance
            checked += 1
        if instance.startswith("transform"):  # the root fuses, behind the loop
            loops = [body for body in sass.loops(function) if sass.count(body, "DADD")]
            assert loops, instance
            assert all(sass.count(body, "DFMA") == 0 and sass.count(body, "DMUL") for body in loops), instance
    assert checked > 20


@ARCHITECTURES
def test_the_functions_that_decide_bits_are_not_fused(architecture):
    found = probes(architecture)
    for name in ("canonical_f4", "canonical_f8", "fixed_point"):
        assert sass.count(found[name].lines, "DFMA") == 0, name
        assert sass.count(found[name].lines, "DMUL") > 0, name
        assert sass.count(found[name].lines, "DADD") > 0, name
        assert sass.count(found[name].lines, "FMUL") == 0, name  # a conversion that flushes
    for name in ("plain_distance", "plain_mantissa"):
        assert sass.count(found[name].lines, "DFMA") > 0, f"{name} is the control"


@ARCHITECTURES
def test_conversions_keep_subnormals(architecture):
    """-ftz=true puts a flushing product or comparison beside a plain conversion."""
    found = probes(architecture)
    for name in ("widen", "narrow"):
        assert sass.count(found[name].lines, "F2F") == 1, name
        assert not flushing(found[name]), name
        assert sass.count(found[name].lines, "FMUL|DSETP|FSETP") == 0, name
        assert sass.count(found[f"plain_{name}"].lines, "FMUL|DSETP|FSETP") > 0, f"plain_{name} is the control"


@ARCHITECTURES
def test_rows_of_16_bits_keep_subnormals(architecture):
    for file, kernel in (("scale", "scale_values"), ("inertia", "own_distance"), ("seed", "seed_update")):
        for row_type in ("Float16", "Bfloat16"):
            function = nvrtc.kernels(file, architecture)[f"{kernel}<{row_type}>"]
            assert not flushing(function), f"{kernel}<{row_type}>"
            assert (sass.count(function.lines, "HADD2.F32") > 0) == (row_type == "Float16"), "the conversion of fp16"


@ARCHITECTURES
def test_float32_distances_of_seeding_keep_subnormals(architecture):
    found, seed = probes(architecture), nvrtc.kernels("seed", architecture)
    for function in (found["seed_square"], seed["seed_update<float>"], seed["seed_trials<float>"]):
        assert not flushing(function)
        assert sass.count(function.lines, "FFMA") == 0
        assert sass.count(function.lines, "FADD") > 0
        assert sass.count(function.lines, "FMUL") > 0
    assert flushing(found["plain_square"])
    assert sass.count(found["plain_square"].lines, "FFMA") == 1


def flushing(function):
    # F2I.FTZ, of whole numbers, is part of an integer division
    return [code for code in sass.opcodes(function.lines) if re.match(r"F(?!2I).*\.FTZ", code)]


@ARCHITECTURES
def test_atomics_are_native(architecture):
    """No loop of compare-and-swap; 64-bit integers are added in one operation in global memory."""
    for instance, function in instances(architecture):
        assert not swaps(function), instance
    found, sums = probes(architecture), nvrtc.kernels("accumulate", architecture)
    for function in (found["global_add"], *sums.values()):
        added = [code for code in sass.opcodes(function.lines) if re.match(r"(RED|ATOM)G?\.", code)]
        assert added
        assert all(".ADD.64" in code for code in added), added
    assert not swaps(found["shared_add"])
    assert swaps(found["plain_shared_add"]), "the control"


def swaps(function):
    return [code for code in sass.opcodes(function.lines) if re.match(r"ATOM\w*\.CAS", code)]


@pytest.mark.parametrize("block", [b for b in table.BLOCKS if b not in table.COMPILED or CHOSEN == nvrtc.ARCHITECTURES])
def test_the_readme_has_what_the_script_prints(block):
    text = table.README.read_text(encoding="utf-8")
    written = table.between(text, block)
    expected = table.BLOCKS[block]()
    if f"NVRTC {nvrtc.nvrtc_version()}" not in written and block in table.COMPILED:
        written, expected = table.names(written), table.names(expected)  # another compiler, other registers
    assert written == expected, "run: python -m compiled.table --write (in tests/)"


def test_the_other_architectures_passed_before():
    if CHOSEN != nvrtc.ARCHITECTURES:
        pytest.skip(f"compiled for {CHOSEN}; all architectures passed on the same files (GPUKMEANS_COMPILED=all)")


def test_a_change_of_a_kernel_or_of_its_table_is_a_reason_to_compile_for_all(monkeypatch, tmp_path):
    monkeypatch.delenv("GPUKMEANS_COMPILED", raising=False)
    monkeypatch.setattr(record, "RECORD", tmp_path / "passed.txt")
    record.RECORD.write_text(record.fingerprint())
    assert record.chosen((75, 80, 120)) == (80, 120)
    monkeypatch.setenv("GPUKMEANS_COMPILED", "all")
    assert record.chosen((75, 80, 120)) == (75, 80, 120)
    monkeypatch.delenv("GPUKMEANS_COMPILED")
    for pattern in record.DECISIVE:
        assert list(record.ROOT.glob(pattern))
    before = record.fingerprint()
    text = table.README.read_text(encoding="utf-8")
    (tmp_path / "README.md").write_text(f"{text}\nmore\n")
    monkeypatch.setattr(table, "README", tmp_path / "README.md")
    assert record.fingerprint() == before  # it is no table
    (tmp_path / "README.md").write_text(text.replace("<!-- hot-loops:end -->", "x\n<!-- hot-loops:end -->"))
    changed = record.fingerprint()
    monkeypatch.setattr(record, "COMPILER", ())
    assert len({before, changed, record.fingerprint()}) == 3
    assert record.chosen((75, 80, 120)) == (75, 80, 120)
