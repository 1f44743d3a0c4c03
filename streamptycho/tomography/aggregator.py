"""Projections in, tomogram out: one message at a time, in any order, each replaceable."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from streamptycho.config import TomographyConfig
from streamptycho.messages import Anomaly, Array, ObjectUpdate, Reason, VolumeUpdate
from streamptycho.registry import Registry
from streamptycho.resolution import resolutions_m
from streamptycho.tomography.backprojection import MAX_VOXELS, IncrementalBackProjection, VolumeTooLargeError
from streamptycho.tomography.figures import air_noise, dose_gy, largest_gap_deg, motion
from streamptycho.tomography.frame import Extent, Frame
from streamptycho.tomography.gridrec import TomopyMissingError, gridrec, tomopy_available
from streamptycho.tomography.half_volumes import half_volume_correlation
from streamptycho.tomography.interface import AggregatorProtocol, ProjectionStack
from streamptycho.tomography.joint_alignment import AlignmentJob, apply_alignment
from streamptycho.tomography.phase import PhaseError, ProjectionPhase, projection_phase, reliable_area
from streamptycho.tomography.placed_projection import DARKEST, PlacedProjection, mean_profile, realigned_shifts_px
from streamptycho.tomography.refinement import Refined
from streamptycho.tomography.refractive_index import quantity_per_radian
from streamptycho.tomography.sirt import sirt

PIXEL_TOLERANCE = 5e-4
ENERGY_TOLERANCE = 5e-4
REALIGN_PX = 0.02
RESOLUTION_EVERY = 1.15
JUDGED_FROM = 8


class Aggregator:
    """Phase, alignment and incremental filtered back-projection of the projections of one scan.

    Projections are placed by `origin_xy_m` in a frame about the first, which grows when one does not fit, then
    aligned. With `align: none` positions are trusted and the rotation axis is x = 0 of the stage.

    Memory per projection: 8 bytes per reliable object pixel and 4 per pixel of the frame; see
    `IncrementalBackProjection` for the volume.

    Parameters
    ----------
    scan_id
        Updates of other scans are refused.
    config
        Filter, quantity, alignment, size.
    max_voxels
        Bound of the volume.
    """

    def __init__(self, scan_id: str, config: TomographyConfig, *, max_voxels: int = MAX_VOXELS) -> None:
        if config.final_volume == "gridrec" and not tomopy_available():
            raise TomopyMissingError(
                "tomography.final_volume: gridrec needs tomopy, which is not installed here: "
                "install it from conda-forge, or set final_volume: fbp"
            )
        self.scan_id = scan_id
        self._config = config
        self._max_voxels = max_voxels
        self._projections: dict[int, PlacedProjection] = {}
        self._frame: Frame | None = None
        self._sums: IncrementalBackProjection | None = None
        self._pixel_m = 0.0
        self._energy_ev = 0.0
        self._resolutions_m: dict[str, float] = {}
        self._judged = 0
        self._unsaid: list[Anomaly] = []

    @property
    def projections_used(self) -> int:
        """How many projections are in the volume."""
        return self._in_volume()

    def add(self, update: ObjectUpdate) -> list[Anomaly]:
        """Take a projection, in place of an earlier one of the same number.

        One that cannot be used (another scan, no angle, another pixel or energy, not finite, hardly lit, far from
        all others, or making the volume too large) is answered by an `Anomaly` and leaves the volume as it was.
        """
        fault = self._fault(update)
        if fault is not None:
            return [self._anomaly(update, *fault)]
        try:
            air = _given_air(update.coverage, self._config.air_columns_px)
            phase = projection_phase(update.object, update.coverage, unwrap=self._config.unwrap, air=air)
        except PhaseError as error:
            return [self._anomaly(update, Reason.CORRUPT, str(error))]
        assert update.angle_deg is not None
        item = PlacedProjection.of(phase, float(update.angle_deg), np.asarray(update.origin_xy_m), update.pixel_m)
        if self._config.align == "none" and not item.extent.x_m[0] <= 0.0 <= item.extent.x_m[1]:
            text = (
                f"the rotation axis x = 0 is outside of the projection, {item.extent.x_m[0]:.6g} to "
                f"{item.extent.x_m[1]:.6g} m: set positions.x.offset, or tomography.align: mass"
            )
            return [self._anomaly(update, Reason.OUT_OF_RANGE, text)]
        item.fluence_per_m2 = _fluence_per_m2(update, phase)
        others = self._projections.keys() - {update.projection}
        if others and self._frame is not None and not self._frame.touches(item.extent):
            text = "it was taken elsewhere on the sample than all others"
            return [self._anomaly(update, Reason.OUT_OF_RANGE, text)]
        try:
            self._take(update, item)
        except VolumeTooLargeError as error:
            return [self._anomaly(update, Reason.OUT_OF_RANGE, str(error))]
        return []

    def update(self, *, final: bool = False) -> VolumeUpdate | None:
        """Return the orthoslices so far, None before the first projection.

        `final` True first aligns all projections once more: each against all others, and jointly if configured.
        The resolution is measured then, and whenever the number of projections has grown by a seventh.
        """
        if self._sums is None:
            return None
        if final:
            self._realign()
            job = self.alignment()
            if job is not None:
                self._unsaid += self.realign(job, job.run())
        if final or len(self._projections) >= max(JUDGED_FROM, RESOLUTION_EVERY * self._judged):
            self._judged = len(self._projections)
            self._resolutions_m = self._measured_resolutions_m()
        factor = self._factor()
        across_z, across_y, across_x = (image * factor for image in self._sums.orthoslices())
        return VolumeUpdate(
            scan_id=self.scan_id,
            slice_z=across_z,
            slice_y=across_y,
            slice_x=across_x,
            voxel_m=self._pixel_m,
            quantity=self._config.quantity,
            projections_used=self._in_volume(),
            resolution_m=self._resolutions_m.get("half_bit"),
            figures=self._figures((across_z, across_y, across_x)),
            final=final,
        )

    def left_out(self) -> list[Anomaly]:
        """Return, once, an `Anomaly` for each projection that the last alignment of a final `update` left out."""
        unsaid, self._unsaid = self._unsaid, []
        return unsaid

    def alignment(self) -> AlignmentJob | None:
        """Return what refines the alignment, to run anywhere; None if it is not configured or too few are here."""
        if self._config.align != "joint" or self._frame is None:
            return None
        return AlignmentJob.of(self._projections, self._frame)

    def realign(self, job: AlignmentJob, refined: Refined) -> list[Anomaly]:
        """Apply a refinement to the projections that are still those of the job.

        The volume stays where it is. Projections that disagree with all others leave it until they agree again, each
        with an `Anomaly`.
        """
        if self._frame is None or self._sums is None:
            return []
        applied = apply_alignment(job, refined, self._projections, self._frame)
        for key in applied.changed:
            self._back_project(key)
        return [
            self._excluded(
                key, Reason.CORRUPT, f"it is {ratio:.0f} times further from its reprojection than others are"
            )
            for key, ratio in applied.untrusted.items()
        ]

    def volume(self) -> Array:
        """Return the volume (Z, Y, X) float32 in the configured quantity, (0, 0, 0) before the first projection."""
        if self._sums is None:
            return np.zeros((0, 0, 0), np.float32)
        if self._config.final_volume == "gridrec":
            stack = self._trusted_stack()
            volume = gridrec(self._line_integrals(stack), stack.angles_deg, self._config.filter)
        elif self._config.final_volume == "sirt":
            stack = self._trusted_stack()
            mass = self._line_integrals(stack) * np.sign(self._factor())
            volume = sirt(mass, stack.angles_deg, rounds=self._config.sirt_rounds) * np.sign(self._factor())
        else:
            volume = self._sums.volume()
        volume *= self._factor()
        return volume

    def projection_stack(self) -> ProjectionStack:
        """Return the projections as they are in the volume."""
        keys = sorted(self._projections)
        items = [self._projections[key] for key in keys]
        frame = self._frame or Frame((0, 0), (0.0, 0.0), 1.0)
        shape = (len(keys), *frame.shape)
        return ProjectionStack(
            keys=np.array(keys, dtype=np.int64),
            angles_deg=np.array([item.angle_deg for item in items], dtype=np.float64),
            phase_rad=np.array([item.placed_phase(frame) for item in items], dtype=np.float32).reshape(shape),
            magnitude=np.array([item.placed_magnitude(frame) for item in items], dtype=np.float32).reshape(shape),
            shifts_px=np.array([item.shift_px for item in items], dtype=np.float64).reshape(-1, 2),
            pixel_m=self._pixel_m,
            center_xy_m=frame.center_xy_m,
        )

    def resolution_m(self) -> float | None:
        """Return the half-period 1/2-bit resolution by Fourier shell correlation of the volumes of even and odd angles.

        Each half has half of the angles, so the figure is on the safe side. None with fewer than eight projections,
        or where the halves agree nowhere.
        """
        if self._sums is None:
            return None
        return self._measured_resolutions_m().get("half_bit")

    def _measured_resolutions_m(self) -> dict[str, float]:
        assert self._sums is not None
        trusted = [key for key, item in self._projections.items() if item.trusted]
        by_angle = sorted(trusted, key=lambda key: self._projections[key].angle_deg % 180.0)
        curve = half_volume_correlation(self._sums, by_angle)
        return {} if curve is None else resolutions_m(curve, self._pixel_m)

    def _figures(self, slices: tuple[Array, Array, Array]) -> dict[str, float]:
        items = list(self._projections.values())
        noise = air_noise(slices[:1])
        figures = {
            **({} if noise is None else {f"air_noise_{self._config.quantity}": noise}),
            **{f"resolution_{name}_m": value for name, value in self._resolutions_m.items()},
            **self._motion(),
            **dose_gy(items, self._energy_ev, self._pixel_m, self._config.a_over_z),
            "energy_ev": self._energy_ev,
            "largest_gap_deg": largest_gap_deg(np.array([item.angle_deg for item in items if item.trusted])),
            "residues": float(sum(item.residues for item in items)),
            "phase_corrected_px": float(sum(item.corrected_px for item in items)),
            "left_out_projections": float(len(items) - self._in_volume()),
        }
        wanted, reached = self._config.wanted_resolution_m, self._resolutions_m.get("half_bit")
        if wanted is not None:
            figures["wanted_resolution_m"] = wanted
            figures["wanted_resolution_reached"] = float(reached is not None and reached <= wanted)
        return figures

    def _motion(self) -> dict[str, float]:
        if self._frame is None:
            return {}
        figures = motion(self._projections)
        axis_px = figures.pop("rotation_axis_px", None)
        if axis_px is not None:
            figures["rotation_axis_x_m"] = self._frame.center_xy_m[0] + axis_px * self._pixel_m
        return figures

    def _in_volume(self) -> int:
        return sum(item.trusted for item in self._projections.values())

    def _trusted_stack(self) -> ProjectionStack:
        stack = self.projection_stack()
        use = np.array([self._projections[int(key)].trusted for key in stack.keys], dtype=bool)
        return replace(
            stack,
            keys=stack.keys[use],
            angles_deg=stack.angles_deg[use],
            phase_rad=stack.phase_rad[use],
            magnitude=stack.magnitude[use],
            shifts_px=stack.shifts_px[use],
        )

    def _line_integrals(self, stack: ProjectionStack) -> Array:
        if self._config.quantity == "beta":
            return np.asarray(-np.log(np.maximum(stack.magnitude, DARKEST)), np.float32)
        return stack.phase_rad

    def _fault(self, update: ObjectUpdate) -> tuple[Reason, str] | None:
        if update.scan_id != self.scan_id:
            return Reason.STRAY, f"is of scan {update.scan_id!r}, this volume is of {self.scan_id!r}"
        if update.angle_deg is None:
            return Reason.MISSING, "has no angle: capture one with the positions, or set projections.angle_step_deg"
        if not math.isfinite(update.angle_deg):
            return Reason.CORRUPT, f"has the angle {update.angle_deg!r}"
        origin = np.asarray(update.origin_xy_m)
        numbers = (update.pixel_m, update.energy_ev)
        if origin.shape != (2,) or not (np.isfinite(origin).all() and all(math.isfinite(n) and n > 0 for n in numbers)):
            return Reason.CORRUPT, f"has origin {origin.tolist()}, pixel {numbers[0]!r} m and energy {numbers[1]!r} eV"
        others = self._projections.keys() - {update.projection}
        if others and abs(update.pixel_m / self._pixel_m - 1) > PIXEL_TOLERANCE:
            return Reason.OUT_OF_RANGE, f"has pixels of {update.pixel_m:.6g} m, the volume {self._pixel_m:.6g} m"
        if others and abs(update.energy_ev / self._energy_ev - 1) > ENERGY_TOLERANCE:
            return Reason.OUT_OF_RANGE, f"was taken at {update.energy_ev:.6g} eV, the volume at {self._energy_ev:.6g}"
        return None

    def _anomaly(self, update: ObjectUpdate, reason: Reason, text: str) -> Anomaly:
        return self._excluded(update.projection, reason, text)

    def _excluded(self, projection: int, reason: Reason, text: str) -> Anomaly:
        return Anomaly(
            source="reconstruct",
            reason=reason,
            unit="messages",
            series=self.scan_id,
            detail=f"projection {projection} is not in the volume: {text}",
        )

    def _take(self, update: ObjectUpdate, item: PlacedProjection) -> None:
        key = update.projection
        others = {k: v for k, v in self._projections.items() if k != key}
        free = {"across": self._config.width_px is None, "along": self._config.height_px is None}
        if self._frame is None or not others or not self._frame.holds(item.extent, **free):
            self._start_afresh(update, {**others, key: item})
            return
        self._projections[key] = item
        self._align(key)
        self._back_project(key)

    def _start_afresh(self, update: ObjectUpdate, items: dict[int, PlacedProjection]) -> None:
        extent: Extent | None = None
        for item in items.values():
            extent = item.extent if extent is None else extent.joined(item.extent)
        assert extent is not None
        config = self._config
        first = len(items) == 1
        pixel_m = update.pixel_m if first else self._pixel_m
        axis_x_m = 0.0 if config.align == "none" else None
        frame = Frame.around(extent, pixel_m, config.width_px, config.height_px, axis_x_m)
        if frame != self._frame or self._sums is None:
            self._sums = IncrementalBackProjection(frame.shape, config.filter, max_voxels=self._max_voxels)
        elif first:
            for key in list(self._projections):
                if key in self._sums:
                    self._sums.remove(key)
        self._frame = frame
        if first:
            self._pixel_m, self._energy_ev = update.pixel_m, update.energy_ev
        self._projections = {}
        for key, item in items.items():
            self._projections[key] = item
            self._align(key)
            self._back_project(key)

    def _align(self, key: int) -> None:
        if self._config.align == "none" or self._frame is None:
            return
        item = self._projections[key]
        others = [other for number, other in self._projections.items() if number != key]
        item.shift_px = item.best_shift_px(self._frame, mean_profile(others, self._frame))

    def _realign(self) -> None:
        if self._config.align == "none" or self._frame is None or len(self._projections) < 3:
            return
        for key, shift_px in realigned_shifts_px(self._projections, self._frame).items():
            if math.dist(shift_px, self._projections[key].shift_px) > REALIGN_PX:
                self._projections[key].shift_px = shift_px
                self._back_project(key)

    def _back_project(self, key: int) -> None:
        assert self._sums is not None
        assert self._frame is not None
        item = self._projections[key]
        if not item.trusted:
            if key in self._sums:
                self._sums.remove(key)
            return
        beta = self._config.quantity == "beta"
        placed = item.placed_absorption(self._frame) if beta else item.placed_phase(self._frame)
        self._sums.add(key, item.angle_deg, placed)

    def _factor(self) -> np.float32:
        config = self._config
        return np.float32(quantity_per_radian(config.quantity, self._energy_ev, self._pixel_m, config.a_over_z))


def _given_air(coverage: Array, columns_px: tuple[int, int] | None) -> Array | None:
    if columns_px is None or coverage.ndim != 2 or not np.isfinite(coverage).all():
        return None
    area = reliable_area(coverage)
    left, right = np.cumsum(area, axis=1), np.cumsum(area[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(area & ((left <= columns_px[0]) | (right <= columns_px[1])))


def _fluence_per_m2(update: ObjectUpdate, phase: ProjectionPhase) -> float:
    lit = phase.weight >= 1
    if not lit.any():
        return 0.0
    air = float(np.median(np.abs(update.object[lit]) / np.maximum(phase.magnitude[lit], DARKEST)))
    return float(np.median(update.coverage[lit])) * air**2 / update.pixel_m**2


AggregatorFactory = Callable[[str, TomographyConfig], AggregatorProtocol]
AGGREGATORS: Registry[AggregatorFactory] = Registry("aggregators", {"incremental_fbp": lambda: Aggregator})


def aggregator(scan_id: str, config: TomographyConfig, name: str = "incremental_fbp") -> AggregatorProtocol:
    """Return a new aggregator of the kind called `name`.

    Raises
    ------
    UnknownPluginError
        If there is no such kind.
    """
    return AGGREGATORS.get(name)(scan_id, config)
