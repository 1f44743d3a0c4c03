"""A beamline in software: phantom, beam, scan, detector and PandABox, as pure functions of a configuration."""

from streamptycho.simulation.errors import SimulationError
from streamptycho.simulation.instrument import Instrument, Projection
from streamptycho.simulation.sample import Sample, make_sample, truth
from streamptycho.simulation.window import reconstructed_pixel_m

__all__ = ["Instrument", "Projection", "Sample", "SimulationError", "make_sample", "reconstructed_pixel_m", "truth"]
