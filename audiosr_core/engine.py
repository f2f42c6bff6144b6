"""The engine: settings and a sound in, decisions and streams out. Torch begins here.

analyse   one pass over the sound → Decision     the cutoff, the output rate, the gain law
open      Settings, Decision      → Stream
extend    a sound                 → a sound      analyse, one push, a flush
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from audiosr_core.audio import Audio, Samples, check_finite, check_format
from audiosr_core.cutoff import Cutoff, find_cutoff, second_look
from audiosr_core.decision import Decision, decide
from audiosr_core.errors import UsageError
from audiosr_core.families import Model
from audiosr_core.gain_law import measure_gain_law
from audiosr_core.resample import output_length
from audiosr_core.settings import Settings
from audiosr_core.spectrum import SpectrumMeter
from audiosr_core.store import load_model, model_info
from audiosr_core.stream import Compute, Stream, high_band

if TYPE_CHECKING:
    from audiosr_core.files import FileInfo
    from audiosr_core.live import LiveStream

Read = Callable[[int, int], Samples]
"""Samples start .. stop of a sound, [channels, samples]; both inside it."""


PUBLISHED_LIMIT_SECONDS = 10.24  # beyond it the published command warns
PUBLISHED_STEPS = 50  # of its command line

LOOKS = 8  # places of the second look
LOOK_SECONDS = 2


class Parts(Protocol):
    """A stream as the door for files needs it: `Stream`, or its like in another process."""

    def skip(self) -> tuple[int, int]: ...
    def push_split(self, samples: Samples) -> Iterator[tuple[Samples, Samples]]: ...
    def flush_split(self) -> Iterator[tuple[Samples, Samples]]: ...


class EngineLike(Protocol):
    """What the door for files needs of an engine: `Engine`, or one in another process."""

    @property
    def name(self) -> str:
        """Where it computes, for reports."""

    def on_file(
        self,
        info: FileInfo | None,
        region: tuple[int, int] | None,
        dry_run: bool,
        on_progress: Callable[[float], None],
        num_samples: int | None = None,
    ) -> AbstractContextManager[EngineLike]:
        """The engine for this file alone, or for a sound that is in none.

        The end of the `with` lets go of what it held.

        Args:
            num_samples: of a sound that is in no file, if that is known before its end
        """

    def analyse(
        self,
        blocks: Iterable[Samples],
        read: Read,
        sample_rate: int,
        num_channels: int,
        settings: Settings,
        on_step: Callable[[], None],
    ) -> Decision: ...

    def open(
        self,
        sample_rate: int,
        num_channels: int,
        settings: Settings,
        decision: Decision,
        region: tuple[int, int] | None,
        on_step: Callable[[], None],
    ) -> Parts: ...

    def extend_as_published(
        self, audio: Audio, settings: Settings, on_stage: Callable[[str, Any], None]
    ) -> Audio: ...

    def model_sha256(self, settings: Settings) -> str:
        """Of the weights, once they have been used."""


class Engine:
    """Extends sounds with the models of the store.

    Args:
        device: auto, cpu, cuda, cuda:1, mps: where a large model runs
        precision: auto, fp32, bf16, fp16: of its networks
    """

    name = "in-process"

    def __init__(self, device: str = "auto", precision: str = "auto") -> None:
        self.device, self.precision = device, precision

    def on_file(
        self,
        info: FileInfo | None = None,
        region: tuple[int, int] | None = None,
        dry_run: bool = False,
        on_progress: Callable[[float], None] = lambda fraction: None,
        num_samples: int | None = None,
    ) -> AbstractContextManager[Engine]:
        """This engine holds nothing of a file; see `EngineLike`."""
        return nullcontext(self)

    def model_sha256(self, settings: Settings) -> str:
        """Of the weights that these settings use; ModelError if they are missing."""
        return model_info(settings.model).sha256

    def analyse(
        self,
        blocks: Iterable[Samples],
        read: Read,
        sample_rate: int,
        num_channels: int,
        settings: Settings,
        on_step: Callable[[], None] = lambda: None,
    ) -> Decision:
        """Everything that is decided once for a sound.

        Args:
            blocks: the whole sound, in order, in blocks of any size
            read: random access to the same sound, for the gain law
            on_step: called all along while the model works; raise from it to cancel

        Raises:
            NotFiniteError: with the place of the first NaN or Inf
        """
        check_format(sample_rate, num_channels)
        _check_mode(settings)
        model = self.model(settings)
        meter = SpectrumMeter(sample_rate, num_channels)
        total, peak = 0, 0.0
        for block in blocks:
            check_finite(block, total, sample_rate)
            meter.push(block)
            total += block.shape[1]
            peak = max(peak, float(np.abs(block).max(initial=0.0)))
        spectrum = meter.spectrum()
        if isinstance(settings.cutoff, str):
            pieces = (read(a, b) for a, b in _places(total, sample_rate))
            cutoff = second_look(find_cutoff(spectrum), pieces, sample_rate)
        else:
            cutoff = Cutoff(float(settings.cutoff), 1.0, False, "given")
        low_only = tuple(bool(low) for low in spectrum.low_only)
        decision = decide(sample_rate, cutoff, spectrum.silent, low_only, settings)
        if not decision.extends:
            return decision
        decision = dataclasses.replace(decision, peak=_rounded(peak))
        if model.anchored:
            return decision
        gain_db = measure_gain_law(model, read, total, sample_rate, decision, settings, on_step)
        return dataclasses.replace(decision, gain_db=gain_db)

    def open(
        self,
        sample_rate: int,
        num_channels: int,
        settings: Settings,
        decision: Decision,
        region: tuple[int, int] | None = None,
        on_step: Callable[[], None] = lambda: None,
        compute: Compute = high_band,
        origin: int = 0,
    ) -> Stream:
        """A stream for one sound; see `Stream` for all from `region` on."""
        check_format(sample_rate, num_channels)
        _check_mode(settings)
        model = self.model(settings)
        return Stream(
            model, sample_rate, num_channels, settings, decision, region, on_step, compute, origin
        )

    def open_live(
        self, sample_rate: int, num_channels: int, settings: Settings, origin: int = 0
    ) -> LiveStream:
        """A stream with as little latency as can be, at the rate of the sound.

        Args:
            origin: absolute time of the first sample that will be pushed

        Raises:
            UsageError: a model, mode or rate that cannot be live
        """
        from audiosr_core.families.lite import LiteModel
        from audiosr_core.live import LiveStream

        _check_mode(settings)
        model = self.model(settings)
        if not isinstance(model, LiteModel):
            raise UsageError(f"only lite can extend live, got model {settings.model!r}")
        if settings.rate not in ("auto", "keep", sample_rate):
            raise UsageError(
                f"a live stream keeps its rate of {sample_rate} Hz, but rate {settings.rate} was"
                " asked for; leave it out"
            )
        return LiveStream(model, sample_rate, num_channels, settings, origin)

    def extend(self, audio: Audio, settings: Settings) -> Audio:
        """A file is a stream of one block. In reference mode, see `extend_as_published`."""
        if settings.mode == "reference":
            return self.extend_as_published(audio, settings)
        x = audio.samples
        decision = self.analyse(
            [x], lambda a, b: x[:, a:b], audio.sample_rate, audio.num_channels, settings
        )
        stream = self.open(audio.sample_rate, audio.num_channels, settings, decision)
        samples = np.concatenate([stream.push(x), stream.flush()], axis=1)
        return Audio(samples.astype(x.dtype, copy=False), decision.rate_out)

    def extend_as_published(
        self,
        audio: Audio,
        settings: Settings,
        on_stage: Callable[[str, Any], None] = lambda name, value: None,
    ) -> Audio:
        """What the published AudioSR makes of a sound: one channel, 48 kHz, a peak of 0.5.

        Up to 10.24 s in one piece, and longer ones in its chunks of 15 s, as published. Its length
        is that of the sound, where the published command leaves the cutting to another program.

        Args:
            on_stage: told of everything on the way; raise from it to cancel

        Raises:
            UsageError: the model is not AudioSR, or a knob has no place in the published pipeline
            AudioError: what the published code crashes on, silence among it
        """
        from audiosr_core.reference import Draws, run_reference, run_reference_long

        if settings.sampler not in ("auto", "ddim"):
            raise UsageError(f"reference mode samples with ddim, got sampler {settings.sampler!r}")
        model = self.model(settings)
        networks = getattr(model, "networks", None)
        if networks is None:
            raise UsageError(
                f"reference mode is that of AudioSR, and {settings.model!r} is another model;"
                " use --model audiosr-basic"
            )
        run = run_reference if audio.seconds <= PUBLISHED_LIMIT_SECONDS else run_reference_long
        made = run(
            networks,
            audio.samples.astype(np.float32, copy=False),
            audio.sample_rate,
            draws=Draws(settings.seed),
            steps=PUBLISHED_STEPS if settings.steps == "auto" else settings.steps,
            guidance_scale=settings.guidance_scale,
            eta=1.0 if settings.eta == "auto" else settings.eta,
            on_stage=on_stage,
        )
        rate = model.sample_rate
        length = output_length(audio.num_samples, audio.sample_rate, rate)
        return Audio(made[None, :length].astype(np.float32, copy=False), rate)

    def model(self, settings: Settings) -> Model:
        """The model of these settings, loaded once per process."""
        return load_model(settings.model, self.device, self.precision)


def _check_mode(settings: Settings) -> None:
    if settings.mode != "product":
        raise UsageError(
            "reference mode takes a whole sound at once and cannot stream; extend a file or an"
            " array with it, or use the product mode"
        )


def _rounded(peak: float) -> float:
    """To about 0.1 dB, so that it hardly depends on one sample; half the peak is half of it.

    The steps are 1/60 of an octave and counted anew in every octave: a sound of half the level
    gets half the number to the last bit, and so half the result (promise P4).
    """
    if peak == 0:
        return 1.0
    mantissa, exponent = math.frexp(peak)
    return math.ldexp(2 ** (round(60 * math.log2(mantissa)) / 60), exponent)


def _places(num_samples: int, sample_rate: int) -> list[tuple[int, int]]:
    """Start and end of a few pieces, spread evenly over the sound."""
    length = LOOK_SECONDS * sample_rate
    count = max(1, min(LOOKS, num_samples // length))
    starts = (i * max(0, num_samples - length) // max(1, count - 1) for i in range(count))
    return [(start, min(start + length, num_samples)) for start in starts]
