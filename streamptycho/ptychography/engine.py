"""What every reconstruction engine offers, and how one is chosen by name."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from streamptycho.config import ReconstructionConfig
from streamptycho.messages import Anomaly, Array, DiffractionBatch, ObjectUpdate, ProjectionStart
from streamptycho.registry import Registry

Clock = Callable[[], float]


class EngineError(RuntimeError):
    """An engine was used in an order that cannot work, or with arrays that do not fit its projection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What one call of `Engine.step` did and where the projection stands.

    `updates` frames were visited in this call; `frames` are held; `sweeps` is how often every frame was visited;
    `error` is the normalised amplitude error of the newest complete sweep, None before the first.
    """

    sweeps: float
    frames: int
    error: float | None
    updates: int


class Engine(Protocol):
    """Turns the frames of one projection at a time into a complex object, while they arrive."""

    def begin(self, start: ProjectionStart) -> None:
        """Start a new projection. The object starts fresh; the probe carries over when configured."""

    def add(self, batch: DiffractionBatch) -> list[Anomaly]:
        """Take frames, at any time. What cannot be used is left out and counted in the return value."""

    def step(self, budget_s: float) -> Progress:
        """Work for about this time, or until nothing is left to do. An idle call reports zero updates."""

    def update(self, *, final: bool = False) -> ObjectUpdate | None:
        """Return the projection as it stands, None before the first frame."""

    def fault_of_overlap(self) -> str | None:
        """Return, in a sentence, why the frames cannot tie the object together; None if they can."""

    @property
    def frames(self) -> int:
        """Frames of this projection that are held."""

    @property
    def sweeps(self) -> float:
        """How often every frame was visited: the minimum over frames, plus the fraction that is beyond it."""


class EngineFactory(Protocol):
    """Makes an engine. `probe` (n, n) or (modes, n, n) complex overrides the configured start."""

    def __call__(self, config: ReconstructionConfig, clock: Clock, probe: Array | None = None) -> Engine:
        """Return a new engine."""


def _epie() -> EngineFactory:
    from streamptycho.ptychography.epie import EpieEngine

    return EpieEngine


ENGINES: Registry[EngineFactory] = Registry("engines", {"epie": _epie})


def engine(config: ReconstructionConfig, clock: Clock = time.perf_counter, probe: Array | None = None) -> Engine:
    """Return a new engine of the configured name and device.

    Raises
    ------
    UnknownPluginError
        If no engine has the name.
    DeviceError
        If the device cannot be used here.
    ProbeError
        If the start probe cannot be used.
    """
    return ENGINES.get(config.engine)(config, clock, probe)
