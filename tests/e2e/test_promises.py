"""The promises of DESIGN §2 with the real model, on real files, read back from the disk.

`extend_file` is what the command line calls; where the process itself matters (threads, flags,
reports) the command line runs as a subprocess.
"""

from __future__ import annotations

import json
import math
import os
import struct
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy import signal

from audiosr_core.errors import NotFiniteError
from audiosr_core.extend_file import extend_file
from audiosr_core.files import Reader
from audiosr_core.settings import Settings

ROOT = Path(__file__).parents[2]
RATE = 44_100
EDGE = 8_000.0
RATES = (
    8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 176_400, 192_000,
)  # fmt: skip
MATERIAL = ("noise", "tones", "impulses", "speech", "music")


def low_passed(x, hz=EDGE, rate=RATE):
    taps = signal.firwin(801, hz, window=("kaiser", 12), fs=rate)
    return signal.oaconvolve(x, taps[None], mode="same", axes=1)


@lru_cache
def material(name, seconds=2.0):
    """A sound whose band ends at 8 kHz, 44.1 kHz, peak 0.3, so that nothing clips."""
    rng = np.random.default_rng(7)
    n = round(RATE * seconds)
    t = np.arange(n) / RATE
    plucks = np.exp(-6 * (t % 0.25))
    tones = sum(np.sin(2 * np.pi * f * t + f) / f**0.5 for f in np.arange(220.0, 12_000, 220))
    if name == "noise":
        x = rng.normal(size=(2, n))
    elif name == "tones":
        x = tones[None] * plucks
    elif name == "impulses":
        x = np.zeros((1, n))
        x[0, 3_000::11_025] = 1
    elif name == "speech":
        pitch = 120 + 20 * np.sin(2 * np.pi * 2 * t)
        buzz = signal.sawtooth(2 * np.pi * np.cumsum(pitch) / RATE) + 0.05 * rng.normal(size=n)
        x = (buzz * (np.sin(2 * np.pi * 1.5 * t) > -0.3))[None]
    else:
        x = np.stack([tones * plucks, tones * np.roll(plucks, 4_000)])
        x = x + 0.3 * np.abs(x).max() * rng.normal(size=(2, n)) * (t % 0.5 < 0.03)
    x = low_passed(x)
    return 0.3 * x / np.abs(x).max()


def write(path, x, rate=RATE, subtype="FLOAT"):
    soundfile.write(path, x.T, rate, subtype=subtype)
    return path


def read(path):
    with Reader(path) as reader:
        return reader.read(0, reader.info.num_samples)


def extended(source, **options):
    """(report, input, output) of one file."""
    settings = Settings(**options.pop("knobs", {}))
    target = source.with_name(f"out{len(list(source.parent.iterdir()))}{source.suffix}")
    report = extend_file(source, target, settings, **options)
    return report, read(source), read(target)


def energy_below(x, hz, rate=RATE):
    """Of the whole sound at once, ends and all: no window could leak into the band."""
    spectrum = np.fft.rfft(np.pad(x, ((0, 0), (rate, rate))), axis=1)
    frequency = np.fft.rfftfreq(x.shape[1] + 2 * rate, 1 / rate)
    return float((np.abs(spectrum[:, frequency < hz]) ** 2).sum())


def decibel(ratio):
    return 10 * math.log10(max(ratio, 1e-300))


def command(folder, *arguments, **environment):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-m", "plugin_host.cli", *arguments],
        cwd=folder, env=env, capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout


# ---- P1, the low band


@pytest.mark.parametrize("name", MATERIAL)
@pytest.mark.parametrize("subtype", ["FLOAT", "PCM_24", "PCM_16"])
def test_p1_the_low_band_of_the_written_file_is_the_original(tmp_path, name, subtype):
    source = write(tmp_path / "in.wav", material(name), subtype=subtype)
    report, x, y = extended(source)
    assert report.extended
    assert abs(report.cutoff_hz - EDGE) < 0.06 * EDGE
    below = report.crossover_hz
    difference = energy_below(y - x, below)
    null = decibel(difference / energy_below(x, below))
    if subtype == "FLOAT":
        assert null <= -90
        return
    # TPDF dither and rounding: variance 1/6 + 1/12 step², the share of it below the crossover,
    # 0.5 dB for its chance; what the promise allows comes on top
    step = 2.0 ** (1 - int(subtype[4:]))
    dither = 0.25 * step**2 * (below / (RATE / 2)) * x.size * (x.shape[1] + 2 * RATE) / 2
    assert difference <= 10**0.05 * dither + 1e-9 * energy_below(x, below)
    assert report.overs == 0
    if subtype == "PCM_24" and name != "impulses":  # these are 60 dB quieter than their peak
        assert null <= -90


@pytest.mark.parametrize("knobs", [{"mix": 0.0}, {"mix": 0.0, "rate": "keep"}], ids=str)
def test_p1_a_mix_of_nothing_is_the_same_file(tmp_path, knobs):
    source = write(tmp_path / "in.wav", material("music"), subtype="PCM_16")
    extend_file(source, tmp_path / "out.wav", Settings(**knobs))
    assert (tmp_path / "out.wav").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff"])
def test_p1_a_full_band_file_is_copied_to_the_byte(tmp_path, suffix):
    x = 0.1 * np.random.default_rng(0).normal(size=(2, RATE))
    source = write(tmp_path / f"in.{suffix}", x, subtype="PCM_24")
    target = tmp_path / f"out.{suffix}"
    report = extend_file(source, target, Settings())
    assert report.full_band
    assert "full band" in report.note
    assert target.read_bytes() == source.read_bytes()


def test_p1_dc_is_not_touched(tmp_path):
    source = write(tmp_path / "in.wav", material("noise") + 0.25)
    report, x, y = extended(source)
    assert report.extended
    # a float32 sample of 0.25 is rounded by 1e-8, alone; the mean of 1e5 of them by far less
    assert abs((y - x).mean()) < 1e-8


def test_silence_stays_silence(tmp_path):
    rate = 48_000
    whole = write(tmp_path / "all.wav", np.zeros((2, rate)), 16_000, "PCM_16")
    report, _, y = extended(whole)
    assert "silent" in report.note
    assert y.shape == (2, 3 * rate)
    assert not y.any()
    x = material("noise").copy()
    x[:, RATE:] = 0
    _, x, y = extended(write(tmp_path / "half.wav", x, subtype="PCM_16"))
    # one frame of the model (1024 of 48 kHz) and the splice's filter may ring, dither may not
    assert not y[:, RATE + 2_048 :].any()


def test_5_1_is_linked_and_the_lfe_passes(tmp_path):
    x = np.concatenate([material("noise"), np.zeros((4, 2 * RATE))])
    lfe = signal.butter(8, 80, fs=RATE, output="sos")
    x[3] = signal.sosfiltfilt(lfe, np.random.default_rng(0).normal(size=x.shape[1]))
    x[5] = x[0]
    _, x, y = extended(write(tmp_path / "in.wav", x))
    same = [bool(np.array_equal(a, b)) for a, b in zip(x, y, strict=True)]
    assert same == [False, False, True, True, True, False]
    assert np.array_equal(y[0], y[5])


def test_nan_is_named_and_nothing_is_written(tmp_path):
    x = material("noise").copy()
    x[1, 54_321] = np.nan
    source = write(tmp_path / "in.wav", x)
    with pytest.raises(NotFiniteError, match=r"channel 2 .* sample 54321 "):
        extend_file(source, tmp_path / "out.wav", Settings())
    assert [p.name for p in tmp_path.iterdir()] == ["in.wav"]


# ---- P2, length, rate, place


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(
    "knobs", [{}, {"cutoff": 2_000, "rate": "keep"}, {"cutoff": 2_000, "rate": 44_100}], ids=str
)
def test_p2_length_and_rate_of_any_file(tmp_path, rate, knobs):
    for num_samples in (0, 1, 2, 97, 1_009):
        x = 0.1 * np.random.default_rng(0).normal(size=(1, num_samples))
        source = write(tmp_path / f"{num_samples}.wav", x, rate)
        report = extend_file(source, tmp_path / f"{num_samples}.out.wav", Settings(**knobs))
        info = soundfile.info(tmp_path / f"{num_samples}.out.wav")
        wanted = {"keep": rate, 44_100: 44_100}.get(knobs.get("rate"), report.sample_rate)
        assert info.samplerate == report.sample_rate == wanted
        assert info.frames == report.num_samples == int(num_samples * wanted / rate + 0.5)


@pytest.mark.parametrize("rate", RATES)
def test_p2_an_impulse_stays_on_its_sample(tmp_path, rate):
    place = rate // 2
    x = np.zeros((1, rate))
    x[0, place] = 1.0
    x = low_passed(x, 0.35 * rate / 2, rate)
    report, x, y = extended(write(tmp_path / "in.wav", 0.5 * x, rate))
    # seen in the low band: the phases of what is generated are the model's own affair
    low = low_passed(y, 0.3 * rate / 2, report.sample_rate)
    assert int(np.abs(low[0]).argmax()) * rate == place * report.sample_rate


# ---- P3, the file stays that file


def chunk(name, body):
    return name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def chunks(data):
    place, found = 12, []
    while place + 8 <= len(data):
        (size,) = struct.unpack_from("<I", data, place + 4)
        found.append((data[place : place + 4], data[place + 8 : place + 8 + size]))
        place += 8 + size + size % 2
    return found


def test_p3_every_chunk_survives_the_command_line(tmp_path):
    x = material("music")
    pcm = np.round(x.T * 32_767).astype("<i2").tobytes()
    fmt = struct.pack("<HHIIHH", 1, 2, RATE, RATE * 4, 4, 16)
    bext = bytearray(602)
    bext[:11] = b"description"
    history = b"A=ANALOGUE,M=stereo,T=Studer\r\n"
    before = [(b"bext", bytes(bext) + history), (b"iXML", b"<BWFXML>odd</BWFXML>!"[:21])]
    after = [
        (b"cue ", struct.pack("<IIIIIII", 1, 1, 999, 0x61746164, 0, 0, 999)[:28]),
        (b"LIST", b"INFOINAM\x05\0\0\0name\0\0"),
        (b"QQQQ", b"unknown and odd"),
    ]
    body = b"WAVE" + b"".join(chunk(*c) for c in before) + chunk(b"fmt ", fmt)
    body += chunk(b"data", pcm) + b"".join(chunk(*c) for c in after)
    (tmp_path / "in.wav").write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)

    [report] = map(
        json.loads,
        command(
            tmp_path, "extend", "in.wav", "-o", "out.wav", "--json", "--seed", "5"
        ).splitlines(),
    )
    data = (tmp_path / "out.wav").read_bytes()
    assert struct.unpack_from("<I", data, 4)[0] == len(data) - 8
    new = chunks(data)
    old_names = [name for name, _ in [*before, (b"fmt ", b""), (b"data", b""), *after]]
    assert [name for name, _ in new if name in old_names] == old_names
    found = dict(new)
    assert found[b"fmt "] == fmt
    for name, old in [*before[1:], *after]:
        assert found[name] == old
    assert found[b"bext"][:602] == bytes(bext)
    assert found[b"bext"][602:].startswith(history)
    assert b"audiosr-bridge" in found[b"bext"][602 + len(history) :]
    [record] = [json.loads(b) for name, b in new if name not in old_names and b[:1] == b"{"]
    assert record["model_sha256"] == report["model_sha256"]
    assert record["seed"] == report["seed"] == 5


# ---- P4, no hidden level


@pytest.mark.parametrize("name", ["noise", "tones", "speech"])
def test_p4_half_the_level_in_is_half_the_level_out(tmp_path, name):
    _, _, whole = extended(write(tmp_path / "in.wav", material(name)))
    for halvings in (1, 4, 7):
        x = material(name) * 2.0**-halvings
        report, _, y = extended(write(tmp_path / f"{halvings}.wav", x))
        assert report.extended
        back = y * 2.0**halvings - whole
        # float32 rounds the logarithms of levels, nothing else
        assert decibel(np.square(back).sum() / np.square(whole).sum()) < -120


# ---- P5, position does not matter


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff"])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_p5_a_region_is_that_place_of_the_whole(tmp_path, suffix, subtype):
    source = write(tmp_path / f"in.{suffix}", material("music"), subtype=subtype)
    _, x, whole = extended(source)
    report, _, part = extended(source, region=(0.5, 1.2345))
    a, b = report.region
    assert (a, b) == (RATE // 2, round(1.2345 * RATE))
    assert np.array_equal(part[:, a:b], whole[:, a:b])
    assert np.array_equal(part[:, :a], x[:, :a])
    assert np.array_equal(part[:, b:], x[:, b:])
    assert not np.array_equal(part[:, a:b], x[:, a:b])


def test_p5_the_region_flag_takes_seconds(tmp_path):
    source = write(tmp_path / "in.wav", material("noise", 4.0), subtype="PCM_24")
    command(tmp_path, "extend", "in.wav", "-o", "out.wav", "--region", "1.5:3.25")
    changed = np.flatnonzero((read(tmp_path / "out.wav") != read(source)).any(axis=0))
    # noise of two channels: a sample that dither leaves as it was is rare
    assert round(1.5 * RATE) <= changed[0] < round(1.5 * RATE) + 10
    assert round(3.25 * RATE) - 10 < changed[-1] + 1 <= round(3.25 * RATE)


# ---- P6, joins


def test_p6_joins_are_no_louder_and_have_no_spikes(tmp_path):
    """Two joins of the real model's chunks (8 s), on noise, where a step would be seen best."""
    report, x, y = extended(write(tmp_path / "in.wav", material("noise", 18.0)))
    assert report.extended
    added = (y - x)[0]
    stride, overlap = 8 * RATE, round(0.04 * RATE)
    level = [
        decibel(np.mean(added[k * stride : k * stride + overlap] ** 2))
        for k in (1, 2)
    ]  # fmt: skip
    around = added[RATE : 17 * RATE]
    # 1764 samples of noise in a band of 14 kHz: 2·B·T = 1100 degrees of freedom, 0.19 dB; 4 sigma
    # and 0.2 dB for the model's own changes of level
    assert np.abs(np.array(level) - decibel(np.mean(around**2))).max() < 1.0
    bend = np.abs(np.diff(around, 2))
    for k in (1, 2):
        here = bend[k * stride - RATE - 10 :][: overlap + 20]
        assert here.max() <= np.quantile(bend, 0.99999)


# ---- P12, the same in, the same out


def test_p12_twice_the_same_bytes_whatever_the_threads(tmp_path):
    names = ["wav.wav", "flac.flac"]
    for name in names:
        write(tmp_path / name, material("music"), subtype="PCM_24")
    for threads in ("1", "2"):
        command(tmp_path, "extend", *names, "-o", threads, "-q", OMP_NUM_THREADS=threads)
    for name in names:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
