"""What a simulated PandABox answers on its control port. Pure: one line in, the answer out.

References
----------
PandABlocks-server, commands: https://pandablocks.github.io/PandABlocks-server/master/commands.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence

IDENTIFICATION = "PandA SW: 3.0 FPGA: 3.0.0 00000000 00000000 rootfs: simulated instrument"
_CAPTURES = ("No", "Value", "Diff", "Sum", "Mean", "Min", "Max", "Min Max", "Min Max Mean")
_DESCRIPTIONS = {"PCAP": "Position capture control", "INENC": "Input encoder"}
_PCAP_FIELDS = ("TS_START ext_out timestamp", "TS_END ext_out timestamp", "GATE_DURATION ext_out samples")
_BIT_WORDS = 4


class PandaControl:
    """The control port of a PandABox that captures fixed columns.

    Parameters
    ----------
    columns
        Captured columns as NAME.CAPTURE.
    """

    def __init__(self, columns: Sequence[str] = ()) -> None:
        self.armed = False
        self.rows = 0
        self.readers = 0
        self._captured = dict(column.rpartition(".")[::2] for column in columns)
        self._fields: dict[str, dict[str, str]] = {"PCAP": {}}
        self._blocks = {"PCAP": 1}
        for name in self._captured:
            block, _, rest = name.partition(".")
            kind, number = re.fullmatch(r"(.*?)(\d*)", block).groups()  # type: ignore[union-attr]
            self._blocks[kind] = max(self._blocks.get(kind, 1), int(number or 1))
            self._fields.setdefault(kind, {})[rest] = "pos_out"
        self._fields["PCAP"] = {line.split()[0]: line.split(maxsplit=1)[1] for line in _PCAP_FIELDS}
        self._fields["PCAP"] |= {f"BITS{k}": "ext_out bits" for k in range(_BIT_WORDS)}
        self._table = False

    def answer(self, line: str) -> str | None:
        """Return what is sent back, without the last line end; None within a table that is being written."""
        if self._table:
            self._table = bool(line)
            return None if line else "ERR Field is not writeable"
        if line.endswith("?"):
            return self._get(line[:-1])
        if line in ("*PCAP.ARM=", "*PCAP.DISARM="):
            self.armed = line == "*PCAP.ARM="
            return "OK"
        if re.fullmatch(r"[A-Z0-9_.*]+<<?\|?B?", line):
            self._table = True
            return None
        return "ERR Field is not writeable" if "=" in line else "ERR Unknown command"

    def _get(self, target: str) -> str:
        single = {
            "*IDN": IDENTIFICATION,
            "*PCAP.STATUS": f"{'Busy' if self.armed else 'Idle'} {self.readers} {self.readers}",
            "*PCAP.CAPTURED": str(self.rows),
            "*PCAP.COMPLETION": "Busy" if self.armed else "Ok",
            "PCAP.ACTIVE": str(int(self.armed)),
        }
        if target in single:
            return f"OK ={single[target]}"
        if target.startswith("*ECHO "):
            return f"OK ={target[6:]}"
        if target == "*BLOCKS":
            return _lines([f"{block} {count}" for block, count in self._blocks.items()])
        if target in ("*CAPTURE", "*CAPTURE.*"):
            return _lines([f"{name} {capture}" for name, capture in self._captured.items()])
        if target.startswith("*CHANGES"):
            known = target in ("*CHANGES", "*CHANGES.ATTR")
            return _lines([f"{name}.CAPTURE={mode}" for name, mode in self._captured.items()] if known else [])
        if target.startswith("*DESC."):
            return self._describe(target[6:])
        if target.startswith("*ENUMS.") and target.endswith(".CAPTURE"):
            return _lines(list(_CAPTURES))
        return self._get_field(target)

    def _get_field(self, target: str) -> str:
        block, _, rest = target.partition(".")
        fields = self._fields.get(block.rstrip("0123456789"))
        if fields is None:
            return "ERR No such block"
        if rest == "*":
            return _lines([f"{name} {number} {kind}" for number, (name, kind) in enumerate(fields.items())])
        name, _, attribute = rest.rpartition(".")
        if attribute == "CAPTURE" and name in fields:
            return f"OK ={self._captured.get(f'{block}.{name}', 'No')}"
        if attribute == "BITS" and fields.get(name) == "ext_out bits":
            return _lines([""] * 32)
        return "ERR No such field"

    def _describe(self, target: str) -> str:
        block, _, field = target.partition(".")
        fields = self._fields.get(block.rstrip("0123456789"))
        if fields is None or (field and field not in fields):
            return "ERR No such field"
        return f"OK ={field or _DESCRIPTIONS.get(block, block)}"


def _lines(values: list[str]) -> str:
    return "\n".join([*(f"!{value}" for value in values), "."])
