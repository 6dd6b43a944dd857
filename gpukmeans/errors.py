"""The package's own exceptions.

What a caller passed wrongly is a plain ``ValueError`` or ``TypeError``, in scikit-learn's wording.
"""


class GpuKMeansError(Exception):
    """Base of every exception that only this package raises."""


class BackendUnavailableError(GpuKMeansError, RuntimeError):
    """A backend was asked for by name and cannot work here; the message says why and what to do."""


class DataFileError(GpuKMeansError, ValueError):
    """A file of data, weights or labels cannot be read or written; the message names the file."""


class ModelFileError(GpuKMeansError, ValueError):
    """A model file cannot be read or written; the message names the file."""
