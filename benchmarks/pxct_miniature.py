"""A tomogram of bone from detector bytes: how far density, noise and shifts are from the truth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.ndimage

from benchmarks.row import Effort, Row, WrongResult
from streamptycho.config import load
from streamptycho.messages import Array, Message, ObjectUpdate, VolumeUpdate
from streamptycho.simulation import Instrument
from streamptycho.stages.in_process import InProcessPipeline
from streamptycho.stages.truth import registered_truth
from streamptycho.tomography import ProjectionStack, electron_density_per_delta

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "pxct_miniature.yaml"
FAILED_ERROR = 0.005
BLURS_PX = np.linspace(0, 2, 9)
AIR = "air_noise_electron_density_per_A3"


def accuracy(_effort: Effort) -> Iterator[Row]:
    """Run the configuration once, through the stages of the live pipeline, and compare with the phantom."""
    config = load(CONFIG)
    instrument = Instrument(config)
    updates: dict[int, ObjectUpdate] = {}
    shown: list[VolumeUpdate] = []

    def see(message: Message) -> None:
        if isinstance(message, ObjectUpdate) and message.final:
            updates[message.projection] = message
        elif isinstance(message, VolumeUpdate):
            shown[:] = [message]

    pipeline = InProcessPipeline(config, None, see)
    pipeline.run(instrument.events(1.7e9))
    if not shown:
        raise WrongResult("there is no volume")
    figures = shown[0].figures
    aggregator = pipeline.tomography.aggregator
    volume = aggregator.volume()
    delta = instrument.sample.delta_volume * electron_density_per_delta(config.simulation.energy_ev)  # type: ignore[union-attr]
    truth = registered_truth(volume, delta)
    bone = scipy.ndimage.binary_erosion(truth > 0.5, iterations=3)
    density = abs(float(volume[bone].mean() / truth[bone].mean()) - 1)
    air = figures.get(AIR, 0.0)
    noise = abs(air / _noise(volume, truth, bone) - 1)
    unsharp = 100 * abs(air / float((volume - truth)[bone].std()) - 1)
    shifts_px = _shift_error_px(instrument, updates, aggregator.projection_stack())
    voxel_nm = 1e9 * shown[0].voxel_m
    resolution_nm = 1e9 * (shown[0].resolution_m or float("nan"))
    count = f"{shown[0].projections_used} of {len(updates)} projections"
    yield _row("electron density of bone off by", 100 * density, "%", 2.0, f"{count}, phase up to 4 pi")
    yield _row(
        "reported noise off by",
        100 * noise,
        "%",
        20.0,
        f"air of one slice, against all bone beside an equally sharp truth; {unsharp:.0f} % with blur taken for noise",
    )
    yield _row("shifts off by (rms)", shifts_px, "px", 0.2, "3 px from projection to projection, and drift")
    yield _row("half-period resolution", resolution_nm / voxel_nm, "px", 4.0, f"1/2 bit, voxel {voxel_nm:.0f} nm")


def _noise(volume: Array, truth: Array, bone: Array) -> float:
    """Return the error in bone that is not due to finite resolution: what the best blurred truth leaves."""
    blurred = (scipy.ndimage.gaussian_filter(truth, blur_px) for blur_px in BLURS_PX)
    return min(float((volume - image)[bone].std()) for image in blurred)


def _row(name: str, figure: float, unit: str, allowed: float, meaning: str) -> Row:
    return Row(
        name=f"PXCT miniature: {name}",
        figure=figure,
        unit=unit,
        better="less",
        spread=0.0,
        rounds=1,
        reference="what is allowed",
        reference_figure=allowed,
        ratio=figure / allowed,
        meaning=meaning,
    )


def _shift_error_px(instrument: Instrument, updates: dict[int, ObjectUpdate], stack: ProjectionStack) -> float:
    """Return the worse of both directions, without translations of the volume and projections that failed.

    Ptychography cannot tell a shift of the sample from one of the beam: the beam's belongs to the truth.
    """
    keys = [int(key) for key in stack.keys]
    place = _middle_px(instrument.probe)
    true = np.array(
        [instrument.displacement_m(key)[::-1] / stack.pixel_m + _middle_px(updates[key].probe) - place for key in keys]
    )
    use = np.array([(updates[key].error or 1.0) < FAILED_ERROR for key in keys])
    if np.count_nonzero(use) < 0.9 * len(keys):
        raise WrongResult(f"{np.count_nonzero(~use)} of {len(keys)} projections were not reconstructed")
    rest, theta = (stack.shifts_px + true)[use], np.radians(stack.angles_deg[use])
    turning = np.stack([np.cos(theta), np.sin(theta), np.ones_like(theta)], axis=1)
    across = rest[:, 1] - turning @ np.linalg.lstsq(turning, rest[:, 1], rcond=None)[0]
    return float(max(np.std(rest[:, 0]), np.std(across)))


def _middle_px(probe: Array) -> Array:
    power = (np.abs(probe) ** 2).sum(axis=0)
    place = np.arange(power.shape[0]) - power.shape[0] // 2
    return np.asarray([power.sum(axis=1) @ place, power.sum(axis=0) @ place] / power.sum())
