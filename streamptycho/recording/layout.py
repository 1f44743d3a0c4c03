"""Where an importer finds things in a file that does not say so itself, and in which units."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from streamptycho.config import Orientation, Positive, Section

PositionUnit = Literal["m", "mm", "um", "nm", "px"]
EnergyUnit = Literal["J", "eV", "keV"]
METRES_PER_UNIT = {"m": 1.0, "mm": 1e-3, "um": 1e-6, "nm": 1e-9}
EV_PER_UNIT = {"J": 1 / 1.602176634e-19, "eV": 1.0, "keV": 1e3}

DEFAULT_ENERGY_EV = 8800.0
DEFAULT_DISTANCE_M = 2.0
DEFAULT_DETECTOR_PIXEL_M = 75e-6


class ImportLayout(Section):
    """What is where in a data file. None: where its format says, or the default for files that do not say.

    Paths are those of HDF5 datasets or names of arrays in an npz file. `positions_path` is one dataset (N, 2) or
    (N, 3) whose columns are `position_columns`; `x_path` and `y_path` are two. `position_unit` None takes the
    attribute `units` of the dataset, else metres; "px" are object pixels. `positions_are` says whether the numbers are
    the movement of the beam over the sample or that of the sample through the beam. `orientation` turns the positions
    into the axes of the frames, after everything else. `energy_ev`, `distance_m` and `detector_pixel_m` replace what
    the file says. `fft_shifted` True: zero frequency at the corner. `mask_good` says whether the mask marks bad
    pixels ("zero" is good, as in CXI) or good ones ("nonzero").
    """

    data_path: str | None = None
    positions_path: str | None = None
    position_columns: Literal["xy", "yx"] | None = None
    x_path: str | None = None
    y_path: str | None = None
    position_unit: PositionUnit | None = None
    positions_are: Literal["beam", "sample"] | None = None
    orientation: Orientation = "identity"
    energy_path: str | None = None
    energy_unit: EnergyUnit | None = None
    energy_ev: Positive | None = None
    distance_path: str | None = None
    distance_m: Positive | None = None
    detector_pixel_path: str | None = None
    detector_pixel_m: Positive | None = None
    probe_path: str | None = None
    mask_path: str | None = None
    mask_good: Literal["zero", "nonzero"] = "zero"
    fft_shifted: bool | None = None
    photons_per_unit: Positive | None = None
    max_bytes: Annotated[int, Field(ge=1)] = 32 << 30
