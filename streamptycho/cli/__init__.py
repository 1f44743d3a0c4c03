"""The command line: `streamptycho --help`."""

from __future__ import annotations

import signal
import sys

USER_ERROR = 2
INTERRUPTED = 130


def main() -> None:
    """Run the command line. Mistakes of the user end with one message and exit code 2, never with a traceback."""
    interrupted = False

    def note(number: int, frame: object) -> None:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    try:
        from streamptycho.cli.commands import app

        app()
    except (Exception, KeyboardInterrupt) as error:
        # An interrupted import may end as any kind of error.
        if interrupted:
            sys.exit(INTERRUPTED)
        if not _written_for_people(error):
            raise
        print(f"streamptycho: {_in_words(error)}", file=sys.stderr)  # noqa: T201
        sys.exit(USER_ERROR)


def _in_words(error: BaseException) -> str:
    """Return what an error says, for one of the operating system without its number."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _written_for_people(error: BaseException) -> bool:
    """Every error class of streamptycho says what to do; so do the operating system's about files and ports."""
    return isinstance(error, OSError) or type(error).__module__.split(".")[0] == "streamptycho"
