"""Where the pixel mask of a run comes from, and where it stays: beside the log, so that a replay has the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from streamptycho.config import Config
from streamptycho.messages import Array
from streamptycho.recording.mask_file import read_mask
from streamptycho.runtime.simplon import fetch_pixel_mask


def configured_mask(config: Config) -> Array | None:
    """Return the mask (H, W) bool that a configuration names, from its file or from the detector; None without one.

    Raises
    ------
    MaskError
        If it names one and there is none.
    """
    where, most = config.detector.mask, config.detector.max_frame_pixels
    if where is None:
        return None
    return fetch_pixel_mask(where, most) if where.startswith("http:") else read_mask(where, most)


def keep_mask(config: Config, copy: Path) -> Config:
    """Write the mask that a configuration names to a .npy file, and return the configuration that names that file.

    Raises
    ------
    MaskError
        See `configured_mask`.
    """
    masked = configured_mask(config)
    if masked is None:
        return config
    np.save(copy, masked.astype(np.uint8))
    return config.model_copy(update={"detector": config.detector.model_copy(update={"mask": str(copy.resolve())})})
