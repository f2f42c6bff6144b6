"""How docs/protocol.md writes a field, a limit and a code: one place for the page and its test."""

from __future__ import annotations

from bridge.protocol import Field


def field_text(one: Field) -> str:
    """What the column `type` says."""
    if one.choices:
        text = " ".join(f"`{choice}`" for choice in one.choices)
    elif one.pattern:
        text = f"text `{one.pattern}`"
    elif one.kind in ("text", "path"):
        text = f"{one.kind} ≤ {one.length}"
    elif one.kind in ("whole", "number"):
        most = "2^53" if one.maximum == 2**53 else f"{one.maximum:.10g}"
        text = f"{one.kind} {one.minimum:.10g} … {most}"
    elif one.kind == "list":
        assert one.items is not None
        length = f"{one.length}" if one.shortest == one.length else f"{one.shortest} … {one.length}"
        text = f"list of {length}: {field_text(one.items)}"
    else:
        text = one.kind
    return text + (" or null" if one.nullable else "")


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    lines = page.split(f"\n{heading}\n", 1)[1].split("\n#")[0].splitlines()
    table: list[list[str]] = []
    for line in lines:
        if line.startswith("|"):
            table.append([cell.strip() for cell in line.strip().strip("|").split(" | ")])
        elif table:
            break
    return table[2:]
