"""Messages of every type, built from `TYPES`: for laws that must hold for all of them."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import strategies as st

from bridge.protocol import DTYPES, TYPES, Field, Message

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
PATH = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\udc80\udcff"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64) | TEXT
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


def values(one: Field) -> st.SearchStrategy[Any]:
    """Whatever this field may hold."""
    some: st.SearchStrategy[Any]
    if one.choices:
        some = st.sampled_from(one.choices)
    elif one.pattern:
        some = st.from_regex(re.compile(one.pattern, re.ASCII), fullmatch=True)
    elif one.kind == "text":
        some = TEXT.map(lambda text: text[: one.length])
    elif one.kind == "path":
        some = PATH.map(lambda text: "/" + text[: one.length - 1])
    elif one.kind == "whole":
        some = st.integers(int(one.minimum), int(one.maximum))
    elif one.kind == "number":
        some = st.floats(one.minimum, one.maximum)
    elif one.kind == "flag":
        some = st.booleans()
    elif one.kind == "object":
        some = st.dictionaries(TEXT, JSON, max_size=3)
    else:
        assert one.items is not None
        some = st.lists(values(one.items), min_size=one.shortest, max_size=min(one.length, 5))
    return some | st.none() if one.nullable else some


@st.composite
def messages(draw: st.DrawFn, names: tuple[str, ...] = tuple(TYPES)) -> Message:
    """Any valid message."""
    name = draw(st.sampled_from(names))
    kind = TYPES[name]
    meta = {
        field: draw(values(one))
        for field, one in kind.fields.items()
        if one.required or draw(st.booleans())
    }
    audio = []
    if kind.audio:
        meta["num_channels"] = draw(st.integers(1, 8))
        meta["num_samples"] = draw(st.integers(0, 20))
        size = meta["num_channels"] * meta["num_samples"] * DTYPES[meta["dtype"]].itemsize
        audio = [draw(st.binary(min_size=size, max_size=size)) for _ in meta.get("parts", [0])]
    return Message(
        name, meta, tuple(audio), draw(TEXT), draw(st.integers(0, 2**53)),
        draw(st.none() | st.integers(0, 2**53)),
    )  # fmt: skip
