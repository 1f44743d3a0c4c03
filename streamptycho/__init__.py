"""Streaming X-ray ptychography and ptychographic tomography for beamlines."""

__version__ = "0.1.0"
