"""The iterations of a fit as a small table."""

from __future__ import annotations

from typing import Any

from .lloyd import Iteration


class History(list[Iteration]):
    """A list of :class:`gpukmeans.lloyd.Iteration`, one record an iteration, that prints as a table.

    Examples
    --------
    >>> from gpukmeans import KMeans
    >>> model = KMeans(2, random_state=0).fit([[1.0], [2.0], [4.0], [7.0], [9.0]])
    >>> model.history_.column("n_moved")
    [5, 0]
    """

    def column(self, name: str) -> list[Any]:
        """Give one value of each iteration.

        Parameters
        ----------
        name : str
            'shift_sq', 'n_moved', 'n_rechecked', 'seconds' or 'inertia'.

        Returns
        -------
        values : list
        """
        return [getattr(record, name) for record in self]

    def to_pandas(self) -> Any:
        """Give the table as a pandas.DataFrame, indexed by the number of the iteration, which counts from 0.

        Returns
        -------
        frame : pandas.DataFrame
        """
        import pandas

        index = pandas.RangeIndex(len(self), name="iteration")
        return pandas.DataFrame(list(self), columns=list(Iteration._fields), index=index)

    def __repr__(self) -> str:
        names = [name for name in Iteration._fields if not all(value is None for value in self.column(name))]
        rows = [["iteration", *names]]
        rows += [[str(i), *(_text(getattr(record, name)) for name in names)] for i, record in enumerate(self)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.rjust, row, widths)) for row in rows)


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
