"""The benchmarks run and say what they promise. No speed is asserted."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.cases import CASES
from benchmarks.clock import Sample, by_turns, compared
from benchmarks.row import Effort, number

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "220"},
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_chosen_rows_are_in_the_table_and_in_the_json(tmp_path):
    file = tmp_path / "figures.json"
    done = run("--quick", "--only", "wire", "--only", "pair-row", "--only", "epie-64-1", "--json", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(file.read_text())
    names = [row["name"] for row in found["rows"]]
    assert names == [
        "pair by row, 128x128 u16",
        "wire encode, batch of 64 frames 128x128 u16",
        "wire decode, batch of 64 frames 128x128 u16",
        "ePIE 64x64, 1 mode, whole-pixel",
        "ePIE 64x64, 1 mode, sub-pixel",
    ]
    for row in found["rows"]:
        for key in ("figure", "reference_figure", "ratio", "spread"):
            assert math.isfinite(row[key])
        assert min(row["figure"], row["reference_figure"], row["ratio"]) > 0
        assert row["rounds"] >= 5
        assert row["unit"]
        assert row["reference"]
        assert row["meaning"]
        assert row["name"] in done.stdout
        assert number(row["figure"]) in done.stdout
    assert found["not_measured"] == {}
    assert {"CPU", "memory", "GPU", "Python", "packages"} <= found["machine"].keys()
    assert all(f"{name} " in found["machine"]["packages"] for name in ("numpy", "numba"))
    assert found["machine"]["CPU"] in done.stdout


def test_an_unknown_name_is_explained():
    done = run("--only", "wier")
    assert done.returncode == 2
    assert "Did you mean wire?" in done.stderr
    assert "decode-whole" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_folder_is_refused_before_anything_is_measured(tmp_path):
    done = run("--quick", "--only", "wire", "--json", str(tmp_path / "absent" / "figures.json"))
    assert done.returncode == 2
    assert "absent" in done.stderr
    assert done.stdout == ""


def test_names_of_measurements_differ():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)


def test_tasks_take_turns_after_one_round_that_does_not_count():
    order = []

    def task(name, work):
        def do():
            order.append(name)
            return work

        return do

    samples = by_turns({"a": task("a", 1.0), "b": task("b", 2.0)}, Effort(True, 0.0, least_rounds=3))
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    assert {name: len(sample.rates) for name, sample in samples.items()} == {"a": 3, "b": 3}


def test_the_ratio_is_that_of_the_median_round():
    row = compared("x", "1/s", Sample((10.0, 1.0, 8.0)), ("peer", Sample((5.0, 0.5, 2.0))), "means")
    assert (row.figure, row.reference_figure, row.ratio) == (8.0, 2.0, 2.0)
    assert row.rounds == 3
    assert row.spread == pytest.approx((9.0 - 4.5) / 2 / 8.0)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (12345.6, "12,300"), (123.4, "123"), (9.996, "10.0"), (0.03456, "0.0346"), (1.0, "1.00")],
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text
