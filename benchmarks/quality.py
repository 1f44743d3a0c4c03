"""How good the reconstruction of the paper's scan is, beside pty-chi on the same frames, probe and number of sweeps."""

from __future__ import annotations

import functools
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.paper_scan import START_PROBE, KnownScan, known_scan
from benchmarks.row import Effort, NotMeasurable, Row
from benchmarks.truth import Agreement, agreement
from streamptycho.array import backend
from streamptycho.messages import Array
from streamptycho.ptychography import reconstruct
from streamptycho.ptychography.metrics import amplitude_error
from streamptycho.ptychography.probe import probe_from_data, with_modes

PEER_PYTHON = Path(__file__).resolve().parents[1] / ".venv-ptychi" / "bin" / "python"
PEER_SCRIPT = Path(__file__).with_name("ptychi_peer.py")
PEER_LIMIT_S = 1800
SWEEPS = 50
MODES = 4
COMPARED_M = (7e-6, 7e-6)
CANVAS_PX = 320


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a reconstruction reached, and the seconds that it took."""

    agreement: Agreement
    error: float
    seconds: float


def beside_ptychi(photons: float, method: str, batch: int) -> Callable[[Effort], Iterator[Row]]:
    """Return a measurement against a method of pty-chi with so many frames at a time."""

    def measure(effort: Effort) -> Iterator[Row]:
        if not PEER_PYTHON.exists():
            raise NotMeasurable(f"pty-chi is compared from an environment of its own, {PEER_PYTHON}: make peers")
        theirs, ours = _ptychi(photons, method, batch), _ours(photons)
        name = f"{photons:.0e} photons a frame, {MODES} modes, {SWEEPS} sweeps"
        peer = f"pty-chi {method}, {batch} frames at a time"
        mine, other = ours.agreement, theirs.agreement
        resolved = f"resolved to {_nm(mine)}; theirs to {_nm(other)}"
        floor = f"the truth itself has {_scan(photons).noise_floor:.5f}"
        figures: tuple[tuple[str, str, Literal["more", "less"], float, float, str], ...] = (
            ("mean ring correlation with the truth", "", "more", mine.correlation, other.correlation, resolved),
            ("rms error of the object", "", "less", mine.object_error, other.object_error, "over that of the truth"),
            ("normalised amplitude error", "", "less", ours.error, theirs.error, floor),
            ("time", "s", "less", ours.seconds, theirs.seconds, "for all sweeps, on the same cores"),
        )
        for what, unit, better, figure, reference, meaning in figures:
            yield Row(
                name=f"{name}: {what}",
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


@functools.cache
def _scan(photons: float) -> KnownScan:
    return known_scan(photons=photons, modes=MODES)


@functools.cache
def _ours(photons: float) -> Outcome:
    scan = _scan(photons)
    began = time.perf_counter()
    result = reconstruct(scan.counts, scan.xy_m, scan.geometry, modes=MODES, sweeps=SWEEPS, probe_start=START_PROBE)
    seconds = time.perf_counter() - began
    found = agreement(result.object, result.origin_xy_m, scan.transmission, scan.pixel_m, COMPARED_M)
    return Outcome(found, result.error, seconds)


def _ptychi(photons: float, method: str, batch: int) -> Outcome:
    scan = _scan(photons)
    with tempfile.TemporaryDirectory() as folder:
        given, taken = Path(folder) / "scan.npz", Path(folder) / "result.npz"
        np.savez(
            given,
            counts=scan.counts,
            yx_px=scan.xy_m[:, ::-1] / scan.pixel_m,
            probe=_start_probe(scan),
            shape=np.array([CANVAS_PX, CANVAS_PX]),
        )
        arguments = [PEER_PYTHON, PEER_SCRIPT, given, taken, method, str(SWEEPS), str(batch)]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=PEER_LIMIT_S, check=False)
        if done.returncode != 0:
            raise NotMeasurable(f"pty-chi ended with {done.returncode}: {done.stderr.strip()[-300:]}")
        with np.load(taken) as result:
            found = {name: result[name] for name in result.files}
    origin_xy_m = -found["origin_px"][::-1].astype(float) * scan.pixel_m
    # its transform does not keep the sum of squares
    probe = found["probe"] * scan.counts.shape[-1]
    error = amplitude_error(
        scan.counts,
        found["yx_px"][:, ::-1].astype(float) * scan.pixel_m,
        found["object"],
        probe,
        pixel_m=scan.pixel_m,
        origin_xy_m=origin_xy_m,
    )
    compared = agreement(found["object"], origin_xy_m, scan.transmission, scan.pixel_m, COMPARED_M)
    return Outcome(compared, error, float(found["seconds"]))


def _start_probe(scan: KnownScan) -> Array:
    """Return the probe that the engine would start from."""
    sample = np.fft.ifftshift(scan.counts[:: max(1, len(scan.counts) // 100)], axes=(1, 2))
    return np.asarray(with_modes(probe_from_data(sample, scan.geometry, START_PROBE, backend("cpu")), MODES))


def _nm(found: Agreement) -> str:
    return "nothing" if found.resolution_m is None else f"{found.resolution_m * 1e9:.0f} nm"
