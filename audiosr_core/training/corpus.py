"""The corpus of `lite`: permissively licensed recordings, measured and packed into one array.

    Debian packages (apt-get download, dpkg -x)  ─┐
    a folder of recordings with a manifest.json  ─┼─ measure ─ corpus.npy + corpus.json
    synthetic speech and noise                   ─┘

44.1 kHz material is played as 48 kHz: 8.8 % faster, but with a spectrum that truly ends at
24 kHz (AudioLBM, arXiv 2509.17609, does the like for its higher rates). Nothing of this is
committed; the manifest with hashes, licences and attributions is.
"""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy import signal

from audiosr_core.training import synthetic

SAMPLE_RATE = 48_000
MIN_SAMPLES = 4_096
MIN_EDGE_HZ = 8_000.0

PACKAGES = {
    "musescore-general-soundfont-lossless": "MIT (parts public domain, CC0)",
    "hydrogen-drumkits": "Audiophob: CC0; rumpf_kit_z01_h2: CC BY 3.0 (used kits only)",
}
KITS = {"Audiophob": "CC0 1.0", "rumpf_kit_z01_h2": "CC BY 3.0"}


@dataclass(frozen=True)
class Recording:
    """One row of the manifest, and where its samples lie in the packed array."""

    name: str
    source: str
    licence: str
    sha256: str
    start: int
    num_samples: int
    edge_hz: float  # played at 48 kHz
    group: str


def fetch_packages(folder: Path) -> None:
    """Download the Debian packages of `PACKAGES` and unpack them into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        if not list(folder.glob(f"{package}_*.deb")):
            subprocess.run(["apt-get", "download", package], cwd=folder, check=True)
        for deb in folder.glob(f"{package}_*.deb"):
            subprocess.run(["dpkg", "-x", deb.name, "."], cwd=folder, check=True)


def soundfont_samples(path: Path) -> Iterator[tuple[str, NDArray[np.int16], int]]:
    """Names, 16-bit samples and rates of the one-shots in a SoundFont 2 (its `smpl` and `shdr`)."""
    data = path.read_bytes()
    pool = headers = b""
    at = 12
    while at + 8 <= len(data):
        size = struct.unpack_from("<I", data, at + 4)[0]
        if data[at : at + 4] == b"LIST":
            end, inner = at + 8 + size, at + 12
            while inner + 8 <= end:
                length = struct.unpack_from("<I", data, inner + 4)[0]
                body = data[inner + 8 : inner + 8 + length]
                if data[inner : inner + 4] == b"smpl":
                    pool = body
                elif data[inner : inner + 4] == b"shdr":
                    headers = body
                inner += 8 + length + (length & 1)
        at += 8 + size + (size & 1)
    samples = np.frombuffer(pool, "<i2")
    for row in struct.iter_unpack("<20sIIIIIBbHH", headers):
        name, start, end, _, _, rate = row[:6]
        if end > start:
            yield name.split(b"\0")[0].decode("latin-1"), samples[start:end], rate


def measured_edge(x: NDArray[np.floating], sample_rate: int = SAMPLE_RATE) -> float:
    """Where the content ends: after it, no 250 Hz band comes within 15 dB of the kHz before."""
    if len(x) < 2048:
        x = np.pad(x, (0, 2048 - len(x)))
    frequency, power = signal.welch(x, sample_rate, ("kaiser", 14.0), 2048, 1024)
    bands = np.arange(0, sample_rate / 2, 250.0)
    level = np.array(
        [
            10 * np.log10(power[(frequency >= f) & (frequency < f + 250)].mean() + 1e-20)
            for f in bands
        ]
    )
    for i in range(16, len(bands) - 3):
        if level[i - 4 : i].mean() - level[i + 3 :].max() > 15:
            return float(bands[i])
    return sample_rate / 2


def _pieces(
    packages: Path, recordings: Path
) -> Iterator[tuple[str, str, str, str, str, NDArray[np.int16]]]:
    """name, source, licence, sha256, group, samples played as 48 kHz."""
    for sf2 in sorted(packages.rglob("MuseScore_General_Full.sf2")):
        for name, x, rate in soundfont_samples(sf2):
            if rate >= 32_000:
                digest = hashlib.sha256(x.tobytes()).hexdigest()
                yield name, sf2.name, "MIT", digest, "instruments", x
    for kit, licence in KITS.items():
        for path in sorted(packages.rglob(f"drumkits/{kit}/*")):
            if path.suffix.lower() in (".flac", ".wav", ".aiff"):
                x, _ = soundfile.read(path, dtype="int16", always_2d=True)
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                yield f"{kit}/{path.name}", "hydrogen-drumkits", licence, digest, "drums", x[:, 0]
    rows = json.loads((recordings / "manifest.json").read_text())["files"]
    for row in rows:
        if row["file"].startswith("esc10/") and "_4-" in row["file"]:
            continue  # fold 4 is held out for evaluation
        path = recordings / row["file"]
        raw = path.read_bytes()
        if hashlib.sha256(raw).hexdigest() != row["sha256"]:
            raise ValueError(f"{row['file']} is not the file of its manifest")
        x, _ = soundfile.read(path, dtype="int16", always_2d=True)
        group = row["file"].split("/")[0]
        yield row["file"], row["source"], row["licence"], row["sha256"], group, x[:, 0]
    for name, y in synthetic.pieces(seed=1):
        x = np.round(np.clip(y, -1, 1) * 32767).astype(np.int16)
        digest = hashlib.sha256(x.tobytes()).hexdigest()
        yield name, "audiosr_core.training.synthetic", "CC0 1.0", digest, "synthetic", x


def prepare(packages: Path, recordings: Path, out: Path) -> list[Recording]:
    """Measure and pack everything; writes corpus.npy (int16) and corpus.json beside it."""
    out.mkdir(parents=True, exist_ok=True)
    rows: list[Recording] = []
    parts: list[NDArray[np.int16]] = []
    start = 0
    for name, source, licence, digest, group, x in _pieces(packages, recordings):
        if len(x) < MIN_SAMPLES or np.abs(x).max() < 300:
            continue
        edge = measured_edge(x[: 20 * SAMPLE_RATE].astype(np.float32) / 32768)
        if edge < MIN_EDGE_HZ:
            continue
        rows.append(Recording(name, source, licence, digest, start, len(x), edge, group))
        parts.append(x)
        start += len(x)
    np.save(out / "corpus.npy", np.concatenate(parts))
    (out / "corpus.json").write_text(json.dumps([asdict(row) for row in rows]))
    return rows


def write_manifest(rows: list[Recording], path: Path) -> None:
    """What the weights were trained on: name, source, licence, SHA-256, minutes and edge."""
    groups: dict[str, dict[str, object]] = {}
    for group in sorted({row.group for row in rows}):
        mine = [row for row in rows if row.group == group]
        groups[group] = {
            "recordings": len(mine),
            "minutes": round(sum(row.num_samples for row in mine) / SAMPLE_RATE / 60, 1),
            "licences": sorted({row.licence for row in mine}),
        }
    files = [[r.name, r.source, r.licence, r.sha256, round(r.edge_hz)] for r in rows]
    record = {
        "what": "training data of lite; edge_hz as played at 48 kHz",
        "packages": PACKAGES,
        "groups": groups,
        "columns": ["name", "source", "licence", "sha256", "edge_hz"],
        "files": files,
    }
    text = json.dumps(record, indent=1)
    rows_text = ",\n".join("  " + json.dumps(row) for row in files)
    head, _ = text.split('"files": [', 1)
    path.write_text(head + '"files": [\n' + rows_text + "\n ]\n}\n")


def load(folder: Path) -> tuple[NDArray[np.int16], list[Recording]]:
    """The packed array (memory-mapped) and its rows."""
    rows = [Recording(**row) for row in json.loads((folder / "corpus.json").read_text())]
    return np.load(folder / "corpus.npy", mmap_mode="r"), rows
