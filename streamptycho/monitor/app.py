"""The web application: the page, its pictures and state over HTTP, and a WebSocket that keeps a page up to date.

Every viewer is served by its own task, which looks at the store, sends what is newer than what it sent last, and then
waits for the viewer to say "ack" before it sends again. So nothing is queued: a slow viewer gets fewer pictures,
always the newest, and neither delays the others nor costs memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from streamptycho.monitor.colours import NAMES, colour_table
from streamptycho.monitor.metrics import CONTENT_TYPE, as_text
from streamptycho.monitor.pictures import PathPlot, encode, to_png
from streamptycho.monitor.store import PICTURE_NAMES, Store

MAX_VIEWERS = 64
HEARTBEAT_S = 1.0
STATIC = Path(__file__).parent / "static"
_TRY_AGAIN_LATER = 1013
_POLICY_VIOLATION = 1008
_HEADERS = [
    (b"content-security-policy", b"default-src 'self'; img-src 'self' data:; frame-ancestors 'self'"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-cache"),
]


def create_app(store: Store, *, pictures_per_s: float = 4.0, title: str = "streamptycho") -> Starlette:
    """Return the application that shows a store.

    Parameters
    ----------
    store
        Fed by the caller, from any thread.
    pictures_per_s
        How often at most a viewer gets something new.
    title
        Heading of the page, usually the name of the beamline.

    Returns
    -------
    app
        Its `state.all_know()` tells whether every viewer has the newest state of the store.
    """
    monitor = _Monitor(store, pictures_per_s, title)
    app = Starlette(
        routes=[
            Route("/", monitor.page),
            Route("/health", monitor.health),
            Route("/metrics", monitor.metrics),
            Route("/api/state", monitor.state),
            Route("/api/colours", monitor.colours),
            Route("/api/picture/{name}.png", monitor.png),
            WebSocketRoute("/ws", monitor.watch),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(_SafeHeaders)],
        exception_handlers={HTTPException: _as_json},
    )
    app.state.all_know = monitor.all_know
    return app


class _Monitor:
    def __init__(self, store: Store, pictures_per_s: float, title: str) -> None:
        self._store = store
        self._period_s = 1.0 / pictures_per_s
        self._title = title
        self._viewers: set[_Viewer] = set()

    def all_know(self) -> bool:
        newest = self._store.version
        return all(viewer.knows == newest for viewer in list(self._viewers))

    async def page(self, request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    async def health(self, request: Request) -> Response:
        age_s = self._store.snapshot()["age_s"]
        return JSONResponse({"status": "ok", "viewers": len(self._viewers), "last_message_age_s": age_s})

    async def state(self, request: Request) -> Response:
        return JSONResponse({**self._store.snapshot(), "title": self._title})

    async def metrics(self, request: Request) -> Response:
        return Response(as_text(self._store.snapshot()), media_type=CONTENT_TYPE)

    async def colours(self, request: Request) -> Response:
        tables = await run_in_threadpool(lambda: {name: colour_table(name).tolist() for name in NAMES})
        return JSONResponse(tables)

    async def png(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in PICTURE_NAMES or name == "path":
            known = ", ".join(n for n in PICTURE_NAMES if n != "path")
            raise HTTPException(404, f"no picture is called {name!r}; known: {known}")
        picture = await run_in_threadpool(self._store.picture, name)
        if picture is None or isinstance(picture, PathPlot):
            raise HTTPException(404, f"there is no {name} to show yet")
        return Response(await run_in_threadpool(to_png, picture), media_type="image/png")

    async def watch(self, socket: WebSocket) -> None:
        if not _same_origin(socket):
            await socket.close(_POLICY_VIOLATION, "pages of other servers cannot look at this one")
            return
        if len(self._viewers) >= MAX_VIEWERS:
            await socket.close(_TRY_AGAIN_LATER, f"{MAX_VIEWERS} pages are open already")
            return
        viewer = _Viewer(self._store, self._title, socket)
        self._viewers.add(viewer)
        try:
            await socket.accept()
            listening = asyncio.create_task(viewer.listen())
            sending = asyncio.create_task(viewer.send(self._period_s))
            done, running = await asyncio.wait({listening, sending}, return_when=asyncio.FIRST_COMPLETED)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            for task in done:
                with contextlib.suppress(WebSocketDisconnect, RuntimeError):
                    task.result()
        finally:
            self._viewers.discard(viewer)


class _Viewer:
    """One open page: what it has, whether it is ready for more, and the version of the store that it `knows`."""

    def __init__(self, store: Store, title: str, socket: WebSocket) -> None:
        self._store = store
        self._title = title
        self._socket = socket
        self._ready = asyncio.Event()
        self.knows = -1
        self._pictures: dict[str, int] = {}
        self._sections: dict[str, int] = {}

    async def listen(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            self._ready.set()

    async def send(self, period_s: float) -> None:
        loop = asyncio.get_running_loop()
        sent_version, sent_at = -1, -HEARTBEAT_S
        while True:
            started = loop.time()
            version = self._store.version
            if version != sent_version or started - sent_at >= HEARTBEAT_S:
                self._ready.clear()
                await self._send_news()
                sent_version, sent_at = version, started
                await self._ready.wait()
                self.knows = version
            await asyncio.sleep(max(0.005, period_s - (loop.time() - started)))

    async def _send_news(self) -> None:
        for name, version in self._store.versions().items():
            if self._pictures.get(name) == version:
                continue
            drawable = await run_in_threadpool(self._store.picture, name)
            self._pictures[name] = version
            if drawable is not None:
                self._pictures[name] = drawable.version
                await self._socket.send_bytes(encode(drawable))
        state = self._store.snapshot()
        for section, version in state["sections"].items():
            if self._sections.get(section) == version:
                del state[section]
            self._sections[section] = version
        state["title"] = self._title
        await self._socket.send_text(json.dumps(state, separators=(",", ":"), allow_nan=False))


class _SafeHeaders:
    """Adds headers that keep the page to its own server."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


async def _as_json(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = error.detail if isinstance(error, HTTPException) else "internal error"
    return JSONResponse({"error": detail, "path": request.url.path}, status_code=status)


def _same_origin(socket: WebSocket) -> bool:
    """Tell a page of this server, or a program without a page, from a page of somebody else."""
    origin = socket.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == socket.headers.get("host")
