"""How much a DECTRIS detector says when it is armed."""

from __future__ import annotations

import json
from collections.abc import Sequence

import cbor2

_STREAM2_TABLES = ("countrate_correction_lookup_table", "flatfield", "pixel_mask")
_STREAM1_TABLES = slice(2, 8)
_OPEN = b'{"type":"start"'
_SELF_DESCRIBED = b"\xd9\xd9\xf7"


def trimmed_header(parts: Sequence[bytes], *, tables: bool, appendix: bool) -> list[bytes]:
    """Return a start message of a detector in full detail, without its tables (header_detail "basic") or appendix."""
    if parts[0].startswith(_OPEN):
        return list(parts if tables else parts[:1])
    stream1 = not parts[0].startswith(_SELF_DESCRIBED)
    out = list(parts[:-1] if stream1 and not appendix else parts)
    return out if tables else _basic(out)


def _basic(parts: list[bytes]) -> list[bytes]:
    if parts[0].startswith(_SELF_DESCRIBED):
        message = dict(cbor2.loads(parts[0][len(_SELF_DESCRIBED) :]))
        kept = {key: value for key, value in message.items() if key not in _STREAM2_TABLES}
        return [_SELF_DESCRIBED + cbor2.dumps(kept)]
    head = json.loads(parts[0]) | {"header_detail": "basic"}
    del parts[_STREAM1_TABLES]
    return [json.dumps(head, separators=(",", ":")).encode(), *parts[1:]]
