"""The Fourier shell correlation of a tomogram in its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from streamptycho.recording.hdf5 import dataset, group

GROUP = "fourier_shell_correlation"
FREQUENCY = "frequency_per_m"
CORRELATION = "correlation"
LONG_NAMES = {
    FREQUENCY: "spatial frequency",
    CORRELATION: "correlation across the rotation axis, of even and odd angles",
    "half_bit": "1/2-bit threshold",
    "one_seventh": "threshold 1/7",
    "one_quarter": "threshold 1/4, for halves of full dose each",
}


def write_shell_correlation(entry: Any, curves: Mapping[str, Sequence[float]]) -> None:
    """Write the curves of `VolumeUpdate.fsc` as NXdata with the thresholds beside; nothing if there are none."""
    if FREQUENCY not in curves or CORRELATION not in curves:
        return
    thresholds = [name for name in curves if name not in (FREQUENCY, CORRELATION)]
    shown = group(
        entry,
        GROUP,
        "NXdata",
        signal=CORRELATION,
        auxiliary_signals=thresholds,
        axes=[FREQUENCY],
        title="Fourier shell correlation across the rotation axis",
    )
    for name, values in curves.items():
        units = "1/m" if name == FREQUENCY else None
        dataset(shown, name, np.asarray(values, np.float64), units, long_name=LONG_NAMES.get(name, name))


def read_shell_correlation(entry: Any) -> dict[str, list[float]]:
    """Return the curves as in `VolumeUpdate.fsc`, none of a file without."""
    return {name: values[()].tolist() for name, values in entry[GROUP].items()} if GROUP in entry else {}
