"""What the displays draw: the rows, centers and numbers that they say, and nothing left out without a word."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import sklearn.cluster
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from sklearn.decomposition import PCA
from support import standin_cupy

import gpukmeans
from gpukmeans import BisectingKMeans, KMeans, choose_k, lloyd_steps, metrics
from gpukmeans.choosing import KChoice
from gpukmeans.datasets import make_blobs
from gpukmeans.lloyd import Iteration
from gpukmeans.plot import (
    ClusterDisplay,
    ConvergenceDisplay,
    CriteriaDisplay,
    ElbowDisplay,
    PaletteDisplay,
    SilhouetteDisplay,
    StepsDisplay,
    VoronoiDisplay,
    _scene,
    _style,
)

X, _ = make_blobs(120, 2, centers=3, random_state=0)
MODEL = KMeans(3, random_state=0).fit(X)


def drawn_rows(ax):
    """Label to the points with the legend name of a cluster."""
    parts = [c for c in ax.collections if c.get_label().startswith("cluster")]
    return {part.get_label(): np.asarray(part.get_offsets()) for part in parts}


def numbers(ax):
    return [text.get_text() for text in ax.texts]


def draw(display):
    """Draw a figure as if it was saved: what is wrong only shows then."""
    display.figure_.canvas.draw()
    return display


# ---------------------------------------------------------------------------------------------- clusters
def test_every_row_is_drawn_once_in_its_cluster_and_every_center_with_its_number():
    ax = ClusterDisplay.from_estimator(MODEL, X).ax_
    rows = drawn_rows(ax)
    assert list(rows) == ["cluster 0", "cluster 1", "cluster 2"]
    for k in range(3):
        assert np.array_equal(rows[f"cluster {k}"], X[MODEL.labels_ == k])
    (centers,) = [c for c in ax.collections if c.get_label() == "centers"]
    assert np.array_equal(centers.get_offsets(), MODEL.cluster_centers_)
    assert numbers(ax) == ["0", "1", "2"]
    assert ax.get_title() == "3 clusters, 120 rows"
    assert ax.get_legend() is None


def test_more_clusters_than_styles_lose_no_row_and_have_no_numbers():
    rows = np.random.default_rng(0).normal(size=(400, 2))
    model = KMeans(150, random_state=0).fit(rows)
    ax = ClusterDisplay.from_estimator(model, rows).ax_
    drawn = np.concatenate(list(drawn_rows(ax).values()))
    assert np.array_equal(np.unique(drawn, axis=0), np.unique(rows, axis=0))
    assert len(drawn) == 400
    assert numbers(ax) == []


def test_without_centers_a_legend_names_the_clusters_that_have_rows(monkeypatch):
    labels = np.where(MODEL.labels_ == 1, 4, 0)
    for most in (1000, 10):  # points, cells
        monkeypatch.setattr(_scene, "MOST_POINTS", most)
        ax = draw(ClusterDisplay.from_predictions(X, labels)).ax_
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["cluster 0", "cluster 4"]


def test_the_axes_have_the_names_of_the_columns():
    ax = ClusterDisplay.from_predictions(pd.DataFrame(X, columns=["width", "height"]), MODEL.labels_).ax_
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("width", "height")


def test_many_features_are_shown_in_the_plane_of_most_variance_and_the_title_says_how_much():
    rows, _ = make_blobs(90, 5, centers=3, random_state=1)
    model = KMeans(3, random_state=0).fit(rows)
    display = ClusterDisplay.from_estimator(model, rows)
    pca = PCA(2, random_state=0).fit(rows)
    for k in range(3):
        np.testing.assert_allclose(drawn_rows(display.ax_)[f"cluster {k}"], pca.transform(rows[model.labels_ == k]))
    (centers,) = [c for c in display.ax_.collections if c.get_label() == "centers"]
    np.testing.assert_allclose(centers.get_offsets(), pca.transform(model.cluster_centers_))
    share = 100 * pca.explained_variance_ratio_
    assert display.ax_.get_title().endswith(f"The plane shows {share.sum():.3g} % of the variance")
    assert display.ax_.get_xlabel() == f"principal component 1 ({share[0]:.3g} %)"


@pytest.mark.parametrize("n_features", [1, 2, 6])
def test_sparse_rows_are_drawn_like_dense_ones(n_features):
    rows = np.random.default_rng(0).integers(0, 3, (40, n_features)).astype(float)
    labels = np.arange(40) % 2
    dense, sparse = (ClusterDisplay.from_predictions(data, labels).scene for data in (rows, sp.csr_array(rows)))
    np.testing.assert_allclose(dense.points, sparse.points, atol=1e-12)


def test_one_feature_is_a_histogram_with_the_clusters_stacked():
    rows = X[:, :1]
    model = KMeans(3, random_state=0).fit(rows)
    ax = ClusterDisplay.from_estimator(model, rows).ax_
    steps = [patch.get_data() for patch in ax.patches]
    edges = np.histogram_bin_edges(rows, _scene.BINS)
    below = np.zeros(_scene.BINS)
    for k, step in enumerate(steps):
        counts = np.histogram(rows[model.labels_ == k], edges)[0]
        assert np.array_equal(step.values - step.baseline, counts)
        assert np.array_equal(step.baseline, below)
        below += counts
    assert below.sum() == 120
    assert numbers(ax) == ["0", "1", "2"]


@pytest.mark.parametrize("with_labels", [True, False])
def test_cells_hold_the_mean_colour_of_their_rows_and_are_the_more_opaque_the_more_they_hold(monkeypatch, with_labels):
    monkeypatch.setattr(_scene, "CELLS", (7, 5))
    monkeypatch.setattr(_scene, "BLOCK_ROWS", 50)
    scene = _scene.Scene.of(X)
    low, span = X.min(axis=0), np.ptp(X, axis=0)
    picture = scene.cells(MODEL.labels_ if with_labels else None, low, span)
    held = {}
    for row, label in zip(X, MODEL.labels_, strict=True):
        column, line = (min(int((row[j] - low[j]) / span[j] * (7, 5)[j]), (6, 4)[j]) for j in (0, 1))
        held.setdefault((line, column), []).append(_style.rgb(3)[label])
    assert len(held) < 35
    most = max(map(len, held.values()))
    for line in range(5):
        for column in range(7):
            colours = held.get((line, column), [])
            if not colours:
                assert picture[line, column, 3] == 0
                continue
            if with_labels:
                np.testing.assert_allclose(picture[line, column, :3], np.mean(colours, axis=0))
            opacity = 0.4 + 0.6 * np.log1p(len(colours)) / np.log1p(most)
            assert picture[line, column, 3] == pytest.approx(opacity)


def test_many_rows_are_counted_in_cells_and_the_title_says_so(monkeypatch):
    monkeypatch.setattr(_scene, "MOST_POINTS", 119)
    ax = draw(ClusterDisplay.from_estimator(MODEL, X)).ax_
    assert drawn_rows(ax) == {}
    (image,) = ax.images
    assert image.get_extent() == pytest.approx([*X[:, :1].min(0), *X[:, :1].max(0), *X[:, 1:].min(0), *X[:, 1:].max(0)])
    assert ax.get_title() == "3 clusters, 120 rows, counted in 480 x 360 cells"


@pytest.mark.parametrize("n_features", [1, 2, 3])
@pytest.mark.parametrize("most", [1000, 1])
def test_one_cluster_of_equal_rows_can_be_drawn(n_features, most, monkeypatch):
    monkeypatch.setattr(_scene, "MOST_POINTS", most)
    rows = np.full((4, n_features), 2.5)
    display = draw(ClusterDisplay.from_predictions(rows, np.zeros(4, dtype=int), rows[:1]))
    assert display.ax_.get_title().startswith("1 cluster, 4 rows")
    draw(StepsDisplay.from_centers(rows, rows[:1]))


def test_a_display_draws_on_the_axes_that_it_is_given():
    figure, axes = plt.subplots(1, 3)
    choice = choose_k(X, range(2, 5), ["elbow"], random_state=0)
    displays = [
        ClusterDisplay.from_estimator(MODEL, X, ax=axes[0]),
        SilhouetteDisplay.from_estimator(MODEL, X, ax=axes[1]),
        ElbowDisplay.from_choice(choice, ax=axes[2]),
    ]
    for display, ax in zip(displays, axes, strict=True):
        assert display.ax_ is ax
        assert display.figure_ is figure
    assert displays[0].plot().ax_ is not axes[0]


def test_rows_on_a_card_are_drawn_like_those_of_the_host():
    with standin_cupy():
        import cupy

        rows = cupy.asarray(X)
        model = KMeans(3, random_state=0, backend="cupy").fit(rows)
        display = VoronoiDisplay.from_estimator(model, rows)
        assert np.array_equal(display.scene.points, X)
        assert np.array_equal(display.labels, MODEL.labels_)
        assert np.array_equal(SilhouetteDisplay.from_estimator(model, rows).labels, MODEL.labels_)


# ---------------------------------------------------------------------------------------------- boundaries
@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.booleans(), st.sampled_from([1e-150, 1, 1e150]))
@example(0, 1, False, 1)
@example(0, 12, True, 1)
@example(0, 1, False, 1e150)
def test_a_cell_is_where_its_center_is_the_nearest(seed, n_clusters, is_line, scale):
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(n_clusters, 2)) * scale
    if is_line:
        centers[:, 1] = 3 * scale
    plt.close("all")  # also what an example that failed has left
    display = VoronoiDisplay.from_predictions(centers, np.arange(n_clusters), centers)
    outlines = [Outline(cell) for cell in display.cells_]
    reach = 3 * (np.ptp(centers, axis=0).max() or 1)
    places = centers.mean(axis=0) + rng.uniform(-1, 1, (50, 2)) * reach
    distances = np.sqrt(((places[:, None] - centers) ** 2).sum(axis=2))
    for place, own in zip(places, distances, strict=True):
        inside = {k for k, outline in enumerate(outlines) if outline.contains_point(place)}
        nearly = set(np.flatnonzero(own <= own.min() * (1 + 1e-6)))
        assert inside == nearly or (len(nearly) > 1 and inside <= nearly)


def test_the_cells_are_drawn_and_leave_the_view_to_the_rows():
    display = draw(VoronoiDisplay.from_estimator(MODEL, X))
    plain = draw(ClusterDisplay.from_estimator(MODEL, X))
    assert display.ax_.get_xlim() == plain.ax_.get_xlim()
    assert display.ax_.get_ylim() == plain.ax_.get_ylim()
    polygons = [c for c in display.ax_.collections if len(c.get_paths()) == 3 and len(c.get_offsets()) == 1]
    assert len(polygons) == 2  # areas and lines
    for k, path in enumerate(polygons[0].get_paths()):
        assert np.array_equal(path.vertices[:-1], display.cells_[k])


def test_a_center_that_equals_another_has_no_cell():
    centers = np.array([[0.0, 0], [4, 0], [0, 0]])
    display = VoronoiDisplay.from_predictions(X, np.zeros(120, dtype=int), centers)
    assert [cell is None for cell in display.cells_] == [False, False, True]


# ---------------------------------------------------------------------------------------------- steps
def test_steps_are_a_picture_each_from_the_start_on():
    start = X[:3] + np.array([0, 30])  # outside of the rows: every picture shows where centers have been
    steps = list(lloyd_steps(X, start))
    display = StepsDisplay.from_centers(X, start, max_pictures=50)
    assert len(display.axes_) == len(steps) + 1
    titles = [ax.get_title().split("\n")[0] for ax in display.axes_]
    assert titles[:4] == ["start", "E step 1", "M step 1", "E step 2"]
    assert titles[-1].endswith(", the last")
    assert display.axes_[1].get_title().split("\n")[1] == f"inertia {steps[0].inertia:.6g}"
    assert not display.figure_.get_suptitle()
    for ax, step in zip(display.axes_[1:], steps, strict=True):
        for k in range(3):
            rows = drawn_rows(ax).get(f"cluster {k}", np.empty((0, 2)))
            assert np.array_equal(rows, X[step.labels == k])
    ways = [line.get_xydata() for line in display.axes_[2].lines]
    moved = [k for k in range(3) if (steps[0].centers[k] != steps[1].centers[k]).any()]
    assert np.array_equal(ways, [[steps[0].centers[k], steps[1].centers[k]] for k in moved])
    views = [[*ax.get_xlim(), *ax.get_ylim()] for ax in display.axes_]
    np.testing.assert_allclose(views, views[:1] * len(views))


def test_of_many_steps_the_first_and_the_last_are_shown_and_the_title_says_so():
    rows = np.random.default_rng(0).normal(size=(200, 2))
    display = StepsDisplay.from_estimator(KMeans(5, init=rows[:5], n_init=1, tol=0), rows)
    assert len(display.axes_) == 8
    assert display.figure_.get_suptitle() == f"{len(display.steps) - 7} steps before the last are not shown"
    model = KMeans(5, init=rows[:5], n_init=1, tol=0).fit(rows)
    for k in range(5):
        assert np.array_equal(drawn_rows(display.axes_[-1])[f"cluster {k}"], rows[model.labels_ == k])


@pytest.mark.parametrize("n_features", [1, 4])
def test_steps_are_drawn_for_any_number_of_features(n_features):
    rows, _ = make_blobs(60, n_features, centers=3, random_state=0)
    display = draw(StepsDisplay.from_predictions(rows, lloyd_steps(rows, rows[:3]), max_pictures=2))
    assert len(display.axes_) == 2


# ---------------------------------------------------------------------------------------------- choosing k
TABLE = {
    "n_clusters": [2, 3, 4],
    "inertia": [9.0, 3.0, 2.0],
    "elbow": [0.0, 0.357, 0.0],
    "gap": [0.1, 0.5, 0.6],
    "gap_error": [0.05, 0.06, 0.07],
}
CHOICE = KChoice(3, "elbow says so; gap finds none.", {"elbow": 3, "gap": None}, TABLE, {})


def test_the_elbow_is_marked_on_the_inertia():
    ax = ElbowDisplay.from_choice(CHOICE).ax_
    inertia, chord, line, ring = ax.lines
    assert inertia.get_xydata().tolist() == [[2, 9], [3, 3], [4, 2]]
    assert chord.get_xydata().tolist() == [[2, 9], [4, 2]]
    assert line.get_xdata() == [3, 3]
    assert ring.get_xydata().tolist() == [[3, 3]]
    without = KChoice(2, "", {}, {name: TABLE[name] for name in ("n_clusters", "inertia")}, {})
    assert len(ElbowDisplay.from_choice(without).ax_.lines) == 2


def test_each_criterion_has_its_axes_and_its_vote():
    display = CriteriaDisplay.from_choice(CHOICE)
    elbow, gap = display.axes_
    assert elbow.lines[0].get_ydata().tolist() == TABLE["elbow"]
    assert [line.get_xdata()[0] for line in elbow.lines[1:]] == [3, 3]
    assert len(gap.lines) == 3  # values and the caps of their errors: no vote
    assert gap.lines[0].get_ydata().tolist() == TABLE["gap"]
    ((low, high), *_) = (segment[:, 1] for segment in gap.collections[0].get_segments())
    assert (low, high) == pytest.approx((0.05, 0.15))
    assert display.figure_.get_suptitle() == "k = 3: elbow says so; gap finds none."


def test_a_choice_of_all_criteria_is_drawn():
    choice = choose_k(X, range(2, 5), ["silhouette", "simplified_silhouette", "davies_bouldin", "calinski_harabasz"])
    display = CriteriaDisplay.from_choice(choice)
    assert [ax.get_title().split(":")[0] for ax in display.axes_] == [
        "silhouette", "simplified silhouette", "Davies-Bouldin", "Calinski-Harabasz",
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------- silhouettes
@pytest.mark.parametrize("simplified", [False, True])
def test_each_knife_holds_the_sorted_silhouettes_of_its_cluster(simplified):
    display = SilhouetteDisplay.from_estimator(MODEL, X, simplified=simplified)
    values = metrics.silhouette_samples(X, MODEL.labels_)
    if simplified:
        values = metrics.simplified_silhouette_samples(X, MODEL.cluster_centers_)
    begin = 0.0
    for k, knife in enumerate(display.ax_.collections):
        corners = knife.get_paths()[0].vertices
        outer = corners[corners[:, 0] != 0]
        assert set(outer[:, 0]) == set(values[MODEL.labels_ == k])
        assert (np.diff(outer[np.lexsort(outer.T), 0]) >= 0).all()
        size = np.count_nonzero(MODEL.labels_ == k)
        assert (corners[:, 1].min(), corners[:, 1].max()) == pytest.approx((begin, begin + size))
        begin += size + 0.02 * 120
    assert display.mean_ == pytest.approx(values.mean())
    assert display.ax_.lines[0].get_xdata()[0] == display.mean_
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["0", "1", "2"]


def test_a_broad_knife_keeps_its_ends_and_its_width(monkeypatch):
    from gpukmeans.plot import _silhouette

    monkeypatch.setattr(_silhouette, "MOST_CORNERS", 5)
    values = np.linspace(-0.2, 0.9, 100)
    display = SilhouetteDisplay(values, np.zeros(100, dtype=np.int32), 2).plot()
    corners = display.ax_.collections[0].get_paths()[0].vertices
    assert (corners[:, 0].min(), corners[:, 0].max()) == (-0.2, 0.9)
    assert (corners[:, 1].min(), corners[:, 1].max()) == (0, 100)
    assert len(corners) < 30


# ---------------------------------------------------------------------------------------------- convergence
def test_convergence_draws_the_history():
    display = draw(ConvergenceDisplay.from_estimator(MODEL))
    moved, way = (ax.lines[0].get_ydata() for ax in display.axes_)
    assert moved.tolist() == MODEL.history_.column("n_moved")
    assert way.tolist() == np.sqrt(MODEL.history_.column("shift_sq")).tolist()
    with_inertia = [Iteration(4.0, 9, 0, 0.1, 7.5), Iteration(0.0, 0, 0, 0.1, 5.0)]
    display = draw(ConvergenceDisplay(with_inertia).plot())
    assert display.axes_[2].lines[0].get_ydata().tolist() == [7.5, 5.0]
    assert display.axes_[0].get_title() == "2 iterations"
    draw(ConvergenceDisplay([Iteration(np.inf, 9, 0, 0.1, None), Iteration(0.0, 0, 0, 0.1, None)]).plot())


# ---------------------------------------------------------------------------------------------- palettes
def test_a_palette_goes_from_dark_to_light_and_is_as_broad_as_its_pixels():
    original = np.zeros((2, 4, 3), dtype=np.uint8)
    original[:, 1:] = 200
    original[1, 1] = (0, 0, 255)
    display = PaletteDisplay.from_predictions(original, original)
    assert display.palette_.tolist() == [[0, 0, 0], [0, 0, 255], [200, 200, 200]]
    assert display.shares_.tolist() == [0.25, 0.125, 0.625]
    bars = display.axes_[2].patches
    assert [bar.get_width() for bar in bars] == [0.25, 0.125, 0.625]
    assert [bar.get_x() for bar in bars] == [0, 0.25, 0.375]
    assert display.axes_[0].get_title() == "original: 3 colours"
    assert np.array_equal(display.axes_[1].images[0].get_array(), original)


# ---------------------------------------------------------------------------------------------- colours
def seen_by(colours, matrix):
    """Colours in Lab, as an eye sees them that a matrix of G. Machado et al. (2009) describes."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4) @ np.asarray(matrix).T
    xyz = linear.clip(0, 1) @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    f = np.where(xyz > 0.008856, np.cbrt(xyz / [0.9505, 1, 1.089]), 7.787 * xyz / [0.9505, 1, 1.089] + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


EYES = {
    "most": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


@pytest.mark.parametrize("eye", EYES)
def test_ten_colours_are_told_apart_by_every_eye(eye):
    lab = seen_by(_style.rgb(10), EYES[eye])
    apart = np.sqrt(((lab[:, None] - lab) ** 2).sum(axis=2))[np.triu_indices(10, 1)]
    assert apart.min() > 9  # 2 is a difference that is just seen


def test_twenty_clusters_differ_in_colour_and_seventy_in_colour_or_marker():
    assert len({tuple(colour) for colour in _style.rgb(20)}) == 20
    assert len({_style.style(k) for k in range(_style.N_STYLES)}) == 70


# ---------------------------------------------------------------------------------------------- what is wrong
@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: ClusterDisplay.from_predictions([[0.0], [np.nan]], [0, 0]), "row 1, column 0 is nan"),
        (lambda: ClusterDisplay.from_predictions(X, [0, 1]), "labels has 2 values for the 120 rows"),
        (lambda: ClusterDisplay.from_predictions(X, np.full(120, -1)), r"integers from 0 on. Got -1 in row 0"),
        (lambda: ClusterDisplay.from_predictions(X, MODEL.labels_, X[:2]), "from 0 to 1, one for each of the 2 c"),
        (lambda: ClusterDisplay.from_predictions(X, np.zeros(120)), "Got the dtype float64"),
        (lambda: ClusterDisplay.from_predictions(X, MODEL.labels_, np.zeros((3, 5))), "features of the data 2"),
        (lambda: ClusterDisplay.from_predictions([[1.0, 2, 3]], [0]), "at least 2 rows. Got 1"),
        (lambda: VoronoiDisplay.from_predictions(X, MODEL.labels_), "needs the centers"),
        (
            lambda: VoronoiDisplay.from_predictions(X[:, :1], MODEL.labels_, X[:3, :1]),
            r"2 features, got the shape \(3, 1\)",
        ),
        (lambda: StepsDisplay.from_estimator(KMeans(3), X), "'init' is an array. Got 'k-means\\+\\+'"),
        (lambda: StepsDisplay.from_predictions(X, []), "steps is empty"),
        (lambda: StepsDisplay.from_centers(X, X[:3], max_pictures=1), "max_pictures must be at least 2"),
        (lambda: SilhouetteDisplay.from_predictions(X, np.zeros(120, dtype=int)), "Number of labels is 1"),
        (lambda: ConvergenceDisplay.from_estimator(KMeans(3)), "not fitted"),
        (lambda: ConvergenceDisplay.from_estimator(BisectingKMeans(2).fit(X)), "Only KMeans keeps the history_"),
        (lambda: PaletteDisplay.from_predictions(X, X), r"uint8 of shape \(height, width, 3\)"),
    ],
)
def test_bad_input_is_refused_with_what_is_wrong(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()


@pytest.mark.parametrize("library", [gpukmeans, sklearn.cluster])
def test_cells_of_nearest_centers_are_not_drawn_for_a_tree(library):
    model = library.BisectingKMeans(5, random_state=0).fit(X)
    with pytest.raises(ValueError, match="BisectingKMeans predicts otherwise: down its tree. Take ClusterDisplay"):
        VoronoiDisplay.from_estimator(model, X)
    assert ClusterDisplay.from_estimator(model, X).n_clusters == 5


def test_without_matplotlib_the_error_says_how_to_get_it(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'gpukmeans\[plot\]'"):
        ClusterDisplay.from_estimator(MODEL, X)
