from typing import Any

import pytest

from streamptycho.config import Config


def _small(**changes: Any) -> Config:
    simulation: dict[str, Any] = {
        "distance_m": 1.0,
        "detector_shape": [48, 48],
        "rate_hz": 1000,
        "projections": 2,
        "sample": {"size_m": 1.6e-6, "delta": 1e-5, "beta": 3e-7},
        "beam": {"diameter_m": 0.7e-6, "defocus_m": 2.5e-4, "photons_per_frame": 1e5},
        "trajectory": {
            "width_m": 1.6e-6,
            "height_m": 1.2e-6,
            "step_x_m": 0.2e-6,
            "step_y_m": 0.2e-6,
            "turn_s": 0.004,
        },
    }
    tree: dict[str, Any] = {
        "detector": {"endpoint": "tcp://127.0.0.1:*"},
        "positions": {"port": 0, "angle": {"column": "INENC3.VAL.Mean"}},
    }
    for path, value in changes.items():
        at = tree if path.split("__")[0] in Config.model_fields else simulation
        *folders, leaf = path.split("__")
        for folder in folders:
            at = at.setdefault(folder, {})
        at[leaf] = value
    return Config.model_validate({**tree, "simulation": simulation})


@pytest.fixture
def small() -> Any:
    """Make a small simulated beamline; keywords like beam__modes=2 or positions__scaled=False change it."""
    return _small
