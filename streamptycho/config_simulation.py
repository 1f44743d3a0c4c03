"""The sections of a configuration that say what the simulated instrument measures."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from streamptycho.config_base import Count, Finite, Port, Positive, Section, Seed


class SampleConfig(Section):
    """The simulated sample: a 3-D phantom in a box of `size_m` (edge), maximal refractive index decrement `delta`.

    What encoders do not see: `wander_m` (root mean square) moves it between projections, `drift_m` during the run.
    """

    phantom: Literal["bone", "bone_fragment", "spheres"] = "bone"
    size_m: Positive = 4e-6
    delta: Positive = 2e-5
    beta: Annotated[float, Field(ge=0)] = 1e-6
    wander_m: Annotated[float, Field(ge=0)] = 0.0
    drift_m: Finite = 0.0
    seed: Seed = 0


class BeamConfig(Section):
    """The simulated beam, of `modes` incoherent parts of which the first holds the share `coherence` of the power.

    `optic` "zone_plate": an annular pupil (central stop), `defocus_m` out of focus; "pinhole": a disc, `defocus_m`
    downstream of it. `diameter_m` is the beam's at the sample.
    """

    optic: Literal["zone_plate", "pinhole"] = "zone_plate"
    photons_per_frame: Positive = 1e6
    diameter_m: Positive = 1e-6
    defocus_m: Finite = 2e-4
    modes: Annotated[int, Field(ge=1, le=8)] = 1
    coherence: Annotated[float, Field(gt=0, le=1)] = 1.0


class TrajectoryConfig(Section):
    """The simulated scan: `snake` (fly scan, lines along x), `circles` (concentric) or `spiral`."""

    kind: Literal["snake", "circles", "spiral"] = "snake"
    width_m: Positive = 5e-6
    height_m: Positive = 4e-6
    step_x_m: Positive = 0.3e-6
    step_y_m: Positive = 0.3e-6
    jitter_m: Annotated[float, Field(ge=0)] = 2e-8
    turn_s: Annotated[float, Field(ge=0)] = 0.01


class FaultsConfig(Section):
    """What goes wrong on purpose: fractions of frames or rows, seconds, frame numbers."""

    drop_frames: Annotated[float, Field(ge=0, le=1)] = 0.0
    duplicate_frames: Annotated[float, Field(ge=0, le=1)] = 0.0
    reorder_frames: Annotated[float, Field(ge=0, le=1)] = 0.0
    corrupt_frames: Annotated[float, Field(ge=0, le=1)] = 0.0
    late_positions_s: Annotated[float, Field(ge=0)] = 0.0
    stop_positions_after_rows: Annotated[int, Field(ge=0)] | None = None
    disconnect_positions_after_rows: Annotated[int, Field(ge=0)] | None = None
    seed: Seed = 0


class SimulationConfig(Section):
    """The simulated instrument. It emits what the detector and positions sections say, at `rate_hz`.

    `header_detail` "basic" sends start messages without pixel mask and flat field, as a detector does by default;
    `labels` False is a control system that does not write scan, projection and angle into them.
    `oversampling` samples the far field n x n times per detector pixel, which integrates them: needed when the beam is
    wider than half of wavelength x distance / pitch.
    """

    energy_ev: Positive = 6200.0
    distance_m: Positive = 2.0
    detector_pixel_m: Positive = 75e-6
    detector_shape: tuple[Count, Count] = (96, 96)
    dtype: Literal["uint8", "uint16", "uint32"] = "uint16"
    oversampling: Annotated[int, Field(ge=1, le=4)] = 1
    dead_pixels: Annotated[float, Field(ge=0, le=0.1)] = 0.0
    compression: Literal["bslz4", "lz4", "none"] = "bslz4"
    header_detail: Literal["all", "basic"] = "all"
    labels: bool = True
    rate_hz: Positive = 500.0
    exposure_fraction: Annotated[float, Field(gt=0, le=1)] = 0.9
    blur_samples: Annotated[int, Field(ge=1, le=64)] = 1
    position_rate_hz: Positive | None = None
    projections: Count = 31
    angle_range_deg: Positive = 180.0
    control_port: Port = 0
    seed: Seed = 0
    sample: SampleConfig = SampleConfig()
    beam: BeamConfig = BeamConfig()
    trajectory: TrajectoryConfig = TrajectoryConfig()
    faults: FaultsConfig = FaultsConfig()
