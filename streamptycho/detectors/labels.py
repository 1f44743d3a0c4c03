"""What the control system wrote into a header, as plain JSON values of bounded size."""

from __future__ import annotations

import json
import math
from typing import Any

from streamptycho.detectors.cbor import Tag

MAX_DEPTH = 8
MAX_VALUES = 1000
MAX_TEXT = 4096
MAX_JSON_BYTES = 1 << 20


def labels_from(content: Any) -> dict[str, Any]:
    """Return labels from a mapping, or from the text of one in JSON; other content goes under "user_data"."""
    if isinstance(content, memoryview):
        content = bytes(content)
    if isinstance(content, str | bytes):
        content = _parsed(content)
    if content is None or content == "":
        return {}
    budget = [MAX_VALUES]
    plain = _plain(content, 0, budget)
    return plain if isinstance(plain, dict) else {"user_data": plain}


def json_object(part: bytes) -> dict[str, Any] | None:
    """Return the JSON object that the bytes are, None if they are something else."""
    if len(part) > MAX_JSON_BYTES or not part.lstrip()[:1] == b"{":
        return None
    try:
        content = json.loads(part)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _parsed(content: str | bytes) -> Any:
    text = content.decode("utf-8", "replace") if isinstance(content, bytes) else content
    if len(text) > MAX_JSON_BYTES:
        return text[:MAX_TEXT]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _plain(value: Any, depth: int, budget: list[int]) -> Any:
    budget[0] -= 1
    if budget[0] < 0 or depth > MAX_DEPTH:
        return None
    if isinstance(value, Tag):
        return _plain(value.value, depth + 1, budget)
    if isinstance(value, dict):
        return {str(k)[:MAX_TEXT]: _plain(v, depth + 1, budget) for k, v in list(value.items())[: budget[0] + 1]}
    if isinstance(value, list | tuple):
        return [_plain(v, depth + 1, budget) for v in value[: budget[0] + 1]]
    if isinstance(value, str):
        return value[:MAX_TEXT]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 63 else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return None
