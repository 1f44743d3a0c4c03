"""What visits in groups must come to, from the reference that visits one frame at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamptycho.array import backend
from streamptycho.messages import Array
from streamptycho.ptychography.canvas import Canvas
from streamptycho.ptychography.frames import FrameStore
from streamptycho.ptychography.update import ProbeUpdater
from streamptycho.ptychography.visits import UpdateRule, VisitOutcome, Visits

CPU = backend("cpu")


@dataclass
class Scene:
    """Frames of a made-up measurement that overlap much."""

    counts: Array
    corners: Array
    fractions_px: Array
    probe: Array
    image: Array

    def store(self, where=CPU) -> FrameStore:
        store = FrameStore(where, self.counts.shape[1:])
        store.add_counts(self.counts)
        return store

    def visits(self, **steps: float | Array) -> Visits:
        gains = np.linspace(0.8, 1.25, len(self.counts))
        return Visits.of(np.arange(len(self.counts)), self.corners, self.fractions_px, gains=gains, **steps)


def scene(
    n: int = 32,
    modes: int = 2,
    frames: int = 9,
    *,
    upsampling: int = 1,
    dtype: str = "uint16",
    sub_pixel: bool = True,
    seed: int = 0,
) -> Scene:
    random = np.random.default_rng(seed)
    axis = np.arange(n) - n // 2
    disc = np.exp(-((np.hypot(axis[:, None], axis[None, :]) / (n / 4)) ** 4))
    shape = (modes, n, n)
    rough = random.normal(size=shape) + 1j * random.normal(size=shape)
    probe = 60 * disc * np.exp(1j * axis[:, None] * axis[None, :] / n) * (0.5 + 0.2 * rough)
    probe *= 0.6 ** np.arange(modes)[:, None, None]
    image = np.exp(0.3j * random.normal(size=(n + 14, n + 21)) - 0.1 * random.uniform(size=(n + 14, n + 21)))
    size = n // upsampling
    counts = random.poisson(40, (frames, size, size)).astype(dtype)
    counts[:, 1, 2] = np.iinfo(dtype).max if counts.dtype.kind == "u" else -1
    corners = random.integers(0, (14, 21), (frames, 2))
    fractions = random.uniform(-0.5, 0.5, (frames, 2)) * sub_pixel
    return Scene(counts, corners, fractions, probe.astype(np.complex64), image.astype(np.complex64))


def visited_in_groups(start: Scene, rule: UpdateRule, visits: Visits, group: int) -> tuple[Array, Array, VisitOutcome]:
    """Return object, probe and outcome after visits, by adding up what each frame of a group does alone."""
    store, image, probe = start.store(), start.image, start.probe
    found = []
    for first in range(0, len(visits), group):
        wanted, share = np.zeros_like(image), np.zeros(image.shape, np.float32)
        probe_change = np.zeros_like(probe)
        some = visits.taken(np.arange(first, min(first + group, len(visits))))
        for k in range(len(some)):
            one = some.taken(np.array([k]))
            updater, canvas = ProbeUpdater(probe, CPU, rule), Canvas.holding(CPU, image, probe.shape[-1])
            found.append(updater.visit(canvas, store, one))
            wanted += canvas.image - image
            probe_change += updater.probe - probe
            row, column = one.corners[0]
            n = probe.shape[-1]
            made_up = _share(probe, one.fractions_px[0], float(one.object_step[0]), rule.object_alpha)
            share[row : row + n, column : column + n] += made_up
        image = image + wanted / np.maximum(share, 1)
        probe = probe + probe_change / max(float(some.probe_step.sum()), 1)
    outcome = VisitOutcome(
        residual=np.concatenate([one.residual for one in found]),
        shift_px=np.concatenate([one.shift_px for one in found]),
        gain=np.concatenate([one.gain for one in found]),
    )
    return image, probe, outcome


def assert_same_visits(found: tuple[Array, Array, VisitOutcome], wanted: tuple[Array, Array, VisitOutcome]) -> None:
    for name, new, old in zip(("object", "probe"), found[:2], wanted[:2], strict=True):
        assert np.isfinite(new).all(), name
        np.testing.assert_allclose(new, old, atol=2e-4 * float(np.abs(old).max()), err_msg=name)
    np.testing.assert_allclose(found[2].residual, wanted[2].residual, rtol=2e-4)
    np.testing.assert_allclose(found[2].gain, wanted[2].gain, rtol=2e-4)
    np.testing.assert_allclose(found[2].shift_px, wanted[2].shift_px, rtol=5e-3, atol=2e-4)


def _share(probe: Array, fraction_px: Array, step: float, alpha: float) -> Array:
    n = probe.shape[-1]
    frequency = np.fft.fftfreq(n)
    ramp = np.exp(-2j * np.pi * (frequency[:, None] * fraction_px[0] + frequency[None, :] * fraction_px[1]))
    lit_by = np.fft.ifft2(np.fft.fft2(probe) * ramp)
    power = (np.abs(lit_by) ** 2).sum(axis=0)
    return np.asarray(step * power / ((1 - alpha) * power + alpha * power.max()))
