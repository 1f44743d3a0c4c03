"""What a run came to: one JSON object, made from the files that the services left."""

from __future__ import annotations

from collections import Counter
from typing import Any

from streamptycho import __version__
from streamptycho.stages.folder import RunFolder, read_json_lines
from streamptycho.stages.latency import described
from streamptycho.stages.pipeline import RunResult


def summarise(folder: RunFolder, result: RunResult, volume: dict[str, Any] | None) -> dict[str, Any]:
    """Return the summary of a run.

    `frames.anomalies` counts what was noticed and lost no frame. `frames.unexplained` is what was announced by the
    detector and is neither paired nor dropped for a reason: always 0 unless the accounting itself is wrong. `log` is
    what a replay found damaged in its log and left out. `latency` tells how long frames took through the pipeline.

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
        "log": {name: read.get(name, 0) for name in ("torn_bytes", "corrupt_records")},
        "projections": [_projection(end, finished.get(end["projection"])) for end in ends],
        "volume": volume,
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
        "error": line.get("error"),
        "noise_floor": line.get("noise_floor"),
        "correction_rms_m": line.get("correction_rms_m"),
        "mode_power": line.get("mode_power"),
        "resolution_m": line.get("resolution_m"),
        "sweeps": line.get("sweeps"),
        "latency_s": line.get("latency_s"),
    }


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
