"""One YAML file describes one beamline: validated, with units in the names, and no key that means nothing."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from streamptycho.config_base import Count as Count
from streamptycho.config_base import Finite as Finite
from streamptycho.config_base import Port as Port
from streamptycho.config_base import Positive as Positive
from streamptycho.config_base import Section as Section
from streamptycho.config_reconstruction import ProbeConfig as ProbeConfig
from streamptycho.config_reconstruction import ReconstructionConfig as ReconstructionConfig
from streamptycho.config_simulation import BeamConfig as BeamConfig
from streamptycho.config_simulation import FaultsConfig as FaultsConfig
from streamptycho.config_simulation import SampleConfig as SampleConfig
from streamptycho.config_simulation import SimulationConfig as SimulationConfig
from streamptycho.config_simulation import TrajectoryConfig as TrajectoryConfig

Orientation = Literal[
    "identity", "flip_x", "flip_y", "flip_xy", "swap_xy", "swap_xy_flip_x", "swap_xy_flip_y", "swap_xy_flip_xy"
]
ORIENTATIONS: tuple[Orientation, ...] = Orientation.__args__  # type: ignore[attr-defined]


class ConfigError(ValueError):
    """A configuration that cannot be used: says where, what was expected and what is near."""


AnySection = TypeVar("AnySection", bound=Section)
_ENDPOINT = re.compile(r"tcp://[^\s/]+:(\d{1,5}|\*)|(ipc|inproc)://\S+")


class RegionConfig(Section):
    """Square of the detector that is reconstructed.

    `center_px` is (row, column) on the detector, "header" for the beam centre of the stream, "auto" for the centre of
    mass of the first frames. `size_px` None takes the largest square of the frame. `binning` sums n x n pixels.
    """

    size_px: Annotated[int, Field(ge=2, le=8192)] | None = None
    center_px: tuple[Finite, Finite] | Literal["header", "auto", "middle"] = "middle"
    binning: Annotated[int, Field(ge=1, le=16)] = 1


class DetectorConfig(Section):
    """The frame source. `energy_ev`, `distance_m` and `pixel_m` replace what the stream says.

    `protocol` is "dectris_stream1", "dectris_stream2", "open" (docs/open-protocol.md) or a plugin. `channel` is the
    threshold or difference image that is reconstructed, None for the first. `mask` names more pixels that are not
    measured, besides those of the stream: a .npy, .tif or .h5 file (FILE.h5:/path/in/it), or the address at which the
    detector answers with its mask (http://HOST/detector/api/1.8.0/config/pixel_mask). It is read when a run starts.
    `receivers` is how many connections `record` makes to the endpoint. The detector shares its messages out among
    them, each is received by a thread of its own, all lie in the one log, and the order is restored by the numbers of
    series and images. More than one pays where one TCP connection or one core cannot carry the stream, and a core per
    connection is free; where cores are shared it takes about a fifth more processor time for small frames. One
    connection may be 1 s and 512 MB behind another. Messages of Stream V1 must be whole, with all their parts. A log
    that was recorded with several receivers has to be read with several. A detector with several data links has an
    address on each: `more_endpoints` are those besides `endpoint`, and each needs a receiver.
    `decode_threads` share out the rows of large frames (from 4 MB on, Stream V2); None for one per two cores, up to 8.
    One thread decodes some 80 frames of 16 million pixels a second.
    """

    protocol: str = "dectris_stream2"
    endpoint: str = "tcp://127.0.0.1:31001"
    receivers: Annotated[int, Field(ge=1, le=16)] = 1
    more_endpoints: tuple[str, ...] = ()
    decode_threads: Annotated[int, Field(ge=1, le=64)] | None = None
    channel: str | None = None
    mask: str | None = None
    energy_ev: Positive | None = None
    distance_m: Positive | None = None
    pixel_m: Positive | None = None
    region: RegionConfig = RegionConfig()
    max_frame_pixels: Count = 64_000_000

    @field_validator("endpoint")
    @classmethod
    def _is_an_address(cls, endpoint: str) -> str:
        if not _ENDPOINT.fullmatch(endpoint):
            raise ValueError("an endpoint looks like tcp://HOST:PORT (or ipc://PATH)")
        return endpoint

    @model_validator(mode="after")
    def _every_endpoint_has_a_receiver(self) -> DetectorConfig:
        for endpoint in self.more_endpoints:
            self._is_an_address(endpoint)
        if self.receivers <= len(self.more_endpoints):
            raise ValueError(f"{1 + len(self.more_endpoints)} endpoints need receivers: {1 + len(self.more_endpoints)}")
        return self


class AxisConfig(Section):
    """One captured column and its unit: value = column x scale + offset. A negative scale reverses the axis."""

    column: str
    scale: Finite = 1.0
    offset: Finite = 0.0

    @field_validator("scale")
    @classmethod
    def _keeps_the_values_apart(cls, scale: float) -> float:
        if scale == 0:
            raise ValueError("with a scale of 0 all values would be the same")
        return scale


class PositionsConfig(Section):
    """The position source. `x` and `y` scale to metres, `angle` to degrees, `time` to seconds.

    The unit of a PandABox's column is what its operator made it: `scale` of `x` and `y` must be given.
    `protocol` "pandabox" reads the data port of the box (TCP), "panda_json" its values as JSON over ZeroMQ, from the
    PUB at `host` and `port`. `rows_per_frame` rows in a row belong to one exposure and are averaged to one.
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
    rows_per_frame: Annotated[int, Field(ge=1, le=10_000)] = 1
    orientation: Orientation = "identity"

    @model_validator(mode="after")
    def _units_are_known(self) -> PositionsConfig:
        for name, axis in (("x", self.x), ("y", self.y)):
            if self.protocol == "pandabox" and "scale" not in axis.model_fields_set:
                raise ValueError(f"{name} needs scale: metres per unit of {axis.column}, 1.0e-6 for micrometres")
        return self


class PairingConfig(Section):
    """How frames get their positions.

    `by` "row": frame k of a series has row k of the acquisition. `by` "time": rows are interpolated at the middle of
    the exposure, or averaged over it (`interpolation` "average", for rows that are faster than frames).
    `clock_offset_s` is position clock minus detector clock, "measured" aligns the first row of an acquisition with
    the first exposure of its series. `match` says how a series finds its acquisition: by absolute time, by order of
    arming, or by time where both sides have it ("auto"). `one_acquisition` True when the position source is armed
    once for many series. Of frames without position `max_waiting_frames` wait at most, of rows of acquisitions to which
    no series belongs `max_waiting_rows`; the oldest beyond that are let go and counted.
    """

    by: Literal["row", "time"] = "row"
    interpolation: Literal["linear", "smooth", "average"] = "linear"
    clock_offset_s: Finite | Literal["measured"] = 0.0
    match: Literal["auto", "time", "order"] = "auto"
    match_window_s: Positive = 2.0
    one_acquisition: bool = False
    max_gap_s: Positive | None = None
    positions_timeout_s: Positive = 20.0
    max_waiting_frames: Count = 200_000
    max_waiting_rows: Count = 4_000_000
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


class TomographyConfig(Section):
    """The aggregator. `align` "mass": centre of mass across, mass profile along the rotation axis.

    "joint" then refines these shifts on the reprojections of the volume, while projections arrive. `width_px` and
    `height_px` fix the volume; None takes them from the first projection. `final_volume` "gridrec" makes the volume
    at the end with tomopy, which must be installed; "fbp" with the built-in filtered back-projection; "sirt" with
    `sirt_rounds` of SIRT without negative values, for few projections; "tv" with `tv_rounds` towards the volume of
    least total variation, for few and noisy ones, smoothed as much as `tv_strength` times their noise asks for. While
    it grows it is always made by filtered back-projection. Mass density is for matter of `a_over_z` grams per mole of
    electrons. `air_columns_px` says how many columns at the left and right of each projection are air, None finds
    them. The operator is told when the volume has reached `wanted_resolution_m`. `device` is where projections are
    filtered and back-projected; the alignment and the other ways to the final volume stay on the CPU.
    """

    device: Literal["cpu", "gpu"] = "cpu"
    filter: Literal["hamming", "ram-lak", "shepp-logan", "hann"] = "hamming"
    final_volume: Literal["fbp", "gridrec", "sirt", "tv"] = "fbp"
    sirt_rounds: Annotated[int, Field(ge=1, le=10_000)] = 100
    tv_rounds: Annotated[int, Field(ge=1, le=10_000)] = 150
    tv_strength: Positive = 0.5
    quantity: Literal["delta", "beta", "electron_density_per_A3", "mass_density_g_per_cm3"] = "electron_density_per_A3"
    a_over_z: Positive = 2.0
    align: Literal["joint", "mass", "none"] = "joint"
    unwrap: bool = True
    air_columns_px: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] | None = None
    width_px: Annotated[int, Field(ge=4, le=8192)] | None = None
    height_px: Annotated[int, Field(ge=4, le=8192)] | None = None
    wanted_resolution_m: Positive | None = None


class RecordConfig(Section):
    """The stream log. A run ends with a message when an instrument does not answer within `connect_timeout_s`.

    None waits for ever. `sync_s` is the longest time that data stay in memory before they are forced to the disk. The
    operator is told `disk_warning_s` before the disk is full at the rate of the moment. `when_full` says what happens
    when it is, or when the log cannot be written for another reason: "go_on" reconstructs what comes and does not
    record it (the scan is not lost, only its replay), until the run ends, even if there is room again: a log has no
    gaps. "stop" ends the run. What was recorded stays readable.
    """

    file: str = "stream.log"
    sync_s: Positive = 1.0
    connect_timeout_s: Positive | None = 15.0
    disk_warning_s: Positive = 600.0
    when_full: Literal["go_on", "stop"] = "go_on"


class ServiceAddress(Section):
    """Where a service is found: `port` for its data, `status_port` for what people look at."""

    host: str = "127.0.0.1"
    port: Port = 0
    status_port: Port = 0


class PipelineConfig(Section):
    """Sockets between services. Port 0 lets the supervisor choose a free one.

    Services listen on `bind`: localhost unless the operator opens them. `high_water_mark` is how many batches may
    wait between two services, `record_high_water_mark` how many blocks of raw messages, of 16 MB or one message each.
    With `shared_memory` record and ingest lend the next service large arrays instead of sending them, where `bind` is
    an address of this machine only.
    After the end of the stream, services that report nothing new for `drain_timeout_s` are stopped: those that still
    work may take as long as they need.
    """

    bind: str = "127.0.0.1"
    record: ServiceAddress = ServiceAddress()
    ingest: ServiceAddress = ServiceAddress()
    reconstruct: ServiceAddress = ServiceAddress()
    tomography: ServiceAddress = ServiceAddress()
    high_water_mark: Count = 16
    record_high_water_mark: Count = 4
    shared_memory: bool = True
    drain_timeout_s: Positive = 120.0


class MonitorConfig(Section):
    """The page for the operator. `results` is where it says that results lie when the run is over; None: its folder."""

    host: str = "127.0.0.1"
    port: Port = 8750
    pictures_per_s: Positive = 4.0
    results: str | None = None


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

    @model_validator(mode="after")
    def _times_are_there(self) -> Config:
        if self.pairing.by == "time" and self.positions.protocol == "pandabox" and self.positions.time is None:
            raise ValueError("pairing.by: time needs positions.time: the column with the time of each capture")
        return self


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
    except RecursionError:
        raise ConfigError(f"{origin} is nested too deeply for a configuration") from None
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
    """Return the configuration with the files that it names by a relative path taken from a folder.

    A pixel mask that is no longer where it was is taken from the folder: runs keep theirs beside their log.
    """
    detector, probe = config.detector, config.reconstruction.probe
    if detector.mask is not None and not detector.mask.startswith("http://"):
        there = (folder / detector.mask).resolve()
        here = (folder / there.name).resolve()
        mask = here if here.exists() and not there.exists() else there
        config = config.model_copy(update={"detector": detector.model_copy(update={"mask": str(mask)})})
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
    if item["type"] == "value_error":
        return f"  {path}: {item['msg'].removeprefix('Value error, ')}" if path else f"  {item['ctx']['error']}"
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
