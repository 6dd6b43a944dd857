"""Pictures with few colours: k-means over their pixels."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .data_files import atomic_write
from .errors import DataFileError
from .exact import FloatArray
from .kmeans import KMeans

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Compression:
    """A picture and what became of it.

    Attributes
    ----------
    original, pixels : ndarray of uint8, shape (height, width, 3)
    model : KMeans
        The fit of the pixels, their colours from 0 to 1.
    seconds : float
        What the fit took.
    mean_sq_error : float
        Over pixels and channels, colours from 0 to 1.
    """

    original: Pixels
    pixels: Pixels
    model: KMeans
    seconds: float
    mean_sq_error: float

    def summary(self) -> dict[str, str]:
        """Give what the command line prints."""
        height, width, _ = self.pixels.shape
        return {
            "pixels": str(height * width),
            "colours": str(self.model.n_clusters),
            "iterations": str(self.model.n_iter_),
            "fit": f"{self.seconds:.3f} s",
            "mean squared error": f"{self.mean_sq_error:.6f} (colours from 0 to 1)",
        }


def compress(picture: Pixels, n_colours: int, **parameters: Any) -> Compression:
    """Reduce a picture to few colours, those of k-means.

    Parameters
    ----------
    picture : ndarray of uint8, shape (height, width, 3)
    n_colours : int
    **parameters
        Of :class:`gpukmeans.KMeans`: random_state, n_init, backend, ...

    Returns
    -------
    compression : Compression

    Notes
    -----
    Takes 24 bytes a pixel beside the fit.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans.pictures import compress
    >>> picture = np.arange(0, 192, dtype=np.uint8).reshape(8, 8, 3)
    >>> np.unique(compress(picture, 4, random_state=0).pixels.reshape(-1, 3), axis=0).shape
    (4, 3)
    """
    rows = as_rows(picture)
    model = KMeans(n_colours, **parameters)
    begin = time.perf_counter()
    model.fit(rows)
    seconds = time.perf_counter() - begin
    error = float(np.mean((rows - model.cluster_centers_[model.labels_]) ** 2, dtype=np.float64))
    return Compression(picture, as_pixels(model.cluster_centers_, model.labels_, picture), model, seconds, error)


def as_rows(picture: Any) -> FloatArray:
    """Give the pixels as rows of three numbers from 0 to 1, float32."""
    picture = np.asarray(picture)
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(
            "A picture must be an array of uint8 of shape (height, width, 3). "
            f"Got {picture.dtype} of shape {picture.shape}."
        )
    return np.ascontiguousarray(picture.reshape(-1, 3), dtype=np.float32) / np.float32(255)


def as_pixels(centers: FloatArray, labels: Any, like: Pixels) -> Pixels:
    """Give the picture in which every pixel has the colour of its center."""
    palette = np.rint(centers * 255).clip(0, 255).astype(np.uint8)
    pixels: Pixels = palette[labels].reshape(like.shape)
    return pixels


def read_picture(path: str | os.PathLike[str]) -> Pixels:
    """Give the pixels of a picture file, upright.

    Parameters
    ----------
    path : str or path-like
        PNG, JPEG or another format that Pillow reads: one picture, 8 bits a channel, nothing transparent.

    Returns
    -------
    picture : ndarray of uint8, shape (height, width, 3)

    Raises
    ------
    DataFileError
        If the file holds no such picture.
    OSError
        If it cannot be opened.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as file:
            n_frames = getattr(file, "n_frames", 1)
            if n_frames > 1:
                raise DataFileError(f"{path} has {n_frames} frames: save one of them as a picture.")
            if file.mode[0] in "IF":
                raise DataFileError(f"{path} has more than 8 bits a channel (mode {file.mode}): convert it first.")
            image = ImageOps.exif_transpose(file)
            if image.has_transparency_data and np.asarray(image.convert("RGBA"))[:, :, 3].min() < 255:
                raise DataFileError(f"{path} is transparent in places: put it on a background first.")
            return np.array(image.convert("RGB"))
    except UnidentifiedImageError:
        raise DataFileError(f"{path} is no picture that can be read (PNG and JPEG can).") from None
    except (Image.DecompressionBombError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, DataFileError):
            raise
        raise DataFileError(f"{path} cannot be read as a picture: {error}") from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise DataFileError(f"{path} cannot be read as a picture: {error}") from None


def write_png(path: str | os.PathLike[str], pixels: Pixels) -> None:
    """Write a PNG file; one with at most 256 colours stores a byte a pixel and the palette.

    Parameters
    ----------
    path : str or path-like
    pixels : ndarray of uint8, shape (height, width, 3)
    """
    from PIL import Image

    palette, indices, _ = palette_of(pixels)
    image = Image.fromarray(pixels)
    if len(palette) <= 256:
        image = Image.fromarray(indices.astype(np.uint8).reshape(pixels.shape[:2]))
        image.putpalette(palette.tobytes())
    with atomic_write(path) as file:
        image.save(file, format="PNG", optimize=True)


def palette_of(pixels: Pixels) -> tuple[Pixels, NDArray[np.intp], NDArray[np.intp]]:
    """Colours of a picture, shape (n_colours, 3), which of them each pixel has, and how many pixels each has."""
    codes = pixels.reshape(-1, 3).astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    distinct, indices, counts = np.unique(codes, return_inverse=True, return_counts=True)
    palette = np.stack([distinct >> 16, distinct >> 8 & 255, distinct & 255], axis=1).astype(np.uint8)
    return palette, indices, counts
