"""Projections in, tomogram out: one message at a time, in any order, each replaceable."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np

from streamptycho.array import backend
from streamptycho.config import TomographyConfig
from streamptycho.messages import Anomaly, Array, ObjectUpdate, Reason, VolumeUpdate
from streamptycho.registry import Registry
from streamptycho.tomography.acceptance import Acceptance, diverged
from streamptycho.tomography.backprojection import MAX_VOXELS, IncrementalBackProjection, VolumeTooLargeError, filled
from streamptycho.tomography.cuda_back_projection import back_projection
from streamptycho.tomography.figures import (
    air_figures,
    angular_span_deg,
    densities,
    dose_gy,
    matter_mean,
    motion,
)
from streamptycho.tomography.final_volume import slabs
from streamptycho.tomography.frame import Extent, Frame
from streamptycho.tomography.gridrec import TomopyMissingError, tomopy_available
from streamptycho.tomography.incoming import phase_of, placed
from streamptycho.tomography.interface import AggregatorProtocol, ProjectionStack, VolumeSlabs
from streamptycho.tomography.joint_alignment import AlignmentJob, apply_alignment
from streamptycho.tomography.phase import PhaseError
from streamptycho.tomography.placed_projection import PlacedProjection, mean_profile, realigned_shifts_px
from streamptycho.tomography.refinement import Refined
from streamptycho.tomography.refractive_index import quantity_per_radian
from streamptycho.tomography.volume_resolution import VolumeResolution

PIXEL_TOLERANCE = 5e-4
ENERGY_TOLERANCE = 5e-4
REALIGN_PX = 0.02
MIN_SPAN_DEG = 0.1


class Aggregator:
    """Phase, alignment and incremental filtered back-projection of the projections of one scan.

    Projections are placed by `origin_xy_m` in a frame about the first, which grows when one does not fit, then
    aligned. With `align: none` positions are trusted and the rotation axis is x = 0 of the stage.

    Projections of one angle, or within a tenth of a degree of it, are no volume: there are no orthoslices until another
    one comes.

    Memory per projection: 12 bytes per reliable object pixel and 4 per pixel of the frame; see
    `IncrementalBackProjection` for the volume.

    Parameters
    ----------
    scan_id
        Updates of other scans are refused.
    config
        Filter, quantity, alignment, size.
    max_voxels
        Bound of the volume.

    Raises
    ------
    DeviceError
        If the configured device cannot be used here.
    TomopyMissingError
        If gridrec is configured and tomopy is not installed.
    """

    def __init__(self, scan_id: str, config: TomographyConfig, *, max_voxels: int = MAX_VOXELS) -> None:
        if config.final_volume == "gridrec" and not tomopy_available():
            raise TomopyMissingError(
                "tomography.final_volume: gridrec needs tomopy, which is not installed here: "
                "install it from conda-forge, or set final_volume: fbp"
            )
        backend(config.device)
        self.scan_id = scan_id
        self._config = config
        self._max_voxels = max_voxels
        self._projections: dict[int, PlacedProjection] = {}
        self._frame: Frame | None = None
        self._sums: IncrementalBackProjection | None = None
        self._pixel_m = 0.0
        self._energy_ev = 0.0
        self._resolution = VolumeResolution(config.wanted_resolution_m)
        self._acceptance = Acceptance()
        self._refused: set[int] = set()
        self._unsaid: list[Anomaly] = []

    @property
    def projections_used(self) -> int:
        """How many projections are in the volume."""
        return self._in_volume()

    def add(self, update: ObjectUpdate) -> list[Anomaly]:
        """Take a projection, in place of an earlier one of the same number.

        One that has diverged or cannot be used (another scan, no angle, another pixel or energy, not finite, hardly
        lit, far from all others, or making the volume too large) is answered by an `Anomaly` and leaves the volume as
        it was. So is every one that `Acceptance` sets aside, until it fits the others or is replaced.
        """
        fault = self._fault(update)
        if fault is not None:
            return [self._anomaly(update, *fault)]
        try:
            phase = phase_of(update, self._config)
        except PhaseError as error:
            return [self._anomaly(update, Reason.CORRUPT, str(error))]
        failed = diverged(phase)
        if failed is not None:
            self._refused |= {update.projection} - self._projections.keys()
            return [self._anomaly(update, Reason.CORRUPT, failed)]
        item = placed(update, phase)
        if self._config.align == "none" and not item.extent.x_m[0] <= 0.0 <= item.extent.x_m[1]:
            text = (
                f"the rotation axis x = 0 is outside of the projection, {item.extent.x_m[0]:.6g} to "
                f"{item.extent.x_m[1]:.6g} m: set positions.x.offset, or tomography.align: mass"
            )
            return [self._anomaly(update, Reason.OUT_OF_RANGE, text)]
        others = self._projections.keys() - {update.projection}
        if others and self._frame is not None and not self._frame.touches(item.extent):
            text = "it was taken elsewhere on the sample than all others"
            return [self._anomaly(update, Reason.OUT_OF_RANGE, text)]
        try:
            self._take(update, item)
        except VolumeTooLargeError as error:
            return [self._anomaly(update, Reason.OUT_OF_RANGE, str(error))]
        self._refused.discard(update.projection)
        return self._set_aside()

    def update(self, *, final: bool = False) -> VolumeUpdate | None:
        """Return the orthoslices so far, None while the projections are of one angle.

        `final` True first aligns all projections once more: each against all others, and jointly if configured.
        The resolution is brought up to date then (see `VolumeResolution`).
        """
        if self._sums is None or not self._is_volume():
            return None
        if final:
            self._realign()
            self._unsaid += self._set_aside()
            job = self.alignment()
            if job is not None:
                self._unsaid += self.realign(job, job.run())
        assert self._frame is not None
        self._resolution.judge(self._sums, self._projections, self._frame, final=final)
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
            resolution_m=self._resolution.stated_m,
            fsc=self._resolution.curve(),
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

    def volume(self, *, final: bool = True) -> Array:
        """Return the volume (Z, Y, X) float32 in the configured quantity, (0, 0, 0) while there is none.

        `final` False makes it by filtered back-projection, however it is to be made at the end.
        """
        if self._sums is not None and self._is_volume() and (self._config.final_volume == "fbp" or not final):
            volume = self._sums.volume()
            volume *= self._factor()
            return volume
        made = self.slabs()
        return filled(made.shape, made.slabs)

    def slabs(self) -> VolumeSlabs:
        """Return what `volume` does piece by piece: a large volume is never held whole."""
        if self._sums is None or not self._is_volume():
            return VolumeSlabs((0, 0, 0), ())
        pieces = slabs(self._config, self._sums, self._trusted_stack, self._factor())
        return VolumeSlabs(self.volume_shape, pieces)

    def slice_at(self, axis: Literal["z", "y", "x"], index: int) -> Array:
        """Return one slice across an axis, axes as in the orthoslices, made when it is asked for.

        Raises
        ------
        IndexError
            If there is no such slice.
        """
        shape = self.volume_shape
        number = "zyx".index(axis)
        if not 0 <= index < shape[number]:
            raise IndexError(f"slice {index} across {axis} is not in a volume of {shape} (z, y, x)")
        assert self._sums is not None
        z, y, x = (slice(index, index + 1) if axis == at else slice(None) for at in "zyx")
        return self._sums.region(z, y, x).squeeze(number) * self._factor()

    @property
    def volume_shape(self) -> tuple[int, int, int]:
        """Z, Y and X of the volume, zero while there is none."""
        if self._sums is None or not self._is_volume():
            return 0, 0, 0
        rows, columns = self._sums.shape
        return rows, columns, columns

    def projection_stack(self) -> ProjectionStack:
        """Return the projections as they are in the volume."""
        keys = sorted(self._projections)
        items = [self._projections[key] for key in keys]
        frame = self._frame or Frame((0, 0), (0.0, 0.0), 1.0)
        phase = np.empty((len(keys), *frame.shape), np.float32)
        magnitude = np.empty_like(phase)
        for k, item in enumerate(items):
            phase[k], magnitude[k] = item.placed_phase(frame), item.placed_magnitude(frame)
        return ProjectionStack(
            keys=np.array(keys, dtype=np.int64),
            angles_deg=np.array([item.angle_deg for item in items], dtype=np.float64),
            phase_rad=phase,
            magnitude=magnitude,
            shifts_px=np.array([item.shift_px for item in items], dtype=np.float64).reshape(-1, 2),
            pixel_m=self._pixel_m,
            center_xy_m=frame.center_xy_m,
        )

    def resolution_m(self) -> float | None:
        """Return the half-period resolution by the worst of its limits (see `VolumeResolution`), measured now.

        None with fewer than eight projections, or where the volumes of even and odd angles agree nowhere.
        """
        if self._sums is None or self._frame is None:
            return None
        self._resolution.judge(self._sums, self._projections, self._frame, final=True)
        return self._resolution.stated_m

    def _figures(self, slices: tuple[Array, Array, Array]) -> dict[str, float]:
        items = list(self._projections.values())
        matter, config = matter_mean(slices[0]), self._config
        return {
            **air_figures(slices[:1], config.quantity),
            **({} if matter is None else densities(matter, config.quantity, self._energy_ev, config.a_over_z)),
            **self._resolution.figures(),
            **self._motion(),
            **dose_gy(items, self._energy_ev, self._pixel_m, self._config.a_over_z),
            "energy_ev": self._energy_ev,
            "residues": float(sum(item.residues for item in items)),
            "phase_corrected_px": float(sum(item.corrected_px for item in items)),
            "left_out_projections": float(len(items) - self._in_volume() + len(self._refused)),
        }

    def _motion(self) -> dict[str, float]:
        if self._frame is None:
            return {}
        figures = motion(self._projections, self._pixel_m)
        axis_m = figures.pop("rotation_axis_m", None)
        if axis_m is not None:
            figures["rotation_axis_x_m"] = self._frame.center_xy_m[0] + axis_m
        return figures

    def _is_volume(self) -> bool:
        return angular_span_deg(np.array([item.angle_deg for item in self._projections.values()])) >= MIN_SPAN_DEG

    def _in_volume(self) -> int:
        return sum(item.trusted for item in self._projections.values())

    def _trusted_stack(self) -> ProjectionStack:
        stack = self.projection_stack()
        use = np.array([self._projections[int(key)].trusted for key in stack.keys], dtype=bool)
        return stack.only(use)

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

    def _set_aside(self) -> list[Anomaly]:
        assert self._frame is not None
        judged = self._acceptance.judge(self._projections, self._frame)
        for key in judged.changed:
            self._back_project(key)
        return [self._excluded(key, Reason.CORRUPT, why) for key, why in judged.reasons.items()]

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
            self._sums = back_projection(frame.shape, config.filter, max_voxels=self._max_voxels, device=config.device)
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
