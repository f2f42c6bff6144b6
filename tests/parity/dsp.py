"""dsp.npz: everything before and after the networks, piece by piece."""

from __future__ import annotations

import re

import numpy as np

from audiosr_core.errors import AudioSRError
from audiosr_core.lowpass import lowpass
from audiosr_core.reference.back import final_level, replace_low_mel, replace_low_wave
from audiosr_core.reference.front import fit_frames, normalise, rolloff_bin, to_rate
from tests.parity.recorded import Array, ParitySet, base_name, kept, thinned
from tests.parity.tally import EXACT, Tally
from tests.parity.tolerances import log_mel_rounding, tolerance

FILE = "dsp.npz"


def filterbank(parity: ParitySet, tally: Tally) -> None:
    file = parity.recording(FILE)
    for name, _ in file.matching(r"mel/filterbank"):
        ours = parity.mel.bands.T.cpu().numpy()
        tally.compare(name, ours, file[name], tolerance(parity, "filterbank"))


def log_mel(parity: ParitySet, tally: Tally) -> None:
    """STFT, log-mel, its padded tail and its rolloff, of each recorded wave."""
    file = parity.recording(FILE)
    words = parity.description(FILE)
    for case in file.cases(r"mel/([^/]+)/wave"):
        magnitude = parity.mel.magnitude(parity.tensor(file[f"mel/{case}/wave"]))
        mel = parity.mel.log_mel(magnitude)
        spectrum = magnitude.cpu().numpy()
        logs = mel.cpu().numpy()
        rounding = log_mel_rounding(spectrum, parity.mel.bands.cpu().numpy())
        for name, match in file.matching(rf"mel/{re.escape(case)}/(.+)"):
            value = match[1]
            if value.startswith("stft_mag"):
                recorded = file[name]
                ours = _turned(value, spectrum, recorded, words)
                tally.compare(name, ours, recorded, tolerance(parity, "stft"))
            elif padded := re.fullmatch(r"log_mel_padded_to_(\d+)_frames_tail", value):
                recorded = file[name]
                ours = fit_frames(mel, int(padded[1])).cpu().numpy()
                start = _place(ours, recorded)
                tail = slice(start, start + len(recorded))
                doubt = np.pad(rounding, ((0, len(ours) - len(logs)), (0, 0)))[tail]
                tally.compare(name, ours[tail], recorded, tolerance(parity, "log mel"), doubt)
            elif value.startswith("log_mel"):
                recorded = file[name]
                ours, doubt = (_turned(value, one, recorded, "") for one in (logs, rounding))
                tally.compare(name, ours, recorded, tolerance(parity, "log mel"), doubt)
            elif value == "cutoff_bin":
                tally.compare(name, rolloff_bin(spectrum[:, :-1]), file[name], EXACT)


def _place(whole: Array, piece: Array) -> int:
    """Where a piece of the frames lies; the set does not say how far a tail goes."""
    starts = range(len(whole) - len(piece) + 1)
    return min(starts, key=lambda i: float(np.abs(whole[i : i + len(piece)] - piece).max()))


def _turned(value: str, frames_by_bins: Array, recorded: Array, words: str) -> Array:
    """In the recorded order of axes, thinned along the frames."""
    ours = frames_by_bins.T
    if base_name(value) != value:
        ours = kept(value, frames_by_bins).T
    if "bins_by_frames" in value:
        return thinned(ours, recorded, words)
    return thinned(ours, recorded.T, words).T


def level(parity: ParitySet, tally: Tally) -> None:
    """Mean removed and peak set, of the waves that the mel stage uses."""
    file = parity.recording(FILE)
    for name, match in file.matching(r"norm/([^/]+)/normalized.*"):
        own = f"norm/{match[1]}/wave"
        wave = file[own if own in file else f"mel/{match[1]}/wave"]
        recorded = file[name]
        ours = kept(name, normalise(wave))
        if base_name(name) == name:
            ours = thinned(ours, recorded, parity.description(FILE))
        tally.compare(name, ours, recorded, tolerance(parity, "level"))


def resample(parity: ParitySet, tally: Tally) -> None:
    file = parity.recording(FILE)
    for name, match in file.matching(r"resample/(\d+)/out(\d+)k"):
        rate_in, rate_out = int(match[1]), 1000 * int(match[2])
        ours = to_rate(file[f"resample/{rate_in}/in"], rate_in, rate_out)
        tally.compare(name, ours, file[name], tolerance(parity, "resample"))


def low_pass(parity: ParitySet, tally: Tally) -> None:
    """Every kind at every cutoff; and where the published code raised, ours must."""
    file = parity.recording(FILE)
    rate = parity.config.mel.sample_rate
    for name, match in file.matching(r"lowpass/([^/]+)/([\d.]+?)(_error|_every\d+)?"):
        kind, hertz = match[1], float(match[2])
        try:
            ours = lowpass(file["lowpass/in"], hertz, kind, rate)  # type: ignore[arg-type]
        except AudioSRError:
            file.used.add(name)
            tally.agree(name, "raises", "raises" if match[3] == "_error" else "does not")
            continue
        if match[3] == "_error":
            file.used.add(name)
            tally.agree(name, "does not raise", "raises")
            continue
        recorded = file[name]
        ours = kept(name, ours) if match[3] else thinned(ours, recorded, parity.description(FILE))
        tally.compare(name, ours, recorded, tolerance(parity, "lowpass"))


def wave_replacement(parity: ParitySet, tally: Tally) -> None:
    """The low band put back, and the final level."""
    file = parity.recording(FILE)
    for case in file.cases(r"(post/[^/]+)/generated"):
        made = replace_low_wave(file[f"{case}/generated"], file[f"{case}/lowpassed"])
        final = final_level(made.wave)
        for name, match in file.matching(rf"{re.escape(case)}/(.+)"):
            allowed = tolerance(parity, "post")
            match base_name(match[1]):
                case "out":
                    tally.compare(name, kept(name, made.wave), file[name], allowed)
                case "final":
                    tally.compare(name, kept(name, final), file[name], allowed)
                case "cutoff_index":
                    tally.compare(name, made.cutoff_bin, file[name], EXACT)
                case "energy_ratio_raw":
                    tally.compare(name, made.ratio, file[name], allowed)


def mel_replacement(parity: ParitySet, tally: Tally) -> None:
    file = parity.recording(FILE)
    for case in file.cases(r"(melreplace(?:/[^/]+)?)/generated"):
        generated, low = file[f"{case}/generated"], file[f"{case}/lowpassed"]
        rows = generated.reshape(-1, *generated.shape[-2:])
        lows = np.broadcast_to(low.reshape(-1, *low.shape[-2:]), rows.shape)
        made = [replace_low_mel(row, one) for row, one in zip(rows, lows, strict=True)]
        for name, match in file.matching(rf"{re.escape(case)}/(out|cutoff_bin)"):
            recorded = file[name]
            if match[1] == "out":
                ours = np.stack([one.mel for one in made]).reshape(generated.shape)
                tally.compare(name, ours, recorded, EXACT)
            else:
                bins = np.asarray([one.cutoff_bin for one in made])
                tally.compare(name, bins.reshape(recorded.shape), recorded, EXACT)
