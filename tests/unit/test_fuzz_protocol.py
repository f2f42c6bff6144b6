"""A fuzzer that sees the decoder's branches finds nothing but ProtocolError."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FUZZ = r'''
import sys, json
import atheris

with atheris.instrument_imports(include=["bridge"]):
    from bridge import protocol
    from bridge.errors import ProtocolError

KEY = bytes(range(32))

def one(data):
    """Frames cut at 0xFE 0xFE; every other input gets a good signature, to come further."""
    signed, *frames = data.split(b"\xfe\xfe")
    if signed[:1] < b"\x80":
        body = [b"ASB1", *frames]
        frames = [b"ASB1", protocol._mac(KEY, body), *frames]
    try:
        message = protocol.decode(frames, lambda type, session: KEY)
    except ProtocolError as error:
        assert len(str(error)) < 4096
        return
    again = protocol.encode(message, KEY)
    assert protocol.decode(again, lambda type, session: KEY).meta == message.meta

atheris.Setup(sys.argv, one)
atheris.Fuzz()
'''


@pytest.mark.timeout(120)
def test_the_decoder_raises_protocol_errors_only(tmp_path):
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed: pip install atheris")
    script, corpus = tmp_path / "fuzz.py", tmp_path / "corpus"
    script.write_text(FUZZ, "utf-8")
    corpus.mkdir()
    golden = (ROOT / "tests/unit/golden/protocol_1_0.json").read_text("utf-8")
    for n, message in enumerate(json.loads(golden)["messages"]):
        header, *rest = [bytes.fromhex(frame) for frame in message["frames"][2:]]
        (corpus / str(n)).write_bytes(b"\xfe\xfe".join([b"\x00", header, *rest]))
    done = subprocess.run(
        [sys.executable, str(script), "-runs=100000", "-max_total_time=20", "-max_len=4096",
         "-rss_limit_mb=0",  # the peak that it looks at is inherited from the test run
         "-seed=1", f"-artifact_prefix={tmp_path}/", str(corpus)],
        cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Done " in done.stderr, done.stderr[-4000:]
