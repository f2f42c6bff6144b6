"""Laws of the road from recordings to weights, walked once on a tiny corpus."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audiosr_core.families import Condition
from audiosr_core.training import corpus, synthetic
from audiosr_core.training.batches import Batches, codec_holes, response
from audiosr_core.training.export import export
from audiosr_core.training.loop import Plan, Run


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus with one recording in every group that is not synthetic."""
    root = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    rows = []
    names = ["sax/a.flac", "tagelharpa/a.flac", "body/a.flac", "speech/a.flac", "esc10/x_1-1.flac"]
    for name in [*names, "esc10/held_4-1.flac"]:
        path = root / "recordings" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.normal(0, 0.1, 80_000), 44_100)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        rows.append({"file": name, "sha256": digest, "licence": "CC0", "source": "test"})
    (root / "recordings" / "manifest.json").write_text(json.dumps({"files": rows}))
    kit = root / "packages" / "drumkits" / "Audiophob"
    kit.mkdir(parents=True)
    soundfile.write(kit / "kick.wav", rng.normal(0, 0.1, 20_000), 44_100)
    _soundfont(root / "packages" / "MuseScore_General_Full.sf2")
    found = corpus.prepare(root / "packages", root / "recordings", root / "packed")
    assert not any("held" in row.name for row in found)
    corpus.write_manifest(found, root / "packed" / "manifest.json")
    return root / "packed"


def _soundfont(path: Path) -> None:
    """The least SoundFont: one sample, its header, in a RIFF."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return name + len(body).to_bytes(4, "little") + body + b"\0" * (len(body) & 1)

    samples = (np.random.default_rng(1).normal(0, 3000, 30_000)).astype("<i2")
    header = b"tone".ljust(20, b"\0") + b"".join(
        value.to_bytes(4, "little") for value in (100, 29_000, 200, 300, 44_100)
    )
    header += bytes([60, 0]) + b"\0\0" + b"\1\0"
    body = chunk(b"LIST", b"sdta" + chunk(b"smpl", samples.tobytes()))
    body += chunk(b"LIST", b"pdta" + chunk(b"shdr", header))
    path.write_bytes(chunk(b"RIFF", b"sfbk" + body))


def test_the_manifest_names_source_licence_and_hash_of_everything(packed: Path) -> None:
    pool, rows = corpus.load(packed)
    assert sum(row.num_samples for row in rows) == len(pool)
    assert {"instruments", "drums", "sax", "esc10", "synthetic"} <= {row.group for row in rows}
    record = json.loads((packed / "manifest.json").read_text())
    assert len(record["files"]) == len(rows)
    for name, source, licence, digest, edge in record["files"]:
        assert name
        assert source
        assert licence
        assert len(digest) == 64
        assert corpus.MIN_EDGE_HZ <= edge <= 24_000


@pytest.mark.parametrize("edge_hz", [9_000, 12_000, 16_000, 19_000])
def test_the_edge_of_a_recording_is_measured(edge_hz: int) -> None:
    x = np.random.default_rng(0).normal(0, 0.1, 96_000)
    spectrum = np.fft.rfft(x)
    spectrum[np.fft.rfftfreq(96_000, 1 / 48_000) > edge_hz] *= 1e-4
    assert abs(corpus.measured_edge(np.fft.irfft(spectrum)) - edge_hz) <= 500
    assert corpus.measured_edge(x) == 24_000


def test_synthetic_sound_is_full_band_bounded_and_the_same_again() -> None:
    first = dict(synthetic.pieces(5, 2, 2))
    again = dict(synthetic.pieces(5, 2, 2))
    for name, x in first.items():
        assert np.array_equal(x, again[name])
        assert 0.1 < np.abs(x).max() <= 1.0
        assert np.isfinite(x).all()


def test_batches_are_reproducible_and_the_low_band_is_below_the_target(packed: Path) -> None:
    one, two = (Batches(packed, 7, 4, 32_768).next() for _ in range(2))
    assert torch.equal(one.target, two.target)
    assert torch.equal(one.low, two.low)
    frequency = torch.fft.rfftfreq(32_768, 1 / 48_000)
    for i in range(4):
        low, target = (torch.fft.rfft(x[i]).abs() for x in (one.low, one.target))
        lows = frequency < 0.4 * one.cutoff_hz[i]
        assert low[lows].sum() == pytest.approx(float(target[lows].sum()), rel=0.3)
        highs = frequency > min(2.5 * float(one.cutoff_hz[i]), 22_000)
        assert low[highs].square().sum() < 0.5 * target[highs].square().sum()


def test_responses_cut_where_they_say() -> None:
    frequency = np.linspace(0, 24_000, 4_097)
    rng = np.random.default_rng(0)
    for _ in range(200):
        gain, cutoff = response(rng, frequency)
        assert 900 < cutoff < 21_000
        assert gain.max() < 1.1
        assert gain[frequency < 0.3 * cutoff].min() > 0.7
        assert gain[frequency > min(23_000, 4 * cutoff)].max(initial=0) < 0.35


def test_codec_holes_only_open_in_the_upper_half() -> None:
    power = torch.ones(64, 40, 513)
    keep = codec_holes(power, torch.full((64,), 300), torch.Generator().manual_seed(0))
    assert (keep[:, :, :150] == 1).all()
    holed = (keep == 0).flatten(1).any(1)
    assert 1 <= int(holed.sum()) <= 24


def test_training_learns_resumes_and_exports_what_the_engine_loads(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from audiosr_core import store

    torch.manual_seed(0)
    Run(packed, tmp_path, Plan(steps=2, batch=2, warmup=1, save_every=1)).train()
    again = Run(packed, tmp_path, Plan(steps=3, batch=2, warmup=1, save_every=1))
    assert again.step == 2
    again.train()
    second = Run(packed, tmp_path, Plan(steps=2, stage=2, batch=2, warmup=1))
    before = [p.clone() for p in second.network.parameters()]
    second.train()
    changed = [
        not torch.equal(a, b) for a, b in zip(before, second.network.parameters(), strict=True)
    ]
    assert all(changed)  # the gate learns, too
    export(tmp_path / "stage2.pt", tmp_path, "tiny")
    monkeypatch.setattr(store, "EMBEDDED", tmp_path)
    y = store.load_model("tiny").generate(np.ones((1, 9_000), np.float32), 0, Condition(4_000.0))
    assert np.isfinite(y).all()
