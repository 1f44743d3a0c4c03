"""The bytes of a stream log: one file header, then records with checksummed sizes and checksummed contents.

All numbers are little-endian. The file starts with `FILE_MAGIC` and the format version (u32). A record is::

    "SPR" 0x1A | source u8 | kind u8 | parts u16 | sequence i64 | received_ns i64 | content bytes u64 | content CRC u32
    size of each part u32 ...
    CRC u32 of everything above
    the parts

The checksum over the sizes comes before the content, so a reader never allocates or skips by a damaged size.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from streamptycho.messages import RECORD_KINDS, RECORD_SOURCES, RawRecord, RecordKind, RecordSource
from streamptycho.recording.log_kernels import MAX_CONTENT_BYTES, MAX_PARTS

FILE_MAGIC = b"\x89SPTYLG\n"
VERSION = 1
FILE_HEADER = struct.Struct("<8sI")
RECORD_MAGIC = b"SPR\x1a"
RECORD_HEADER = struct.Struct("<4sBBHqqQI")
CHECKSUM = struct.Struct("<I")

SOURCES, KINDS = RECORD_SOURCES, RECORD_KINDS
_SOURCE_CODE = {name: code for code, name in enumerate(SOURCES)}
_KIND_CODE = {name: code for code, name in enumerate(KINDS)}
_KNOWN_FILES = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file (results are shown with `show`, data are brought in with `import`)",
    b"PK\x03\x04": "a zip or npz file (bring it in with `import`)",
    b"BZh": "a bzip2 file (bring it in with `import`)",
    b"\x93NUMPY": "a NumPy array",
    b"\xd9\xd9\xf7": "a CBOR message",
}


class StreamLogError(RuntimeError):
    """A stream log that cannot be read or written: says which, why, and what to do."""


class DiskFullError(StreamLogError):
    """The disk, the quota or a size limit ended the recording. What was recorded before stays readable."""


@dataclass(frozen=True, slots=True)
class RecordHeader:
    """What stands before the content of a record. `size` is the length of the whole record in bytes."""

    source: RecordSource
    kind: RecordKind
    sequence: int
    received_ns: int
    part_sizes: tuple[int, ...]
    content_bytes: int
    content_checksum: int
    size: int

    @property
    def content_offset(self) -> int:
        """Where the content starts, counted from the start of the record."""
        return self.size - self.content_bytes


class DamagedRecordError(ValueError):
    """Bytes where a record header should be and is not."""


def file_header() -> bytes:
    """Return the first bytes of a log."""
    return FILE_HEADER.pack(FILE_MAGIC, VERSION)


def check_file_header(data: bytes, name: str) -> None:
    """Refuse what is not a log of this version.

    Raises
    ------
    StreamLogError
        With what was found instead.
    """
    if len(data) < FILE_HEADER.size:
        raise StreamLogError(f"{name} is not a stream log: it has {len(data)} bytes, a log starts with more")
    magic, version = FILE_HEADER.unpack_from(data)
    if magic != FILE_MAGIC:
        found = next((text for start, text in _KNOWN_FILES.items() if data.startswith(start)), None)
        raise StreamLogError(f"{name} is not a stream log: it is {found or f'a file that starts with {data[:8]!r}'}")
    if version != VERSION:
        raise StreamLogError(
            f"{name} is a stream log of format {version}, this version of streamptycho reads format {VERSION}: "
            "read it with the version that recorded it"
        )


def encode_header(record: RawRecord) -> bytes:
    """Return the bytes that stand before the parts of a record.

    Raises
    ------
    StreamLogError
        If the record has too many parts or too many bytes.
    """
    sizes = [len(part) for part in record.parts]
    content = sum(sizes)
    if len(sizes) > MAX_PARTS or content > MAX_CONTENT_BYTES:
        raise StreamLogError(
            f"a record holds at most {MAX_PARTS} parts and {MAX_CONTENT_BYTES} bytes, "
            f"got {len(sizes)} parts and {content} bytes"
        )
    checksum = 0
    for part in record.parts:
        checksum = zlib.crc32(part, checksum)
    head = RECORD_HEADER.pack(
        RECORD_MAGIC,
        _SOURCE_CODE[record.source],
        _KIND_CODE[record.kind],
        len(sizes),
        record.sequence,
        record.received_ns,
        content,
        checksum,
    )
    head += struct.pack(f"<{len(sizes)}I", *sizes)
    return head + CHECKSUM.pack(zlib.crc32(head))


def decode_header(read: Callable[[int, int], bytes]) -> RecordHeader | None:
    """Return the header of the record at the start of what `read(offset, size)` gives, None when it is cut short.

    Raises
    ------
    DamagedRecordError
        If no record starts there.
    """
    fixed = read(0, RECORD_HEADER.size)
    if not RECORD_MAGIC.startswith(fixed[: len(RECORD_MAGIC)]) and not fixed.startswith(RECORD_MAGIC):
        raise DamagedRecordError("no record starts here")
    if len(fixed) < RECORD_HEADER.size:
        return None
    _, source, kind, n_parts, sequence, received_ns, content, checksum = RECORD_HEADER.unpack(fixed)
    if n_parts > MAX_PARTS or content > MAX_CONTENT_BYTES or source >= len(SOURCES) or kind >= len(KINDS):
        raise DamagedRecordError("the record header holds impossible values")
    sizes_bytes = 4 * n_parts
    rest = read(RECORD_HEADER.size, sizes_bytes + CHECKSUM.size)
    if len(rest) < sizes_bytes + CHECKSUM.size:
        return None
    sizes = struct.unpack_from(f"<{n_parts}I", rest)
    (expected,) = CHECKSUM.unpack_from(rest, sizes_bytes)
    if zlib.crc32(rest[:sizes_bytes], zlib.crc32(fixed)) != expected or sum(sizes) != content:
        raise DamagedRecordError("the record header does not match its checksum")
    return RecordHeader(
        source=SOURCES[source],
        kind=KINDS[kind],
        sequence=sequence,
        received_ns=received_ns,
        part_sizes=sizes,
        content_bytes=content,
        content_checksum=checksum,
        size=RECORD_HEADER.size + len(rest) + content,
    )


def decode_parts(header: RecordHeader, content: bytes) -> tuple[bytes, ...] | None:
    """Return the parts in the content of a record, None when the content does not match its checksum."""
    if zlib.crc32(content) != header.content_checksum:
        return None
    if len(header.part_sizes) == 1:
        return (content,)
    parts = []
    begin = 0
    for size in header.part_sizes:
        parts.append(content[begin : begin + size])
        begin += size
    return tuple(parts)
