"""What each kind of number may differ by: the manifest's words, or ours where it has none.

"schedule.npz": "1e-6 abs (sqrt_recip* near t=999: relative 1e-3)"
                 ^ the first number is the largest absolute difference; others by their word
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tests.parity.recorded import Array, ParitySet
from tests.parity.tally import Tolerance

NUMBER = r"(\d+(?:\.\d+)?(?:e-?\d+)?)"

# kind: its key in "suggested_tolerance", and what holds if that is not there
SUGGESTED: Mapping[str, tuple[str, Tolerance]] = {
    "schedule": ("schedule.npz", Tolerance(1e-6)),
    "log mel": ("dsp.npz mel", Tolerance(2e-3, rms=1e-4)),
    "resample": ("dsp.npz resample", Tolerance(2e-6)),
    "lowpass": ("dsp.npz lowpass", Tolerance(1e-5)),
    "post": ("dsp.npz post", Tolerance(2e-5)),
    "networks": ("nets.npz unet/vae/vocoder", Tolerance(1e-4)),
    "ddim": ("nets.npz ddim", Tolerance(5e-4)),
    "latents": ("e2e latents", Tolerance(2e-3)),
    "waves": ("e2e waves", Tolerance(2e-3, correlation=0.9999)),
    "full size": ("full_config.npz", Tolerance(2e-4)),
}

# what the manifest has no word for
OWN: Mapping[str, Tolerance] = {
    # sums over 2048 samples of a half-scale wave; float32 FFTs differ in their last bits
    "stft": Tolerance(1e-4, relative=1e-5),
    # shares of a sum, recorded in float32; a bin holds a thousandth
    "fraction": Tolerance(1e-6),
    # weights of unit area, below 0.07, from triangles in float32; some libraries use float64
    "filterbank": Tolerance(1e-6),
    # one multiplication and one subtraction at half of full scale
    "level": Tolerance(1e-6),
    # of another computer and other libraries; the manifest reports 8.1e-3 near the clamp
    "official log mel": Tolerance(1e-2, rms=2e-4),
}


def tolerance(parity: ParitySet, kind: str) -> Tolerance:
    """Of one kind of number, from the set's own manifest where it says one."""
    if kind in OWN:
        return OWN[kind]
    key, default = SUGGESTED[kind]
    text = str(parity.manifest.get("suggested_tolerance", {}).get(key, ""))
    if not (first := re.match(NUMBER, text)):
        return default
    rms = re.search(NUMBER + " rms", text)
    correlation = re.search("correlation > " + NUMBER, text)
    return Tolerance(
        float(first[1]),
        rms=float(rms[1]) if rms else default.rms,
        correlation=float(correlation[1]) if correlation else default.correlation,
    )


def near_zero_snr(parity: ParitySet) -> Tolerance:
    """Of the reciprocals of ᾱ where it is nearly 0; the manifest gives it relatively."""
    text = str(parity.manifest.get("suggested_tolerance", {}).get(SUGGESTED["schedule"][0], ""))
    said = re.search("relative " + NUMBER, text)
    return replace(tolerance(parity, "schedule"), relative=float(said[1]) if said else 1e-3)


def log_mel_rounding(magnitude: Array, bands: Array) -> Array:
    """How far the log-mel of a float32 STFT may be from that of another, [frames, mel bins].

    Every bin of an FFT has the rounding noise of the frame's loudest one, half a unit in its
    last place; a band adds the noise of its bins by power. It matters where a band is a million
    times quieter than the loudest bin: of tones, the recorded numbers themselves are 3e-3 from
    those of exact arithmetic, more than the manifest's 2e-3.

    Args:
        magnitude: |STFT|, [frames, n_fft/2 + 1]
        bands: [n_fft/2 + 1, mel bins]
    """
    noise = 2.0**-24 * magnitude.max(axis=1, keepdims=True) * np.sqrt((bands**2).sum(axis=0))
    return np.asarray(noise / np.maximum(magnitude @ bands, 1e-5))
