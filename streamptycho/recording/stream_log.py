"""The stream log: every raw message of an instrument with its receive time, in one append-only file."""

from pathlib import Path

from streamptycho.recording.log_format import DiskFullError, StreamLogError
from streamptycho.recording.log_reader import LogSummary, StreamLogReader
from streamptycho.recording.log_writer import StreamLogWriter

__all__ = ["DiskFullError", "LogSummary", "StreamLogError", "StreamLogReader", "StreamLogWriter", "is_stream_log"]


def is_stream_log(path: Path) -> bool:
    """Whether a file can be read as a stream log."""
    try:
        StreamLogReader(path).close()
    except StreamLogError:
        return False
    return True
