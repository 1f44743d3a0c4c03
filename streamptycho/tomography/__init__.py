"""From reconstructed projections to a quantitative volume that grows with every projection.

`phase` turns a complex object into a phase whose air is zero, `alignment` finds where it belongs, `frame` puts it
there, `backprojection` adds it to the volume, `aggregator` does all of it message by message. `refinement` aligns all
projections on those of their own volume. `gridrec`, `sirt` and `total_variation` are other ways to the final volume,
`final_volume` makes it piece by piece. `cuda_back_projection` is `backprojection` on a GPU.
"""

from streamptycho.tomography.aggregator import AGGREGATORS, Aggregator, aggregator
from streamptycho.tomography.backprojection import (
    IncrementalBackProjection,
    VolumeTooLargeError,
    filtered_back_projection,
)
from streamptycho.tomography.gridrec import TomopyMissingError, gridrec, tomopy_available
from streamptycho.tomography.interface import AggregatorProtocol, ProjectionStack, VolumeSlabs
from streamptycho.tomography.joint_alignment import AlignmentJob
from streamptycho.tomography.phase import PhaseError, ProjectionPhase, projection_phase
from streamptycho.tomography.refinement import Refined, Refinement
from streamptycho.tomography.refractive_index import delta_per_radian, electron_density_per_delta, quantity_per_radian
from streamptycho.tomography.rotation_axis import RotationAxisError, rotation_axis_px
from streamptycho.tomography.sirt import sirt
from streamptycho.tomography.total_variation import total_variation

__all__ = [
    "AGGREGATORS",
    "Aggregator",
    "AggregatorProtocol",
    "AlignmentJob",
    "IncrementalBackProjection",
    "PhaseError",
    "ProjectionPhase",
    "ProjectionStack",
    "Refined",
    "Refinement",
    "RotationAxisError",
    "TomopyMissingError",
    "VolumeSlabs",
    "VolumeTooLargeError",
    "aggregator",
    "delta_per_radian",
    "electron_density_per_delta",
    "filtered_back_projection",
    "gridrec",
    "projection_phase",
    "quantity_per_radian",
    "rotation_axis_px",
    "sirt",
    "tomopy_available",
    "total_variation",
]
