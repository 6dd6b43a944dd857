"""What KMeans refuses, MiniBatchKMeans, BisectingKMeans and KernelKMeans refuse with the same words."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.exceptions import NotFittedError
from support import optional

import gpukmeans

X = np.random.default_rng(0).normal(size=(30, 3))
ESTIMATORS = {
    "MiniBatchKMeans": {"max_iter": 2, "n_init": 1},
    "BisectingKMeans": {},
    "KernelKMeans": {"n_components": 5, "n_init": 1},
}
METHODS = {
    "MiniBatchKMeans": ("fit", "fit_predict", "partial_fit", "predict", "transform", "score"),
    "BisectingKMeans": ("fit", "fit_predict", "predict", "transform", "score"),
    "KernelKMeans": ("fit", "fit_predict", "predict"),
}
ENTRIES = [(name, method) for name, methods in METHODS.items() for method in methods]


def make(name, backend="numpy", **parameters):
    return getattr(gpukmeans, name)(
        **{"n_clusters": 3, "random_state": 0, **ESTIMATORS[name], **parameters}, backend=backend
    )


def method_of(name, method, backend="numpy"):
    model = make(name, backend)
    return getattr(model if "fit" in method else model.fit(X), method)


def with_value(value):
    bad = X.copy()
    bad[17, 2] = value
    return bad


# ---------------------------------------------------------------------------------------------- data
@pytest.mark.parametrize(("name", "method"), ENTRIES)
def test_a_bad_value_is_named_by_row_and_column(backend, name, method):
    call = method_of(name, method, backend)
    for form in (np.asarray, np.float32, sp.csr_array):
        for value, word in ((np.nan, "NaN"), (-np.inf, "infinity")):
            if (method, form) == ("partial_fit", np.float32):
                call = method_of(name, method, backend)  # batches of one dtype
            with pytest.raises(ValueError, match=f"(?s){word}.*row 17, column 2"):
                call(form(with_value(value)))


def test_a_bad_value_in_a_later_batch_is_named_and_changes_nothing(backend):
    model = make("MiniBatchKMeans", backend).partial_fit(X)
    before = model.cluster_centers_.copy()
    with pytest.raises(ValueError, match="row 17, column 2"):
        model.partial_fit(with_value(np.nan))
    assert np.array_equal(model.cluster_centers_, before)
    assert model.n_steps_ == 1


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_bad_value_in_a_data_frame_is_named_by_its_column(name):
    pandas = optional("pandas")
    columns = ["height", "weight", "age"]
    good, bad = (pandas.DataFrame(A, columns=columns) for A in (X, with_value(np.nan)))
    model = make(name).fit(good)
    for call in (make(name).fit, model.predict):
        with pytest.raises(ValueError, match="row 17, column 2.*age"):
            call(bad)


@pytest.mark.parametrize(("name", "method"), ENTRIES)
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros(5), "Expected 2D array, got 1D array"),
        (np.zeros((4, 3, 2)), "dim 3"),
        (np.zeros((0, 3)), r"0 sample\(s\)"),
        (np.zeros((5, 0)), r"0 feature\(s\)"),
        ([[1.0, 2.0], [3.0]], "inhomogeneous|sequence"),
        (np.full((30, 3), "2020-01-01", "M8[D]"), "date"),
        (X.astype(complex), "[Cc]omplex data not supported"),
        (X.astype(str), "text|numeric"),
        (np.ma.array(X, mask=np.arange(90).reshape(30, 3) == 53), r"(?s)mask.*17"),
    ],
    ids=["1d", "3d", "no rows", "no columns", "ragged", "dates", "complex", "text", "masked"],
)
def test_a_wrong_shape_or_type_is_refused(name, method, data, message):
    with pytest.raises((ValueError, TypeError), match=message):
        method_of(name, method)(data)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_more_clusters_than_rows_are_refused(backend, name):
    methods = [method for method in METHODS[name] if "fit" in method]
    for method in methods:
        with pytest.raises(ValueError, match="n_samples=2 should be >= n_clusters=3"):
            method_of(name, method, backend)(X[:2])


@pytest.mark.parametrize(("name", "method"), [entry for entry in ENTRIES if "fit" not in entry[1]])
def test_another_number_of_features_is_refused(name, method):
    for form in (np.asarray, sp.csr_array):
        with pytest.raises(ValueError, match=f"X has 2 features, but {name} is expecting 3 features"):
            method_of(name, method)(form(X[:, :2]))


def test_a_batch_with_another_number_of_features_is_refused():
    with pytest.raises(ValueError, match="X has 2 features, but MiniBatchKMeans is expecting 3 features"):
        make("MiniBatchKMeans").partial_fit(X).partial_fit(X[:, :2])


@pytest.mark.parametrize(("name", "method"), [entry for entry in ENTRIES if "fit" not in entry[1]])
def test_an_unfitted_model_says_so(name, method):
    with pytest.raises(NotFittedError, match=f"This {name} instance is not fitted yet"):
        getattr(make(name), method)(X)


# ---------------------------------------------------------------------------------------------- weights
@pytest.mark.parametrize(("name", "method"), [e for e in ENTRIES if e[1] in ("fit", "partial_fit", "score")])
@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.where(np.arange(30) == 17, -1.0, 1.0), "(?s)[Nn]egative.*17"),
        (np.where(np.arange(30) == 17, np.nan, 1.0), "(?s)NaN.*17"),
        (np.zeros(30), "zero"),
        (np.ones(29), r"sample_weight.shape == \(29,\), expected \(30,\)"),
        (np.ones((30, 1)), "1D array or scalar"),
        (["a"] * 30, "text|convert|numeric|strings"),
        (np.ma.array(np.ones(30), mask=np.arange(30) == 3), "mask"),
    ],
    ids=["negative", "NaN", "zeros", "length", "column", "text", "masked"],
)
def test_wrong_weights_are_refused(name, method, weight, message):
    with pytest.raises(ValueError, match=message):
        method_of(name, method)(X, sample_weight=weight)


# ---------------------------------------------------------------------------------------------- parameters
@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_unknown_parameter_is_refused_with_the_nearest_name(name):
    with pytest.raises(TypeError, match=f"Invalid parameter 'n_cluster' for {name}. Did you mean 'n_clusters'"):
        getattr(gpukmeans, name)(n_cluster=3)
    with pytest.raises(ValueError, match=f"Invalid parameter 'max_iters' for {name}. Did you mean 'max_iter'"):
        make(name).set_params(max_iters=3)


OF_ALL = [
    ("n_clusters", 0), ("n_clusters", 2.0), ("n_clusters", "3"), ("n_clusters", True), ("n_init", 0), ("n_init", 1.5),
    ("max_iter", 0), ("max_iter", 10.0), ("tol", -1e-4), ("tol", np.nan), ("random_state", "seed"),
    ("random_state", -1), ("backend", "nump"), ("backend", None), ("precision", "float16"), ("init", "k-mean++"),
    ("init", 3), ("init", None),
]  # fmt: skip
OF_ONE = {
    "MiniBatchKMeans": [
        ("batch_size", 0), ("batch_size", 10.0), ("compute_labels", "yes"), ("verbose", "yes"),
        ("max_no_improvement", -1), ("max_no_improvement", 1.5), ("init_size", 0), ("reassignment_ratio", -0.1),
        ("reassignment_ratio", np.nan),
    ],
    "BisectingKMeans": [
        ("n_init", "auto"), ("init", X[:3]), ("bisecting_strategy", "largest"), ("bisecting_strategy", None),
        ("algorithm", "elkann"), ("copy_x", "no"), ("verbose", "yes"),
    ],
    "KernelKMeans": [
        ("kernel", "rbff"), ("kernel", 3), ("gamma", 0.0), ("gamma", "scale"), ("degree", -1), ("coef0", np.inf),
        ("kernel_params", 3), ("n_components", 0), ("normalize", "yes"), ("init", X[:3]),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("estimator", "name", "value"),
    [(estimator, *wrong) for estimator, more in OF_ONE.items() for wrong in OF_ALL + more],
    ids=lambda value: "array" if isinstance(value, np.ndarray) else None,
)
def test_a_wrong_parameter_is_refused_by_name_and_value(estimator, name, value):
    parameters = {"n_clusters": 3, **ESTIMATORS[estimator], name: value}
    with pytest.raises((ValueError, TypeError)) as caught:
        getattr(gpukmeans, estimator)(**parameters).fit(X)
    assert f"The {name!r} parameter of {estimator} must be" in str(caught.value)
    assert f"Got {value!r} instead" in str(caught.value)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_unknown_or_unavailable_backend_is_refused_before_the_work(monkeypatch, name):
    with pytest.raises(ValueError, match="(?s)'numbs'.*Did you mean 'numba'"):
        make(name, "numbs").fit(X)
    fitted = make(name).fit(X)
    monkeypatch.setattr(gpukmeans.backends, "_why_unavailable", lambda backend: "it is switched off")
    for call in (make(name).fit, fitted.predict):
        with pytest.raises(gpukmeans.BackendUnavailableError, match="numpy.*it is switched off"):
            call(X)


@pytest.mark.parametrize(
    ("init", "message"),
    [
        (X[:2], r"initial centers \(2, 3\) does not match the number of clusters 3"),
        (X[:3, :2], r"initial centers \(3, 2\) does not match the number of features of the data 3"),
        (np.where(np.eye(3), np.nan, X[:3]), "init contains NaN: row 0, column 0"),
        (lambda X, n_clusters, random_state: X[:2], r"initial centers \(2, 3\) does not match"),
    ],
)
def test_a_wrong_start_is_refused(init, message):
    for method in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match=message):
            getattr(make("MiniBatchKMeans", init=init), method)(X)
