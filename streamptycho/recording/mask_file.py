"""Pixel masks in the files that beamlines keep them in: NumPy, TIFF and HDF5."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from PIL import Image, UnidentifiedImageError

from streamptycho.detectors.mask import MaskError, load_mask, mask_of
from streamptycho.messages import Array

HDF5_ENDINGS = (".h5", ".hdf5", ".hdf", ".nxs", ".cxi")
TIFF_ENDINGS = (".tif", ".tiff")
_USUAL_PATHS = (
    "entry/instrument/detector/detectorSpecific/pixel_mask",
    "entry/instrument/detector/pixel_mask",
    "entry_1/instrument_1/detector_1/mask",
    "entry/data/mask",
    "pixel_mask",
    "mask",
)


def read_mask(where: str, max_pixels: int) -> Array:
    """Return which pixels are masked, (H, W) bool, from a file.

    Parameters
    ----------
    where
        A .npy, .tif or .h5 file, the latter with the path of the array behind a colon where that is not a usual one.
    max_pixels
        How many pixels a mask may have.

    Raises
    ------
    MaskError
        If there is no mask in it.
    """
    path, inside = _split(where)
    ending = path.suffix.lower()
    if ending == ".npy":
        return load_mask(str(path), max_pixels)
    if ending in TIFF_ENDINGS:
        return mask_of(_tiff(path, max_pixels), str(path), max_pixels)
    if ending in HDF5_ENDINGS:
        return _hdf5(path, inside, max_pixels)
    raise MaskError(f"detector.mask: {where} is none of .npy, {', '.join((*TIFF_ENDINGS, *HDF5_ENDINGS))}")


def _split(where: str) -> tuple[Path, str]:
    for ending in HDF5_ENDINGS:
        file, colon, inside = where.partition(f"{ending}:")
        if colon:
            return Path(file + ending), inside.strip("/")
    return Path(where), ""


def _tiff(path: Path, max_pixels: int) -> Array:
    try:
        with Image.open(path) as image:
            if image.width * image.height > max_pixels:
                raise MaskError(f"detector.mask: {path} has {image.width} x {image.height} pixels, over {max_pixels}")
            array = np.asarray(image)
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as error:
        raise MaskError(f"detector.mask: {path} cannot be read as TIFF: {error}") from None
    return np.asarray(array != 0) if array.dtype.kind == "f" else array


def _hdf5(path: Path, inside: str, max_pixels: int) -> Array:
    try:
        with h5py.File(path, "r") as file:
            names = [inside] if inside else [name for name in _USUAL_PATHS if name in file]
            item = file.get(names[0]) if names else None
            if not isinstance(item, h5py.Dataset):
                shown = inside or ", ".join(_USUAL_PATHS)
                raise MaskError(f"detector.mask: {path} has no array at {shown}: name it behind a colon ({path}:/...)")
            if not 0 < item.size <= max_pixels:
                raise MaskError(f"detector.mask: {path}:{names[0]} has {item.size} pixels, over {max_pixels}")
            return mask_of(np.asarray(item[()]), f"{path}:{names[0]}", max_pixels)
    except (OSError, ValueError) as error:
        if isinstance(error, MaskError):
            raise
        raise MaskError(f"detector.mask: {path} cannot be read as HDF5: {error}") from None
