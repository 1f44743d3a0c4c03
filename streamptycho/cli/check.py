"""What a configuration means, and whether the instruments answer."""

from __future__ import annotations

import time

from rich.console import Console
from rich.table import Table

from streamptycho import detectors, positions
from streamptycho.config import Config
from streamptycho.geometry import Geometry
from streamptycho.ptychography import engine
from streamptycho.runtime.instrument_client import InstrumentClient
from streamptycho.stages.pixel_mask import configured_mask

CONNECT_S = 5.0
NOT_REACHED = 3


def require_usable(config: Config, *, reconstruction: bool = True) -> None:
    """Find out before anything starts whether this installation has what a configuration names.

    Raises
    ------
    UnknownPluginError
        If a protocol or the engine is not known.
    DeviceError
        If the device cannot be used here.
    ProbeError
        If the start probe cannot be used.
    MaskError
        If the file of the pixel mask cannot be used; the detector is not asked for one.
    """
    if config.detector.mask is not None and not config.detector.mask.startswith("http:"):
        configured_mask(config)
    detectors.decoder(config.detector.model_copy(update={"mask": None}))
    positions.decoder(config.positions)
    if reconstruction:
        engine(config.reconstruction)


def check_configuration(config: Config, *, connect: bool) -> int:
    """Print what the configuration leads to; with `connect` try both instruments. Return the exit code."""
    require_usable(config)
    console = Console()
    table = Table(title=f"{config.scan_id}: valid", show_header=False, title_justify="left", box=None, padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    table.add_row("detector", f"{config.detector.protocol} at {config.detector.endpoint}")
    table.add_row("positions", f"{config.positions.protocol} at {config.positions.host}:{config.positions.port}")
    table.add_row("pairing", f"by {config.pairing.by}, projections cut by {config.projections.cut_by}")
    for label, value in _lengths(config):
        table.add_row(label, value)
    how = config.reconstruction
    table.add_row("reconstruction", f"{how.engine} on {how.device}, {how.modes} probe modes, {how.sweeps} sweeps")
    table.add_row("tomography", f"{config.tomography.filter} filter, result in {config.tomography.quantity}")
    console.print(table)
    return _connect(config, console) if connect else 0


def _lengths(config: Config) -> list[tuple[str, str]]:
    detector, simulation = config.detector, config.simulation
    energy_ev = detector.energy_ev or (simulation and simulation.energy_ev)
    distance_m = detector.distance_m or (simulation and simulation.distance_m)
    pixel_m = detector.pixel_m or (simulation and simulation.detector_pixel_m)
    size_px = detector.region.size_px
    if not (energy_ev and distance_m and pixel_m and size_px):
        return [
            ("scale", "from the detector's stream (or set detector.energy_ev, distance_m, pixel_m, region.size_px)")
        ]
    side_px = size_px // detector.region.binning
    geometry = Geometry(energy_ev, distance_m, pixel_m * detector.region.binning, (side_px, side_px))
    return [
        ("wavelength", f"{geometry.wavelength_m * 1e9:.5f} nm"),
        ("object pixel", f"{geometry.object_pixel_m * 1e9:.2f} nm"),
        ("window", f"{geometry.object_pixel_m * side_px * 1e6:.3f} um ({side_px} px)"),
    ]


def _connect(config: Config, console: Console) -> int:
    target, at = positions.decoder(config.positions), config.positions
    subscribe = target.transport == "zmq_sub"
    client = InstrumentClient(config.detector.endpoint, at.host, at.port, target.request(), subscribe=subscribe)
    deadline = time.monotonic() + CONNECT_S
    try:
        while client.missing() is not None and time.monotonic() < deadline:
            for _ in client.poll(0.1):
                pass
        missing = client.missing()
    finally:
        client.close()
    console.print(
        missing or "both instruments answer", style="red" if missing else "green", highlight=False, soft_wrap=True
    )
    return NOT_REACHED if missing else 0
