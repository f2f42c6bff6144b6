"""Files of every kind through a chain, read back by readers that are not ours."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pedalboard
import pytest
import soundfile
import wavinfo

from audiosr_core.files import Reader
from plugin_host.chain import Chain
from plugin_host.render_file import render
from plugin_host.super_resolution import SuperResolution
from tests.bench.extend import make_sound

pytestmark = pytest.mark.timeout(200)
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffmpeg is missing")
ROOT = Path(__file__).parents[2]
IXML = b'<?xml version="1.0"?><BWFXML><PROJECT>Rain</PROJECT><TAPE>7</TAPE></BWFXML>'


def dull(num_samples, rate, edge_hz, num_channels):
    spectrum = np.fft.rfft(
        0.1 * np.random.default_rng(0).standard_normal((num_channels, num_samples))
    )
    return np.fft.irfft(spectrum * (np.fft.rfftfreq(num_samples, 1 / rate) < edge_hz), num_samples)


def chunk(name, body):
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def broadcast_wave(path, x, rate):
    """24 bits, with bext, iXML, two cue points with labels, and INFO."""
    pcm = np.round(x.T * 2**23).astype("<i4").reshape(-1, 1).view(np.uint8)[:, :3].tobytes()
    bext = struct.pack(
        "<256s32s32s10s8sQH64s190s", b"Rain on a roof", b"Recorder", b"REF1", b"2026-01-31",
        b"12:34:56", 48_000 * 60, 1, bytes(64), b"",
    ) + b"A=PCM,F=96000,W=24,M=stereo,T=Recorder\r\n"  # fmt: skip
    points = b"".join(
        struct.pack("<II4sIII", i, at, b"data", 0, 0, at) for i, at in ((1, 1_000), (2, 50_000))
    )
    labels = b"adtl" + b"".join(
        chunk(b"labl", struct.pack("<I", i) + text) for i, text in ((1, b"rain\0"), (2, b"wind!\0"))
    )
    num_channels = len(x)
    form = struct.pack(
        "<HHIIHH", 1, num_channels, rate, rate * 3 * num_channels, 3 * num_channels, 24
    )
    body = b"WAVE" + b"".join([
        chunk(b"bext", bext), chunk(b"fmt ", form), chunk(b"data", pcm),
        chunk(b"cue ", struct.pack("<I", 2) + points), chunk(b"LIST", labels),
        chunk(b"LIST", b"INFO" + chunk(b"IART", b"Nobody\0\0")), chunk(b"iXML", IXML),
        chunk(b"ODD!", b"unknown"),
    ])  # fmt: skip
    path.write_bytes(chunk(b"RIFF", body))


def probed(path):
    command = ["ffprobe", "-v", "error", "-show_streams", "-show_format", "-of", "json", path]
    found = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    return found["streams"][0], found["format"].get("tags", {})


@needs_ffmpeg
def test_a_broadcast_wave_at_96_khz_keeps_its_format_and_every_chunk(tmp_path):
    source, target = tmp_path / "in.wav", tmp_path / "out.wav"
    broadcast_wave(source, dull(96_000, 96_000, 15_000, 2), 96_000)
    chain = Chain([pedalboard.HighpassFilter(20), SuperResolution(), pedalboard.Gain(-6)])
    report = render(chain, source, target)
    assert report.cutoff_hz == pytest.approx(15_000, rel=0.03)
    assert report.sample_format == "PCM_24"

    before, after = (wavinfo.WavInfoReader(str(path)) for path in (source, target))
    assert (after.fmt.sample_rate, after.fmt.bits_per_sample) == (96_000, 24)
    assert after.data.frame_count == before.data.frame_count == 96_000
    assert after.bext.description == "Rain on a roof"
    assert after.bext.time_reference == before.bext.time_reference == 48_000 * 60
    first, second = after.bext.coding_history.splitlines()
    assert first == "A=PCM,F=96000,W=24,M=stereo,T=Recorder"
    assert "HighpassFilter > SuperResolution > Gain" in second
    assert (after.ixml.project, after.ixml.tape) == ("Rain", "7")
    assert after.info.artist == "Nobody"
    cues = [[(c.name, c.position) for c in info.cues.cues] for info in (before, after)]
    assert cues[0] == cues[1]
    assert [after.cues.label_and_note(i)[0] for i in (1, 2)] == ["rain", "wind!"]
    assert chunk(b"ODD!", b"unknown") in target.read_bytes()

    stream, tags = probed(target)
    assert (stream["sample_rate"], stream["bits_per_raw_sample"]) == ("96000", "24")
    assert stream["duration_ts"] == 96_000
    kept = {**tags, "coding_history": probed(source)[1]["coding_history"]}
    assert kept == probed(source)[1]
    assert {"encoded_by", "artist", "time_reference"} <= set(tags)


@needs_ffmpeg
def test_a_5_1_file_stays_one(tmp_path):
    source, target = tmp_path / "in.wav", tmp_path / "out.wav"
    x = dull(48_000, 48_000, 9_000, 6)
    x[3] = 0.3 * np.sin(2 * np.pi * 60 * np.arange(48_000) / 48_000)  # LFE
    soundfile.write(tmp_path / "raw.wav", x.T, 48_000, "PCM_24")
    layout = ["-af", "channelmap=0-FL|1-FR|2-FC|3-LFE|4-BL|5-BR:5.1", "-c:a", "pcm_s24le"]
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "raw.wav", *layout, source]
    subprocess.run(command, check=True, timeout=60)
    report = render(Chain([pedalboard.Gain(-1), SuperResolution()]), source, target)
    before, after = probed(source)[0], probed(target)[0]
    for name in ("channels", "channel_layout", "sample_rate", "codec_name", "duration_ts"):
        assert after[name] == before[name], name
    with Reader(source) as a, Reader(target) as b:
        low, made = a.read(0, 48_000)[3] * 10 ** (-1 / 20), b.read(0, 48_000)[3]
    np.testing.assert_allclose(
        made, low, atol=2**-22
    )  # the LFE: turned down, dithered, not extended
    assert report.null_residual_db < -90


@pytest.mark.parametrize("suffix", [".flac", ".aiff"])
def test_other_containers_stay_what_they_are(tmp_path, suffix):
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    soundfile.write(source, dull(30_011, 44_100, 9_000, 2).T, 44_100, "PCM_24")
    render(Chain([pedalboard.Gain(-1)]), source, target)
    kept = [
        (i.samplerate, i.frames, i.format, i.subtype) for i in map(soundfile.info, (source, target))
    ]
    assert kept[0] == kept[1]


class Enough(Exception):
    pass


@pytest.mark.skipif(not hasattr(os, "SEEK_DATA"), reason="this system has no sparse files")
def test_a_file_over_4_gb_is_read_and_its_output_begins_as_one(tmp_path):
    """Sparse, so that it costs no disk; all of it would take minutes, and its head says enough."""
    source = tmp_path / "in.wav"
    num_samples = 3 << 30 >> 2  # of 6 bytes: 4.5 GB
    data = 6 * num_samples
    head = struct.pack("<HHIIHH", 1, 2, 96_000, 96_000 * 6, 6, 24)
    sizes = struct.pack("<QQQI", 72 + data, data, num_samples, 0)
    with open(source, "wb") as file:
        file.write(b"RF64\xff\xff\xff\xffWAVE" + chunk(b"ds64", sizes) + chunk(b"fmt ", head))
        file.write(b"data\xff\xff\xff\xff")
        file.truncate(file.tell() + data)
        file.seek(-6, os.SEEK_END)
        file.write(b"\0\0\x40" * 2)
    with Reader(source) as reader:
        assert reader.info.num_samples == num_samples
        assert reader.read(num_samples - 2, num_samples).tolist() == [[0, 0.5], [0, 0.5]]
    heads = []

    def look(fraction):
        (part,) = tmp_path.glob(".out.wav.*.part")
        with open(part, "rb") as file:
            heads.append(file.read(4))
        if fraction > 0.001:
            raise Enough

    with pytest.raises(Enough):
        render(Chain([pedalboard.Gain(-1)]), source, tmp_path / "out.wav", on_progress=look)
    assert heads[-1] == b"RF64"
    assert os.listdir(tmp_path) == ["in.wav"]


CHILD = """
import sys
from pathlib import Path
import pedalboard
from plugin_host.chain import Chain
from plugin_host.render_file import render
from plugin_host.super_resolution import SuperResolution
from tests.bench.extend import peak_mb
chain = Chain([pedalboard.HighpassFilter(20), SuperResolution(daemon=False), pedalboard.Gain(-1)])
source = Path(sys.argv[1])
assert render(chain, source, source.with_suffix(".out.wav")).null_residual_db < -90
print(peak_mb())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_peak_memory_does_not_grow_with_duration(tmp_path):
    peaks = []
    for seconds in (10, 130):
        make_sound(tmp_path / f"{seconds}.wav", 44_100, seconds)
        done = subprocess.run(
            [sys.executable, "-c", CHILD, tmp_path / f"{seconds}.wav"], cwd=ROOT, check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, timeout=180,
        )  # fmt: skip
        peaks.append(float(done.stdout))
    # 120 s of stereo as float32 are 42 MB, more than 5 %: one array of the whole sound fails
    assert peaks[1] < 1.05 * peaks[0], peaks
