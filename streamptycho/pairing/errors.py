"""What makes pairing impossible, told so that the operator can repair it."""


class PairingError(ValueError):
    """Frames and positions that cannot be brought together as configured."""


class GeometryUnknownError(PairingError):
    """A series without energy, distance, pixel pitch or a square frame."""


class AngleMissingError(PairingError):
    """Projections are cut by angle, and the position source captures none."""


class ClockError(PairingError):
    """Pairing by absolute time, and one side has no absolute time."""
