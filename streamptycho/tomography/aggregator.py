"""Projections in, tomogram out: one message at a time, in any order, each replaceable."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from streamptycho.config import TomographyConfig
from streamptycho.messages import Anomaly, Array, ObjectUpdate, Reason, VolumeUpdate
from streamptycho.registry import Registry
from streamptycho.tomography.backprojection import MAX_VOXELS, IncrementalBackProjection, VolumeTooLargeError
from streamptycho.tomography.frame import Extent, Frame
from streamptycho.tomography.gridrec import TomopyMissingError, gridrec, tomopy_available
from streamptycho.tomography.half_volumes import half_volume_resolution_m
from streamptycho.tomography.interface import AggregatorProtocol, ProjectionStack
from streamptycho.tomography.phase import PhaseError, projection_phase
from streamptycho.tomography.placed_projection import PlacedProjection, mean_profile, realigned_shifts_px
from streamptycho.tomography.refractive_index import quantity_per_radian

PIXEL_TOLERANCE = 5e-4
ENERGY_TOLERANCE = 5e-4
REALIGN_PX = 0.02


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
        self._resolution_m: float | None = None

    @property
    def projections_used(self) -> int:
        """How many projections are in the volume."""
        return len(self._projections)

    def add(self, update: ObjectUpdate) -> list[Anomaly]:
        """Take a projection, in place of an earlier one of the same number.

        One that cannot be used (another scan, no angle, another pixel or energy, not finite, hardly lit, far from
        all others, or making the volume too large) is answered by an `Anomaly` and leaves the volume as it was.
        """
        fault = self._fault(update)
        if fault is not None:
            return [self._anomaly(update, *fault)]
        try:
            phase = projection_phase(update.object, update.coverage, unwrap=self._config.unwrap)
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

        `final` True first aligns all projections once more, each against all others, and measures the resolution.
        """
        if self._sums is None:
            return None
        if final:
            self._realign()
            self._resolution_m = self.resolution_m()
        across_z, across_y, across_x = self._sums.orthoslices()
        factor = self._factor()
        return VolumeUpdate(
            scan_id=self.scan_id,
            slice_z=across_z * factor,
            slice_y=across_y * factor,
            slice_x=across_x * factor,
            voxel_m=self._pixel_m,
            quantity=self._config.quantity,
            projections_used=len(self._projections),
            resolution_m=self._resolution_m,
            final=final,
        )

    def volume(self) -> Array:
        """Return the volume (Z, Y, X) float32 in the configured quantity, (0, 0, 0) before the first projection."""
        if self._sums is None:
            return np.zeros((0, 0, 0), np.float32)
        if self._config.final_volume == "gridrec":
            stack = self.projection_stack()
            volume = gridrec(-stack.phase_rad, stack.angles_deg, self._config.filter)
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
        by_angle = sorted(self._projections, key=lambda key: self._projections[key].angle_deg % 180.0)
        return half_volume_resolution_m(self._sums, by_angle, self._pixel_m)

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
        return Anomaly(
            source="reconstruct",
            reason=reason,
            unit="messages",
            series=self.scan_id,
            detail=f"projection {update.projection} is not in the volume: {text}",
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
        self._sums.add(key, item.angle_deg, item.placed_phase(self._frame))

    def _factor(self) -> np.float32:
        return np.float32(quantity_per_radian(self._config.quantity, self._energy_ev, self._pixel_m))


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
