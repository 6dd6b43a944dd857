"""The tree of a BisectingKMeans: nodes while it is fitted, arrays when it is done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .exact import FloatArray


@dataclass
class Node:
    """A cluster while it is fitted: a leaf, or divided into `left` and `right` by the two centers of a `pair`."""

    center: Any
    rows: NDArray[np.intp] | None  # of the data of the fit; None for all
    n_rows: int
    n_weighted: int  # those of positive weight
    score: float = 0.0
    inertia: float = 0.0
    pair: Any = None
    scale: int = 0
    left: Node | None = None
    right: Node | None = None

    def nodes(self) -> Iterator[Node]:
        """All, a node before those below it, and what is below `left` before what is below `right`."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            if node.left is not None and node.right is not None:
                waiting += [node.right, node.left]

    def leaves(self) -> Iterator[Node]:
        """From left to right."""
        return (node for node in self.nodes() if node.left is None)


@dataclass
class Tree:
    """The bisections of a fitted model, the first one first.

    Attributes
    ----------
    pairs : ndarray of shape (n_clusters - 1, 2, n_features)
        The two centers of each, of which a row goes to the nearer one.
    children : ndarray of int32, shape (n_clusters - 1, 2)
        Where its rows meet then: another bisection, or ``-1 - label``.
    scales : ndarray of int32, shape (n_clusters - 1,)
        Exponents of the power of two that rows are multiplied by at each.
    """

    pairs: FloatArray
    children: NDArray[np.int32]
    scales: NDArray[np.int32]

    @classmethod
    def of(cls, root: Node) -> Tree:
        """The tree below a node."""
        inner = [node for node in root.nodes() if node.left is not None]
        number = {id(node): i for i, node in enumerate(inner)}
        number |= {id(leaf): -1 - label for label, leaf in enumerate(root.leaves())}
        return cls(
            np.array([node.pair for node in inner], dtype=root.center.dtype).reshape(-1, 2, len(root.center)),
            np.array([[number[id(node.left)], number[id(node.right)]] for node in inner], np.int32).reshape(-1, 2),
            np.array([node.scale for node in inner], dtype=np.int32),
        )

    def is_whole(self) -> bool:
        """Whether each bisection and each label, counted from the left, is met once."""
        found, next_label, waiting = 0, 0, [0 if len(self.children) else -1]
        while waiting:
            at = waiting.pop()
            if at < 0:
                if at != -1 - next_label:
                    return False
                next_label += 1
            else:
                if at != found or at >= len(self.children):
                    return False
                found += 1
                waiting += self.children[at, ::-1].tolist()
        return found == len(self.children)
