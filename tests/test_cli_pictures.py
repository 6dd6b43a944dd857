"""The commands choose-k, plot and compress, and what a shell completes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gpukmeans
from gpukmeans import KMeans, choose_k, model_file, pictures
from gpukmeans.cli import main
from gpukmeans.datasets import make_blobs

X, _ = make_blobs(90, 2, centers=3, random_state=0)
PICTURE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with data, a model, pictures and files that are no good."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X)
    np.save("x3.npy", np.c_[X, X[:, 0]])
    model_file.save(KMeans(3, random_state=0).fit(X), "m.npz", labels=False)
    model_file.save(KMeans(3, random_state=0).fit(np.load("x3.npy")), "m3.npz", labels=False)
    Image.fromarray(PICTURE).save("p.png")
    Path("bad.png").write_bytes(Path("p.png").read_bytes()[:80])
    Path("notes.png").write_text("nothing")
    Image.fromarray(np.zeros((4, 4, 4), dtype=np.uint8)).save("clear.png")
    Image.fromarray(np.zeros((4, 4), dtype=np.uint16)).save("deep.png")
    Image.new("L", (4, 4)).save("film.gif", save_all=True, append_images=[Image.new("L", (4, 4), 9)])
    return tmp_path


@pytest.fixture
def run(capsys, monkeypatch):
    """Run the command line in this process; gives the exit code, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "100")

    def run(*args):
        code = main([str(arg) for arg in args])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


# ---------------------------------------------------------------------------------------------- choose-k
def test_choose_k_prints_what_the_library_finds_and_writes_the_model(folder, run):
    options = ["--to", 5, "--criteria", "silhouette, elbow", "--seed", 0, "-o", "best.npz"]
    code, out, err = run("choose-k", "x.npy", *options)
    assert (code, err) == (0, "")
    expected = choose_k(X, range(2, 6), ("silhouette", "elbow"), random_state=0)
    assert out == f"{expected}\nmodel: best.npz\n"
    loaded = model_file.load("best.npz")
    assert np.array_equal(loaded.cluster_centers_, expected.model.cluster_centers_)


def test_choose_k_draws_its_criteria(folder, run):
    code, out, err = run("choose-k", "x.npy", "--to", 4, "--criteria", "elbow", "--plot", "criteria.svg")
    assert (code, err) == (0, "")
    assert out.endswith("\npicture: criteria.svg\n")
    assert "number of clusters" in Path("criteria.svg").read_text()


def test_choose_k_shows_how_far_it_is_on_a_terminal(folder, run, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    code, out, err = run("choose-k", "x.npy", "--to", 4, "--criteria", "elbow")
    assert code == 0
    assert "choosing" in err
    assert "judging" in err
    assert "\x1b" not in out


# ---------------------------------------------------------------------------------------------- plot
@pytest.mark.parametrize("kind", ["clusters", "voronoi", "silhouette", "simplified-silhouette"])
def test_plot_draws_rows_as_the_model_clusters_them(folder, run, kind):
    code, out, err = run("plot", "m.npz", "x.npy", "-o", "x.png", "--kind", kind)
    assert (code, out, err) == (0, "picture: x.png\nrows: 90\n", "")
    with Image.open("x.png") as image:
        assert image.size == (960, 720)
        assert len(image.convert("RGB").getcolors(1 << 20)) > 20


def test_plot_draws_how_the_fit_came_to_its_end(folder, run):
    code, out, err = run("plot", "m.npz", "-o", "x.pdf", "--kind", "convergence")
    assert (code, out, err) == (0, "picture: x.pdf\n", "")
    assert Path("x.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("name", ["MiniBatchKMeans", "BisectingKMeans"])
def test_models_of_other_estimators_are_taken(folder, run, name):
    model = getattr(gpukmeans, name)(3, random_state=0).fit(X)
    model_file.save(model, "other.npz")
    assert run("predict", "other.npz", "x.npy", "-o", "y.npy")[0] == 0
    assert np.array_equal(np.load("y.npy"), model.labels_)
    assert run("plot", "other.npz", "x.npy", "-o", "x.png") == (0, "picture: x.png\nrows: 90\n", "")
    code, out, err = run("info", "other.npz")
    assert (code, err) == (0, "")
    assert f"class: {name}" in out
    assert f"inertia: {model.inertia_!r}" in out
    assert ("batches" in out) == (name == "MiniBatchKMeans")
    code, _, err = run("plot", "other.npz", "-o", "x.png", "--kind", "convergence")
    assert (code, err) == (1, f"gpukmeans: error: Only KMeans keeps the history_ that is drawn here. Got a {name}.\n")
    code, _, err = run("plot", "other.npz", "x.npy", "-o", "x.png", "--kind", "voronoi")
    assert (code, "down its tree" in err) == ((1, True) if name == "BisectingKMeans" else (0, False))


# ---------------------------------------------------------------------------------------------- compress
def test_compress_writes_a_small_picture_with_the_colours_of_the_fit(folder, run):
    code, out, err = run("compress", "p.png", "-k", 5, "-o", "small.png", "--plot", "palette.png")
    assert (code, err) == (0, "")
    rows = PICTURE.reshape(-1, 3).astype(np.float32) / np.float32(255)
    model = KMeans(5, random_state=0).fit(rows)
    expected = np.rint(model.cluster_centers_ * 255).astype(np.uint8)[model.labels_].reshape(PICTURE.shape)
    with Image.open("small.png") as image:
        assert image.mode == "P"
        assert np.array_equal(image.convert("RGB"), expected)
    shown = dict(line.split(": ", 1) for line in out.splitlines())
    assert (shown["pixels"], shown["colours"], shown["picture"]) == ("54", "5", "small.png")
    assert shown["bytes"].startswith(f"{Path('small.png').stat().st_size} (p.png: ")
    assert Path("palette.png").exists()


def test_a_picture_of_many_colours_is_written_with_all_of_them(tmp_path):
    pixels = np.stack([np.arange(300) % 256, np.arange(300) // 256, np.zeros(300)], axis=1).astype(np.uint8)
    pictures.write_png(tmp_path / "p.png", pixels.reshape(10, 30, 3))
    assert np.array_equal(pictures.read_picture(tmp_path / "p.png"), pixels.reshape(10, 30, 3))


def test_a_picture_is_read_upright_and_without_an_opaque_alpha(tmp_path):
    opaque = np.dstack([PICTURE, np.full(PICTURE.shape[:2], 255, dtype=np.uint8)])
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.fromarray(opaque).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(pictures.read_picture(tmp_path / "turned.png"), np.rot90(PICTURE, -1))


# ---------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("args", "code", "complaint"),
    [
        (("choose-k", "nothing.npy"), 2, "nothing.npy: No such file or directory"),
        (("choose-k", "x.npy", "--from", 1), 2, "1 to 10: at least two numbers from 2 on"),
        (("choose-k", "x.npy", "--to", 2), 2, "2 to 2: at least two"),
        (("choose-k", "x.npy", "--to", 90), 2, "x.npy has 90 rows, so at most 89 clusters"),
        (("choose-k", "x.npy", "--criteria", "elbow,knee"), 2, "'knee' is none of silhouette"),
        (("choose-k", "x.npy", "--n-init", 0), 2, "n_init"),
        (("choose-k", "x.npy", "--backend", "nunba"), 2, "backend"),
        (("choose-k", "x.npy", "--plot", "x.jpg"), 2, "x.jpg: the name must end in .png or .pdf or .svg"),
        (("choose-k", "x.npy", "-o", "no/m.npz"), 2, "does not exist"),
        (("plot", "m.npz", "-o", "new.png"), 2, "is needed for this kind"),
        (("plot", "m.npz", "x.npy", "-o", "new.png", "--kind", "convergence"), 2, "is not for --kind convergence"),
        (("plot", "m.npz", "x.npy", "-o", "new.png", "--kind", "pie"), 2, "'pie' is not one of"),
        (("plot", "m.npz", "x.npy", "-o", "new"), 2, "new: the name must end in"),
        (("plot", "m.npz", "x.npy", "-o", "no/new.png"), 2, "does not exist"),
        (("plot", "nothing.npz", "x.npy", "-o", "new.png"), 2, "nothing.npz: No such file"),
        (("plot", "m3.npz", "x3.npy", "-o", "new.png", "--kind", "voronoi"), 1, "2 features, got the shape (3, 3)"),
        (("plot", "m.npz", "x3.npy", "-o", "new.png"), 1, "features"),
        (("compress", "nothing.png", "-k", 2, "-o", "new.png"), 2, "nothing.png: No such file"),
        (("compress", "p.png", "-k", 55, "-o", "new.png"), 2, "p.png has 54 pixels, fewer than 55 colours"),
        (("compress", "p.png", "-k", 0, "-o", "new.png"), 2, "n_clusters"),
        (("compress", "p.png", "-k", 2, "-o", "new.jpg"), 2, "new.jpg: the name must end in .png"),
        (("compress", "notes.png", "-k", 2, "-o", "new.png"), 1, "notes.png is no picture that can be read"),
        (("compress", "bad.png", "-k", 2, "-o", "new.png"), 1, "bad.png cannot be read as a picture"),
        (("compress", "clear.png", "-k", 2, "-o", "new.png"), 1, "clear.png is transparent in places"),
        (("compress", "deep.png", "-k", 2, "-o", "new.png"), 1, "deep.png has more than 8 bits a channel"),
        (("compress", "film.gif", "-k", 2, "-o", "new.png"), 1, "film.gif has 2 frames"),
    ],
    ids=str,
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(folder, run, args, code, complaint):
    got, out, err = run(*args)
    assert (got, out) == (code, "")
    assert err.startswith("gpukmeans: error: ")
    assert complaint in err
    assert err.count("\n") == 1
    assert not [p.name for p in folder.iterdir() if p.name.startswith((".", "new"))]


def test_without_matplotlib_plot_says_how_to_get_it_before_the_work(folder, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(model_file, "load", None)
    code, out, err = run("plot", "m.npz", "x.npy", "-o", "new.png")
    assert (code, out) == (1, "")
    assert err == "gpukmeans: error: gpukmeans.plot needs matplotlib: pip install 'gpukmeans[plot]'\n"


# ---------------------------------------------------------------------------------------------- completion
def test_a_shell_completes_commands_and_options():
    def completed(words):
        asked = {"_GPUKMEANS_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        command = [sys.executable, "-m", "gpukmeans"]
        done = subprocess.run(command, env=os.environ | asked, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()

    assert completed("gpukmeans c") == ["choose-k", "compress"]
    assert completed("gpukmeans plot --k") == ["--kind"]


def test_the_help_offers_to_install_the_completion(run):
    _, out, _ = run("--help")
    assert "--install-completion" in re.sub(r"\x1b\[[0-9;]*m", "", out)
