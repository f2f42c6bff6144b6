"""Folders read into songs and stems."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiosr_core.errors import AudioSRError, UsageError
from plugin_host.stems import album as module
from plugin_host.stems.album import Album, read_album
from plugin_host.stems.journal import JOURNAL, Journal, key_of
from tests.support.albums import sound

pytestmark = pytest.mark.timeout(30)


def named(album: Album) -> dict[str, list[str]]:
    return {song.name: [stem.name for stem in song.stems] for song in album.songs}


def test_a_folder_is_a_song_and_with_recursive_every_folder_is_one(tmp_path):
    top = tmp_path / "Album"
    for path in ("a.wav", "one/b.wav", "one/c.flac", "two/deep/d.wav"):
        sound(top / path)

    assert named(read_album(top, tmp_path / "out")) == {"Album": ["a"]}
    everything = read_album(top, tmp_path / "out", recursive=True)
    assert named(everything) == {"Album": ["a"], "one": ["b", "c"], "two/deep": ["d"]}
    targets = [t.relative_to(tmp_path / "out") for s in everything.songs for t in s.targets]
    sources = [f.relative_to(top) for s in everything.songs for f in s.files]
    assert targets == sources


def test_each_file_or_pair_is_a_song_by_itself(tmp_path):
    top = tmp_path / "Mixes"
    for path in ("a.wav", "b%L.wav", "b%R.wav", "live/c.wav"):
        sound(top / path)
    found = read_album(top, tmp_path / "out", recursive=True, each=True)
    assert named(found) == {"a": ["a"], "b": ["b"], "live/c": ["c"]}


@pytest.mark.parametrize("mark", ["%", "."])
def test_the_sides_of_a_mono_pair_are_one_stem(tmp_path, mark):
    top = tmp_path / "Song"
    left, right = (sound(top / f"Kick{mark}{side}.wav") for side in "LR")
    [song] = read_album(top, tmp_path / "out").songs
    [stem] = song.stems
    assert (stem.name, stem.files) == ("Kick", (left, right))
    assert [one.name for one in stem.targets] == [left.name, right.name]
    assert [one.name for one in song.numbered(2).targets] == [
        f"Kick.2{mark}L.wav",
        f"Kick.2{mark}R.wav",
    ]
    assert song.notes == ()


@pytest.mark.parametrize(
    ("right", "reason"),
    [
        (None, "missing"),
        ({"seconds": 0.2}, "samples"),
        ({"channels": 2}, "mono"),
        ({"rate": 22_050}, "missing"),  # it is in another song
    ],
)
def test_what_is_no_pair_is_mono_stems_with_a_note(tmp_path, right, reason):
    top = tmp_path / "Song"
    sound(top / "Kick%L.wav")
    sound(top / "Other.wav")
    if right is not None:
        sound(top / "Kick%R.wav", **right)
    found = read_album(top, tmp_path / "out")
    stems = [stem for song in found.songs for stem in song.stems]
    assert all(len(stem.files) == 1 for stem in stems)
    assert any(reason in note for song in found.songs for note in song.notes)


def test_files_of_another_rate_are_a_song_of_their_own(tmp_path):
    top = tmp_path / "Song"
    for name in ("a.wav", "b.wav"):
        sound(top / name, rate=48_000)
    sound(top / "loop.wav", rate=44_100)
    found = read_album(top, tmp_path / "out")
    assert named(found) == {"Song": ["a", "b"], "Song (44100 Hz)": ["loop"]}
    assert "44100 Hz" in found.songs[1].notes[0]


def test_what_is_no_sound_hidden_or_excluded_is_left_out(tmp_path):
    top = tmp_path / "Song"
    for name in ("a.wav", ".b.wav", ".hidden/c.wav", "old/d.wav", "click.wav"):
        sound(top / name)
    (top / "notes.txt").touch()
    (top / "cover.jpg").touch()
    found = read_album(top, tmp_path / "out", recursive=True, exclude=["old", "click*"])
    assert named(found) == {"Song": ["a"]}
    assert found.notes == ("2 files are no sounds and were left out",)


def test_outputs_of_an_earlier_run_are_no_inputs(tmp_path):
    top = tmp_path / "Album"
    for name in ("a.wav", "a.extended.wav", "a.orig.wav", "a.orig.2.wav", "b.extended.wav"):
        sound(top / name)
    sound(top / "out" / "a.wav")
    sound(top / "before" / "a.wav")
    (top / "before" / JOURNAL).touch()
    found = read_album(top, top / "out", recursive=True)
    assert named(found) == {"Album": ["a", "b.extended"]}  # b itself is not there


def test_links_that_go_round_end(tmp_path):
    top = tmp_path / "Album"
    sound(top / "song" / "a.wav")
    (top / "song" / "again").symlink_to(top)
    (top / "other").symlink_to(top / "song")
    sound(tmp_path / "elsewhere" / "b.wav")
    (top / "linked").symlink_to(tmp_path / "elsewhere")
    found = read_album(top, tmp_path / "out", recursive=True)
    files = sorted(file.name for song in found.songs for file in song.files)
    assert files == ["a.wav", "b.wav"]


def test_names_that_are_no_text(tmp_path):
    name = os.fsdecode(b"\xff\xfe.wav")
    sound(tmp_path / "Song" / name)
    [song] = read_album(tmp_path / "Song", tmp_path / "out").songs
    assert [target.name for target in song.targets] == [name]


def test_two_sources_never_share_a_target(tmp_path):
    top = tmp_path / "Album"
    sound(top / "one" / "a.wav")
    sound(top / "one" / "a.ogg")  # becomes a.wav
    sound(top / "two" / "b.wav")
    found = read_album(top, tmp_path / "out", recursive=True)
    assert named(found) == {"two": ["b"]}
    assert "both become" in str(found.unusable[0].error)


def test_an_original_is_no_target(tmp_path):
    sound(tmp_path / "A" / "x.wav")
    sound(tmp_path / "A" / "A" / "x.wav")
    found = read_album(tmp_path / "A", tmp_path, recursive=True)  # A/x.wav → A/x.wav? no: x.wav
    assert len(found.songs) == 1
    assert "original" in str(found.unusable[0].error)


def test_a_song_with_a_broken_stem_is_not_begun_and_stops_no_other(tmp_path):
    top = tmp_path / "Album"
    for path in ("one/a.wav", "one/b.wav", "two/c.wav"):
        sound(top / path)
    (top / "one" / "b.wav").write_bytes(b"no sound at all")
    found = read_album(top, tmp_path / "out", recursive=True)
    assert named(found) == {"two": ["c"]}
    [broken] = found.unusable
    assert (broken.name, "b.wav" in str(broken.error)) == ("one", True)
    by_itself = read_album(top, tmp_path / "out", recursive=True, each=True)
    assert [song.name for song in by_itself.songs] == ["one/a", "two/c"]


def test_a_folder_that_cannot_be_read_stops_no_other(tmp_path, monkeypatch):
    top = tmp_path / "Album"
    for path in ("one/a.wav", "two/b.wav"):
        sound(top / path)
    scan = os.scandir

    def scandir(path):
        if Path(path).name == "one":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = read_album(top, tmp_path / "out", recursive=True)
    assert named(found) == {"two": ["b"]}
    assert "Permission denied" in str(found.unusable[0].error)


@pytest.mark.parametrize("folder", ["missing", "file.wav"])
def test_an_album_is_a_folder(tmp_path, folder):
    sound(tmp_path / "file.wav")
    with pytest.raises(UsageError, match="is no folder"):
        read_album(tmp_path / folder, tmp_path / "out")


def test_outputs_go_elsewhere(tmp_path):
    with pytest.raises(UsageError, match="holds the originals"):
        read_album(tmp_path, tmp_path / "." / "")


@given(
    names=st.lists(st.text("ab%.LR", min_size=1, max_size=4), unique=True, max_size=8),
    mono=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_every_file_is_in_one_stem_and_has_one_target(tmp_path_factory, names, mono):
    top = tmp_path_factory.mktemp("Song")
    files = [sound(top / f"{name}.wav", 0.001, channels=2 - mono) for name in names]
    found = read_album(top, top / "out")
    usable = [file for song in found.songs for file in song.files]
    targets = [target for song in found.songs for target in song.targets]
    expected = [one for one in files if module.is_sound(one) and not _made(one, files)]
    assert sorted(usable) == sorted(expected)
    assert len(set(targets)) == len(targets) == len(usable)


def _made(path: Path, files: list[Path]) -> bool:
    return module.made_by_extend(path, [one.name for one in files])


def journal_of(folder: Path) -> tuple[str, Path, Path]:
    """One song that is done: its key, its output, the journal."""
    target = folder / "a.wav"
    key = key_of({"a": 1})
    with Journal(folder) as journal:
        target.write_bytes(b"12345")
        journal.begin(key, "a", [target])
        journal.finish(key, "a", [target], {"seed": 1})
    return key, target, journal.path


def test_what_is_done_is_remembered_until_an_output_changes(tmp_path):
    key, target, _ = journal_of(tmp_path)
    with Journal(tmp_path) as journal:
        entry = journal.find(key)
        assert entry is not None
        assert (entry.done, entry.targets, entry.report) == (True, (target,), {"seed": 1})
        assert journal.find(key_of({"a": 2})) is None
        target.write_bytes(b"123456")
        assert journal.find(key) is None


def test_a_journal_torn_anywhere_is_a_journal(tmp_path):
    key, target, path = journal_of(tmp_path)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with Journal(tmp_path) as journal:
            entry = journal.find(key)
            if length < len(whole) - 1:
                assert entry is None if length < first - 1 else not entry.done
            journal.finish(key, "a", [target], {"seed": 1})
        with Journal(tmp_path) as journal:
            entry = journal.find(key)
            assert entry is not None
            assert entry.done


@given(st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_any_bytes_are_a_journal(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("out")
    (folder / JOURNAL).write_bytes(data)
    with Journal(folder) as journal:
        assert journal.find("key") is None


def test_a_folder_belongs_to_one_run_at_a_time(tmp_path):
    with Journal(tmp_path), pytest.raises(AudioSRError, match="another run"), Journal(tmp_path):
        pass
