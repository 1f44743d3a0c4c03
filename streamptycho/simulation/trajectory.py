"""Where the beam is on the sample at any time of a projection, and when the detector counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from streamptycho.config import TrajectoryConfig
from streamptycho.messages import Array
from streamptycho.simulation.errors import SimulationError

MAX_FRAMES = 10_000_000
_VIBRATIONS = 24
_MEAN_POINTS = 5
_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))

Path = Callable[[Array], Array]


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """One projection's motion and exposures. Times count from the first exposure.

    `start_s` and `stop_s` (N,) float64 are the exposures, `duration_s` ends with the last motion. `true_xy_m` tells
    the position at times (T,) as (T, 2) float64 with the vibration that encoders see, `nominal_xy_m` without.
    """

    start_s: Array
    stop_s: Array
    duration_s: float
    nominal_xy_m: Path
    vibration_m: Path

    def __len__(self) -> int:
        return len(self.start_s)

    def true_xy_m(self, time_s: Array) -> Array:
        """Return the position of the beam on the sample, (T, 2) in metres, x first."""
        return np.asarray(self.nominal_xy_m(time_s) + self.vibration_m(time_s))

    def mean_xy_m(self, start_s: Array, stop_s: Array) -> Array:
        """Return the mean positions over intervals, (N, 2): what an encoder gated by the exposure captures."""
        shares = (np.arange(_MEAN_POINTS) + 0.5) / _MEAN_POINTS
        return np.asarray(np.mean([self.true_xy_m(start_s + share * (stop_s - start_s)) for share in shares], axis=0))

    def exposure_xy_m(self, samples: int) -> Array:
        """Return positions within the exposures, (N, samples, 2): one at the centre, or spread evenly."""
        shares = (np.arange(samples) + 0.5) / samples
        return np.stack([self.true_xy_m(self.start_s + s * (self.stop_s - self.start_s)) for s in shares], axis=1)


def make_trajectory(config: TrajectoryConfig, rate_hz: float, exposure_fraction: float, seed: int) -> Trajectory:
    """Return the motion of one projection; `seed` chooses its vibration.

    Raises
    ------
    SimulationError
        If the scan has no points, or too many.
    """
    points = config.width_m * config.height_m / (config.step_x_m * config.step_y_m)
    if not 0.5 <= points <= MAX_FRAMES:
        raise SimulationError(f"the trajectory has {points:.3g} points; choose steps and field for 1 to {MAX_FRAMES:g}")
    vibration = _vibration(config.jitter_m, rate_hz, seed)
    if config.kind == "snake":
        return _snake(config, rate_hz, exposure_fraction, vibration)
    return _stop_and_go(_step_points(config), rate_hz, exposure_fraction, vibration)


def _snake(config: TrajectoryConfig, rate_hz: float, exposure_fraction: float, vibration: Path) -> Trajectory:
    """Return a fly scan: continuous lines along x in alternating sense, stepped in +y during the turns."""
    frames = max(1, round(config.width_m / config.step_x_m))
    lines = max(1, round(config.height_m / config.step_y_m))
    line_s, turn_s = frames / rate_hz, config.turn_s
    speed, cycle_s = config.step_x_m * rate_hz, frames / rate_hz + turn_s
    half_m = frames * config.step_x_m / 2

    def nominal(time_s: Array) -> Array:
        line = np.clip(np.floor(time_s / cycle_s), 0, lines - 1)
        since = time_s - line * cycle_s
        in_turn = np.clip(since - line_s, 0, turn_s)
        # constant deceleration and acceleration: the stage overshoots and returns to the end of the line
        turned = in_turn - in_turn**2 / turn_s if turn_s > 0 else in_turn
        along: Array = -half_m + speed * (np.minimum(since, line_s) + np.where(line < lines - 1, turned, 0))
        share = in_turn / turn_s if turn_s > 0 else np.zeros_like(in_turn)
        step = np.where(line < lines - 1, share**2 * (3 - 2 * share), 0)
        x = np.where(line % 2 == 0, along, -along)
        y = (line + step - (lines - 1) / 2) * config.step_y_m
        return np.stack([x, y], axis=-1)

    begin = (np.arange(lines)[:, None] * cycle_s + np.arange(frames)[None, :] / rate_hz).ravel()
    stop = begin + exposure_fraction / rate_hz
    return Trajectory(begin, stop, lines * cycle_s - turn_s, nominal, vibration)


def _stop_and_go(points: Array, rate_hz: float, exposure_fraction: float, vibration: Path) -> Trajectory:
    """Return a step scan: at rest during the exposure, on the way in the rest of the period."""
    period_s = 1 / rate_hz

    def nominal(time_s: Array) -> Array:
        at = np.clip(np.floor(time_s * rate_hz + 1e-9), 0, len(points) - 1).astype(np.int64)
        after = np.minimum(at + 1, len(points) - 1)
        phase = np.clip(time_s * rate_hz - at, 0, 1)
        way = np.clip((phase - exposure_fraction) / max(1 - exposure_fraction, 1e-12), 0, 1)
        move = (way**2 * (3 - 2 * way))[..., None]
        return np.asarray(points[at] * (1 - move) + points[after] * move)

    begin = np.arange(len(points)) * period_s
    return Trajectory(begin, begin + exposure_fraction * period_s, len(points) * period_s, nominal, vibration)


def _step_points(config: TrajectoryConfig) -> Array:
    """Return the points of circles or of a spiral that lie within the field, (N, 2), from the centre outwards.

    Concentric circles are `step_y_m` apart with points `step_x_m` apart, as in Dierolf et al. 2010
    (doi 10.1038/nature09419). The spiral is Fermat's: equal area per point (Huang et al. 2014,
    doi 10.1364/OE.22.012634).
    """
    reach = math.hypot(config.width_m, config.height_m) / 2
    if config.kind == "circles":
        rings = [np.zeros((1, 2))]
        for ring in range(1, math.ceil(reach / config.step_y_m) + 1):
            radius = ring * config.step_y_m
            count = max(5, round(2 * math.pi * radius / config.step_x_m))
            azimuth = 2 * math.pi * np.arange(count) / count
            rings.append(radius * np.stack([np.cos(azimuth), np.sin(azimuth)], axis=-1))
        points = np.concatenate(rings)
    else:
        spacing = math.sqrt(config.step_x_m * config.step_y_m / math.pi)
        number = np.arange(math.ceil((reach / spacing) ** 2) + 1)
        radii, turns = spacing * np.sqrt(number), _GOLDEN_ANGLE * number
        points = np.stack([radii * np.cos(turns), radii * np.sin(turns)], axis=-1)
    inside = (np.abs(points[:, 0]) <= config.width_m / 2) & (np.abs(points[:, 1]) <= config.height_m / 2)
    return points[inside]


def _vibration(rms_m: float, rate_hz: float, seed: int) -> Path:
    """Return a random smooth motion with the given root mean square in x and in y, slower than the frames."""
    rng = np.random.default_rng(seed)
    frequency = rate_hz * np.exp(rng.uniform(math.log(0.003), math.log(0.2), (2, _VIBRATIONS)))
    phase = rng.uniform(0, 2 * math.pi, (2, _VIBRATIONS))
    amplitude = rms_m * math.sqrt(2 / _VIBRATIONS)

    def motion(time_s: Array) -> Array:
        moved = np.zeros((*np.shape(time_s), 2))
        if rms_m > 0:
            for axis in range(2):
                for f, p in zip(frequency[axis], phase[axis], strict=True):
                    moved[..., axis] += amplitude * np.sin(2 * math.pi * f * time_s + p)
        return moved

    return motion
