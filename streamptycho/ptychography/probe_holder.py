"""The probe of an engine: where it starts, how it goes from one projection to the next, what holds it in place."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from streamptycho.array import Backend
from streamptycho.config import ReconstructionConfig
from streamptycho.geometry import Geometry
from streamptycho.messages import Array
from streamptycho.ptychography.carry import ProbeCarry
from streamptycho.ptychography.defocus import best_start, farthest_defocus_m
from streamptycho.ptychography.frames import FrameStore
from streamptycho.ptychography.optics import optic_probe, propagated
from streamptycho.ptychography.probe import (
    SAMPLE_FRAMES,
    checked_probe,
    mean_counts,
    probe_from_data,
    probe_from_near_field,
    read_probe,
    scaled_to,
    with_modes,
)
from streamptycho.ptychography.propagation import fresnel_transfer
from streamptycho.ptychography.threads import available_threads
from streamptycho.ptychography.update import Updater, probe_updater
from streamptycho.ptychography.visits import UpdateRule

_FRAMES_FOR_A_GUESS = 32
Places = Callable[[], tuple[Array, Array]]


class ProbeHolder:
    """Holds the updater, and with it the probe.

    Parameters
    ----------
    config
        Start, modes, limits.
    backend
        Where to compute.
    probe
        (n, n) or (modes, n, n) complex: start probe instead of the configured one.

    Raises
    ------
    ProbeError
        If the start probe cannot be used.
    """

    def __init__(self, config: ReconstructionConfig, backend: Backend, probe: Array | None) -> None:
        self._config = config
        self._backend = backend
        given = probe if probe is not None else read_probe(config.probe)
        self._given = None if given is None else checked_probe(given)
        self._carry = ProbeCarry()
        self._updater: Updater | None = None
        self._geometry: Geometry | None = None
        self._guessed_from = 0
        self._first_offset_px: tuple[int, int] | None = None
        self.rule = UpdateRule()

    def begin(self, geometry: Geometry, error: float | None, sweeps: float, *, again: bool = False) -> None:
        """Begin a projection; the one before, if any, ended with this error after so many sweeps.

        The same one begun `again` says nothing new about the beam: it has the probe that it began with.

        The probe carries over when configured. It does not when the frames have another size, or when it was guessed
        from a few frames and the projection ended before they were swept `min_sweeps` times. A projection that spoiled
        it (see `ProbeCarry`) hands on the probe that it began with. Where in its array the beam lies, data do not tell:
        from one projection to the next it is brought back to where it was in the first, lest it wander over the edge.

        Raises
        ------
        ProbeError
            If a supplied probe does not fit the frames.
        """
        config = self._config
        n = geometry.shape[0] * config.upsampling
        if self._given is not None:
            checked_probe(self._given, n)
        same_size = self._geometry is not None and self._geometry.shape == geometry.shape
        immature = 0 < self._guessed_from < _FRAMES_FOR_A_GUESS and sweeps < config.min_sweeps
        self._geometry = geometry
        self._guessed_from = 0
        self.rule = UpdateRule(
            upsampling=config.upsampling,
            object_alpha=config.object_alpha,
            probe_alpha=config.probe_alpha,
            find_shifts=config.positions == "gradient",
            transfer=fresnel_transfer(geometry, config.source_distance_m)
            if config.propagator == "near_field"
            else None,
        )
        if config.carry_probe and same_size and again and self._carry.before is not None:
            self.restart()
        elif config.carry_probe and same_size and not immature:
            self._carry_over(error)
        else:
            self._updater = None
            self._first_offset_px = None
            self._carry = ProbeCarry()

    def restart(self) -> None:
        """Go back to the probe that the projection began with."""
        self._guessed_from = 0
        self._updater = None
        if self._carry.before is not None:
            self.replace(self._carry.before.copy())

    def updater(self, store: FrameStore, places: Places, pixel_m: float) -> Updater:
        """Return the updater. While frames are few, the probe is guessed anew whenever twice as many are there.

        The mean modulus of a handful of frames still shows the sample.

        Parameters
        ----------
        store
            The frames that are there, at least one.
        places
            Returns their corners (N, 2) int64 and fractions of a pixel (N, 2), when asked.
        pixel_m
            Of the object.
        """
        enough = min(len(store), _FRAMES_FOR_A_GUESS)
        if self._updater is None or 0 < 2 * self._guessed_from <= enough:
            if self._given is None:
                self._guessed_from = len(store)
            probe = self._first_probe(store, places, pixel_m)
            self._first_offset_px = self._first_offset_px or offset_px(probe)
            self.replace(probe)
        assert self._updater is not None
        return self._updater

    def replace(self, probe: Array) -> None:
        """Go on with another probe (modes, n, n)."""
        threads = self._config.threads or available_threads()
        self._updater = probe_updater(probe, self._backend, self.rule, threads)

    def _first_probe(self, store: FrameStore, places: Places, pixel_m: float) -> Array:
        config, geometry = self._config, self._geometry
        assert geometry is not None
        wanted = config.probe.defocus_m
        sample = store.sample(SAMPLE_FRAMES)
        power = float(np.mean(store.totals[:SAMPLE_FRAMES]))

        def probe_at(defocus_m: float) -> Array:
            n = geometry.shape[0] * config.upsampling
            if self._given is not None:
                further_m = defocus_m if wanted == "auto" else 0.0
                probe = propagated(self._given, further_m, pixel_m, geometry.wavelength_m)
            elif config.probe.start in ("zone_plate", "pinhole"):
                probe = optic_probe(config.probe, defocus_m, n, pixel_m, geometry.wavelength_m)[None]
            else:
                probe = probe_from_data(
                    sample, geometry, config.probe, self._backend, upsampling=config.upsampling, defocus_m=defocus_m
                )
            return with_modes(scaled_to(probe, power), config.modes)

        if self.rule.transfer is not None and self._given is None:
            probe = probe_from_near_field(sample, self.rule.transfer, self._backend)
            return with_modes(probe, config.modes)
        if wanted != "auto":
            return probe_at(wanted)
        mean = mean_counts(sample, self._backend)
        n = geometry.shape[0] * config.upsampling
        farthest_m = farthest_defocus_m(mean, pixel_m, n, geometry.wavelength_m)
        return probe_at(best_start(store, *places(), probe_at, farthest_m, self._backend, self.rule))

    def _carry_over(self, error: float | None) -> None:
        if self._updater is None:
            return
        ended_with = self._backend.to_host(self._updater.probe)
        probe = self._carry.end(ended_with, error)
        if probe is None:
            self._updater = None
        else:
            probe = self._brought_back(probe)
            self.replace(probe)
        self._carry.begin(None if probe is None else probe.copy())

    def _brought_back(self, probe: Array) -> Array:
        now, first = offset_px(probe), self._first_offset_px or (0, 0)
        return np.roll(probe, (first[0] - now[0], first[1] - now[1]), axis=(1, 2))


def offset_px(probe: Array) -> tuple[int, int]:
    """Return how far the centre of intensity of a probe (modes, n, n) lies from [n // 2, n // 2], in whole pixels."""
    intensity = (np.abs(probe) ** 2).sum(axis=0, dtype=np.float64)
    total = intensity.sum()
    if not (math.isfinite(total) and total > 0):
        return 0, 0
    axis = np.arange(len(intensity)) - len(intensity) // 2
    down, right = (intensity.sum(axis=1) @ axis) / total, (intensity.sum(axis=0) @ axis) / total
    return round(float(down)), round(float(right))
