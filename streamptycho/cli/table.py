"""The closing table of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table
from rich.text import Text

WAYS = ("across", "along")


def closing_table(summary: dict[str, Any], log: Path) -> Table:
    """Return what a run that is recorded in a log came to, for reading."""
    frames, projections, volume = summary["frames"], summary["projections"], summary["volume"]
    table = Table(title="What was measured", show_header=False, title_justify="left", box=None, padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    table.add_row("duration", f"{summary['duration_s']:.1f} s")
    table.add_row(
        "frames",
        f"{frames['sent']} sent, {frames['received']} received, {frames['paired']} paired, "
        f"{sum(frames['dropped'].values())} dropped",
    )
    table.add_row("losses", _counts(frames["dropped"]) or "none")
    if frames["unexplained"]:
        table.add_row("unexplained", f"[red]{frames['unexplained']} frames[/red]")
    if left_out := _counts(frames["left_out_of_reconstruction"]):
        table.add_row("left out of the image", left_out)
    if anomalies := _counts(frames["anomalies"]):
        table.add_row("noticed", anomalies)
    if damage := _counts(summary["log"]):
        table.add_row("damage in the log", damage.replace("_", " "))
    done = [item for item in projections if item["reconstructed"]]
    table.add_row("projections", f"{len(done)} reconstructed of {len(projections)} measured")
    if missing := ranges(summary["without_result"]):
        table.add_row("without a result", missing)
        if summary["failures"]:
            table.add_row("", Text(f"streamptycho reconstruct {log} --projections {missing}"))
    ratios = [item["error"] / item["noise_floor"] for item in done if item["noise_floor"] and item["error"] is not None]
    if ratios:
        table.add_row("error over photon noise", f"{median(ratios):.3g} (median), {max(ratios):.3g} (worst)")
    for key, label, unit, scale in (
        ("error", "amplitude error", "", 1.0),
        ("resolution_m", "resolution of a projection", " nm", 1e9),
        ("correction_rms_m", "position correction, rms", " nm", 1e9),
        ("latency_s", "last frame to final image", " s", 1.0),
    ):
        values = [item[key] * scale for item in done if item[key] is not None]
        if values:
            table.add_row(label, f"{median(values):.4g}{unit} (median), {max(values):.4g}{unit} (worst)")
    if volume is not None:
        table.add_row("volume", f"{' x '.join(map(str, volume['shape']))} voxels of {volume['voxel_m'] * 1e9:.1f} nm")
        if volume.get("resolution_m") is not None:
            table.add_row("resolution of the volume", f"{volume['resolution_m'] * 1e9:.0f} nm")
        for name, told in _told(volume.get("figures", {})):
            table.add_row(name, told)
        if volume.get("correlation_with_truth") is not None:
            table.add_row("correlation with the truth", f"{volume['correlation_with_truth']:.4f}")
    elif summary["no_volume_because"]:
        table.add_row("volume", Text(f"none: {summary['no_volume_because']}"))
    for name, value in summary["rates"].items():
        table.add_row(name.replace("_per_s", " per second").replace("_", " "), f"{value:.1f}")
    for warning in summary["warnings"]:
        table.add_row("[yellow]warning[/yellow]", Text(warning, style="yellow"))
    for failure in summary["failures"]:
        table.add_row("[red]failure[/red]", Text(failure, style="red"))
    return table


def ranges(numbers: list[int]) -> str:
    """Return ascending numbers as a short list: 3,7-9."""
    parts: list[tuple[int, int]] = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1] = parts[-1][0], number
        else:
            parts.append((number, number))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def _told(figures: dict[str, float]) -> Iterator[tuple[str, str]]:
    density, drift = "matter_mass_density_g_per_cm3", "sample_drift_{}_rotation_axis_m"
    if density in figures:
        electrons = figures["matter_electron_density_per_A3"]
        yield "dense matter, mean", f"{electrons:.3g} electrons/A^3, {figures[density]:.3g} g/cm^3"
    moved = [f"{1e9 * abs(figures[drift.format(way)]):.0f} nm {way}" for way in WAYS if drift.format(way) in figures]
    if moved:
        yield "sample drift, first to last projection", f"{' and '.join(moved)} the rotation axis"


def _counts(by_reason: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(by_reason.items()) if count)
