"""BisectingKMeans: one cluster after the other is divided in two by a KMeans of its own."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from . import exact
from ._base import CentersEstimator
from ._tree import Node, Tree
from .arrays import caller, is_cupy, like, namespace, to_host
from .backends import Work, get_backend
from .exact import Float64Array, FloatArray
from .kmeans import KMeans
from .prepare import check_finite
from .validation import (
    check_data,
    check_enough_samples,
    check_parameters,
    check_rng,
    check_sample_weight,
    parameter_names,
)


class BisectingKMeans(CentersEstimator):
    """K-means by bisection: the cluster with the largest inertia (or the most rows) is divided in two, again and again.

    A replacement of :class:`sklearn.cluster.BisectingKMeans`. Exact: each bisection has the bits of
    ``KMeans(n_clusters=2)`` on the rows of that cluster, on every backend. Clusters are of more even size than those
    of :class:`KMeans`, and form a tree; for many clusters it compares each row with few centers.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters: leaves of the tree.
    init : {'k-means++', 'random'} or callable, default='random'
        Where the two centers of a bisection start, as in :class:`KMeans`; a callable is called with n_clusters=2.
    n_init : int, default=1
        Starts for each bisection, of which the one with the lowest inertia is kept.
    random_state : int, RandomState instance, numpy Generator or None, default=None
        Draws the starts; the draws are scikit-learn's. Pass an int for the same result at every call.
    max_iter : int, default=300
        Most iterations of a bisection.
    verbose : int, default=0
        1 prints the text of :class:`KMeans` for each bisection.
    tol : float, default=1e-4
        A bisection stops when the squared distance that its two centers moved is at most `tol` times the mean variance
        of the features of its rows, as in :class:`KMeans`. (In scikit-learn `tol` itself is the bound here.)
    copy_x : bool, default=True
        Accepted for scikit-learn's sake: X is never changed.
    algorithm : {'lloyd', 'elkan'}, default='lloyd'
        Both give the same bits.
    bisecting_strategy : {'biggest_inertia', 'largest_cluster'}, default='biggest_inertia'
        Which cluster is divided next: the one with the largest inertia, or with the most rows; of equals the first
        from the left of the tree.
    backend : {'auto', 'cupy', 'numba-cuda', 'numba', 'numpy', 'cupy:all'}, default='auto'
        Where the work is done, as in :class:`KMeans`; with 'auto' each bisection is placed by its size.
    precision : {'exact', 'float32'}, default='exact'
        As in :class:`KMeans`.

    Attributes
    ----------
    cluster_centers_ : array of shape (n_clusters, n_features)
        Of the leaves, from left to right, in the dtype and the kind of X.
    labels_ : array of int32, shape (n_samples,)
        Leaf of each row: what `predict` gives, which need not be the nearest center.
    inertia_ : float
        Sum of the squared distances of rows to the center of their leaf, times their weights.
    n_features_in_ : int
    feature_names_in_ : ndarray of str, shape (n_features,)
        If X had names for its columns.
    backend_ : str
        Name of the backend that did the first bisection, or the only cluster.

    See Also
    --------
    KMeans : All clusters at once.

    Notes
    -----
    Memory: as :class:`KMeans`, and a copy of the rows of the cluster that is divided with 8 bytes a row for their
    numbers. Data on a card of another kind than CuPy's is copied to the host once, from where bisections are streamed.
    Rows of 16 bits are copied in float32, but not for `predict`, `transform` and `score`.

    Rows of weight 0 get a label and change nothing. `transform` and `score` know no tree: `score` is by the nearest of
    all centers, as in scikit-learn.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans import BisectingKMeans
    >>> X = np.array([[1, 1], [10, 1], [3, 1], [10, 0], [2, 1], [10, 2], [10, 8], [10, 9], [10, 10]])
    >>> model = BisectingKMeans(n_clusters=3, random_state=0).fit(X)
    >>> model.labels_
    array([0, 2, 0, 2, 0, 2, 1, 1, 1], dtype=int32)
    >>> model.predict([[0, 0], [12, 3]])
    array([0, 2], dtype=int32)
    """

    _tree: Tree

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "random",
        n_init: int = 1,
        random_state: Any = None,
        max_iter: int = 300,
        verbose: int = 0,
        tol: float = 1e-4,
        copy_x: bool = True,
        algorithm: str = "lloyd",
        bisecting_strategy: str = "biggest_inertia",
        backend: str = "auto",
        precision: str = "exact",
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.random_state = random_state
        self.max_iter = max_iter
        self.verbose = verbose
        self.tol = tol
        self.copy_x = copy_x
        self.algorithm = algorithm
        self.bisecting_strategy = bisecting_strategy
        self.backend = backend
        self.precision = precision

    # ---- fit
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> BisectingKMeans:
        """Divide X into clusters.

        Parameters
        ----------
        X : {array-like, sparse matrix, device array} of shape (n_samples, n_features)
            As in :meth:`KMeans.fit`.
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None
            At least 0, and positive for at least `n_clusters` rows. A row of weight 2 counts as two rows.

        Returns
        -------
        self : BisectingKMeans
            Fitted.

        Raises
        ------
        ValueError
            For NaN or infinity in X (row and column are named), fewer rows (of positive weight) than clusters, or
            wrong weights.
        """
        check_parameters("BisectingKMeans", **{name: getattr(self, name) for name in parameter_names(type(self))})
        with caller(X):
            return self._fit(X, sample_weight)

    def _fit(self, given: Any, sample_weight: Any) -> BisectingKMeans:
        X = check_data(given, estimator=self, reset=True)
        n_samples = X.shape[0]
        check_enough_samples(n_samples, self.n_clusters)
        weights = check_sample_weight(sample_weight, n_samples)
        n_weighted = n_samples if weights is None else int(np.count_nonzero(weights))
        if n_weighted < self.n_clusters:
            raise ValueError(
                f"Only {n_weighted} rows have a positive weight, fewer than n_clusters={self.n_clusters}: a cluster "
                "needs such a row. Ask for fewer clusters, or give more rows a weight."
            )
        X = X if is_cupy(X) else to_host(X)
        rng = check_rng(self.random_state)
        # looks through X too, and says what is wrong with it
        whole = self._model(1, verbose=0, algorithm="lloyd", random_state=0).fit(given, sample_weight=weights)
        root = Node(to_host(whole.cluster_centers_)[0], None, n_samples, n_weighted, inertia=whole.inertia_)
        backend = whole.backend_
        for i in range(self.n_clusters - 1):
            divisible = [leaf for leaf in root.leaves() if leaf.n_weighted > 1]
            model = self._divide(max(divisible, key=lambda leaf: leaf.score), X, weights, rng)
            backend = model.backend_ if i == 0 else backend
        labels = np.empty(n_samples, dtype=np.int32)
        leaves = list(root.leaves())
        for label, leaf in enumerate(leaves):
            labels[slice(None) if leaf.rows is None else leaf.rows] = label
        self._tree = Tree.of(root)
        self.cluster_centers_ = like(np.stack([leaf.center for leaf in leaves]), given)
        self.labels_ = like(labels, given)
        self.inertia_ = exact.tree_sum(np.array([leaf.inertia for leaf in leaves]))
        self.backend_ = backend
        self._scale_exponent = whole._scale_exponent
        n_found = len(np.unique(labels))
        if n_found < self.n_clusters:
            warnings.warn(
                f"Number of distinct clusters ({n_found}) found smaller than n_clusters ({self.n_clusters}). "
                "Possibly due to duplicate points in X.",
                ConvergenceWarning,
                stacklevel=3,
            )
        return self

    def _model(self, n_clusters: int, **parameters: Any) -> KMeans:
        names = ("max_iter", "verbose", "tol", "algorithm", "backend", "precision")
        return KMeans(n_clusters, **{name: getattr(self, name) for name in names} | parameters)

    def _divide(self, node: Node, X: Any, weights: Float64Array | None, rng: Any) -> KMeans:
        """Make two leaves of one."""
        part, part_weights = _rows(X, node.rows), weights if weights is None else _rows(weights, node.rows)
        model = self._model(2, init=self.init, n_init=self.n_init, random_state=rng)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # said once, at the end
            model.fit(part, sample_weight=part_weights)
        labels, centers = to_host(model.labels_), to_host(model.cluster_centers_)
        leaves = []
        for label in (0, 1):
            here = np.flatnonzero(labels == label)
            n_weighted = len(here) if part_weights is None else int(np.count_nonzero(part_weights[here]))
            leaf = Node(centers[label], here if node.rows is None else node.rows[here], len(here), n_weighted)
            if len(here):
                of_leaf = part_weights if part_weights is None else part_weights[here]
                leaf.inertia = self._inertia(_rows(part, here), of_leaf, leaf.center, model._scale_exponent)
            leaf.score = leaf.inertia if self.bisecting_strategy == "biggest_inertia" else leaf.n_rows
            leaves.append(leaf)
        node.pair, node.scale, node.rows, (node.left, node.right) = centers, model._scale_exponent, None, leaves
        return model

    def _inertia(self, X: Any, weights: Float64Array | None, center: FloatArray, scale: int) -> float:
        """Of rows that have one center."""
        backend = get_backend(self.backend, self.precision, Work.of(X, 1, n_passes=1))
        blocks = backend.blocks(backend.scaled(backend.accept(X), scale), weights)
        centers = np.ldexp(center[None], scale).astype(np.float64)
        for rows in blocks:
            backend.assign(rows, centers)
        with np.errstate(over="ignore"):
            return float(np.ldexp(backend.total_inertia(blocks, centers), -2 * scale))

    # ---- use
    def predict(self, X: Any, *, out: Any = None) -> Any:
        """Leaf of each row: down the tree, at each bisection to the nearer of its two centers.

        Parameters
        ----------
        X : {array-like, sparse matrix, device array, Source} of shape (n_samples, n_features)
        out : path, default=None
            With a source: a file to write the labels to as they come (.npy, .csv, .txt), whole or not at all.

        Returns
        -------
        labels : array of int32, shape (n_samples,)
            In the kind of X; with `out` a map of that file, or None if it is a text. For the rows of the fit they are
            `labels_`.
        """
        return super().predict(X, out=out)

    def _labels_of(self, X: Any, origin: Any) -> Any:
        backend = get_backend(self.backend, self.precision, Work.of(X, 1, n_passes=1))
        X = backend.accept(X)
        check_finite(backend, backend.blocks(X), origin, "X", getattr(self, "feature_names_in_", None))
        return self._descend(X if is_cupy(X) else to_host(X))

    def _descend(self, X: Any) -> NDArray[np.int32]:
        labels, tree = np.empty(X.shape[0], dtype=np.int32), self._tree
        waiting = [(0 if len(tree.pairs) else -1, X, np.arange(X.shape[0]))]
        while waiting:
            node, rows, at = waiting.pop()
            if node < 0:
                labels[at] = -1 - node
                continue
            model = self._model(2, verbose=0)
            model.cluster_centers_, model._scale_exponent = tree.pairs[node], int(tree.scales[node])
            model.n_features_in_ = X.shape[1]
            sides = to_host(model.predict(rows))
            for side in (0, 1):
                here = np.flatnonzero(sides == side)
                if len(here):
                    waiting.append((int(tree.children[node, side]), _rows(rows, here), at[here]))
        return labels


def _rows(X: Any, rows: Any) -> Any:
    return X if rows is None else X[namespace(X).asarray(rows)]
