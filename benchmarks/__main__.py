"""Command line: one command, one table."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import machine, table
from benchmarks.cases import available
from benchmarks.row import Case, Effort, NotMeasurable, Row, WrongResult

WIDTH_WITHOUT_TERMINAL = 200


def main() -> int:
    options = _options()
    cases = _chosen(options.only, available(), quick=options.quick)
    if not cases:
        return 2
    if options.json is not None and not options.json.absolute().parent.is_dir():
        print(f"--json: there is no folder {options.json.absolute().parent}", file=sys.stderr)
        return 2
    facts = machine.describe()
    rows, absent, wrong = _measure(cases, Effort.of(quick=options.quick))
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDTH_WITHOUT_TERMINAL
    table.show(Console(width=width), facts, rows, {**absent, **wrong})
    if options.json is not None:
        content = table.as_json(facts, rows, {**absent, **wrong}, quick=options.quick)
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 1 if wrong else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="How fast streamptycho is here.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no large volumes: under 90 s")
    parser.add_argument("--only", metavar="NAME", action="append", help="measurements whose name begins so; repeatable")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the rows there as well")
    return parser.parse_args()


def _chosen(wanted: list[str] | None, cases: list[Case], *, quick: bool) -> list[Case]:
    """Return the measurements to do, none when a name is unknown. Slow ones stay out of a quick run unless named."""
    if wanted is None:
        return [case for case in cases if not (quick and case.slow)]
    names = [case.name for case in cases]
    for name in wanted:
        if not any(known.startswith(name) for known in names):
            near = difflib.get_close_matches(name, names, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            print(f"no measurement begins with {name!r}.{hint} Known: {', '.join(names)}", file=sys.stderr)
            return []
    return [
        case
        for case in cases
        if case.name in wanted or (case.name.startswith(tuple(wanted)) and not (quick and case.slow))
    ]


def _measure(cases: list[Case], effort: Effort) -> tuple[list[Row], dict[str, str], dict[str, str]]:
    """Return the rows, and by name why a measurement could not be done or was wrong."""
    rows: list[Row] = []
    absent: dict[str, str] = {}
    wrong: dict[str, str] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), refresh_per_second=2) as progress:
        task = progress.add_task("", total=len(cases))
        for case in cases:
            progress.update(task, description=case.name)
            try:
                rows += case.measure(effort)
            except NotMeasurable as error:
                absent[case.name] = str(error)
            except WrongResult as error:
                wrong[case.name] = str(error)
            except KeyboardInterrupt:
                wrong[case.name] = "stopped by the user, with all that would have followed"
                break
            except Exception as error:  # noqa: BLE001 - the other figures must not be lost with this one
                wrong[case.name] = f"{type(error).__name__}: {error}"
            progress.advance(task)
    return rows, absent, wrong


if __name__ == "__main__":
    sys.exit(main())
