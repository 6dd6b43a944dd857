"""The fast pass for processors other than the one at hand: the same bits from every width of vectors."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PROGRAM = """
    from unittest import mock

    import numpy as np
    from llvmlite import binding

    import naive
    from gpukmeans import KMeans

    with mock.patch.object(binding, "get_host_cpu_features", lambda: {features!r}):  # taken for this processor
        from gpukmeans.backends import _simd

    assert (_simd.LANES, _simd.VECTORS) == {layout!r}
    rng = np.random.default_rng(0)
    for n_samples, n_features, n_clusters in [(1, 1, 1), (130, 2, 8), (131, 17, 7), (97, 40, 33), (70, 300, 5)]:
        for X in (rng.normal(size=(n_samples, n_features)), rng.integers(-2, 3, (n_samples, n_features))):
            X = X.astype(np.float32)
            start = X[:n_clusters]
            expected = naive.fit(X, start)
            model = KMeans(n_clusters, init=start, n_init=1, backend="numba").fit(X)
            assert np.array_equal(model.labels_, expected.labels)
            assert np.array_equal(model.cluster_centers_, expected.centers)
            assert (model.inertia_, model.n_iter_) == (expected.inertia, expected.n_iter)
            assert np.array_equal(model.predict(X), model.labels_)
"""


@pytest.mark.usefixtures("numba_backend")
@pytest.mark.parametrize(
    ("features", "layout"),
    [({"avx512f": True}, (16, 4)), ({"avx2": True}, (8, 2)), ({"neon": True}, (4, 4))],
    ids=["avx512", "avx2", "neon"],
)
def test_every_width_of_vectors_gives_the_bits_of_the_oracle(features, layout, tmp_path):
    program = textwrap.dedent(PROGRAM.format(features=features, layout=layout))
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
