"""`lite`: levels from the network, phases from copied-up bins and noise, one inverse STFT.

low ── STFT on the absolute hop grid ── power ── network ── level, tonality
                │                                                │
                ├── copied up ──┐                                │
noise(seed, t) ─┴── STFT ───────┴── mixed by tonality, at level ─┴── inverse STFT
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from audiosr_core.families import Condition
from audiosr_core.model.excitation import band_weights, copy_map, high_band
from audiosr_core.model.lite import SILENT_POWER, Lite
from audiosr_core.noise import white_noise
from audiosr_core.settings import Settings

TILE_FRAMES = 128
"""How many frames are put together at once: what they need stays in the processor's cache."""


class LiteModel:
    """The embedded model; see docs/models/lite.md."""

    overlap_seconds = 0.04
    anchored = False

    def __init__(self, network: Lite, id: str = "lite") -> None:
        self.id = id
        self.network = network.eval()
        self.config = network.config
        self.window = torch.hann_window(self.config.n_fft)
        self.bands = band_weights(self.config)

    @property
    def sample_rate(self) -> int:
        return self.config.sample_rate

    def stride_seconds(self, settings: Settings) -> float:
        if settings.cutoff == "auto":  # of a whole sound: the longer, the less is done twice
            return 8.0
        return 2.0 if settings.cutoff == "follow" else 4.0  # the plugin holds 5.12 s

    @property
    def grid_samples(self) -> int:
        return 1  # frames lie on the absolute hop grid whatever the slice: see `generate`

    @property
    def past_samples(self) -> int:
        c = self.config
        return c.past_frames * c.hop + c.n_fft + c.hop

    @property
    def future_samples(self) -> int:
        c = self.config
        return c.future_frames * c.hop + c.n_fft + c.hop

    @property
    def latency_samples(self) -> int:
        """What a streaming use would have to wait for: the future it sees, and half a window."""
        c = self.config
        return c.future_frames * c.hop + c.n_fft

    @torch.inference_mode()
    def generate(
        self, low: NDArray[np.float32], start: int, condition: Condition
    ) -> NDArray[np.float32]:
        """See `families.Model`. Frames lie on multiples of the hop in absolute time."""
        c = self.config
        lead = start % c.hop  # back to the grid: these samples are context, taken as silence
        x = torch.from_numpy(np.pad(low, ((0, 0), (lead, 0))))
        noise = torch.from_numpy(white_noise(condition.settings.seed, start - lead, x.shape[1]))[
            None
        ]
        spectrum, hiss = self._stft(x), self._stft(noise)
        cut = c.bin_of(condition.cutoff_hz)
        low_band = spectrum[..., :cut]
        power = low_band.real.square() + low_band.imag.square()
        known = (torch.arange(c.num_bins) < cut).float().expand(len(x), -1)
        level, tonality = self.network(power, known, torch.ones_like(known), cut)
        heard = (power >= SILENT_POWER).any(-1, keepdim=True).float()
        copies, bands = copy_map(c.num_bins, cut)[cut:], self.bands[:, cut:]
        made = torch.zeros_like(spectrum)
        for i in range(0, spectrum.shape[1], TILE_FRAMES):
            condition.on_step()
            at = slice(i, i + TILE_FRAMES)
            copied = spectrum[:, at].index_select(-1, copies)
            tonal = tonality[:, at] @ bands
            made[:, at, cut:] = high_band(
                level[:, at], tonal, copied, hiss[:, at, cut:], heard[:, at]
            )
        out = torch.istft(made.mT, c.n_fft, c.hop, window=self.window, length=x.shape[1])
        return np.ascontiguousarray(out.numpy()[:, lead:])

    def _stft(self, x: torch.Tensor) -> torch.Tensor:
        c = self.config
        spectrum = torch.stft(
            x, c.n_fft, c.hop, window=self.window, return_complex=True, pad_mode="constant"
        )
        return spectrum.mT
