"""Every command of `streamptycho`."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from streamptycho import __version__
from streamptycho.config import Config, ConfigError, load, parse

app = typer.Typer(
    name="streamptycho",
    help="Streaming X-ray ptychography and tomography, live at the beamline.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the beamline.")]
Out = Annotated[Path | None, typer.Option("--out", help="Folder of the run (default: a new dated one).")]
Monitor = Annotated[bool, typer.Option("--monitor/--no-monitor", help="Serve the operator's page.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line instead of bars and tables.")]
Device = Annotated[str | None, typer.Option("--device", help="cpu or gpu, instead of what the configuration says.")]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Streaming X-ray ptychography and tomography, live at the beamline."""


@app.command()
def demo(
    out: Out = None,
    monitor: Monitor = True,
    as_json: AsJson = False,
    config_file: Annotated[Path | None, typer.Option("--config", help="Another simulated beamline.")] = None,
    device: Device = None,
) -> None:
    """Simulated beamline to tomogram: real services, sockets and bytes, nothing to connect."""
    from streamptycho.cli.check import require_usable
    from streamptycho.cli.runs import run_folder, run_pipeline, with_free_instrument_ports

    config = load(config_file) if config_file else parse(_shipped("demo.yaml"), "demo.yaml")
    if config.simulation is None:
        raise ConfigError(f"{config_file}: a demo needs a simulation section")
    config = _with_projections(_with_device(with_free_instrument_ports(config), device))
    require_usable(config)
    with run_folder(out, "demo") as folder:
        raise typer.Exit(run_pipeline(config, folder, monitor=monitor, as_json=as_json, simulate=True))


@app.command()
def live(
    config_file: ConfigFile,
    out: Out = None,
    monitor: Monitor = True,
    as_json: AsJson = False,
    device: Device = None,
) -> None:
    """Reconstruct while the beamline measures. Ctrl-C finishes what was measured."""
    from streamptycho.cli.check import require_usable
    from streamptycho.cli.runs import run_folder, run_pipeline

    config = _with_device(load(config_file), device)
    require_usable(config)
    with run_folder(out, "live") as folder:
        raise typer.Exit(run_pipeline(config, folder, monitor=monitor, as_json=as_json))


@app.command()
def replay(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="Stream log of a live run, a recording or an import.")],
    out: Out = None,
    monitor: Monitor = True,
    as_json: AsJson = False,
    speed: Annotated[str, typer.Option(help="1 for the recorded speed, N for N times, max for no waiting.")] = "max",
    config_file: Annotated[Path | None, typer.Option("--config", help="Instead of the one in the log.")] = None,
    device: Device = None,
) -> None:
    """Run the live pipeline on a recorded stream."""
    from streamptycho.cli.check import require_usable
    from streamptycho.cli.runs import config_of_log, run_folder, run_pipeline

    pace = _speed(speed)
    config = _with_device(config_of_log(log, config_file), device)
    require_usable(config)
    with run_folder(out, "replay") as folder:
        code = run_pipeline(config, folder, monitor=monitor, as_json=as_json, replay=log.resolve(), speed=pace)
    raise typer.Exit(code)


@app.command()
def record(
    config_file: ConfigFile,
    log: Annotated[Path | None, typer.Option("--log", help="File to write (default: record.file).")] = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after that time.", min=0)] = None,
) -> None:
    """Record both streams to a log, without reconstructing. Ctrl-C closes the log."""
    from streamptycho.cli.check import require_usable
    from streamptycho.cli.recording import record_to_log

    config = load(config_file)
    require_usable(config, reconstruction=False)
    raise typer.Exit(record_to_log(config, log or Path(config.record.file), seconds))


@app.command()
def simulate(config_file: ConfigFile) -> None:
    """Be the instrument: DECTRIS stream and PandABox protocol, as the configuration says."""
    from streamptycho.runtime.supervisor import StopSignal
    from streamptycho.stages.simulate import simulate as run_instrument

    config = load(config_file)
    if config.simulation is None:
        raise ConfigError(f"{config_file}: simulate needs a simulation section")
    run_instrument(config, StopSignal(), say=lambda text: Console().print(text, highlight=False))


@app.command(name="import")
def import_file(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="npz, CXI or NeXus/HDF5 file.")],
    log: Annotated[Path, typer.Argument(metavar="LOG", help="Stream log to write.")],
    orientation: Annotated[str, typer.Option(help="One of the eight flips and swaps of the positions, or auto.")] = (
        "identity"
    ),
    protocol: Annotated[str, typer.Option(help="dectris_stream2 or dectris_stream1.")] = "dectris_stream2",
    layout: Annotated[Path | None, typer.Option(help="YAML file with the paths and units of an HDF5 file.")] = None,
    energy_ev: Annotated[float | None, typer.Option(help="Photon energy, if the file does not say.")] = None,
    distance_m: Annotated[float | None, typer.Option(help="Sample to detector, if the file does not say.")] = None,
    detector_pixel_m: Annotated[float | None, typer.Option(help="Pixel pitch, if the file does not say.")] = None,
    rate_hz: Annotated[float, typer.Option(help="Frame rate of the recording that is made.", min=0.001)] = 1000.0,
) -> None:
    """Turn existing data into a stream log that `replay` runs."""
    from streamptycho.cli.files import import_to_log

    geometry = {"energy_ev": energy_ev, "distance_m": distance_m, "detector_pixel_m": detector_pixel_m}
    import_to_log(source, log, orientation, protocol, layout, geometry, rate_hz)


@app.command()
def reconstruct(
    source: Annotated[Path, typer.Argument(metavar="LOG_OR_FILE", help="Stream log, npz, CXI or NeXus/HDF5 file.")],
    out: Out = None,
    monitor: Annotated[bool, typer.Option("--monitor/--no-monitor", hidden=True)] = False,
    as_json: AsJson = False,
    orientation: Annotated[str | None, typer.Option(help="One of the eight, or auto.")] = None,
    config_file: Annotated[Path | None, typer.Option("--config", help="Instead of the one in the log.")] = None,
    sweeps: Annotated[int | None, typer.Option(help="Instead of reconstruction.sweeps.")] = None,
    modes: Annotated[int | None, typer.Option(help="Instead of reconstruction.modes.")] = None,
    positions: Annotated[
        str | None, typer.Option(help="Correct positions: none, gradient or annealing, instead of the configuration.")
    ] = None,
    projections: Annotated[str | None, typer.Option(help="Only these, as in 3,7-9, counted from 0.")] = None,
    device: Device = None,
) -> None:
    """Reconstruct a recording or a file in one process, with the same engine and all sweeps."""
    from streamptycho.cli.files import reconstruct_batch
    from streamptycho.cli.runs import run_folder

    changes = {"sweeps": sweeps, "modes": modes, "positions": positions, "device": device}
    with run_folder(out, "reconstruct") as folder:
        code = reconstruct_batch(
            source, folder, config_file, orientation, changes, as_json=as_json, projections=projections
        )
    raise typer.Exit(code)


@app.command()
def check(
    config_file: ConfigFile,
    connect: Annotated[
        bool, typer.Option(help="Also try to reach the instruments; it takes frames from a scan.")
    ] = False,
) -> None:
    """Validate a configuration and say what it means."""
    from streamptycho.cli.check import check_configuration

    raise typer.Exit(check_configuration(load(config_file), connect=connect))


@app.command()
def show(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="Projection, volume or folder of a run.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the pictures (default: beside it).")] = None,
) -> None:
    """Make pictures (PNG) of a result."""
    from streamptycho.recording.pictures import show_result

    for path in show_result(result, out or (result if result.is_dir() else result.parent)):
        typer.echo(str(path))


@app.command(hidden=True)
def service(
    name: Annotated[str, typer.Argument(help="record, ingest, reconstruct, tomography, monitor or simulate.")],
    config_file: Annotated[Path, typer.Option("--config")],
    out: Annotated[Path, typer.Option("--out")],
    replay_log: Annotated[Path | None, typer.Option("--replay")] = None,
    speed: Annotated[str, typer.Option("--speed")] = "max",
    parent: Annotated[int | None, typer.Option("--parent")] = None,
) -> None:
    """Run one service of the pipeline (as `docker/compose.yaml` and the supervisor do)."""
    from streamptycho.stages.folder import RunFolder
    from streamptycho.stages.services import SERVICES, ServiceOptions, run_service

    if name not in SERVICES:
        raise ConfigError(f"no service is called {name!r}. Known: {', '.join(SERVICES)}")
    folder = RunFolder(out)
    if name == "record" and parent is None and replay_log is None:
        folder.refuse_a_second_run()
    options = ServiceOptions(folder=folder, replay=replay_log, speed=_speed(speed), parent=parent)
    config = load(config_file)
    monitor = config.monitor.model_copy(update={"results": config.monitor.results or str(out.resolve())})
    sys.exit(run_service(name, config.model_copy(update={"monitor": monitor}), options))


def _shipped(name: str) -> str:
    return (files("streamptycho") / "configs" / name).read_text(encoding="utf-8")


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not speed > 0:
        raise ConfigError(f"--speed must be a number above 0 or max, got {text!r}")
    return speed


def _with_device(config: Config, device: str | None) -> Config:
    if device is None:
        return config
    if device not in ("cpu", "gpu"):
        raise ConfigError(f"--device must be cpu or gpu, got {device!r}")
    reconstruction = config.reconstruction.model_copy(update={"device": device})
    tomography = config.tomography.model_copy(update={"device": device})
    return config.model_copy(update={"reconstruction": reconstruction, "tomography": tomography})


def _with_projections(config: Config) -> Config:
    """Let a simulated scan end after its last projection."""
    if config.projections.count is not None or config.simulation is None:
        return config
    projections = config.projections.model_copy(update={"count": config.simulation.projections})
    return config.model_copy(update={"projections": projections})
