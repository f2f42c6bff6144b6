"""`audiosr`: the published networks, run the way a studio needs them.

    low ── level ── low-pass at the cutoff ── log-mel ── encode ── condition
                                                │                     │
    noise(seed, absolute latent frame) ── x_T ──┼── sampler + guidance ── latent
                                                │                           │
                        low mel bins ───────────┴──── mel ◄──── decode ─────┘
                                                       └── vocoder ── level undone ── wave

    window   |<-margin->|<------ stride ------>|<-overlap->|<-margin->|     5.12 s in all

Windows lie on the grid of latent frames (80 ms) in absolute time, so where two of them meet they
have started from the same noise. The low band of the mel is the sound's own, so the vocoder plays
it at the sound's own level, and what it adds needs no gain (docs/parity.md has the measurement).

Liu et al. 2023 (arXiv 2309.07314). What is better here than published is listed in docs/parity.md.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from audiosr_core.diffusion import SAMPLERS, cosine_schedule, guided, joint
from audiosr_core.diffusion.joint import window_weights
from audiosr_core.errors import DeviceError
from audiosr_core.families import Condition
from audiosr_core.families.graphs import Recorded
from audiosr_core.families.weights import read_networks
from audiosr_core.lowpass import lowpass
from audiosr_core.mel import LogMel
from audiosr_core.model import unet, vocoder
from audiosr_core.model.audiosr import AudioSR
from audiosr_core.noise import latent_noise
from audiosr_core.settings import Settings

WINDOW = 64  # latent frames that the networks see at once, 5.12 s: what they were trained on
MARGIN = 2  # latent frames at each end of a slice, for the filters of the walk
OVERLAP = 4  # latent frames that neighbouring chunks share
JOINT_WINDOWS = 4  # windows denoised together where joins are joint
JOINT_STRIDE = 48  # latent frames from one of them to the next
PEAK = 0.5  # the level at which the networks hear a sound, as published

SAMPLER, STEPS, ETA = "unipc", 10, 0.0
"""What `auto` means; docs/diffusion.md has the measurement."""

_on_step: ContextVar[Callable[[], None]] = ContextVar("_on_step")


@dataclass(frozen=True)
class Precision:
    """In which numbers the networks compute; sampler and spectra are float32 always."""

    unet: torch.dtype = torch.float32
    autoencoder: torch.dtype = torch.float32
    vocoder: torch.dtype = torch.float32


PRECISIONS = {
    "fp32": Precision(),
    "bf16": Precision(unet=torch.bfloat16),
    "fp16": Precision(unet=torch.float16, autoencoder=torch.float16),
}
"""What may leave float32 without being heard: docs/performance.md has the errors."""


class AudioSRModel:
    """One checkpoint on one device. Calls share nothing, so threads may call at once.

    Args:
        networks: on the CPU; they move to the device, and belong to this object from now on
        rows: windows × channels that a network is given at once; None for what suits the device
    """

    overlap_seconds: float
    anchored = True  # see the module's text

    def __init__(
        self,
        networks: AudioSR,
        id: str,
        device: str = "cpu",
        precision: str = "fp32",
        rows: int | None = None,
    ) -> None:
        self.id = id
        self.config = networks.config
        self.device = torch.device(device)
        self.precision = PRECISIONS[precision]
        self.rows = rows or (1 if self.device.type == "cpu" else 16)
        self.networks = networks.to(self.device)
        for part, dtype in (
            (networks.unet, self.precision.unet),
            (networks.autoencoder, self.precision.autoencoder),
            (networks.vocoder, self.precision.vocoder),
        ):
            part.to(dtype)
        self.mel = LogMel(self.config.mel).to(self.device)
        self.schedule = cosine_schedule()
        self.overlap_seconds = OVERLAP * self._latent_seconds
        self._unet: Callable[[Tensor, Tensor], Tensor] = networks.unet
        if self.device.type == "cuda":
            self._unet = Recorded(networks.unet)
        else:  # where one call of a network takes longer than a cancel may
            _tick_inside(networks)

    @property
    def sample_rate(self) -> int:
        return self.config.mel.sample_rate

    @property
    def _latent_seconds(self) -> float:
        return self.config.latent_hop / self.sample_rate

    @property
    def grid_samples(self) -> int:
        return self.config.latent_hop

    @property
    def past_samples(self) -> int:
        return 0  # the margin is of use to the network as well

    @property
    def future_samples(self) -> int:
        return 0

    def stride_seconds(self, settings: Settings) -> float:
        count = WINDOW
        if settings.joins == "joint":
            count += (JOINT_WINDOWS - 1) * JOINT_STRIDE
        return (count - 2 * MARGIN - OVERLAP) * self._latent_seconds

    def need_less(self) -> bool:
        """After memory ran out: forget recorded kernels, halve the rows; False at one row."""
        if isinstance(self._unet, Recorded):
            self._unet.forget()
        fewer, self.rows = self.rows > 1, max(1, self.rows // 2)
        return fewer

    @torch.inference_mode()
    def generate(
        self, low: NDArray[np.float32], start: int, condition: Condition
    ) -> NDArray[np.float32]:
        """See `families.Model`. Any length; the walk's own slices fill whole windows.

        Raises:
            DeviceError: there is not enough memory, or a network gave what is not a number
        """
        with _telling(condition.on_step), _memory_named():
            hop = self.config.latent_hop
            lead = start % hop  # back to the grid; before the slice there is silence
            count = -(-(lead + low.shape[1]) // hop)
            windows = self._windows(count, condition.settings.joins == "joint")
            wave = np.zeros((len(low), windows[-1].stop * hop), np.float32)
            gain = np.float32(PEAK / condition.peak)
            wave[:, lead : lead + low.shape[1]] = gain * low
            mel = self._low_mel(wave, condition.cutoff_hz)
            latent = self._sample(mel, windows, (start - lead) // hop, condition.settings)
            made = self._play(latent, mel, windows, condition.cutoff_hz)
            return made[:, lead : lead + low.shape[1]] / gain

    def _windows(self, count: int, together: bool) -> list[slice]:
        """Windows over at least `count` latent frames."""
        if together and count > WINDOW:
            more = -(-(count - WINDOW) // JOINT_STRIDE)
            return [slice(i * JOINT_STRIDE, i * JOINT_STRIDE + WINDOW) for i in range(more + 1)]
        multiple = self.config.unet.time_multiple
        return [slice(0, max(WINDOW, -(-count // multiple) * multiple))]

    def _low_mel(self, wave: NDArray[np.float32], cutoff_hz: float) -> Tensor:
        """What the networks hear, [channels, 1, frames, mel bins]."""
        if cutoff_hz < self.sample_rate / 2 - 1:
            wave = lowpass(wave, cutoff_hz, "cheby1", self.sample_rate)
        mel: Tensor = self.mel(torch.from_numpy(wave).to(self.device))
        return mel[:, None]

    def _sample(
        self, mel: Tensor, windows: list[slice], first_frame: int, settings: Settings
    ) -> Tensor:
        """The latent of the whole band, unscaled, [channels, 16, frames, bins]."""
        c = self.config
        down = c.autoencoder.downsample

        def encode(at: slice) -> Tensor:
            piece = mel[:, :, at.start * down : at.stop * down]
            return self._by_rows(lambda x: self.networks.autoencoder.encode(x)[0], piece)

        known = _blend([encode(at) for at in windows], windows) * c.scale_factor

        def noise(draw: int) -> Tensor:
            field = latent_noise(
                settings.seed, first_frame, known.shape[2], known.shape[1], known.shape[3], draw
            )
            return torch.from_numpy(field).to(self.device).expand_as(known)

        def predict(x: Tensor, t: int, given: Tensor) -> Tensor:
            both = torch.cat([x, given], dim=1).to(self.precision.unet)
            times = torch.full((len(x),), t, device=self.device)
            return self._unet(both, times).float()

        name, count, eta = sampling(settings)
        sampler = SAMPLERS[name]
        steps = sampler.steps(self.schedule, count)
        predict_v = guided(
            joint(predict, windows, 2 * self.rows) if len(windows) > 1 else predict,
            known,
            c.unconditional * c.scale_factor,
            settings.guidance_scale,
            interval=_interval(settings, len(self.schedule)),
            share_at=steps[0].t,
        )
        z = sampler.sample(
            predict_v, noise(0), steps, lambda i: noise(i + 1), eta, lambda i: _on_step.get()()
        )
        return _finite(z, "diffusion") / c.scale_factor

    def _play(
        self, latent: Tensor, low_mel: Tensor, windows: list[slice], cutoff_hz: float
    ) -> NDArray[np.float32]:
        """Latent to samples, [channels, samples]; the mel below the cutoff is the sound's own."""
        down = self.config.autoencoder.downsample
        low_bins = self._bins_below(cutoff_hz)
        rows = []
        for channel, own in zip(latent, low_mel, strict=True):  # one by one: memory stays small
            parts = [self._decode(channel[None, :, at]) for at in windows]
            mel = _blend(parts, [slice(at.start * down, at.stop * down) for at in windows])[0, 0]
            mel[:, :low_bins] = own[0, :, :low_bins]
            wave: Tensor = self.networks.vocoder(mel.T[None].to(self.precision.vocoder))
            rows.append(_finite(wave[0].float(), "vocoder").cpu().numpy())
        return np.stack(rows)

    def _decode(self, z: Tensor) -> Tensor:
        mel = self.networks.autoencoder.decode(z.to(self.precision.autoencoder))
        return _finite(mel.float(), "autoencoder")

    def _by_rows(self, network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        parts = [network(part.to(self.precision.autoencoder)) for part in torch.split(x, self.rows)]
        return _finite(torch.cat(parts).float(), "autoencoder")

    def _bins_below(self, cutoff_hz: float) -> int:
        """Mel bins whose peak lies below the cutoff."""
        peaks = self.mel.bands.argmax(dim=0) * (self.sample_rate / self.config.mel.n_fft)
        return int((peaks < cutoff_hz).sum())


def load(path: Path, id: str, device: str, precision: str) -> AudioSRModel:
    """The model in this file; see `read_networks` for its errors."""
    return AudioSRModel(read_networks(path), id, device, precision)


def sampling(settings: Settings) -> tuple[str, int, float]:
    """Sampler, steps and eta of these settings, `auto` resolved."""
    name = SAMPLER if settings.sampler == "auto" else settings.sampler
    steps = STEPS if settings.steps == "auto" else settings.steps
    eta = ETA if settings.eta == "auto" else settings.eta
    return name, steps, eta


def _interval(settings: Settings, count: int) -> tuple[int, int]:
    """Guidance at first ≤ t < last."""
    return round(settings.guidance_to * count), round(settings.guidance_from * count)


def _blend(parts: Sequence[Tensor], windows: list[slice]) -> Tensor:
    """Windows of the second-last axis as one, averaged where they meet."""
    if len(parts) == 1:
        return parts[0]
    shape = list(parts[0].shape)
    shape[-2] = windows[-1].stop
    whole = parts[0].new_zeros(shape)
    for at, weight, part in zip(windows, window_weights(windows), parts, strict=True):
        whole[..., at, :] += part.new_tensor(weight)[:, None] * part
    return whole


def _finite(x: Tensor, stage: str) -> Tensor:
    if not bool(torch.isfinite(x).all()):
        raise DeviceError(
            f"the {stage} network must give finite numbers, but some are not; use"
            " --precision fp32, and if it is that already, verify the model"
        )
    return x


@contextlib.contextmanager
def _telling(on_step: Callable[[], None]) -> Iterator[None]:
    token = _on_step.set(on_step)
    try:
        yield
    finally:
        _on_step.reset(token)


@contextlib.contextmanager
def _memory_named() -> Iterator[None]:
    """Torch's ways to say that memory ran out, as one."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise DeviceError(
                "there is not enough memory for this model; use --precision fp16, another"
                " --device, or --model lite"
            ) from error
        raise


def _tick_inside(networks: AudioSR) -> None:
    """Have the networks ask, again and again, whether to go on.

    Where a convolution is large, before each; so on two cores at most a second lies between.
    """
    for part, kind in (
        (networks.unet, unet.Residual),
        (networks.autoencoder, nn.Conv2d),
        (networks.vocoder, vocoder.Conv),
    ):
        for module in part.modules():
            if isinstance(module, kind):
                module.register_forward_pre_hook(lambda module, x: _on_step.get(_nothing)())


def _nothing() -> None:
    pass
