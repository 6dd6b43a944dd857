"""KMeans as an estimator of scikit-learn: its checks, the same answers for the same seed, its tools."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn
from sklearn.base import clone
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.cluster import kmeans_plusplus as sklearn_kmeans_plusplus
from sklearn.datasets import load_digits, load_iris, load_wine, make_blobs
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from support import assert_same_array, optional, quiet_fit

import gpukmeans
import naive
from gpukmeans import KMeans

# ---------------------------------------------------------------------------------------------- its checks

REASON = "the draws follow scikit-learn's, and those follow the order of the rows"
EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": REASON,
    "check_sample_weight_equivalence_on_sparse_data": REASON,
}
CHECKED = [
    KMeans(n_clusters=2, n_init=2, max_iter=5, backend="numba"),
    KMeans(n_clusters=2, n_init=2, max_iter=5, backend="numpy"),
    KMeans(n_clusters=3, init="random", algorithm="elkan"),
    KMeans(),
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(CHECKED, expected_failed_checks=lambda estimator: EXPECTED_FAILURES)
def test_the_checks_of_scikit_learn_pass(estimator, check):
    check(estimator)


def test_scikit_learn_declares_the_same_failures_for_its_own_kmeans():
    from sklearn.utils._test_common.instance_generator import _get_expected_failed_checks

    assert EXPECTED_FAILURES.keys() <= _get_expected_failed_checks(SklearnKMeans(n_clusters=2)).keys()


def within_one_ulp(a, b, X):
    """Of the value itself for float32. In float64 weight * x is rounded: of the largest x of the feature."""
    largest = np.abs(X).max(axis=0) if X.dtype == np.float64 else np.maximum(np.abs(a), np.abs(b))
    return (np.abs(a - b) <= np.spacing(largest)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("seed", range(8))
def test_a_weight_of_m_is_m_equal_rows(backend, dtype, form, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(200, 4)).astype(dtype) * 10
    weight = rng.integers(0, 5, 200)
    weight[0] = 2
    repeated = np.repeat(np.arange(200), weight)
    rng.shuffle(repeated)
    model = KMeans(6, init=X[weight > 0][:6], n_init=1, tol=0, backend=backend)
    weighted = clone(model).fit(form(X), sample_weight=weight.astype(float))
    plain = clone(model).fit(form(X[repeated]))
    assert (plain.labels_ == weighted.labels_[repeated]).all()
    assert plain.n_iter_ == weighted.n_iter_
    assert within_one_ulp(plain.cluster_centers_, weighted.cluster_centers_, X)
    assert plain.inertia_ == pytest.approx(weighted.inertia_, rel=1e-6 if dtype == np.float32 else 1e-14)


# ---------------------------------------------------------------------------------------------- its answers


def data_sets():
    rng = np.random.default_rng(0)
    for i, (n, d, k, sd) in enumerate([(1000, 2, 5, 1.0), (1500, 5, 12, 2.0), (2000, 16, 20, 4.0), (500, 3, 8, 3.0)]):
        X, _ = make_blobs(n, n_features=d, centers=k, cluster_std=sd, random_state=i)
        yield f"blobs {n} x {d}", X, k
    yield "blobs with an offset", make_blobs(800, n_features=4, centers=6, random_state=9)[0] + 100, 6
    yield "iris", load_iris().data, 3
    yield "digits", load_digits().data, 10
    yield "wine", load_wine().data, 3
    yield "noise 2000 x 8", rng.normal(size=(2000, 8)), 20
    yield "noise 1000 x 2", rng.random((1000, 2)), 15


def starts_of_both(X, k, seed):
    ours = gpukmeans.kmeans_plusplus(X, k, random_state=seed)[1]
    theirs = sklearn_kmeans_plusplus(X - X.mean(axis=0), k, random_state=seed)[1]
    return ours, theirs


def near_tie_in_seeding(X, k, seed, step):
    """Whether the draw of this step, or the choice among its trials, is within rounding: the smallest relative gap."""
    rng = np.random.RandomState(seed)
    X = X.astype(float)
    trials = 2 + int(np.log(k))
    chosen = [min(int(rng.uniform() * len(X)), len(X) - 1)]
    closest = naive.distances(X, X[chosen])[:, 0]
    while True:
        draws = rng.uniform(size=trials) * closest.sum()
        ends = np.cumsum(closest)
        candidates = np.minimum(np.searchsorted(ends, draws), len(X) - 1)
        nearer = [np.minimum(closest, naive.distances(X, X[[c]])[:, 0]) for c in candidates]
        potentials = np.array([part.sum() for part in nearer])
        if len(chosen) == step:
            different = potentials[candidates != candidates[potentials.argmin()]]
            gap_of_choice = (different.min(initial=np.inf) - potentials.min()) / potentials.min()
            gap_of_draw = np.abs(ends[:, None] - draws).min() / ends[-1]
            return min(gap_of_choice, gap_of_draw)
        best = potentials.argmin()
        chosen.append(int(candidates[best]))
        closest = nearer[best]


def labels_inside_scikit_learn(X, centers):
    """The labels that scikit-learn's fit gives to rows for these centers: it works on centered data."""
    mean = X.mean(axis=0)
    model = SklearnKMeans(len(centers), n_init=1, max_iter=1, init=centers - mean).fit(X - mean)
    model.cluster_centers_ = np.ascontiguousarray(centers - mean)
    return model.predict(X - mean)


def explanation(X, k, seed):
    """Why the two differ for this seed: a near-tie, shown, or None if there is none.

    Follows both from the same start to the first iteration in which they label a row differently, and looks how much
    nearer that row is to one of its two centers.
    """
    rounding = (X.shape[1] + 10) * float(np.finfo(X.dtype).eps)
    ours, theirs = starts_of_both(X, k, seed)
    if (ours != theirs).any():
        step = int(np.flatnonzero(ours != theirs)[0])
        gap = near_tie_in_seeding(X, k, seed, step)
        return f"seeding, step {step}: a relative gap of {gap:.1e}" if gap < 10 * rounding else None
    start = our_centers = their_centers = X[ours]
    size = float(((X.astype(float) - X.astype(float).mean(axis=0)) ** 2).sum(axis=1).max())
    for m in range(1, 301):
        our_labels, their_labels = naive.labels(X, our_centers), labels_inside_scikit_learn(X, their_centers)
        rows = np.flatnonzero(our_labels != their_labels)
        if len(rows):
            D = naive.distances(X[rows], our_centers)
            each = np.arange(len(rows))
            gap = float(np.abs(D[each, our_labels[rows]] - D[each, their_labels[rows]]).max()) / size
            return f"iteration {m}, rows {rows.tolist()}: gap {gap:.1e}" if gap < rounding else None
        a = KMeans(k, init=start, n_init=1, max_iter=m).fit(X)
        b = SklearnKMeans(k, init=start, n_init=1, max_iter=m).fit(X)
        if a.n_iter_ != b.n_iter_:
            threshold = 1e-4 * X.astype(float).var(axis=0).mean()
            shift = a.history_[min(a.n_iter_, b.n_iter_) - 1].shift_sq
            gap = abs(shift - threshold) / threshold
            return f"tol: {shift} against {threshold}" if gap < 100 * rounding else None
        our_centers, their_centers = a.cluster_centers_, b.cluster_centers_
    return None


@pytest.fixture(scope="module")
def answers_of_scikit_learn():
    """A hundred problems and what scikit-learn makes of them."""
    answers = []
    for name, X, k in data_sets():
        for dtype in (np.float32, np.float64):
            kept = X.astype(dtype)
            answers += [(name, kept, k, seed, SklearnKMeans(k, random_state=seed).fit(kept)) for seed in range(5)]
    assert len(answers) == 100
    return answers


def test_the_same_seed_gives_the_labels_and_iterations_of_scikit_learn(backend, answers_of_scikit_learn):
    different = []
    seeds = 2 if backend == "cupy" else 5  # slow on the stand-in; test_seeding.py compares the bits of its seeded fits
    for name, X, k, seed, theirs in answers_of_scikit_learn:
        if seed >= seeds:
            continue
        ours = KMeans(k, random_state=seed, backend=backend).fit(X)
        if (ours.labels_ != theirs.labels_).any() or ours.n_iter_ != theirs.n_iter_:
            different.append((name, X, k, seed))
            continue
        rtol = 1e-5 if X.dtype == np.float32 else 1e-10
        assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=rtol)
        np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, rtol, rtol * np.abs(X).max())
    assert len(different) <= 10
    for name, X, k, seed in different:
        why = explanation(X, k, seed)
        assert why is not None, f"{name}, {X.dtype}, seed {seed}: no near-tie explains the difference"


@pytest.mark.parametrize("init", ["k-means++", "random"])
@pytest.mark.parametrize("n_init", [1, 4])
def test_several_runs_and_random_starts_give_the_answer_of_scikit_learn(backend, init, n_init):
    X, _ = make_blobs(600, n_features=3, centers=7, cluster_std=2.0, random_state=3)
    for seed in range(5):
        ours = KMeans(7, init=init, n_init=n_init, random_state=seed, backend=backend).fit(X)
        theirs = SklearnKMeans(7, init=init, n_init=n_init, random_state=seed).fit(X)
        assert (ours.labels_ == theirs.labels_).all()
        assert ours.n_iter_ == theirs.n_iter_


def test_weights_give_the_answer_of_scikit_learn(backend):
    X, _ = make_blobs(600, n_features=3, centers=7, cluster_std=2.0, random_state=4)
    weight = np.random.default_rng(4).random(600)
    for seed in range(5):
        ours = KMeans(7, random_state=seed, backend=backend).fit(X, sample_weight=weight)
        theirs = SklearnKMeans(7, random_state=seed).fit(X, sample_weight=weight)
        assert (ours.labels_ == theirs.labels_).all()
        assert ours.inertia_ == pytest.approx(theirs.inertia_)
        assert ours.score(X, sample_weight=weight) == pytest.approx(theirs.score(X, sample_weight=weight))
        np.testing.assert_allclose(ours.transform(X), theirs.transform(X))


def test_pairwise_functions_give_the_answer_of_scikit_learn(backend):
    from sklearn.metrics import pairwise_distances_argmin, pairwise_distances_argmin_min

    rng = np.random.default_rng(5)
    X, Y = rng.normal(size=(200, 5)), rng.normal(size=(30, 5))
    for axis in (0, 1):
        expected = pairwise_distances_argmin(X, Y, axis=axis)
        assert (gpukmeans.pairwise_distances_argmin(X, Y, axis=axis, backend=backend) == expected).all()
        labels, distances = gpukmeans.pairwise_distances_argmin_min(X, Y, axis=axis, backend=backend)
        theirs = pairwise_distances_argmin_min(X, Y, axis=axis)
        assert (labels == theirs[0]).all()
        np.testing.assert_allclose(distances, theirs[1])


# ---------------------------------------------------------------------------------------------- attributes


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int64, bool])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_fitted_attributes_have_the_types_of_scikit_learn(backend, dtype):
    X = (np.random.default_rng(6).normal(size=(50, 3)) * 3).astype(dtype)
    ours = KMeans(3, random_state=0, backend=backend).fit(X)
    taken = X.astype(np.float32) if dtype == np.float16 else X  # scikit-learn makes float64 of float16
    theirs = SklearnKMeans(3, random_state=0).fit(taken)
    for name in ("cluster_centers_", "labels_"):
        assert getattr(ours, name).dtype == getattr(theirs, name).dtype
        assert getattr(ours, name).shape == getattr(theirs, name).shape
        assert getattr(ours, name).flags.c_contiguous
        assert getattr(ours, name).flags.writeable
    assert type(ours.n_iter_) is int
    assert type(ours.n_features_in_) is int
    assert isinstance(ours.inertia_, float)
    assert ours.n_features_in_ == 3
    assert not hasattr(ours, "feature_names_in_")
    assert ours.predict(X).dtype == theirs.predict(taken).dtype
    assert ours.transform(X).dtype == theirs.transform(taken).dtype
    assert isinstance(ours.score(X), float)
    assert ours.fit_predict(X).tolist() == ours.labels_.tolist()
    assert_same_array(ours.fit_transform(X), ours.transform(X))


def test_the_constructor_has_the_parameters_and_defaults_of_scikit_learn():
    ours, theirs = KMeans().get_params(), SklearnKMeans().get_params()
    assert ours.items() >= theirs.items()
    assert ours.keys() - theirs.keys() == {"backend", "max_memory", "precision"}


def test_verbose_prints_the_text_of_scikit_learn(backend, capsys):
    X = np.random.default_rng(7).normal(size=(60, 2)).round(1)
    texts = []
    for class_, options in ((KMeans, {"backend": backend}), (SklearnKMeans, {})):
        class_(3, random_state=0, verbose=1, tol=0, **options).fit(X)
        texts.append([line.split("inertia")[0] for line in capsys.readouterr().out.splitlines()])
    assert texts[0] == texts[1]


def test_a_fit_prints_nothing_without_verbose(backend, capfd):
    KMeans(3, random_state=0, backend=backend).fit(np.random.default_rng(8).normal(size=(60, 2)))
    assert capfd.readouterr() == ("", "")


def test_fewer_distinct_clusters_than_asked_warn_as_in_scikit_learn(backend):
    with pytest.warns(ConvergenceWarning, match=r"distinct clusters \(1\) found smaller than n_clusters \(3\)"):
        KMeans(3, random_state=0, backend=backend).fit(np.ones((10, 2)))


# ---------------------------------------------------------------------------------------------- its tools


@pytest.fixture
def blobs():
    return make_blobs(200, n_features=3, centers=4, random_state=0)[0]


def test_a_pipeline_fits_and_predicts(backend, blobs):
    pipeline = make_pipeline(StandardScaler(), KMeans(4, random_state=0, backend=backend)).fit(blobs)
    scaled = StandardScaler().fit_transform(blobs)
    alone = KMeans(4, random_state=0, backend=backend).fit(scaled)
    assert_same_array(pipeline.predict(blobs), alone.labels_)
    assert pipeline.transform(blobs).shape == (200, 4)
    assert pipeline.get_feature_names_out().tolist() == ["kmeans0", "kmeans1", "kmeans2", "kmeans3"]


def test_a_grid_search_finds_the_number_of_clusters(backend, blobs):
    search = GridSearchCV(KMeans(random_state=0, backend=backend), {"n_clusters": [2, 3, 4]}, cv=3).fit(blobs)
    assert search.best_params_ == {"n_clusters": 4}


def test_clone_copies_parameters_and_nothing_else(blobs):
    rng = np.random.default_rng(0)
    model = KMeans(3, init=blobs[:3], tol=0.5, random_state=rng, backend="numpy").fit(blobs)
    copy = clone(model)
    assert not hasattr(copy, "labels_")
    assert copy.get_params().keys() == model.get_params().keys()
    assert copy.tol == 0.5
    assert_same_array(copy.init, blobs[:3])


def test_a_pickled_model_predicts_the_same(backend, blobs):
    model = KMeans(4, random_state=0, backend=backend).fit(blobs * 1e30)
    copy = pickle.loads(pickle.dumps(model))
    assert_same_array(copy.predict(blobs * 1e30), model.labels_)
    assert_same_array(copy.cluster_centers_, model.cluster_centers_)
    assert copy.history_ == model.history_
    assert (copy.n_iter_, copy.inertia_, copy.backend_) == (model.n_iter_, model.inertia_, model.backend_)


@pytest.mark.extra
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_set_output_gives_data_frames(backend, blobs, library):
    module = optional(library)
    model = KMeans(4, random_state=0, backend=backend).set_output(transform=library).fit(blobs)
    frame = model.transform(blobs)
    assert isinstance(frame, module.DataFrame)
    assert list(frame.columns) == ["kmeans0", "kmeans1", "kmeans2", "kmeans3"]
    assert_same_array(frame.to_numpy(), model.set_output(transform="default").transform(blobs))
    fitted = KMeans(4, random_state=0, backend=backend).set_output(transform=library).fit_transform(blobs)
    assert isinstance(fitted, module.DataFrame)


@pytest.mark.extra
def test_feature_names_are_kept_and_checked(backend, blobs):
    pandas = optional("pandas")
    frame = pandas.DataFrame(blobs, columns=["a", "b", "c"])
    model = KMeans(4, random_state=0, backend=backend).fit(frame)
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame.rename(columns={"b": "x"}))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.predict(blobs)


def test_get_feature_names_out_needs_a_fit(blobs):
    with pytest.raises(NotFittedError):
        KMeans(4).get_feature_names_out()
    assert KMeans(2, random_state=0).fit(blobs).get_feature_names_out().tolist() == ["kmeans0", "kmeans1"]


def test_sample_weight_is_routed_through_a_pipeline(backend, blobs):
    weight = np.random.default_rng(1).random(200)
    alone = KMeans(4, random_state=0, backend=backend).fit(blobs, sample_weight=weight)
    pipeline = Pipeline([("kmeans", KMeans(4, random_state=0, backend=backend))])
    pipeline.fit(blobs, kmeans__sample_weight=weight)
    assert_same_array(pipeline[-1].cluster_centers_, alone.cluster_centers_)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = KMeans(4, random_state=0, backend=backend).set_fit_request(sample_weight=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), routed)
        pipeline.fit(blobs, sample_weight=weight)
        unscaled = Pipeline([("kmeans", routed)]).fit(blobs, sample_weight=weight)
    assert_same_array(unscaled[-1].cluster_centers_, alone.cluster_centers_)
    assert pipeline[-1].inertia_ < KMeans(1).fit(StandardScaler().fit_transform(blobs)).inertia_


def test_score_takes_routed_weights(blobs):
    with sklearn.config_context(enable_metadata_routing=True):
        model = KMeans(4, random_state=0).set_score_request(sample_weight=True)
        assert model.get_metadata_routing().score.requests == {"sample_weight": True}


@pytest.mark.extra
def test_a_second_fit_forgets_the_first(backend, blobs):
    pandas = optional("pandas")
    model = KMeans(4, random_state=0, backend=backend).fit(pandas.DataFrame(blobs, columns=["a", "b", "c"]) * 1e30)
    model.fit(blobs[:, :2])
    fresh = KMeans(4, random_state=0, backend=backend).fit(blobs[:, :2])
    assert not hasattr(model, "feature_names_in_")
    assert model.n_features_in_ == 2
    assert_same_array(model.cluster_centers_, fresh.cluster_centers_)
    assert_same_array(model.predict(blobs[:, :2]), fresh.labels_)


def test_results_are_not_shared_between_models_or_with_the_input(backend, blobs):
    start = blobs[:4].copy()
    model = KMeans(4, init=start, n_init=1, max_iter=1, backend=backend)
    first = quiet_fit(model, blobs).cluster_centers_
    kept = first.copy()
    quiet_fit(model, blobs * 2)
    assert_same_array(first, kept)
    assert not np.shares_memory(model.cluster_centers_, start)


def test_repr_and_html_show_changed_parameters():
    assert repr(KMeans(3, backend="numpy")) == "KMeans(backend='numpy', n_clusters=3)"
    assert "KMeans" in KMeans(3)._repr_html_()


def test_tags_say_sparse_and_clusterer():
    from sklearn.base import is_clusterer
    from sklearn.utils import get_tags

    assert is_clusterer(KMeans())
    assert get_tags(KMeans()).input_tags.sparse
