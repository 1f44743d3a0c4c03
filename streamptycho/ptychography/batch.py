"""Reconstruction of a complete projection, by the engine that also runs live."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from streamptycho.config import ProbeConfig, ReconstructionConfig
from streamptycho.geometry import Geometry
from streamptycho.messages import Array, DiffractionBatch, ProjectionStart, Quality
from streamptycho.ptychography.engine import EngineError
from streamptycho.ptychography.epie import EpieEngine


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Reconstruction:
    """A reconstructed projection.

    Attributes
    ----------
    object
        (H, W) complex64.
    probe
        (modes, n, n) complex64, orthogonal, strongest first.
    xy_m
        Positions of the frames that were used, (N, 2), (x, y).
    index
        Which frames of the input those are, (N,).
    errors
        Normalised amplitude error during each sweep, (sweeps,).
    error
        The same with the final object and probe.
    noise_floor
        What photon noise alone leaves of that error, None without a photon.
    correction_rms_m
        How far frames lie from where they were measured, None when positions are taken as measured.
    pixel_m
        Object pixel.
    origin_xy_m
        A frame at (x, y) is centred on object pixel ((y - origin_y) / pixel_m, (x - origin_x) / pixel_m).
    coverage
        Summed probe intensity on each object pixel, (H, W).
    resolution_m
        Half-period resolution, None when not asked for or not to be judged.
    dropped
        Frames that were left out, by reason.
    """

    object: Array
    probe: Array
    xy_m: Array
    index: Array
    errors: Array
    error: float
    pixel_m: float
    origin_xy_m: Array
    coverage: Array
    resolution_m: float | None = None
    noise_floor: float | None = None
    correction_rms_m: float | None = None
    dropped: dict[str, int] = field(default_factory=dict)


def reconstruct(
    counts: Array,
    xy_m: Array,
    geometry: Geometry,
    *,
    probe: Array | None = None,
    modes: int = 1,
    sweeps: int = 50,
    device: Literal["cpu", "gpu"] = "cpu",
    seed: int = 0,
    object_step: float = 0.9,
    probe_step: float = 0.3,
    probe_delay_sweeps: int = 2,
    probe_start: ProbeConfig | None = None,
    margin_px: int = 16,
    resolution: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> Reconstruction:
    """Return object and probe from the frames of one projection.

    Parameters
    ----------
    counts
        (N, n, n), zero frequency at [n // 2, n // 2]. Not measured: the largest value of an unsigned dtype, negative
        values, NaN, and what is masked in a masked array.
    xy_m
        Beam positions on the sample, (N, 2): x along the columns, y along the rows.
    geometry
        Scale of the measurement; its shape is that of the frames.
    probe
        Start probe, (n, n) or (modes, n, n). Its power is scaled to the data.
    modes
        Incoherent probe modes.
    sweeps
        Visits of every frame.
    device
        "cpu" or "gpu".
    seed
        Of the order of visits.
    object_step, probe_step
        Step sizes of ePIE.
    probe_delay_sweeps
        Sweeps before the probe is refined.
    probe_start
        How the probe starts when none is given.
    margin_px
        Kept around what frames light.
    resolution
        Whether to judge the resolution from two halves, which costs a few sweeps more.
    progress
        Called with (sweeps done, sweeps) after every sweep.
    settings
        Any other key of `ReconstructionConfig`: positions="gradient", upsampling=2, propagator="near_field" and so on.

    Raises
    ------
    EngineError
        If the arrays do not fit together, no frame can be used, or frames do not overlap.
    ProbeError
        If the start probe cannot be used.
    DeviceError
        If the device cannot be used.
    """
    counts, xy_m = _given(counts, xy_m)
    if counts.ndim != 3 or counts.shape[1:] != tuple(geometry.shape) or xy_m.shape != (len(counts), 2):
        raise EngineError(
            f"counts must be (N, {geometry.shape[0]}, {geometry.shape[1]}) as the geometry says and xy_m (N, 2), "
            f"got {counts.shape} and {xy_m.shape}"
        )
    values = {
        "device": device,
        "modes": modes,
        "sweeps": sweeps,
        "min_sweeps": min(sweeps, 10),
        "object_step": object_step,
        "probe_step": probe_step,
        "probe_delay_sweeps": probe_delay_sweeps,
        "margin_px": margin_px,
        "seed": seed,
        "probe": probe_start or ProbeConfig(),
    }
    try:
        config = ReconstructionConfig.model_validate({**settings, **values})
    except ValidationError as problem:
        raise EngineError(f"these settings do not make a reconstruction: {problem}") from None
    engine = EpieEngine(config, probe=probe)
    engine.begin(ProjectionStart(scan_id="", projection=0, angle_deg=None, n_frames=len(counts), geometry=geometry))
    lost = engine.add(
        DiffractionBatch(
            scan_id="",
            projection=0,
            index=np.arange(len(counts)),
            counts=counts,
            xy_m=xy_m,
            quality=np.full(len(counts), Quality.MEASURED, np.uint8),
        )
    )
    dropped = {item.reason.value: item.count for item in lost}
    if engine.frames == 0:
        raise EngineError(f"none of {len(counts)} frames can be used: {dropped or 'there are none'}")
    fault = engine.fault_of_overlap()
    if fault is not None:
        raise EngineError(fault)
    for sweep in range(sweeps):
        engine.run(1)
        if progress is not None:
            progress(sweep + 1, sweeps)
    engine.maximise_likelihood()
    update, error = engine.update(final=resolution), engine.evaluate()
    assert update is not None
    assert error is not None
    return Reconstruction(
        object=update.object,
        probe=update.probe,
        xy_m=update.xy_m,
        index=update.index,
        errors=update.errors,
        error=error,
        pixel_m=update.pixel_m,
        origin_xy_m=update.origin_xy_m,
        coverage=update.coverage,
        resolution_m=update.resolution_m,
        noise_floor=engine.noise_floor(),
        correction_rms_m=update.correction_rms_m,
        dropped=dropped,
    )


def _given(counts: Array, xy_m: Array) -> tuple[Array, Array]:
    """Return counts, unmeasured where they are masked, and positions as numbers."""
    try:
        if isinstance(counts, np.ma.MaskedArray):
            kind = counts.dtype.kind
            counts = counts.filled(np.iinfo(counts.dtype).max if kind == "u" else -1 if kind == "i" else np.nan)
        counts, xy_m = np.asarray(counts), np.asarray(xy_m, np.float64)
    except (TypeError, ValueError) as problem:
        raise EngineError(f"counts must be (N, n, n) and xy_m (N, 2) numbers: {problem}") from None
    if counts.dtype.kind not in "uif":
        raise EngineError(f"counts must be integers or real numbers, got {counts.dtype}")
    return counts, xy_m
