"""What a run came to: one JSON object, made from the files that the services left."""

from __future__ import annotations

from collections import Counter
from typing import Any

from streamptycho import __version__
from streamptycho.stages.advice import advice, most_frequent
from streamptycho.stages.folder import RunFolder, read_json_lines
from streamptycho.stages.latency import described
from streamptycho.stages.pipeline import RunResult

MOST_ALIKE = 3


def summarise(folder: RunFolder, result: RunResult, volume: dict[str, Any] | None) -> dict[str, Any]:
    """Return the summary of a run.

    `frames.anomalies` counts what was noticed and lost no frame. `frames.unexplained` is what was announced by the
    detector and is neither paired nor dropped for a reason: always 0 unless the accounting itself is wrong. `log` says
    how many messages went around a full log, and what a replay found damaged in its log and left out. `latency` tells
    how long frames took through the pipeline, `no_volume_because` why there is no volume, `without_result` which
    projections were measured and have none, and `warnings` which lost most of their frames or cannot be right.

    Parameters
    ----------
    folder
        Folder of the run.
    result
        How the services ended.
    volume
        What is known of the volume, None when there is none.
    """
    # a service that was started again tells the projections again that it reads again from the log
    ends = list({end["projection"]: end for end in read_json_lines(folder.accounting)}.values())
    finished = {line["projection"]: line for line in read_json_lines(folder.reconstructed)}
    dropped: Counter[str] = Counter()
    for end in ends:
        dropped.update(end["dropped"])
    sent = sum(end["frames_sent"] for end in ends)
    paired = sum(end["frames_paired"] for end in ends)
    statuses = folder.read_statuses()
    anomalies: Counter[str] = Counter()
    for status in statuses.values():
        anomalies.update(status.get("anomalies", {}))
    read = statuses.get("record", {}).get("counters", {})
    not_reconstructed: Counter[str] = Counter(statuses.get("reconstruct", {}).get("dropped", {}))
    return {
        "streamptycho": __version__,
        "duration_s": round(result.duration_s, 3),
        "failures": result.failures,
        "warnings": _warnings(folder, ends),
        "stopped_by_operator": result.stopped_by_operator,
        "frames": {
            "sent": sent,
            "received": sum(end["frames_received"] for end in ends),
            "paired": paired,
            "dropped": dict(dropped),
            "unexplained": sent - paired - sum(dropped.values()),
            "left_out_of_reconstruction": dict(not_reconstructed),
            "anomalies": {reason: count for reason, count in anomalies.items() if reason not in dropped},
        },
        "log": {name: read.get(name, 0) for name in ("not_recorded", "torn_bytes", "corrupt_records")},
        "without_result": sorted(end["projection"] for end in ends if end["projection"] not in finished),
        "projections": [_projection(end, finished.get(end["projection"])) for end in ends],
        "volume": volume,
        "no_volume_because": None if volume is not None else statuses.get("tomography", {}).get("text"),
        "latency": described(statuses),
        "rates": _rates(ends, finished, result),
    }


def _projection(end: dict[str, Any], line: dict[str, Any] | None) -> dict[str, Any]:
    line = line or {}
    return {
        "projection": end["projection"],
        "angle_deg": end["angle_deg"],
        "ended": end["reason"],
        "frames_sent": end["frames_sent"],
        "frames_paired": end["frames_paired"],
        "dropped": end["dropped"],
        "reconstructed": bool(line),
        "error": line.get("error"),
        "noise_floor": line.get("noise_floor"),
        "correction_rms_m": line.get("correction_rms_m"),
        "mode_power": line.get("mode_power"),
        "resolution_m": line.get("resolution_m"),
        "sweeps": line.get("sweeps"),
        "latency_s": line.get("latency_s"),
    }


def _warnings(folder: RunFolder, ends: list[dict[str, Any]]) -> list[str]:
    """Return what is wrong with projections, of each kind the first few."""
    kinds: dict[str, list[str]] = {}
    for end in ends:
        sentence = advice(end["projection"], end["frames_sent"], end["dropped"], end["reason"])
        if sentence is not None:
            kinds.setdefault(str(most_frequent(end["dropped"])), []).append(sentence)
    for reason, said_once in dict.fromkeys((line["reason"], line["text"]) for line in read_json_lines(folder.warnings)):
        kinds.setdefault(reason, []).append(said_once)
    said = []
    for sentences in kinds.values():
        said += sentences[:MOST_ALIKE]
        if len(sentences) > MOST_ALIKE:
            said.append(f"the same of {len(sentences) - MOST_ALIKE} more projections")
    return said


def _rates(ends: list[dict[str, Any]], finished: dict[int, dict[str, Any]], result: RunResult) -> dict[str, float]:
    duration_s = max(result.duration_s, 1e-9)
    stamps_ns = [end["last_frame_ns"] for end in ends if end["last_frame_ns"]]
    arriving_s = (max(stamps_ns) - min(stamps_ns)) * 1e-9 if len(stamps_ns) > 1 else 0.0
    frames_after_first = sum(end["frames_received"] for end in ends) - (ends[0]["frames_received"] if ends else 0)
    rates = {
        "projections_per_minute": 60.0 * len(finished) / duration_s,
        "frame_updates_per_s": sum(line["frames"] * line["sweeps"] for line in finished.values()) / duration_s,
    }
    if arriving_s > 0:
        rates["frames_per_s"] = frames_after_first / arriving_s
    return {name: round(value, 3) for name, value in rates.items()}
