"""The curves that tell how good a tomogram is."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.messages import VolumeUpdate
from streamptycho.monitor import Store, curves

CURVE = {
    "frequency_per_m": [1e6, 2e6, 3e6],
    "correlation": [1.0, 0.6, 0.1],
    "half_bit": [0.9, 0.4, 0.3],
    "one_seventh": [1 / 7] * 3,
    "one_quarter": [1 / 4] * 3,
}


def volume(**changes: object) -> VolumeUpdate:
    rng = np.random.default_rng(1)
    slices = {name: rng.normal(0.5, 0.1, (40, 40)).astype(np.float32) for name in ("slice_z", "slice_y", "slice_x")}
    values = {"scan_id": "s", **slices, "voxel_m": 1e-8, "quantity": "delta", "projections_used": 9, "fsc": CURVE}
    return VolumeUpdate(**{**values, **changes})


def test_the_page_gets_the_curve_once_and_the_figures_with_every_state() -> None:
    store = Store()
    assert store.snapshot()["quality"] is None
    first = store.snapshot()["sections"]["quality"]
    store.handle(volume(figures={"dose_gy": 2.5e6, "largest_gap_deg": 5.0}))
    state = store.snapshot()
    assert state["quality"]["fsc"] == {name: CURVE[name] for name in curves.CURVES}
    assert state["sections"]["quality"] > first
    assert state["volume"]["figures"] == {"dose_gy": 2.5e6, "largest_gap_deg": 5.0}


def test_a_new_scan_has_no_curve_of_the_old_one() -> None:
    store = Store()
    store.handle(volume())
    store.handle(dataclasses.replace(volume(), scan_id="next", fsc={}))
    assert store.snapshot()["quality"]["fsc"] is None


@pytest.mark.parametrize(
    "bad",
    [
        {},
        None,
        {**CURVE, "correlation": [1.0]},
        {**CURVE, "half_bit": "high"},
        {**CURVE, "correlation": [float("nan")] * 3},
        {**CURVE, "frequency_per_m": [3e6, 2e6, 1e6]},
        {**CURVE, "frequency_per_m": [0.0, -1.0, 0.0]},
        {name: values[:1] for name, values in CURVE.items()},
    ],
)
def test_what_is_no_curve_is_not_drawn(bad: object) -> None:
    assert curves.correlation(bad) is None


def test_single_points_that_are_not_known_are_left_out() -> None:
    found = curves.correlation({**CURVE, "correlation": [1.0, float("inf"), 0.1]})
    assert found is not None
    assert found["frequency_per_m"] == [1e6, 3e6]


def test_long_curves_are_thinned() -> None:
    long = {name: np.linspace(0.1, 1, 5000).tolist() for name in CURVE}
    found = curves.correlation(long)
    assert found is not None
    assert 100 <= len(found["correlation"]) <= curves.MAX_CURVE_POINTS


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(
        st.sampled_from(curves.CURVES),
        st.one_of(
            st.none(), st.text(max_size=3), st.lists(st.one_of(st.floats(), st.none(), st.booleans()), max_size=4)
        ),
    )
)
def test_any_curve_from_the_wire_is_json_or_nothing(said: dict) -> None:
    json.dumps(curves.correlation(said), allow_nan=False)


def test_histogram_counts_what_lies_in_the_circle_of_all_projections() -> None:
    corners = np.full((40, 40), 9.0, np.float32)
    y, x = np.mgrid[-1:1:40j, -1:1:40j]
    corners[x**2 + y**2 <= 1] = 1.0
    flat = np.where(np.arange(40) < 20, 1.0, 2.0)[:, None] * np.ones((1, 40), np.float32)
    found = curves.slice_histogram(
        volume(slice_z=corners, slice_y=flat.astype(np.float32), slice_x=flat.astype(np.float32))
    )
    assert found is not None
    assert (found["lo"], found["hi"]) == (1.0, 2.0)
    assert found["counts"][0] == np.count_nonzero(corners == 1.0) + 1600
    assert found["counts"][-1] == 1600
    assert sum(found["counts"][1:-1]) == 0


def test_histogram_of_constant_or_unknown_slices() -> None:
    same = np.full((5, 5), 0.25, np.float32)
    found = curves.slice_histogram(volume(slice_z=same, slice_y=same, slice_x=same))
    assert found is not None
    assert sum(found["counts"]) > 0
    nan = np.full((5, 5), np.nan, np.float32)
    assert curves.slice_histogram(volume(slice_z=nan, slice_y=nan, slice_x=nan)) is None
