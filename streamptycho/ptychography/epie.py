"""The incremental extended ptychographic iterative engine.

References
----------
Maiden and Rodenburg 2009, doi 10.1016/j.ultramic.2009.05.012.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import numpy as np

from streamptycho.array import backend
from streamptycho.config import ReconstructionConfig
from streamptycho.messages import Anomaly, Array, DiffractionBatch, ObjectUpdate, ProjectionStart, Reason
from streamptycho.ptychography.annealing import Annealing
from streamptycho.ptychography.canvas import coverage
from streamptycho.ptychography.engine import Clock, EngineError, Progress
from streamptycho.ptychography.flux import without_beam
from streamptycho.ptychography.frames import FrameStore, anomalies
from streamptycho.ptychography.held_frames import HeldFrames
from streamptycho.ptychography.likelihood import Likelihood
from streamptycho.ptychography.noise import photon_noise
from streamptycho.ptychography.overlap import fault_of_overlap
from streamptycho.ptychography.probe import SAMPLE_FRAMES, orthogonal_modes
from streamptycho.ptychography.probe_holder import ProbeHolder, offset_px
from streamptycho.ptychography.propagation import object_sampling
from streamptycho.ptychography.split import split_correlation
from streamptycho.ptychography.steps import StepLaw
from streamptycho.ptychography.threads import available_threads
from streamptycho.ptychography.update import Updater, prepare
from streamptycho.ptychography.vortices import LIT, VortexWatch, unwinding, winding
from streamptycho.resolution import CorrelationCurve, resolution_m

_WHOLE_GROUPS = 16
_MOST_AT_ONCE = {"cpu": 256, "gpu": 8192}
_BRIGHTEST = 95
_AGAIN = 1_000_003


class EpieEngine:
    """Sequential ePIE whose frames may come while it works.

    Frames are visited one after another, in the order of `VisitSchedule`, with the exact update of the reference. The
    first visits of each frame, `probe_delay_sweeps` of them, refine only the object: an object that is still 1 there
    would push its own structure into the probe. Steps shrink in the end (see `StepLaw`). Positions and flux are
    corrected from what each visit finds; at the end of a sweep, what all corrections have in common is taken out of
    them, and out of the object the phase vortices that thick matter gets in the first sweeps (see `vortices`).

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
        self._step_law = StepLaw(config)
        self._clock = clock
        self._backend = backend(config.device)
        prepare(self._backend)
        self._holder = ProbeHolder(config, self._backend, probe)
        self._start: ProjectionStart | None = None
        self._begun: Counter[int] = Counter()
        self._errors: list[float] = []
        self._visit_s = 0.0
        self._last = 1
        self._refined_at = 0

    def begin(self, start: ProjectionStart) -> None:
        """Start a new projection: the object is 1 again, the probe carries over when configured.

        One that was begun before is visited in another order than then.

        Raises
        ------
        ProbeError
            If a supplied probe does not fit the frames.
        """
        config, geometry = self._config, start.geometry
        before = None if self._start is None else (self._start.scan_id, self._start.projection)
        again = before == (start.scan_id, start.projection)
        self._holder.begin(geometry, self._error(), self.sweeps, again=again)
        self._start = start
        far_field = config.propagator == "far_field"
        self._pixel_m = object_sampling(geometry, config)[1]
        self._begun[start.projection] += 1
        self._start_afresh(FrameStore(self._backend, geometry.shape, far_field=far_field), np.zeros((0, 2)))

    @property
    def frames(self) -> int:
        """Frames of this projection that are held."""
        return 0 if self._start is None else len(self._held.store)

    @property
    def sweeps(self) -> float:
        """How often every frame was visited: the minimum over frames, plus the fraction that is beyond it."""
        return 0.0 if self._start is None else self._held.schedule.sweeps

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
        config = self._config
        held = self._held
        good, lost = held.store.usable(batch, use_turnaround=config.use_turnaround, min_flux=config.min_flux)
        if good.any():
            centres_px = batch.xy_m[:, ::-1] / self._pixel_m
            near = np.zeros_like(good)
            near[np.flatnonzero(good)[held.on_canvas(centres_px[good])]] = True
            if near.sum() < good.sum():
                lost[Reason.OUT_OF_RANGE] += int(good.sum() - near.sum())
            good = near
        if good.any():
            held.add(batch, good, centres_px[good])
            dark = self._leave_out_dark()
            if dark:
                lost[Reason.NO_BEAM] += dark
        return anomalies(lost)

    def correct(self, index: Array, xy_m: Array) -> int:
        """Take better positions (K, 2) for frames that are held, by number (K,), and return how many were held.

        Object and probe stay: the next visits move what the frames show to where it belongs. Frames whose new position
        is not finite or off the canvas keep the old one.
        """
        self._started()
        frame_of = {int(number): frame for frame, number in enumerate(self._held.store.index)}
        rows = np.array([k for k, number in enumerate(index.tolist()) if number in frame_of], np.int64)
        frames = np.array([frame_of[int(number)] for number in index[rows]], np.int64)
        near = np.zeros(len(rows), bool)
        centres_px = xy_m[rows][:, ::-1] / self._pixel_m
        near[self._held.on_canvas(centres_px)] = True
        if near.any():
            self._held.correct(frames[near], centres_px[near], xy_m[rows][near])
        return int(near.sum())

    def step(self, budget_s: float) -> Progress:
        """Visit frames for about this time, or until each was visited as often as configured."""
        self._started()
        now = self._clock()
        deadline, updates = now + budget_s, 0
        while now < deadline:
            limit = int((deadline - now) / self._visit_s) if self._visit_s > 0 else 2 * self._last
            # whole groups, so that how long visits take does not decide which frames are visited together
            end = self._visited + max(1, min(limit, 2 * self._last))
            done = self._visit_some(-(-end // _WHOLE_GROUPS) * _WHOLE_GROUPS - self._visited)
            if done == 0:
                break
            before, now = now, self._clock()
            self._visit_s, self._last = (now - before) / done, done
            updates += done
        return Progress(sweeps=self.sweeps, frames=self.frames, error=self._error(), updates=updates)

    def run(self, sweeps: int) -> None:
        """Visit as many frames as `sweeps` sweeps have, without a time budget."""
        self._started()
        self.visit(sweeps * self.frames)

    def visit(self, count: int) -> int:
        """Visit this many frames, fewer when no more are due, and return how many."""
        left = count
        while left > 0:
            done = self._visit_some(left)
            if done == 0:
                break
            left -= done
        return count - left

    def evaluate(self) -> float | None:
        """Return the normalised amplitude error of all frames with object and probe as they are, None without any."""
        if self.frames == 0:
            return None
        updater, held, residual = self._updater(), self._held, 0.0
        most = _MOST_AT_ONCE[self._backend.name]
        for first in range(0, self.frames, most):
            frames = np.arange(first, min(first + most, self.frames))
            residual += float(updater.misfit(held.canvas, held.store, held.visits(frames)).residual.sum())
        return residual / float(held.store.totals.sum())

    def fault_of_overlap(self) -> str | None:
        """Return what is wrong with where the frames lie, None if nothing is: see `overlap`."""
        if self.frames == 0:
            return None
        modes = self._backend.to_host(self._updater().probe)
        return fault_of_overlap(self._held.placement.centres_px(), (modes.real**2 + modes.imag**2).sum(axis=0))

    def maximise_likelihood(self) -> None:
        """Take the configured steps of maximum likelihood, once after the last visit (see `Likelihood`)."""
        steps, done = self._config.likelihood_steps, self._held.schedule.taken
        if steps == 0 or self.frames == 0 or self._refined_at == done:
            return
        threads = self._config.threads or available_threads()
        visits, updater = self._held.visits(np.arange(self.frames)), self._updater()
        problem = Likelihood(
            self._held.canvas, self._held.store, visits, updater.probe, self._holder.rule, self._backend, threads
        )
        problem.maximise(steps)
        self._holder.replace(self._backend.to_host(problem.probe))
        self._refined_at = done

    def noise_floor(self) -> float | None:
        """Return what `evaluate` would be for the true object and probe, judged by a few frames: see `photon_noise`."""
        return photon_noise(self._backend.to_host(self._held.store.sample(SAMPLE_FRAMES))) if self.frames else None

    def update(self, *, final: bool = False) -> ObjectUpdate | None:
        """Return the projection as it stands, None before the first frame.

        The probe modes come out orthogonal, strongest first. Before a `final` update the likelihood is maximised if
        configured. It carries the resolution, judged by reconstructing two halves of the frames (see
        `split_correlation`).
        """
        start = self._started()
        if self.frames == 0:
            return None
        if final:
            self.maximise_likelihood()
        modes = self._updater().probe
        array, origin, lit = self._lit_object(modes)
        probe = orthogonal_modes(self._backend.to_host(modes).copy())
        curve = self._split_correlation(probe) if final else None
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
            index=self._held.store.index,
            xy_m=self._held.store.xy_m + self._held.placement.shift_px[:, ::-1] * self._pixel_m,
            errors=np.array(self._errors, np.float32),
            sweeps=self.sweeps,
            resolution_m=None if curve is None else resolution_m(curve, self._pixel_m),
            frc={} if curve is None else curve.columns(self._pixel_m),
            noise_floor=self.noise_floor() if final else None,
            correction_rms_m=self._correction_rms_m(),
            final=final,
        )

    def _start_afresh(self, store: FrameStore, centres_px: Array) -> None:
        """Begin with the frames of a store, measured to lie at centres (N, 2)."""
        config, start = self._config, self._started()
        seed = config.seed + start.projection + _AGAIN * (self._begun[start.projection] - 1)
        self._held = HeldFrames(store, centres_px, config, self._backend, seed)
        self._annealing = Annealing(
            config.position_radius_px,
            config.position_trials,
            config.position_delay_sweeps + 1,
            config.sweeps,
            seed,
        )
        self._vortices = VortexWatch()
        self._errors = []
        self._refined_at = 0
        self._residual = 0.0
        self._counted = 0.0
        self._visited = 0
        self._last = 1

    def _leave_out_dark(self) -> int:
        """Leave out held frames that turn out to be without beam now that brighter ones are here; return how many.

        They have spoiled the object and, where it starts from the data, the probe: the others begin again.
        """
        dark = without_beam(self._held.store.totals, np.zeros(0), self._config.min_flux)
        if dark.any():
            centres_px = self._held.placement.measured_px[~dark]
            self._holder.restart()
            self._start_afresh(self._held.store.without(dark), centres_px)
        return int(dark.sum())

    def _visit_some(self, count: int) -> int:
        """Visit up to `count` frames, within one sweep of the reported errors. Returns how many."""
        if self.frames == 0:
            return 0
        updater, config = self._updater(), self._config
        most = min(count, max(1, self.frames - self._visited), _MOST_AT_ONCE[self._backend.name])
        schedule = self._held.schedule
        sweeps, mean_visits = schedule.sweeps, schedule.taken / self.frames
        frames, numbers = schedule.take(most)
        if len(frames) == 0:
            return 0
        if config.positions == "annealing":
            self._anneal(frames, numbers)
        visits = self._held.visits(frames, *self._step_law.steps(numbers, sweeps, mean_visits, growing=schedule.grew))
        outcome = updater.visit(self._held.canvas, self._held.store, visits)
        if config.intensity_scaling:
            self._held.flux.follow(frames, outcome.gain)
        if config.positions == "gradient":
            late = numbers > config.position_delay_sweeps
            self._held.placement.follow(frames[late], outcome.shift_px[late])
        self._residual += float(outcome.residual.sum())
        self._counted += float(self._held.store.totals[frames].sum())
        self._visited += len(frames)
        if self._visited >= self.frames:
            self._end_sweep()
        return len(frames)

    def _end_sweep(self) -> None:
        self._errors.append(self._residual / self._counted)
        self._residual = self._counted = 0.0
        self._visited = 0
        self._held.placement.settle(self._held.store.index)
        self._held.flux.settle()
        if self._config.center_probe or self._config.probe_power == "brightest":
            self._constrain_probe()
        if not self._step_law.refines(self._held.schedule.sweeps) and self._vortices.due(
            len(self._errors), self.frames
        ):
            self._unwind()

    def _unwind(self) -> None:
        """Take vortices out of what is lit of the object, see `vortices`."""
        image, lit = self._lit_object(self._updater().probe)[::2]
        turns = winding(image, lit > LIT * lit.max(), self._backend.xp)
        if self._vortices.removes(int(self._backend.xp.count_nonzero(turns))):
            image *= self._backend.to_device(unwinding(self._backend.to_host(turns)))

    def _lit_object(self, modes: Any) -> tuple[Any, tuple[int, int], Any]:
        """Return what frames touched of the object, its origin in lattice pixels and its coverage, on the device."""
        image, origin = self._held.canvas.cropped()
        intensity = (modes.real**2 + modes.imag**2).sum(axis=0)
        return image, origin, coverage(self._held.places()[0], intensity, origin, image.shape, self._backend)

    def _constrain_probe(self) -> None:
        """Move and scale the probe to where it belongs, and the object against it, so that no exit wave changes."""
        probe = self._backend.to_host(self._updater().probe).copy()
        down, right = offset_px(probe) if self._config.center_probe else (0, 0)
        if down or right:
            probe = np.roll(probe, (-down, -right), axis=(1, 2))
            self._held.canvas.roll(-down, -right)
        if self._config.probe_power == "brightest":
            power = float((np.abs(probe) ** 2).sum(dtype=np.float64))
            wanted = float(np.percentile(self._held.store.totals / self._held.flux.gains, _BRIGHTEST))
            factor = np.sqrt(wanted / power) if power > 0 and np.isfinite(power) else 1.0
            probe *= np.float32(factor)
            self._held.canvas.scale(1 / factor)
        self._holder.replace(probe)

    def _anneal(self, frames: Array, numbers: Array) -> None:
        """Move frames that are due for it to where they fit best."""
        due = np.flatnonzero(numbers > self._config.position_delay_sweeps)
        updater, centres_px = self._updater(), self._held.placement.centres_px(frames[due])

        def misfit(which: Array, by_px: Array) -> Array:
            visits = self._held.visits(frames[due][which], centres_px=centres_px[which] + by_px)
            return updater.misfit(self._held.canvas, self._held.store, visits).residual

        if due.size:
            self._held.placement.move(frames[due], self._annealing.best_shifts(numbers[due], misfit))

    def _error(self) -> float | None:
        return self._errors[-1] if self._errors else None

    def _started(self) -> ProjectionStart:
        if self._start is None:
            raise EngineError("no projection was begun: call begin(ProjectionStart) first")
        return self._start

    def _updater(self) -> Updater:
        return self._holder.updater(self._held.store, self._held.places, self._pixel_m)

    def _correction_rms_m(self) -> float | None:
        if self._config.positions == "none":
            return None
        return float(np.sqrt((self._held.placement.shift_px**2).sum(axis=1).mean()) * self._pixel_m)

    def _split_correlation(self, probe: Array) -> CorrelationCurve | None:
        corners, fractions_px = self._held.places()
        return split_correlation(
            self._held.store,
            corners,
            fractions_px,
            probe,
            self._config,
            self._backend,
            self._holder.rule,
        )
