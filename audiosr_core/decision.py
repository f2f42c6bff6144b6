"""What is decided once for a whole sound, before the first chunk.

measured   where the content ends, which channels carry nothing to extend, the gain law
decided    the output rate, and whether there is anything to do at all
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from audiosr_core.cutoff import Cutoff
from audiosr_core.settings import Settings

AUDIBLE_HZ = 20_000.0
DEFAULT_RATE = 48_000
ROOM = 0.05  # a new band narrower than this fraction of the cutoff is not worth having
MODEL_TOP_HZ = 24_000.0
UNSURE = 0.5  # a measured cutoff of less confidence is told as such
RESAMPLER_EDGE = 0.957  # of Nyquist: where soxr's VHQ is 6 dB down


@dataclass(frozen=True)
class Decision:
    """How one sound will be extended. Everything about it is the same in all of its chunks."""

    rate_out: int  # Hz
    cutoff: Cutoff
    extends: bool  # False: nothing is missing, or nothing is there; the sound passes untouched
    follow: bool  # the cutoff is measured again in every chunk
    skipped: tuple[bool, ...]  # per channel: nothing above 200 Hz, passes untouched
    gain_db: float  # of the gain law at the crossover, one per sound
    note: str  # for people: why nothing is extended; empty otherwise
    peak: float = 1.0  # of the whole sound, to about 0.1 dB

    @property
    def full_band(self) -> bool:
        """Nothing was missing, so nothing was added."""
        return self.cutoff.full_band and not self.extends

    @property
    def remark(self) -> str:
        """What people should know of it: why nothing is extended, or that the cutoff is unsure."""
        if not self.extends or self.follow or self.cutoff.confidence >= UNSURE:
            return self.note
        return (
            f"the cutoff of {self.cutoff.hz / 1000:.2f} kHz is unsure (confidence"
            f" {self.cutoff.confidence:.2f}); look at the spectrum, and give --cutoff if it is not"
            " so"
        )


def decide(
    sample_rate: int,
    cutoff: Cutoff,
    silent: bool,
    low_only: tuple[bool, ...],
    settings: Settings,
) -> Decision:
    """Choose the output rate, and whether to extend; the gain law is measured later.

    Args:
        sample_rate: of the input, Hz
        cutoff: measured, or given by the user with confidence 1
        silent: nothing but digital silence
        low_only: per channel, nothing above 200 Hz
    """
    rate_out = output_rate(sample_rate, cutoff, settings)
    # whole Hz: the decision is a number one can write down, give back, and get the same sound
    edge = min(cutoff.hz, top_edge(sample_rate, rate_out))
    cutoff = dataclasses.replace(cutoff, hz=float(round(edge)))
    follow = settings.cutoff == "follow"
    top = min(rate_out / 2, settings.ceiling_hz, MODEL_TOP_HZ)
    given = not isinstance(settings.cutoff, str)
    note = ""
    if silent:
        note = "the sound is silent; nothing was added"
    elif all(low_only):
        note = "no channel has anything above 200 Hz; nothing was added"
    elif settings.mix == 0.0:
        note = "the mix is 0; nothing was added"
    elif follow:
        pass  # every chunk decides for itself
    elif cutoff.full_band and not given and sample_rate / 2 >= AUDIBLE_HZ:
        note = f"{cutoff.note or 'full band'}; nothing was added"
    elif top <= cutoff.hz * (1 + (0 if given else ROOM)):
        note = (
            f"the sound reaches {cutoff.hz / 1000:.1f} kHz, and there is no room for a new band"
            f" below {top / 1000:.1f} kHz; nothing was added"
        )
    return Decision(
        rate_out=rate_out,
        cutoff=cutoff,
        extends=not note,
        follow=follow,
        skipped=low_only,
        gain_db=0.0,
        note=note,
    )


def top_edge(sample_rate: int, rate_out: int) -> float:
    """The highest cutoff: Nyquist, or where the resampler begins to take the very top away."""
    return sample_rate / 2 * (RESAMPLER_EDGE if rate_out > sample_rate else 1.0)


def output_rate(sample_rate: int, cutoff: Cutoff, settings: Settings) -> int:
    """The input's rate where it leaves room above the cutoff, else 48 kHz; `rate` decides."""
    if settings.rate == "keep":
        return sample_rate
    if settings.rate != "auto":
        return int(settings.rate)
    if sample_rate / 2 >= AUDIBLE_HZ or cutoff.hz < 0.9 * sample_rate / 2:
        return sample_rate
    return DEFAULT_RATE
