"""What a configuration means, and whether the instruments answer."""

from __future__ import annotations

import time
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from streamptycho import detectors, positions
from streamptycho.array import DeviceError, backend
from streamptycho.config import Config
from streamptycho.geometry import Geometry
from streamptycho.ptychography import engine
from streamptycho.ptychography.propagation import object_sampling
from streamptycho.stages.instruments import instrument_client
from streamptycho.stages.pixel_mask import configured_mask
from streamptycho.tomography import aggregator
from streamptycho.tomography.gridrec import tomopy_available

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
    TomopyMissingError
        If gridrec is configured and tomopy is not installed.
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
        aggregator(config.scan_id, config.tomography)


def check_configuration(config: Config, *, connect: bool) -> int:
    """Print what the configuration leads to; with `connect` try both instruments. Return the exit code.

    A device or a program that this machine does not have is a warning, and comes last: configurations are written
    elsewhere than where they are used.
    """
    elsewhere = _on_another_machine(config)
    require_usable(elsewhere)
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
    volume = config.tomography
    table.add_row("tomography", f"{volume.filter} filter on {volume.device}, result in {volume.quantity}")
    console.print(table)
    code = _connect(config, console) if connect else 0
    if elsewhere is not config:
        for warning in _not_here(config):
            console.print(
                f"not on this machine: {warning}", style="yellow", highlight=False, markup=False, soft_wrap=True
            )
    return code


def _on_another_machine(config: Config) -> Config:
    """Return the configuration without what only some machines have, the same object where this one has it all."""
    if not list(_not_here(config)):
        return config
    reconstruction = config.reconstruction.model_copy(update={"device": "cpu"})
    tomography = config.tomography.model_copy(update={"device": "cpu", "final_volume": "fbp"})
    return config.model_copy(update={"reconstruction": reconstruction, "tomography": tomography})


def _not_here(config: Config) -> Iterator[str]:
    """Yield what a configuration needs and this machine does not have."""
    for name, device in (("reconstruction", config.reconstruction.device), ("tomography", config.tomography.device)):
        try:
            backend(device)
        except DeviceError as error:
            yield f"{name}.device: {error}"
    if config.tomography.final_volume == "gridrec" and not tomopy_available():
        yield "tomography.final_volume: gridrec needs tomopy, from conda-forge"


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
    probe_px, object_pixel_m = object_sampling(geometry, config.reconstruction)
    return [
        ("wavelength", f"{geometry.wavelength_m * 1e9:.5f} nm"),
        ("object pixel", f"{object_pixel_m * 1e9:.2f} nm"),
        ("window", f"{object_pixel_m * probe_px * 1e6:.3f} um ({probe_px} px)"),
    ]


def _connect(config: Config, console: Console) -> int:
    client = instrument_client(config)
    deadline = time.monotonic() + CONNECT_S
    try:
        while client.missing() is not None and time.monotonic() < deadline:
            for _ in client.poll(0.1):
                pass
        missing = client.missing()
    finally:
        client.close()
    console.print(
        missing or "both instruments answer",
        style="red" if missing else "green",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return NOT_REACHED if missing else 0
