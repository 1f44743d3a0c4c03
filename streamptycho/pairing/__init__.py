"""Frames and positions become batches of frames with positions, cut into projections, every loss counted."""

from streamptycho.pairing.core import Pairing
from streamptycho.pairing.errors import AngleMissingError, ClockError, GeometryUnknownError, PairingError

__all__ = ["AngleMissingError", "ClockError", "GeometryUnknownError", "Pairing", "PairingError"]
