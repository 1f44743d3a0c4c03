"""The Fourier correlation of halves of the data in result files: by shell of a tomogram, by ring of a projection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from streamptycho.recording.hdf5 import dataset, group

GROUP = "fourier_shell_correlation"
RINGS = "fourier_ring_correlation"
FREQUENCY = "frequency_per_m"
CORRELATION = "correlation"
LONG_NAMES = {
    FREQUENCY: "spatial frequency",
    "half_bit": "1/2-bit threshold",
    "one_seventh": "threshold 1/7",
    "one_quarter": "threshold 1/4, for halves of full dose each",
}


def write_shell_correlation(entry: Any, curves: Mapping[str, Sequence[float]]) -> None:
    """Write the curves of `VolumeUpdate.fsc` as NXdata with the thresholds beside; nothing if there are none."""
    title = "Fourier shell correlation across the rotation axis"
    _write(entry, GROUP, curves, title, "correlation across the rotation axis, of even and odd angles")


def write_ring_correlation(entry: Any, curves: Mapping[str, Sequence[float]]) -> None:
    """Write the curves of `ObjectUpdate.frc`, as `write_shell_correlation` does."""
    _write(entry, RINGS, curves, "Fourier ring correlation of two halves", "correlation of even and odd frames")


def _write(entry: Any, name: str, curves: Mapping[str, Sequence[float]], title: str, what: str) -> None:
    if FREQUENCY not in curves or CORRELATION not in curves:
        return
    thresholds = [name for name in curves if name not in (FREQUENCY, CORRELATION)]
    shown = group(
        entry,
        name,
        "NXdata",
        signal=CORRELATION,
        auxiliary_signals=thresholds,
        axes=[FREQUENCY],
        title=title,
    )
    for column, values in curves.items():
        units = "1/m" if column == FREQUENCY else None
        long_name = what if column == CORRELATION else LONG_NAMES.get(column, column)
        dataset(shown, column, np.asarray(values, np.float64), units, long_name=long_name)


def read_shell_correlation(entry: Any) -> dict[str, list[float]]:
    """Return the curves as in `VolumeUpdate.fsc`, none of a file without."""
    return _read(entry, GROUP)


def read_ring_correlation(entry: Any) -> dict[str, list[float]]:
    """Return the curves as in `ObjectUpdate.frc`, none of a file without."""
    return _read(entry, RINGS)


def _read(entry: Any, name: str) -> dict[str, list[float]]:
    return {column: values[()].tolist() for column, values in entry[name].items()} if name in entry else {}
