"""Ptychography: engines that turn diffraction frames and positions into a complex object, while they arrive."""

from streamptycho.ptychography.batch import Reconstruction, reconstruct
from streamptycho.ptychography.engine import ENGINES, Engine, EngineError, EngineFactory, Progress, engine
from streamptycho.ptychography.metrics import amplitude_error
from streamptycho.ptychography.noise import photon_noise
from streamptycho.ptychography.probe import ProbeError

__all__ = [
    "ENGINES",
    "Engine",
    "EngineError",
    "EngineFactory",
    "ProbeError",
    "Progress",
    "Reconstruction",
    "amplitude_error",
    "engine",
    "photon_noise",
    "reconstruct",
]
