"""KMeans on a cluster of workers (dask.distributed): the bits of one machine, for any workers and any chunks."""

from __future__ import annotations

import functools
import uuid
import warnings
from typing import Any, NoReturn

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from . import kmeans
from ._base import start_centers
from ._chunks import Job, load
from ._cluster import Chunks, ClusterBackend, Shape
from .checkpoint import Watch
from .history import History
from .lloyd import Result
from .prepare import mean_variance, prepare
from .runs import Runs, in_user_units, too_few_clusters
from .sources import is_source
from .validation import (
    check_enough_samples,
    check_init_centers,
    check_parameters,
    check_rng,
    check_sample_weight,
    parameter_names,
)

__all__ = ["KMeans"]

CHUNK_BYTES = 128 << 20
"""Of a chunk of a source: some seconds of reading, and small beside the memory of a worker."""


class _Runs(Runs):
    """Runs whose labels are compared where they are."""

    def is_same(self, result: Result, best: Result) -> bool:
        assert isinstance(self.backend, ClusterBackend)
        (rows,) = self.data.blocks
        return self.backend.is_same_clustering(rows, best.centers, self.n_clusters)


class KMeans(kmeans.KMeans):
    """K-means clustering of rows that lie on the workers of a cluster.

    Labels, centers, inertia and iterations have the bits of :class:`gpukmeans.KMeans` on one machine, whatever the
    number of workers and chunks, also after a worker has died, all of them have, or one has joined.

    Parameters
    ----------
    n_clusters, init, n_init, max_iter, tol, verbose, random_state, copy_x, algorithm, precision
        As in :class:`gpukmeans.KMeans`. A callable `init` is given the dask array or the source.
    backend : {'auto', 'cupy', 'numba-cuda', 'numba', 'numpy'}, default='auto'
        What each worker uses: 'auto' is its card if it has one. Workers may differ.
    client : distributed.Client, default=None
        None is the current one.

    Attributes
    ----------
    cluster_centers_, inertia_, n_iter_, n_features_in_, history_, n_rechecked_
        As in :class:`gpukmeans.KMeans`, on the client.
    labels_ : dask array of int32, shape (n_samples,)
        Computed when it is asked for, on the workers, chunk by chunk.
    backend_ : str
        'dask'.

    See Also
    --------
    gpukmeans.open_source : Files and folders, which the workers read themselves.

    Notes
    -----
    An iteration is a task for each chunk, which gives integer sums; a tree of tasks adds them, and the client makes
    the new centers. k-means++ is three rounds of tasks for each cluster; with hundreds of clusters
    ``init="k-means||"`` takes less, and holds 24 bytes a row on the client while it chooses.

    Chunks stay in the memory of the workers, which Dask writes to disk where it does not do, and beside them what
    :class:`gpukmeans.KMeans` holds for each row. Weights are held by the client, 8 bytes a row.

    What a worker keeps between tasks can be made anew from what the next task brings, so a worker that dies takes only
    time with it. That holds for the rows, too, if they are read or computed on the workers; an array that was sent to
    them from the client's memory is lost with them.

    Examples
    --------
    >>> import dask.array as da
    >>> from distributed import Client
    >>> from gpukmeans.dask import KMeans
    >>> with Client(n_workers=1, processes=False, dashboard_address=":0") as client:
    ...     X = da.random.default_rng(0).normal(size=(1000, 2), chunks=(250, 2))
    ...     model = KMeans(3, random_state=0, backend="numpy").fit(X)
    ...     labels = model.labels_.compute()
    >>> labels.shape
    (1000,)
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means++",
        n_init: Any = "auto",
        max_iter: int = 300,
        tol: float = 1e-4,
        verbose: int = 0,
        random_state: Any = None,
        copy_x: bool = True,
        algorithm: str = "lloyd",
        backend: str = "auto",
        precision: str = "exact",
        client: Any = None,
    ) -> None:
        super().__init__(
            n_clusters, init=init, n_init=n_init, max_iter=max_iter, tol=tol, verbose=verbose,
            random_state=random_state, copy_x=copy_x, algorithm=algorithm, backend=backend, precision=precision,
        )  # fmt: skip
        self.client = client

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> KMeans:  # type: ignore[override]
        """Compute the clusters.

        Parameters
        ----------
        X : dask array or Source of shape (n_samples, n_features)
            Rows are in chunks; columns are put together. Of a source (see :func:`gpukmeans.open_source`; it must be
            possible to pickle it) the workers read chunks of 128 MB.
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : KMeans
            Fitted.

        Raises
        ------
        ValueError
            As :meth:`gpukmeans.KMeans.fit`; also for a dask array that does not know how long its chunks are.
        DataFileError
            If a worker cannot read a chunk; the message names the file.
        ClusterLostError
            If the rows are lost and cannot be made again, or a chunk kills every worker that takes it.
        """
        check_parameters("KMeans", **self._own_parameters())
        client = _client(self.client)
        job = Job(uuid.uuid4().hex, self.backend, self.precision, self.n_clusters)
        device = ClusterBackend(client, job)
        try:
            return self._fit_on(device, _chunks_of(client, X), X, sample_weight)
        finally:
            device.release()

    def _fit_on(self, device: ClusterBackend, chunks: Chunks, given: Any, sample_weight: Any) -> KMeans:
        n_samples, n_features = chunks.shape
        check_enough_samples(n_samples, self.n_clusters)
        weights = check_sample_weight(sample_weight, n_samples)
        rng = check_rng(self.random_state)
        init = self.init
        if not isinstance(init, str) and not callable(init):
            init = check_init_centers(init, chunks, self.n_clusters)  # type: ignore[arg-type]
        n_init = self._n_runs(init, auto=10)
        data = prepare(device, chunks, weights, None)
        threshold = self.tol * mean_variance(device, data) if self.tol > 0 else 0.0
        (rows,) = data.blocks
        start = functools.partial(start_centers, device, data, given, init, self.n_clusters, rng)
        prints = self.verbose == 1
        runs = _Runs(device, data, chunks.dtype, start, self.n_clusters, rng, n_init, threshold, self.max_iter, prints)
        best = runs.best(None, Watch())
        device.assign(rows, best.centers)
        n_found = device.used(rows, self.n_clusters)
        if n_found < self.n_clusters:
            warnings.warn(too_few_clusters(n_found, self.n_clusters), ConvergenceWarning, stacklevel=3)
        self.n_features_in_ = n_features
        self.cluster_centers_ = data.unscaled(best.centers, chunks.dtype)
        self.inertia_ = data.unscaled_sq(best.inertia, weighted=True)
        self.n_iter_, self.n_rechecked_, self.backend_ = best.n_iter, best.n_rechecked, device.name
        self.history_ = History(in_user_units(data, record) for record in best.history)
        self._scale_exponent = data.scale
        self.labels_ = self.predict(given)
        return self

    def predict(self, X: Any, *, out: Any = None) -> Any:
        """Nearest center of each row, ties to the lowest index.

        Parameters
        ----------
        X : dask array, Source, or what :meth:`gpukmeans.KMeans.predict` takes
        out : path, default=None
            As there.

        Returns
        -------
        labels : dask array of int32, shape (n_samples,)
            Not computed yet. Of an array in memory the labels themselves, in its kind.
        """
        if out is None and (_is_dask(X) or is_source(X)):
            return _by_chunk(self._local(), "predict", X, (), np.dtype(np.int32))
        return self._local().predict(X, out=out)

    def transform(self, X: Any) -> Any:
        """Distances (not squared) of each row to each center.

        Parameters
        ----------
        X : dask array, Source, or what :meth:`gpukmeans.KMeans.transform` takes

        Returns
        -------
        X_new : dask array of shape (n_samples, n_clusters)
            Not computed yet. Of an array in memory the distances themselves.
        """
        if _is_dask(X) or is_source(X):
            dtype = np.dtype(np.float32 if X.dtype.kind == "f" and X.dtype.itemsize < 8 else np.float64)
            return _by_chunk(self._local(), "transform", X, (self.cluster_centers_.shape[0],), dtype)
        return self._local().transform(X)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Opposite of the inertia of X.

        Parameters
        ----------
        X : dask array, Source, or what :meth:`gpukmeans.KMeans.score` takes
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        score : float
        """
        if not (_is_dask(X) or is_source(X)):
            return self._local().score(X, sample_weight=sample_weight)
        self._local()
        client = _client(self.client)
        job = Job(uuid.uuid4().hex, self.backend, self.precision, self.cluster_centers_.shape[0])
        device = ClusterBackend(client, job)
        try:
            chunks = device.scaled(_chunks_of(client, X), self._scale_exponent)
            blocks = device.blocks(chunks, check_sample_weight(sample_weight, chunks.shape[0]))
            centers = np.ldexp(np.ascontiguousarray(self.cluster_centers_, dtype=np.float64), self._scale_exponent)
            device.assign(blocks[0], centers)
            inertia = device.total_inertia(blocks, centers)
        finally:
            device.release()
        with np.errstate(over="ignore"):
            return -float(np.ldexp(inertia, -2 * self._scale_exponent))

    def plan(self, X: Any, sample_weight: Any = None) -> NoReturn:
        """Not for a cluster."""
        raise NotImplementedError("A plan is made for one machine: see gpukmeans.KMeans.plan.")

    def set_callbacks(self, *callbacks: Any) -> NoReturn:
        """Not for a cluster."""
        raise NotImplementedError("Callbacks are told of fits on one machine only; verbose=1 prints the iterations.")

    def _own_parameters(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in parameter_names(type(self)) if name != "client"}

    def _local(self) -> kmeans.KMeans:
        """The model without the cluster, as it is sent to the workers."""
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        model = kmeans.KMeans(**self._own_parameters())
        for name in ("cluster_centers_", "inertia_", "n_iter_", "n_features_in_", "_scale_exponent"):
            setattr(model, name, getattr(self, name))
        return model


def _client(client: Any) -> Any:
    try:
        from distributed import Client, get_client
    except ImportError as error:
        raise ImportError("gpukmeans.dask needs dask.distributed: pip install 'gpukmeans[dask]'.") from error
    if client is not None:
        if not isinstance(client, Client):
            raise TypeError(f"client must be a distributed.Client. Got {client!r} instead.")
        return client
    try:
        return get_client()
    except ValueError as error:
        raise ValueError(
            "There is no Dask client: start one with distributed.Client(), or pass client=. Without a cluster "
            "gpukmeans.KMeans takes dask arrays, too."
        ) from error


def _is_dask(X: Any) -> bool:
    from .sources import _is

    return _is(X, "dask.array", "Array")


def _in_rows(X: Any) -> Any:
    """A dask array whose chunks are whole rows."""
    if X.ndim != 2:
        raise ValueError(f"Expected 2D array, got {X.ndim}D array instead: X has the shape {X.shape}.")
    if any(np.isnan(size) for size in X.shape):
        raise ValueError(
            "The dask array does not know how many rows its chunks have: call compute_chunk_sizes() on it."
        )
    if X.dtype.kind not in "fiub":
        raise ValueError(f"X has the dtype {X.dtype}: k-means needs numbers.")
    return X.rechunk({1: -1})


def _chunks_of(client: Any, X: Any) -> Chunks:
    """The rows as results of tasks."""
    if _is_dask(X):
        X = _in_rows(X)
        parts = [part for part, size in zip(X.to_delayed().ravel(), X.chunks[0], strict=True) if size]
        sizes = [size for size in X.chunks[0] if size]
        futures, ends = client.compute(parts), np.cumsum(sizes, dtype=np.int64)

        def where(start: int, stop: int) -> str:
            return ""

    elif is_source(X) and hasattr(X, "read") and hasattr(X, "where"):
        starts = _starts(X)
        ends = np.array([*starts[1:], X.shape[0]], dtype=np.int64)
        futures = [client.submit(load, X, a, b, pure=False) for a, b in zip(starts, ends.tolist(), strict=True)]
        where = X.where
    else:
        raise TypeError(
            f"X must be a dask array or a source of gpukmeans.open_source. Got {type(X).__name__} instead. An array in "
            "memory is for gpukmeans.KMeans; to spread it over the workers, which lose it when they die, take "
            "dask.array.from_array."
        )
    dtype = np.dtype(np.float32 if X.dtype.kind == "f" and X.dtype.itemsize < 8 else np.float64)
    return Chunks(Shape((int(X.shape[0]), int(X.shape[1])), dtype), futures, ends, where)


def _starts(source: Any) -> list[int]:
    """First rows of the chunks of a source."""
    n_samples, n_features = source.shape
    return list(range(0, n_samples, max(1, CHUNK_BYTES // (n_features * source.dtype.itemsize))))


def _by_chunk(model: kmeans.KMeans, verb: str, X: Any, more: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """What a verb of the model gives of each chunk, as a dask array that is not computed yet."""
    import dask.array
    from dask.delayed import delayed

    da: Any = dask.array  # partly untyped

    call = functools.partial(_call, model, verb)
    if _is_dask(X):
        X = _in_rows(X)
        shape = (X.chunks[0], *((size,) for size in more))
        meta = np.empty((0,) * len(shape), dtype)
        options = {"chunks": shape} if more else {"drop_axis": 1}
        return X.map_blocks(call, dtype=dtype, meta=meta, **options)
    starts = _starts(X)
    sizes = np.diff([*starts, X.shape[0]]).tolist()
    read, done = delayed(load), delayed(call)
    parts = [
        da.from_delayed(done(read(X, a, a + m)), (m, *more), dtype=dtype)
        for a, m in zip(starts, sizes, strict=True)
    ]
    return da.concatenate(parts)


def _call(model: kmeans.KMeans, verb: str, rows: Any) -> Any:
    if not len(rows):
        return getattr(model, verb)(np.zeros((1, rows.shape[1]), rows.dtype))[:0]
    return getattr(model, verb)(rows)
