"""cutoff.npz and the manifest's cutoff_table: whole sounds through the front end.

A row of the table says what the published code finds, or that it raises. Keys name their places:
`cumulative_fraction_at_bins_32_128`, `mel_cutoff_bin_after_lowpass_ellip`.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from audiosr_core.errors import AudioSRError
from audiosr_core.reference.back import replace_low_mel, replace_low_wave
from audiosr_core.reference.front import (
    fit,
    fit_frames,
    normalise,
    padded_seconds,
    prepare,
    rolloff_bin,
    target_frames,
    to_rate,
)
from tests.parity.recorded import Array, ParitySet, first_channel
from tests.parity.tally import EXACT, Tally, Tolerance
from tests.parity.tolerances import tolerance

FILE = "cutoff.npz"
ONE_BIN = Tolerance(1.0, 0.0)
"""The manifest allows it after a low-pass, whose last bits differ between environments."""

AFTER_LOWPASS = r"(?P<what>.+)_after_lowpass_(?P<kind>[a-z0-9]+)"


def table(parity: ParitySet, tally: Tally) -> None:
    """Lengths, level and rolloff of every row, its error or what the low-pass made of it."""
    file = parity.recording(FILE)
    for row in parity.manifest.get("cutoff_table", []):
        signal = f"{row['name']}/pcm16"
        if signal in file:
            _row(parity, tally, row, first_channel(file[signal]))
            tally.names.add(signal)


def _row(parity: ParitySet, tally: Tally, row: dict[str, Any], wave: Array) -> None:
    rate, name = int(row["sample_rate"]), row["name"]
    kinds = {match["kind"] for key in row if (match := re.fullmatch(AFTER_LOWPASS, key))}
    fails = row.get("error") is not None
    found: dict[str, Any] = {}
    for kind in sorted(kinds) or ["ellip"]:  # which one does not matter to what raises
        try:
            found |= _after_lowpass(parity, wave, rate, kind)
        except AudioSRError:
            tally.agree(f"{name}: error", "raises", "raises" if fails else "does not raise")
        else:
            tally.agree(f"{name}: error", "does not raise", "raises" if fails else "does not raise")
    try:
        found |= _before_lowpass(parity, wave, rate, row)
    except AudioSRError:
        tally.agree(f"{name}: error", "raises", "raises" if fails else "does not raise")
    for key, value in row.items():
        if key in found:
            recorded = np.nan if value is None else value
            recorded = np.asarray(recorded, np.float64)
            tally.compare(f"{name}: {key}", found[key], recorded, _allowed(parity, key))


def _before_lowpass(
    parity: ParitySet, wave: Array, rate: int, row: dict[str, Any]
) -> dict[str, Any]:
    """What is known even of a sound that the low-pass cannot take."""
    model = parity.config.mel
    seconds = padded_seconds(len(wave), rate, _multiple(parity))
    frames = target_frames(seconds, model.sample_rate / model.hop)
    level = normalise(to_rate(wave, rate, model.sample_rate))
    padded = fit(level, int(model.sample_rate * seconds))
    magnitude = fit_frames(parity.mel.magnitude(parity.tensor(padded)), frames)
    stft = magnitude[:, :-1].cpu().numpy()
    bin = rolloff_bin(stft)
    found: dict[str, Any] = {
        "padded_seconds": seconds,
        "target_frames": frames,
        "normalized_peak": float(np.abs(padded).max()),
        "stft_cutoff_bin": bin,
        "detected_hz": bin / stft.shape[1] * model.sample_rate / 2,
    }
    for key in row:
        if match := re.fullmatch(r"cumulative_fraction_at_bins_([\d_]+)", key):
            bins = [int(one) for one in match[1].split("_")]
            total = np.cumsum(stft.sum(axis=0, dtype=np.float64))
            with np.errstate(invalid="ignore"):
                found[key] = (total / total[-1])[bins]
    return found


def _multiple(parity: ParitySet) -> float:
    return float(parity.info("config")["audio"]["chunk_multiple_seconds"])


def _after_lowpass(parity: ParitySet, wave: Array, rate: int, kind: str) -> dict[str, Any]:
    front = prepare(wave, rate, parity.mel, kind)  # type: ignore[arg-type]
    silence = np.zeros_like(front.low_mel)
    low_wave = replace_low_wave(front.wave, front.low_wave)
    return {
        "hz_used": front.cutoff_hz,
        f"mel_cutoff_bin_after_lowpass_{kind}": replace_low_mel(silence, front.low_mel).cutoff_bin,
        f"stft_cutoff_index_after_lowpass_{kind}": low_wave.cutoff_bin,
        "lowpassed_rms": float(np.sqrt(np.mean(front.low_wave.astype(np.float64) ** 2))),
    }


def _allowed(parity: ParitySet, key: str) -> Tolerance:
    if re.fullmatch(AFTER_LOWPASS, key):
        return ONE_BIN
    if key == "lowpassed_rms":
        return tolerance(parity, "lowpass")
    if key == "normalized_peak":
        return tolerance(parity, "level")
    return tolerance(parity, "fraction") if key.startswith("cumulative") else EXACT
