"""Rows of 16 bits: on a card they are used as they are stored, to the bits of the same rows in float32.

On the stand-in for CuPy: verified without a GPU.
"""

import sys

import numpy as np
import pytest
import support
from simt.standin import torch as standin_torch
from support import assert_same_array, quiet_fit

from gpukmeans import KMeans, MiniBatchKMeans, kmeans_plusplus
from gpukmeans.arrays import to_host
from gpukmeans.backends import _cards, _cuda_pruning, _cuda_rows, _tensor_config, get_backend
from gpukmeans.halves import Halves, halves

N, D, K = 300, 7, 5


@pytest.fixture
def control():
    with support.standin_cupy(seed=1, properties={"MultiProcessorCount": 1}) as knobs:
        yield knobs


@pytest.fixture
def torch():
    standin_torch.install()
    yield sys.modules["torch"]
    standin_torch.uninstall()


def rows(kind, n=N, d=D, power=0):
    """The bits of some rows of 16 bits, and their values in float32."""
    X = (np.random.default_rng(0).normal(size=(n, d)) * 2.0**power).astype(np.float32)
    words = X.astype(np.float16).view(np.uint16) if kind == "fp16" else (X.view(np.uint32) >> 16).astype(np.uint16)
    return words, Halves(words, kind, None).toarray()


def where_it_lies(words, kind, place):
    """As an array of NumPy, CuPy or torch; the stand-in's torch takes bits for bfloat16."""
    import cupy

    if place == "torch":
        return sys.modules["torch"].Tensor(cupy.asarray(words if kind == "bf16" else words.view(np.float16)))
    X = words.view(np.float16)
    return cupy.asarray(X) if place == "cupy" else X


def model(**parameters):
    return KMeans(K, **({"random_state": 0, "tol": 0, "max_iter": 12} | parameters))


def assert_same_results(fitted, X, reference, values):
    """Of a fit and of what the model is used for."""
    for name in ("labels_", "cluster_centers_"):
        assert type(getattr(fitted, name)).__name__ == type(X).__name__
        assert_same_array(to_host(getattr(fitted, name)), getattr(reference, name), name)
    assert (fitted.inertia_, fitted.n_iter_) == (reference.inertia_, reference.n_iter_)
    assert_same_array(to_host(fitted.predict(X)), reference.predict(values))
    assert_same_array(to_host(fitted.transform(X)), reference.transform(values))
    assert fitted.score(X) == reference.score(values)


@pytest.mark.parametrize("place", ["numpy", "cupy", "torch"])
def test_a_fit_has_the_bits_of_the_same_rows_in_float32(control, torch, monkeypatch, place):
    words, values = rows("fp16")
    weights = np.random.default_rng(1).random(N)
    reference = quiet_fit(model(backend="numpy"), values, sample_weight=weights)
    for block in (40, 1 << 20):
        monkeypatch.setattr(_cuda_rows, "PASS_ROWS", block)
        X = where_it_lies(words, "fp16", place)
        control.log.clear()
        fitted = quiet_fit(model(backend="cupy"), X, sample_weight=weights)
        # copied once if it was on the host, and never in float32
        assert (2 * N * D in control.log.to_device) == (place == "numpy")
        assert max(control.log.to_device + control.log.within_device) < 4 * N * D
        assert_same_results(fitted, X, reference, values)
    assert control.log.graphs > 0
    read = [name for name in control.log.launches if "<Float16" in name]
    assert len(read) == 10, "the kernels that read rows"
    assert not {name.replace("Float16", "float") for name in read} & control.log.launches.keys()


@pytest.mark.parametrize("place", ["numpy", "cupy"])
def test_what_is_held_on_a_card_is_what_is_stored_and_planned(control, caplog, place):
    import cupy

    words, values = rows("fp16", n=20_000, d=16)
    X = where_it_lies(words, "fp16", place)
    start = {"init": values[:4], "n_init": 1, "max_iter": 2, "tol": 0}
    reference = quiet_fit(KMeans(4, **start, backend="numpy"), values)
    model = KMeans(4, **start, backend="cupy")
    pool, planned = cupy.get_default_memory_pool(), model.plan(X).card_bytes
    pool.free_all_blocks()
    before = pool.total_bytes() - X.nbytes * (place == "cupy")
    control.device_memory = X.nbytes + 20_000 * 32 + (1 << 18)  # label, distance, list; what does not depend on rows
    with caplog.at_level("DEBUG", "gpukmeans"):
        fitted = quiet_fit(model, X)
    assert "out of memory" not in caplog.text
    assert X.nbytes < pool.total_bytes() - before <= planned
    # of the plan of the same rows in float32 two bytes a value are missing, of the sample too
    assert KMeans(4, **start, backend="cupy").plan(values).card_bytes - planned == 2 * 16 * (20_000 + 4096)
    assert_same_array(to_host(fitted.labels_), reference.labels_)
    assert_same_array(to_host(fitted.cluster_centers_), reference.cluster_centers_)


@pytest.mark.usefixtures("control")
def test_rows_that_do_not_fit_at_all_are_streamed_in_16_bits(monkeypatch):
    words, values = rows("fp16")
    monkeypatch.setattr(_cuda_rows, "STAGE_BYTES", 2 * D * 64)
    monkeypatch.setattr(_cuda_rows.CudaRows, "_reside", lambda self: None)
    monkeypatch.setattr(_cuda_rows.CudaRows, "is_streamed", True)
    fitted = quiet_fit(model(backend="cupy"), words.view(np.float16))
    assert_same_results(fitted, values, quiet_fit(model(backend="numpy"), values), values)


@pytest.mark.usefixtures("control")
@pytest.mark.parametrize("power", [60, -70])
def test_bfloat16_beyond_what_squares_can_hold_is_scaled_in_float32(torch, power):
    words, values = rows("bf16", power=power)
    X = where_it_lies(words, "bf16", "torch")
    fitted = quiet_fit(model(backend="cupy"), X)
    assert fitted._scale_exponent != 0
    assert_same_results(fitted, X, quiet_fit(model(backend="numpy"), values), values)


@pytest.mark.usefixtures("control")
def test_several_cards_and_other_backends_take_them_too(torch):
    words, values = rows("bf16")
    reference = quiet_fit(model(backend="numpy"), values)
    X = where_it_lies(words, "bf16", "torch")
    for backend in ("numpy", "numba"):
        fitted = quiet_fit(model(backend=backend), X)
        assert_same_results(fitted, X, reference, values)
    assert_same_array(to_host(fitted.set_params(backend="cupy:all").predict(X)), reference.labels_)
    assert isinstance(get_backend("numba").accept(halves(X)), np.ndarray)


def test_cards_share_them_as_they_are(monkeypatch):
    words, values = rows("fp16")
    monkeypatch.setattr(_cards, "LEAST_ROWS", 1)
    with support.standin_cupy(n_devices=2, properties={"MultiProcessorCount": 1}) as control:
        X = words.view(np.float16)
        fitted = quiet_fit(model(backend="cupy:all"), X)
        assert_same_results(fitted, X, quiet_fit(model(backend="numpy"), values), values)
        assert control.log.launches["assign_small<Float16, 8, 4>"] > 10
        assert not any("<float, " in name for name in control.log.launches)


def test_mini_batches_and_starts_leave_them_as_they_are(control):
    import cupy

    words, values = rows("fp16")
    X = cupy.asarray(words.view(np.float16))
    found = {}
    for backend, data in (("cupy", X), ("numpy", values)):
        batches = MiniBatchKMeans(K, random_state=0, batch_size=40, max_iter=3, tol=1e-3, backend=backend)
        fitted = quiet_fit(batches, data)
        seeds, indices = kmeans_plusplus(data, K, random_state=0, backend=backend)
        found[backend] = [seeds, indices, fitted.labels_, fitted.cluster_centers_, np.float64(fitted.inertia_)]
        found[backend].append(fitted.partial_fit(data).cluster_centers_)
    assert max(control.log.to_device + control.log.within_device) < 4 * X.size
    for got, expected in zip(*found.values(), strict=True):
        assert_same_array(to_host(got), expected)


def test_tensor_cores_and_bounds_take_them_as_they_are(control, monkeypatch):
    words, values = rows("fp16")
    monkeypatch.setattr(_tensor_config, "FORCED", "fp16")
    monkeypatch.setattr(_cuda_pruning, "pays", lambda *args: True)
    start, X = {"init": values[:20], "n_init": 1, "max_iter": 8, "tol": 0}, words.view(np.float16)
    fitted = quiet_fit(KMeans(20, **start, backend="cupy"), X)
    assert_same_results(fitted, X, quiet_fit(KMeans(20, **start, backend="numpy"), values), values)
    for name in ("assign_sm80<1, 64, 2, 8, 16, 1>", "resolve<Float16>", "prune<Float16>"):
        assert control.log.launches[name] > 1


@pytest.mark.usefixtures("control")
@pytest.mark.parametrize("place", ["numpy", "cupy"])
def test_what_is_wrong_with_16_bit_rows_is_said_as_of_others(place):
    words, values = rows("fp16")
    fitted = quiet_fit(model(backend="cupy"), values)
    X = words.view(np.float16).copy()
    X[123, 4] = np.inf
    for verb in (model(backend="cupy").fit, fitted.predict):
        with pytest.raises(ValueError, match="contains infinity: row 123, column 4 is inf"):
            verb(where_it_lies(X.view(np.uint16), "fp16", place))
    with pytest.raises(ValueError, match="3 features, but KMeans is expecting 7"):
        fitted.predict(where_it_lies(np.ascontiguousarray(words[:, :3]), "fp16", place))
    with pytest.raises(ValueError, match="n_samples=2 should be >= n_clusters=5"):
        model(backend="cupy").fit(where_it_lies(words[:2], "fp16", place))


def test_what_is_no_contiguous_matrix_of_16_bit_floats_is_left_alone():
    X = np.zeros((6, 4), np.float16)
    for other in (X.T, X[:, ::2], X[0], X[:0], X.astype(">f2"), X.astype(np.float32), np.ma.masked_array(X), [[1.0]]):
        assert halves(other) is other
    taken = halves(X[1:])
    assert taken.words.base is not None, "a copy"
    assert (taken.kind, taken.shape, taken.dtype, len(taken), taken.source.shape) == ("fp16", (5, 4), "f4", 5, (5, 4))
