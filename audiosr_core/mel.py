"""The log-mel spectrogram that AudioSR's networks speak.

         |--784--|--------------- wave ---------------|--784--|      reflected at both ends
frame 0  |=========|                                                 n_fft 2048, Hann
frame 1     |=========|                                              hop 480: 100 frames a second
frame k             ...
                                                                     480 · T samples → T frames

wave ── |STFT| ── mel bands (Slaney's scale and areas) ── clamp ── natural logarithm
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiosr_core.errors import AudioError
from audiosr_core.model.config import MelConfig


class LogMel(nn.Module):
    """Wave to log-mel; holds the window and the bands, has no weights.

    Any leading axes; what comes out lies on the device of the module.
    """

    window: Tensor  # [n_fft]
    bands: Tensor  # [n_fft/2 + 1, mel_bins]

    def __init__(self, config: MelConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)
        self.register_buffer("bands", mel_bands(config), persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """Natural-log mel of float32 samples, [..., samples] → [..., frames, mel_bins]."""
        return self.log_mel(self.magnitude(wave))

    def magnitude(self, wave: Tensor) -> Tensor:
        """|STFT|, [..., samples] → [..., frames, n_fft/2 + 1].

        Raises:
            AudioError: the wave is too short to be reflected at its ends
        """
        c = self.config
        edge = (c.n_fft - c.hop) // 2
        if wave.shape[-1] <= edge:
            raise AudioError(
                f"a log-mel spectrogram needs more than {edge} samples, got {wave.shape[-1]};"
                " append silence"
            )
        rows = F.pad(wave.reshape(-1, 1, wave.shape[-1]), (edge, edge), mode="reflect")[:, 0]
        spectrum = torch.stft(
            rows, c.n_fft, c.hop, window=self.window, center=False, return_complex=True
        )
        magnitude = spectrum.abs().mT
        return magnitude.reshape(*wave.shape[:-1], *magnitude.shape[1:])

    def log_mel(self, magnitude: Tensor) -> Tensor:
        """Natural-log mel of |STFT|, [..., frames, n_fft/2 + 1] → [..., frames, mel_bins]."""
        return (magnitude @ self.bands).clamp_min(self.config.floor).log()


def mel_bands(config: MelConfig) -> Tensor:
    """Triangles of unit area, evenly spaced in Slaney's mel, [n_fft/2 + 1, mel_bins]."""
    from torchaudio.functional import melscale_fbanks

    bands: Tensor = melscale_fbanks(
        config.n_fft // 2 + 1,
        config.f_min,
        config.f_max,
        config.mel_bins,
        config.sample_rate,
        norm="slaney",
        mel_scale="slaney",
    )
    return bands
