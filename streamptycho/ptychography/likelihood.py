"""Maximum-likelihood refinement of object and probe, for the final answer.

References
----------
Thibault and Guizar-Sicairos 2012, doi 10.1088/1367-2630/14/6/063004.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamptycho.array import Backend
from streamptycho.ptychography.canvas import Canvas
from streamptycho.ptychography.frames import FrameStore, measured
from streamptycho.ptychography.propagation import Propagator, far_field, from_far_field
from streamptycho.ptychography.visits import UpdateRule, Visits

_BACKGROUND = 1e-2
_DAMPING = 1e-2
_AT_ONCE = {"cpu": 8, "gpu": 256}


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Object (H, W) and probe (modes, n, n), or a gradient or direction of both."""

    object: Any
    probe: Any

    def plus(self, other: Pair, factor: float) -> Pair:
        """Return self + factor x other."""
        step = np.float32(factor)
        return Pair(self.object + step * other.object, self.probe + step * other.probe)

    def dot(self, other: Pair, xp: Any) -> float:
        """Return the real inner product."""
        return float(xp.vdot(self.object, other.object).real) + float(xp.vdot(self.probe, other.probe).real)


class Likelihood:
    """The negative logarithm of the probability of Poisson counts, of all frames at once.

    Its minimum is looked for by conjugate gradients, scaled by how much light each pixel sees, with the curvature along
    the direction for the length of a step. A background of a hundredth of a count keeps dark pixels finite.

    Where pixels count few photons, ePIE holds fine detail back and so smooths noise too: this finds the detail, and its
    noise with it.

    Parameters
    ----------
    canvas, store, visits
        The object, the frames and where they lie. Steps of the visits mean nothing here.
    probe
        (modes, n, n) complex64, on the device.
    rule
        Upsampling and near field.
    backend
        Where to compute.
    threads
        On the CPU.
    """

    def __init__(
        self,
        canvas: Canvas,
        store: FrameStore,
        visits: Visits,
        probe: Any,
        rule: UpdateRule,
        backend: Backend,
        threads: int = 1,
    ) -> None:
        self._xp, self._backend = backend.xp, backend
        self._canvas, self._store, self._visits = canvas, store, visits
        self._places = canvas.places(visits.corners)
        self._at = Pair(canvas.image.copy(), backend.xp.array(probe, np.complex64))
        self._n = probe.shape[-1]
        self._fine = rule.upsampling
        transfer = rule.transfer
        self._propagator = Propagator(None if transfer is None else backend.xp.asarray(transfer), backend.fft)
        self._threads = threads if backend.name == "cpu" else 1
        self._values: list[float] = []
        self._scale = self._light()

    @property
    def probe(self) -> Any:
        """The refined probe, (modes, n, n) complex64."""
        return self._at.probe

    @property
    def values(self) -> list[float]:
        """Negative log-likelihood before every step, without its constant."""
        return self._values

    def maximise(self, steps: int) -> None:
        """Take this many steps, fewer when none leads further, and write the object to the canvas."""
        value, gradient = self._gradient(self._at)
        self._values.append(value)
        direction = downhill = self._downhill(gradient)
        for _ in range(steps):
            length = self._length(direction)
            if not length > 0:
                break
            there = self._at.plus(direction, length)
            value, following = self._gradient(there)
            if not value < self._values[-1]:
                if direction is downhill:
                    break
                direction = downhill
                continue
            self._at = there
            self._values.append(value)
            before, downhill_before = gradient, downhill
            gradient, downhill = following, self._downhill(following)
            change = gradient.plus(before, -1.0)
            ahead = max(0.0, change.dot(downhill, self._xp) / before.dot(downhill_before, self._xp))
            direction = downhill.plus(direction, ahead) if ahead > 0 else downhill
        self._canvas.image[...] = self._at.object

    def _downhill(self, gradient: Pair) -> Pair:
        return Pair(-gradient.object / self._scale.object, -gradient.probe / self._scale.probe)

    def _light(self) -> Pair:
        """Return how strongly each pixel of object and probe acts on the frames."""
        xp, n = self._xp, self._n
        power = (self._at.probe.real**2 + self._at.probe.imag**2).sum(axis=0)
        on_object = xp.zeros(self._at.object.shape, np.float32)
        on_probe = xp.zeros((n, n), np.float32)
        seen = self._at.object.real**2 + self._at.object.imag**2
        for row, column in self._places.tolist():
            window = slice(row, row + n), slice(column, column + n)
            on_object[window] += power
            on_probe += seen[window]
        return Pair(on_object + _DAMPING * on_object.max(), on_probe + _DAMPING * on_probe.max())

    def _gradient(self, at: Pair) -> tuple[float, Pair]:
        xp, n, fft = self._xp, self._n, self._backend.fft
        spectrum = far_field(at.probe.copy(), fft)

        def part(some: slice) -> tuple[float, Any, Any]:
            patches, ramps = self._patches(at.object, some), self._ramps(some)
            lit_by = self._shifted(spectrum, ramps)
            field = self._propagator.to_detector(lit_by * patches)
            counts, valid, gains = self._counts(some)
            model = gains * self._on_detector(field) + np.float32(_BACKGROUND)
            value = float(xp.sum(xp.where(valid, model - counts * xp.log(model), 0), dtype=np.float64))
            excess = xp.where(valid, gains * (1 - counts / model), np.float32(0))
            field *= self._on_waves(excess)[:, None]
            wave = self._propagator.from_detector(field)
            on_object = (lit_by.conj() * wave).sum(axis=1)
            wave *= patches.conj()
            on_probe = (far_field(wave, fft) * ramps.conj()).sum(axis=0)
            return value, on_object, on_probe

        total = 0.0
        on_object, on_probe = xp.zeros_like(at.object), xp.zeros_like(spectrum)
        for some, (value, objects, probes) in self._each(part):
            total += value
            on_probe += probes
            for change, (row, column) in zip(objects, self._places[some].tolist(), strict=True):
                on_object[row : row + n, column : column + n] += change
        return total, Pair(on_object, from_far_field(on_probe, fft))

    def _length(self, direction: Pair) -> float:
        """Return the step to the minimum of the parabola along a direction."""
        xp, at = self._xp, self._at
        here = far_field(at.probe.copy(), self._backend.fft)
        there = far_field(direction.probe.copy(), self._backend.fft)

        def part(some: slice) -> tuple[float, float]:
            patches, ramps = self._patches(at.object, some), self._ramps(some)
            lit_by = self._shifted(here, ramps)
            moved = self._shifted(there, ramps) * patches
            moved += lit_by * self._patches(direction.object, some)
            field = self._propagator.to_detector(lit_by * patches)
            change = self._propagator.to_detector(moved)
            counts, valid, gains = self._counts(some)
            model = gains * self._on_detector(field) + np.float32(_BACKGROUND)
            slope = gains * self._summed(2 * (field.real * change.real + field.imag * change.imag))
            bend = gains * 2 * self._on_detector(change)
            excess = 1 - counts / model
            down = xp.where(valid, excess * slope, 0)
            curve = xp.where(valid, excess * bend + counts * (slope / model) ** 2, 0)
            return float(xp.sum(down, dtype=np.float64)), float(xp.sum(curve, dtype=np.float64))

        down = curve = 0.0
        for _, (first, second) in self._each(part):
            down, curve = down + first, curve + second
        return -down / curve if curve > 0 else 0.0

    def _each(self, part: Callable[[slice], Any]) -> Iterator[tuple[slice, Any]]:
        """Yield what `part` returns for some frames after others, computed by all threads, few of them ahead."""
        size = _AT_ONCE[self._backend.name]
        pieces = (slice(first, min(first + size, len(self._visits))) for first in range(0, len(self._visits), size))
        if self._threads == 1:
            for piece in pieces:
                yield piece, part(piece)
            return
        with ThreadPoolExecutor(self._threads) as pool:
            while batch := list(itertools.islice(pieces, 4 * self._threads)):
                yield from zip(batch, pool.map(part, batch), strict=True)

    def _patches(self, image: Any, some: slice) -> Any:
        n = self._n
        cut = [image[row : row + n, column : column + n] for row, column in self._places[some].tolist()]
        return self._xp.stack(cut)[:, None]

    def _ramps(self, some: slice) -> Any:
        """Return the factors (K, 1, n, n) on the spectrum of a probe that is to move by a fraction of a pixel."""
        frequency = -2j * np.pi * np.fft.fftfreq(self._n)
        down, right = (np.exp(self._visits.fractions_px[some, axis, None] * frequency) for axis in (0, 1))
        return self._backend.to_device((down[:, :, None] * right[:, None, :]).astype(np.complex64))[:, None]

    def _shifted(self, spectrum: Any, ramps: Any) -> Any:
        return from_far_field(spectrum[None] * ramps, self._backend.fft)

    def _counts(self, some: slice) -> tuple[Any, Any, Any]:
        """Return counts and which were measured, (K, m, m), and gains, (K, 1, 1)."""
        xp = self._xp
        raw = xp.stack([self._store.counts(int(frame)) for frame in self._visits.frames[some]])
        valid = measured(raw, xp)
        gains = self._backend.to_device(self._visits.gains[some])[:, None, None]
        return xp.where(valid, raw, 0).astype(np.float32), valid, gains

    def _on_detector(self, field: Any) -> Any:
        return self._summed(field.real**2 + field.imag**2)

    def _summed(self, each_mode: Any) -> Any:
        """Return a sum over modes, and over the far-field pixels of one measured pixel, (K, m, m)."""
        power, fine = each_mode.sum(axis=1), self._fine
        if fine == 1:
            return power
        m = power.shape[-1] // fine
        return power.reshape(len(power), m, fine, m, fine).sum(axis=(2, 4))

    def _on_waves(self, measured_pixels: Any) -> Any:
        fine = self._fine
        return measured_pixels if fine == 1 else self._xp.kron(measured_pixels, self._xp.ones((1, fine, fine)))
