"""What the pages under docs/ show is true: every example on them is run, and says what it says there."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
import shlex
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import support
from PIL import Image

from gpukmeans import KMeans, errors
from gpukmeans.cli import main

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(str(p.relative_to(DOCS)) for p in DOCS.rglob("*.md") if not {"_build", "generated"} & set(p.parts))
# language and caption of a block of code, and what is in it
BLOCK = re.compile(r"^```(?:\{code-block\} )?(python|sh)\n(:caption: [^\n]+\n\n)?(.*?)^```$", re.MULTILINE | re.DOTALL)
NEEDS_A_CARD = ":caption: Needs a card"


def blocks(page: str) -> list[tuple[str, str]]:
    """The language and the text of the blocks of code of a page, but for those that need a card."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = BLOCK.findall(text)
    fences = re.findall(r"^```(?!\{include\}|\{toctree\})\S", text, re.MULTILINE)
    assert len(found) == len(fences), "a block of code is neither python nor sh, or has another caption"
    return [(language, code) for language, caption, code in found if caption.strip() != NEEDS_A_CARD]


CLUSTER = "howto/cluster.md"  # which needs an extra


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.extra) if page == CLUSTER else page for page in PAGES]
)
def test_the_examples_of_a_page_run_and_print_what_it_shows(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if page == CLUSTER:
        support.optional("distributed")
    namespace: dict[str, object] = {}
    for i, (language, code) in enumerate(blocks(page)):
        if language == "python":
            example = doctest.DocTestParser().get_doctest(code, namespace, f"{page}, block {i + 1}", page, 0)
            assert example.examples, f"block {i + 1} of {page} has no >>>: nothing would be run"
            said: list[str] = []
            # what follows a failure may wait for what was not made
            runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.FAIL_FAST)
            runner.run(example, out=said.append, clear_globs=False)
            assert not runner.failures, "".join(said)
            namespace = example.globs
            continue
        for line in code.splitlines():
            command = shlex.split(line, comments=True)
            if command[:2] != ["pip", "install"]:  # .ci/run installs
                assert command[0] == "gpukmeans"
                assert main(command[1:]) == 0, line


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What makes the pages that are generated."""
    monkeypatch.syspath_prepend(DOCS)
    return importlib.import_module("pages")


def test_the_page_of_the_command_line_has_the_help_of_every_command(pages: ModuleType) -> None:
    page = pages.command_line()
    commands = ["fit", "predict", "info", "plan", "choose-k", "plot", "compress", "doctor", "bench", "demo"]
    assert re.findall("^## gpukmeans (.+)$", page, re.MULTILINE) == commands
    assert len(re.findall(r"^ Example: gpukmeans", page, re.MULTILINE)) == len(commands)
    assert "--max-iter" in page
    assert "\x1b" not in page
    assert max(map(len, page.partition("## gpukmeans")[2].splitlines())) <= pages.WIDTH


def test_the_page_of_the_walk_through_shows_text_code_what_it_prints_and_what_it_draws(
    pages: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "walk.py"
    script.write_text(
        "# %% [markdown]\n# # Title\n#\n# Some text.\n\n# %%\nimport matplotlib.pyplot as plt\nx = 6\n\n"
        "# %%\nprint(7 * x)\nplt.plot([1, x])\nplt.show()\n"
    )
    monkeypatch.setattr(pages, "WALK", script)
    page = pages.walk_through(tmp_path)
    said = "```text\n42\n```\n\n![Picture 1 of the walk-through](walk-through-1.png)\n"
    assert page.startswith("# Title\n")
    assert f"```python\nprint(7 * x)\nplt.plot([1, x])\nplt.show()\n```\n\n{said}" in page
    assert (tmp_path / "walk-through-1.png").stat().st_size > 1000


def test_the_page_of_errors_has_each_class_of_them() -> None:
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    assert not [name for name in vars(errors) if name.endswith("Error") and f"{{exc}}`gpukmeans.{name}`" not in page]


def test_an_estimator_shows_the_parameters_of_its_constructor() -> None:
    shown = inspect.signature(KMeans).parameters
    assert sorted(shown) == sorted(KMeans().get_params())
    assert shown["max_iter"].default == 300


# ---- the README, and links
ROOT = DOCS.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
ELSEWHERE = ("doctor", "bench")  # commands that look at the whole machine; they have tests of their own


def test_the_examples_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    codes = [code for code in re.findall(r"^```python\n(.*?)^```$", README, re.M | re.S) if "import cupy" not in code]
    assert len(codes) > 3
    for code in codes:
        exec(compile(code, "README.md", "exec"), namespace)
    np.save("points.npy", np.random.default_rng(0).normal(size=(500, 3)))
    Image.fromarray(np.arange(3072, dtype=np.uint8).reshape(32, 32, 3)).save("photo.jpg")
    commands = [shlex.split(line, comments=True)[1:] for line in re.findall(r"^gpukmeans .+$", README, re.M)]
    assert len(commands) > 6
    for command in commands:
        if command[0] not in ELSEWHERE:
            assert main(command) == 0, command


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "benchmarks/README.md", *(f"docs/{page}" for page in PAGES)]
)
def test_links_lead_to_files(page: str) -> None:
    path = ROOT / page
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        if "generated/" not in target:  # made with the pages
            assert (path.parent / target).exists(), target
