"""How the pages are built: ``sphinx-build -W -n docs docs/_build``. Nothing is fetched from a network."""

import importlib
import inspect
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import gpukmeans  # noqa: E402
import pages  # noqa: E402
import pictures  # noqa: E402

project = "gpukmeans"
author = "gpukmeans developers"
release = version = gpukmeans.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "myst_parser"]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
myst_heading_anchors = 3
nitpicky = True
highlight_language = "none"  # a block that is in a language says so
# Names of other projects stand as they are: to link them, their inventories would have to be fetched.
nitpick_ignore_regex = [(r"py:.*", r"(?!gpukmeans\.).*")]

autodoc_typehints = "none"  # numpydoc's types are those for readers
autosummary_generate = True
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = "gpukmeans"
html_static_path = ["_static"]
html_css_files = ["gpukmeans.css"]
NO_SECTION = ("index", "start", "errors", "benchmarks", "generated/walk-through", "generated/command-line")
html_sidebars: dict[str, list[str]] = {page: [] for page in NO_SECTION}
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "header_links_before_dropdown": 6,
    "show_prev_next": False,
    "footer_start": [],
    "footer_end": [],
}

# ---- The list of the API is made of what the modules export, so that it cannot go stale.
MODULES = {
    "gpukmeans": "What ``from gpukmeans import ...`` gives.",
    "gpukmeans.metrics": "How good a clustering is.",
    "gpukmeans.plot": "Displays, in scikit-learn's convention.",
    "gpukmeans.datasets": "Generated data.",
    "gpukmeans.choosing": "What ``choose_k`` returns.",
    "gpukmeans.ragged": "What ``kmeans_batch`` returns.",
    "gpukmeans.dask": "K-means on a cluster.",
    "gpukmeans.memory": "What ``KMeans.plan`` returns.",
    "gpukmeans.lloyd": "What stands in ``history_``.",
    "gpukmeans.model_file": "Models as files that are safe to load.",
    "gpukmeans.exact": "The arithmetic that gives every backend the same bits.",
}
ONLY = {
    "gpukmeans.choosing": ["KChoice"],
    "gpukmeans.ragged": ["BatchResult"],
    "gpukmeans.lloyd": ["Iteration"],
    "gpukmeans.memory": ["Plan"],
    "gpukmeans.model_file": ["save", "load", "inspect"],
}


def exported(module: Any) -> list[str]:
    """Names that a module exports: its ``__all__``, else the public classes and functions that it defines."""
    return getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    ]


def write_api(target: Path) -> None:
    """Write the page of the API: for each module its classes, functions and exceptions."""
    lines = ["API", "===", ""]
    for name, said in MODULES.items():
        if find_spec(name) is None:
            continue
        module = importlib.import_module(name)
        kinds: dict[str, list[str]] = {"Classes": [], "Functions": [], "Exceptions": []}
        for member in ONLY.get(name) or exported(module):
            value = getattr(module, member)
            if inspect.isclass(value):
                kinds["Exceptions" if issubclass(value, Exception) else "Classes"].append(member)
            elif callable(value):
                kinds["Functions"].append(member)
        lines += [name, "-" * len(name), "", said, "", f".. module:: {name}", ""]
        for kind, members in kinds.items():
            if members:
                lines += [f".. rubric:: {kind}", "", ".. autosummary::", "   :toctree: api", "   :nosignatures:", ""]
                lines += [f"   {member}" for member in sorted(members)] + [""]
    target.parent.mkdir(exist_ok=True)
    text = "\n".join(lines)
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")


def skip_foreign(app: Any, what: str, name: str, value: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what a class has from scikit-learn or Python; their documentation has it."""
    module = getattr(inspect.unwrap(value) if callable(value) else value, "__module__", None)
    return True if module is not None and not str(module).startswith("gpukmeans") else None


def setup(app: Any) -> None:
    """Make what is generated before Sphinx looks for pages."""
    write_api(HERE / "generated" / "api.rst")
    pictures.draw(HERE / "generated")
    pages.write(HERE / "generated")
    app.connect("autodoc-skip-member", skip_foreign)
