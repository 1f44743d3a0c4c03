"""Where messages come from and where they go, without saying how they travel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from streamptycho.messages import (
    DiffractionBatch,
    Message,
    ObjectUpdate,
    ProjectionEnd,
    ProjectionStart,
    RawBlock,
    RawRecord,
    ScanEnd,
    ServiceStatus,
)


class Source(Protocol):
    """Something to receive messages from."""

    def get(self, timeout_s: float) -> Message | None:
        """Return the next message, or None when none came within the time."""

    def close(self) -> None:
        """Release what the source holds."""


class Sink(Protocol):
    """Something to send messages to."""

    def put(self, message: Message, timeout_s: float) -> bool:
        """Send a message; False when the receiver could not take it within the time."""

    def close(self) -> None:
        """Release what the sink holds, after what was put has left."""


class Stage(Protocol):
    """A pure step of the pipeline: no clock, socket, thread or environment inside."""

    name: str

    def handle(self, message: Message, now_ns: int) -> Iterable[Message]:
        """Take one message and return what follows from it."""

    def work(self, now_ns: int) -> Iterable[Message]:
        """Do one slice of work that needs no new message (reconstruct, give up what is overdue)."""

    def stop(self, now_ns: int) -> Iterable[Message]:
        """Return what can still be made of what is here: nothing more will come."""

    @property
    def busy(self) -> bool:
        """Whether `work` has something to do at once."""

    @property
    def accepts(self) -> bool:
        """Whether `handle` may be called: False pushes back on the service before."""

    @property
    def finished(self) -> bool:
        """Whether the scan is over and everything was handed on."""

    def status(self, now_ns: int) -> ServiceStatus:
        """Return what the operator should know."""


def travels_as_data(message: Message) -> bool:
    """Whether losing the message would lose data: then it goes by the bounded queue that pushes back."""
    if isinstance(message, ObjectUpdate):
        return message.final
    return isinstance(message, RawRecord | RawBlock | ProjectionStart | DiffractionBatch | ProjectionEnd | ScanEnd)


def is_worth_a_look(message: Message) -> bool:
    """Whether people may want to see the message: then it is published, and only the newest counts."""
    return not isinstance(message, RawRecord | RawBlock | DiffractionBatch)
