"""What a script in a DAW may ask for, line by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from audiosr_core.errors import AudioSRError, FileError, SettingsError, UsageError
from bridge.errors import CancelledError
from plugin_host.daw.requests import MAX_BYTES, read_request, run_request

GOOD = "source=/a/b.wav\ntarget=/c/d = e.wav\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "request"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return path


def test_fields_and_knobs_are_read(tmp_path: Path) -> None:
    text = f"{GOOD}preset=subtle-air\r\nseed=7\nmix=0.25\nregion=1.5:3\ndelta=yes\n\n"
    request = read_request(written(tmp_path, text))
    assert (request.source, request.target) == (Path("/a/b.wav"), Path("/c/d = e.wav"))
    assert (request.settings.seed, request.settings.mix) == (7, 0.25)
    assert (request.region, request.delta) == ((1.5, 3.0), True)


def test_names_that_are_no_text_survive(tmp_path: Path) -> None:
    name = b"/a/\xff.wav".decode("utf-8", "surrogateescape")
    assert read_request(written(tmp_path, f"source={name}\ntarget=/b")).source == Path(name)


@pytest.mark.parametrize(
    "text",
    [
        "", "source=/a\n", "source=a.wav\ntarget=/b\n", GOOD + "source=/a\n", GOOD + "nonsense\n",
        GOOD + "unknown=1\n", GOOD + "region=1\n", GOOD + "region=a:b\n", GOOD + "seed=x\n",
        GOOD + "mix=2\n", GOOD + "preset=no such preset\n", "x" * (MAX_BYTES + 1), "\0=1\n",
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_in_the_log_too(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(AudioSRError) as told:
        run_request(path)
    said = (tmp_path / "request.log").read_text().splitlines()[-1]
    assert said == f"failed {' '.join(str(told.value).split())}"
    assert isinstance(told.value, UsageError | SettingsError) or "preset" in str(told.value)


def test_a_cancel_before_the_start_leaves_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    (tmp_path / "request.cancel").touch()
    with pytest.raises(CancelledError):
        run_request(path)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_source_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, f"source={tmp_path}/no.wav\ntarget={tmp_path}/to.wav\n")
    with pytest.raises(FileError, match=r"no\.wav"):
        run_request(path)
    assert "no.wav" in (tmp_path / "request.log").read_text()
