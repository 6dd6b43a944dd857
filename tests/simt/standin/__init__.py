"""A stand-in for the part of CuPy that the backend uses, on the CPU: the host code runs, and so do its kernels.

    from simt import standin
    standin.install()                 # `import cupy` now gives the stand-in
    standin.control.reset(checked=True, seed=3)
    ...
    standin.uninstall()

It is as strict as CuPy or stricter. tests/test_drift.py compares its names and parameters with the real CuPy.
"""

from . import errors
from .control import Log, control
from .modules import CHECKED_AGAINST, cupy, install, uninstall

__all__ = ["CHECKED_AGAINST", "Log", "control", "cupy", "errors", "install", "uninstall"]
