"""The vocabulary: every type that crosses a border of streamptycho.

Messages are frozen and carry read-only arrays. Units are in the names. Shapes use N for frames, M for position
rows, H and W for rows and columns. `(x, y)` is the position of the beam on the sample: x grows along the columns
of the object array, y along its rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from streamptycho.geometry import Geometry

Array = npt.NDArray[Any]
RecordSource = Literal["detector", "positions", "recorder"]
RecordKind = Literal["data", "connected", "disconnected", "configuration", "end"]

RECORD_SOURCES: tuple[RecordSource, ...] = ("detector", "positions", "recorder")
RECORD_KINDS: tuple[RecordKind, ...] = ("data", "connected", "disconnected", "configuration", "end")

LATENCY_BOUNDS_S = tuple(m * 10.0**e for e in range(-3, 3) for m in (1, 2, 5))


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
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if isinstance(value, np.ndarray) and value.flags.writeable:
                view = value.view()
                view.flags.writeable = False
                object.__setattr__(self, name, view)

    def check(self) -> None:
        """Raise ValueError if fields do not fit each other: for what another process made."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RawRecord(Message):
    """One message of an instrument as it arrived, or a mark in the life of its connection.

    `kind` is "data" for bytes of the instrument, "connected" and "disconnected" for its connection,
    "configuration" for the YAML text under which the recording was made, "end" when nothing follows.
    """

    source: RecordSource
    kind: RecordKind
    sequence: int
    received_ns: int
    parts: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RawBlock(Message):
    """Many records at once, the bytes of all in one buffer.

    Record k has its number in `RECORD_SOURCES` and `RECORD_KINDS` in `source` and `kind` (R,) uint8, `sequence` and
    `received_ns` (R,) int64. Its parts are those from `first_part[k]` to `first_part[k + 1]`, (R + 1,) int64, and part
    p is `data[spans[p, 0]:spans[p, 1]]`, (P, 2) int64 and (B,) uint8; other bytes of `data` mean nothing.
    """

    source: Array
    kind: Array
    sequence: Array
    received_ns: Array
    first_part: Array
    spans: Array
    data: Array

    def check(self) -> None:
        """Raise ValueError if a part lies outside `data`, or the arrays do not fit each other."""
        records, spans, first = len(self.source), self.spans, self.first_part
        columns = (self.source, self.kind, self.sequence, self.received_ns)
        if any(column.shape != (records,) for column in columns) or first.shape != (records + 1,):
            raise ValueError("the columns of a block of records differ in length")
        if spans.ndim != 2 or spans.shape[1] != 2 or self.data.ndim != 1 or self.data.dtype != np.uint8:
            raise ValueError("a block of records needs spans (P, 2) and data (B,) uint8")
        if any(column.dtype != np.int64 for column in (spans, first, self.sequence, self.received_ns)):
            raise ValueError("the columns of a block of records are int64")
        if first[0] != 0 or first[-1] != len(spans) or (first[1:] < first[:-1]).any():
            raise ValueError("the records of a block do not share out its parts")
        if len(spans) and (spans.min() < 0 or spans.max() > len(self.data) or (spans[:, 1] < spans[:, 0]).any()):
            raise ValueError("a part of a block of records lies outside its data")
        if records and (self.source.max() >= len(RECORD_SOURCES) or self.kind.max() >= len(RECORD_KINDS)):
            raise ValueError("a block has records of an unknown source or kind")

    def __len__(self) -> int:
        return len(self.source)

    def some(self, begin: int, end: int) -> RawBlock:
        """Return the records from `begin` to `end`, with only their part of the data."""
        first = self.first_part[begin : end + 1]
        spans = self.spans[first[0] : first[-1]]
        lowest, highest = (int(spans.min()), int(spans.max())) if len(spans) else (0, 0)
        return RawBlock(
            source=self.source[begin:end],
            kind=self.kind[begin:end],
            sequence=self.sequence[begin:end],
            received_ns=self.received_ns[begin:end],
            first_part=first - first[0],
            spans=spans - lowest,
            data=self.data[lowest:highest],
        )

    def records(self) -> Iterator[RawRecord]:
        """Yield all records one by one."""
        return map(self.record, range(len(self)))

    def record(self, k: int) -> RawRecord:
        """Return record `k` by itself."""
        spans = self.spans[self.first_part[k] : self.first_part[k + 1]].tolist()
        return RawRecord(
            source=RECORD_SOURCES[self.source[k]],
            kind=RECORD_KINDS[self.kind[k]],
            sequence=int(self.sequence[k]),
            received_ns=int(self.received_ns[k]),
            parts=tuple(self.data[begin:end].tobytes() for begin, end in spans),
        )


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
    `received_ns` (N,) int64 is the Unix time at which each came, None where all came at once.
    """

    series: str
    index: Array
    exposure_start_s: Array
    exposure_stop_s: Array
    counts: Array
    received_ns: Array | None = None


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
    `received_ns` (N,) int64 is the Unix time at which each frame came, `paired_ns` that at which the batch was made.
    """

    scan_id: str
    projection: int
    index: Array
    counts: Array
    xy_m: Array
    quality: Array
    received_ns: Array | None = None
    paired_ns: int = 0


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
    amplitude error sum((|F| - sqrt(I))**2) / sum(I) after each sweep, `noise_floor` what photon noise alone leaves.
    `correction_rms_m` is how far frames lie from where they were measured, None when positions are taken as measured.
    `frc` of a final one is the Fourier ring correlation of two halves of its frames, from which `resolution_m` comes:
    lists of equal length as in `VolumeUpdate.fsc`, empty where it cannot be judged.
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
    noise_floor: float | None = None
    correction_rms_m: float | None = None
    last_frame_ns: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    frc: dict[str, list[float]] = field(default_factory=dict)
    final: bool = False

    @property
    def mode_power(self) -> list[float]:
        """Share of the probe's power that each mode has, strongest first."""
        power = (np.abs(self.probe) ** 2).sum(axis=(1, 2), dtype=np.float64)
        return [float(share) for share in power / max(float(power.sum()), 1e-300)]

    @property
    def error(self) -> float | None:
        """The newest normalised amplitude error, None before the first sweep."""
        return float(self.errors[-1]) if self.errors.size else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VolumeUpdate(Message):
    """The tomogram so far.

    `slice_z` (Y, X), `slice_y` (Z, X), `slice_x` (Z, Y) float32 are the central orthoslices, z along the rotation
    axis. `quantity` is "delta", "beta", "electron_density_per_A3" or "mass_density_g_per_cm3". `figures` tell how good
    it is, with units in their names: noise of the air, resolutions, motion of the sample, dose.

    `resolution_m` is the worst of what limits the volume, as a half period. `fsc` is the last measured Fourier shell
    correlation of two halves of the projections across the rotation axis, empty before the first: lists of equal
    length `frequency_per_m` (full periods per metre), `correlation`, and the thresholds `half_bit`, `one_seventh` and
    `one_quarter` (1/4 is for halves of full dose each).
    """

    scan_id: str
    slice_z: Array
    slice_y: Array
    slice_x: Array
    voxel_m: float
    quantity: str
    projections_used: int
    resolution_m: float | None = None
    figures: dict[str, float] = field(default_factory=dict)
    fsc: dict[str, list[float]] = field(default_factory=dict)
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
    """What a service says of itself. `dropped` and `anomalies` are totals since its start, by reason.

    `latencies` holds one histogram per way through the pipeline: how many frames took at most each of
    `LATENCY_BOUNDS_S` and more than the one before, then how many took longer. `latency_sums_s` adds up their times.
    """

    service: str
    state: Literal["starting", "waiting", "running", "finishing", "finished", "failed"]
    text: str = ""
    counters: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    anomalies: dict[str, int] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    queue: int = 0
    lag_s: float = 0.0
    latencies: dict[str, list[int]] = field(default_factory=dict)
    latency_sums_s: dict[str, float] = field(default_factory=dict)
