"""KMeans on a cluster of processes: the bits of one machine, whatever happens to the workers."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import support
from simt import build
from support import assert_same_array

import gpukmeans
from gpukmeans.errors import ClusterLostError, DataFileError

pytestmark = [
    pytest.mark.extra,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of what killed workers leave behind
]

N, D, K = 3000, 6, 12
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, D)).astype(np.float32)
FITTED = ("cluster_centers_", "inertia_", "n_iter_")


@pytest.fixture(scope="module")
def cluster():
    distributed = support.optional("distributed")
    dask = support.optional("dask")
    quick = {
        "distributed.comm.timeouts.connect": "30s",
        "distributed.worker.multiprocessing-method": "spawn",
    }
    with (
        dask.config.set(quick),
        distributed.LocalCluster(
            n_workers=1, processes=True, threads_per_worker=1, dashboard_address=":0", silence_logs=50
        ) as cluster,
    ):
        yield cluster


@pytest.fixture
def client(cluster):
    from distributed import Client

    with Client(cluster) as client:
        yield client


def grown(client, n_workers):
    """The same client once there are so many workers."""
    if len(client.scheduler_info()["workers"]) < n_workers:
        client.cluster.scale(n_workers)
    client.wait_for_workers(n_workers, timeout=60)
    return client


def pids(client):
    return list(client.run(os.getpid).values())


def chunked(rows, sizes):
    import dask.array as da

    return da.from_array(rows, chunks=(sizes, rows.shape[1]))


def fit(rows, **options):
    from gpukmeans.dask import KMeans

    return KMeans(**{"n_clusters": K, "random_state": 0, "backend": "numba", **options}).fit(rows)


def assert_same(model, expected):
    for name in FITTED:
        assert_same_array(getattr(model, name), getattr(expected, name), name)
    assert [record[:3] for record in model.history_] == [record[:3] for record in expected.history_]
    assert_same_array(model.labels_.compute(), expected.labels_, "labels")


OPTIONS = {"init": "random", "n_init": 1, "tol": 0.0, "max_iter": 12}  # k-means++ is 33 rounds of tasks


@pytest.fixture(scope="module")
def expected():
    return gpukmeans.KMeans(K, random_state=0, **OPTIONS).fit(X)


# The number of workers grows from test to test: starting one takes as long as many a fit.
@pytest.mark.parametrize("n_workers", [1, 2, 3])
def test_workers_and_chunks_change_no_bit(client, expected, n_workers):
    grown(client, n_workers)
    for sizes in (1500, (1, 0, 1499, 1500)):
        assert_same(fit(chunked(X, sizes), **OPTIONS), expected)


@pytest.mark.parametrize("init", ["k-means++", "k-means||", "random", "rows"])
def test_weights_starts_and_scales_give_the_bits_of_one_machine(client, init):
    from gpukmeans.dask import KMeans

    rows = np.ldexp(X[:500].astype(np.float64), 60 if init == "rows" else 0)
    weight = np.random.default_rng(1).integers(0, 3, len(rows)).astype(float)
    options = {"init": rows[:5] if init == "rows" else init, "n_init": 2 if init == "random" else 1, "max_iter": 10}
    expected = gpukmeans.KMeans(5, random_state=3, **options).fit(rows, sample_weight=weight)
    model = KMeans(5, random_state=3, **options).fit(chunked(rows, 250), sample_weight=weight)
    assert_same(model, expected)
    assert model.score(chunked(rows, 200), sample_weight=weight) == expected.score(rows, sample_weight=weight)
    assert_same_array(model.transform(chunked(rows, 200)).compute(), expected.transform(rows), "distances")
    assert_same_array(model.predict(rows), expected.labels_, "labels of an array")


def test_empty_clusters_take_the_rows_that_one_machine_would_take(client):
    start = np.concatenate([X[:4], 1e3 + X[:4]])
    expected = gpukmeans.KMeans(8, init=start, n_init=1, max_iter=5).fit(X)
    assert_same(fit(chunked(X, 700), n_clusters=8, init=start, n_init=1, max_iter=5), expected)


def during_iteration(monkeypatch, number, action):
    """Do something when that iteration has been sent to the workers."""
    from gpukmeans._cluster import ClusterBackend

    begin, seen = ClusterBackend._begin, []

    def step(self, rows, verb, *args, **options):
        futures = begin(self, rows, verb, *args, **options)
        if verb == "step":
            seen.append(verb)
            if len(seen) == number:
                action()
        return futures

    monkeypatch.setattr(ClusterBackend, "_begin", step)
    return seen


@pytest.mark.parametrize("victims", [1, 3])
def test_a_fit_outlives_workers_that_are_killed_in_an_iteration(monkeypatch, client, expected, victims):
    running = pids(grown(client, 3))
    assert len(running) == 3

    def kill():
        for pid in running[:victims]:
            os.kill(pid, signal.SIGKILL)

    seen = during_iteration(monkeypatch, 3, kill)
    assert_same(fit(chunked(X, 500), **OPTIONS), expected)
    assert len(seen) > 3
    client.wait_for_workers(3, timeout=60)
    assert not set(running[:victims]) & set(pids(client))


def test_a_worker_that_joins_in_an_iteration_changes_no_bit(monkeypatch, client, expected):
    seen = during_iteration(monkeypatch, 2, lambda: grown(client, 4))
    assert_same(fit(chunked(X, 250), **OPTIONS), expected)
    assert len(seen) > 2
    client.cluster.scale(3)


# ---- what goes wrong
def test_files_are_read_by_the_workers_and_one_that_is_cut_is_named(client, expected, tmp_path, monkeypatch):
    from gpukmeans import dask

    monkeypatch.setattr(dask, "CHUNK_BYTES", 20_000)
    paths = [tmp_path / f"{i}.npy" for i in range(3)]
    for path, part in zip(paths, np.split(X, 3), strict=True):
        np.save(path, part)
    source = gpukmeans.open_source(paths)
    assert_same(fit(source, **OPTIONS), expected)
    os.truncate(paths[1], 10_000)
    with pytest.raises(DataFileError, match="1.npy"):
        fit(source, **OPTIONS)


def test_a_chunk_that_kills_its_workers_is_reported(monkeypatch, client):
    import dask.array as da

    monkeypatch.setattr(client.cluster.scheduler, "allowed_failures", 1)

    def deadly(block, block_info=None):
        if block_info[0]["chunk-location"][0] == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return block

    rows = da.from_array(X, chunks=(500, D)).map_blocks(deadly, dtype=X.dtype, meta=X[:0])
    with pytest.raises(ClusterLostError, match=r"Chunk 2 of 6 \(rows 1000 to 1499\): every worker that had it died"):
        fit(rows, **OPTIONS)
    client.wait_for_workers(3, timeout=60)


def test_a_bad_value_is_named_by_its_row_in_all_rows(client):
    rows = X.copy()
    rows[1234, 3] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN: row 1234, column 3 is nan"):
        fit(chunked(rows, 500))


def test_bad_input_is_refused_before_anything_is_sent(client):
    from gpukmeans.dask import KMeans

    with pytest.raises(TypeError, match=r"dask\.array\.from_array"):
        KMeans().fit(X)
    rows = chunked(X, 1000)
    with pytest.raises(ValueError, match="compute_chunk_sizes"):
        KMeans().fit(rows[rows[:, 0] > 0])
    with pytest.raises(ValueError, match="n_clusters"):
        KMeans(0).fit(rows)
    with pytest.raises(ValueError, match="n_samples=3000 should be >= n_clusters=3001"):
        KMeans(3001).fit(rows)
    with pytest.raises(TypeError, match=r"client must be a distributed\.Client"):
        KMeans(client="here").fit(rows)


def test_without_a_client_it_says_how_to_get_one():
    support.optional("distributed")
    from gpukmeans.dask import KMeans

    with pytest.raises(ValueError, match=r"distributed\.Client\(\)"):
        KMeans().fit(chunked(X, 1000))


def test_the_workers_keep_nothing_of_a_fit_that_is_over(client):
    def n_kept():
        from gpukmeans import _chunks

        return len(_chunks._kept)

    fit(chunked(X, 500), **(OPTIONS | {"max_iter": 2}))
    assert set(client.run(n_kept).values()) == {0}


ON_CARDS = """
from simt import standin
standin.install()
import numpy as np, dask.array as da
from distributed import Client
import gpukmeans
from gpukmeans.dask import KMeans
X = np.random.default_rng(0).normal(size=(600, 5)).astype(np.float32)
start = {"init": X[:7], "n_init": 1, "max_iter": 4, "tol": 0}
with Client(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0"):
    model = KMeans(7, backend="cupy", **start).fit(da.from_array(X, chunks=(200, 5)))
    labels = model.labels_.compute()
one = gpukmeans.KMeans(7, backend="numpy", **start).fit(X)
assert any(name.startswith("assign") for name in standin.control.log.launches)
print(np.array_equal(labels, one.labels_), model.inertia_ == one.inertia_)
print(np.array_equal(model.cluster_centers_, one.cluster_centers_))
"""


def test_a_worker_with_a_card_uses_it():
    """In a process of its own, whose workers are threads: on the stand-in for CuPy, so verified without a GPU."""
    support.optional("distributed")
    if build.compiler() is None:
        support.missing("simt", "the stand-in for CuPy needs g++ on x86-64 Linux")
    tests = os.path.dirname(__file__)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, *(path for path in sys.path if path)])}
    command = [sys.executable, "-W", "ignore", "-c", ON_CARDS]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.stdout.split() == ["True"] * 3, done.stderr
