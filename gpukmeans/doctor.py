"""What is installed, which backends work, and what to do about those that do not; nothing is printed here."""

import importlib
import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from tempfile import TemporaryFile

from ._warming import warm

__all__ = ["Extra", "Report", "examine", "warm"]

# what is said of a backend that works, where "works" is not all
_WORKS = {
    "cupy:all": "works on all cards listed below, each with a share of the rows; CUDA_VISIBLE_DEVICES hides some",
    "numba-cuda": "works; simpler and slower kernels than cupy's, and no choice of stream: 'auto' takes it where "
    "cupy cannot be used",
}
# extra -> what it is for, and the distributions that it brings
_EXTRAS = {
    "cuda12": ("NVIDIA GPUs with CUDA 12", ("cupy-cuda12x", "numba-cuda")),
    "cuda13": ("NVIDIA GPUs with CUDA 13", ("cupy-cuda13x", "numba-cuda")),
    "parquet": ("reading .parquet files", ("pyarrow",)),
    "plot": ("plots", ("matplotlib",)),
    "dask": ("Dask arrays", ("dask",)),
    "zarr": ("Zarr arrays", ("zarr",)),
}


@dataclass(frozen=True)
class Extra:
    """An optional part.

    Attributes
    ----------
    name : str
        As in ``pip install 'gpukmeans[name]'``.
    purpose : str
        What it is for.
    missing : tuple of str
        The distributions that are not installed; empty if all are.
    install : str
        The command that installs it.
    """

    name: str
    purpose: str
    missing: tuple[str, ...]
    install: str


@dataclass(frozen=True)
class Report:
    """The state of this installation.

    Attributes
    ----------
    versions : dict of str to str
        Of Python, gpukmeans and the packages that it stands on; "not installed" where one is missing. All that bring
        the package cupy are listed.
    platform : str
        Operating system and processor.
    n_cpus : int
        Processors of the machine.
    n_threads : int
        Threads that a fit uses now: fewer where ``OMP_NUM_THREADS`` or the like says so.
    backends : dict of str to (str or None)
        None where the backend works, else why not and what to do.
    variables : dict of str to str
        The environment variables of this package that are set, with what is wrong with a value.
    cuda : dict of str to str
        Driver, runtime, compiler and cards; empty where CuPy sees no card.
    extras : tuple of Extra
        The optional parts.
    cache_directory : str or None
        Where compiled kernels are kept between runs; None if nowhere.
    cache_problem : str or None
        Why kernels are compiled anew in every run, and what to do; None if they are not.
    cupy_cache_directory : str or None
        Where CuPy keeps compiled kernels; None where CuPy is not installed.
    cupy_cache_problem : str or None
        Why no CUDA kernel can be compiled, and what to do; None if they can be kept.
    """

    versions: dict[str, str]
    platform: str
    n_cpus: int
    n_threads: int
    backends: dict[str, str | None]
    variables: dict[str, str]
    cuda: dict[str, str]
    extras: tuple[Extra, ...]
    cache_directory: str | None
    cache_problem: str | None
    cupy_cache_directory: str | None
    cupy_cache_problem: str | None

    @property
    def machine(self) -> dict[str, str]:
        """What a result was made on: versions, platform, threads, variables, cards."""
        return {
            **self.versions,
            "platform": self.platform,
            "threads": f"{self.n_threads} of {self.n_cpus} processors",
            **self.variables,
            **self.cuda,
        }

    def summary(self) -> dict[str, str]:
        """All of it, as pairs of words for a table."""
        pairs = {
            **self.machine,
            **{f"backend {name}": why or _WORKS.get(name, "works") for name, why in self.backends.items()},
        }
        pairs["cache"] = self.cache_problem or self.cache_directory or "not needed"
        if self.cupy_cache_directory is not None:
            pairs["CuPy's cache"] = self.cupy_cache_problem or self.cupy_cache_directory
        for extra in self.extras:
            state = f"not installed ({extra.purpose}): {extra.install}"
            pairs[f"extra {extra.name}"] = state if extra.missing else f"installed ({extra.purpose})"
        return pairs


def examine() -> Report:
    """Look at this installation.

    Returns
    -------
    Report

    Examples
    --------
    >>> from gpukmeans.doctor import examine
    >>> examine().backends["numpy"] is None
    True
    """
    from .backends import _cuda, available_backends
    from .backends._threads import effective_n_threads

    cupys = _cuda.installed_cupys()
    packages = ("gpukmeans", "numpy", "scipy", "scikit-learn", "numba", *(cupys or ["cupy"]))
    backends = available_backends()
    directory, problem = _cache(numba_works=backends.get("numba", "") is None)
    cupy_directory, cupy_problem = _cuda.cache_problem() if cupys else (None, None)
    return Report(
        versions={"python": platform.python_version(), **{name: _version(name) for name in packages}},
        platform=f"{platform.system()} {platform.release()}, {platform.machine()}",
        n_cpus=os.cpu_count() or 1,
        n_threads=effective_n_threads(),
        backends=backends,
        variables=_variables(),
        cuda=_cuda.describe(),
        extras=tuple(_extra(name) for name in _EXTRAS),
        cache_directory=directory,
        cache_problem=problem,
        cupy_cache_directory=cupy_directory,
        cupy_cache_problem=cupy_problem,
    )


def _variables() -> dict[str, str]:
    from .backends import _cuda, backend_names

    backend, device = os.environ.get("GPUKMEANS_BACKEND"), os.environ.get(_cuda.DEVICE_VARIABLE)
    found = {}
    if backend:
        known = backend_names()
        found["GPUKMEANS_BACKEND"] = backend if backend in known else f"{backend!r} is none of {', '.join(known)}"
    if device:
        try:
            _cuda.chosen_device()
            found[_cuda.DEVICE_VARIABLE] = device
        except ValueError as error:
            found[_cuda.DEVICE_VARIABLE] = str(error).removeprefix(f"{_cuda.DEVICE_VARIABLE}=")
    return found


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def _extra(name: str) -> Extra:
    purpose, distributions = _EXTRAS[name]
    missing = tuple(d for d in distributions if _version(d) == "not installed")
    return Extra(name, purpose, missing, f"pip install 'gpukmeans[{name}]'")


def _cache(numba_works: bool) -> tuple[str | None, str | None]:
    """Find the directory that Numba keeps the compiled kernels in, and try to write to it."""
    if not numba_works:
        return None, None
    kernels = importlib.import_module(".backends._numba_passes", __package__)
    paths = [f.stats.cache_path for f in vars(kernels).values() if hasattr(f, "stats")]
    directory = next((path for path in paths if path), None)
    cure = "set NUMBA_CACHE_DIR to a directory that can be written to"
    if directory is None:
        return None, f"there is no directory for compiled kernels; {cure}"
    try:
        os.makedirs(directory, exist_ok=True)
        with TemporaryFile(dir=directory):
            return directory, None
    except OSError as error:
        return directory, f"{error.strerror}; {cure}"
