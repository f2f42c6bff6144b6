"""A page of what was done: one HTML file with its pictures inside, to open without a server.

    ┌ title ────────────────────┐
    │ table: an item a row      │  facts
    ├ item ─────────────────────┤
    │ pictures, notes           │  a section for each
    └───────────────────────────┘

No script, nothing from elsewhere. Text is escaped by the library that builds the tree.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from audiosr_core import __version__
from audiosr_core.containers.temporary import write_whole

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --ground: #ffffff; --line: #d0d7de;
  --quiet: #57606a; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --ground: #0d1117; --line: #30363d; --quiet: #8d96a0; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground);
  max-width: 80rem; margin: 2rem auto; padding: 0 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .8rem; border-bottom: 1px solid var(--line); }
th, td { white-space: nowrap; }
h2, li { overflow-wrap: anywhere; }
section { margin-top: 2.5rem; }
img { display: block; max-width: 100%; height: auto; margin: 1rem 0; background: #ffffff; }
li, footer { color: var(--quiet); }
"""


@dataclass(frozen=True)
class Item:
    """One thing that was done."""

    name: str
    facts: Mapping[str, str] = field(default_factory=dict)
    pictures: Sequence[bytes] = ()  # PNG
    notes: Sequence[str] = ()


def write_page(path: Path, title: str, items: Sequence[Item], *, overwrite: bool = True) -> None:
    """One file with everything inside, whole or not at all."""
    write_whole(path, page(title, items), overwrite=overwrite)


def page(title: str, items: Sequence[Item]) -> bytes:
    """The page's bytes, all of them ASCII."""
    html = Element("html", lang="en")
    head = SubElement(html, "head")
    SubElement(head, "meta", charset="utf-8")
    SubElement(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    _text(head, "title", title)
    _text(head, "style", STYLE)
    body = SubElement(html, "body")
    _text(body, "h1", title)
    _table(SubElement(body, "div", {"class": "wide"}), items)
    for number, item in enumerate(items):
        _section(body, number, item)
    _text(body, "footer", f"audiosr-bridge {__version__}")
    tree: bytes = ElementTree.tostring(html, encoding="us-ascii", method="html")
    return b"<!DOCTYPE html>\n" + tree + b"\n"


def _table(parent: Element, items: Sequence[Item]) -> None:
    """An item a row, a fact a column; facts that an item has not are left empty."""
    columns = list(dict.fromkeys(name for item in items for name in item.facts))
    table = SubElement(parent, "table")
    row = SubElement(SubElement(table, "thead"), "tr")
    for name in ["", *columns]:
        _text(row, "th", name, scope="col")
    body = SubElement(table, "tbody")
    for number, item in enumerate(items):
        row = SubElement(body, "tr")
        _text(SubElement(row, "th", scope="row"), "a", item.name, href=f"#item-{number}")
        for name in columns:
            _text(row, "td", item.facts.get(name, ""))


def _section(parent: Element, number: int, item: Item) -> None:
    section = SubElement(parent, "section", id=f"item-{number}")
    _text(section, "h2", item.name)
    for picture in item.pictures:
        data = base64.b64encode(picture).decode()
        SubElement(section, "img", alt=item.name, src=f"data:image/png;base64,{data}")
    if item.notes:
        notes = SubElement(section, "ul")
        for note in item.notes:
            _text(notes, "li", note)


def _text(parent: Element, tag: str, text: str, **attributes: str) -> Element:
    element = SubElement(parent, tag, attributes)
    element.text = _visible(text)
    return element


def _visible(text: str) -> str:
    """Without what HTML cannot hold: control characters, undecodable bytes of file names."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
