"""scikit-learn's callbacks (its version 1.9 has them): the tasks of a fit, as its callbacks are told of them.

A fit has the task "fit", below it one "start" for each run from another start, below these their "iteration" tasks.
Nothing of it is imported for an estimator without callbacks.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

Attributes = Callable[[], dict[str, Any]]


def set_callbacks(estimator: Any, callbacks: tuple[Any, ...]) -> None:
    """Leave callbacks with an estimator, as scikit-learn's own do."""
    _of_scikit_learn().CallbackSupportMixin.set_callbacks(estimator, *callbacks)


def _of_scikit_learn() -> Any:
    try:
        return import_module("sklearn.callback")
    except ImportError:
        raise ImportError(
            "Callbacks need scikit-learn 1.9 or newer (pip install --upgrade scikit-learn); "
            "verbose=2 shows how far a fit is with any version."
        ) from None


def fit_with(estimator: Any, y: Any, fit: Callable[[Tasks | None], Any]) -> Any:
    """Call ``fit(tasks)``, and tear callbacks down after it, whatever happens; without callbacks there are no tasks."""
    if not getattr(estimator, "_skl_callbacks", None):
        return fit(None)
    return _of_scikit_learn().with_callbacks(lambda estimator: fit(Tasks(estimator, y)))(estimator)


class Tasks:
    """The tasks of one fit."""

    def __init__(self, estimator: Any, y: Any) -> None:
        self.estimator, self.y = estimator, y

    def begin(self, n_starts: int, X: Any, sample_weight: Any) -> None:
        """Begin the fit."""
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self.given = {"estimator": self.estimator, "X": X, "y": self.y, "metadata": metadata}
        init = _of_scikit_learn().CallbackSupportMixin._init_callback_context
        self.fit = init(self.estimator, max_subtasks=n_starts)
        self.fit.call_on_fit_task_begin(**self.given)

    def begin_start(self, max_iter: int) -> None:
        """Begin a run."""
        self.start = self.fit.subcontext(task_name="start", max_subtasks=max_iter)
        self.start.call_on_fit_task_begin(**self.given)

    def iteration(self, attributes: Attributes) -> bool:
        """One iteration of the run is done; whether a callback wants no more. `attributes` make the model so far."""
        task = self.start.subcontext(task_name="iteration").call_on_fit_task_begin(**self.given)
        return bool(task.call_on_fit_task_end(**self.given, reconstruction_attributes=attributes))

    def end_start(self, attributes: Attributes) -> bool:
        """The run is done; whether a callback wants no more of them."""
        return bool(self.start.call_on_fit_task_end(**self.given, reconstruction_attributes=attributes))

    def end(self) -> None:
        """The estimator is fitted."""
        self.fit.call_on_fit_task_end(**self.given, reconstruction_attributes=dict)
