"""The two TCP ports of a simulated PandABox, served by one thread."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import threading
from collections.abc import Callable, Sequence

from streamptycho.runtime.pandabox_control import PandaControl

MAX_UNREAD_BYTES = 16 << 20
MAX_LINE_BYTES = 4096
MAX_BLOCK_BYTES = 16 << 20
_OPTION_TIMEOUT_S = 10.0
_TOKENS = (b"<header>\n", b"BIN ", b"END ", b"OK\n")


class AcquisitionTracker:
    """Follows the data port's bytes, cut anywhere: the header in force and the rows since.

    Attributes
    ----------
    header
        Of the acquisition in progress, None between acquisitions.
    rows
        Rows of the acquisition so far.
    total_rows
        Rows of all acquisitions.
    """

    def __init__(self) -> None:
        self.header: bytes | None = None
        self.rows = 0
        self.total_rows = 0
        self._row_bytes = 1
        self._pending = bytearray()

    @property
    def aligned(self) -> bool:
        """Whether the bytes so far end with a whole header, block of rows or end line."""
        return not self._pending

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._pending += data
        while self._pending:
            size = self._whole()
            if size == 0:
                return
            del self._pending[:size]

    def _whole(self) -> int:
        """Account for what is complete at the front and return its size, 0 when more bytes are needed."""
        pending = self._pending
        if pending.startswith(b"<header>\n"):
            end = pending.find(b"</header>\n\n")
            if end < 0:
                return 0 if len(pending) < MAX_BLOCK_BYTES else self._lost()
            self.header, self.rows = bytes(pending[: end + 11]), 0
            found = re.search(rb'sample_bytes="(\d{1,6})"', self.header)
            self._row_bytes = max(1, int(found[1])) if found else 1
            return end + 11
        if pending.startswith(b"BIN "):
            if len(pending) < 8:
                return 0
            size = int(struct.unpack_from("<I", pending, 4)[0])
            if not 8 <= size <= MAX_BLOCK_BYTES:
                return self._lost()
            if len(pending) < size:
                return 0
            rows = (size - 8) // self._row_bytes
            self.rows, self.total_rows = self.rows + rows, self.total_rows + rows
            return size
        if pending.startswith(b"END "):
            end = pending.find(b"\n", 0, MAX_LINE_BYTES)
            if end < 0:
                return 0 if len(pending) < MAX_LINE_BYTES else self._lost()
            self.header = None
            return end + 1
        if pending.startswith(b"OK\n"):
            return 3
        return 0 if any(token.startswith(pending) for token in _TOKENS) else self._lost()

    def _lost(self) -> int:
        self.header = None
        at = self._pending.find(b"<header>\n", 1)
        return at if at > 0 else len(self._pending)


class PandaServer:
    """Serves one stream of position bytes to any number of data clients, and the control port.

    A client that connects during an acquisition gets its header with the number of rows it missed. A client that does
    not read is dropped, as by the real box after a data overrun.

    Parameters
    ----------
    host, data_port, control_port
        Where to listen; port 0 takes a free one.
    scaled
        Whether the bytes that will be published answer ``XML FRAMED SCALED`` or ``XML FRAMED RAW``.
    columns
        Captured columns for the control port.

    Raises
    ------
    OSError
        If a port cannot be bound.
    """

    def __init__(
        self, host: str, data_port: int, control_port: int, *, scaled: bool = True, columns: Sequence[str] = ()
    ) -> None:
        self.tracker = AcquisitionTracker()
        self.overruns = 0
        self._columns = tuple(columns)
        self._option = b"XML FRAMED SCALED" if scaled else b"XML FRAMED RAW"
        self._ready: dict[asyncio.StreamWriter, bool] = {}
        self._writers: set[asyncio.StreamWriter] = set()
        self._closing = asyncio.Event()
        self._flush_s = 0.0
        data_socket = socket.create_server((host, data_port))
        try:
            control_socket = socket.create_server((host, control_port))
        except OSError:
            data_socket.close()
            raise
        self.data_port: int = data_socket.getsockname()[1]
        self.control_port: int = control_socket.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, args=(data_socket, control_socket), daemon=True)
        self._thread.start()

    @property
    def clients(self) -> int:
        """Number of data clients that are connected and were answered OK."""
        return len(self._ready)

    def publish(self, data: bytes) -> None:
        """Send the next bytes to every data client."""
        self._call(self._publish, data)

    def drop_clients(self) -> None:
        """Close the connection of every data client, after what was sent."""
        self._call(self._drop)

    def close(self, flush_s: float = 2.0) -> None:
        """Close everything; clients that read get all that was published."""
        self._flush_s = flush_s
        self._call(self._closing.set)
        self._thread.join(flush_s + 5.0)

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        # the loop is gone when the instrument is closed twice, or written to after that
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def _serve(self, data_socket: socket.socket, control_socket: socket.socket) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main(data_socket, control_socket))
        finally:
            self._loop.close()

    async def _main(self, data_socket: socket.socket, control_socket: socket.socket) -> None:
        data = await asyncio.start_server(self._on_data, sock=data_socket, limit=MAX_LINE_BYTES)
        control = await asyncio.start_server(self._on_control, sock=control_socket, limit=MAX_LINE_BYTES)
        await self._closing.wait()
        data.close()
        control.close()
        for writer in self._writers:
            writer.close()
        end = self._loop.time() + self._flush_s
        while self._writers and self._loop.time() < end:
            await asyncio.sleep(0.005)
        for writer in self._writers:
            writer.transport.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _on_data(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            option = await asyncio.wait_for(_line(reader), _OPTION_TIMEOUT_S)
            if option != self._option:
                writer.write(b"ERR Invalid data capture option\n")
                return
            writer.write(b"OK\n")
            self._ready[writer] = False
            self._attach(writer)
            while await reader.read(MAX_LINE_BYTES):
                continue
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            return
        finally:
            self._ready.pop(writer, None)
            await self._close(writer)

    async def _on_control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        control = PandaControl(self._columns)
        self._writers.add(writer)
        try:
            while (line := await _line(reader)) is not None:
                control.rows, control.readers = self.tracker.rows, len(self._ready)
                answer = control.answer(line.decode("ascii", "replace"))
                if answer is not None:
                    writer.write(answer.encode() + b"\n")
                    await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            return
        finally:
            await self._close(writer)

    async def _close(self, writer: asyncio.StreamWriter) -> None:
        writer.close()
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await writer.wait_closed()
        self._writers.discard(writer)

    def _publish(self, data: bytes) -> None:
        if self.tracker.aligned and self.tracker.header is None and data.startswith(b"OK\n"):
            data = data[3:]
        for writer in [w for w, attached in self._ready.items() if attached]:
            if writer.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
                self.overruns += 1
                del self._ready[writer]
                writer.transport.abort()
            elif not writer.is_closing():
                writer.write(data)
        self.tracker.feed(data)
        for writer in self._ready:
            self._attach(writer)

    def _attach(self, writer: asyncio.StreamWriter) -> None:
        header = self.tracker.header
        if not self._ready[writer] and header is not None and self.tracker.aligned:
            self._ready[writer] = True
            writer.write(re.sub(rb'missed="\d+"', b'missed="%d"' % self.tracker.rows, header, count=1))

    def _drop(self) -> None:
        for writer in self._ready:
            writer.close()
        self._ready.clear()


async def _line(reader: asyncio.StreamReader) -> bytes | None:
    """Return the next line without its end, None at the end of the connection or when it is too long to be one."""
    try:
        line = await reader.readuntil(b"\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return None
    return line.rstrip(b"\r\n")
