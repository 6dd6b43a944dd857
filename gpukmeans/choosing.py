"""How many clusters: fits for a range of them, judged by several criteria."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import metrics
from .arrays import to_host
from .exact import FloatArray
from .kmeans import KMeans
from .pairwise import pairwise_distances_argmin_min
from .validation import InvalidParameterError, check_data, check_rng

__all__ = ["CRITERIA", "KChoice", "choose_k"]

DEFAULT = ("silhouette", "elbow", "gap", "davies_bouldin", "calinski_harabasz")
CRITERIA = (*DEFAULT, "simplified_silhouette")
"""Names that `choose_k` takes."""
N_REFERENCES = 10
"""Sets of uniform rows that the gap statistic compares with."""


@dataclass(frozen=True)
class KChoice:
    """What :func:`choose_k` found.

    Attributes
    ----------
    k : int
        The number of clusters that is recommended.
    reason : str
        Why, in a sentence.
    votes : dict of str to (int or None)
        The number that each criterion would choose; None where it finds none.
    table : dict of str to list
        One column each for ``n_clusters``, ``inertia``, and each criterion's numbers (``gap`` with ``gap_error``).
    models : dict of int to KMeans
        The fit for each number of clusters.
    """

    k: int
    reason: str
    votes: dict[str, int | None]
    table: dict[str, list[Any]]
    models: dict[int, KMeans]

    @property
    def model(self) -> KMeans:
        """The fit of the recommended number of clusters."""
        return self.models[self.k]

    def to_pandas(self) -> Any:
        """Give the table as a pandas.DataFrame, indexed by the number of clusters."""
        import pandas

        return pandas.DataFrame(self.table).set_index("n_clusters")

    def __str__(self) -> str:
        names = list(self.table)
        rows = [names, *([_text(self.table[name][i]) for name in names] for i in range(len(self.models)))]
        widths = [max(len(row[c]) for row in rows) for c in range(len(names))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join([*lines, f"k = {self.k}: {self.reason}"])


def _text(value: Any) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def choose_k(
    X: Any,
    k_range: Iterable[int] = range(2, 11),
    criteria: Sequence[str] = DEFAULT,
    *,
    n_init: int = 1,
    random_state: Any = None,
    on_fit: Callable[[int], object] | None = None,
    **parameters: Any,
) -> KChoice:
    """Fit every number of clusters in a range and recommend one.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Data on a card is fitted there and judged on the host.
    k_range : iterable of int, default=range(2, 11)
        Numbers of clusters, at least 2 and less than n_samples; at least two of them.
    criteria : sequence of str, default=('silhouette', 'elbow', 'gap', 'davies_bouldin', 'calinski_harabasz')
        And 'simplified_silhouette', which is the one for many rows.

        * silhouette, simplified_silhouette, calinski_harabasz: the largest; davies_bouldin: the smallest.
        * elbow: where the inertia lies farthest below the line from its first to its last value.
        * gap: the smallest k whose gap is at least that of the next k less its error; none if there is no such k.
    n_init : int, default=1
        Runs from k-means++ for each k. One more starts at the centers of the k before and rows far from them, so that
        the inertia does not rise with k.
    random_state : int, RandomState instance, numpy Generator or None, default=None
        Draws the starts, and the rows that the gap statistic compares with.
    on_fit : callable, optional
        Called with k after each fit of X, to show progress.
    **parameters
        Of :class:`KMeans`: backend, max_iter, tol, ...

    Returns
    -------
    choice : KChoice
        The number with the most votes; of several such numbers the one of the criterion that is named first.
        ``print(choice)`` shows the table and the reason.

    Raises
    ------
    ValueError
        For bad data, an unknown criterion, or a number of clusters that is out of range.

    Notes
    -----
    Costs the fits; 'gap' 10 more fits of as many uniform rows for each k; 'silhouette' O(n_samples**2 n_features) for
    each k, which from 100,000 rows on takes minutes: take 'simplified_silhouette' there.
    Nothing is sampled: all criteria look at all rows.

    References
    ----------
    .. [1] R. Tibshirani, G. Walther, T. Hastie, "Estimating the number of clusters in a data set via the gap
       statistic", J. Royal Stat. Soc. B 63, 2001.
    .. [2] V. Satopaa et al., "Finding a 'kneedle' in a haystack", ICDCS Workshops 2011.

    Examples
    --------
    >>> from gpukmeans import choose_k
    >>> from gpukmeans.datasets import make_blobs
    >>> X, _ = make_blobs(500, 2, centers=4, random_state=1)
    >>> choose_k(X, range(2, 8), random_state=0).k
    4
    """
    wrong = [name for name in criteria if name not in CRITERIA]
    if wrong or not criteria:
        raise InvalidParameterError(
            f"The 'criteria' parameter of choose_k must be some of {', '.join(CRITERIA)}. "
            f"Got {list(criteria)!r} instead."
        )
    ks = sorted(set(k_range))
    checked = check_data(X)
    if len(ks) < 2 or ks[0] < 2 or ks[-1] >= checked.shape[0]:
        raise InvalidParameterError(
            "The 'k_range' parameter of choose_k must hold at least two numbers of clusters from 2 to "
            f"n_samples - 1 = {checked.shape[0] - 1}. Got {ks!r} instead."
        )
    rng = check_rng(random_state)
    models = _fits(X, ks, n_init, rng, parameters, on_fit)
    host = to_host(checked)
    table: dict[str, list[Any]] = {"n_clusters": ks, "inertia": [models[k].inertia_ for k in ks]}
    votes: dict[str, int | None] = {}
    for name in criteria:
        votes[name] = _JUDGES[name](name, host, models, table, rng, parameters)
    k, reason = _verdict(votes, ks)
    return KChoice(k, reason, votes, table, models)


def _fits(
    X: Any, ks: list[int], n_init: int, rng: Any, parameters: dict[str, Any], on_fit: Callable[[int], object] | None
) -> dict[int, KMeans]:
    models: dict[int, KMeans] = {}
    before: KMeans | None = None
    for k in ks:
        model = KMeans(k, n_init=n_init, random_state=rng, **parameters).fit(X)
        if before is not None:
            start = _start_from(before, X, k - before.n_clusters, rng)
            warm = KMeans(k, init=start, n_init=1, **parameters).fit(X)
            model = warm if warm.inertia_ < model.inertia_ else model
        models[k] = before = model
        if on_fit is not None:
            on_fit(k)
    return models


def _start_from(model: KMeans, X: Any, n_more: int, rng: Any) -> FloatArray:
    """Its centers, and so many rows, each the more likely the farther it is from its center."""
    centers = to_host(model.cluster_centers_)
    sq = to_host(pairwise_distances_argmin_min(X, centers, metric="sqeuclidean", backend=model.backend)[1])
    sq += np.finfo(float).tiny  # also rows that lie on a center can be drawn
    rows = check_data(X)[rng.choice(len(sq), n_more, replace=False, p=sq / sq.sum())]
    return np.concatenate([centers, to_host(rows if not hasattr(rows, "toarray") else rows.toarray())])


# ------------------------------------------------------------------------------------------------ criteria
_Table = dict[str, list[Any]]


def _by_score(name: str, X: Any, models: dict[int, KMeans], table: _Table, rng: Any, parameters: Any) -> int | None:
    scores, backend = [], parameters.get("backend", "auto")
    for model in models.values():
        if name == "simplified_silhouette":
            scores.append(metrics.simplified_silhouette_score(X, to_host(model.cluster_centers_), backend=backend))
        else:
            score: Any = getattr(metrics, f"{name}_score")
            labels = to_host(model.labels_)
            # duplicates: fewer clusters than asked for, and what is judged is less than two of them
            scores.append(score(X, labels, backend=backend) if len(np.unique(labels)) > 1 else math.nan)
    table[name] = scores
    if np.isnan(scores).all():
        return None
    best = np.nanargmin(scores) if name == "davies_bouldin" else np.nanargmax(scores)
    return list(models)[int(best)]


def _elbow(name: str, X: Any, models: dict[int, KMeans], table: _Table, rng: Any, parameters: Any) -> int | None:
    ks, inertia = np.array(list(models), dtype=float), np.array(table["inertia"])
    if inertia[0] <= inertia[-1]:
        table[name] = [0.0] * len(ks)
        return None
    below = 1 - (ks - ks[0]) / (ks[-1] - ks[0]) - (inertia - inertia[-1]) / (inertia[0] - inertia[-1])
    table[name] = below.tolist()
    return int(ks[int(below.argmax())]) if below.max() > 0 else None


def _gap(name: str, X: Any, models: dict[int, KMeans], table: _Table, rng: Any, parameters: Any) -> int | None:
    values = X if isinstance(X, np.ndarray) else X.toarray()
    low, high = values.min(axis=0), values.max(axis=0)
    logs = np.empty((N_REFERENCES, len(models)))
    for reference in logs:
        rows: FloatArray = (low + (high - low) * rng.random(size=values.shape)).astype(values.dtype)
        for i, k in enumerate(models):
            reference[i] = _log(KMeans(k, n_init=1, random_state=rng, **parameters).fit(rows).inertia_)
    gaps = logs.mean(axis=0) - np.array([_log(inertia) for inertia in table["inertia"]])
    errors = logs.std(axis=0) * math.sqrt(1 + 1 / N_REFERENCES)
    table["gap"], table["gap_error"] = gaps.tolist(), errors.tolist()
    enough = np.flatnonzero(gaps[:-1] >= gaps[1:] - errors[1:])
    return list(models)[int(enough[0])] if len(enough) else None


def _log(inertia: float) -> float:
    return math.log(max(inertia, np.finfo(float).tiny))


_JUDGES: dict[str, Callable[..., int | None]] = dict.fromkeys(CRITERIA, _by_score) | {"elbow": _elbow, "gap": _gap}


def _verdict(votes: dict[str, int | None], ks: list[int]) -> tuple[int, str]:
    """The number with the most votes, and why in words."""
    cast = [k for k in votes.values() if k is not None]
    if not cast:
        return ks[0], "no criterion finds a number of clusters in this range; the smallest one is given."
    most = max(cast.count(k) for k in cast)
    k = next(k for k in cast if cast.count(k) == most)
    names = [name for name, vote in votes.items() if vote == k]
    said = f"{_list(names)} {'agree' if len(names) > 1 else 'says so'}"
    others = [f"{name} {'finds none' if vote is None else f'says {vote}'}" for name, vote in votes.items() if vote != k]
    return k, f"{said}; {', '.join(others)}." if others else f"{said}."


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
