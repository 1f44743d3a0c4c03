"""How well a tomogram of the simulated instrument agrees with the phantom that it measured."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from streamptycho.messages import Array

SUBVOXEL = 10


def registered_truth(volume: Array, truth: Array) -> Array:
    """Return the truth where the volume has it, in the shape of the volume.

    A tomogram may lie anywhere along the three axes (ptychography does not fix where the beam is centred, and
    alignment puts the centre of mass on the rotation axis), so one translation of the whole truth is allowed.

    Parameters
    ----------
    volume, truth
        (Z, Y, X) float32 of any sizes, same voxel, any units.
    """
    shape = tuple(max(a, b) for a, b in zip(volume.shape, truth.shape, strict=True))
    theirs = _shifted_onto(_centred(volume, shape), _centred(truth, shape))
    first = [wide // 2 - n // 2 for n, wide in zip(volume.shape, shape, strict=True)]
    return np.asarray(theirs[tuple(slice(f, f + n) for f, n in zip(first, volume.shape, strict=True))])


def correlation_with_truth(volume: Array, truth: Array) -> float:
    """Return Pearson's correlation of a volume with the truth, over the box that holds both: outside them is air.

    The truth is moved as `registered_truth` does.

    Parameters
    ----------
    volume, truth
        (Z, Y, X) float32 of any sizes, same voxel, any units.

    Raises
    ------
    ValueError
        If either is constant: correlation has no meaning then.
    """
    shape = tuple(max(a, b) for a, b in zip(volume.shape, truth.shape, strict=True))
    ours = _centred(volume, shape)
    theirs = _shifted_onto(ours, _centred(truth, shape))
    if not (ours.std() > 0 and theirs.std() > 0):
        raise ValueError("a constant volume has no correlation with anything")
    return float(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1])


def _shifted_onto(ours: Array, theirs: Array) -> Array:
    shift, _, _ = phase_cross_correlation(ours, theirs, upsample_factor=SUBVOXEL, normalization=None)  # type: ignore[no-untyped-call]
    return np.asarray(ndimage.shift(theirs, shift, order=1, mode="constant"))


def _centred(volume: Array, shape: tuple[int, ...]) -> Array:
    """Pad to a shape so that index n // 2 stays index n // 2."""
    before = [wide // 2 - n // 2 for n, wide in zip(volume.shape, shape, strict=True)]
    after = [wide - n - b for n, wide, b in zip(volume.shape, shape, before, strict=True)]
    return np.pad(np.asarray(volume, np.float32), list(zip(before, after, strict=True)))
