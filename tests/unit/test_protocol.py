"""The wire: what is encoded comes back, what is not ours is a ProtocolError, the bytes stay."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import protocol
from bridge.errors import ProtocolError, UnsupportedError
from bridge.protocol import (
    LIMITS,
    TYPES,
    Incoming,
    Message,
    Outgoing,
    SequenceError,
    audio_frame,
    decode,
    encode,
    peek,
    session_keys,
)
from tests.support.messages import messages

pytestmark = pytest.mark.timeout(120)

GOLDEN = json.loads((Path(__file__).parent / "golden/protocol_1_0.json").read_text("utf-8"))
KEY = bytes(range(32))
OTHER = bytes(32)


def key_of(type: str, session: str) -> bytes:
    return KEY


def fields_of(message: Message) -> dict[str, Any]:
    return {f.name: getattr(message, f.name) for f in dataclasses.fields(message)}


def signed(header: bytes, meta: bytes, *audio: bytes, key: bytes = KEY) -> list[bytes]:
    """A message with a good signature, whatever is in it."""
    frames = [b"ASB1", header, meta, *audio]
    return [frames[0], protocol._mac(key, frames), *frames[1:]]


def header_of(type: str, sequence: int = 0) -> bytes:
    return json.dumps({"type": type, "session": "", "sequence": sequence}).encode()


def about(**samples: Any) -> dict[str, Any]:
    """The meta of an `audio`."""
    return {"job": "j", "start": 0, "last": False, **samples}


# ---- there and back


@given(messages())
def test_what_is_encoded_comes_back(message):
    frames = encode(message, KEY)
    back = decode(frames, key_of)
    assert fields_of(back) == fields_of(message)
    assert encode(back, KEY) == frames


@given(messages(("audio", "partial")))
def test_frames_of_zeromq_need_no_copy(message):
    frames = [memoryview(bytes(one)) for one in encode(message, KEY)]
    back = decode(frames, key_of)
    for part, one in enumerate(message.audio):
        samples = back.samples(part)
        assert samples.shape == (message["num_channels"], message["num_samples"])
        assert samples.tobytes() == one
        assert not samples.flags.writeable


@given(st.integers(1, 4), st.integers(0, 50), st.sampled_from([np.float32, np.float64]))
def test_samples_are_the_same_whatever_their_layout(channels, count, dtype):
    x = np.arange(channels * count, dtype=dtype).reshape(count, channels).T  # not contiguous
    frame, name = audio_frame(x)
    meta = about(num_channels=channels, num_samples=count, dtype=name)
    back = decode(encode(Message("audio", meta, (frame,)), KEY), key_of)
    np.testing.assert_array_equal(back.samples(), x)
    assert back.samples().dtype == dtype


@given(messages(), st.dictionaries(st.text("abc_", min_size=5), st.integers()))
def test_unknown_fields_are_ignored(message, more):
    header, meta = (json.loads(bytes(one)) for one in encode(message, KEY)[2:4])
    frames = signed(
        json.dumps({**more, **header}).encode(),
        json.dumps({**more, **meta}).encode(),
        *map(bytes, message.audio),
    )
    back = decode(frames, key_of)
    assert {name: back[name] for name in message.meta} == message.meta


def test_a_name_that_is_no_utf8_arrives_as_path_and_is_shown_elsewhere():
    name = b"/tmp/\xff\xfe.wav".decode("utf-8", "surrogateescape")
    submit = dict(next(m for m in GOLDEN["messages"] if m["type"] == "submit")["meta"])
    submit |= {"source": "path", "path": name}
    assert decode(encode(Message("submit", submit), KEY), key_of)["path"] == name
    error = {"code": "E_FILE", "text": f"no {name}", "retryable": False}
    assert decode(encode(Message("error", error), KEY), key_of)["text"] == (
        r"no /tmp/\udcff\udcfe.wav"
    )


# ---- garbage

SOME = st.binary(max_size=80)


def refused(frames: list[Any], key: Any = key_of) -> str:
    with pytest.raises(ProtocolError) as caught:
        decode(frames, key)
    text = str(caught.value)
    assert 10 < len(text) < 400, text
    return text


@given(st.lists(SOME, max_size=8))
def test_random_frames(frames):
    refused(frames)


@given(st.lists(SOME, min_size=1, max_size=4))
def test_random_frames_behind_a_good_beginning(frames):
    refused([b"ASB1", bytes(32), *frames])


@given(SOME, SOME, st.lists(SOME, max_size=2))
def test_random_frames_with_a_good_signature(header, meta, audio):
    refused(signed(header, meta, *audio))


@given(messages(), st.data())
@settings(max_examples=300)
def test_a_changed_message_is_refused(message, data):
    frames = [bytes(one) for one in encode(message, KEY)]
    at = data.draw(st.integers(0, len(frames) - 1))
    how = data.draw(
        st.sampled_from(["flip", "cut", "grow", "drop", "double", "swap", "move", "empty"])
    )
    changed = list(frames)
    if how == "flip":
        bit = data.draw(st.integers(0, 8 * len(frames[at]) - 1)) if frames[at] else None
        if bit is not None:
            one = bytearray(frames[at])
            one[bit // 8] ^= 1 << bit % 8
            changed[at] = bytes(one)
    elif how == "cut":
        changed[at] = frames[at][: data.draw(st.integers(0, max(0, len(frames[at]) - 1)))]
    elif how == "grow":
        changed[at] = frames[at] + data.draw(st.binary(min_size=1, max_size=9))
    elif how == "drop":
        del changed[at]
    elif how == "double":
        changed.insert(at, frames[at])
    elif how == "swap":
        other = data.draw(st.integers(0, len(frames) - 1))
        changed[at], changed[other] = changed[other], changed[at]
    elif how == "move" and at + 1 < len(frames) and frames[at + 1]:  # the border between frames
        changed[at] = frames[at] + frames[at + 1][:1]
        changed[at + 1] = frames[at + 1][1:]
    elif how == "empty":
        changed[at] = b""
    if changed != frames:
        refused(changed)


@given(st.lists(SOME, max_size=8), messages())
def test_a_peek_is_two_texts_or_an_error(frames, message):
    assert peek(encode(message, KEY)) == (message.type, message.session)
    try:
        type, session = peek(frames)
    except ProtocolError:
        return
    assert isinstance(type, str) and isinstance(session, str)  # noqa: PT018


@given(messages())
def test_another_key_fits_nothing(message):
    refused(encode(message, OTHER))
    refused(encode(message, KEY), lambda type, session: None)


def test_keys_of_sockets_directions_and_sessions_are_all_different():
    nonces = ("a", "b")
    keys = [
        one
        for key in (KEY, OTHER)
        for session in ("s", "t")
        for first in nonces
        for second in nonces
        for one in dataclasses.astuple(session_keys(key, session, first, second))
    ]
    assert len(set(keys)) == len(keys) == 64
    message = Message("ping", {}, (), "s", 1)
    for mine in keys[:4]:
        for theirs in keys:
            if mine != theirs:
                refused(encode(message, mine), lambda type, session, theirs=theirs: theirs)


@given(messages(), SOME)
def test_meta_is_not_looked_at_before_the_signature(message, meta):
    frames = [bytes(one) for one in encode(message, KEY)]
    frames[3] = b"{" + meta
    assert refused(frames) == "the signature does not fit"
    frames[3] = b"[" * 60_000
    assert refused(frames) == "the signature does not fit"


@given(messages(), st.data())
def test_every_required_field_is_required_and_checked(message, data):
    kind = TYPES[message.type]
    if not kind.fields:
        return
    name = data.draw(st.sampled_from(sorted(kind.fields)))
    one = kind.fields[name]
    header = header_of(message.type)
    wrong = {
        "text": [
            1,
            True,
            [],
            "x" * (one.length + 1),
            *(["no/pe"] if one.choices or one.pattern else []),
            *(["x\n", "a" * (one.length - 1) + "é"] if one.pattern else []),
        ],
        "path": [1, [], "x" * (one.length + 1), "\ud800", ""],
        "whole": [-1, 1.5, 2.0, True, "1", one.maximum + 1, 10**400, []],
        "number": [one.minimum - 1, one.maximum * 2 + 1, True, "1", [], 10**400],
        "flag": [0, 1, "true", [], {}],
        "object": [[], "x", 1, True],
        "list": [{}, "x", 1, [1] * (one.length + 1), [[[]]]],
    }[one.kind]
    for value in [*wrong, *([] if one.nullable else [None])]:
        meta = json.dumps({**message.meta, name: value}).encode()
        assert len(refused(signed(header, meta, *map(bytes, message.audio)))) < 200
    left = {key: value for key, value in message.meta.items() if key != name}
    if one.required:
        text = refused(signed(header, json.dumps(left).encode(), *map(bytes, message.audio)))
        assert text.endswith(f"must have {name}")


@pytest.mark.parametrize(
    "meta",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"1",
        b"{}{}",
        b'{"uptime_seconds":1}x',
        b'\xef\xbb\xbf{"uptime_seconds":1}',
        b'{"uptime_seconds":NaN}',
        b'{"uptime_seconds":Infinity}',
        b'{"uptime_seconds":-Infinity}',
        b'{"uptime_seconds":1e999}',
        b'{"uptime_seconds":1,"x":1e999}',
        b'{"uptime_seconds":' + b"9" * 5000 + b"}",
        b'{"uptime_seconds":1,"x":' + b"9" * 5000 + b"}",
        b'{"uptime_seconds":1,"uptime_seconds":1}',
        b'{"uptime_seconds":1,"x":{"a":1,"a":2}}',
        rb'{"uptime_seconds":1,"a":1,"\u0061":2}',
        rb'{"uptime_seconds":1,"x":"\ud800"}',
        rb'{"uptime_seconds":1,"x":["\udcff"]}',
        rb'{"uptime_seconds":1,"\udc80":1}',
        rb'{"uptime_seconds":1,"x":{"\ud800":1}}',
        b'{"uptime_seconds":1,"x":"\xff"}',
        b'{"uptime_seconds":1,"x":"\xed\xa0\x80"}',
        b'{"uptime_seconds":1,"x":"\x00"}',
        b'{"uptime_seconds":1,"x":' + b"[" * 60_000 + b"}",
        b'{"uptime_seconds":1,"x":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"uptime_seconds":1,"x":' + b'{"a":' * 16 + b"1" + b"}" * 16 + b"}",
        b'{"uptime_seconds":1,"x":"' + b"y" * (64 << 10) + b'"}',
    ],
    ids=lambda meta: repr(meta[:40]),
)
def test_json_that_two_parsers_might_read_differently(meta):
    refused(signed(header_of("pong"), meta))
    if len(meta) < LIMITS.header_bytes:
        refused(signed(meta, b'{"uptime_seconds":1}'))


def test_depth_to_the_limit_is_fine():
    depth = LIMITS.depth - 1
    meta = b'{"uptime_seconds":1,"x":' + b"[" * depth + b"]" * depth + b"}"
    assert decode(signed(header_of("pong"), meta), key_of).type == "pong"


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"type": "ping", "session": ""},
        {"type": "ping", "sequence": 0},
        {"session": "", "sequence": 0},
        {"type": 1, "session": "", "sequence": 0},
        {"type": "ping", "session": None, "sequence": 0},
        {"type": "ping", "session": "", "sequence": -1},
        {"type": "ping", "session": "", "sequence": True},
        {"type": "ping", "session": "", "sequence": 1.0},
        {"type": "ping", "session": "", "sequence": 2**53 + 1},
        {"type": "ping", "session": "", "sequence": 0, "answers": None},
        {"type": "ping", "session": "", "sequence": 0, "answers": "1"},
        {"type": "x" * 65, "session": "", "sequence": 0},
        {"type": "ping", "session": "x" * 65, "sequence": 0},
    ],
)
def test_headers(header):
    refused(signed(json.dumps(header).encode(), b"{}"))


@given(messages(("audio", "partial")), st.integers(-9, 9).filter(bool))
def test_audio_of_a_wrong_size(message, more):
    header, meta = (bytes(one) for one in encode(message, KEY)[2:4])
    first = bytes(message.audio[0])
    wrong = first + bytes(more) if more > 0 else first[:more]
    if wrong != first:
        refused(signed(header, meta, wrong, *map(bytes, message.audio[1:])))
    refused(signed(header, meta, *map(bytes, message.audio), b""))
    refused(signed(header, meta, *map(bytes, message.audio[1:])))


@given(messages(tuple(name for name, kind in TYPES.items() if not kind.audio)))
def test_audio_where_none_belongs(message):
    header, meta = (bytes(one) for one in encode(message, KEY)[2:4])
    refused(signed(header, meta, b""))


def test_numbers_of_samples_that_overflow():
    meta = about(num_channels=64, num_samples=2**53, dtype="f8")
    refused(signed(header_of("audio"), json.dumps(meta).encode(), b""))


def test_frames_over_their_limit():
    small = dataclasses.replace(LIMITS, frame_bytes=4)
    meta = about(num_channels=1, num_samples=2, dtype="f4")
    frames = encode(Message("audio", meta, (bytes(8),)), KEY)
    decode(frames, key_of)
    with pytest.raises(ProtocolError, match="at most 4 bytes, got 8"):
        decode(frames, key_of, small)
    refused(signed(header_of("ping") + b" " * LIMITS.header_bytes, b"{}"))


def test_an_unknown_type_is_unsupported_only_if_it_is_authentic():
    frames = signed(header_of("telepathy"), b"not even JSON")
    with pytest.raises(UnsupportedError, match="telepathy"):
        decode(frames, key_of)
    with pytest.raises(ProtocolError) as caught:
        decode(signed(header_of("telepathy"), b"{}", key=OTHER), key_of)
    assert not isinstance(caught.value, UnsupportedError)


@pytest.mark.parametrize(
    "meta",
    [{"x": float("nan")}, {"x": {1, 2}}, {"x": b""}, {"x": "y" * LIMITS.meta_bytes}],
    ids=["nan", "set", "bytes", "long"],
)
def test_what_no_peer_would_take_is_not_sent(meta):
    with pytest.raises(ProtocolError):
        encode(Message("ping", meta), KEY)


# ---- sequence


@given(st.lists(st.sampled_from(["next", "again", "lose", "later", "garbage"]), max_size=30))
def test_each_message_is_taken_once_and_in_order(steps):
    out, into = Outgoing(KEY, "s"), Incoming(KEY, "s")
    taken, history = 0, []
    for step in steps:
        if step in ("next", "lose", "later"):
            frames = out.frames("pong", {"uptime_seconds": 1.0})
        if step == "next":
            out.sent()
            assert into.open(frames).sequence == taken + 1
            taken += 1
            history.append(frames)
        elif step == "again" and history:
            with pytest.raises(SequenceError, match="came again") as caught:
                into.open(history[taken // 2])
            assert not caught.value.lost
        elif step == "lose":  # made, but never on its way: its number is free again
            pass
        elif step == "later":
            ahead = Outgoing(KEY, "s")
            ahead.sequence = taken + 1
            with pytest.raises(SequenceError, match="were lost") as caught:
                into.open(ahead.frames("ping"))
            assert caught.value.lost
        elif step == "garbage":
            with pytest.raises(ProtocolError):
                into.open(encode(Message("ping", {}, (), "s", taken + 1), OTHER))
        assert into.sequence == taken


def test_an_authentic_message_counts_even_if_it_is_malformed_or_unknown():
    into = Incoming(KEY, "s")
    header = {"session": "s", "sequence": 1}
    with pytest.raises(UnsupportedError) as unknown:
        into.open(signed(json.dumps({**header, "type": "x"}).encode(), b"{}"))
    header["sequence"] = 2
    with pytest.raises(ProtocolError) as malformed:
        into.open(signed(json.dumps({**header, "type": "pong"}).encode(), b"{}"))
    assert (unknown.value.answers, malformed.value.answers) == (1, 2)
    out = Outgoing(KEY, "s")
    out.sequence = 2
    assert into.open(out.frames("ping")).type == "ping"


def test_what_is_not_authentic_answers_nothing():
    with pytest.raises(ProtocolError) as caught:
        Incoming(KEY, "s").open(signed(header_of("pong"), b"{}", key=OTHER))
    assert caught.value.answers is None


@pytest.mark.parametrize("session", ["", "t"])
def test_another_session_is_refused(session):
    with pytest.raises(ProtocolError, match="no such session"):
        Incoming(KEY, "s").open(Outgoing(KEY, session).frames("ping"))


# ---- the bytes of version 1.0


@pytest.mark.parametrize("one", GOLDEN["messages"], ids=lambda one: one["type"])
def test_the_bytes_are_these_bytes(one):
    key = bytes.fromhex(one["key"])
    message = Message(
        one["type"], one["meta"], tuple(map(bytes.fromhex, one["audio"])),
        one["session"], one["sequence"], one["answers"],
    )  # fmt: skip
    frames = [bytes.fromhex(frame) for frame in one["frames"]]
    assert [bytes(frame) for frame in encode(message, key)] == frames
    assert fields_of(decode(frames, lambda type, session: key)) == fields_of(message)


def test_every_type_has_golden_bytes():
    assert [one["type"] for one in GOLDEN["messages"]] == list(TYPES)


def test_the_keys_are_these_keys():
    told = dict(GOLDEN["derivation"])
    keys = session_keys(
        bytes.fromhex(told["key"]), told["session"], told["client_nonce"], told["daemon_nonce"]
    )
    assert {f: told[f] for f in ("control_up", "control_down", "work_up", "work_down")} == {
        f.name: getattr(keys, f.name).hex() for f in dataclasses.fields(keys)
    }


def test_a_client_written_from_the_page_alone_agrees():
    """What docs/protocol.md says, in other words than the code's."""
    told = GOLDEN["derivation"]
    said = "audiosr-bridge session 1\n{session}\n{client_nonce}\n{daemon_nonce}".format(**told)
    base = hmac.new(bytes.fromhex(told["key"]), said.encode(), hashlib.sha256).digest()
    keys = {
        name: hmac.new(base, name.replace("_", " ").encode(), hashlib.sha256).hexdigest()
        for name in ("control_up", "control_down", "work_up", "work_down")
    }
    for one in GOLDEN["messages"]:
        frames = [bytes.fromhex(frame) for frame in one["frames"]]
        others = b"".join(struct.pack("<Q", len(f)) + f for f in [frames[0], *frames[2:]])
        wanted = hmac.new(bytes.fromhex(one["key"]), others, hashlib.sha256).digest()
        assert (frames[0], frames[1]) == (b"ASB1", wanted), one["type"]
        assert one["key"] == keys.get(one["key_is"], one["key"])
