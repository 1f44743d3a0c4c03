"""What the operator should look at when most frames of a projection are left out."""

from __future__ import annotations

from collections.abc import Mapping

from streamptycho.messages import Reason

_FEWEST_JUDGED = 4
_CUT_SHORT = ("the stream ended", "stopped")
_CUT_SHORT_CAUSE = "the stream ended before they came: so it is when a run is stopped, else check detector and network"

_CAUSES: dict[str, str] = {
    Reason.OUT_OF_RANGE: (
        "their positions lie too far apart, probably not in metres: check positions.x.scale and positions.y.scale "
        "(1.0e-6 for micrometres), or raise reconstruction.max_canvas_px"
    ),
    Reason.UNPAIRED: (
        "no position came for them: check that the position source captures and is armed, pairing.by, "
        "pairing.clock_offset_s and pairing.positions_timeout_s"
    ),
    Reason.NO_BEAM: "hardly a photon was counted: check the shutter and the beam, and reconstruction.min_flux",
    Reason.MISSING: "the detector announced them and they never came: check who else pulls from it, and the network",
    Reason.CORRUPT: "they could not be decoded: check detector.protocol and the compression of the stream",
    Reason.TRUNCATED: "they came with fewer bytes than announced: check the network and who sends them",
    Reason.LATE: "they came after their projection was closed: check pairing.match and projections.cut_by",
    Reason.OVERFLOW: "too many waited for positions: check that positions come, or raise pairing.max_waiting_frames",
    Reason.TURNAROUND: "the stage was turning round: scan longer lines, or set reconstruction.use_turnaround: true",
}


def advice(projection: int, frames: int, dropped: Mapping[str, int], ended: str = "") -> str | None:
    """Return one sentence when over half of a projection's frames were left out for one reason, else None.

    Parameters
    ----------
    projection
        Its number.
    frames
        How many it has.
    dropped
        Frames that were left out, by reason.
    ended
        Why the projection ended.
    """
    reason = most_frequent(dropped)
    if reason is None or frames < _FEWEST_JUDGED or 2 * dropped[reason] <= frames:
        return None
    missing = reason == Reason.MISSING and ended in _CUT_SHORT
    cause = _CUT_SHORT_CAUSE if missing else _CAUSES.get(reason, "see the counts by reason")
    return f"projection {projection}: {dropped[reason]} of {frames} frames are left out ({reason}): {cause}"


def most_frequent(dropped: Mapping[str, int]) -> str | None:
    """Return the reason for which most frames were left out, None without any."""
    return max(dropped, key=lambda reason: dropped[reason]) if any(dropped.values()) else None
