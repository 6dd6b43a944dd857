"""Pictures of clusterings, in the manner of scikit-learn's displays; needs the extra ``plot`` (matplotlib).

A display draws when it is made, and keeps what it drew on in ``figure_`` and ``ax_`` (``axes_`` if there are several).
"""

from __future__ import annotations

from ._choice import CriteriaDisplay, ElbowDisplay
from ._clusters import ClusterDisplay, VoronoiDisplay
from ._convergence import ConvergenceDisplay
from ._palette import PaletteDisplay
from ._silhouette import SilhouetteDisplay
from ._steps import StepsDisplay
from ._style import need_matplotlib

__all__ = [
    "ClusterDisplay",
    "ConvergenceDisplay",
    "CriteriaDisplay",
    "ElbowDisplay",
    "PaletteDisplay",
    "SilhouetteDisplay",
    "StepsDisplay",
    "VoronoiDisplay",
    "need_matplotlib",
]
