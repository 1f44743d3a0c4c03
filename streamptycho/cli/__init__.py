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
        from streamptycho.stages.failures import in_words, written_for_people

        if not written_for_people(error):
            raise
        print(f"streamptycho: {in_words(error)}", file=sys.stderr)  # noqa: T201
        sys.exit(USER_ERROR)
