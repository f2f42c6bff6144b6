"""The functions of the official `audiosr` package, on this engine.

    from plugin_host.compat import build_model, super_resolution, save_wave

    model = build_model(model_name="basic", device="auto")
    wave = super_resolution(model, "in.wav", ddim_steps=50)     [1, channels, samples], 48 kHz
    save_wave(wave, "in.wav", "output", name="in", samplerate=48000)

What comes out is the product's work: all channels, any length, the low band untouched. The
published pipeline with its habits is `build_model(exact=True)`. docs/compat.md has every deviation.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import soundfile
from numpy.typing import ArrayLike, NDArray

from audiosr_core.audio import Audio
from audiosr_core.checkpoint import import_model
from audiosr_core.containers.temporary import Temporary
from audiosr_core.errors import AudioError, DeviceError, ModelError, UsageError
from audiosr_core.files import Reader, Writer, check_target, probe
from audiosr_core.published import published_by_hash
from audiosr_core.resample import output_length
from audiosr_core.settings import Settings
from audiosr_core.store import hash_file, list_models, model_info

if TYPE_CHECKING:
    from audiosr_core.engine import Engine

SAMPLE_RATE = 48_000
MODEL_NAMES = ("basic", "speech")
CHUNK_SECONDS, OVERLAP_SECONDS = 15, 2

Waves = NDArray[np.float32]
"""[1, channels, samples] at 48 kHz, as the official functions hand them on."""

OnProgress = Callable[[float], None]


@dataclass(frozen=True)
class CompatModel:
    """What `build_model` gives and `super_resolution` takes as `latent_diffusion`."""

    engine: Engine
    id: str  # of the weights, in the store
    exact: bool = False  # the published pipeline as it is


def build_model(
    ckpt_path: str | os.PathLike[str] | None = None,
    config: Mapping[str, Any] | None = None,
    device: str | None = None,
    model_name: str = "basic",
    *,
    exact: bool = False,
) -> CompatModel:
    """A model of the store, or one made of a checkpoint file; its networks load at first use.

    Args:
        ckpt_path: a local checkpoint: imported once, found by its SHA-256 ever after
        config: sizes of the networks in that checkpoint, if not the published ones
        device: None, auto, cpu, cuda, cuda:1, mps
        model_name: basic or speech; not used with `ckpt_path`
        exact: the published pipeline as it is: one channel, a peak of 0.5

    Raises:
        ModelError: the model is not installed, or the file is no checkpoint
    """
    from audiosr_core.engine import Engine

    if model_name not in MODEL_NAMES:
        raise UsageError(f"model_name must be {' or '.join(MODEL_NAMES)}, got {model_name!r}")
    if config is not None and not isinstance(config, Mapping):
        raise UsageError(
            "config must be a mapping with the sizes of the networks, as 'models import --config'"
            f" reads it, got {config!r}; leave it out for the published sizes"
        )
    if config is not None and ckpt_path is None:
        raise UsageError("config describes the networks of ckpt_path; give both, or neither")
    id = f"audiosr-{model_name}" if ckpt_path is None else _imported(Path(ckpt_path), config)
    model_info(id)
    return CompatModel(Engine(str(device or "auto")), id, exact)


def super_resolution(
    latent_diffusion: CompatModel,
    input_file: str | os.PathLike[str],
    seed: int = 42,
    ddim_steps: int = 200,
    guidance_scale: float = 3.5,
    latent_t_per_second: float = 12.8,
    config: object = None,
    *,
    on_progress: OnProgress = lambda fraction: None,
) -> Waves:
    """A file with its missing high band, [1, channels, samples] at 48 kHz.

    An exact model gives the published [1, 1, 480 · frames + 16] samples of the first channel.

    Args:
        latent_t_per_second, config: without effect, as in the official function
        on_progress: told the fraction done, by an exact model; raise from it to cancel

    Raises:
        AudioSRError: see `audiosr_core.errors`
    """
    knobs = (seed, ddim_steps, guidance_scale)
    return _extended(latent_diffusion, Path(input_file), *knobs, None, on_progress)


def super_resolution_long_audio(
    latent_diffusion: CompatModel,
    input_file: str | os.PathLike[str],
    seed: int = 42,
    ddim_steps: int = 200,
    guidance_scale: float = 3.5,
    chunk_duration_s: float = CHUNK_SECONDS,
    overlap_duration_s: float = OVERLAP_SECONDS,
    *,
    on_progress: OnProgress = lambda fraction: None,
) -> Waves:
    """As `super_resolution`, which takes any length already; an exact model works in chunks.

    Args:
        chunk_duration_s, overlap_duration_s: of an exact model; the product has its own chunks

    Raises:
        UsageError: the overlap is not shorter than the chunk
        AudioSRError: see `audiosr_core.errors`
    """
    knobs = (seed, ddim_steps, guidance_scale)
    chunks = checked_chunks(chunk_duration_s, overlap_duration_s)
    return _extended(latent_diffusion, Path(input_file), *knobs, chunks, on_progress)


def save_wave(
    waveform: ArrayLike,
    inputpath: str | os.PathLike[str],
    savepath: str | os.PathLike[str],
    name: str | Sequence[str] = "outwav",
    samplerate: int = 16_000,
    *,
    exact: bool = False,
) -> None:
    """Write each sound of a batch to SAVEPATH/NAME.wav; more than one, to NAME_0.wav and so on.

    The file has the sample format and the metadata of `inputpath`, and at most its duration. A
    file of that name is replaced, but never `inputpath` itself.

    Args:
        waveform: [batch, channels, samples], array or tensor
        name: one, or one a sound; a folder in it is dropped
        exact: 16-bit PCM without metadata, as the official function writes
    """
    sounds = [Audio.of(one, samplerate) for one in _sounds(waveform)]
    names = [name] * len(sounds) if isinstance(name, str) else list(name)
    if len(names) != len(sounds):
        raise UsageError(f"{len(sounds)} sounds want as many names, got {len(names)}")
    info = probe(inputpath)
    length = output_length(info.num_samples, info.sample_rate, samplerate)
    for i, (sound, one) in enumerate(zip(sounds, names, strict=True)):
        stem = os.path.basename(one).removesuffix(".wav")
        target = Path(savepath) / (f"{stem}.wav" if len(sounds) == 1 else f"{stem}_{i}.wav")
        samples = sound.samples[:, :length]
        if exact:
            check_target(target, info.path, overwrite=True, in_place=False)
            _write_published(target, samples, samplerate)
            continue
        with Writer(
            target,
            replace(info, num_channels=sound.num_channels),
            sample_rate=samplerate,
            container="WAV",
            overwrite=True,
        ) as writer:
            writer.write(samples, True)
            writer.commit()


def settings(
    id: str, seed: int, ddim_steps: int, guidance_scale: float, exact: bool = False
) -> Settings:
    """The official knobs as ours; SettingsError if one is out of range."""
    knobs = Settings(
        model=id,
        seed=seed,
        rate=SAMPLE_RATE,
        steps=ddim_steps,
        guidance_scale=guidance_scale,
    )
    return knobs.replace(mode="reference", sampler="ddim", eta=1.0) if exact else knobs


def checked_chunks(chunk_seconds: float, overlap_seconds: float) -> tuple[float, float]:
    """Both, or UsageError: the overlap is not shorter than the chunk."""
    if not 0 <= overlap_seconds < chunk_seconds < math.inf:
        raise UsageError(
            "the chunk must be longer than the overlap, and both at least 0 s, got chunks of"
            f" {chunk_seconds:g} s and an overlap of {overlap_seconds:g} s"
        )
    return chunk_seconds, overlap_seconds


def _imported(path: Path, config: Mapping[str, Any] | None) -> str:
    """The id in the store of this checkpoint; imported if it is not there yet."""
    if not path.is_file():
        raise ModelError(f"ckpt_path must be a checkpoint file, got {path}; check the name")
    sha256 = hash_file(path)
    models = list_models()
    for one in models:
        if one.provenance.get("source_sha256") == sha256:
            return one.id
    known = published_by_hash(sha256)
    free = known is not None and known.id not in {one.id for one in models}
    id = known.id if known is not None and free else f"checkpoint-{sha256[:12]}"
    return import_model(path, id, config=config).info.id


def _extended(
    model: CompatModel,
    path: Path,
    seed: int,
    ddim_steps: int,
    guidance_scale: float,
    chunks: tuple[float, float] | None,
    on_progress: OnProgress,
) -> Waves:
    """One file, by the product's walk or as published: in one piece, or in chunks."""
    from bridge.worker_engine import is_out_of_memory

    knobs = settings(model.id, seed, ddim_steps, guidance_scale, model.exact)
    with Reader(path) as reader:
        samples = reader.read(0, reader.info.num_samples).astype(np.float32)
        sound = Audio(samples, reader.info.sample_rate)
    if not model.exact:
        return model.engine.extend(sound, knobs).samples[None].astype(np.float32, copy=False)
    try:
        return _published(model.engine, sound, knobs, chunks, on_progress)[None, None]
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(
            f"there is not enough memory for {sound.seconds:.1f} s in the published pipeline; let"
            " it work in chunks, or take the product's"
        ) from error


def _published(
    engine: Engine,
    sound: Audio,
    knobs: Settings,
    chunks: tuple[float, float] | None,
    on_progress: OnProgress,
) -> NDArray[np.float32]:
    """What the published pipeline makes of a sound, [samples]."""
    from audiosr_core.reference import Draws, run_reference, run_reference_long

    if chunks is None:
        run, pieces = run_reference, 1
    else:
        chunk, overlap = chunks
        run = partial(run_reference_long, chunk_seconds=chunk, overlap_seconds=overlap)
        pieces = math.ceil(sound.seconds / (chunk - overlap))
    steps = cast(int, knobs.steps)
    done = 0

    def on_stage(name: str, value: object) -> None:
        nonlocal done
        done += name == "x"
        on_progress(min(1.0, done / (steps * max(1, pieces))))

    made = run(
        cast(Any, engine.model(knobs)).networks,
        sound.samples.astype(np.float32, copy=False),
        sound.sample_rate,
        draws=Draws(knobs.seed),
        steps=steps,
        guidance_scale=knobs.guidance_scale,
        on_stage=on_stage,
    )
    return made.astype(np.float32, copy=False)


def _sounds(waveform: ArrayLike) -> list[Any]:
    """The sounds of a batch, each [channels, samples]."""
    batch = cast(Any, waveform) if hasattr(waveform, "detach") else np.asarray(waveform)
    if batch.ndim != 3 or not len(batch):
        raise AudioError(f"a waveform must be [batch, channels, samples], got {list(batch.shape)}")
    return list(batch)


def _write_published(target: Path, samples: NDArray[np.floating], sample_rate: int) -> None:
    """16-bit PCM, rounded as libsndfile does; whole or not at all."""
    encoded = io.BytesIO()
    soundfile.write(encoded, samples.T, sample_rate, "PCM_16", format="WAV")
    temporary = Temporary(Path(os.path.realpath(target)))
    try:
        temporary.write(encoded.getvalue())
        temporary.publish(replace=True)
    finally:
        temporary.discard()
