"""Excerpts, deltas and pairs are the whole render again, to the last bit."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import soundfile

from audiosr_core.engine import Engine
from audiosr_core.errors import OutputExistsError, RegionError, UsageError
from audiosr_core.extend_file import extend_file
from audiosr_core.files import Reader, provenance_of
from audiosr_core.settings import Settings
from plugin_host import audition as module
from plugin_host.audition import ab, audition, open_key, ways
from plugin_host.loudness import LoudnessMeter
from plugin_host.pictures import inspect_joins, joins_of
from tests.support.audiosr import muffled

pytestmark = pytest.mark.timeout(120)
SETTINGS = Settings(cutoff=5000)


def write(path, seconds, rate=48_000, channels=1, subtype="PCM_16", peak=0.3):
    x = muffled(channels, round(seconds * rate), 4000, rate)
    soundfile.write(path, x.T * (peak / np.abs(x).max()), rate, subtype=subtype)
    return path


def read(path):
    with Reader(path) as reader:
        return reader.read(0, reader.info.num_samples)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_original_and_delta_make_the_extended(tmp_path, subtype, rate):
    source = write(tmp_path / "a.wav", 2.5, rate, 2, subtype)
    whole = extend_file(source, tmp_path / "whole.wav", SETTINGS)
    delta = extend_file(source, None, SETTINGS, delta=True)
    assert delta.delta
    assert delta.output == str(tmp_path / "a.delta.wav")
    assert (delta.sample_rate, delta.num_samples) == (whole.sample_rate, whole.num_samples)
    added, x, y = (read(p) for p in (delta.output, source, whole.output))
    dtype = np.float32 if subtype == "FLOAT" else np.float64
    assert added.any()
    assert np.array_equal((x + added).astype(dtype), y.astype(dtype))
    assert provenance_of(delta.output)["delta"] is True
    assert "delta" not in provenance_of(whole.output)


def test_a_delta_where_nothing_was_added_is_silence(tmp_path):
    source = write(tmp_path / "a.wav", 2)
    silent = extend_file(source, None, SETTINGS.replace(mix=0), delta=True)
    assert not read(silent.output).any()
    part = extend_file(source, tmp_path / "r.wav", SETTINGS, region=(0.5, 1.0), delta=True)
    added = read(part.output)[0]
    assert added[24_000:48_000].any()
    assert not added[:24_000].any()
    assert not added[48_000:].any()


def test_who_has_no_delta(tmp_path):
    source = write(tmp_path / "a.wav", 0.5)
    with pytest.raises(UsageError, match="reference"):
        extend_file(source, None, Settings(mode="reference"), delta=True)
    with pytest.raises(UsageError, match="replaces"):
        extend_file(source, None, SETTINGS, delta=True, in_place=True)


@pytest.mark.parametrize(
    ("rate", "settings", "at"),
    [
        (48_000, SETTINGS, 0.0),
        (48_000, SETTINGS, 8.1),  # over a join
        (44_100, SETTINGS, 9.0),
        (16_000, SETTINGS.replace(rate=48_000), 9.3),
        (16_000, SETTINGS.replace(rate=48_000, cutoff="follow"), 10.0),
    ],
)
def test_an_excerpt_is_the_same_place_of_the_whole(tmp_path, rate, settings, at):
    source = write(tmp_path / "a.wav", 10, rate)
    whole = extend_file(source, tmp_path / "whole.wav", settings)
    made = audition(source, ways({"": settings}, []), at_seconds=at, seconds=1.5)
    start, stop = round(made.start * rate), round(made.stop * rate)
    assert stop - start == round(1.5 * rate)
    assert np.array_equal(read(made.original), read(source)[:, start:stop])
    times = whole.sample_rate // rate
    there = read(whole.output)[:, start * times : stop * times]
    assert np.array_equal(read(made.takes[0].output), there)


def test_only_the_chunks_that_are_needed(tmp_path, monkeypatch):
    source = write(tmp_path / "a.wav", 33)
    asked = []

    class Spied(Reader):
        def read(self, start, stop):
            asked.append((start, stop))
            return super().read(start, stop)

        def blocks(self, size):
            with Reader(self.info.path) as reader:
                yield from reader.blocks(size)

    monkeypatch.setattr(module, "Reader", Spied)
    settings = SETTINGS.replace(gain_hf_db=-1)
    with monkeypatch.context() as patch:
        patch.setattr("audiosr_core.engine.measure_gain_law", lambda *_: 0.0)
        audition(source, {"x": settings}, at_seconds=20, seconds=2)
    first, last = min(start for start, _ in asked), max(stop for _, stop in asked)
    assert first > 15 * 48_000  # the chunk begins at 16 s
    assert last < 29 * 48_000


def test_an_excerpt_knows_its_place_in_time(tmp_path):
    source = write(tmp_path / "a.wav", 3)
    body = bytearray(602)
    struct.pack_into("<Q", body, 338, 1_000_000)
    data = source.read_bytes()
    chunk = b"bext" + struct.pack("<I", len(body)) + bytes(body)
    size = struct.pack("<I", len(data) - 8 + len(chunk))
    source.write_bytes(b"RIFF" + size + b"WAVE" + chunk + data[12:])
    made = audition(source, {"x": SETTINGS}, at_seconds=2, seconds=1)
    for path in (made.original, made.takes[0].output):
        with Reader(path) as reader:
            bext = next(c for c in reader.table.chunks if c.id == b"bext")
            reader.file.seek(bext.body.start + 338)
            assert struct.unpack("<Q", reader.file.read(8)) == (1_000_000 + 72_000,)


def test_names_pictures_and_what_is_refused(tmp_path):
    source = write(tmp_path / "a.wav", 2)
    (tmp_path / "out").mkdir()
    chosen = ways({"one": SETTINGS, "two": SETTINGS.replace(mix=0.5)}, [1, 2])
    assert list(chosen) == ["one.seed-1", "one.seed-2", "two.seed-1", "two.seed-2"]
    assert list(ways({"one": SETTINGS}, [])) == ["one"]
    assert list(ways({"": SETTINGS}, [])) == ["seed-0"]
    png = tmp_path / "out" / "p.png"
    made = audition(source, chosen, at_seconds=1, seconds=0.5, folder=tmp_path / "out", png=png)
    assert len({read(take.output).tobytes() for take in made.takes}) == 4
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "p.png", "a.audition.original.wav", *(f"a.audition.{name}.wav" for name in chosen)
    }  # fmt: skip
    with pytest.raises(OutputExistsError):
        audition(source, chosen, at_seconds=1, folder=tmp_path / "out")
    for at, seconds in ((-1, 1), (3, 1), (1, 0)):
        with pytest.raises(RegionError, match="inside"):
            audition(source, chosen, at_seconds=at, seconds=seconds)


def loudness(path):
    with Reader(path) as reader:
        meter = LoudnessMeter(reader.info.sample_rate, reader.info.num_channels)
        for block in reader.blocks(10_000):
            meter.push(block)
    return meter.integrated_lufs


@pytest.mark.parametrize(
    ("rate", "subtype", "peak"),
    [(48_000, "PCM_16", 0.3), (48_000, "PCM_24", 0.999), (16_000, "PCM_24", 0.999)],
)
def test_a_pair_is_equally_loud_and_under_full_scale(tmp_path, rate, subtype, peak):
    source = write(tmp_path / "a.wav", 2, rate, 2, subtype, peak)
    settings = SETTINGS.replace(rate=48_000, gain_hf_db=12)
    pair = ab(source, settings)
    assert pair.lufs[1] > pair.lufs[0]
    assert loudness(pair.original) == pytest.approx(loudness(pair.extended), abs=0.01)
    a, b = read(pair.original), read(pair.extended)
    assert max(np.abs(a).max(), np.abs(b).max()) < 1
    assert a.shape == b.shape == (2, 96_000)
    if rate == 48_000 and pair.gains_db[0] == 0:
        assert np.array_equal(a, read(source))
    assert soundfile.info(pair.extended).subtype == subtype
    assert provenance_of(pair.original) is None
    assert provenance_of(pair.extended)["settings"] == settings.as_dict()


def test_a_blind_pair_tells_nothing_but_its_key(tmp_path):
    source = write(tmp_path / "a.wav", 1)
    orders = set()
    for number in range(24):  # one order by chance in 2**23
        folder = tmp_path / str(number)
        folder.mkdir()
        pair = ab(source, SETTINGS, folder=folder, blind=True)
        files = sorted(folder.iterdir())
        assert [p.name for p in files] == ["a.X.wav", "a.Y.wav", "a.key"]
        assert files[0].stat().st_size == files[1].stat().st_size
        assert provenance_of(files[0]) is provenance_of(files[1]) is None
        assert b"original" not in files[2].read_bytes()
        key = open_key(files[2])
        assert np.array_equal(read(folder / key["original"]), read(source))
        assert pair.original == str(folder / key["original"])
        orders.add(key["original"])
        if len(orders) == 2:
            return
    raise AssertionError("the order never changed")


def test_nothing_to_add_is_a_pair_of_equals(tmp_path):
    source = write(tmp_path / "a.wav", 1)
    pair = ab(source, SETTINGS.replace(mix=0))
    assert pair.gains_db == (0.0, 0.0)
    assert np.array_equal(read(pair.original), read(pair.extended))


def test_the_joins_of_a_render_are_found_by_its_record_and_do_not_show(tmp_path):
    source = write(tmp_path / "a.wav", 20, subtype="PCM_24")
    extend_file(source, tmp_path / "b.wav", SETTINGS)
    places = joins_of(tmp_path / "b.wav", 48_000, None)
    plan = Engine("cpu").model(SETTINGS)
    assert [start for start, _ in places] == [4.0, 8.0, 12.0, 16.0]  # its cutoff is given
    assert places[0][1] - places[0][0] == pytest.approx(plan.overlap_seconds)
    with Reader(source) as a, Reader(tmp_path / "b.wav") as b:
        assert inspect_joins(a, b, places).showing == []
