"""One YAML file describes one beamline: validated, with units in the names, and no key that means nothing."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Orientation = Literal[
    "identity", "flip_x", "flip_y", "flip_xy", "swap_xy", "swap_xy_flip_x", "swap_xy_flip_y", "swap_xy_flip_xy"
]
ORIENTATIONS: tuple[Orientation, ...] = Orientation.__args__  # type: ignore[attr-defined]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Port = Annotated[int, Field(ge=0, le=65535)]
Count = Annotated[int, Field(ge=1)]


class ConfigError(ValueError):
    """A configuration that cannot be used: says where, what was expected and what is near."""


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


AnySection = TypeVar("AnySection", bound=Section)


class RegionConfig(Section):
    """Square of the detector that is reconstructed.

    `center_px` is (row, column) on the detector, "header" for the beam centre of the stream, "auto" for the centre of
    mass of the first frames. `size_px` None takes the largest square of the frame. `binning` sums n x n pixels.
    """

    size_px: Annotated[int, Field(ge=2, le=8192)] | None = None
    center_px: tuple[Finite, Finite] | Literal["header", "auto", "middle"] = "middle"
    binning: Annotated[int, Field(ge=1, le=16)] = 1


class DetectorConfig(Section):
    """The frame source. `energy_ev`, `distance_m` and `pixel_m` replace what the stream says."""

    protocol: str = "dectris_stream2"
    endpoint: str = "tcp://127.0.0.1:31001"
    channel: str | None = None
    energy_ev: Positive | None = None
    distance_m: Positive | None = None
    pixel_m: Positive | None = None
    region: RegionConfig = RegionConfig()
    max_frame_pixels: Count = 64_000_000


class AxisConfig(Section):
    """One captured column and its unit: value = column x scale + offset. A negative scale reverses the axis."""

    column: str
    scale: Finite = 1.0
    offset: Finite = 0.0


class PositionsConfig(Section):
    """The position source. `x` and `y` scale to metres, `angle` to degrees, `time` to seconds.

    `orientation` turns stage axes into those of the frames (one of the eight flips and swaps, swap first).
    """

    protocol: str = "pandabox"
    host: str = "127.0.0.1"
    port: Port = 8889
    scaled: bool = True
    x: AxisConfig = AxisConfig(column="INENC1.VAL.Mean", scale=1e-6)
    y: AxisConfig = AxisConfig(column="INENC2.VAL.Mean", scale=1e-6)
    angle: AxisConfig | None = None
    time: AxisConfig | None = AxisConfig(column="PCAP.TS_START.Value")
    orientation: Orientation = "identity"


class PairingConfig(Section):
    """How frames get their positions.

    `by` "row": frame k of a series has row k of the acquisition. `by` "time": rows are interpolated at the middle of
    the exposure. `clock_offset_s` is position clock minus detector clock, "measured" aligns the first row of an
    acquisition with the first exposure of its series. `match` says how a series finds its acquisition: by absolute
    time, by order of arming, or by time where both sides have it ("auto"). `one_acquisition` True when the position
    source is armed once for many series.
    """

    by: Literal["row", "time"] = "row"
    interpolation: Literal["linear", "smooth"] = "linear"
    clock_offset_s: Finite | Literal["measured"] = 0.0
    match: Literal["auto", "time", "order"] = "auto"
    match_window_s: Positive = 2.0
    one_acquisition: bool = False
    max_gap_s: Positive | None = None
    positions_timeout_s: Positive = 20.0
    max_waiting_frames: Count = 200_000
    batch_frames: Count = 64


class ProjectionsConfig(Section):
    """Where one projection ends and the next begins, and how many there are.

    `cut_by` "series": every armed series is a projection; "count": every `frames` exposures; "angle": whenever the
    measured angle has moved by more than `min_angle_step_deg`. The angle comes from the positions when they capture
    one, else from the label `angle_deg` of the stream header, else from `first_angle_deg` + k x `angle_step_deg`.
    """

    count: Count | None = None
    cut_by: Literal["series", "count", "angle"] = "series"
    frames: Count | None = None
    min_angle_step_deg: Positive = 0.1
    first_angle_deg: Finite = 0.0
    angle_step_deg: Finite | None = None

    @model_validator(mode="after")
    def _count_needs_frames(self) -> ProjectionsConfig:
        if self.cut_by == "count" and self.frames is None:
            raise ValueError("cut_by: count needs frames: exposures per projection")
        return self


class ProbeConfig(Section):
    """Where the first probe comes from.

    "data": a disc of `diameter_m` with the mean modulus of the data and `defocus_m` of curvature;
    "file": complex array of the .npy `file`, or `key` of the .npz `file`, (n, n) or (modes, n, n). A relative path
    counts from the folder of the configuration, or of the log that carries it.
    """

    start: Literal["data", "file"] = "data"
    diameter_m: Positive | None = None
    defocus_m: Finite = 0.0
    file: Path | None = None
    key: str = "probe"


class ReconstructionConfig(Section):
    """The incremental engine.

    `sweeps` is how often every frame is visited in the end; a projection is left after `min_sweeps` when the next one
    is waiting. `slice_s` is the time budget of one call, `preview_s` the time between two pictures.
    """

    engine: str = "epie"
    device: Literal["cpu", "gpu"] = "cpu"
    modes: Annotated[int, Field(ge=1, le=32)] = 1
    sweeps: Count = 30
    min_sweeps: Count = 10
    object_step: Annotated[float, Field(gt=0, le=2)] = 0.9
    probe_step: Annotated[float, Field(gt=0, le=2)] = 0.3
    probe_delay_sweeps: Annotated[int, Field(ge=0)] = 2
    margin_px: Annotated[int, Field(ge=0, le=4096)] = 16
    max_canvas_px: Annotated[int, Field(ge=16, le=65536)] = 8_192
    carry_probe: bool = True
    use_turnaround: bool = False
    seed: int = 0
    slice_s: Positive = 0.1
    preview_s: Positive = 0.5
    probe: ProbeConfig = ProbeConfig()

    @model_validator(mode="after")
    def _sweeps_in_order(self) -> ReconstructionConfig:
        if self.min_sweeps > self.sweeps:
            raise ValueError(f"min_sweeps ({self.min_sweeps}) is over sweeps ({self.sweeps})")
        return self


class TomographyConfig(Section):
    """The aggregator. `align` "mass": centre of mass across, mass profile along the rotation axis.

    `width_px` and `height_px` fix the volume; None takes them from the first projection. `final_volume` "gridrec" makes
    the volume at the end with tomopy, which must be installed; "fbp" with the built-in filtered back-projection.
    """

    filter: Literal["hamming", "ram-lak"] = "hamming"
    final_volume: Literal["fbp", "gridrec"] = "fbp"
    quantity: Literal["delta", "electron_density_per_A3"] = "electron_density_per_A3"
    align: Literal["mass", "none"] = "mass"
    unwrap: bool = True
    width_px: Annotated[int, Field(ge=4, le=8192)] | None = None
    height_px: Annotated[int, Field(ge=4, le=8192)] | None = None


class RecordConfig(Section):
    """The stream log. A run ends with a message when an instrument does not answer within `connect_timeout_s`.

    None waits for ever. `sync_s` is the longest time that data stay in memory before they are forced to the disk.
    """

    file: str = "stream.log"
    sync_s: Positive = 1.0
    connect_timeout_s: Positive | None = 15.0


class ServiceAddress(Section):
    """Where a service is found: `port` for its data, `status_port` for what people look at."""

    host: str = "127.0.0.1"
    port: Port = 0
    status_port: Port = 0


class PipelineConfig(Section):
    """Sockets between services. Port 0 lets the supervisor choose a free one.

    Services listen on `bind`: localhost unless the operator opens them. `high_water_mark` is how many batches may
    wait between two services, `record_high_water_mark` how many raw messages.
    """

    bind: str = "127.0.0.1"
    record: ServiceAddress = ServiceAddress()
    ingest: ServiceAddress = ServiceAddress()
    reconstruct: ServiceAddress = ServiceAddress()
    tomography: ServiceAddress = ServiceAddress()
    high_water_mark: Count = 16
    record_high_water_mark: Count = 512
    drain_timeout_s: Positive = 120.0


class MonitorConfig(Section):
    """The page for the operator."""

    host: str = "127.0.0.1"
    port: Port = 8750
    pictures_per_s: Positive = 4.0


class SampleConfig(Section):
    """The simulated sample: a 3-D phantom in a box of `size_m` (edge), maximal refractive index decrement `delta`."""

    phantom: Literal["bone", "spheres"] = "bone"
    size_m: Positive = 4e-6
    delta: Positive = 2e-5
    beta: Annotated[float, Field(ge=0)] = 1e-6
    seed: int = 0


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
    seed: int = 0


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
    seed: int = 0
    sample: SampleConfig = SampleConfig()
    beam: BeamConfig = BeamConfig()
    trajectory: TrajectoryConfig = TrajectoryConfig()
    faults: FaultsConfig = FaultsConfig()


class Config(Section):
    """A beamline."""

    scan_id: str = "scan"
    detector: DetectorConfig = DetectorConfig()
    positions: PositionsConfig = PositionsConfig()
    pairing: PairingConfig = PairingConfig()
    projections: ProjectionsConfig = ProjectionsConfig()
    reconstruction: ReconstructionConfig = ReconstructionConfig()
    tomography: TomographyConfig = TomographyConfig()
    record: RecordConfig = RecordConfig()
    pipeline: PipelineConfig = PipelineConfig()
    monitor: MonitorConfig = MonitorConfig()
    simulation: SimulationConfig | None = None


def parse(text: str, origin: str = "configuration") -> Config:
    """Return the configuration that a YAML text describes.

    Raises
    ------
    ConfigError
        One line per mistake: the path of the key, what was expected, the allowed keys and the nearest of them.
    """
    return parse_section(Config, text, origin)


def parse_section(kind: type[AnySection], text: str, origin: str) -> AnySection:
    """Return one section, of any kind, that a YAML text describes.

    Raises
    ------
    ConfigError
        See `parse`.
    """
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin} is not YAML: {error}") from None
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{origin} must be a mapping of keys, got {type(tree).__name__}")
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        lines = [_explain(kind, item) for item in error.errors(include_url=False)]
        raise ConfigError("\n".join([f"{origin} cannot be used:", *lines])) from None


def load(path: Path) -> Config:
    """Return the configuration in a YAML file.

    Raises
    ------
    ConfigError
        If the file cannot be read, or see `parse`.
    """
    return beside(parse(read_text(path), str(path)), path.parent)


def beside(config: Config, folder: Path) -> Config:
    """Return the configuration with the files that it names by a relative path taken from a folder."""
    probe = config.reconstruction.probe
    if probe.file is None or probe.file.is_absolute():
        return config
    changed = probe.model_copy(update={"file": (folder / probe.file).resolve()})
    reconstruction = config.reconstruction.model_copy(update={"probe": changed})
    return config.model_copy(update={"reconstruction": reconstruction})


def read_text(path: Path) -> str:
    """Return the text of a file that a user named.

    Raises
    ------
    ConfigError
        If it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"cannot read {path}: it is not a text file") from None


def dump(config: Config) -> str:
    """Return the configuration as YAML that `parse` reads back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _explain(kind: type[Section], item: Any) -> str:
    path = ".".join(str(part) for part in item["loc"])
    if item["type"] != "extra_forbidden":
        return f"  {path}: {item['msg']}, got {item['input']!r}"
    allowed = sorted(_keys_at(kind, item["loc"][:-1]))
    near = difflib.get_close_matches(str(item["loc"][-1]), allowed, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"  {path}: no such key.{hint} Allowed here: {', '.join(allowed)}"


def _keys_at(kind: type[Section], location: tuple[Any, ...]) -> list[str]:
    section: Any = kind
    for part in location:
        field = section.model_fields.get(part)
        if field is None:
            continue
        options = [field.annotation, *getattr(field.annotation, "__args__", ())]
        section = next((o for o in options if isinstance(o, type) and issubclass(o, Section)), section)
    return list(section.model_fields)
