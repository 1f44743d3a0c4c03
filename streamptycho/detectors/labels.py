"""What the control system wrote into a header, as plain JSON values of bounded size."""

from __future__ import annotations

import json
import math
from typing import Any

from streamptycho.detectors.cbor import Tag

MAX_DEPTH = 8
MAX_CHARACTERS = 100_000
MAX_JSON_BYTES = 1 << 20
_COST_OF_A_VALUE = 8


def labels_from(content: Any) -> dict[str, Any]:
    """Return labels from a mapping, or from the text of one in JSON; other content goes under "user_data"."""
    if isinstance(content, memoryview):
        content = bytes(content)
    if isinstance(content, str | bytes):
        content = _parsed(content)
    if content is None or content == "":
        return {}
    plain = _Plain().value(content, 0)
    return plain if isinstance(plain, dict) else {"user_data": plain}


def json_object(part: bytes) -> dict[str, Any] | None:
    """Return the JSON object that the bytes are, None if they are something else."""
    if len(part) > MAX_JSON_BYTES or part.lstrip()[:1] != b"{":
        return None
    try:
        content = json.loads(part)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _parsed(content: str | bytes) -> Any:
    text = content.decode("utf-8", "replace") if isinstance(content, bytes) else content
    if len(text) > MAX_JSON_BYTES:
        return text[:MAX_CHARACTERS]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


class _Plain:
    """Copies values that JSON has, as long as there is room for them; others become None."""

    def __init__(self) -> None:
        self._room = MAX_CHARACTERS

    def value(self, value: Any, depth: int) -> Any:
        self._room -= _COST_OF_A_VALUE
        if self._room < 0 or depth > MAX_DEPTH:
            return None
        if isinstance(value, Tag):
            return self.value(value.value, depth + 1)
        if isinstance(value, dict):
            return {self._text(str(k)): self.value(v, depth + 1) for k, v in self._fitting(list(value.items()))}
        if isinstance(value, list):
            return [self.value(v, depth + 1) for v in self._fitting(value)]
        if isinstance(value, str):
            return self._text(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return value if abs(value) < 1 << 63 else None
        return value if isinstance(value, float) and math.isfinite(value) else None

    def _fitting(self, items: list[Any]) -> list[Any]:
        return items[: self._room // _COST_OF_A_VALUE]

    def _text(self, text: str) -> str:
        kept = text[: max(self._room, 0)]
        self._room -= len(kept)
        return kept
