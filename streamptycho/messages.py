"""The vocabulary: every type that crosses a border of streamptycho.

Messages are frozen and carry read-only arrays. Units are in the names. Shapes use N for frames, M for position
rows, H and W for rows and columns. `(x, y)` is the position of the beam on the sample: x grows along the columns
of the object array, y along its rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import IntEnum, StrEnum
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from streamptycho.geometry import Geometry

Array = npt.NDArray[Any]


class Quality(IntEnum):
    """How the position of one frame is known."""

    MEASURED = 0
    INTERPOLATED = 1
    EXTRAPOLATED = 2
    TURNAROUND = 3
    MISSING = 4


class Reason(StrEnum):
    """Why something was lost, or what was out of order. Every frame that is not reconstructed has one."""

    MISSING = "missing"
    DUPLICATE = "duplicate"
    LATE = "late"
    CORRUPT = "corrupt"
    TRUNCATED = "truncated"
    STRAY = "stray"
    UNPAIRED = "unpaired"
    TURNAROUND = "turn-around"
    OUT_OF_RANGE = "out of range"
    OVERFLOW = "overflow"
    NO_BEAM = "no beam"
    REORDERED = "reordered"
    SATURATED = "saturated"
    DISCONNECTED = "disconnected"

    @property
    def loses_frames(self) -> bool:
        """Whether what is counted under this reason is missing from the result."""
        return self not in _HARMLESS


_HARMLESS = frozenset({Reason.REORDERED, Reason.SATURATED, Reason.DISCONNECTED, Reason.DUPLICATE, Reason.STRAY})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Message:
    """Base of all messages: makes the arrays it is given read-only."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, np.ndarray) and value.flags.writeable:
                view = value.view()
                view.flags.writeable = False
                object.__setattr__(self, item.name, view)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RawRecord(Message):
    """One message of an instrument as it arrived, or a mark in the life of its connection.

    `kind` is "data" for bytes of the instrument, "connected" and "disconnected" for its connection,
    "configuration" for the YAML text under which the recording was made, "end" when nothing follows.
    """

    source: Literal["detector", "positions", "recorder"]
    kind: Literal["data", "connected", "disconnected", "configuration", "end"]
    sequence: int
    received_ns: int
    parts: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Anomaly(Message):
    """Something was lost or out of order: how many, why, where. `frames` are exposures, `rows` are position rows."""

    source: Literal["detector", "positions", "pairing", "reconstruct"]
    reason: Reason
    count: int = 1
    unit: Literal["frames", "rows", "messages", "pixels"] = "frames"
    series: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeriesStart(Message):
    """The detector was armed. `series` is its identity at the detector, as text.

    `geometry` is None when neither the stream nor the configuration gives energy, distance, pitch and shape.
    `epoch_s` is the Unix time of exposure time zero, None where the stream has no absolute time.
    `labels` is what the control system wrote into the header (scan_id, projection, angle_deg, anything).
    """

    series: str
    n_frames: int | None
    geometry: Geometry | None
    epoch_s: float | None = None
    received_ns: int = 0
    labels: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameBlock(Message):
    """Frames of one series.

    `index` (N,) int64 counts from 0 within the series. Exposure times (N,) float64 count from the series' epoch.
    `counts` (N, H, W) keeps the detector's unsigned dtype, cropped and binned; zero frequency near
    [H // 2, W // 2]; the largest value of the dtype marks a pixel that was not measured (masked or saturated).
    """

    series: str
    index: Array
    exposure_start_s: Array
    exposure_stop_s: Array
    counts: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeriesEnd(Message):
    """The detector says that the series is over. Frames may still follow (several sockets, reordering)."""

    series: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AcquisitionStart(Message):
    """The position source was armed. `epoch_s` is the Unix time of row time zero, None where it gives none.

    `missed` rows were captured before the client attached: the first row that follows has that number.
    """

    acquisition: str
    epoch_s: float | None = None
    missed: int = 0
    received_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PositionBlock(Message):
    """Rows of one acquisition.

    `row` (M,) int64 counts from 0 within the acquisition; `time_s` (M,) float64 from its epoch, the centre of what
    the row averages; `xy_m` (M, 2) float64; `angle_deg` (M,) float64 or None.
    """

    acquisition: str
    row: Array
    time_s: Array
    xy_m: Array
    angle_deg: Array | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AcquisitionEnd(Message):
    """The position source was disarmed, or its connection was lost."""

    acquisition: str
    rows: int
    reason: str
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProjectionStart(Message):
    """Frames of a new projection follow."""

    scan_id: str
    projection: int
    angle_deg: float | None
    n_frames: int | None
    geometry: Geometry


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DiffractionBatch(Message):
    """Frames with their positions: the only thing an engine accepts.

    `index` (N,) int64 is the frame's number within its projection, `counts` (N, H, W) as in FrameBlock,
    `xy_m` (N, 2) float64 the beam position at the exposure, always finite, `quality` (N,) uint8 of `Quality`.
    """

    scan_id: str
    projection: int
    index: Array
    counts: Array
    xy_m: Array
    quality: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProjectionEnd(Message):
    """Nothing more of this projection follows. `dropped` and `anomalies` count frames and events by reason."""

    scan_id: str
    projection: int
    angle_deg: float | None
    reason: str
    frames_sent: int
    frames_received: int
    frames_paired: int
    dropped: dict[str, int] = field(default_factory=dict)
    anomalies: dict[str, int] = field(default_factory=dict)
    last_frame_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScanEnd(Message):
    """No more projections follow."""

    scan_id: str
    reason: str
    projections: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ObjectUpdate(Message):
    """A reconstructed projection, growing (`final` False) or finished.

    `object` (H, W) complex64, `probe` (modes, n, n) complex64 in order of power, `coverage` (H, W) float32 the
    summed probe intensity that lit each object pixel. A frame at (x, y) is centred (pixel [n // 2, n // 2] of the
    probe) on object pixel ((y - origin_y) / pixel_m, (x - origin_x) / pixel_m), `origin_xy_m` (2,) float64.
    `xy_m` (N, 2) are the (corrected) positions of the frames `index` (N,). `errors` (S,) float32 is the normalised
    amplitude error sum((|F| - sqrt(I))**2) / sum(I) after each sweep.
    """

    scan_id: str
    projection: int
    angle_deg: float | None
    object: Array
    probe: Array
    coverage: Array
    pixel_m: float
    energy_ev: float
    origin_xy_m: Array
    index: Array
    xy_m: Array
    errors: Array
    sweeps: float
    resolution_m: float | None = None
    last_frame_ns: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    final: bool = False

    @property
    def error(self) -> float | None:
        """The newest normalised amplitude error, None before the first sweep."""
        return float(self.errors[-1]) if self.errors.size else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VolumeUpdate(Message):
    """The tomogram so far.

    `slice_z` (Y, X), `slice_y` (Z, X), `slice_x` (Z, Y) float32 are the central orthoslices, z along the rotation
    axis. `quantity` is "delta" or "electron_density_per_A3".
    """

    scan_id: str
    slice_z: Array
    slice_y: Array
    slice_x: Array
    voxel_m: float
    quantity: str
    projections_used: int
    resolution_m: float | None = None
    final: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FramePreview(Message):
    """One frame for people to look at. `counts` (H, W) as in FrameBlock."""

    series: str
    index: int
    counts: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PathPreview(Message):
    """Positions of the projection in progress: `xy_m` (N, 2) float32 and `quality` (N,) uint8."""

    scan_id: str
    projection: int
    xy_m: Array
    quality: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ServiceStatus(Message):
    """What a service says of itself. `dropped` and `anomalies` are totals since its start, by reason."""

    service: str
    state: Literal["starting", "waiting", "running", "finishing", "finished", "failed"]
    text: str = ""
    counters: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    anomalies: dict[str, int] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    queue: int = 0
    lag_s: float = 0.0
