"""The sections of a configuration that say how a projection is reconstructed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from streamptycho.config_base import Count, Finite, Positive, Section, Seed


class ProbeConfig(Section):
    """Where the first probe comes from.

    "data": a disc of `diameter_m` with the mean modulus of the data and `defocus_m` of curvature;
    "zone_plate": the focus of a zone plate (`zone_plate_diameter_m`, `outermost_zone_m`, `central_stop_m`);
    "pinhole": a hole of `diameter_m`. The sample lies `defocus_m` downstream of focus or hole; "auto" finds that from
    the first frames. "file": complex array of the .npy `file`, or `key` of the .npz `file`, (n, n) or (modes, n, n). A
    relative path counts from the folder of the configuration, or of the log that carries it.
    """

    start: Literal["data", "file", "zone_plate", "pinhole"] = "data"
    diameter_m: Positive | None = None
    defocus_m: Finite | Literal["auto"] = 0.0
    zone_plate_diameter_m: Positive | None = None
    outermost_zone_m: Positive | None = None
    central_stop_m: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    file: Path | None = None
    key: str = "probe"

    @model_validator(mode="after")
    def _optic_is_known(self) -> ProbeConfig:
        if self.start == "pinhole" and self.diameter_m is None:
            raise ValueError("start: pinhole needs diameter_m: that of the hole")
        if self.start == "zone_plate":
            if self.zone_plate_diameter_m is None or self.outermost_zone_m is None:
                raise ValueError("start: zone_plate needs zone_plate_diameter_m and outermost_zone_m")
            if self.central_stop_m >= self.zone_plate_diameter_m:
                raise ValueError("central_stop_m must be less than zone_plate_diameter_m")
        return self


class ReconstructionConfig(Section):
    """The incremental engine.

    `sweeps` is how often every frame is visited in the end; a projection is left after `min_sweeps` when the next one
    is waiting. `slice_s` is the time budget of one call, `preview_s` the time between two pictures. `threads` work on a
    projection on the CPU, None for all that the process may use; 1 visits frames strictly one after another.

    `object_alpha` and `probe_alpha` below 1 turn ePIE into rPIE. `upsampling` n samples the far field n times as finely
    as the detector, for a beam wider than wavelength x distance / detector pixel. `positions` corrects where frames
    lie, from visit number `position_delay_sweeps` on and by `position_radius_px` at most: "gradient" costs next to
    nothing; "annealing" tries `position_trials` random places per visit, ever nearer ones, and costs that many times
    half a visit. `position_shared_frames` consecutive frames of a line share their correction by gradient: for few
    photons a frame, and for a fly scan faster than its encoders. `intensity_scaling` follows the flux of the beam from
    frame to frame; frames with less than `min_flux` of the usual counts had no beam and are left out. `center_probe`
    keeps the probe in the middle of its array; `probe_power` "brightest" gives it that of the brightest frames, so that
    empty parts of the object come out as 1. In the last `refine_sweeps` (None: a sixth of `sweeps`, 5 at most) steps
    shrink towards 0, which takes the object from hopping about the least squares solution into it. `likelihood_steps`
    of maximum likelihood for Poisson counts (each as long as several sweeps) then refine the final answer:
    worth it where pixels count few photons.

    A projection whose error is over twice the usual one is reconstructed once more, with the probe that fits others;
    frames are held for that up to `second_try_gib`, 0 for no second tries.

    `propagator` "near_field" is for a detector close behind the sample, or far behind a focus that is
    `source_distance_m` before the sample (cone beam, whose effective pixel becomes that of the object).
    """

    engine: str = "epie"
    device: Literal["cpu", "gpu"] = "cpu"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    modes: Annotated[int, Field(ge=1, le=32)] = 1
    sweeps: Count = 30
    min_sweeps: Count = 10
    object_step: Annotated[float, Field(gt=0, le=2)] = 0.9
    probe_step: Annotated[float, Field(gt=0, le=2)] = 0.3
    probe_delay_sweeps: Annotated[int, Field(ge=0)] = 2
    object_alpha: Annotated[float, Field(gt=0, le=1)] = 1.0
    probe_alpha: Annotated[float, Field(gt=0, le=1)] = 1.0
    upsampling: Annotated[int, Field(ge=1, le=8)] = 1
    positions: Literal["none", "gradient", "annealing"] = "none"
    position_radius_px: Annotated[float, Field(gt=0, le=64)] = 3.0
    position_delay_sweeps: Annotated[int, Field(ge=0)] = 3
    position_trials: Annotated[int, Field(ge=1, le=32)] = 4
    position_shared_frames: Annotated[int, Field(ge=1, le=100_000)] = 1
    intensity_scaling: bool = False
    min_flux: Annotated[float, Field(ge=0, lt=1)] = 0.02
    center_probe: bool = False
    probe_power: Literal["free", "brightest"] = "free"
    refine_sweeps: Annotated[int, Field(ge=0)] | None = None
    likelihood_steps: Annotated[int, Field(ge=0, le=10_000)] = 0
    propagator: Literal["far_field", "near_field"] = "far_field"
    source_distance_m: Positive | None = None
    margin_px: Annotated[int, Field(ge=0, le=4096)] = 16
    max_canvas_px: Annotated[int, Field(ge=16, le=65536)] = 8_192
    carry_probe: bool = True
    use_turnaround: bool = False
    seed: Seed = 0
    second_try_gib: Annotated[float, Field(ge=0, le=1024)] = 1.0
    slice_s: Positive = 0.1
    preview_s: Positive = 0.5
    probe: ProbeConfig = ProbeConfig()

    @model_validator(mode="after")
    def _sweeps_in_order(self) -> ReconstructionConfig:
        if self.min_sweeps > self.sweeps:
            raise ValueError(f"min_sweeps ({self.min_sweeps}) is over sweeps ({self.sweeps})")
        if (self.refine_sweeps or 0) > self.sweeps:
            raise ValueError(f"refine_sweeps ({self.refine_sweeps}) is over sweeps ({self.sweeps})")
        return self

    @model_validator(mode="after")
    def _propagator_fits(self) -> ReconstructionConfig:
        if self.propagator == "near_field":
            if self.upsampling != 1:
                raise ValueError("upsampling is for the far field: with propagator: near_field it must be 1")
            if self.probe.start in ("zone_plate", "pinhole") or self.probe.defocus_m == "auto":
                raise ValueError("with propagator: near_field the probe starts from data or file, its defocus as given")
        elif self.source_distance_m is not None:
            raise ValueError("source_distance_m is for propagator: near_field")
        return self
