"""What all result files have in common: how one is recognised and opened."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from streamptycho.recording.hdf5 import ResultError, open_for_reading


def result_kind(path: Path) -> Literal["projection", "volume"] | None:
    """Return what a file of streamptycho holds, None when it is no such file."""
    try:
        with open_for_reading(path) as file:
            if file.attrs.get("creator") != "streamptycho":
                return None
            if "entry/object/object" in file:
                return "projection"
            return "volume" if "entry/slice_z/slice_z" in file else None
    except ResultError:
        return None


@contextlib.contextmanager
def reading(path: Path, kind: str) -> Iterator[Any]:
    """Open the entry of a result file; what is not found in it is an error about the whole file."""
    with open_for_reading(path) as file:
        try:
            yield file["entry"]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ResultError(f"{path} is not a {kind} written by streamptycho: {error}") from None
