"""The plugin's own wire, compiled: the same bytes as `bridge.protocol`, and the same refusals."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import ProtocolError
from bridge.protocol import LIMITS, TYPES, Message, _object, encode
from tests.support.native import build

GOLDEN = json.loads((Path(__file__).parent / "golden/protocol_1_0.json").read_text("utf-8"))
SENT = ("hello", "ping", "goodbye", "cancel", "submit", "audio", "credit", "close")
RECEIVED = (
    "welcome", "refused", "pong", "cancelling", "accepted", "granted", "decided", "partial",
    "progress", "final", "error",
)  # fmt: skip
KEY = bytes(range(32))
SESSION = "5e55"

pytestmark = pytest.mark.timeout(120)


def ask(*cases: dict[str, Any], portable: bool = False, **environment: str) -> list[Any]:
    """What the program answers to each of these."""
    flags = ("-DAUDIOSR_PORTABLE",) if portable else ()
    program = build("wire", "wire", "json", "sha256", sanitize=True, flags=flags)
    lines = "".join(json.dumps(one) + "\n" for one in cases)
    done = subprocess.run(
        [program], input=lines, capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.returncode == 0, done.stderr[-4000:]
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(cases)
    return answers


def golden(*types: str) -> list[dict[str, Any]]:
    found = [one for one in GOLDEN["messages"] if one["type"] in types]
    assert {one["type"] for one in found} == set(types)
    return found


def framed(message: Message, key: bytes = KEY) -> list[str]:
    return [bytes(frame).hex() for frame in encode(message, key)]


def resigned(frames: list[str], key: bytes = KEY) -> list[str]:
    """The same frames with a signature that fits."""
    raw = [bytes.fromhex(one) for one in frames]
    mac = hmac.new(key, digestmod=hashlib.sha256)
    for one in [raw[0], *raw[2:]]:
        mac.update(len(one).to_bytes(8, "little") + one)
    return [frames[0], mac.hexdigest(), *frames[2:]]


def test_what_it_sends_are_the_golden_bytes():
    messages = golden(*SENT)
    assert ask(*({"do": "sign", **one} for one in messages)) == [one["frames"] for one in messages]


def test_what_it_receives_are_the_golden_messages():
    messages = golden(*RECEIVED)
    answers = ask(*({"do": "open", "key": one["key"], "frames": one["frames"]} for one in messages))
    for one, answer in zip(messages, answers, strict=True):
        assert answer == {
            "opened": "good", "type": one["type"], "session": one["session"],
            "sequence": one["sequence"], "meta": one["meta"], "audio": "".join(one["audio"][:1]),
            "answers": -1 if one["answers"] is None else one["answers"],
        }  # fmt: skip


def test_other_messages_count_and_are_not_used():
    messages = [one for one in GOLDEN["messages"] if one["type"] not in RECEIVED]
    answers = ask(*({"do": "open", "key": one["key"], "frames": one["frames"]} for one in messages))
    assert {answer["opened"] for answer in answers} == {"unusable"}


def test_the_keys_of_a_session():
    wanted = GOLDEN["derivation"]
    (made,) = ask({"do": "keys", **wanted})
    assert made == {name: wanted[name] for name in made}


def test_any_change_of_any_frame_is_strange():
    cases = []
    for one in golden(*RECEIVED):
        frames = one["frames"]
        for i, frame in enumerate(frames):
            for at in range(0, len(frame), max(1, len(frame) // 9)):
                digit = "0" if frame[at] != "0" else "1"
                changed = frame[:at] + digit + frame[at + 1 :]
                cases.append([*frames[:i], changed, *frames[i + 1 :]])
        cases += [frames[:-1], [*frames, ""], [*frames, *["00"] * 4], frames[:2], [], frames[::-1]]
        cases.append([*frames[:2], frames[3], frames[2], *frames[4:]])
    key = {one["type"]: one["key"] for one in golden(*RECEIVED)}
    answers = ask(
        *({"do": "open", "key": k, "frames": case} for case in cases for k in set(key.values()))
    )
    assert {answer["opened"] for answer in answers} == {"strange"}


@pytest.mark.parametrize("type", RECEIVED)
def test_a_message_that_lacks_a_field_or_has_another_kind_is_unusable(type):
    (one, *_) = golden(type)
    cases = []
    for name in one["meta"]:
        field = TYPES[type].fields[name]
        if not field.required or field.nullable:
            continue
        for value in (..., None, [] if field.kind != "list" else {}):
            meta = {k: v for k, v in one["meta"].items() if k != name}
            if value is not ...:
                meta[name] = value
            text = json.dumps(meta).encode().hex()
            frames = [*one["frames"][:3], text, *one["frames"][4:]]
            cases.append(resigned(frames, bytes.fromhex(one["key"])))
    if cases:
        answers = ask(*({"do": "open", "key": one["key"], "frames": case} for case in cases))
        assert {answer["opened"] for answer in answers} == {"unusable"}


@pytest.mark.parametrize(
    ("changes", "audio"),
    [
        ({"num_samples": 3}, b"\0" * 16),
        ({"num_channels": 2**53, "num_samples": 2**53}, b""),
        ({"num_samples": 2, "dtype": "f2"}, b"\0" * 16),
        ({"parts": []}, b"\0" * 16),
        ({"parts": ["original", "high"]}, b"\0" * 16),
        ({"parts": ["high"] * 5}, b"\0" * 16),
        ({"start": -1}, b"\0" * 16),
        ({"start": 2**53 + 2}, b"\0" * 16),
        ({"start": 1.5}, b"\0" * 16),
        ({}, None),
    ],
)
def test_audio_is_what_was_announced(changes, audio):
    meta = {
        "job": "j", "start": 0, "num_channels": 2, "num_samples": 2, "dtype": "f4",
        "parts": ["high"], "chunk": 0, "cached": False, **changes,
    }  # fmt: skip
    good = {**meta, "start": 0, "num_samples": 2, "num_channels": 2, "dtype": "f4"}
    good["parts"] = ["high"]
    frames = framed(Message("partial", meta, () if audio is None else (audio,), SESSION, 1))
    fine = framed(Message("partial", good, (b"\0" * 16,), SESSION, 1))
    answers = ask(*({"do": "open", "key": KEY.hex(), "frames": one} for one in (frames, fine)))
    assert [one["opened"] for one in answers] == ["unusable", "good"]


def test_messages_are_taken_once_and_in_order():
    def pong(sequence: int, session: str = SESSION, type: str = "pong") -> list[str]:
        return framed(Message(type, {"uptime_seconds": 1.0}, (), session, sequence, 0))

    def heard(*messages: list[str]) -> Any:
        return ask({"do": "session", "key": KEY.hex(), "session": SESSION, "messages": messages})[0]

    assert heard(pong(1), pong(2), pong(3)) == ["good"] * 3
    assert heard(pong(1), pong(1), pong(2)) == ["good", "strange", "good"]
    assert heard(pong(1), pong(3)) == ["good", "after gap"]
    assert heard(pong(2)) == ["after gap"]
    assert heard(pong(0)) == ["strange"]
    assert heard(pong(1, session="another"), pong(1)) == ["strange", "good"]
    assert heard(pong(1, type="new_in_1_9"), pong(2)) == ["unusable", "good"]


@pytest.mark.parametrize("portable", [True, False])
@settings(max_examples=20, deadline=None)
@given(pairs=st.lists(st.tuples(st.binary(max_size=200), st.binary(max_size=300)), min_size=1))
def test_hmac_is_hmac(portable, pairs):
    cases = [
        {"do": "hmac", "key": key.hex(), "data": data.hex(), "cut": len(data) // 3}
        for key, data in pairs
    ]
    wanted = [hmac.digest(key, data, "sha256").hex() for key, data in pairs]
    assert ask(*cases, portable=portable) == wanted


# ---- JSON

TEXTS = [
    '{}', ' {"a" : 1 }\r\n\t', '{"a":1,"a":2}', '{"a":{"b":1,"b":1}}', '{"a":1,}', '{,}', '[1,]',
    '[,1]', '{"a"}', '{"a":}', '{a:1}', "{'a':1}", '{"a":1}x', '{"a":1}{}', '', ' ', 'nul', 'tru',
    '{"a":NaN}', '{"a":Infinity}', '{"a":-Infinity}', '{"a":1e999}', '{"a":-1e999}', '{"a":1e308}',
    '{"a":1e-999}', '{"a":01}', '{"a":-0}', '{"a":-0.0}', '{"a":1.}', '{"a":.5}', '{"a":+1}',
    '{"a":1e}', '{"a":1e+}', '{"a":0x10}', '{"a":1_0}', '{"a":--1}', '{"a":-}', '{"a":1,5}',
    '{"a":9007199254740992}', '{"a":5e-324}', '{"a":0.1}', '{"a":1E5}', '{"a":123456789.125e-3}',
    '{"a":"\\ud834\\udd1e"}', '{"a":"\\ud834"}', '{"a":"\\udd1e"}', '{"a":"\\ud834\\ud834"}',
    '{"a":"\\ud834x"}', '{"\\ud834":1}', '{"a":"\\u00e9é𝄞"}', '{"a":"\\u12"}', '{"a":"\\u12g4"}',
    '{"a":"\\x41"}', '{"a":"\\"\\\\\\/\\b\\f\\n\\r\\t\\u0000"}', '{"a":"\n"}', '{"a":"\t"}',
    '{"a":"\x7f"}', '{"a":"', '{"a":"\\', '{"a":"\\u', '"', '[', '{', '{"a', '{"a"', '{"a":', '[[',
    '\ufeff{}', '{"a":true,"b":false,"c":null}', '{"a":True}', '{"a":nul}', '{"a":[1,[2,{}]]}',
    '{"":1}', '/**/{}', '{"a":1}//', '{"a":"\\a"}', '{"a" "b"}', '{"a":1 "b":2}', '[1 2]',
    '{"a":]}',
]  # fmt: skip
BYTES = [
    b'{"a":"\xff"}', b'{"a":"\xc3"}', b'{"a":"\xc0\xaf"}', b'{"a":"\xed\xa0\x80"}',
    b'{"a":"\xf4\x90\x80\x80"}', b'{"a":"\xe0\x80\x80"}', b'{"a":"\xf0\x80\x80\x80"}',
    b'{"a":"\xf4\x8f\xbf\xbf"}', b'{"a":"\xc3\xa9"}', b'\xef\xbb\xbf{}', b"{}\0", b'{"a\0":1}',
    b'{"a":"\xe2\x82', b'{"a":"\xf0\x9f\x98"}', b"\xff",
]  # fmt: skip


def read_by_the_bridge(text: bytes) -> Any:
    try:
        return _object(text, "meta", LIMITS)
    except ProtocolError:
        return None


def agree(texts: list[bytes]) -> None:
    """Both sides take the same objects, and mean the same by them."""
    answers = ask(*({"do": "json", "text": text.hex()} for text in texts))
    for text, answer in zip(texts, answers, strict=True):
        wanted = read_by_the_bridge(text)
        if wanted is None:  # numbers, texts and lists are JSON, though no message
            assert answer is None or not answer.startswith("{"), text
        else:
            assert answer is not None, text
            assert json.loads(answer) == wanted, text


def test_json_that_is_taken_and_refused():
    agree([one.encode() for one in TEXTS] + BYTES)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_json_of_any_depth(opening):
    closing = {"[": "]", '{"a":': "}"}[opening]
    agree([
        ('{"b":' + opening * n + "1" + closing * n + "}").encode() for n in (0, 14, 15, 16, 17, 99)
    ])  # fmt: skip
    agree([(opening * 100_000).encode()])


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(st.text(), VALUES), min_size=1, max_size=20))
def test_what_is_written_is_what_was_read(values):
    texts = [json.dumps(one, ensure_ascii=i % 2 == 0).encode() for i, one in enumerate(values)]
    answers = ask(*({"do": "json", "text": text.hex()} for text in texts))
    for value, answer in zip(values, answers, strict=True):
        read = json.loads(answer)
        assert read == value
        assert json.dumps(read, sort_keys=True, separators=(",", ":")) == json.dumps(
            value, sort_keys=True, separators=(",", ":")
        )  # 1 and 1.0, 0.0 and -0.0 are still apart


def test_damaged_json_is_read_alike():
    """Cut anywhere, and one byte changed anywhere."""
    whole = b'{"a":[1,-2.5e3,"x\\u00e9\\ud834\\udd1e\xc3\xa9"],"b":{"c":null,"d":true},"e":""}'
    dice = random.Random(1)
    changed = []
    for _ in range(1500):
        at = dice.randrange(len(whole))
        changed.append(whole[:at] + bytes([dice.randrange(256)]) + whole[at + 1 :])
    agree([whole[:n] for n in range(len(whole))] + changed)


def test_numbers_in_a_host_that_writes_a_comma(tmp_path):
    tool = shutil.which("localedef")
    if tool is None or not Path("/usr/share/i18n/locales/de_DE").exists():
        pytest.skip("the sources of locales are not here: apt-get install locales")
    made = tmp_path / "de_DE.UTF-8"
    subprocess.run([tool, "-i", "de_DE", "-f", "UTF-8", made], check=True, timeout=30)
    text = b'{"a":-1234.5,"b":0.001}'
    (answer,) = ask({"do": "json", "text": text.hex()}, LOCPATH=str(tmp_path), LC_ALL="de_DE.UTF-8")
    assert answer == text.decode()


def test_damaged_messages_under_sanitizers():
    messages = "".join(json.dumps(one["frames"]) + "\n" for one in golden(*RECEIVED))
    program = build("fuzz_wire", "wire", "json", "sha256", sanitize=True)
    done = subprocess.run(
        [program, "100000", "1"], input=messages, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr[-4000:]
    good, strange, unusable = map(int, done.stdout.split())
    assert min(good, strange, unusable) > 5_000  # all three ways are taken often
