"""The package's own exceptions.

What a caller passed wrongly is a plain ``ValueError`` or ``TypeError``, in scikit-learn's wording.
"""


class GpuKMeansError(Exception):
    """Base of every exception that only this package raises."""


class BackendUnavailableError(GpuKMeansError, RuntimeError):
    """A backend was asked for by name and cannot work here; the message says why and what to do."""


class KernelCompileError(GpuKMeansError, RuntimeError):
    """A CUDA kernel does not compile; the message has the file, the instance, the architecture and the log."""


class OutOfMemoryError(GpuKMeansError, MemoryError):
    """The card cannot hold what is needed even in small blocks; the message says what was wanted and what would fit."""


class DataFileError(GpuKMeansError, ValueError):
    """A file of data, weights or labels cannot be read or written; the message names the file."""


class ModelFileError(GpuKMeansError, ValueError):
    """A model file cannot be read or written; the message names the file."""


class CheckpointError(GpuKMeansError, ValueError):
    """A checkpoint cannot be read, or is one of another fit; the message names the file and what differs."""


class ClusterLostError(GpuKMeansError, RuntimeError):
    """A chunk of rows is lost with its workers, or kills them; the message says which chunk and what to do."""
