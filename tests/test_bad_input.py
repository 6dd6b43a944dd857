"""Wrong input is refused with a message that says what is wrong and where; huge and tiny input is scaled."""

import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import support
from sklearn.exceptions import NotFittedError
from support import assert_same_fit, optional, quiet_fit, result_of, run

import gpukmeans
import naive
from gpukmeans import KMeans

X = np.random.default_rng(0).normal(size=(30, 3))


def with_value(value, row=17, column=2):
    bad = X.copy()
    bad[row, column] = value
    return bad


def entry_points(backend):
    """Everything that takes data, as functions of the data alone."""

    def fitted():
        return KMeans(3, random_state=0, backend=backend).fit(X)

    return {
        "fit": KMeans(3, random_state=0, backend=backend).fit,
        "fit_predict": KMeans(3, random_state=0, backend=backend).fit_predict,
        "fit_transform": KMeans(3, random_state=0, backend=backend).fit_transform,
        "predict": lambda A: fitted().predict(A),
        "transform": lambda A: fitted().transform(A),
        "score": lambda A: fitted().score(A),
        "k_means": lambda A: gpukmeans.k_means(A, 3, random_state=0, backend=backend),
        "kmeans_plusplus": lambda A: gpukmeans.kmeans_plusplus(A, 3, random_state=0, backend=backend),
        "argmin X": lambda A: gpukmeans.pairwise_distances_argmin(A, X, backend=backend),
        "argmin Y": lambda A: gpukmeans.pairwise_distances_argmin(X, A, backend=backend),
        "argmin_min": lambda A: gpukmeans.pairwise_distances_argmin_min(A, X, backend=backend),
    }


ENTRIES = list(entry_points("numpy"))


# ---------------------------------------------------------------------------------------------- NaN and infinity


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
@pytest.mark.parametrize("form", [np.asarray, np.float32, sp.csr_array, sp.csc_matrix, sp.coo_array])
def test_a_bad_value_is_named_by_row_and_column(backend, entry, value, word, form):
    with pytest.raises(ValueError, match=f"(?s){word}.*row 17, column 2"):
        entry_points(backend)[entry](form(with_value(value)))


@pytest.mark.parametrize("place", [(0, 0), (29, 2), (5, 1)])
def test_the_first_of_several_bad_values_is_named(backend, place):
    bad = with_value(np.nan, *place)
    bad[29, 2] = np.inf
    with pytest.raises(ValueError, match=f"row {place[0]}, column {place[1]}"):
        KMeans(3, backend=backend).fit(bad)


@pytest.mark.extra
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_bad_value_in_a_data_frame_is_named_by_its_column(backend, library):
    module = optional(library)
    names = ["height", "weight", "age"]
    good, bad = (module.DataFrame(dict(zip(names, A.T, strict=True))) for A in (X, with_value(np.nan)))
    with pytest.raises(ValueError, match="row 17, column 2.*age"):
        KMeans(3, backend=backend).fit(bad)
    model = KMeans(3, random_state=0, backend=backend).fit(good)
    for method in (model.predict, model.transform, model.score):
        with pytest.raises(ValueError, match="row 17, column 2.*age"):
            method(bad)


def test_large_data_with_a_bad_value_in_the_last_row_is_refused(backend):
    large = np.zeros((100_003, 7), np.float32)
    large[-1, -1] = np.nan
    with pytest.raises(ValueError, match="row 100002, column 6"):
        KMeans(2, backend=backend).fit(large)


def test_the_row_number_of_sparse_data_is_that_of_the_whole_matrix(backend):
    wide = sp.random_array((3000, 1000), density=0.001, format="lil", rng=np.random.default_rng(0))
    wide[2999, 999] = np.nan
    with pytest.raises(ValueError, match="row 2999, column 999"):
        KMeans(2, backend=backend).fit(wide)


# ---------------------------------------------------------------------------------------------- shapes


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros(5), "Expected 2D array, got 1D array"),
        (np.float64(3), "Expected 2D array, got scalar array"),
        (np.zeros((4, 3, 2)), "dim 3"),
        (np.zeros((0, 3)), r"0 sample\(s\)"),
        (np.zeros((5, 0)), r"0 feature\(s\)"),
        ([[1.0, 2.0], [3.0]], "inhomogeneous|sequence"),
    ],
    ids=["1d", "scalar", "3d", "no rows", "no columns", "ragged"],
)
def test_a_wrong_shape_is_refused(backend, entry, data, message):
    with pytest.raises(ValueError, match=message):
        entry_points(backend)[entry](data)


@pytest.mark.parametrize("entry", ["fit", "k_means", "kmeans_plusplus"])
def test_more_clusters_than_rows_are_refused(backend, entry):
    with pytest.raises(ValueError, match="n_samples=2 should be >= n_clusters=3"):
        entry_points(backend)[entry](X[:2])


@pytest.mark.parametrize("method", ["predict", "transform", "score"])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
def test_another_number_of_features_is_refused(backend, method, form):
    with pytest.raises(ValueError, match="X has 2 features, but KMeans is expecting 3 features"):
        entry_points(backend)[method](form(X[:, :2]))


def test_pairwise_functions_refuse_arrays_of_different_width(backend):
    with pytest.raises(ValueError, match="[Ii]ncompatible dimension"):
        gpukmeans.pairwise_distances_argmin(X, X[:, :2], backend=backend)


@pytest.mark.parametrize("method", ["predict", "transform", "score", "get_feature_names_out"])
def test_an_unfitted_model_says_so(method):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(KMeans(), method)(*([X] if method != "get_feature_names_out" else []))


# ---------------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.where(np.arange(30) == 17, -1.0, 1.0), "(?s)[Nn]egative.*17"),
        (np.where(np.arange(30) == 17, np.nan, 1.0), "(?s)NaN.*17"),
        (np.where(np.arange(30) == 17, np.inf, 1.0), "(?s)infinity.*17"),
        (np.zeros(30), "zero"),
        (np.ones(29), r"sample_weight.shape == \(29,\), expected \(30,\)"),
        (np.ones((30, 1)), "1D array or scalar"),
        (np.ones((30, 2)), "1D array or scalar"),
        (["a"] * 30, "text|convert|numeric|strings"),
        (np.ma.array(np.ones(30), mask=np.arange(30) == 3), "mask"),
        (np.ones(30, complex), "[Cc]omplex"),
        (np.full(30, "2020-01-01", "M8[D]"), "date"),
    ],
    ids=["negative", "NaN", "inf", "zeros", "length", "column", "2d", "text", "masked", "complex", "dates"],
)
def test_wrong_weights_are_refused(backend, weight, message):
    fitted = KMeans(3, random_state=0, backend=backend).fit(X)
    for call in (
        lambda: KMeans(3, backend=backend).fit(X, sample_weight=weight),
        lambda: gpukmeans.k_means(X, 3, sample_weight=weight, backend=backend),
        lambda: gpukmeans.kmeans_plusplus(X, 3, sample_weight=weight, backend=backend),
        lambda: fitted.score(X, sample_weight=weight),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_one_number_weighs_all_rows(backend):
    expected = naive.fit(X, X[:3], sample_weight=np.full(30, 2.5))
    assert_same_fit(run(X, X[:3], sample_weight=2.5, backend=backend), expected)


# ---------------------------------------------------------------------------------------------- types


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.full((30, 3), "2020-01-01", "M8[D]"), "date"),
        (np.full((30, 3), 5, "m8[s]"), "date|time"),
        (X.astype(complex), "[Cc]omplex data not supported"),
        (X.astype(str), "text|numeric"),
        (X.astype("S"), "text|numeric|bytes"),
        (np.full((30, 3), None), "None|NoneType|NaN"),
        (np.full((30, 3), "a", object), "could not convert|text"),
        (np.full((30, 3), {}, object), "must be a string or a real number|could not convert|numbers"),
        (np.ma.array(X, mask=np.arange(90).reshape(30, 3) == 53), r"(?s)mask.*17"),
        ([["a", "b", "c"]] * 30, "text|numeric"),
    ],
    ids=["dates", "times", "complex", "text", "bytes", "None", "words", "dicts", "masked", "list of text"],
)
def test_what_is_not_numbers_is_refused(backend, entry, data, message):
    with pytest.raises((ValueError, TypeError), match=message):
        entry_points(backend)[entry](data)


@pytest.mark.extra
def test_dates_in_a_data_frame_are_refused_by_column(backend):
    pandas = optional("pandas")
    frame = pandas.DataFrame({"a": np.arange(5.0), "when": pandas.date_range("2020-01-01", periods=5)})
    with pytest.raises((ValueError, TypeError), match="when|date"):
        KMeans(2, backend=backend).fit(frame)


def test_a_masked_array_without_masked_values_is_taken(backend):
    model = KMeans(3, init=X[:3], n_init=1, backend=backend).fit(np.ma.array(X, mask=np.zeros(X.shape, bool)))
    assert_same_fit(result_of(model), naive.fit(X, X[:3]))
    assert type(model.cluster_centers_) is np.ndarray
    assert type(model.labels_) is np.ndarray


def test_objects_that_are_numbers_are_taken(backend):
    model = KMeans(3, init=X[:3], n_init=1, backend=backend).fit(X.astype(object))
    assert_same_fit(result_of(model), naive.fit(X, X[:3]))


# ---------------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("parameters", "near"),
    [({"n_cluster": 3}, "n_clusters"), ({"max_iters": 3}, "max_iter"), ({"n_jobs": 2}, "n_jobs"), ({"Tol": 1}, "tol")],
)
def test_an_unknown_parameter_is_a_type_error_with_the_nearest_name(parameters, near):
    with pytest.raises(TypeError, match=near):
        KMeans(**parameters)


def test_set_params_with_an_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match="n_clusters"):
        KMeans().set_params(n_cluster=3)
    assert KMeans().set_params(n_clusters=3).n_clusters == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_clusters", 0),
        ("n_clusters", -1),
        ("n_clusters", 2.0),
        ("n_clusters", "3"),
        ("n_clusters", None),
        ("n_clusters", True),
        ("n_init", 0),
        ("n_init", "always"),
        ("n_init", 1.5),
        ("max_iter", 0),
        ("max_iter", 10.0),
        ("tol", -1e-4),
        ("tol", "small"),
        ("tol", np.nan),
        ("verbose", "yes"),
        ("random_state", "seed"),
        ("random_state", -1),
        ("random_state", 1.5),
        ("copy_x", "no"),
        ("algorithm", "elkann"),
        ("algorithm", None),
        ("backend", "nump"),
        ("backend", None),
        ("precision", "float16"),
        ("precision", None),
        ("init", "k-mean++"),
        ("init", 3),
        ("init", None),
    ],
)
def test_a_wrong_parameter_is_refused_by_name_and_value(name, value):
    with pytest.raises((ValueError, TypeError)) as caught:
        KMeans(**{"n_clusters": 3, name: value}).fit(X)
    assert f"'{name}'" in str(caught.value) or f" {name}" in str(caught.value)
    assert repr(value) in str(caught.value) or str(value) in str(caught.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda: gpukmeans.k_means(X, 0),
        lambda: gpukmeans.kmeans_plusplus(X, 0),
        lambda: gpukmeans.k_means(X, 2, max_iter=0),
        lambda: gpukmeans.pairwise_distances_argmin(X, X, axis=2),
        lambda: gpukmeans.pairwise_distances_argmin(X, X, metric="cosine"),
        lambda: gpukmeans.kmeans_plusplus(X, 2, random_state="x"),
    ],
)
def test_the_functions_check_their_parameters_too(call):
    with pytest.raises(ValueError, match="must be|parameter"):
        call()


@pytest.mark.parametrize(("name", "near"), [("nump", "numpy"), ("Numba", "numba"), ("autos", "auto")])
def test_an_unknown_backend_suggests_the_nearest(name, near):
    with pytest.raises(ValueError, match=f"(?s){name}.*Did you mean '{near}'"):
        KMeans(2, backend=name).fit(X)
    with pytest.raises(ValueError, match=f"(?s){name}.*Did you mean '{near}'"):
        gpukmeans.backends.get_backend(name)


def test_a_backend_that_cannot_work_here_says_why(monkeypatch):
    from gpukmeans.backends import _numpy

    monkeypatch.setattr(_numpy, "why_unavailable", lambda: "it is switched off")
    assert gpukmeans.available_backends()["numpy"] == "it is switched off"
    with pytest.raises(gpukmeans.BackendUnavailableError, match="numpy.*it is switched off"):
        KMeans(2, backend="numpy").fit(X)
    with pytest.raises(gpukmeans.GpuKMeansError):
        gpukmeans.backends.get_backend("numpy")


def test_a_backend_without_its_device_is_refused_by_name():
    if gpukmeans.available_backends()["cupy"] is not None:  # here there is no card
        with pytest.raises(gpukmeans.BackendUnavailableError, match="'cupy' does not work here: .*(CuPy|driver|card)"):
            KMeans(2, backend="cupy").fit(X)


# ---------------------------------------------------------------------------------------------- scales


@pytest.mark.parametrize(
    ("dtype", "scale"), [("f4", 1e38), ("f4", 1e-30), ("f8", 1e307), ("f8", 1e-300), ("f8", 1e160), ("f8", 1e-160)]
)
def test_data_near_the_limits_of_its_type_is_clustered_as_any_other(backend, dtype, scale):
    near_limit = (X / np.abs(X).max() * scale).astype(dtype)
    for parameters in ({"init": near_limit[:4].copy()}, {"random_state": 0}, {"init": "random", "random_state": 0}):
        model = quiet_fit(KMeans(4, n_init=1, backend=backend, **parameters), near_limit)
        assert np.isfinite(model.cluster_centers_).all()
        assert len(set(model.labels_.tolist())) == 4
        assert not np.isnan(model.inertia_)
        assert (model.predict(near_limit) == model.labels_).all()
        assert np.isfinite(model.transform(near_limit[:1])).all()


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_largest_numbers_of_a_type_give_the_bits_of_the_oracle(backend, dtype):
    largest = np.finfo(dtype).max
    extreme = np.array([[largest], [largest], [-largest], [-largest], [0]], dtype)
    for k in (1, 2, 3):
        start = extreme[[0, 2, 4]][:k]
        assert_same_fit(run(extreme, start, backend=backend), naive.fit(extreme, start))


@pytest.mark.parametrize(("dtype", "smallest"), [("f4", 1e-44), ("f8", 1e-322)])
def test_labels_of_subnormal_data_are_what_predict_gives(backend, dtype, smallest):
    for seed in (0, 8, 13, 44, 52):
        rng = np.random.default_rng(seed)
        subnormal = (rng.integers(-30, 31, (200, 2)) * np.array(smallest, dtype)).astype(dtype)
        model = quiet_fit(KMeans(20, random_state=seed, backend=backend), subnormal)
        assert_same_fit(result_of(model), naive.fit_seeded(subnormal, 20, np.random.RandomState(seed)))
        assert (model.predict(subnormal) == model.labels_).all()


def test_no_numpy_warning_escapes_from_extreme_data(backend):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for scale in (1e-320, 1e-300, 1e300, 1e307):
            model = quiet_fit(KMeans(3, random_state=0, backend=backend), X * scale)
            model.predict(X * 1e307)
            model.predict(X * 1e-320)
            model.score(X * 1e307)
            model.transform(X * scale)


def test_the_score_of_rows_infinitely_far_is_minus_infinity(backend):
    model = quiet_fit(KMeans(3, random_state=0, backend=backend), X * 1e-300)
    assert model.score(X * 1e200) == -np.inf
    assert (model.predict(X * 1e200) == 0).all()


# ---------------------------------------------------------------------------------------------- Ctrl-C

INTERRUPTED = """
    import signal, sys
    import numpy as np
    from gpukmeans import KMeans

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts with it ignored
    rng = np.random.default_rng(0)
    small = rng.normal(size=(300, 3))
    before = KMeans(4, random_state=0, backend={backend!r}).fit(small)
    large = rng.normal(size=(400_000, 8)).astype(np.float32)
    print("fitting", flush=True)
    try:
        KMeans(64, init="random", n_init=1000, tol=0, max_iter=100_000, random_state=0, backend={backend!r}).fit(large)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    else:
        sys.exit("the fit ended by itself")
    after = KMeans(4, random_state=0, backend={backend!r}).fit(small)
    assert (after.cluster_centers_ == before.cluster_centers_).all()
    assert (after.labels_ == before.labels_).all()
    large[:] = 0  # nobody may still be at work on it
    print("fitted again", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one process on Windows")
def test_ctrl_c_ends_a_fit_at_once_and_a_later_fit_works(backend):
    program = support.prelude(backend) + textwrap.dedent(INTERRUPTED.format(backend=backend))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout.readline() == "fitting\n"
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (out, err, process.returncode) == ("interrupted\nfitted again\n", "", 0)


# ---------------------------------------------------------------------------------------------- the short way


class Own(np.ndarray):
    """A subclass of arrays."""


FORMS = {
    "float32": lambda: np.ones((2, 3), np.float32),
    "float64": lambda: np.ones((2, 3)),
    "read-only": lambda: np.frombuffer(np.ones(6).tobytes()).reshape(2, 3),
    "other order": lambda: np.ones((3, 2)).T,
    "strided": lambda: np.ones((4, 3))[::2],
    "other bytes": lambda: np.ones((2, 3), np.dtype(np.float64).newbyteorder()),
    "float16": lambda: np.ones((2, 3), np.float16),
    "integers": lambda: np.ones((2, 3), int),
    "objects": lambda: np.ones((2, 3), object),
    "complex": lambda: np.ones((2, 3), complex),
    "list": lambda: [[1.0, 1.0, 1.0]],
    "subclass": lambda: np.ones((2, 3)).view(Own),
    "masked": lambda: np.ma.masked_array(np.ones((2, 3)), np.eye(2, 3)),
    "one dimension": lambda: np.ones(3),
    "three dimensions": lambda: np.ones((2, 3, 1)),
    "no rows": lambda: np.ones((0, 3)),
    "no columns": lambda: np.ones((2, 0)),
    "too narrow": lambda: np.ones((2, 2)),
    "too wide": lambda: np.ones((2, 4), np.float32),
}


def outcome(call):
    try:
        return call()
    except (TypeError, ValueError) as error:
        return type(error), str(error)


@pytest.mark.parametrize("method", ["predict", "transform", "score"])
@pytest.mark.parametrize("form", FORMS)
def test_the_short_way_past_the_checks_answers_as_the_long_one(backend, monkeypatch, method, form):
    fitted = KMeans(3, random_state=0, backend=backend).fit(X)
    data = FORMS[form]()
    short = outcome(lambda: getattr(fitted, method)(data))
    monkeypatch.setattr("gpukmeans.validation._is_plain", lambda X: False)
    long = outcome(lambda: getattr(fitted, method)(data))
    assert type(short) is type(long)
    assert np.array_equal(short, long)


@pytest.mark.extra
@pytest.mark.parametrize("form", FORMS)
def test_a_fit_takes_and_refuses_the_same_data_and_starts_by_the_short_way(monkeypatch, form):
    data = FORMS[form]()

    def fits():
        model = KMeans(1, init=X[:1], n_init=1, backend="numpy").fit(optional("pandas").DataFrame(X))
        rows = outcome(lambda: model.fit(data).labels_.tolist())
        starts = outcome(lambda: KMeans(2, init=data, n_init=1, backend="numpy").fit(X).cluster_centers_.tolist())
        return rows, starts, getattr(model, "n_features_in_", None), hasattr(model, "feature_names_in_")

    short = fits()
    monkeypatch.setattr("gpukmeans.validation._is_plain", lambda X: False)
    assert short == fits()


@pytest.mark.extra
def test_rows_without_names_for_a_model_with_names_warn_as_in_scikit_learn(backend):
    frame = optional("pandas").DataFrame(X, columns=["a", "b", "c"])
    fitted = KMeans(3, random_state=0, backend=backend).fit(frame)
    with pytest.warns(
        UserWarning, match="X does not have valid feature names, but KMeans was fitted with feature names"
    ):
        fitted.predict(X)
