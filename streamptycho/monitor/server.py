"""The page served from a thread of its own, so that the caller is free to feed the store."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import uvicorn

from streamptycho.config import MonitorConfig
from streamptycho.monitor.app import create_app
from streamptycho.monitor.store import Store

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 5.0
FAREWELL_S = 2.0
_MAX_REQUEST_BYTES = 4096
_ANY_ADDRESS = {"0.0.0.0", "::", ""}


class MonitorError(RuntimeError):
    """The page cannot be served."""


class MonitorServer:
    """Serves the page of a store until `stop`.

    Parameters
    ----------
    store
        What is shown.
    config
        Host, port (0 takes any free one) and how often pictures are sent.
    title
        Heading of the page.
    """

    def __init__(self, store: Store, config: MonitorConfig, title: str = "streamptycho") -> None:
        self._config = config
        self._store = store
        self._app = create_app(store, pictures_per_s=config.pictures_per_s, title=title)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> str:
        """Start to serve and return the address of the page.

        Raises
        ------
        MonitorError
            If the address cannot be used, the server is already running, or it does not start in time.
        """
        if self._thread is not None:
            raise MonitorError("the monitor is already running: stop it before starting it again")
        listener = _listen(self._config.host, self._config.port)
        server = uvicorn.Server(
            uvicorn.Config(
                self._app,
                loop="asyncio",
                http="h11",
                ws="websockets-sansio",
                ws_max_size=_MAX_REQUEST_BYTES,
                ws_per_message_deflate=False,
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._server = server
        self._thread = threading.Thread(target=server.run, args=([listener],), name="monitor", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self.stop()
                listener.close()
                raise MonitorError(f"the monitor did not start on {self._config.host} within {START_TIMEOUT_S:.0f} s")
            time.sleep(0.01)
        port = listener.getsockname()[1]
        host = "127.0.0.1" if self._config.host in _ANY_ADDRESS else self._config.host
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    def stop(self) -> None:
        """Tell all pages that the run is over, then stop, within a few seconds. Harmless when it is not running."""
        server, thread = self._server, self._thread
        self._server = self._thread = None
        if server is None or thread is None:
            return
        self._store.close(self._config.results)
        deadline = time.monotonic() + FAREWELL_S
        while thread.is_alive() and time.monotonic() < deadline and not self._app.state.all_know():
            time.sleep(0.01)
        server.should_exit = True
        thread.join(STOP_TIMEOUT_S)
        if thread.is_alive():
            server.force_exit = True
            thread.join(STOP_TIMEOUT_S)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(128)
            stack.pop_all()
            return listener
    except OSError as error:
        reason = error.strerror or str(error)
        raise MonitorError(
            f"the monitor cannot listen on {host}:{port} ({reason}): is another monitor running there? "
            "Set monitor.port to another port, or to 0 for any free one, and monitor.host to an address of this machine"
        ) from None
