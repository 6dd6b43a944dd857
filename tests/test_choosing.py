"""How many clusters: each criterion against a direct computation, and the verdict as a pure function."""

import numpy as np
import pytest
import scipy.sparse as sp

from gpukmeans import KMeans, choose_k, choosing, metrics
from gpukmeans.datasets import make_blobs


@pytest.fixture(scope="module")
def blobs():
    middles = np.array([[0, 0], [10, 0], [0, 10], [10, 10.0]])
    return make_blobs(400, 2, centers=middles, cluster_std=1.0, random_state=0)[0]


@pytest.fixture(scope="module")
def choice(blobs):
    return choose_k(blobs, range(2, 8), choosing.CRITERIA, random_state=0)


def test_all_criteria_see_four_blobs(choice):
    assert choice.votes == dict.fromkeys(choosing.CRITERIA, 4)
    assert choice.k == choice.model.n_clusters == 4
    assert choice.reason.endswith("and simplified_silhouette agree.")


def test_the_table_holds_what_was_computed(blobs, choice):
    assert choice.table["n_clusters"] == list(choice.models) == [2, 3, 4, 5, 6, 7]
    for i, (k, model) in enumerate(choice.models.items()):
        assert model.n_clusters == k
        assert choice.table["inertia"][i] == model.inertia_
        assert choice.table["silhouette"][i] == metrics.silhouette_score(blobs, model.labels_)
        expected = metrics.simplified_silhouette_score(blobs, model.cluster_centers_)
        assert choice.table["simplified_silhouette"][i] == expected
    assert (np.diff(choice.table["inertia"]) <= 0).all()
    lines = str(choice).splitlines()
    assert len(lines) == 8
    assert lines[0].split() == list(choice.table)
    assert lines[-1].startswith("k = 4: silhouette")
    assert choice.to_pandas().loc[4, "silhouette"] == choice.table["silhouette"][2]


def test_the_inertia_never_rises(blobs):
    noise = np.random.default_rng(1).random((300, 3))
    for seed in range(5):
        inertia = choose_k(noise, range(2, 30, 3), ("elbow",), random_state=seed, max_iter=300).table["inertia"]
        assert (np.diff(inertia) <= 1e-9 * inertia[0]).all()


def test_one_seed_gives_one_answer(blobs):
    one, other = (choose_k(blobs, [2, 3, 5], random_state=3) for _ in range(2))
    assert one.table == other.table


def test_the_gap_is_that_of_its_definition(blobs):
    choice = choose_k(blobs, [3, 4, 5], ("gap",), random_state=1)
    gaps, errors = np.array(choice.table["gap"]), np.array(choice.table["gap_error"])
    rows = np.random.default_rng(5).uniform(blobs.min(axis=0), blobs.max(axis=0), blobs.shape)
    for k, gap, error in zip([3, 4, 5], gaps, errors, strict=True):
        reference = np.log(KMeans(k, random_state=0).fit(rows).inertia_)
        assert gap == pytest.approx(reference - np.log(choice.models[k].inertia_), abs=max(0.1, 5 * error))
    assert choice.votes["gap"] == 4


def test_the_elbow_by_hand():
    table = {"inertia": [100.0, 20.0, 15.0, 10.0, 0.0]}
    models = dict.fromkeys(range(2, 7))
    assert choosing._elbow("elbow", None, models, table, None, None) == 3
    np.testing.assert_allclose(table["elbow"], [0, 0.55, 0.35, 0.15, 0])
    assert choosing._elbow("elbow", None, models, {"inertia": [1.0] * 5}, None, None) is None


@pytest.mark.parametrize(
    ("votes", "k", "reason"),
    [
        ({"a": 4, "b": 4}, 4, "a and b agree."),
        ({"a": 3, "b": 4, "c": 4}, 4, "b and c agree; a says 3."),
        ({"a": 3, "b": 4}, 3, "a says so; b says 4."),
        ({"a": None, "b": 5}, 5, "b says so; a finds none."),
        ({"a": None}, 2, "no criterion finds a number of clusters in this range; the smallest one is given."),
    ],
)
def test_the_verdict(votes, k, reason):
    assert choosing._verdict(votes, [2, 3, 4, 5]) == (k, reason)


def test_rows_that_are_all_equal():
    with pytest.warns(UserWarning, match="distinct clusters"):
        choice = choose_k(np.ones((20, 2)), [2, 3], ("silhouette", "elbow"), random_state=0)
    assert choice.votes == {"silhouette": None, "elbow": None}
    assert choice.k == 2


def test_sparse_rows_and_progress(blobs):
    seen = []
    X = sp.csr_array(np.where(np.abs(blobs) < 1, 0, blobs))
    choice = choose_k(X, [3, 4, 5], ("silhouette", "gap"), random_state=0, on_fit=seen.append, backend="numpy")
    assert seen == [3, 4, 5]
    assert choice.k == 4
    assert choice.model.backend_ == "numpy"


def test_what_is_wrong_is_said(blobs):
    with pytest.raises(ValueError, match="'criteria' parameter of choose_k must be some of silhouette, elbow"):
        choose_k(blobs, criteria=("silhouet",))
    for ks in ([1, 2], [3], [2, 400], []):
        with pytest.raises(ValueError, match=r"two numbers of clusters from 2 to n_samples - 1 = 399\. Got"):
            choose_k(blobs, ks)
    with pytest.raises(ValueError, match="NaN: row 0, column 0"):
        choose_k(np.full((20, 2), np.nan))
    with pytest.raises(TypeError, match="n_cluster"):
        choose_k(blobs, n_cluster=3)
