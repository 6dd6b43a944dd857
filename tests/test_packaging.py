"""What is shipped, and that the README, .ci/run, the Dockerfile and pyproject.toml say the same."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import support

import gpukmeans

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")


def copy_of_the_sources(target: Path) -> Path:
    """A copy, so that building leaves nothing behind in the checkout."""
    shutil.copytree(
        ROOT,
        target,
        ignore=shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", "dist", "results"),
    )
    return target


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Names in a wheel and in an sdist, built offline from a copy with a left-over build/ and a kernel."""
    sources = copy_of_the_sources(tmp_path_factory.mktemp("built") / "sources")
    (sources / "kernels" / "an_example.cu").write_text("// a kernel\n")
    (sources / "kernels" / "an_example.cuh").write_text("// what kernels share\n")
    stale = sources / "build" / "lib" / "gpukmeans" / "left_over.py"
    stale.parent.mkdir(parents=True)
    stale.write_text("raise ImportError('of an older version')\n")
    for kind in ("wheel", "sdist"):
        subprocess.run(
            [sys.executable, "-c", f"from setuptools import build_meta; build_meta.build_{kind}('dist')"],
            cwd=sources,
            check=True,
            capture_output=True,
        )
    (wheel,) = (sources / "dist").glob("*.whl")
    (sdist,) = (sources / "dist").glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as wheel_file, tarfile.open(sdist) as sdist_file:
        below_the_root = [name.partition("/")[2] for name in sdist_file.getnames()]
        return {"wheel": wheel_file.namelist(), "sdist": below_the_root}


def test_the_wheel_has_the_package_the_kernels_and_the_type_marker(built: dict[str, list[str]]) -> None:
    wanted = {
        "gpukmeans/" + str(p.relative_to(ROOT / "gpukmeans")) for p in (ROOT / "gpukmeans").rglob("*.py")
    }
    wanted |= {"gpukmeans/py.typed", "gpukmeans/kernels/__init__.py", "gpukmeans/kernels/README.md"}
    wanted |= {"gpukmeans/kernels/an_example.cu", "gpukmeans/kernels/an_example.cuh"}
    assert wanted <= set(built["wheel"])


def test_the_wheel_has_nothing_but_the_package(built: dict[str, list[str]]) -> None:
    assert {name.split("/")[0].partition("-")[0] for name in built["wheel"]} == {"gpukmeans"}


def test_a_left_over_build_folder_does_not_reach_the_wheel(built: dict[str, list[str]]) -> None:
    assert "gpukmeans/left_over.py" not in built["wheel"]


def test_the_sdist_has_what_a_build_needs_and_no_tests(built: dict[str, list[str]]) -> None:
    names = set(built["sdist"])
    assert {"pyproject.toml", "setup.py", "LICENSE", "README.md", "CHANGELOG.md"} <= names
    assert {
        "gpukmeans/py.typed",
        "kernels/__init__.py",
        "kernels/an_example.cu",
        "kernels/an_example.cuh",
    } <= names
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "."))]


def test_the_kernels_are_found_in_the_installed_package() -> None:
    folder = importlib.resources.files("gpukmeans.kernels")
    assert {p.name for p in folder.iterdir()} >= {p.name for p in (ROOT / "kernels").glob("*.cu*")} | {
        "README.md"
    }


def test_the_version_stands_in_one_place() -> None:
    version = PYPROJECT["project"]["version"]
    assert gpukmeans.__version__ == importlib.metadata.version("gpukmeans") == version
    assigned = re.compile(r"^__version__\s*=", re.MULTILINE)
    assert not [
        p for p in (ROOT / "gpukmeans").rglob("*.py") if assigned.search(p.read_text(encoding="utf-8"))
    ]


def test_the_extras_are_those_that_the_documents_name() -> None:
    extras = PYPROJECT["project"]["optional-dependencies"]
    wanted = {"cuda12", "cuda13", "plot", "dask", "parquet", "zarr", "bench", "docs", "lint"}
    wanted |= {"test", "test-data", "test-cuda"}
    assert wanted <= set(extras)
    named = set()
    for document in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md", ".ci/run"):
        for extra_list in re.findall(r"\.\[([\w,-]+)\]", (ROOT / document).read_text(encoding="utf-8")):
            named |= set(extra_list.split(","))
    assert named <= set(extras)


def test_no_extra_but_its_own_installs_cupy() -> None:
    project = PYPROJECT["project"]
    assert not [d for d in project["dependencies"] if "cupy" in d or "cuda" in d]
    with_cupy = {n for n, ds in project["optional-dependencies"].items() if any("cupy" in d for d in ds)}
    assert with_cupy == {"cuda12", "cuda13", "test-cuda"}


def test_the_command_line_is_installed() -> None:
    scripts = importlib.metadata.entry_points(group="console_scripts", name="gpukmeans")
    assert [script.value for script in scripts] == ["gpukmeans.cli:main"]


# ---- README and .ci/run


def readme_commands() -> dict[str, str]:
    """Commands of the README that are marked for .ci/run."""
    return dict(re.findall(r"<!-- command: (\w+) -->\n```\w*\n(.*?)\n```", README, flags=re.DOTALL))


def test_the_readme_gives_one_command_for_the_demo_and_one_for_the_tests() -> None:
    assert readme_commands() == {
        "demo": "pip install . && gpukmeans demo",
        "test": "pip install -e '.[test]' && pytest",
    }


@pytest.mark.skipif(os.name == "nt", reason="a bash script")
def test_ci_runs_the_commands_that_the_readme_gives() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert set(re.findall(r"^run_readme_command (\w+)$", script, flags=re.MULTILINE)) == set(
        readme_commands()
    )
    (function,) = re.findall(r"^readme_command\(\) \{\n.*?^\}", script, flags=re.DOTALL | re.MULTILINE)
    for name, command in readme_commands().items():
        shell = f"checkout={shlex.quote(str(ROOT))}\n{function}\nreadme_command {name}"
        read = subprocess.run(["bash", "-c", shell], check=True, capture_output=True, text=True).stdout
        assert read.strip() == command


def test_ci_requires_the_cpu_backends() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.search(r"^required=numpy,numba,pandas$", script, flags=re.MULTILINE)
    assert set(re.findall(r"GPUKMEANS_REQUIRE=(\S+)", script)) == {"$required"}
    added = re.findall(r"\brequired=(\S+)$", script, flags=re.MULTILINE)[1:]
    assert all(names.split(",")[0] == "$required" for names in added)


def test_ci_requires_all_that_the_extras_bring() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    required = {name for names in re.findall(r"\brequired=\$required,(\S+)", script) for name in names.split(",")}
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    asked_for = set(re.findall(r"\b(?:missing|optional)\(\"([\w-]+)\"", tests)) - set(support.NOT_OF_AN_EXTRA)
    assert len(asked_for) > 3
    assert asked_for <= required


def test_a_test_that_would_run_nowhere_in_ci_fails(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.delenv("GPUKMEANS_REQUIRE", raising=False)
    with pytest.raises(pytest.fail.Exception, match="not marked with pytest.mark.extra"):
        support.missing("a library", "it is not installed")
    request.node.add_marker("extra")
    with pytest.raises(pytest.skip.Exception):
        support.missing("a library", "it is not installed")


# ---- Dockerfile


def dockerfile() -> list[tuple[str, str]]:
    """Instructions of the Dockerfile, comments dropped and continued lines joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(instruction, rest) for instruction, rest in lines]


def instructions(kind: str) -> list[str]:
    return [rest for instruction, rest in dockerfile() if instruction == kind]


def test_the_image_is_slim_runs_as_a_user_and_starts_the_command_line() -> None:
    assert all(image.partition(" AS ")[0] == "python:${PYTHON}-slim" for image in instructions("FROM"))
    assert instructions("USER") == ["gpukmeans"]
    assert instructions("ENTRYPOINT") == ['["gpukmeans"]']


def test_what_the_image_copies_is_not_ignored() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")}
    copied = [rest.split()[:-1] for rest in instructions("COPY") if not rest.startswith("--from")]
    assert {name for names in copied for name in names} == allowed
    assert all((ROOT / name).exists() for name in allowed)


class CleanMachine:
    """Runs the Dockerfile's COPY and RUN lines in empty folders, offline.

    Paths of the image become paths below `root`, useradd and chown do nothing, and the dependencies come from
    the environment of the tests; all else runs as it is written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        tools = root / "tools"
        tools.mkdir(parents=True)
        for tool in ("useradd", "chown"):
            (tools / tool).write_text("#!/bin/sh\n")
            (tools / tool).chmod(0o755)
        (tools / "python").symlink_to(sys.executable)
        # the packages of this environment, but not its editable gpukmeans: no .pth file is read there
        self.environment = {
            "PATH": f"{tools}{os.pathsep}{os.defpath}",
            "HOME": str(root / "home"),
            "PYTHONPATH": sysconfig.get_path("purelib"),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }

    def below_root(self, text: str) -> str:
        return re.sub(r"/(src|opt|home|data)\b", lambda m: str(self.root / m[1]), text)

    def run(self, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", self.below_root(script)],
            cwd=self.root,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
        )


@pytest.mark.skipif(os.name == "nt", reason="the Dockerfile's lines are for sh")
def test_the_run_lines_of_the_dockerfile_work_in_a_clean_environment(tmp_path: Path) -> None:
    machine = CleanMachine(tmp_path)
    variables = {"VARIANT": "cpu"}
    for instruction, rest in dockerfile():
        if instruction == "COPY" and not rest.startswith("--from"):
            *names, target = rest.split()
            folder = Path(machine.below_root(target))
            for name in names:
                if (ROOT / name).is_dir():
                    shutil.copytree(ROOT / name, folder, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    folder.mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / name, folder)
        elif instruction == "ENV":
            for setting in shlex.split(rest):
                name, _, value = setting.partition("=")
                variables[name] = machine.below_root(value).replace("$PATH", machine.environment["PATH"])
        elif instruction == "RUN":
            offline = rest.replace("pip install", "pip install --no-index --no-deps --no-build-isolation")
            done = machine.run(offline, **variables)
            assert done.returncode == 0, done.stderr
    assert list((tmp_path / "home").rglob("*.nbi")), "the kernels are cached where NUMBA_CACHE_DIR says"
    entry_point = machine.run(
        "cd /data && gpukmeans --help && python -c 'import gpukmeans; print(gpukmeans)'", **variables
    )
    assert entry_point.returncode == 0, entry_point.stderr
    assert str(tmp_path / "opt") in entry_point.stdout


@pytest.mark.skipif(os.name == "nt", reason="the Dockerfile's lines are for sh")
@pytest.mark.parametrize(
    ("variant", "installed"),
    [("cpu", "/src"), ("cuda12", "/src[cuda12]"), ("cuda13", "/src[cuda13]"), ("cuda11", None)],
)
def test_the_build_argument_of_the_dockerfile_chooses_the_extra(
    tmp_path: Path, variant: str, installed: str | None
) -> None:
    machine = CleanMachine(tmp_path)
    (line,) = [rest for rest in instructions("RUN") if "pip install" in rest]
    line = re.sub(r"python -m venv \S+", "true", line)
    line = re.sub(r"\S+/pip install --no-cache-dir", "echo", line)
    done = machine.run(line, VARIANT=variant)
    if installed is None:
        assert done.returncode == 1
        assert "it must be cpu, cuda12 or cuda13" in done.stderr
    else:
        assert done.stdout.strip() == machine.below_root(installed)
