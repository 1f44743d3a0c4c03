"""The stream log: every raw message of an instrument with its receive time, in one append-only file."""

from streamptycho.recording.log_format import DiskFullError, StreamLogError
from streamptycho.recording.log_reader import LogSummary, StreamLogReader, is_stream_log
from streamptycho.recording.log_tail import LogTail
from streamptycho.recording.log_writer import StreamLogWriter

__all__ = [
    "DiskFullError",
    "LogSummary",
    "LogTail",
    "StreamLogError",
    "StreamLogReader",
    "StreamLogWriter",
    "is_stream_log",
]
