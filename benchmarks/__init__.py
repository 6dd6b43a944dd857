"""Benchmarks of gpukmeans: README.md in this folder says how to run them and what is fair."""

import os

# Some machines set these to correct OpenBLAS's guess of the processor. A user has neither, and they change
# what scikit-learn's time is; they must go before NumPy is imported.
for _variable in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(_variable, None)
