"""Pages made of what they are about, so that they cannot go stale: the walk-through, and the command line."""

import io
import re
from contextlib import redirect_stdout
from pathlib import Path
from unittest.mock import patch

WALK = Path(__file__).parent.parent / "examples" / "in_depth_kmeans.py"
WIDTH = 90  # of a help text, in characters


def walk_through(folder: Path) -> str:
    """Execute the cells of the walk-through; gives the page, and leaves its pictures in the folder."""
    import matplotlib.pyplot as plt

    lines = ["{download}`As a notebook <../../examples/in_depth_kmeans.ipynb>`.", ""]
    namespace: dict[str, object] = {"__name__": "__main__"}
    n_shown = 0

    def show() -> None:
        nonlocal n_shown
        for number in plt.get_fignums():
            n_shown += 1
            name = f"walk-through-{n_shown}.png"
            plt.figure(number).savefig(folder / name, dpi=110, bbox_inches="tight")  # as a notebook does
            lines.extend([f"![Picture {n_shown} of the walk-through]({name})", ""])
        plt.close("all")

    with plt.style.context("default"), patch.object(plt, "show", show):
        for part in re.split(r"^# %%", WALK.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            mark, _, text = part.partition("\n")
            if mark == " [markdown]":
                lines += [re.sub(r"^# ?", "", text, flags=re.MULTILINE).strip(), ""]
                continue
            lines += ["```python", text.strip(), "```", ""]
            place, said = len(lines), io.StringIO()
            with redirect_stdout(said):
                exec(compile(text, str(WALK), "exec"), namespace)
            if said.getvalue():
                lines[place:place] = ["```text", said.getvalue().rstrip(), "```", ""]
    title = next(i for i, line in enumerate(lines) if line.startswith("# "))
    return "\n".join([lines[title], "", *lines[:title], *lines[title + 1 :]])


def command_line() -> str:
    """Every command with the text of its ``--help``."""
    from typer.main import get_command

    from gpukmeans import cli

    completion = "`gpukmeans --install-completion` makes the shell complete commands and options."
    lines = ["# The command line", "", f"What `--help` says, of each command. {completion}", ""]
    for name in ("", *get_command(cli.app).commands):  # type: ignore[attr-defined]
        said = io.StringIO()
        with redirect_stdout(said), patch.dict("os.environ", {"COLUMNS": str(WIDTH), "TERM": "dumb"}):
            assert cli.main([*name.split(), "--help"]) == 0
        text = "\n".join(line.rstrip() for line in said.getvalue().strip("\n").splitlines())
        lines += [f"## gpukmeans {name}".rstrip(), "", "```text", text, "```", ""]
    return "\n".join(lines)


def write(folder: Path) -> None:
    """Write both pages; the walk-through, which takes some seconds, only where it is older than its script."""
    folder.mkdir(exist_ok=True)
    (folder / "command-line.md").write_text(command_line(), encoding="utf-8")
    page = folder / "walk-through.md"
    if not page.exists() or page.stat().st_mtime < WALK.stat().st_mtime:
        page.write_text(walk_through(folder), encoding="utf-8")
