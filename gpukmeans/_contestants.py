"""Who is measured by `bench`: the backends, scikit-learn, the GPU libraries installed; each in a few lines.

All get the same rows, the same start where they take one, and the same number of iterations. What one of them does in
another way is said in its `note`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from ._grid import Peak, peak
from .exact import FloatArray

REFERENCE = "scikit-learn"
"""The contestant that the others are compared with."""


class Answer(NamedTuple):
    """What a fit gives, where the library leaves it."""

    labels: Any
    centers: Any
    n_iter: int
    inertia: float | None = None


Fit = Callable[[Any, FloatArray, int], Answer]


def _as_it_is(X: FloatArray) -> Any:
    return X


def _on_host_clock(work: Callable[[], Answer]) -> tuple[float, Answer]:
    begin = time.perf_counter()
    answer = work()
    return time.perf_counter() - begin, answer


@dataclass(frozen=True)
class Contestant:
    """One backend or library.

    Attributes
    ----------
    name : str
    fit : callable
        Of the rows (where `place` put them), the start (NumPy) and the number of iterations.
    place : callable
        Brings the NumPy rows where the fit wants them; not timed.
    clock : callable
        Calls a fit; gives seconds and answer.
    is_ours : bool
        Whether its answer must have the bits of the numpy backend.
    on_card : bool
        Whether it works on a card, whose limits then bound it.
    dtypes : tuple of str
    note : str
        What differs from the others.
    """

    name: str
    fit: Fit
    place: Callable[[FloatArray], Any] = _as_it_is
    clock: Callable[[Callable[[], Answer]], tuple[float, Answer]] = _on_host_clock
    is_ours: bool = False
    on_card: bool = False
    dtypes: tuple[str, ...] = ("float32", "float64")
    note: str = ""


# ---- ours
def backend(name: str) -> list[Contestant]:
    """Give a backend; cupy twice: for rows on the host and for rows on the card, by the card's clock."""

    def fit(X: Any, start: FloatArray, n_iter: int) -> Answer:
        from .kmeans import KMeans

        model = KMeans(len(start), init=start, n_init=1, max_iter=n_iter, tol=0.0, backend=name).fit(X)
        return Answer(model.labels_, model.cluster_centers_, model.n_iter_, model.inertia_)

    if name != "cupy":
        return [Contestant(name, fit, is_ours=True)]
    return [
        Contestant(name, fit, is_ours=True, on_card=True, note="a fit begins with the copy of the rows to the card"),
        Contestant(
            f"{name}, on card", fit, place=_to_card, clock=_on_card_clock, is_ours=True, on_card=True,
            note="the rows are a CuPy array; timed by events of the card",
        ),
    ]  # fmt: skip


def _card() -> Any:
    import cupy

    from .backends import _cuda

    return cupy.cuda.Device(_cuda.chosen_device())


def peak_of_card() -> Peak | None:
    """What the card of the cupy backend can do; None if its driver does not tell."""
    device = _card()
    return peak(device.attributes, int(device.compute_capability))


def _to_card(X: FloatArray) -> Any:
    import cupy

    with _card():
        return cupy.asarray(X)


def _on_card_clock(work: Callable[[], Answer]) -> tuple[float, Answer]:
    import cupy

    with _card():
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        begin.record()
        answer = work()
        end.record()
        end.synchronize()
        return cupy.cuda.get_elapsed_time(begin, end) / 1e3, answer


# ---- the others, imported by name: none of them is a dependency
def _scikit_learn() -> Contestant:
    from sklearn.cluster import KMeans

    def fit(X: Any, start: FloatArray, n_iter: int) -> Answer:
        model = KMeans(len(start), init=start, n_init=1, max_iter=n_iter, tol=0.0, algorithm="lloyd").fit(X)
        return Answer(model.labels_, model.cluster_centers_, model.n_iter_)

    return Contestant(REFERENCE, fit)


def _cuml() -> Contestant:
    KMeans = import_module("cuml.cluster").KMeans

    def fit(X: Any, start: FloatArray, n_iter: int) -> Answer:
        model = KMeans(n_clusters=len(start), init=start, n_init=1, max_iter=n_iter, tol=1e-30).fit(X)
        return Answer(model.labels_, model.cluster_centers_, int(model.n_iter_))

    note = "rows on the card; tol is 1e-30, since it takes no 0"
    return Contestant("cuML", fit, place=_to_card, on_card=True, note=note)


def _faiss() -> Contestant:
    faiss = import_module("faiss")
    if not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() == 0:
        raise RuntimeError("faiss is installed without GPU support, or sees no card")

    def fit(X: Any, start: FloatArray, n_iter: int) -> Answer:
        n, d = X.shape
        all_rows = {"max_points_per_centroid": n, "min_points_per_centroid": 1}
        model = faiss.Kmeans(d, len(start), niter=n_iter, gpu=True, **all_rows)
        model.train(X, init_centroids=start)
        return Answer(model.assign(X)[1], model.centroids, n_iter)

    note = "labels of a pass of its own after the last iteration"
    return Contestant("faiss-gpu", fit, on_card=True, dtypes=("float32",), note=note)


_FLASH = "rows on the card; labels of the centers before the last update; no check of the data, no inertia"


def _flash(name: str, call: Callable[..., Any], note: str, *, in_bf16: bool = False) -> Contestant:
    """Give a library with the call of flash-kmeans: rows, start and answer are batches of one problem."""
    torch = import_module("torch")
    if not torch.cuda.is_available():
        raise RuntimeError("torch sees no card")

    def place(X: FloatArray) -> Any:
        rows = torch.from_numpy(X).cuda()[None]
        return rows.to(torch.bfloat16) if in_bf16 else rows

    def fit(X: Any, start: FloatArray, n_iter: int) -> Answer:
        labels, centers, n_done = call(X, len(start), max_iters=n_iter, tol=0.0, init_centroids=place(start))
        torch.cuda.synchronize()
        return Answer(labels[0], centers[0].float() if in_bf16 else centers[0], int(n_done))

    return Contestant(name, fit, place=place, on_card=True, dtypes=("float32",), note=f"{_FLASH}{note}")


def _flash_kmeans() -> Contestant:
    return _flash("flash-kmeans", import_module("flash_kmeans").batch_kmeans_Euclid, "")


def _flashlib() -> Contestant:
    return _flash("flashlib", import_module("flashlib").flash_kmeans, "; float32 is multiplied as TF32")


def _flashlib_bf16() -> Contestant:
    note = "; rows and centers are rounded to bfloat16, and that is not timed"
    return _flash("flashlib, bf16", import_module("flashlib").flash_kmeans, note, in_bf16=True)


def _fastkmeans() -> Contestant:
    torch, fastkmeans = import_module("torch"), import_module("fastkmeans")

    def fit(X: Any, start: FloatArray, n_iter: int) -> Answer:
        model = fastkmeans.FastKMeans(X.shape[1], len(start), niter=n_iter, tol=-1.0)
        model.train(X)
        return Answer(model.predict(X), model.centroids, n_iter)

    note = "takes no start, begins from random rows of its own; labels of a pass of its own after the last iteration"
    on_card = bool(torch.cuda.is_available())
    return Contestant("fastkmeans", fit, on_card=on_card, dtypes=("float32",), note=note)


_PEERS: dict[str, tuple[str, Callable[[], Contestant]]] = {  # name -> module, adapter
    REFERENCE: ("sklearn", _scikit_learn),
    "cuML": ("cuml", _cuml),
    "faiss-gpu": ("faiss", _faiss),
    "flash-kmeans": ("flash_kmeans", _flash_kmeans),
    "flashlib": ("flashlib", _flashlib),
    "flashlib, bf16": ("flashlib", _flashlib_bf16),
    "fastkmeans": ("fastkmeans", _fastkmeans),
}


def contestants(backends: Sequence[str]) -> tuple[list[Contestant], dict[str, str]]:
    """Give those that can be measured here, and why the others cannot.

    Parameters
    ----------
    backends : sequence of str
        Names of backends that work here.

    Returns
    -------
    found : list of Contestant
    absent : dict of str to str
        From the name of a library to the reason.
    """
    found, absent = [entry for name in backends for entry in backend(name)], {}
    for name, (module, adapter) in _PEERS.items():
        if find_spec(module) is None:
            absent[name] = "not installed"
            continue
        try:
            found.append(adapter())
        except (ImportError, OSError, RuntimeError) as error:
            absent[name] = f"does not work here: {' '.join(str(error).split())}"
    return found, absent


def inertia(X: FloatArray, labels: Any, centers: Any) -> float:
    """Sum of squared distances in float64, by the same function for everybody."""
    total = 0.0
    for low in range(0, len(X), 10_000):
        part = slice(low, low + 10_000)
        difference = X[part].astype(np.float64) - centers[labels[part]]
        total += float(np.einsum("ij,ij->", difference, difference))
    return total
