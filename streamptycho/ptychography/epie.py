"""The incremental extended ptychographic iterative engine.

References
----------
Maiden and Rodenburg 2009, doi 10.1016/j.ultramic.2009.05.012.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from streamptycho.array import backend
from streamptycho.config import ReconstructionConfig
from streamptycho.messages import Anomaly, Array, DiffractionBatch, ObjectUpdate, ProjectionStart, Reason
from streamptycho.ptychography.canvas import Canvas, coverage
from streamptycho.ptychography.carry import ProbeCarry
from streamptycho.ptychography.engine import Clock, EngineError, Progress
from streamptycho.ptychography.frames import LARGEST_POSITION_PX, FrameStore, anomalies
from streamptycho.ptychography.probe import (
    SAMPLE_FRAMES,
    checked_probe,
    orthogonal_modes,
    probe_from_data,
    read_probe,
    scaled_to,
    with_modes,
)
from streamptycho.ptychography.schedule import VisitSchedule
from streamptycho.ptychography.split import split_resolution_m
from streamptycho.ptychography.update import Updater, prepare, probe_updater

_SYNCHRONISE_EVERY = 32
_FRAMES_FOR_A_GUESS = 32


class EpieEngine:
    """Sequential ePIE whose frames may come while it works.

    Frames are visited one after another, in the order of `VisitSchedule`, with the exact update of the reference. The
    first visits of each frame, `probe_delay_sweeps` of them, refine only the object: an object that is still 1 there
    would push its own structure into the probe.

    Parameters
    ----------
    config
        Steps, modes, device, start probe, limits.
    clock
        Seconds that only grow; measures the budget of `step`.
    probe
        (n, n) or (modes, n, n) complex: start probe instead of the configured one.

    Raises
    ------
    DeviceError
        If the configured device cannot be used.
    ProbeError
        If the start probe cannot be used.
    """

    def __init__(
        self, config: ReconstructionConfig, clock: Clock = time.perf_counter, probe: Array | None = None
    ) -> None:
        self._config = config
        self._clock = clock
        self._backend = backend(config.device)
        prepare(self._backend)
        given = probe if probe is not None else read_probe(config.probe)
        self._given_probe = None if given is None else checked_probe(given)
        self._updater: Updater | None = None
        self._carry = ProbeCarry()
        self._guessed_from = 0
        self._start: ProjectionStart | None = None

    def begin(self, start: ProjectionStart) -> None:
        """Start a new projection: the object is 1 again, the probe carries over when configured.

        It does not carry when the frames have another size, or when it was guessed from a few frames and the projection
        ended before they were swept `min_sweeps` times. A projection that spoiled it (see `ProbeCarry`) hands on the
        probe that it began with.

        Raises
        ------
        ProbeError
            If a supplied probe does not fit the frames.
        """
        n = start.geometry.shape[0]
        if self._given_probe is not None:
            checked_probe(self._given_probe, n)
        same_size = self._start is not None and self._start.geometry.shape[0] == n
        if self._config.carry_probe and same_size and not self._probe_is_immature:
            self._carry_over()
        else:
            self._updater = None
            self._carry = ProbeCarry()
        self._start = start
        self._guessed_from = 0
        self._n = n
        self._pixel_m = start.geometry.object_pixel_m
        self._store = FrameStore(self._backend, start.geometry.shape)
        self._canvas = Canvas(self._backend, n, self._config.margin_px, max(self._config.max_canvas_px, n))
        self._schedule = VisitSchedule(self._config.seed + start.projection, self._config.sweeps)
        self._corners: list[tuple[int, int]] = []
        self._fractions: list[tuple[float, float]] = []
        self._errors: list[float] = []
        self._residual = 0.0
        self._counted = 0.0
        self._visited = 0

    @property
    def frames(self) -> int:
        """Frames of this projection that are held."""
        return 0 if self._start is None else len(self._store)

    @property
    def sweeps(self) -> float:
        """How often every frame was visited: the minimum over frames, plus the fraction that is beyond it."""
        return 0.0 if self._start is None else self._schedule.sweeps

    def add(self, batch: DiffractionBatch) -> list[Anomaly]:
        """Take the frames of a batch and return what was left out, counted by reason.

        Raises
        ------
        EngineError
            If no projection was begun.
        """
        start = self._started()
        if (batch.scan_id, batch.projection) != (start.scan_id, start.projection):
            detail = f"frames of projection {batch.projection} while {start.projection} is reconstructed"
            return [Anomaly(source="reconstruct", reason=Reason.STRAY, count=len(batch.index), detail=detail)]
        good, lost = self._store.usable(batch, use_turnaround=self._config.use_turnaround)
        if good.any():
            centre_px = batch.xy_m[:, ::-1] / self._pixel_m
            near = good & (np.abs(np.where(np.isfinite(centre_px), centre_px, np.inf)) < LARGEST_POSITION_PX).all(
                axis=1
            )
            whole = np.rint(np.where(near[:, None], centre_px, 0)).astype(np.int64)
            corners = whole - self._n // 2
            near[near] = self._canvas.fitting(corners[near])
            if near.sum() < good.sum():
                lost[Reason.OUT_OF_RANGE] += int(good.sum() - near.sum())
            good = near
        if good.any():
            self._canvas.include(corners[good])
            self._store.add(batch, good)
            self._corners.extend(map(tuple, corners[good].tolist()))
            self._fractions.extend(map(tuple, (centre_px - whole)[good].tolist()))
            self._schedule.add(int(good.sum()))
        return anomalies(lost)

    def step(self, budget_s: float) -> Progress:
        """Visit frames for about this time, or until each was visited as often as configured."""
        self._started()
        deadline = self._clock() + budget_s
        updates = 0
        while self._clock() < deadline:
            done = self._visit_some(deadline)
            updates += done
            if done == 0:
                break
        return Progress(sweeps=self.sweeps, frames=self.frames, error=self._error(), updates=updates)

    def run(self, sweeps: int) -> None:
        """Visit as many frames as `sweeps` sweeps have, without a time budget."""
        self._started()
        left = sweeps * self.frames
        while left > 0:
            done = self._visit_some(None, left)
            left -= done
            if done == 0:
                break

    def evaluate(self) -> float | None:
        """Return the normalised amplitude error of all frames with object and probe as they are, None without any."""
        if self.frames == 0:
            return None
        updater = self._with_probe()
        store = self._store
        residual: Any = 0.0
        for k, corner in enumerate(self._corners):
            patch = self._canvas.patch(*corner)
            residual = residual + updater.misfit(patch, self._fractions[k], store.counts(k), store.has_gaps[k])
        return float(residual) / sum(store.totals)

    def update(self, *, final: bool = False) -> ObjectUpdate | None:
        """Return the projection as it stands, None before the first frame.

        The probe modes come out orthogonal, strongest first. A `final` update carries the resolution, judged by
        reconstructing two halves of the frames (see `split_resolution_m`).
        """
        start = self._started()
        if self.frames == 0:
            return None
        modes = self._with_probe().probe
        array, origin = self._canvas.cropped()
        intensity = (modes.real**2 + modes.imag**2).sum(axis=0)
        lit = coverage(np.array(self._corners), intensity, origin, array.shape, self._backend)
        probe = orthogonal_modes(self._backend.to_host(modes).copy())
        return ObjectUpdate(
            scan_id=start.scan_id,
            projection=start.projection,
            angle_deg=start.angle_deg,
            object=self._backend.to_host(array).copy(),
            probe=probe,
            coverage=self._backend.to_host(lit),
            pixel_m=self._pixel_m,
            energy_ev=start.geometry.energy_ev,
            origin_xy_m=np.array([origin[1], origin[0]]) * self._pixel_m,
            index=self._store.index,
            xy_m=self._store.xy_m,
            errors=np.array(self._errors, np.float32),
            sweeps=self.sweeps,
            resolution_m=self._resolution_m(probe) if final else None,
            final=final,
        )

    def _visit_some(self, deadline: float | None, limit: int = _SYNCHRONISE_EVERY) -> int:
        """Visit frames until the deadline, at most a few, and wait for the device. Returns how many."""
        if self.frames == 0:
            return 0
        updater, store, config = self._with_probe(), self._store, self._config
        residuals = []
        for _ in range(min(limit, _SYNCHRONISE_EVERY)):
            frame = self._schedule.take()
            if frame is None:
                break
            delayed = self._schedule.visits[frame] <= config.probe_delay_sweeps
            residual = updater.visit(
                self._canvas.patch(*self._corners[frame]),
                self._fractions[frame],
                store.counts(frame),
                store.has_gaps[frame],
                config.object_step,
                0.0 if delayed else config.probe_step,
            )
            residuals.append((residual, store.totals[frame]))
            if deadline is not None and self._clock() >= deadline:
                break
        for residual, total in residuals:
            self._count_visit(float(residual), total)
        return len(residuals)

    def _count_visit(self, residual: float, total: float) -> None:
        self._residual += residual
        self._counted += total
        self._visited += 1
        if self._visited >= self.frames:
            self._errors.append(self._residual / self._counted)
            self._residual = self._counted = 0.0
            self._visited = 0

    def _error(self) -> float | None:
        return self._errors[-1] if self._errors else None

    def _started(self) -> ProjectionStart:
        if self._start is None:
            raise EngineError("no projection was begun: call begin(ProjectionStart) first")
        return self._start

    @property
    def _probe_is_immature(self) -> bool:
        few = 0 < self._guessed_from < _FRAMES_FOR_A_GUESS
        return few and self._schedule.sweeps < self._config.min_sweeps

    def _carry_over(self) -> None:
        if self._updater is None:
            return
        ended_with = self._backend.to_host(self._updater.probe)
        probe = self._carry.end(ended_with, self._error())
        if probe is None:
            self._updater = None
        elif probe is not ended_with:
            self._updater = probe_updater(probe, self._backend)
        self._carry.begin(None if probe is None else probe.copy())

    def _with_probe(self) -> Updater:
        """Return the updater. While frames are few, the probe is guessed anew whenever twice as many are there.

        The mean modulus of a handful of frames still shows the sample.
        """
        enough = min(self.frames, _FRAMES_FOR_A_GUESS)
        if self._updater is None or 0 < 2 * self._guessed_from <= enough:
            start = self._started()
            if self._given_probe is not None:
                probe = scaled_to(self._given_probe, float(np.mean(self._store.totals[:SAMPLE_FRAMES])))
            else:
                sample = self._store.sample(SAMPLE_FRAMES)
                probe = probe_from_data(sample, start.geometry, self._config.probe, self._backend)
                self._guessed_from = self.frames
            self._updater = probe_updater(with_modes(probe, self._config.modes), self._backend)
        return self._updater

    def _resolution_m(self, probe: Array) -> float | None:
        return split_resolution_m(
            self._store, np.array(self._corners), self._fractions, probe, self._pixel_m, self._config, self._backend
        )
