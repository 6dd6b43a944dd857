"""Rows of 16 bits: on a card they are used as they are stored, to the bits of the same rows in float32.

On the stand-in for CuPy: verified without a GPU.
"""

import sys

import numpy as np
import pytest
import support
from simt.standin import torch as standin_torch
from support import assert_same_array, quiet_fit

from gpukmeans import KMeans
from gpukmeans.arrays import to_host
from gpukmeans.backends import _cuda_rows, get_backend
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


@pytest.mark.parametrize(
    ("kind", "place"), [("fp16", "numpy"), ("fp16", "cupy"), ("fp16", "torch"), ("bf16", "torch")]
)
def test_a_fit_has_the_bits_of_the_same_rows_in_float32(control, torch, monkeypatch, kind, place):
    words, values = rows(kind)
    weights = np.random.default_rng(1).random(N)
    reference = quiet_fit(model(backend="numpy"), values, sample_weight=weights)
    for block in (40, 1 << 20):
        monkeypatch.setattr(_cuda_rows, "EXPANDED_BYTES", 4 * D * block)
        X = where_it_lies(words, kind, place)
        control.log.clear()
        fitted = quiet_fit(model(backend="cupy"), X, sample_weight=weights)
        # copied once if it was on the host, and never in float32
        assert (2 * N * D in control.log.to_device) == (place == "numpy")
        assert max(control.log.to_device + control.log.within_device) < 4 * N * D
        assert_same_results(fitted, X, reference, values)
    assert control.log.graphs > 0
    assert control.log.launches[f"expand<{1 if kind == 'fp16' else 0}>"] > 10


@pytest.mark.parametrize("place", ["numpy", "cupy"])
def test_rows_fit_on_a_card_where_their_float32_copy_would_not(control, monkeypatch, caplog, place):
    words, values = rows("fp16", n=20_000, d=16)
    X = where_it_lies(words, "fp16", place)
    monkeypatch.setattr(_cuda_rows, "EXPANDED_BYTES", 1 << 16)
    control.device_memory = X.nbytes + 20_000 * 12 + (1 << 18)  # label, distance, and what does not depend on rows
    assert control.device_memory < 2 * X.nbytes
    start = {"init": values[:4], "n_init": 1, "max_iter": 2, "tol": 0}
    reference = quiet_fit(KMeans(4, **start, backend="numpy"), values)
    with caplog.at_level("DEBUG", "gpukmeans"):
        fitted = quiet_fit(KMeans(4, **start, backend="cupy"), X)
    assert "out of memory" not in caplog.text
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
def test_bfloat16_beyond_what_squares_can_hold_is_scaled_while_it_is_expanded(torch, power):
    words, values = rows("bf16", power=power)
    X = where_it_lies(words, "bf16", "torch")
    fitted = quiet_fit(model(backend="cupy"), X)
    assert fitted._scale_exponent != 0
    assert_same_results(fitted, X, quiet_fit(model(backend="numpy"), values), values)


@pytest.mark.usefixtures("control")
def test_several_cards_and_other_backends_take_them_too(torch):
    words, values = rows("bf16")
    reference = quiet_fit(model(backend="numpy"), values)
    for backend in ("cupy:all", "numpy", "numba"):
        X = where_it_lies(words, "bf16", "torch")
        assert_same_results(quiet_fit(model(backend=backend), X), X, reference, values)
    assert isinstance(get_backend("numba").accept(halves(X)), np.ndarray)


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
