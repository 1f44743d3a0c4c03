"""Ports within one process: a bounded queue, for tests and for running the pipeline without sockets."""

from __future__ import annotations

import queue

from streamptycho.messages import Message


class MemoryQueue:
    """A source and a sink in one, safe between threads."""

    def __init__(self, size: int = 1024) -> None:
        self._queue: queue.Queue[Message] = queue.Queue(size)

    def get(self, timeout_s: float) -> Message | None:
        """Return the next message, or None when none came within the time."""
        try:
            return self._queue.get(timeout=timeout_s) if timeout_s > 0 else self._queue.get_nowait()
        except queue.Empty:
            return None

    def put(self, message: Message, timeout_s: float) -> bool:
        """Append a message; False when the queue stayed full."""
        try:
            self._queue.put(message, timeout=max(timeout_s, 1e-9))
        except queue.Full:
            return False
        return True

    def close(self) -> None:
        """Nothing to release."""
