"""A cache of kernels that cannot be written or read costs time, never a call; what is compiled, and what is not."""

import errno
import os
import pickle
import re

import numpy as np
import pytest

from gpukmeans.backends import _numba_pipeline
from gpukmeans.backends._numba_compiler import _Cache, compiled

caching = pytest.importorskip("numba.core.caching")


def twice(x):
    return 2 * x


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path))


def fail(error):
    def fail(*_, **__):
        raise error

    return fail


FULL = OSError(errno.ENOSPC, "No space left on device")
TAKEN_AWAY = PermissionError(errno.EACCES, "Permission denied")


def test_a_kernel_is_kept_and_found_again(tmp_path):
    first = compiled(twice)
    assert first(3) == 6
    assert [name for _, _, names in os.walk(tmp_path) for name in names if name.endswith(".nbc")]
    second = compiled(twice)
    assert second(3) == 6
    assert sum(second.stats.cache_hits.values()) == 1


@pytest.mark.parametrize("allocates", [False, True])
def test_to_read_a_kernel_the_compiler_is_not_set_up_unless_the_kernel_allocates(monkeypatch, allocates):
    assert compiled(twice, allocates=allocates)(3) == 6
    second, set_up = compiled(twice, allocates=allocates), []
    refresh = second.targetctx.refresh
    monkeypatch.setattr(second.targetctx, "refresh", lambda: set_up.append(refresh()))
    assert second(3) == 6
    assert bool(set_up) == allocates
    assert second(1.5) == 3.0  # which is to be compiled
    assert set_up


@pytest.mark.parametrize("error", [FULL, TAKEN_AWAY])
@pytest.mark.parametrize("place", ["_CacheLocator.ensure_cache_path", "IndexDataCacheFile.save"])
def test_a_disk_that_is_full_after_compiling_fails_no_call(monkeypatch, caplog, error, place):
    kernel = compiled(twice)
    owner, name = place.split(".")
    monkeypatch.setattr(getattr(caching, owner), name, fail(error))
    with caplog.at_level("DEBUG", "gpukmeans"):
        assert kernel(3) == 6
        assert kernel(1.5) == 3.0
    assert error.strerror in caplog.text


@pytest.mark.parametrize("error", [TAKEN_AWAY, EOFError(), pickle.UnpicklingError("truncated")])
def test_a_cache_that_cannot_be_read_is_compiled_past(monkeypatch, error):
    assert compiled(twice)(3) == 6
    monkeypatch.setattr(caching.IndexDataCacheFile, "_load_index", fail(error))
    kernel = compiled(twice)
    assert kernel(3) == 6
    assert sum(kernel.stats.cache_misses.values()) == 1


def test_a_file_that_was_cut_short_is_compiled_past(tmp_path):
    assert compiled(twice)(3) == 6
    for folder, _, names in os.walk(tmp_path):
        for name in names:
            open(os.path.join(folder, name), "wb").close()
    assert compiled(twice)(3) == 6


def test_without_any_directory_kernels_are_compiled_in_every_process(monkeypatch):
    monkeypatch.setattr(_Cache, "__init__", fail(RuntimeError("cannot cache function: no locator available")))
    kernel = compiled(twice)
    assert kernel(3) == 6
    assert kernel.stats.cache_path is None


def first(x):
    return x[0]


def test_only_a_kernel_that_allocates_counts_references(monkeypatch, tmp_path):
    def counts(**options):
        monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path / str(options)))  # what was cached has no code
        inner = compiled(first, inline="never", **options)

        def sum_of_first(x):
            total = 0.0
            for i in range(x.shape[0]):
                total += inner(x[i])
            return total

        kernel = compiled(sum_of_first, **options)
        assert kernel(np.arange(6.0).reshape(3, 2)) == 6.0
        (code,) = kernel.inspect_llvm().values()
        return "NRT_decref" in code  # Numba 0.61 proves an increment needless

    assert counts(allocates=True)
    assert not counts()


# ---- functions that only kernels call
def plus_one(x):
    return x + 1


def kernel_of(inner):
    def twice_more(x):
        return 2 * inner(x)

    return compiled(twice_more)


def names_of(folder):
    return {name for _, _, names in os.walk(folder) for name in names if name.endswith(".nbc")}


def test_an_inner_function_is_a_part_of_its_kernel_and_nothing_by_itself(tmp_path):
    inner = compiled(plus_one, inner=True)
    assert kernel_of(inner)(3) == 8
    (result,) = inner.overloads.values()
    assert result.library.get_pointer_to_function(result.fndesc.llvm_func_name) == 0
    assert len(names_of(tmp_path)) == 1


BROKEN = [
    "codegen.JITCodeLibrary",
    "codegen.CPUCodeLibrary._get_module_for_linking",
    "compiler_machinery.PassManager.finalize",
]


@pytest.mark.parametrize("name", BROKEN)
def test_where_numba_is_made_otherwise_its_own_pipeline_compiles(monkeypatch, caplog, name):
    _numba_pipeline.works.cache_clear()
    with monkeypatch.context() as context, caplog.at_level("DEBUG", "gpukmeans"):
        context.delattr(f"numba.core.{name}")
        assert not _numba_pipeline.works()
    assert "Numba's own pipeline" in caplog.text
    inner = compiled(plus_one, inner=True)
    assert kernel_of(inner)(3) == 8
    (result,) = inner.overloads.values()
    assert result.library.get_pointer_to_function(result.fndesc.llvm_func_name) != 0
    _numba_pipeline.works.cache_clear()
    assert _numba_pipeline.works()


def test_where_llvmlite_cannot_name_the_passes_llvm_does_all_of_them(monkeypatch):
    monkeypatch.setattr(_numba_pipeline, "has_passes", lambda: False)
    _numba_pipeline.works.cache_clear()
    assert _numba_pipeline.works()
    inner = compiled(plus_one, inner=True)
    assert kernel_of(inner)(3) == 8
    (result,) = inner.overloads.values()
    assert result.library.get_pointer_to_function(result.fndesc.llvm_func_name) == 0


@pytest.mark.skipif(not _numba_pipeline.has_passes(), reason="an llvmlite that cannot name its passes")
def test_what_takes_arguments_apart_is_not_optimised():
    kernel = compiled(first)
    assert kernel(np.arange(3.0)) == 0
    (code,) = kernel.inspect_llvm().values()
    (wrapper,) = [line for line in code.splitlines() if line.startswith("define") and "cpython" in line]
    kept = re.search(rf"attributes {wrapper.split()[-2]} = {{(.*)}}", code)
    assert kept
    assert "optnone" in kept[1]
