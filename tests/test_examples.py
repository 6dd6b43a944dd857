"""The walk-through says what is true, its notebook says the same, and the README shows what its script draws."""

import io
import json
import re
import runpy
from contextlib import redirect_stdout
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from PIL import Image
from support import coarse, looks_like

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
WALK = EXAMPLES / "in_depth_kmeans.py"


@pytest.fixture(scope="module")
def walk():
    """What the walk-through prints and how many figures it shows, executed once from top to bottom."""
    said, shown = io.StringIO(), []

    def show():
        shown.extend(plt.get_fignums())
        for number in plt.get_fignums():
            plt.figure(number).canvas.draw()
        plt.close("all")

    with pytest.MonkeyPatch.context() as patch, plt.style.context("default"), redirect_stdout(said):
        patch.setattr(plt, "show", show)
        runpy.run_path(str(WALK))
        assert not plt.get_fignums(), "a figure is drawn and not shown"
    return said.getvalue(), len(shown)


@pytest.fixture
def number(walk):
    """The only number that stands behind some words in what the walk-through prints."""

    def find(words):
        (found,) = re.findall(rf"^{re.escape(words)}\s+(-?[\d.]+)", walk[0], re.MULTILINE)
        return float(found)

    return find


def test_the_walk_through_draws_its_figures(walk):
    assert walk[1] == 11


def test_blobs_are_found_again(number):
    assert number("clusters against places: adjusted Rand index") > 0.95


def test_the_steps_never_raise_the_inertia_and_end_where_a_fit_ends(walk):
    steps = [float(inertia) for inertia in re.findall(r"^[EM] step \d+: inertia +([\d.]+)", walk[0], re.MULTILINE)]
    assert len(steps) > 6
    assert steps == sorted(steps, reverse=True)
    assert f"same centers: True, inertia {steps[-1]:.2f}" in walk[0]


def test_a_bad_start_ends_badly_and_more_starts_repair_it(walk, number):
    ends = [float(inertia) for inertia in re.findall(r"^seed \d: inertia +([\d.]+)", walk[0], re.MULTILINE)]
    assert number("the worst of them: inertia") == max(ends)
    assert number("the best of ten starts: inertia") <= min(ends)
    assert max(ends) > 1.5 * min(ends)


def test_six_clusters_have_less_inertia_than_four_and_a_smaller_silhouette(walk, number):
    (six, four) = re.findall(r"^six clusters: inertia ([\d.]+), four: ([\d.]+)", walk[0], re.MULTILINE)[0]
    assert float(six) < float(four)
    assert number("4 clusters: mean silhouette") > max(number(f"{k} clusters: mean silhouette") for k in (3, 6))


def test_all_criteria_choose_four_clusters(walk):
    (reason,) = re.findall(r"^k = 4: (.*)$", walk[0], re.MULTILINE)
    assert reason == "silhouette, elbow, gap, davies_bouldin and calinski_harabasz agree."


def test_moons_need_a_kernel(number):
    assert number("KMeans: adjusted Rand index") < 0.6
    assert number("KernelKMeans: adjusted Rand index") > 0.95


def test_mini_batches_end_nearly_as_well_after_fewer_passes(number):
    assert number("KMeans: passes over the rows") > 10 * number("MiniBatchKMeans: passes over the rows")
    assert 0 < number("the mini-batches' inertia is") < 10


def test_clusters_of_digits_are_digits(number):
    assert number("KMeans, digits: accuracy") > 0.75


def test_a_photograph_keeps_its_looks_with_few_colours(walk, number):
    assert "273280 pixels, 16 colours" in walk[0]
    assert 0 < number("mean squared error") < 0.01


def test_the_notebook_has_the_cells_of_the_script():
    """Cells of the script begin at a line "# %%"; those of text are comments."""
    cells = []
    for part in re.split(r"^# %%", WALK.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        mark, _, text = part.partition("\n")
        if mark == " [markdown]":
            text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
        cells.append(("markdown" if mark else "code", text.strip()))
    notebook = json.loads((EXAMPLES / "in_depth_kmeans.ipynb").read_text(encoding="utf-8"))
    assert [(cell["cell_type"], "".join(cell["source"]).strip()) for cell in notebook["cells"]] == cells
    assert not [cell for cell in notebook["cells"] if cell.get("outputs")]
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"


def test_the_readme_shows_what_its_script_draws(tmp_path):
    kept = ROOT / "docs" / "readme.png"
    with plt.style.context("default"):
        runpy.run_path(str(EXAMPLES / "readme_picture.py"))["write"](tmp_path / "readme.png")
    pictures = [coarse(Image.open(path).convert("RGB")) for path in (tmp_path / "readme.png", kept)]
    assert looks_like(*pictures), f"look at {tmp_path}/readme.png; if it is right, copy it to {kept}"
    assert kept.stat().st_size < 100_000
    assert "](docs/readme.png)" in (ROOT / "README.md").read_text(encoding="utf-8")
