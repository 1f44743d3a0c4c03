"""The files of a tomogram, written again and again while it grows."""

from __future__ import annotations

from streamptycho.config import Config, dump
from streamptycho.messages import Array, Message, ServiceStatus, VolumeUpdate
from streamptycho.recording.nxtomo import write_nxtomo
from streamptycho.recording.provenance import Provenance
from streamptycho.recording.volume_file import write_volume
from streamptycho.runtime.service import Tap
from streamptycho.stages.folder import RunFolder
from streamptycho.stages.tomography import TomographyStage
from streamptycho.tomography import Aggregator, VolumeSlabs
from streamptycho.tomography.backprojection import LIVE_VOXELS

GROWTH = 1.25
FIRST = 8
MAX_GROWING_VOXELS = LIVE_VOXELS


def volume_writer(config: Config, folder: RunFolder, stage: TomographyStage) -> Tap:
    """Return a tap that writes the volume and the aligned projections when it is final, and while it grows.

    Each time both files are made anew (alignment moves earlier projections too) and replace the old ones in one step:
    a reader never finds half a file, and a crash leaves the one before. A quarter more projections lie between two
    writings, so that all of them together take no more than a few times the last. A large volume is only written when
    it is final, and slab by slab. Projections that make no volume, all of one angle, are written when all is over.
    """
    configuration = dump(config)
    written = 0

    def write(message: Message) -> None:
        nonlocal written
        if isinstance(message, ServiceStatus) and stage.finished and not written and stage.aggregator.projections_used:
            written = stage.aggregator.projections_used
            write_nxtomo(folder.nxtomo, stage.aggregator.projection_stack(), name=config.scan_id)
        if not isinstance(message, VolumeUpdate):
            return
        if not message.final and message.projections_used < max(FIRST, GROWTH * written):
            return
        written = message.projections_used
        aggregator = stage.aggregator
        stack = aggregator.projection_stack()
        write_nxtomo(folder.nxtomo, stack, energy_ev=message.figures.get("energy_ev"), name=config.scan_id)
        depth, width = stack.phase_rad.shape[1:]
        large = depth * width**2 > MAX_GROWING_VOXELS
        if message.final or not large:
            if not isinstance(aggregator, Aggregator):
                volume: Array | VolumeSlabs = aggregator.volume()
            else:
                volume = aggregator.slabs() if large else aggregator.volume(final=message.final)
            write_volume(folder.volume, volume, message, stack, Provenance(configuration=configuration))

    return write
