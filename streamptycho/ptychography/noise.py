"""The error that photon noise alone leaves, from the counts themselves."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from scipy.special import gammaln

from streamptycho.messages import Array
from streamptycho.ptychography.frames import measured

_FEW = 8
_SMOOTHNESS = 0.1


def amplitude_noise(expected: Array) -> Array:
    """Return the mean of (sqrt(n) - sqrt(m))**2 over Poisson counts n of expectation m, (K,), for m from 0 to 100.

    It is 2 m for very few counts and tends to 1/4 for many.
    """
    counts = np.arange(300.0)
    m = np.maximum(np.asarray(expected, np.float64), 1e-30)[:, None]
    chance = np.exp(counts * np.log(m) - m - gammaln(counts + 1))
    return np.asarray(((np.sqrt(counts) - np.sqrt(m)) ** 2 * chance).sum(axis=1))


def photon_noise(frames: Any) -> float | None:
    """Return the normalised amplitude error of frames (K, m, m) whose object and probe were known exactly.

    That is sum((sqrt(n) - sqrt(I))**2) / sum(n) with the true expectations I instead of a model, over measured pixels.
    The expectations are not known, so every count stands for what is right on average over the counts that its
    expectation may lead to: to 10 % for any expectation, and to few per cent for any mixture of them. A model fitted to
    these very counts may come out below. None for frames without a photon.
    """
    counts = np.asarray(frames)
    counts = counts[measured(counts)]
    total = float(counts.sum(dtype=np.float64))
    if total <= 0:
        return None
    many = counts[counts > _FEW].astype(np.float64)
    few = np.bincount(np.rint(counts[counts <= _FEW]).astype(np.int64), minlength=_FEW + 1)[: _FEW + 1]
    return float((few @ _noise_of_few() + (0.25 + 7 / (64 * many)).sum()) / total)


@functools.cache
def _noise_of_few() -> Array:
    """Return what counts 0, 1, ... `_FEW` stand for: a smooth solution over expectations from 1e-3 to 60."""
    expected = np.exp(np.linspace(np.log(1e-3), np.log(60), 400))
    counts = np.arange(300.0)
    chance = np.exp(counts * np.log(expected[:, None]) - expected[:, None] - gammaln(counts + 1))
    noise = amplitude_noise(expected)
    more = slice(_FEW + 1, None)
    wanted = noise - chance[:, more] @ (0.25 + 7 / (64 * counts[more]))
    roughness = np.diff(np.eye(_FEW), axis=0)[1:]
    unknowns = np.concatenate([chance[:, 1 : _FEW + 1] / noise[:, None], _SMOOTHNESS * roughness])
    values = np.linalg.lstsq(unknowns, np.concatenate([wanted / noise, np.zeros(len(roughness))]), rcond=None)[0]
    return np.concatenate([[0.0], values])
