"""The page is whole, escaped, and asks nobody for anything."""

from __future__ import annotations

import base64
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiosr_core.errors import OutputExistsError
from plugin_host.page import Item, page, write_page

VOID = {"meta", "img"}
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Seen(HTMLParser):
    """What a browser would find; fails where a tag is closed that is not open."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.texts, self.links = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def seen(data):
    parser = Seen()
    parser.feed(data.decode("ascii"))
    parser.close()
    assert parser.open == []
    return parser


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.text(), st.text(), st.text(), st.text()), max_size=4))
def test_any_text_is_text(rows):
    items = [Item(name, {fact: value}, [PICTURE], [fact]) for name, fact, value, _ in rows]
    found = seen(page("<title>", items))
    assert set(found.tags) <= {
        "html", "head", "meta", "title", "style", "body", "h1", "div", "table", "thead", "tbody",
        "tr", "th", "td", "a", "section", "h2", "img", "ul", "li", "footer",
    }  # fmt: skip
    assert all(link.startswith(("#item-", "data:image/png;base64,")) for link in found.links)
    assert found.tags.count("section") == found.tags.count("img") == len(items)


def test_names_that_bite_are_shown_as_they_are():
    found = seen(page("A & B", [Item("<script>alert(1)</script>.wav", notes=["\udcff\x00"])]))
    assert "script" not in found.tags
    assert found.texts.count("<script>alert(1)</script>.wav") == 2
    assert "\ufffd\ufffd" in found.texts


def test_facts_are_columns_and_a_missing_one_is_empty():
    found = seen(page("x", [Item("a", {"Rate": "1", "Seed": "2"}), Item("b", {"Seed": "3"})]))
    assert found.tags.count("td") == 4
    assert found.tags.count("th") == 3 + 2


def test_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "page.html"
    write_page(path, "x", [])
    with pytest.raises(OutputExistsError):
        write_page(path, "y", [], overwrite=False)
    assert b"<h1>x</h1>" in path.read_bytes()
    write_page(path, "y", [])
    assert b"<h1>y</h1>" in path.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
