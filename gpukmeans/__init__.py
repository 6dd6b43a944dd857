"""gpukmeans: exact k-means with scikit-learn's interface and the same bits on every backend."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backends import available_backends
    from .bisecting import BisectingKMeans
    from .choosing import choose_k
    from .errors import (
        BackendUnavailableError,
        DataFileError,
        GpuKMeansError,
        KernelCompileError,
        ModelFileError,
        OutOfMemoryError,
    )
    from .kernel_kmeans import KernelKMeans
    from .kmeans import KMeans, k_means, kmeans_plusplus
    from .minibatch import MiniBatchKMeans
    from .pairwise import pairwise_distances_argmin, pairwise_distances_argmin_min
    from .ragged import kmeans_batch
    from .steps import lloyd_steps

__all__ = [
    "BackendUnavailableError",
    "BisectingKMeans",
    "CheckpointError",
    "DataFileError",
    "GpuKMeansError",
    "KMeans",
    "KernelCompileError",
    "KernelKMeans",
    "MiniBatchKMeans",
    "ModelFileError",
    "OutOfMemoryError",
    "Source",
    "available_backends",
    "choose_k",
    "k_means",
    "kmeans_batch",
    "kmeans_plusplus",
    "lloyd_steps",
    "open_source",
    "pairwise_distances_argmin",
    "pairwise_distances_argmin_min",
]

# public name -> module that has it; imported when first used, so that `import gpukmeans` costs nothing
_HOME = {
    "BackendUnavailableError": "errors",
    "BisectingKMeans": "bisecting",
    "CheckpointError": "errors",
    "DataFileError": "errors",
    "GpuKMeansError": "errors",
    "KMeans": "kmeans",
    "KernelCompileError": "errors",
    "KernelKMeans": "kernel_kmeans",
    "MiniBatchKMeans": "minibatch",
    "ModelFileError": "errors",
    "OutOfMemoryError": "errors",
    "Source": "sources",
    "available_backends": "backends",
    "choose_k": "choosing",
    "k_means": "kmeans",
    "kmeans_batch": "ragged",
    "kmeans_plusplus": "kmeans",
    "lloyd_steps": "steps",
    "open_source": "sources",
    "pairwise_distances_argmin": "pairwise",
    "pairwise_distances_argmin_min": "pairwise",
}
_MODULES = {
    "arrays", "backends", "bench", "choosing", "data_files", "datasets", "doctor", "errors", "exact", "metrics",
    "model_file", "pictures", "plot", "sources", "verify",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name == "__version__":
        from importlib.metadata import version

        return version("gpukmeans")
    raise AttributeError(f"module 'gpukmeans' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES, "__version__"])
