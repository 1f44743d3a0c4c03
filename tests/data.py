"""Where tests find measured data."""

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def shared_data(name: str) -> Path:
    """Return the path of a measured data file, or skip the test that asked for it."""
    path = SHARED_DATA / name
    if not path.exists():
        pytest.skip(f"measured data {name} is not at {SHARED_DATA}")
    return path
