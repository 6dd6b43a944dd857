"""The layout of the tensor pass, for cards that exist and cards that do not. What is compiled: test_compiled.py."""

import dataclasses

import pytest

from gpukmeans import exact
from gpukmeans.backends import _source, _tensor_config
from gpukmeans.backends._launch import Card, Problem
from gpukmeans.backends._tensor_config import CHUNK_BYTES, KINDS, MOST_FEATURES, ROW_BYTES, choose, clocks, config

LARGE, SMALL = Card(90, 132, 227 << 10, 2048), Card(89, 60, 99 << 10, 1536)
CARDS = [LARGE, SMALL, Card(80, 108, 163 << 10, 2048), Card(100, 148, 227 << 10, 2048), Card(120, 170, 99 << 10, 1536)]


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
        assert found.kernel in _source.FILE_OF
        assert not found.is_wide


@pytest.mark.parametrize("card", [LARGE, SMALL, Card(80, 1, 99 << 10, 1024), Card(210, 1000, 1 << 20, 4096)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_longer_row_lies_in_as_few_chunks_as_hold_it(kind, card):
    size = 4 if kind == "tf32" else 2
    for d in (512 // size + 1, 300, 768, 1000, 4096, MOST_FEATURES):
        found = config(problem(d), card, kind)
        assert found.is_wide
        assert found.row_bytes % CHUNK_BYTES == 0
        assert found.row_bytes - CHUNK_BYTES < d * size <= found.row_bytes
        assert found.row_bytes >= 3 * CHUNK_BYTES  # as the kernel wants
        assert found.columns * size == found.row_bytes
        assert found.shape.shared(found.row_bytes) <= card.shared_per_block
        assert found.kernel in _source.FILE_OF
    assert config(problem(MOST_FEATURES + 1), card, kind) is None


def test_blocks_for_longer_rows_are_as_many_as_work_at_once_and_so_is_their_memory():
    for card, n, blocks, rows in ((LARGE, 10**7, 132, 256), (LARGE, 1000, 8, 128), (SMALL, 10**7, 60, 128)):
        found = config(problem(1000, n=n), card, "fp16")
        launch = _tensor_config.assign(problem(1000, n=n), card, found)
        assert (launch.grid, found.shape.rows) == (blocks, rows)
        assert _tensor_config.converted(launch, found) == blocks * rows * 2048
    few = problem(100)
    assert _tensor_config.converted(_tensor_config.assign(few, LARGE, config(few, LARGE, "fp16")), found) > 0
    assert _tensor_config.converted(launch, config(few, LARGE, "fp16")) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_card_without_the_instructions_or_the_memory_has_no_such_pass(kind):
    assert config(problem(8), Card(75, 40, 64 << 10, 1024), kind) is None
    assert config(problem(100), Card(80, 40, 48 << 10, 1024), kind) is None
    assert config(problem(1000), Card(80, 40, 97 << 10, 1024), kind) is None
    assert config(problem(8), Card(80, 40, 48 << 10, 1024), kind) is not None


def test_blocks_are_smaller_where_there_are_few_rows_or_the_tensor_cores_are_slow():
    assert config(problem(60), LARGE, "bf16").shape.rows == 512
    assert config(problem(60, n=512 * 132 - 1), LARGE, "bf16").shape.rows == 256
    assert config(problem(60), SMALL, "bf16").shape.rows == 256
    assert config(problem(300), LARGE, "bf16").shape.rows == 256
    assert config(problem(300, n=256 * 132 - 1), LARGE, "bf16").shape.rows == 128
    assert config(problem(300), SMALL, "bf16").shape.rows == 128


@pytest.mark.parametrize("d", [20, 60, 120, 250, 257])
def test_tiles_cover_all_rows_and_centers(d):
    for n in (1, 255, 256, 257, 10**6 + 1):
        for k in (1, 63, 64, 65, 128, 1000):
            sizes = problem(d, n=n, k=k)
            found = config(sizes, SMALL, "fp16")
            launch = _tensor_config.assign(sizes, SMALL, found)
            assert (launch.grid - 1) * found.shape.rows < n
            assert n <= launch.grid * found.shape.rows or (found.is_wide and launch.grid == 60)
            assert 0 <= found.rows(k) - k < found.shape.tile
            assert found.rows(k) % found.shape.tile == 0
            assert 2**found.index_bits * 4 * found.shape.warps_across == found.shape.tile


@pytest.mark.parametrize("card", CARDS, ids=lambda card: str(card.compute_capability))
def test_scores_are_offset_where_minimum_and_maximum_would_bind(card):
    for d in (1, 32, 64, 128, 256, 300):
        for n in (100, 10**7):
            found = config(problem(d, n=n), card, "bf16")
            is_short = found.row_bytes in _tensor_config.OFFSET.get(card.compute_capability, ())
            assert found.is_offset == (card.compute_capability in (80, 90) and is_short)
            assert not (found.is_wide and found.is_offset)
            instances = _tensor_config.wide_instances if found.is_wide else _tensor_config.instances
            assert found.kernel in instances(card)
            assert set(instances(card)) <= set(instances())


@pytest.mark.parametrize("card", CARDS, ids=lambda card: str(card.compute_capability))
def test_four_centers_share_a_key_where_rows_are_short_and_centers_many(card):
    def is_grouped(d, k, n=10**7, kind="bf16", dtype="f4"):
        found = config(problem(d, n=n, k=k, dtype=dtype), card, kind)
        assert found.kernel in _tensor_config.instances(card)
        assert 2**found.index_bits * (16 if found.is_grouped else 4) == found.shape.tile
        return found.is_grouped

    has_groups, later = card.compute_capability in (80, 90), 128 * (card.compute_capability == 90)
    for d, k, kind in ((32, 1281, "bf16"), (26, 1025, "fp16"), (16, 1025, "tf32"), (1, 1025, "tf32")):
        assert is_grouped(d, k + later, kind=kind) == has_groups
        assert not is_grouped(d, k + later - 1, kind=kind)
        assert not is_grouped(d, k + later, kind=kind, dtype="f8")  # longer to read again
    assert not is_grouped(33, 10**5)
    assert not is_grouped(17, 10**5, kind="tf32")
    assert not is_grouped(16, 10**5, n=10**4)  # few rows


def test_the_types_are_those_of_the_bound():
    assert KINDS.keys() == exact.TENSOR_TYPES.keys()


# ---- which type, if any


def chosen(sizes, card, kinds=KINDS, **left_open):
    """Type that is chosen where each would leave open these shares, and those that were asked for."""
    found, shares = choose(sizes, card, kinds, lambda asked: left_open[asked.kind])
    return found and found.kind, list(shares)


def test_the_type_that_leaves_little_open_is_chosen():
    sizes = problem(128, n=10**6)
    assert chosen(sizes, LARGE, fp16=0.02) == ("fp16", ["fp16"])  # no other could be better by far
    assert chosen(sizes, LARGE, fp16=1.0, tf32=0.02, bf16=0.3) == ("tf32", ["fp16", "tf32", "bf16"])
    assert chosen(sizes, LARGE, fp16=1.0, tf32=0.9, bf16=0.1) == ("bf16", ["fp16", "tf32", "bf16"])
    assert chosen(sizes, LARGE, fp16=0.7, tf32=0.7, bf16=0.9) == (None, ["fp16", "tf32", "bf16"])
    assert chosen(sizes, SMALL, fp16=0.05, bf16=0.3) == ("fp16", ["fp16"])  # tf32 is no faster there
    assert chosen(sizes, LARGE, kinds=("bf16",), bf16=0.1) == ("bf16", ["bf16"])


@pytest.mark.parametrize(
    ("sizes", "card"),
    [
        (problem(MOST_FEATURES + 1, n=10**6), LARGE),
        (problem(128, n=10**6), Card(75, 40, 64 << 10, 1024)),
        (problem(128, n=10**4, k=64), LARGE),  # done as soon as it is launched
        (problem(128, n=10**6, k=8), LARGE),  # waits for memory in any type
        (problem(2, n=10**6), LARGE),  # a row would be nothing but zeros
    ],
)
def test_nothing_is_sampled_where_tensor_cores_cannot_pay(sizes, card):
    assert chosen(sizes, card) == (None, [])


def test_longer_rows_are_read_before_they_are_multiplied():
    assert chosen(problem(768, n=10**6), LARGE, fp16=0.01) == ("fp16", ["fp16"])
    assert chosen(problem(768, n=10**6, k=30), LARGE) == (None, [])
    sizes = problem(300, k=1000)
    found = config(sizes, LARGE, "bf16")
    resident = dataclasses.replace(found, shape=config(problem(250), LARGE, "bf16").shape)
    reading = sizes.n_samples * _tensor_config.READ * 300 * 4 / (128 * 132)
    assert clocks(sizes, LARGE, found) - clocks(sizes, LARGE, resident) == pytest.approx(reading)


def test_a_float64_row_takes_twice_as_long_to_read():
    few = problem(64, k=1), problem(64, k=1, dtype="f8")
    assert 2 * clocks(few[0], LARGE, None) == clocks(few[1], LARGE, None)
