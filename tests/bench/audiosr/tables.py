"""What is measured becomes a table: Markdown to read, JSON to keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """Rows of one measurement; numbers stay numbers until they are shown."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""

    def markdown(self) -> str:
        lines = [f"**{self.title}**", ""]
        lines += [_line(self.columns), "|" + "---|" * len(self.columns)]
        lines += [_line([_shown(value) for value in row]) for row in self.rows]
        return "\n".join([*lines, *(["", self.note] if self.note else [])])

    def as_dict(self) -> dict[str, Any]:
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return {"title": self.title, "rows": rows, "note": self.note}


def _line(values: Sequence[str]) -> str:
    return "| " + " | ".join(values) + " |"


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return (
        f"{value:.3g}"
        if isinstance(value, float) and abs(value) < 1000
        else (f"{value:.0f}" if isinstance(value, float) else str(value))
    )
