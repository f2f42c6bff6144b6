"""The contract of an external editor, with a tiny model."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audiosr_core.errors import FileError, UsageError
from audiosr_core.files import probe
from audiosr_core.settings import Settings
from bridge.errors import CancelledError
from plugin_host.edit import confirm, edit_file, original_of, undo
from plugin_host.errors import ChangedError
from tests.support.edit import adding, die_at, nothing, sound

FORMATS = [
    ("a.wav", "WAV", "PCM_16"),
    ("a.wav", "WAV", "PCM_24"),
    ("a.wav", "WAVEX", "FLOAT"),
    ("a.wav", "RF64", "PCM_24"),
    ("a.aiff", "AIFF", "PCM_16"),
    ("a.flac", "FLAC", "PCM_24"),
]

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory, monkeypatch):
    for name in ("RUNTIME", "STATE"):
        folder = tmp_path_factory.mktemp(name, numbered=True)
        monkeypatch.setenv(f"AUDIOSR_BRIDGE_{name}_DIR", str(folder))


@pytest.fixture
def file(tmp_path):
    return sound(tmp_path / "song.wav")


def test_the_file_stays_the_file_it_was(tmp_path):
    for name, container, subtype in FORMATS:
        for num_channels, num_samples, rate in ((1, 4_801, 48_000), (6, 3_001, 96_000)):
            path = tmp_path / f"{container}{subtype}{num_channels}{name}"
            sound(path, num_samples, num_channels, rate, container=container, subtype=subtype)
            before, info = path.read_bytes(), probe(path)
            report = edit_file(path, Settings(), engine=adding())
            assert report.extended
            assert path.read_bytes() != before
            now = probe(path)
            for one in ("container", "subtype", "sample_rate", "num_channels", "num_samples"):
                assert getattr(now, one) == getattr(info, one), (path.name, one)
            assert original_of(path).read_bytes() == before
            undo(path)
            assert path.read_bytes() == before
            assert not original_of(path).exists()


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    steps=st.lists(
        st.sampled_from(["edit 0", "edit 1", "cancel", "undo", "confirm", "change"]), max_size=8
    )
)
def test_whatever_is_done_the_first_original_is_there_until_it_is_confirmed(tmp_path, steps):
    path = sound(tmp_path / "song.wav")
    original_of(path).unlink(missing_ok=True)
    base = path.read_bytes()  # what an edit must start from
    made: dict[tuple[bytes, str], bytes] = {}
    edited = changed = False
    for step in steps:
        before = path.read_bytes()
        try:
            if step.startswith("edit"):
                edit_file(path, Settings(seed=int(step[-1])), engine=adding())
                edited = True
                now = path.read_bytes()
                assert made.setdefault((base, step), now) == now
            elif step == "cancel":
                edit_file(path, Settings(), engine=adding(), on_progress=_cancel)
            elif step == "undo":
                undo(path)
                edited = False
                assert path.read_bytes() == base
            elif step == "confirm":
                confirm(path)
                base, edited, changed = before, False, False
                assert path.read_bytes() == before
            else:
                sound(path, seed=len(before))
                path.write_bytes(path.read_bytes() + bytes([0, 0]))
                if edited:
                    changed = True
                else:
                    base = path.read_bytes()
        except CancelledError:
            assert step == "cancel"
            assert path.read_bytes() == before
        except ChangedError:
            assert changed
            assert path.read_bytes() == before
        except FileError:
            assert step in ("undo", "confirm")
            assert not edited
        if edited:
            assert original_of(path).read_bytes() == base
        else:
            assert not original_of(path).exists()
        assert {one.name for one in tmp_path.iterdir()} <= {"song.wav", "song.orig.wav"}


def _cancel(fraction: float) -> None:
    if fraction > 0.5:
        raise CancelledError("enough")


def test_overwrite_goes_back_to_the_original_whatever_came_between(file):
    before = file.read_bytes()
    edit_file(file, Settings(), engine=adding())
    edited = file.read_bytes()
    sound(file, num_samples=99)
    edit_file(file, Settings(), overwrite=True, engine=adding())
    assert file.read_bytes() == edited
    sound(file, num_samples=99)
    undo(file, overwrite=True)
    assert file.read_bytes() == before


def test_a_host_reads_it_again_after_an_edit_and_after_undo(file):
    long_ago = 1_000_000_000
    os.utime(file, (long_ago, long_ago))
    edit_file(file, Settings(), engine=adding())
    assert file.stat().st_mtime > long_ago
    assert original_of(file).stat().st_mtime == long_ago
    os.utime(file, (long_ago, long_ago))
    undo(file)
    assert file.stat().st_mtime > long_ago


def test_mode_and_links_stay(tmp_path, file):
    file.chmod(0o640)
    link = tmp_path / "elsewhere" / "link.wav"
    link.parent.mkdir()
    link.symlink_to(file)
    edit_file(link, Settings(), engine=adding())
    assert link.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert original_of(link) == file.with_name("song.orig.wav")
    assert [one.name for one in link.parent.iterdir()] == ["link.wav"]


def test_what_may_not_be_written_is_left_alone(tmp_path, file):
    before = file.read_bytes()
    file.chmod(0o444)
    with pytest.raises(FileError, match="permission denied"):
        edit_file(file, Settings(), engine=adding())
    file.chmod(0o644)
    with pytest.raises(UsageError, match="keeps the rate"):
        edit_file(file, Settings(rate=96_000), engine=adding())
    with pytest.raises(UsageError, match="reference"):
        edit_file(file, Settings(mode="reference"), engine=adding())
    assert file.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["song.wav"]


@pytest.mark.parametrize(("name", "subtype"), [("a.mp3", None), ("a.wav", "IMA_ADPCM")])
def test_lossy_files_are_refused(tmp_path, name, subtype):
    path = tmp_path / name
    soundfile.write(path, np.zeros(44_100), 44_100, subtype=subtype)
    before = path.read_bytes()
    with pytest.raises(FileError):
        edit_file(path, Settings(), engine=adding())
    assert path.read_bytes() == before


def test_no_room_is_an_error_and_nothing_missing_is_none(file):
    before = file.read_bytes()
    assert not edit_file(file, Settings(), engine=nothing()).extended
    with pytest.raises(FileError, match="no room"):
        edit_file(file, Settings(), engine=nothing(unless="auto"))
    assert file.read_bytes() == before
    assert not original_of(file).exists()


def test_a_file_that_another_program_writes_meanwhile_is_that_programs(file):
    def meddle(fraction: float) -> None:
        if fraction == 1.0:
            file.write_bytes(b"from the host")

    with pytest.raises(FileError, match="during the edit"):
        edit_file(file, Settings(), engine=adding(), on_progress=meddle)
    assert file.read_bytes() == b"from the host"
    assert not original_of(file).exists()


def test_one_edit_at_a_time(tmp_path, file):
    link = tmp_path / "link.wav"
    link.symlink_to(file)
    seen = []

    def another(fraction: float) -> None:
        with pytest.raises(FileError, match="already") as error:
            edit_file(link, Settings(), engine=adding())
        seen.append(error)

    edit_file(file, Settings(), engine=adding(), on_progress=another)
    assert seen


def test_an_original_that_is_not_ours_is_never_used_nor_lost(file):
    original_of(file).write_bytes(b"somebody else's")
    before = file.read_bytes()
    for attempt in (lambda: edit_file(file, Settings(), engine=adding()), lambda: undo(file)):
        with pytest.raises(ChangedError):
            attempt()
    assert file.read_bytes() == before
    assert original_of(file).read_bytes() == b"somebody else's"


def test_no_original_goes_while_the_file_cannot_be_read(file):
    edit_file(file, Settings(), engine=adding())
    file.write_bytes(b"broken")
    with pytest.raises(FileError):
        confirm(file)
    assert original_of(file).exists()


def test_without_hard_links_the_original_is_a_copy(file, monkeypatch):
    before = file.read_bytes()
    monkeypatch.setattr(os, "link", _no_links)
    edit_file(file, Settings(), engine=adding())
    assert original_of(file).read_bytes() == before
    undo(file)
    assert file.read_bytes() == before


def _no_links(old: Path, new: Path) -> None:
    raise PermissionError(1, "no links here")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked child")
def test_killed_at_any_moment_the_file_is_the_old_or_the_new(tmp_path):
    old = sound(tmp_path / "song.wav").read_bytes()
    path = tmp_path / "song.wav"
    edit_file(path, Settings(), engine=adding())  # and all is imported
    new = path.read_bytes()
    undo(path)
    for again in (False, True):  # the first edit, and one of an edited file
        for moment in range(1, 1000):
            survived = _edit_and_die(path, moment)
            now, original = path.read_bytes(), original_of(path)
            assert now in (old, new)
            assert now == old or original.read_bytes() == old
            if survived:
                break
            if not again:
                path.write_bytes(old)
                original.unlink(missing_ok=True)
        assert moment > 20
        assert now == new
    confirm(path)
    left = [one for one in tmp_path.iterdir() if one.name != "song.wav"]
    assert all(one.suffix == ".part" for one in left)


def _edit_and_die(path: Path, moment: int) -> bool:
    """Edit in a child that dies at its moment-th touch of a file; whether it came through."""
    child = os.fork()
    if child == 0:
        die_at(moment)
        edit_file(path, Settings(), engine=adding())
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0
