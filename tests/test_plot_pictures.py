"""The displays look as they did when somebody looked at them: coarse pictures, compared with a tolerance.

Versions of matplotlib draw letters and edges a little differently; the mean over squares of 8 x 8 pixels hardly
changes.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import support
from PIL import Image
from support import looks_like

from gpukmeans import KMeans, choose_k
from gpukmeans.datasets import make_blobs
from gpukmeans.pictures import compress
from gpukmeans.plot import (
    ClusterDisplay,
    CriteriaDisplay,
    PaletteDisplay,
    SilhouetteDisplay,
    StepsDisplay,
    VoronoiDisplay,
    _scene,
)

KEPT = Path(__file__).parent / "pictures"


def blobs(n_samples, n_clusters, n_features=2):
    X, _ = make_blobs(n_samples, n_features, centers=n_clusters, random_state=3)
    return KMeans(n_clusters, random_state=0).fit(X), X


def cells(monkeypatch):
    monkeypatch.setattr(_scene, "MOST_POINTS", 1000)
    return ClusterDisplay.from_estimator(*blobs(20_000, 20))


def photograph(_):
    y, x = np.mgrid[:60, :90]
    picture = np.stack([x * 2, y * 4, (x + y) % 60 * 4], axis=2).astype(np.uint8)
    return PaletteDisplay.from_predictions(picture, compress(picture, 12, random_state=0).pixels)


DISPLAYS = {
    "clusters": lambda _: ClusterDisplay.from_estimator(*blobs(400, 5, 4)),
    "bars": lambda _: ClusterDisplay.from_estimator(*blobs(400, 3, 1)),
    "cells": cells,
    "voronoi": lambda _: VoronoiDisplay.from_estimator(*blobs(600, 20)),
    "steps": lambda _: StepsDisplay.from_centers(blobs(200, 4)[1], blobs(200, 4)[1][:4]),
    "silhouette": lambda _: SilhouetteDisplay.from_estimator(*blobs(300, 6)),
    "criteria": lambda _: CriteriaDisplay.from_choice(
        choose_k(blobs(200, 4)[1], range(2, 8), ["silhouette", "elbow", "davies_bouldin"], random_state=0)
    ),
    "palette": photograph,
}


def coarse(display):
    display.figure_.canvas.draw()
    return support.coarse(display.figure_.canvas.buffer_rgba())


@pytest.fixture(autouse=True)
def _default_style():
    with plt.style.context("default"):
        yield


@pytest.mark.parametrize("name", DISPLAYS)
def test_a_display_looks_as_it_did(name, monkeypatch, tmp_path):
    display = DISPLAYS[name](monkeypatch)
    picture, path = coarse(display), KEPT / f"{name}.png"
    # a palette is full of edges, and versions of matplotlib place it some pixels higher or lower
    slack = 3 if name == "palette" else 1
    if not path.exists() or not looks_like(picture, np.asarray(Image.open(path)), slack):
        display.figure_.savefig(tmp_path / f"{name}-large.png")
        Image.fromarray(picture).save(tmp_path / f"{name}.png", optimize=True)
        pytest.fail(f"look at {tmp_path}/{name}-large.png; if it is right, copy {name}.png from there to {KEPT}")


def test_the_comparison_sees_a_wrong_picture():
    model, X = blobs(400, 5, 4)
    right = coarse(ClusterDisplay.from_estimator(model, X))
    assert looks_like(right, right)
    for labels, centers in ((np.roll(model.labels_, 1), model.cluster_centers_), (model.labels_, None)):
        assert not looks_like(coarse(ClusterDisplay.from_predictions(X, labels, centers)), right)
    assert not looks_like(coarse(ClusterDisplay.from_predictions(X[:300], model.labels_[:300])), right)


def test_the_kept_pictures_are_small_and_all_are_used():
    assert {path.stem for path in KEPT.glob("*.png")} == set(DISPLAYS)
    assert max(path.stat().st_size for path in KEPT.iterdir()) < 30_000
