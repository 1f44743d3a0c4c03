"""A beamline in software: every byte that its detector and its PandABox send, and when. No clock, no socket."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from streamptycho.config import Config, SimulationConfig
from streamptycho.detectors import encoder
from streamptycho.detectors.encode_open import OpenEncoder
from streamptycho.detectors.encode_stream1 import Stream1Encoder
from streamptycho.detectors.encode_stream2 import Stream2Encoder
from streamptycho.messages import Array, RawRecord
from streamptycho.simulation.beam import make_probe
from streamptycho.simulation.capture import Capture
from streamptycho.simulation.diffraction import CountingDetector, Scatterer
from streamptycho.simulation.faults import ImageEvent, Tally, disturb_images, positions_stopped, row_pieces
from streamptycho.simulation.header import trimmed_header
from streamptycho.simulation.sample import make_sample
from streamptycho.simulation.trajectory import Trajectory, make_trajectory
from streamptycho.simulation.window import simulation_of, window

LEAD_S = 0.02
TRAIL_S = 0.02
ROTATION_S = 0.05
FLUSH_S = 0.02
_CHUNK_BYTES = 4 << 20
_MAX_CHUNK_FRAMES = 32


class _Due(NamedTuple):
    time_s: float
    source: Literal["detector", "positions"]
    kind: Literal["data", "disconnected"]
    parts: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """One scan of the sample at one angle. `begin_s` is its first exposure, counted from the start of the run."""

    index: int
    angle_deg: float
    begin_s: float
    trajectory: Trajectory


class Instrument:
    """A simulated detector, stage and PandABox.

    Parameters
    ----------
    config
        A configuration with a simulation section; detector and positions sections fix protocols and columns.

    Attributes
    ----------
    tally
        What `events` made and what it did wrong on purpose, so far.
    probe
        The true beam, (modes, n, n) complex64, with the pixel of `window`.
    sample
        The true sample, with the pixel of `window`.

    Raises
    ------
    SimulationError
        If the configured beam, sample or scan cannot be simulated.
    UnknownPluginError
        If streamptycho cannot send the configured detector protocol.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.simulation: SimulationConfig = simulation_of(config)
        self.window = window(self.simulation)
        self.sample = make_sample(self.simulation.sample, self.window.pixel_m)
        self.probe = make_probe(self.simulation.beam, self.window)
        self.tally = Tally()
        self._detector = CountingDetector(
            self.window, self.simulation.dtype, self.simulation.dead_pixels, self.simulation.seed
        )
        self._capture = Capture(config.positions)
        self._new_encoder()
        self._one_series = config.projections.cut_by != "series"
        self._one_acquisition = self._one_series or config.pairing.one_acquisition
        first = self.projection(0)
        self.frames_per_projection = len(first.trajectory)
        step_deg = self.simulation.angle_range_deg / self.simulation.projections
        self.angles_deg = config.projections.first_angle_deg + step_deg * np.arange(self.simulation.projections)

    def projection(self, index: int) -> Projection:
        """Return what is scanned in projection `index`."""
        simulation = self.simulation
        trajectory = make_trajectory(
            simulation.trajectory, simulation.rate_hz, simulation.exposure_fraction, simulation.seed * 100_003 + index
        )
        step_deg = simulation.angle_range_deg / simulation.projections
        cycle_s = LEAD_S + trajectory.duration_s + TRAIL_S + ROTATION_S
        return Projection(
            index, self.config.projections.first_angle_deg + step_deg * index, LEAD_S + cycle_s * index, trajectory
        )

    def frames(self, index: int) -> Iterator[Array]:
        """Yield the frames of a projection in blocks, (N, H, W) of the detector's dtype."""
        simulation = self.simulation
        projection = self.projection(index)
        transmission = self.sample.transmission(projection.angle_deg, self.window.wavelength_m)
        scatterer = Scatterer(transmission, self.probe, self.window)
        rng = np.random.default_rng([simulation.seed, index, 1])
        where = projection.trajectory.exposure_xy_m(simulation.blur_samples) - self.displacement_m(index)
        rows, columns = simulation.detector_shape
        frame_bytes = max(rows * columns * self._detector.dtype.itemsize, 8 * self.window.size_px**2)
        step = max(1, min(_MAX_CHUNK_FRAMES, _CHUNK_BYTES // frame_bytes))
        for begin in range(0, len(where), step):
            yield self._detector.expose(scatterer.intensities(where[begin : begin + step]), rng)

    def displacement_m(self, index: int) -> Array:
        """Return by how much (x, y) in metres the sample stands away from its place in a projection."""
        sample, simulation = self.simulation.sample, self.simulation
        wander = np.random.default_rng([simulation.seed, index, 3]).normal(0.0, sample.wander_m, 2)
        return np.asarray(wander + sample.drift_m * index / max(1, simulation.projections - 1))

    def positions_m(self, index: int) -> Array:
        """Return the true mean positions of the exposures of a projection, (N, 2) in metres, x first."""
        trajectory = self.projection(index).trajectory
        return trajectory.mean_xy_m(trajectory.start_s, trajectory.stop_s)

    def events(self, epoch_s: float = 0.0) -> Iterator[RawRecord]:
        """Yield everything that both devices send, in the order and at the times at which they send it.

        `epoch_s` is the Unix time of the start of the run; `received_ns` of a record is the Unix time at which it is
        sent. A record of kind "disconnected" says that the PandABox drops its clients. The last record is of kind
        "end".
        """
        merged = heapq.merge(self._detector_events(epoch_s), self._position_events(epoch_s), key=lambda e: e.time_s)
        sequence, last_s, epoch_ns = 0, 0.0, round(epoch_s * 1e9)
        for due in merged:
            yield RawRecord(
                source=due.source,
                kind=due.kind,
                sequence=sequence,
                received_ns=epoch_ns + round(due.time_s * 1e9),
                parts=due.parts,
            )
            sequence, last_s = sequence + 1, due.time_s
        yield RawRecord(source="recorder", kind="end", sequence=sequence, received_ns=epoch_ns + round(last_s * 1e9))

    def _new_encoder(self) -> Stream1Encoder | Stream2Encoder | OpenEncoder:
        simulation = self.simulation
        return encoder(
            self.config.detector.protocol,
            shape=simulation.detector_shape,
            dtype=simulation.dtype,
            energy_ev=simulation.energy_ev,
            distance_m=simulation.distance_m,
            detector_pixel_m=simulation.detector_pixel_m,
            compression=simulation.compression,
            mask=self._detector.mask,
            saturation=self._detector.saturation,
            exposure_s=simulation.exposure_fraction / simulation.rate_hz,
            period_s=1 / simulation.rate_hz,
        )

    def _detector_events(self, epoch_s: float) -> Iterator[_Due]:
        simulation = self.simulation
        messages = self._new_encoder()
        rng = np.random.default_rng([simulation.faults.seed, 2])
        series_begin_s = 0.0
        for number in range(simulation.projections):
            projection = self.projection(number)
            frames = len(projection.trajectory)
            opens = number == 0 or not self._one_series
            closes = number == simulation.projections - 1 or not self._one_series
            series = 1 if self._one_series else number + 1
            if opens:
                series_begin_s = projection.begin_s
                labels: dict[str, object] = {"scan_id": self.config.scan_id} if simulation.labels else {}
                if labels and not self._one_series:
                    labels |= {"projection": number, "angle_deg": projection.angle_deg}
                expected = frames * (simulation.projections if self._one_series else 1)
                for parts in messages.start(
                    series=series, n_frames=expected, epoch_s=epoch_s + series_begin_s, labels=labels
                ):
                    said = trimmed_header(parts, tables=simulation.header_detail == "all", appendix=simulation.labels)
                    yield _Due(projection.begin_s - LEAD_S / 2, "detector", "data", tuple(said))
            since_s = projection.begin_s - series_begin_s
            before = number * frames if self._one_series else 0
            images = (
                ImageEvent(projection.begin_s + stop, (number, k), tuple(parts))
                for k, counts, start, stop in self._exposures(projection)
                for parts in messages.image(
                    series=series, index=before + k, counts=counts, start_s=since_s + start, stop_s=since_s + stop
                )
            )
            for image in disturb_images(images, simulation.faults, rng, self.tally):
                yield _Due(image.due_s, "detector", "data", image.parts)
            if closes:
                done_s = projection.begin_s + float(projection.trajectory.stop_s[-1]) + TRAIL_S / 2
                for parts in messages.end(series=series):
                    yield _Due(done_s, "detector", "data", tuple(parts))

    def _exposures(self, projection: Projection) -> Iterator[tuple[int, Array, float, float]]:
        trajectory, index = projection.trajectory, 0
        for block in self.frames(projection.index):
            for counts in block:
                yield index, counts, float(trajectory.start_s[index]), float(trajectory.stop_s[index])
                index += 1

    def _position_events(self, epoch_s: float) -> Iterator[_Due]:
        simulation, panda = self.simulation, self._capture.encoder
        faults, late_s = simulation.faults, simulation.faults.late_positions_s
        armed_s, acquired = 0.0, 0
        for number in range(simulation.projections):
            projection = self.projection(number)
            if number == 0 or not self._one_acquisition:
                armed_s, acquired = projection.begin_s - LEAD_S, 0
                if not positions_stopped(faults, self.tally.rows):
                    header = panda.header(arm_epoch_s=epoch_s + armed_s)
                    yield _Due(armed_s + late_s, "positions", "data", (header,))
            start_s, stop_s, xy_m = self._captured(projection.trajectory)
            centre_s = (start_s + stop_s) / 2 + projection.begin_s - armed_s
            edges = np.flatnonzero(np.diff(np.floor(stop_s / FLUSH_S))) + 1
            for part in np.split(np.arange(len(start_s)), edges):
                due_s = projection.begin_s + float(stop_s[part[-1]]) + late_s
                for piece in row_pieces(faults, self.tally.rows, len(part)):
                    if piece.kind == "disconnect":
                        self.tally.disconnections += 1
                        yield _Due(due_s, "positions", "disconnected", ())
                        continue
                    rows = part[piece.begin : piece.end]
                    body = self._capture.rows(
                        centre_s[rows], xy_m[rows], projection.angle_deg, stop_s[rows] - start_s[rows]
                    )
                    yield _Due(due_s, "positions", "data", (body,))
                    acquired += len(rows)
                if faults.stop_positions_after_rows is not None:
                    self.tally.rows_withheld += max(
                        0, self.tally.rows + len(part) - max(faults.stop_positions_after_rows, self.tally.rows)
                    )
                self.tally.rows += len(part)
            closes = number == simulation.projections - 1 or not self._one_acquisition
            if closes and not positions_stopped(faults, self.tally.rows):
                done_s = projection.begin_s + projection.trajectory.duration_s + TRAIL_S + late_s
                yield _Due(done_s, "positions", "data", (panda.end(acquired),))

    def _captured(self, trajectory: Trajectory) -> tuple[Array, Array, Array]:
        """Return begin and end (M,) of what each row captures, and its position (M, 2)."""
        rate_hz = self.simulation.position_rate_hz
        if rate_hz is None:
            start_s, stop_s = trajectory.start_s, trajectory.stop_s
            return start_s, stop_s, trajectory.mean_xy_m(start_s, stop_s)
        span_s = trajectory.duration_s + LEAD_S / 2 + TRAIL_S / 2
        start_s = np.arange(max(2, int(span_s * rate_hz))) / rate_hz - LEAD_S / 2
        if self._capture.averages:
            stop_s = start_s + 1 / rate_hz
            return start_s, stop_s, trajectory.mean_xy_m(start_s, stop_s)
        return start_s, start_s, trajectory.true_xy_m(start_s)
