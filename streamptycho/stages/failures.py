"""Which errors say themselves what is wrong and what to do."""

from __future__ import annotations


def written_for_people(error: BaseException) -> bool:
    """Every error class of streamptycho says what to do; so do the operating system's about files and ports."""
    return isinstance(error, OSError) or type(error).__module__.split(".")[0] == "streamptycho"


def in_words(error: BaseException) -> str:
    """Return what an error says, for one of the operating system without its number."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__
