"""The fast pass for processors other than the one at hand: the same bits from every width of vectors."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PROGRAM = """
    import ctypes
    import logging
    import mmap
    import sys
    from unittest import mock

    import numba.extending
    import numpy as np
    from llvmlite import binding

    import naive
    from gpukmeans import KMeans

    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("gpukmeans").addHandler(handler)
    intrinsic = (lambda function: function) if {plain!r} else numba.extending.intrinsic  # one that does not compile
    with mock.patch.object(binding, "get_host_cpu_features", lambda: {features!r}):  # taken for this processor
        from gpukmeans.backends import _layout
    with mock.patch.object(numba.extending, "intrinsic", intrinsic):
        from gpukmeans.backends import _cpu_pruning, _numba, _tiles

    assert (_layout.LANES, _layout.VECTORS) == {layout!r}
    assert _tiles.load_tile.__module__.endswith("_tiles_plain" if {plain!r} else "_tiles_simd")
    assert any("without vector code" in message for message in said) == {plain!r}

    def at_the_end(X):  # the same rows, with memory behind the last that nobody may read
        if sys.platform != "linux":
            return X
        size = -(-X.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
        memory = np.frombuffer(mmap.mmap(-1, size + mmap.PAGESIZE), np.uint8)
        behind = ctypes.c_void_p(memory.ctypes.data + size)
        assert ctypes.CDLL(None).mprotect(behind, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
        there = memory[size - X.nbytes : size].view(X.dtype).reshape(X.shape)
        there[:] = X
        return there

    def check(X, n_clusters):
        X = at_the_end(X.astype(np.float32))
        start = X[:n_clusters]
        expected = naive.fit(X, start)
        model = KMeans(n_clusters, init=start, n_init=1, backend="numba").fit(X)
        assert np.array_equal(model.labels_, expected.labels)
        assert np.array_equal(model.cluster_centers_, expected.centers)
        assert (model.inertia_, model.n_iter_) == (expected.inertia, expected.n_iter)
        assert np.array_equal(model.predict(X), model.labels_)

    rng = np.random.default_rng(0)
    sizes = [(1, 1, 1), (130, 2, 8), (133, 3, 5), (131, 17, 7), (129, 7, 9), (97, 40, 33), (65, 100, 4), (70, 300, 9)]
    for n_samples, n_features, n_clusters in sizes:
        check(rng.normal(size=(n_samples, n_features)), n_clusters)
        _numba.FEW_ROWS = 0  # whose distances NumPy adds up
        check(rng.integers(-2, 3, (n_samples, n_features)), n_clusters)

    rows = _numba.NumbaBackend().rows(at_the_end(rng.normal(size=(75, 3))))
    assert rows.data.min() == _numba.NumbaBackend().summary(rows).low.min()
    for place in range(rows.data.size):
        kept, rows.data.flat[place] = rows.data.flat[place], (np.nan, np.inf, -np.inf)[place % 3]
        assert not _numba.NumbaBackend().is_finite(rows) and not _numba.NumbaBackend().summary(rows).finite
        rows.data.flat[place] = kept

    X = rng.normal(size=(300, 5)).astype(np.float32)
    for X in (X, at_the_end(X.astype(np.float64))):
        one, other = (KMeans(20, random_state=0, backend=name).fit(X).labels_ for name in ("numba", "numpy"))
        assert np.array_equal(one, other)

    passes = []
    _cpu_pruning.SMALLEST = 1  # prune from the second pass on, whatever it costs
    _cpu_pruning.Rule.tries = lambda self, share: True
    _cpu_pruning.Rule.enters = lambda self, *shares: True
    _cpu_pruning.Rule.stays = lambda self, *shares: bool(passes.append(shares)) or True
    for n_features in (3, 40, 300):
        check(rng.normal(size=(500, n_features)) + 20 * rng.integers(0, 3, (500, 1)), 30)
    assert passes
"""


@pytest.mark.usefixtures("numba_backend")
@pytest.mark.parametrize(
    ("features", "layout", "plain"),
    [
        ({"avx512f": True}, (16, 4), False),
        ({"avx2": True}, (8, 2), False),
        ({"neon": True}, (4, 4), False),
        ({"avx2": True}, (8, 2), True),
    ],
    ids=["avx512", "avx2", "neon", "plain"],
)
def test_every_width_of_vectors_gives_the_bits_of_the_oracle(features, layout, plain, tmp_path):
    program = textwrap.dedent(PROGRAM.format(features=features, layout=layout, plain=plain))
    environment = {
        **os.environ,
        # compiled code is kept by the processor that it was compiled on, which is not the one pretended here
        "NUMBA_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *(p for p in sys.path if p)]),
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
