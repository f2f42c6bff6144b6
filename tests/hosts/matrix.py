"""The checks of all hosts as one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.hosts.bench import COLUMNS, Check

PAGE = """\
# Hosts

The plugin in the programs that could be tried here, each for real: a sound goes through the
program with the plugin in it and a daemon behind it, and what comes out is compared to the bit.
Written by one command, which installs nothing and says what is missing:

    python -m tests.hosts --write docs/hosts.md

{table}

- **offline flag**: whether the program tells the plugin that it renders offline. Where it does
  not, the plugin finds out by the pace it is called at (*Auto*), or is told to wait (*Wait*).
- **latency**: *compensated*: what comes out lies where it was. *told*: the program knows the
  latency and leaves the shift to its user. *not compensated*: the sound comes out 5.12 s late and
  has to be followed by as much silence, or its end is lost.
- **wet bounce**: the result is extended, and nothing else, to the bit.
- **daemon killed**: the daemon is killed in the middle of a render, or is not there at all. *yes*:
  what could not be extended is silent, as the default policy says, and never dry unsaid.

`.ci/run` has the part that needs no screen: both minihosts, pedalboard, DawDreamer, the LV2 tools
and qtractor's scanner, and an export of Ardour with *AudioSR Bridge Live*. The rest, Ardour (52 s)
and Audacity (70 s) above all, did not fit into the quarter of an hour that the suite may take.
{missing}"""


def matrix(found: Sequence[Check]) -> list[str]:
    """Lines of a Markdown table, a row for each host and format."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for check in found:
        row = rows.setdefault((check.host, check.format), {})
        if row.get(check.what) != "**no**":
            row[check.what] = check.cell if check.ok else "**no**"
    head = ["host", "format", *COLUMNS]
    body = [[*key, *(row.get(column, "–") for column in COLUMNS)] for key, row in rows.items()]
    return [_line(head), _line(["---"] * len(head)), *map(_line, body)]


def page(found: Sequence[Check], missing: Mapping[str, str]) -> str:
    lacking = "".join(f"\nNot tried: {name}: {why}.\n" for name, why in missing.items())
    return PAGE.format(table="\n".join(matrix(found)), missing=lacking)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
