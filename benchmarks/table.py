"""The table, for people and as JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.row import Row, number


def show(console: Console, machine: dict[str, str], rows: list[Row], failures: dict[str, str]) -> None:
    """Print the machine, one line per row, and what could not be measured."""
    for name, text in machine.items():
        console.print(f"[bold]{name}[/]: {text}", highlight=False)
    table = Table(title="streamptycho benchmarks", show_lines=False, pad_edge=False)
    table.add_column("what")
    table.add_column("figure", justify="right")
    table.add_column("unit")
    table.add_column("±", justify="right")
    table.add_column("floor or peer")
    table.add_column("its figure", justify="right")
    table.add_column("ratio", justify="right")
    table.add_column("what it means")
    for row in rows:
        table.add_row(
            row.name,
            number(row.figure),
            f"{row.unit} {'↑' if row.better == 'more' else '↓'}",
            f"{100 * row.spread:.0f} %" if row.rounds > 1 else "",
            row.reference,
            number(row.reference_figure),
            number(row.ratio),
            row.meaning,
        )
    console.print(table)
    console.print("↑ more is better, ↓ less is better; ± half the interquartile range; ratio = figure / floor or peer,")
    console.print("both measured by turns in the same run: median of the rounds.")
    for name, text in failures.items():
        console.print(Text(f"not measured: {name}: {text}", style="yellow"))


def as_json(machine: dict[str, str], rows: list[Row], failures: dict[str, str], *, quick: bool) -> dict[str, Any]:
    """Return the same for machines to read."""
    return {
        "machine": machine,
        "quick": quick,
        "rows": [dataclasses.asdict(row) for row in rows],
        "not_measured": failures,
    }
