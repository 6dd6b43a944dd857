"""The layout of the tensor pass, for cards that exist and cards that do not. What is compiled: test_compiled.py."""

import pytest

from gpukmeans import exact
from gpukmeans.backends import _source, _tensor_config
from gpukmeans.backends._launch import Card, Problem
from gpukmeans.backends._tensor_config import KINDS, ROW_BYTES, config

LARGE, SMALL = Card(90, 132, 227 << 10, 2048), Card(89, 60, 99 << 10, 1536)


def problem(d, n=10**7, k=1000, dtype="f4"):
    return Problem(n, d, k, dtype)


@pytest.mark.parametrize("card", [LARGE, SMALL, Card(80, 1, 101 << 10, 1024), Card(210, 1000, 1 << 20, 4096)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_row_lies_in_the_smallest_size_that_holds_it(kind, card):
    most = 128 if kind == "tf32" else 256
    for d in range(1, most + 1):
        found = config(problem(d), card, kind)
        smaller = [b for b in ROW_BYTES if b < found.row_bytes]
        assert found.columns >= d
        assert all(b // (found.row_bytes // found.columns) < d for b in smaller)
        assert found.shape.shared(found.row_bytes) <= card.shared_per_block
        assert found.kernel("float") in _source.FILE_OF
    assert config(problem(most + 1), card, kind) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_card_without_the_instructions_or_the_memory_has_no_such_pass(kind):
    assert config(problem(8), Card(75, 40, 64 << 10, 1024), kind) is None
    assert config(problem(100), Card(80, 40, 48 << 10, 1024), kind) is None
    assert config(problem(8), Card(80, 40, 48 << 10, 1024), kind) is not None


def test_blocks_are_smaller_where_there_are_few_rows_or_the_tensor_cores_are_slow():
    assert config(problem(60), LARGE, "bf16").shape.rows == 512
    assert config(problem(60, n=512 * 132 - 1), LARGE, "bf16").shape.rows == 256
    assert config(problem(60), SMALL, "bf16").shape.rows == 256


@pytest.mark.parametrize("d", [20, 60, 120, 250])
def test_tiles_cover_all_rows_and_centers(d):
    for n in (1, 255, 256, 257, 10**6 + 1):
        for k in (1, 63, 64, 65, 128, 1000):
            sizes = problem(d, n=n, k=k)
            found = config(sizes, SMALL, "fp16")
            launch, pack = _tensor_config.assign(sizes, found), _tensor_config.pack(sizes, SMALL, found)
            assert (launch.grid - 1) * found.shape.rows < n <= launch.grid * found.shape.rows
            assert 0 <= found.rows(k) - k < found.shape.tile
            assert found.rows(k) % found.shape.tile == 0
            assert 2**found.index_bits * 4 == found.shape.tile
            assert 1 <= pack.grid <= 2 * 60 * 12


def test_the_types_are_those_of_the_bound():
    assert KINDS.keys() == exact.TENSOR_TYPES.keys()
