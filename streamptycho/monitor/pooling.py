"""Smaller pictures: blocks of k x k pixels become one, and what was not measured stays out of the result."""

from __future__ import annotations

import numpy as np

from streamptycho.messages import Array


def pool_factor(shape: tuple[int, ...], limit_px: int) -> int:
    """Return the edge k of the blocks that bring both sides of a picture to at most `limit_px`."""
    return max(1, -(-max(shape) // limit_px))


def pool_max(values: Array, valid: Array, k: int) -> tuple[Array, Array]:
    """Return the largest valid value of each k x k block, and which blocks have one.

    Parameters
    ----------
    values
        (H, W), any real dtype.
    valid
        (H, W) bool.
    k
        Edge of a block. Blocks at the far edges may be smaller.
    """
    if k == 1:
        return values, valid
    lowest = np.iinfo(values.dtype).min if values.dtype.kind in "ui" else -np.inf
    masked = _blocks(np.where(valid, values, lowest), k, lowest)
    return masked.max(axis=(1, 3)), np.asarray(_blocks(valid, k, False).any(axis=(1, 3)))


def pool_mean(values: Array, valid: Array, k: int) -> tuple[Array, Array]:
    """Return the mean of the valid values of each k x k block, and which blocks have one.

    `values` (H, W) is real or complex floating; see `pool_max` for the rest.
    """
    if k == 1:
        return values, valid
    count = _blocks(valid, k, False).sum(axis=(1, 3))
    total = _blocks(np.where(valid, values, 0), k, 0).sum(axis=(1, 3))
    return total / np.maximum(count, 1), count > 0


def _blocks(values: Array, k: int, fill: float) -> Array:
    rows, columns = values.shape
    tall, wide = -(-rows // k), -(-columns // k)
    padded = np.pad(values, ((0, tall * k - rows), (0, wide * k - columns)), constant_values=fill)
    return padded.reshape(tall, k, wide, k)
