"""The eight orientations of a stage."""

from __future__ import annotations

import numpy as np
import pytest

from streamptycho.config import ORIENTATIONS
from streamptycho.positions.orientation import OrientationError, orient

EXPECTED = {
    "identity": (1, 2),
    "flip_x": (-1, 2),
    "flip_y": (1, -2),
    "flip_xy": (-1, -2),
    "swap_xy": (2, 1),
    "swap_xy_flip_x": (-2, 1),
    "swap_xy_flip_y": (2, -1),
    "swap_xy_flip_xy": (-2, -1),
}


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_swaps_come_before_flips(name: str) -> None:
    given = np.array([[1.0, 2.0]])
    np.testing.assert_array_equal(orient(given, name), [EXPECTED[name]])
    np.testing.assert_array_equal(given, [[1.0, 2.0]])


def test_all_eight_differ() -> None:
    assert len(set(EXPECTED.values())) == len(ORIENTATIONS) == 8


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(OrientationError, match="swap_xy_flip_y"):
        orient(np.zeros((1, 2)), "upside_down")
