"""How good reconstructions of scans with known truth are, beside pty-chi on the same frames, probe and sweeps."""

from __future__ import annotations

import functools
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks import fast_scan, paper_scan
from benchmarks.known_scan import KnownScan
from benchmarks.row import Effort, NotMeasurable, Row
from benchmarks.truth import Agreement, agreement, position_error_m
from streamptycho.array import backend
from streamptycho.config import ProbeConfig
from streamptycho.messages import Array
from streamptycho.ptychography import reconstruct
from streamptycho.ptychography.metrics import amplitude_error
from streamptycho.ptychography.probe import probe_from_data, with_modes

PEER_PYTHON = Path(__file__).resolve().parents[1] / ".venv-ptychi" / "bin" / "python"
PEER_SCRIPT = Path(__file__).with_name("ptychi_peer.py")
PEER_LIMIT_S = 1800
SWEEPS = 50
POSITION_ERROR_M = 6e-8
CANVAS_PX = 320


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a reconstruction reached, how far its positions are from the true ones, and the seconds that it took."""

    agreement: Agreement
    error: float
    position_error_m: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Contest:
    """A scan, how it is reconstructed, and the middle field (width, height) in which the object is compared."""

    name: str
    scan: Callable[[], KnownScan]
    modes: int
    start: ProbeConfig
    compared_m: tuple[float, float]
    correct_positions: bool = False
    shared_frames: int = 1
    likelihood_steps: int = 0

    def measured(self, method: str, batch: int) -> Callable[[Effort], Iterator[Row]]:
        """Return a measurement against a method of pty-chi with so many frames at a time."""

        def measure(effort: Effort) -> Iterator[Row]:
            if not PEER_PYTHON.exists():
                raise NotMeasurable(f"pty-chi is compared from an environment of its own, {PEER_PYTHON}: make peers")
            ours, theirs = _ours(self), _ptychi(self, method, batch)
            peer = f"pty-chi {method}, {batch} frames at a time"
            mine, other = ours.agreement, theirs.agreement
            resolved = f"resolved to {_nm(mine)}; theirs to {_nm(other)}"
            floor = f"the truth itself has {self.scan().noise_floor:.5f}"
            before_m = position_error_m(self.scan().xy_m, self.scan().true_xy_m)
            figures: list[tuple[str, str, Literal["more", "less"], float, float, str]] = [
                ("mean ring correlation with the truth", "", "more", mine.correlation, other.correlation, resolved),
                (
                    "rms error of the object",
                    "",
                    "less",
                    mine.object_error,
                    other.object_error,
                    "over that of the truth",
                ),
                ("normalised amplitude error", "", "less", ours.error, theirs.error, floor),
            ]
            if self.correct_positions:
                moved = (1e9 * ours.position_error_m, 1e9 * theirs.position_error_m)
                figures.append(("rms position error", "nm", "less", *moved, f"{1e9 * before_m:.1f} nm as measured"))
            figures.append(("time", "s", "less", ours.seconds, theirs.seconds, "for all sweeps, on the same cores"))
            for what, unit, better, figure, reference, meaning in figures:
                yield Row(
                    name=f"{self.name}, {SWEEPS} sweeps: {what}",
                    figure=figure,
                    unit=unit,
                    better=better,
                    spread=0.0,
                    rounds=1,
                    reference=peer,
                    reference_figure=reference,
                    ratio=figure / reference,
                    meaning=meaning,
                )

        return measure

    def agreement(self, obj: Array, origin_xy_m: Array) -> Agreement:
        """Compare an object with the truth."""
        scan = self.scan()
        return agreement(obj, origin_xy_m, scan.transmission, scan.pixel_m, self.compared_m)


def paper_contest(photons: float, *, position_error_m: float = 0.0) -> Contest:
    """Return the 3 kHz scan, with wrong positions to be corrected if their error is not 0."""
    scan = functools.cache(lambda: paper_scan.known_scan(photons=photons, position_error_m=position_error_m))
    name = f"3 kHz scan, {photons:.0e} photons a frame, 4 modes"
    correct = position_error_m > 0
    if correct:
        name += ", positions corrected"
    return Contest(name, scan, 4, paper_scan.START_PROBE, (7e-6, 7e-6), correct)


def fast_contest(photons: float = 1.4e3, *, likelihood_steps: int) -> Contest:
    """Return the 110 kHz scan: upsampled by two, positions interpolated and corrected."""
    scan = functools.cache(lambda: fast_scan.fast_scan(photons=photons))
    name = f"110 kHz scan, {photons:.1e} photons a frame, {fast_scan.MODES} modes, positions corrected"
    if likelihood_steps:
        name += ", likelihood"
    return Contest(name, scan, fast_scan.MODES, fast_scan.START_PROBE, (4.5e-6, 4.5e-6), True, 100, likelihood_steps)


@functools.cache
def _ours(contest: Contest) -> Outcome:
    scan = contest.scan()
    settings: dict[str, Any] = {"likelihood_steps": contest.likelihood_steps}
    if contest.correct_positions:
        settings |= {"positions": "gradient", "position_shared_frames": contest.shared_frames}
    began = time.perf_counter()
    result = reconstruct(
        scan.counts,
        scan.xy_m,
        scan.geometry,
        modes=contest.modes,
        sweeps=SWEEPS,
        probe_start=contest.start,
        upsampling=scan.upsampling,
        **settings,
    )
    seconds = time.perf_counter() - began
    left_m = position_error_m(result.xy_m, scan.true_xy_m[result.index])
    return Outcome(contest.agreement(result.object, result.origin_xy_m), result.error, left_m, seconds)


def _ptychi(contest: Contest, method: str, batch: int) -> Outcome:
    """Run the peer. It samples the far field as finely as the detector only: pixels are divided evenly for it."""
    scan = contest.scan()
    fine = scan.upsampling
    counts = scan.counts.astype(np.float32).repeat(fine, axis=1).repeat(fine, axis=2) / fine**2
    # its transform multiplies the sum of squares by the number of pixels
    with tempfile.TemporaryDirectory() as folder:
        given, taken = Path(folder) / "scan.npz", Path(folder) / "result.npz"
        np.savez(
            given,
            counts=counts,
            yx_px=scan.xy_m[:, ::-1] / scan.pixel_m,
            probe=_start_probe(contest) / counts.shape[-1],
            shape=np.array([CANVAS_PX, CANVAS_PX]),
        )
        arguments = [PEER_PYTHON, PEER_SCRIPT, given, taken, method, str(SWEEPS), str(batch)]
        if contest.correct_positions:
            arguments.append("positions")
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=PEER_LIMIT_S, check=False)
        if done.returncode != 0:
            raise NotMeasurable(f"pty-chi ended with {done.returncode}: {done.stderr.strip()[-300:]}")
        with np.load(taken) as result:
            found = {name: result[name] for name in result.files}
    origin_xy_m = -found["origin_px"][::-1].astype(float) * scan.pixel_m
    xy_m = found["yx_px"][:, ::-1].astype(float) * scan.pixel_m
    probe = found["probe"] * counts.shape[-1]
    error = amplitude_error(scan.counts, xy_m, found["object"], probe, pixel_m=scan.pixel_m, origin_xy_m=origin_xy_m)
    left_m = position_error_m(xy_m, scan.true_xy_m)
    return Outcome(contest.agreement(found["object"], origin_xy_m), error, left_m, float(found["seconds"]))


def _start_probe(contest: Contest) -> Array:
    """Return the probe that the engine would start from."""
    scan = contest.scan()
    sample = np.fft.ifftshift(scan.counts[:: max(1, len(scan.counts) // 100)], axes=(1, 2))
    start = probe_from_data(sample, scan.geometry, contest.start, backend("cpu"), upsampling=scan.upsampling)
    return np.asarray(with_modes(start, contest.modes))


def _nm(found: Agreement) -> str:
    return "nothing" if found.resolution_m is None else f"{found.resolution_m * 1e9:.0f} nm"
