"""The operator's page: what arrives, what is being reconstructed, what was lost, live in a browser."""

from streamptycho.monitor.app import create_app
from streamptycho.monitor.server import MonitorError, MonitorServer
from streamptycho.monitor.store import Store

__all__ = ["MonitorError", "MonitorServer", "Store", "create_app"]
