"""Super-resolution that looks like a pedalboard plugin: knobs as properties, arrays in and out.

    sr = SuperResolution("music", mix=0.8)      computes here or in the daemon: the same samples
    sr(audio, 44_100)                           a whole sound: measured first, then extended
    sr.process(block, 44_100, reset=False)      a stream: the cutoff follows, nothing is measured

Files go another way, for they can be read twice: `analyse`, then `open`.
"""

from __future__ import annotations

import contextlib
import os
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from audiosr_core.audio import Samples
from audiosr_core.decision import Decision, output_rate
from audiosr_core.errors import SettingsError, UsageError
from audiosr_core.presets import differences, load_preset
from audiosr_core.settings import KNOBS, Settings
from audiosr_core.splice import MIN_WIDTH_HZ, width_hz
from bridge.worker_engine import follow
from plugin_host.arrays import ArrayProcessor
from plugin_host.automation import Breakpoints, Curve, breakpoints
from plugin_host.errors import ChainError
from plugin_host.place import Place, Where

if TYPE_CHECKING:
    from audiosr_core.engine import EngineLike, Parts
    from audiosr_core.files import FileInfo

Pieces = Iterator[tuple[Samples, Samples]]
OnStep = Callable[[], None]

AUTOMATED = ("mix", "gain_hf_db")
"""The knobs that may be breakpoints: they turn what was generated, and not how."""


class SuperResolution(ArrayProcessor):
    """Restores the missing high band of a sound; works alone, and as a step of a `Chain`.

    Args:
        preset: name or file of a preset to start from
        device, precision: where a large model computes, in this process
        daemon: True for the daemon, False for this process, None for the daemon if it runs
        connection: connection file of another daemon
        engine: its owner's; it serves one sound at a time
        knobs: of `Settings`; they win over the preset. `mix` and `gain_hf_db` may also be
            breakpoints, [(seconds, value), ...]

    Knobs are properties: `sr.mix = 0.5` holds from the next sound on. What computes is opened with
    the first sound, and let go of by `close`, the end of a `with`, or the end of the object.
    """

    name = "SuperResolution"

    def __init__(
        self,
        preset: str | os.PathLike[str] | None = None,
        *,
        device: str | None = None,
        precision: str | None = None,
        daemon: bool | None = None,
        connection: str | os.PathLike[str] | None = None,
        engine: EngineLike | None = None,
        **knobs: Any,
    ) -> None:
        self._where = Where(
            device, precision, daemon, None if connection is None else Path(connection)
        )
        if engine is not None and self._where != Where():
            raise UsageError("an engine computes where it is; leave out the place, or the engine")
        self._settings = Settings() if preset is None else load_preset(preset).settings()
        self._automation: dict[str, Breakpoints] = {}
        self._turn(knobs)
        self._engine = engine
        self._place: Place | None = None
        self._let_go: Callable[[], object] = lambda: None
        self._given: Decision | None = None
        self._decision: Decision | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what computes; the next sound opens it again."""
        self.reset()
        self._let_go()
        self._place = None

    def __getattr__(self, name: str) -> Any:
        if name not in KNOBS:
            raise AttributeError(f"SuperResolution has no {name!r}; its knobs: {', '.join(KNOBS)}")
        automated = self._automation.get(name)
        return getattr(self._settings, name) if automated is None else automated

    def __setattr__(self, name: str, value: Any) -> None:
        if name in KNOBS:
            self._turn({name: value})
        elif name.startswith("_") or hasattr(type(self), name):
            super().__setattr__(name, value)
        else:
            raise AttributeError(f"SuperResolution has no {name!r}; its knobs: {', '.join(KNOBS)}")

    def __dir__(self) -> Iterable[str]:
        return [*super().__dir__(), *KNOBS]

    def __repr__(self) -> str:
        turned = "".join(f" {name}={value!r}" for name, value in self.differences().items())
        return f"<SuperResolution{turned}>"

    @property
    def settings(self) -> Settings:
        """The knobs; those that are automated stand where they do nothing."""
        return self._settings

    @property
    def automation(self) -> dict[str, Breakpoints]:
        """Breakpoints by knob."""
        return dict(self._automation)

    @property
    def decision(self) -> Decision | None:
        """What was decided for the last sound.

        Set it, and it holds for every sound from then on, none of which is measured any more;
        None lets every sound be decided anew.
        """
        return self._decision

    @decision.setter
    def decision(self, decision: Decision | None) -> None:
        self._given = self._decision = decision

    @property
    def engine(self) -> EngineLike:
        """Where it computes."""
        if self._engine is not None:
            return self._engine
        return self._opened().engine

    @property
    def where(self) -> Where:
        """What was said of where it computes."""
        return self._where

    @contextlib.contextmanager
    def on_file(
        self,
        info: FileInfo,
        dry_run: bool,
        on_progress: Callable[[float], None],
        engine: EngineLike | None = None,
    ) -> Iterator[EngineLike]:
        """Compute for this file alone as long as the `with` lasts; see `EngineLike.on_file`.

        Args:
            engine: instead of its own
        """
        owned = self._engine
        with (engine or self.engine).on_file(info, None, dry_run, on_progress) as here:
            self._engine = here
            try:
                yield here
            finally:
                self._engine = owned

    def differences(self) -> dict[str, Any]:
        """The knobs that differ from their defaults, breakpoints as lists."""
        turned = {name: own for name, (own, _) in differences(self._settings, Settings()).items()}
        lists = {name: [list(point) for point in at] for name, at in self._automation.items()}
        return turned | lists

    def analyse(
        self,
        blocks: Iterable[Samples],
        read: Callable[[int, int], Samples],
        sample_rate: int,
        num_channels: int,
        on_step: OnStep = lambda: None,
    ) -> Decision:
        """Everything that is decided once for a sound; see `Engine.analyse`."""
        if self._given is not None:
            return self._given
        self._decision = self.engine.analyse(
            blocks, read, sample_rate, num_channels, self._settings, on_step
        )
        return self._decision

    def open(
        self,
        sample_rate: int,
        num_channels: int,
        decision: Decision | None = None,
        on_step: OnStep = lambda: None,
    ) -> SuperResolutionStage:
        """A stage for one sound.

        Args:
            decision: what `analyse` gave; without one, the cutoff is measured all along, nothing
                is known of the level, and the rate is kept
            on_step: called all along while the model works; raise from it to cancel
        """
        settings, decision = self._settings, decision or self._given
        if decision is None:
            settings, decision = follow(sample_rate, num_channels, settings)
        if len(decision.skipped) != num_channels:
            raise ChainError(
                f"the decision is one for {len(decision.skipped)} channels, and the sound has"
                f" {num_channels}; set decision=None, or give it such a sound"
            )
        self._decision = decision
        return self._stage(self.engine, sample_rate, num_channels, settings, decision, on_step)

    def stage(self, sample_rate: int, num_channels: int, buffer_size: int) -> SuperResolutionStage:
        """As `open`."""
        return self.open(sample_rate, num_channels)

    def whole(self, samples: Samples, sample_rate: int, buffer_size: int) -> tuple[Samples, int]:
        """A whole sound, [channels, samples]: measured, then extended; it keeps its rate.

        Warns where it would have to be given another rate to be extended.
        """
        settings = self._settings
        if settings.rate == "auto":
            settings = settings.replace(rate="keep")
        exact = samples.astype(np.float64)  # as files are read

        def extended(engine: EngineLike) -> tuple[Samples, Decision]:
            rate, count = sample_rate, len(exact)
            decision = self._given or engine.analyse(
                [exact], lambda a, b: exact[:, a:b], rate, count, settings, lambda: None
            )
            stage = self._stage(engine, rate, count, settings, decision, lambda: None)
            return np.concatenate([stage.push(exact), stage.flush()], axis=1), decision

        place = None if self._engine else self._opened()
        made, decision = place.attempt(extended) if place else extended(self.engine)
        self._decision = decision
        self._warn(sample_rate, decision)
        return made.astype(samples.dtype, copy=False), decision.rate_out

    def _stage(
        self,
        engine: EngineLike,
        sample_rate: int,
        num_channels: int,
        settings: Settings,
        decision: Decision,
        on_step: OnStep,
    ) -> SuperResolutionStage:
        parts = engine.open(sample_rate, num_channels, settings, decision, None, on_step)
        return SuperResolutionStage(parts, sample_rate, num_channels, decision, self._curve())

    def _curve(self) -> Callable[[Decision], Curve] | None:
        """Of the automation as it is now; None without any."""
        if not self._automation:
            return None
        mix = self._automation.get("mix", ((0.0, self._settings.mix),))
        gain_hf_db = self._automation.get("gain_hf_db", ((0.0, self._settings.gain_hf_db),))
        transition = self._settings.transition

        def curve(decision: Decision) -> Curve:
            moves = decision.follow  # and the crossover may be as narrow as they get
            width = MIN_WIDTH_HZ if moves else width_hz(decision.cutoff.hz, transition)
            return Curve(mix, gain_hf_db, decision.rate_out, width)

        return curve

    def _turn(self, knobs: dict[str, Any]) -> None:
        moving = {
            name: breakpoints(name, value)
            for name, value in knobs.items()
            if name in AUTOMATED and not isinstance(value, str | int | float)
        }
        still = {name: value for name, value in knobs.items() if name not in moving}
        neutral = {name: KNOBS[name].default for name in moving}
        settings = self._settings.replace(**neutral, **still)
        if settings.mode != "product":
            raise SettingsError(
                "SuperResolution is a step of the product; for the reference mode use"
                " `audiosr-bridge extend --mode reference`"
            )
        self._settings = settings
        kept = {name: at for name, at in self._automation.items() if name not in still}
        self._automation = kept | moving

    def _opened(self) -> Place:
        if self._place is None:
            place = self._place = Place(self._where, self.name, _warn)
            self._let_go = weakref.finalize(self, place.close)
        return self._place

    def _warn(self, sample_rate: int, decision: Decision) -> None:
        """Where only the rate is in the way."""
        settings = self._settings
        wanted = output_rate(sample_rate, decision.cutoff, settings)
        heard = not all(decision.skipped) and settings.mix > 0
        if not decision.extends and heard and wanted > sample_rate:
            _warn(
                f"the sound reaches {decision.cutoff.hz / 1000:.1f} kHz, and at {sample_rate} Hz"
                f" there is no room for more, so nothing was added; say rate={wanted}"
            )


class SuperResolutionStage:
    """One sound on its way: blocks in, what has settled out, as one or as its two parts."""

    def __init__(
        self,
        parts: Parts,
        sample_rate: int,
        num_channels: int,
        decision: Decision,
        curve: Callable[[Decision], Curve] | None = None,
    ) -> None:
        self.decision = decision
        self._parts, self._rate, self._num_channels = parts, sample_rate, num_channels
        self._curve = None if curve is None else curve(decision)
        self._given = 0  # samples out
        self._dtype: np.dtype[np.floating] = np.dtype(np.float64)

    @property
    def sample_rate_out(self) -> int:
        """Hz."""
        return self.decision.rate_out

    def push(self, samples: Samples) -> Samples:
        """Take a block, [channels, samples]; give what has settled, in the block's type."""
        self._dtype = samples.dtype
        return self._joined(self.push_split(samples))

    def flush(self, tail_samples: int = 0) -> Samples:
        """Give the rest; nothing sounds on after the end, so a tail is silence."""
        rest = self._joined(self.flush_split())
        return np.pad(rest, ((0, 0), (0, tail_samples)))

    def push_split(self, samples: Samples) -> Pieces:
        """As `push`, but the original and what is to be added apart, piece by piece."""
        return self._shaped(self._parts.push_split(samples.astype(np.float64)))

    def flush_split(self) -> Pieces:
        """As `flush`, likewise."""
        return self._shaped(self._parts.flush_split())

    def _shaped(self, pieces: Pieces) -> Pieces:
        for original, high in pieces:
            num_samples = high.shape[1]
            if self._curve is not None:
                factors = self._curve.at(self._given, num_samples)
                high = high.astype(np.float32) * factors  # a daemon sends it in the sound's type
            self._given += num_samples
            yield original, high

    def _joined(self, pieces: Pieces) -> Samples:
        """Their sum; where nothing is added, the original to the bit."""
        settled = [np.where(high == 0, original, original + high) for original, high in pieces]
        empty: NDArray[np.float64] = np.zeros((self._num_channels, 0))
        return np.concatenate([empty, *settled], axis=1).astype(self._dtype, copy=False)


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=2)
