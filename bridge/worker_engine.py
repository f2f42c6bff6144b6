"""The engine as the worker needs it: loaded when wanted, patient when memory runs out.

What the worker needs is `ChunkEngine`; `RealEngine` is the one there is, around
`audiosr_core.engine`, and torch arrives with its first model. Tests have others.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import gc
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from audiosr_core.audio import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, Audio, Samples
from audiosr_core.chunking import ChunkPlan
from audiosr_core.errors import DeviceError, SettingsError
from audiosr_core.settings import Settings
from bridge.jobs import Priority

if TYPE_CHECKING:
    from audiosr_core.decision import Decision
    from audiosr_core.engine import Engine
    from audiosr_core.stream import Compute

HighBand = NDArray[np.float32]
Pieces = Iterator[tuple[Samples, HighBand]]
OnStep = Callable[[], None]

WEIGHTS = 1.2  # of the file: what loaded weights take
WORKING_BYTES = {"lite": 100 << 20, "audiosr": 1500 << 20}  # docs/performance.md: memory
GIB = 1 << 30


class LiveStream(Protocol):
    """What the worker needs of a stream of little latency, whose chunks are small steps.

    It gives what has settled from its origin on. Step k is settled when input has come up to
    k·stride + latency_samples.
    """

    @property
    def plan(self) -> ChunkPlan: ...

    @property
    def latency_samples(self) -> int: ...

    def push_split(self, samples: Samples) -> Pieces: ...

    def flush_split(self) -> Pieces: ...


class ChunkStream(LiveStream, Protocol):
    """What the worker needs of a `Stream`."""

    @property
    def first_out(self) -> int:
        """Output sample that the first piece begins at."""


@dataclasses.dataclass(frozen=True)
class Sound:
    """What is known of a sound before it is opened."""

    dtype: str = "f4"
    num_samples: int | None = None  # None where nobody knows yet
    region: tuple[int, int] | None = None
    start: int = 0  # output sample from which on anything is wanted
    priority: Priority = "interactive"


class ChunkEngine(Protocol):
    """What the worker needs of an engine."""

    def on_sound(self, sound: Sound) -> ChunkEngine:
        """The engine for this sound alone."""

    def close(self) -> None:
        """Let go of what is held of the sound."""

    def is_loaded(self, settings: Settings) -> bool:
        """Whether `load` would be quick."""

    def load(self, settings: Settings) -> str:
        """Load the model; where it runs. Also tried again where memory ran out."""

    def model_sha256(self, settings: Settings) -> str: ...

    def sample_rate(self, settings: Settings) -> int:
        """The model's."""

    def place(self, settings: Settings) -> str:
        """Kind of device and precision in which chunks are computed now."""

    def analyse(
        self,
        blocks: Iterable[Samples],
        read: Callable[[int, int], Samples],
        sample_rate: int,
        num_channels: int,
        settings: Settings,
        on_step: OnStep,
    ) -> Any:
        """As `Engine.analyse`."""

    def decision(self, values: Mapping[str, Any], sample_rate: int, num_channels: int) -> Any:
        """A decision that was sent; SettingsError where a field of it cannot be."""

    def follow(
        self, sample_rate: int, num_channels: int, settings: Settings
    ) -> tuple[Settings, Any]:
        """For a stream, of which nothing can be known beforehand."""

    def open(
        self,
        sample_rate: int,
        num_channels: int,
        settings: Settings,
        decision: Any,
        region: tuple[int, int] | None,
        on_step: OnStep,
        compute: Any,
        origin: int,
    ) -> ChunkStream:
        """As `Engine.open`."""

    def open_live(
        self, sample_rate: int, num_channels: int, settings: Settings, origin: int
    ) -> LiveStream:
        """As `Engine.open_live`."""

    @property
    def high_band(self) -> Compute:
        """What computes one chunk."""

    def relieve(self, settings: Settings) -> bool:
        """After memory ran out: make it need less; False where nothing is left to try."""

    def memory_text(self, settings: Settings) -> str:
        """What is needed and what is there, as a clause with numbers."""

    def extend_as_published(
        self, audio: Audio, settings: Settings, on_stage: Callable[[str, Any], None]
    ) -> Audio:
        """As `Engine.extend_as_published`."""


class RealEngine:
    """`audiosr_core.engine`, imported with the first job.

    Args:
        device, precision: as for `Engine`
        allow_cpu: where the device has too little memory, go on with the CPU
    """

    def __init__(
        self, device: str = "auto", precision: str = "auto", allow_cpu: bool = False
    ) -> None:
        self._device, self._precision, self._allow_cpu = device, precision, allow_cpu
        self._engines: dict[str, Engine] = {}  # by device
        self._on_cpu: set[str] = set()  # models that had to go there
        self._loaded: set[str] = set()
        self._emptied: set[str] = set()  # models for which all there was to free was freed

    def on_sound(self, sound: Sound) -> RealEngine:
        """Itself: it holds nothing of a sound."""
        return self

    def close(self) -> None:
        """Nothing."""

    def is_loaded(self, settings: Settings) -> bool:
        return settings.model in self._loaded

    def load(self, settings: Settings) -> str:
        """Raises DeviceError, with numbers, where the model cannot fit."""
        if not self.is_loaded(settings):
            self._check_memory(settings)
        model = self._model(settings)
        self._loaded.add(settings.model)
        return str(getattr(model, "device", "cpu"))

    def model_sha256(self, settings: Settings) -> str:
        from audiosr_core.store import model_info

        return model_info(settings.model).sha256

    def sample_rate(self, settings: Settings) -> int:
        return int(self._model(settings).sample_rate)

    def place(self, settings: Settings) -> str:
        model = self._model(settings)
        device = getattr(model, "device", None)  # without one, it stays on the CPU in float32
        if device is None:
            return "cpu:fp32"
        precision = "fp32" if self._precision == "auto" else self._precision
        return f"{device.type}:{precision}"

    def analyse(
        self,
        blocks: Iterable[Samples],
        read: Callable[[int, int], Samples],
        sample_rate: int,
        num_channels: int,
        settings: Settings,
        on_step: OnStep,
    ) -> Decision:
        return self._engine(settings).analyse(
            blocks, read, sample_rate, num_channels, settings, on_step
        )

    def decision(self, values: Mapping[str, Any], sample_rate: int, num_channels: int) -> Decision:
        return decision_from(values, num_channels)

    def follow(
        self, sample_rate: int, num_channels: int, settings: Settings
    ) -> tuple[Settings, Decision]:
        return follow(sample_rate, num_channels, settings)

    def open(
        self,
        sample_rate: int,
        num_channels: int,
        settings: Settings,
        decision: Decision,
        region: tuple[int, int] | None,
        on_step: OnStep,
        compute: Compute,
        origin: int = 0,
    ) -> ChunkStream:
        return self._engine(settings).open(
            sample_rate, num_channels, settings, decision, region, on_step, compute, origin
        )

    def open_live(
        self, sample_rate: int, num_channels: int, settings: Settings, origin: int
    ) -> LiveStream:
        return self._engine(settings).open_live(sample_rate, num_channels, settings, origin)

    def high_band(
        self,
        model: Any,
        plan: ChunkPlan,
        index: int,
        piece: Samples,
        decision: Decision,
        settings: Settings,
        on_step: OnStep = lambda: None,
    ) -> HighBand:
        """`stream.high_band`, with the model where it is now and not where the stream began."""
        from audiosr_core.stream import high_band

        made = high_band(self._model(settings), plan, index, piece, decision, settings, on_step)
        self._emptied.discard(settings.model)
        return made

    def relieve(self, settings: Settings) -> bool:
        """Free what is kept for speed; then fewer rows at once; then the CPU."""
        model = self._model(settings)
        need_less = getattr(model, "need_less", None)
        needs_less = need_less is not None and need_less()
        free_memory()
        if needs_less:
            return True
        if settings.model not in self._emptied:  # with what was freed, once as it was
            self._emptied.add(settings.model)
            return True
        on_cpu = str(getattr(model, "device", "cpu")).startswith("cpu")
        if not on_cpu and self._allow_cpu:
            self._on_cpu.add(settings.model)
            return True
        return False

    def memory_text(self, settings: Settings) -> str:
        where, free = self._free_bytes(settings)
        return (
            f"about {_gib(self._needed_bytes(settings))} GiB are needed and {_gib(free)} GiB are"
            f" free on {where}"
        )

    def extend_as_published(
        self, audio: Audio, settings: Settings, on_stage: Callable[[str, Any], None]
    ) -> Audio:
        return self._engine(settings).extend_as_published(audio, settings, on_stage)

    def _engine(self, settings: Settings) -> Engine:
        from audiosr_core.engine import Engine

        device = "cpu" if settings.model in self._on_cpu else self._device
        if device not in self._engines:
            precision = self._precision if device == self._device else "fp32"
            self._engines[device] = Engine(device, precision)
        return self._engines[device]

    def _model(self, settings: Settings) -> Any:
        return self._engine(settings).model(settings)

    def _needed_bytes(self, settings: Settings) -> int:
        from audiosr_core.store import model_info

        info = model_info(settings.model)
        return int(WEIGHTS * info.size_bytes) + WORKING_BYTES.get(info.family, 0)

    def _free_bytes(self, settings: Settings) -> tuple[str, int]:
        from audiosr_core.device import choose_device
        from audiosr_core.store import model_info

        small = model_info(settings.model).family == "lite"
        on_cpu = small or settings.model in self._on_cpu
        device = "cpu" if on_cpu else choose_device(self._device)
        if device.startswith("cuda"):
            import torch

            return device, int(torch.cuda.mem_get_info(torch.device(device))[0])
        import psutil

        return "this machine", int(psutil.virtual_memory().available)

    def _check_memory(self, settings: Settings) -> None:
        needed = self._needed_bytes(settings)
        where, free = self._free_bytes(settings)
        if needed <= free:
            return
        free_memory()
        where, free = self._free_bytes(settings)
        if needed > free and self._allow_cpu and where != "this machine":
            self._on_cpu.add(settings.model)
            where, free = self._free_bytes(settings)
        if needed > free:
            raise DeviceError(
                f"the model {settings.model!r} needs about {_gib(needed)} GiB, and"
                f" {_gib(free)} GiB are free on {where}; close other programs, or use another"
                " --device or --model lite"
            )


def patient(engine: ChunkEngine, settings: Settings) -> Compute:
    """The engine's `high_band`, tried again with less where memory ran out.

    Raises:
        DeviceError: there is nothing left to try; it says how much is needed and free
    """

    def compute(
        model: Any,
        plan: ChunkPlan,
        index: int,
        piece: Samples,
        decision: Decision,
        settings_then: Settings,
        on_step: OnStep = lambda: None,
    ) -> HighBand:
        while True:
            try:
                return engine.high_band(model, plan, index, piece, decision, settings_then, on_step)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error)
            # only here has the error let go of what it kept alive
            on_step()
            if not engine.relieve(settings):
                raise DeviceError(
                    f"chunk {index} needs more memory than there is:"
                    f" {engine.memory_text(settings)}; close other programs, or use"
                    f" --precision fp16, another --device or --model lite ({reason})"
                )

    return compute


def is_out_of_memory(error: BaseException | None) -> bool:
    """Memory ran out, in whatever words; torch is not imported to find out."""
    while error is not None:
        names = {kind.__name__ for kind in type(error).__mro__}
        if names & {"MemoryError", "OutOfMemoryError"} or "can't allocate memory" in str(error):
            return True
        error = error.__cause__
    return False


def is_broken_device(error: BaseException) -> bool:
    """After such an error of CUDA every later call of this process fails too."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return not is_out_of_memory(error) and (
        "AcceleratorError" in names
        or (isinstance(error, RuntimeError) and str(error).startswith("CUDA error"))
    )


def free_memory() -> None:
    """Give back what is kept only for speed."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()
    with contextlib.suppress(AttributeError, OSError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)


def follow(sample_rate: int, num_channels: int, settings: Settings) -> tuple[Settings, Decision]:
    """Settings and decision of a stream: the cutoff measured all along, the rate kept."""
    from audiosr_core.cutoff import Cutoff
    from audiosr_core.decision import decide

    if settings.cutoff == "auto":
        settings = settings.replace(cutoff="follow")
    if isinstance(settings.cutoff, str):  # where a chunk says little, nothing is added
        cutoff = Cutoff(sample_rate / 2, 0.0, False, "measured all along")
    else:
        cutoff = Cutoff(float(settings.cutoff), 1.0, False, "given")
    kept = settings.replace(rate="keep") if settings.rate == "auto" else settings
    return settings, decide(sample_rate, cutoff, False, (False,) * num_channels, kept)


def decision_from(values: Mapping[str, Any], num_channels: int) -> Decision:
    """A decision as a client sent it back, checked; SettingsError names the field."""
    from audiosr_core.cutoff import Cutoff
    from audiosr_core.decision import Decision

    cutoff = values.get("cutoff")
    if not isinstance(cutoff, Mapping):
        raise SettingsError(f"cutoff of a decision must be an object, got {cutoff!r:.60}")
    skipped = values.get("skipped")
    if (
        not isinstance(skipped, list | tuple)
        or len(skipped) != num_channels
        or not all(isinstance(one, bool) for one in skipped)
    ):
        raise SettingsError(
            f"skipped of a decision must be {num_channels} times true or false, got {skipped!r:.60}"
        )
    return Decision(
        rate_out=int(_number(values, "rate_out", MIN_SAMPLE_RATE, MAX_SAMPLE_RATE, whole=True)),
        cutoff=Cutoff(
            hz=_number(cutoff, "hz", 100, MAX_SAMPLE_RATE / 2),
            confidence=_number(cutoff, "confidence", 0, 1),
            full_band=_flag(cutoff, "full_band"),
            note=_text(cutoff, "note"),
        ),
        extends=_flag(values, "extends"),
        follow=_flag(values, "follow"),
        skipped=tuple(skipped),
        gain_db=_number(values, "gain_db", -60, 60),
        note=_text(values, "note"),
        peak=_number({"peak": 1.0, **values}, "peak", 5e-324, 1e30),
    )


def as_dict(decision: Any) -> dict[str, Any]:
    """A decision as JSON has it."""
    return dataclasses.asdict(decision)


def _number(
    values: Mapping[str, Any], name: str, minimum: float, maximum: float, whole: bool = False
) -> float:
    value = values.get(name)
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not minimum <= value <= maximum:
        raise SettingsError(
            f"{name} of a decision must be {minimum:.10g} to {maximum:.10g}, got {value!r:.60}"
        )
    return value if whole else float(value)


def _flag(values: Mapping[str, Any], name: str) -> bool:
    value = values.get(name)
    if not isinstance(value, bool):
        raise SettingsError(f"{name} of a decision must be true or false, got {value!r:.60}")
    return value


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name, "")
    if not isinstance(value, str) or len(value) > 4096:
        raise SettingsError(f"{name} of a decision must be text, got {value!r:.60}")
    return value


def _gib(count: int) -> str:
    return f"{math.floor(count / GIB * 10) / 10:.1f}"
