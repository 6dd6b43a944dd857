"""Arrays of more than 2^31 values: the last block of each kernel, on memory that is only reserved (without a GPU)."""

import mmap

import numpy as np
import pytest
import support
from simt import build

import naive
from gpukmeans import exact
from gpukmeans.backends import _launch, _source, _tensor_config
from gpukmeans.backends._launch import Card, Problem

CARD = Card(80, 108, 163 << 10, 2048)
D = 8
N = 2**31 // D + 37  # rows of D features


@pytest.fixture(scope="module", autouse=True)
def gpp():
    if build.compiler() is None:
        support.missing("simt", "it needs g++ on x86-64 Linux")


def reserved(shape, dtype):
    """An array of zeros that takes memory only where it is written."""
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE of Linux, named in Python 3.13 only
    return np.frombuffer(mmap.mmap(-1, size, flags=flags), dtype).reshape(shape)


def run_last(kernel, n_blocks, block, *args, shared=0):
    """Run the last of `n_blocks` blocks."""
    file = _source.FILE_OF[kernel]
    defines = {o[2:].split("=")[0]: int(o.split("=")[1]) for o in _launch.TILES.options}
    library = build.build(_source.source(file), [kernel], defines=defines)
    kinds = {"i4": np.int32, "i8": np.int64, "f8": np.float64}
    values = [
        np.uint64(0 if a is None else a.ctypes.data).tobytes() if want == "p8" else kinds[want](a).tobytes()
        for a, want in zip(args, library.signature[kernel], strict=True)
    ]
    library.launch(kernel, n_blocks, block, values, shared=shared, first_block=n_blocks - 1)


def last_rows(n=N, d=D, m=40):
    """Data whose last rows alone are not zero, and these rows."""
    X = reserved((n, d), np.float32)
    rows = np.random.default_rng(0).normal(size=(m, d)).astype(np.float32)
    X[-m:] = rows
    return X, rows


def in_last_block(n, rows_per_block):
    """How many rows the last block has."""
    return (n - 1) % rows_per_block + 1


ZERO = np.zeros(1, np.int32)


@pytest.mark.parametrize("d", [D, 20])
def test_assign_labels_the_last_rows(d):
    n = 2**31 // d + 37
    X, rows = last_rows(n, d)
    C = rows[:5]
    problem = Problem(n, d, len(C), "f4")
    form, launch = _launch.layout(problem), _launch.assign(problem, CARD)
    centers, half = np.zeros((form.rows, form.columns), np.float32), np.full(form.rows, np.inf, np.float32)
    centers[: len(C), :d] = C
    half[: len(C)] = (C.astype(float) ** 2).sum(axis=1) / 2
    shift, bound = np.zeros(form.columns, np.float32), np.array([1e30, 0, 0], np.float32)  # nothing is certified
    labels, found, count = reserved(n, np.int32), np.zeros(1024, "i8,f4,f4"), np.zeros(1, np.uint64)
    tail = (X, shift, centers, half, bound, labels, found, count, ZERO, n, d, form.columns, form.rows)
    run_last(launch.kernel, launch.grid, launch.block, *tail, shared=launch.shared)
    m = min(len(rows), in_last_block(n, 512 if d == D else 128))
    assert labels[-m:].tolist() == naive.labels(rows[-m:], C).tolist()
    assert found["f0"][: int(count[0])].max() == n - 1
    # and the recheck of one of these rows
    found["f0"][0], found["f1"][0], found["f2"][0] = n - 3, -1e30, 1e30
    count[0], labels[n - 3], tally = 1, -1, np.zeros(4, np.uint64)
    args = (X, C, shift, centers, half, found, count, labels, tally, ZERO, d, form.columns, len(C))
    run_last("recheck<float>", 1, 128, *args)
    assert labels[n - 3] == naive.labels(rows[-3:-2], C)[0]


@pytest.mark.parametrize("d", [D, 136])
def test_tensor_cores_label_the_last_rows(d):
    n, k = 2**31 // d + 37, 5
    X, rows = last_rows(n, d)
    X[-len(rows) :] = rows = np.rint(4 * rows)  # whole numbers are the same in TF32
    C = rows[:k].copy()
    problem = Problem(n, d, k, "f4")
    config = _tensor_config.config(problem, CARD, "tf32")
    launch, n_blocks = _tensor_config.assign(problem, CARD, config), -(-n // config.shape.rows)
    hidden = np.inf if config.is_offset else 1e38
    packed, half = np.zeros((config.rows(k), config.columns), np.float32), np.full(config.rows(k), hidden, np.float32)
    packed[:k, :d], half[:k] = C, (C.astype(float) ** 2).sum(axis=1) / 2
    quads = half.reshape(-1, 2)[:, [0, 1, 0, 1]].copy()  # of two centers, twice
    # nothing is certified; where scores are offset, they are up to 1,000
    shift, bound = np.zeros(packed.shape[1], np.float32), np.array([1e30, 0, 0, 0, 1e3, 0], np.float32)
    labels, found, count = reserved(n, np.int32), np.zeros(1024, "i8,f4,f4"), np.zeros(1, np.uint64)
    of_pass = (packed, quads, bound, labels, found, count, ZERO)
    tail = (*of_pass, packed, half, bound, n, d, k, packed.shape[1])
    if config.is_wide:
        # a block for every tile, more than are launched: so the last one has the last rows and no others
        converted = reserved((n_blocks, config.shape.rows, config.row_bytes), np.uint8)
        tail = (converted, *of_pass, n, d, k, config.row_bytes // _tensor_config.CHUNK_BYTES)
    run_last(launch.kernel, n_blocks, launch.block, X, shift, 0, *tail, shared=launch.shared)
    m = min(len(rows), in_last_block(n, config.shape.rows))
    distances = naive.distances(rows[-m:], C)
    assert np.array_equal(distances[np.arange(m), labels[-m:]], distances.min(axis=1))
    assert found["f0"][: int(count[0])].max() == n - 1
    # and float32 for one of these rows, which it leaves open, too
    found["f0"][0], count[0], labels[n - 3], tally = n - 3, 1, -1, np.zeros(4, np.uint64)
    args = (X, C, shift, packed, half, bound, found, count, labels, tally, ZERO, d, packed.shape[1], k)
    run_last("resolve<float>", 1, 256, *args)
    assert labels[n - 3] == naive.labels(rows[-3:-2], C)[0]
    assert tally[1] == 1


def test_bounds_of_the_last_rows():
    X, rows = last_rows()
    C = rows[:5].copy()
    half = (C.astype(float) ** 2).sum(axis=1).astype(np.float32) / 2
    shift, drift = np.zeros(D, np.float32), np.zeros(5, np.float32)
    bound, motion, tally = np.array([1e-3, 0, 0], np.float32), np.zeros(3, np.uint32), np.zeros(5, np.uint64)
    before, labels, bounds = reserved(N, np.int32), reserved(N, np.int32), reserved((N, 2), np.float32)
    args = (X, C, shift, C, half, bound, drift, motion, before, bounds, labels, tally, ZERO, N, D, D, 5)
    for open_rows in (in_last_block(N, 256), 0):  # nothing is known of any; then all are proved
        tally[:] = 0
        run_last("prune<float>", -(-N // 256), 256, *args)
        assert tally[4] == open_rows
        m = min(len(rows), in_last_block(N, 256))
        assert labels[-m:].tolist() == naive.labels(rows[-m:], C).tolist()
        before[-m:] = labels[-m:]
        own = np.sqrt(naive.distances(rows[-m:], C).min(axis=1))
        assert (bounds[-m:, 0] >= own).all()


@pytest.mark.parametrize("verb", ["move_rows", "add_all_rows"])
def test_accumulate_adds_the_last_rows(verb):
    X, rows = last_rows()
    m, k = in_last_block(N, 256 if verb == "move_rows" else 32), 3
    fresh, labels = reserved(N, np.int32), reserved(N, np.int32)
    fresh[-m:] = np.arange(m) % k
    labels[-m:] = -1
    scale = np.full(D, 2.0**30)
    sums, weights, tally = np.zeros((k, D), np.int64), np.zeros(k, np.int64), np.zeros(4, np.uint64)
    args = (X, None, fresh, labels, scale, 1.0, 2.0**30, sums, None, weights, None, tally, ZERO, N, D)
    if verb == "move_rows":
        run_last("move_rows<float>", -(-N // 256), 256, *args, 8, shared=2048)
    else:
        run_last("add_all_rows<float>", -(-N // 32), 256, *args, k, 8, shared=8 * k * (D + 1))
    whole = np.zeros((m, D))
    whole[-min(m, len(rows)) :] = rows[-m:]
    wanted = [np.rint(whole[np.arange(m) % k == c] * 2.0**30).sum(axis=0).astype(np.int64) for c in range(k)]
    assert sums.tolist() == np.array(wanted).tolist()
    assert weights.sum() == m
    assert labels[-m:].tolist() == fresh[-m:].tolist()


def test_distances_of_the_last_rows():
    X, rows = last_rows()
    C, m = rows[:3].copy(), in_last_block(N, 128)
    labels, own, top = reserved(N, np.int32), reserved(N, np.float64), np.zeros(1)
    labels[-m:] = 1
    run_last("own_distance<float>", -(-N // 128), 128, X, C, labels, None, own, top, N, D)
    m = min(m, len(rows))
    assert own[-m:].tolist() == exact.sq_distances(rows[-m:], C[1]).tolist()
    closest, top = reserved(N, np.float32), np.zeros(1)
    run_last("seed_update<float>", -(-N // 256), 256, X, C[0].copy(), None, closest, top, 1, N, D)
    m = min(in_last_block(N, 256), len(rows))
    wanted = naive.seeding_distance(rows[-m:], C[0])
    assert closest[-m:].tolist() == wanted.tolist()
    potentials = np.zeros(1, np.int64)
    args = (X, C[1:2].copy(), closest, None, 2.0**20, potentials, N, D, 1)
    run_last("seed_trials<float>", -(-N // 256), 256, *args)
    nearest = np.minimum(wanted, naive.seeding_distance(rows[-m:], C[1])).astype(float)
    assert potentials[0] == np.rint(nearest * 2.0**20).sum()


def test_statistics_of_the_last_rows():
    X, rows = last_rows()
    n_blocks, m = -(-N // 32), in_last_block(N, 32)
    keys, bad = np.stack([np.full(D, 2**64 - 1, np.uint64), np.zeros(D, np.uint64)]), np.zeros(1, np.uint32)
    X[-1, 3] = np.inf
    run_last("summary<float>", n_blocks, 256, X, keys[0], keys[1], bad, N, D, 8)
    assert bad[0] == 1
    X[-1, 3] = rows[-1, 3] = 77
    w, peaks = reserved(N, np.float64), np.zeros(D)
    w[-m:] = 2.0
    run_last("weighted_peaks<float>", n_blocks, 256, X, w, peaks, N, D, 8)
    assert peaks.tolist() == (2 * np.abs(rows[-m:].astype(float)).max(axis=0)).tolist()
    sums, scale = np.zeros((2, D), np.int64), np.full(D, 2.0**20)
    run_last("moments<float>", n_blocks, 256, X, np.zeros(D), scale, scale, sums[0], sums[1], N, D, 8)
    assert sums[0].tolist() == np.rint(rows[-m:].astype(float) * 2.0**20).sum(axis=0).tolist()


def test_the_last_values_are_scaled():
    X, rows = last_rows()
    Y = reserved(X.shape, np.float32)
    run_last("scale_values<float>", -(-X.size // 256), 256, X, Y, 4.0, 1.0, X.size)
    m = in_last_block(X.size, 256)
    assert Y.ravel()[-m:].tolist() == (4 * rows.ravel()[-m:]).tolist()


def test_the_last_distances_of_a_matrix_of_more_than_2_to_the_31():
    n, k = 70_001, 40_001
    X, C = (np.random.default_rng(i).normal(size=(m, D)).astype(np.float32) for i, m in enumerate((n, k)))
    out = reserved((n, k), np.float32)
    launch = _launch.transform(Problem(n, D, k, "f4"))
    run_last(launch.kernel, launch.grid, launch.block, X, C, out, n, D, k)
    assert out[-1, -1] == np.float32(np.sqrt(exact.sq_distances(X[-1], C[-1])))


def test_more_than_2_to_the_31_rows_are_counted():
    n = 2**31 + 5
    own, limbs = reserved(n, np.float64), np.zeros(2, np.int64)
    own[-3:] = [1.0, 9.0, 4.0]
    run_last("inertia_sum", -(-n // 128), 128, own, None, 1.0, 1.0, limbs, n)
    assert limbs.tolist() == [14, 0]
    n_blocks = -(-n // 256)
    best, found = reserved(n_blocks, "f8,i8"), np.zeros(1, "f8,i8")
    run_last("farthest_of_block", n_blocks, 256, own, None, found, 0, best, n)
    assert best[-1].tolist() == (9.0, n - 2)
    closest, size = reserved(n, np.float32), _launch.TILES.seed_block_rows
    closest[-2:] = [3.0, 5.0]
    ends = reserved(-(-n // size), np.int64)
    run_last("seed_potentials<float>", len(ends), 256, closest, None, 1.0, ends, n)
    assert ends[-1] == 8
    ends[:-1] = 0
    rows = np.zeros(1, np.int64)
    run_last("seed_find<float>", 1, 32, closest, None, 1.0, ends, np.array([3], np.int64), rows, n)
    assert rows[0] == n - 1


def test_sums_of_more_than_2_to_the_31_cells_make_the_last_center():
    d, k = 32, 2**26 + 1
    sums, weights = reserved((k, d), np.int64), reserved(k, np.int64)
    sums[-1], weights[-1] = np.arange(d) * 10, 10
    before, after, scores = (reserved((k, d), np.float32) for _ in range(3))
    half, words, moved_sq = reserved(k, np.float32), reserved(k, np.uint64), reserved(k, np.float64)
    heads, links = reserved(k, np.int32), reserved(k, np.int32)
    shift, norm, tally = np.zeros(d, np.float32), np.zeros(2, np.uint32), np.zeros(4, np.uint64)
    inverses = (np.ones(d), 1.0, 1.0)
    published = (shift, shift, scores, half, words, heads, links, norm, 0.0, 0.0, 0.0, 1, np.zeros(3, np.float32))
    ticket, record = np.zeros(1, np.uint32), np.zeros(48, np.uint8)  # its number is the last, not its ticket
    drift, motion = reserved(k, np.float32), np.zeros(3, np.uint32)
    outputs = (*published, ticket, None, None, drift, motion, moved_sq, tally, 0.0, 0, record, ZERO, d, d, k)
    run_last("recenter<float>", k, 128, sums, None, weights, None, *inverses, before, after, *outputs)
    assert after[-1].tolist() == scores[-1].tolist() == list(range(d))
    assert moved_sq[-1] == (np.arange(d) ** 2).sum()
    assert drift[-1] >= np.sqrt(moved_sq[-1])
