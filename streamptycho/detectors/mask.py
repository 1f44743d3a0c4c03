"""Pixel masks: those of a file, and those that fit frames of a shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from streamptycho.messages import Array


class MaskError(ValueError):
    """A pixel mask that cannot be used: says what was expected and what came."""


def mask_of(array: Array, origin: str, max_pixels: int) -> Array:
    """Return which pixels are masked, (H, W) bool: those that are not zero.

    Raises
    ------
    MaskError
        If the array is no picture, or has more than `max_pixels`.
    """
    if array.ndim != 2 or array.dtype.kind not in "uib" or not 0 < array.size <= max_pixels:
        raise MaskError(
            f"{origin} holds {array.dtype} {array.shape}: a pixel mask is one picture of whole numbers, "
            f"rows x columns, with at most {max_pixels} pixels (detector.max_frame_pixels)"
        )
    return np.asarray(array != 0)


def load_mask(path: str, max_pixels: int) -> Array:
    """Return the mask (H, W) bool in a .npy file.

    Raises
    ------
    MaskError
        If there is none.
    """
    try:
        array = np.load(Path(path), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise MaskError(f"detector.mask: {path} cannot be read as a .npy file: {error}") from None
    if not isinstance(array, np.ndarray):
        raise MaskError(f"detector.mask: {path} holds several arrays, expected a .npy file with one")
    return mask_of(array, f"detector.mask: {path}", max_pixels)


def mask_for(masked: Array, shape: tuple[int, int]) -> Array | None:
    """Return the mask of frames of this shape, None if the mask is not for them.

    Of a mask of the pixels that the detector itself binned, a bin with a masked pixel is masked.
    """
    rows, columns = shape
    if masked.shape == shape:
        return masked
    if rows <= 0 or columns <= 0 or masked.shape[0] % rows or masked.shape[1] % columns:
        return None
    binning = masked.shape[0] // rows
    if binning != masked.shape[1] // columns:
        return None
    return np.asarray(masked.reshape(rows, binning, columns, binning).any(axis=(1, 3)))
