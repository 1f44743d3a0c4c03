"""What a tomogram resolves: the worse of what its halves agree on and of what its angles can tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from streamptycho.messages import Array, VolumeUpdate
from streamptycho.resolution import CorrelationCurve, resolution_m, resolutions_m
from streamptycho.tomography.backprojection import IncrementalBackProjection
from streamptycho.tomography.figures import largest_gap_deg
from streamptycho.tomography.frame import Frame
from streamptycho.tomography.half_volumes import MIN_PROJECTIONS, half_volume_correlation
from streamptycho.tomography.placed_projection import PlacedProjection

MEASURED_EVERY = 1.15
WEDGE_RATIO = 2.0

HALVES = "resolution_half_bit_m"
ANGLES = "resolution_angular_sampling_m"
PROJECTIONS = "resolution_of_projections_m"
ALONG = "resolution_along_rotation_axis_m"
COMPLETE = "angular_range_complete"


class VolumeResolution:
    """Resolution of a growing tomogram, as half periods in metres.

    Two halves of the projections show what noise and errors leave. They share the missing wedge: so the volume is never
    said to be better than the widest gap between its angles allows. What the projections resolve is told beside and is
    no limit: half of the frames of one overlap too little to be as good, and a volume of many noisy projections shows
    more than any of them.

    Parameters
    ----------
    wanted_m
        What is good enough, None for nothing.

    References
    ----------
    Angular sampling: R. A. Crowther, D. J. DeRosier, A. Klug, Proc. R. Soc. Lond. A 317, 319 (1970).
    doi:10.1098/rspa.1970.0119
    """

    def __init__(self, wanted_m: float | None = None) -> None:
        self._wanted_m = wanted_m
        self._curve: CorrelationCurve | None = None
        self._pixel_m = 0.0
        self._halves: dict[str, float] = {}
        self._angular_m = 0.0
        self._of_projections: dict[str, float] = {}
        self._gap_deg = 180.0
        self._measured_with = 0
        self._measured: Any = None
        self._complete = False
        self._complete_then = False

    @property
    def stated_m(self) -> float | None:
        """The worse of both limits, None while the halves agree nowhere or are too few to tell."""
        return max(self._halves[HALVES], self._angular_m) if HALVES in self._halves else None

    @property
    def reached(self) -> bool:
        """Whether the wanted resolution is there, with all of the half turn measured."""
        stated = self.stated_m
        return self._wanted_m is not None and stated is not None and stated <= self._wanted_m and self._complete

    def figures(self) -> dict[str, float]:
        """Return all limits in metres, the largest gap between angles and whether the half turn is complete."""
        figures = {
            **self._halves,
            **self._of_projections,
            ANGLES: self._angular_m,
            "largest_gap_deg": self._gap_deg,
            COMPLETE: float(self._complete),
        }
        if self._wanted_m is not None:
            figures["wanted_resolution_m"] = self._wanted_m
            figures["wanted_resolution_reached"] = float(self.reached)
        return figures

    def curve(self) -> dict[str, list[float]]:
        """Return the last measured Fourier shell correlation across the axis, as `VolumeUpdate.fsc` has it."""
        return self._curve.columns(self._pixel_m) if self._curve is not None else {}

    def judge(
        self,
        sums: IncrementalBackProjection,
        projections: Mapping[int, PlacedProjection],
        frame: Frame,
        *,
        final: bool = False,
    ) -> None:
        """Bring the limits up to date.

        The halves are compared when the projections have grown by a seventh, when the half turn has become complete,
        at the end, and whenever the wanted resolution is to be said to be reached.
        """
        used = {key: item for key, item in projections.items() if item.trusted and key in sums}
        width_px, radius_px = sample_size_px(used, frame)
        self._pixel_m = frame.pixel_m
        self._take_limits(used, width_px)
        state = {key: (id(item), item.shift_px, item.corrected_px) for key, item in used.items()}
        said_again = self.reached and state != self._measured
        grown = len(used) >= max(MIN_PROJECTIONS, MEASURED_EVERY * self._measured_with)
        closed = self._complete and not self._complete_then and len(used) >= MIN_PROJECTIONS
        if final or grown or closed or said_again or len(used) < self._measured_with:
            self._compare(sums, used, width_px, radius_px, state)

    def _take_limits(self, used: Mapping[int, PlacedProjection], width_px: float) -> None:
        angles = np.array([item.angle_deg for item in used.values()])
        self._gap_deg, self._complete = largest_gap_deg(angles), angles_are_complete(angles)
        sample_m = width_px * self._pixel_m
        # The period is the way that the rim of the sample goes from one projection to the next.
        self._angular_m = min(0.5 * sample_m * float(np.radians(self._gap_deg)), sample_m)
        known = [item.resolution_m for item in used.values() if item.resolution_m is not None]
        self._of_projections = {PROJECTIONS: float(np.median(known))} if known else {}

    def _compare(
        self,
        sums: IncrementalBackProjection,
        used: Mapping[int, PlacedProjection],
        width_px: float,
        radius_px: float,
        state: Any,
    ) -> None:
        by_angle = sorted(used, key=lambda key: used[key].angle_deg % 180.0)
        angles = np.array([used[key].angle_deg for key in by_angle])
        found = half_volume_correlation(sums, by_angle, angles, width_px, radius_px)
        self._measured_with, self._measured, self._complete_then = len(used), state, self._complete
        self._curve, self._halves = None, {}
        if found is None:
            return
        self._curve = found.across
        across = resolutions_m(found.across, self._pixel_m)
        self._halves = {f"resolution_{name}_m": value for name, value in across.items()}
        along = resolution_m(found.along, self._pixel_m)
        if along is not None:
            self._halves[ALONG] = along


def angles_are_complete(angles_deg: Array) -> bool:
    """Whether no gap between angles (K,) modulo 180 degrees is far wider than all others."""
    folded = np.sort(np.mod(angles_deg, 180.0))
    if folded.size < 2:
        return False
    gaps = np.sort(np.diff(folded, append=folded[0] + 180.0))
    return bool(gaps[-1] <= WEDGE_RATIO * gaps[-2] * (1 + 1e-6))


def sample_size_px(projections: Mapping[int, PlacedProjection], frame: Frame) -> tuple[float, float]:
    """Return how wide the sample is across the axis at most, and how far from the axis it goes.

    Where no projection shows anything it is the whole frame.
    """
    columns = frame.shape[1]
    edges = np.array([item.edges_in(frame) for item in projections.values() if item.edges_px is not None])
    if not edges.size:
        return float(columns), columns / 2
    width = float(np.max(edges[:, 1] - edges[:, 0])) + 1.0
    radius = float(np.max(np.abs(edges - columns // 2)))
    return min(width, float(columns)), min(radius, columns / 2)


def resolution_text(update: VolumeUpdate) -> str:
    """Return the resolution with what limits it, and whether it is what the operator wants; empty if unknown."""
    figures, now, wanted = update.figures, update.resolution_m, update.figures.get("wanted_resolution_m")
    if now is None:
        return ""
    text = f"{now * 1e9:.0f} nm half-period resolution, limited by {_limited_by(figures, now)}"
    if now > figures.get(HALVES, now):
        text = f"{text} (its halves agree to {figures[HALVES] * 1e9:.0f} nm)"
    if wanted is None:
        return text
    reached = figures.get("wanted_resolution_reached", 0.0) > 0
    return f"{text}: the wanted {wanted * 1e9:.0f} nm {'are reached' if reached else 'are not reached yet'}"


def _limited_by(figures: Mapping[str, float], now_m: float) -> str:
    gap = figures.get("largest_gap_deg", 0.0)
    if figures.get(ANGLES, 0.0) >= now_m:
        open_wedge = figures.get(COMPLETE, 0.0) <= 0
        return f"{gap:.0f}° that are not measured yet" if open_wedge else f"{gap:.1f}° between its angles"
    return "what its halves agree on (1/2 bit)"
