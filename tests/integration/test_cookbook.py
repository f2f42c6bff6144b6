"""The recipes of docs/cookbook.md, run as they stand, on sounds like those of the models."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import signal

from audiosr_core.audio import Audio
from audiosr_core.checkpoint import import_model
from audiosr_core.errors import ModelError
from audiosr_core.store import FOLDER_VARIABLE
from tests.support.checkpoints import TINY, write_official

COOKBOOK = Path(__file__).parents[2] / "docs" / "cookbook.md"
SECONDS = 3
RATE_OUT = 48_000


def blocks(title: str) -> list[str]:
    """The Python blocks of one section; those before the first section are titled ""."""
    sections = re.split(r"^## ", "\n" + COOKBOOK.read_text("utf-8"), flags=re.MULTILINE)
    [section] = [s for s in sections if s.startswith(title + "\n")]
    return re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


def follow(title: str, sound: Any) -> Audio:
    """What the recipe makes of `sound`."""
    [imports], [recipe] = blocks(""), blocks(title)
    assert len(recipe.splitlines()) == 3
    names: dict[str, Any] = {"sound": sound}
    exec(imports + recipe, names)
    extended = names["extended"]
    assert isinstance(extended, Audio)
    return extended


# ---- sounds of the kinds that these models give; each rises from silence and falls back to it


def wind(rate: int) -> NDArray[np.float32]:
    """AudioLDM: noise with gusts."""
    n = SECONDS * rate
    noise = np.random.default_rng(1).normal(size=n)
    gusts = 1 + 0.8 * np.sin(2 * np.pi * 0.7 * np.arange(n) / rate)
    return quiet_at_the_ends(noise * gusts)


def band(rate: int) -> NDArray[np.float32]:
    """MusicGen: plucked tones and a snare, up to the top of its codec."""
    n = SECONDS * rate
    t = np.arange(n) / rate
    tones = sum(np.sin(2 * np.pi * f * t + f) / f**0.5 for f in np.arange(220.0, 0.48 * rate, 220))
    snare = np.random.default_rng(2).normal(size=n) * np.exp(-12 * (t % 0.5))
    return quiet_at_the_ends(tones * np.exp(-6 * (t % 0.25)) + 0.3 * snare)


def voice(rate: int) -> NDArray[np.float32]:
    """FastSpeech2: a buzz with syllables and breath."""
    n = SECONDS * rate
    t = np.arange(n) / rate
    buzz = signal.sawtooth(2 * np.pi * np.cumsum(120 + 20 * np.sin(4 * np.pi * t)) / rate)
    breath = 0.2 * np.random.default_rng(3).normal(size=n)
    return quiet_at_the_ends((buzz + breath) * (1.2 + np.sin(6 * np.pi * t)))


def quiet_at_the_ends(x: NDArray[np.floating]) -> NDArray[np.float32]:
    """Peak 0.3; so that a transform of the whole has no seam."""
    x = x * signal.windows.tukey(len(x), 0.2)
    return (0.3 * x / np.abs(x).max()).astype(np.float32)


def tensor(x: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(x)


# ---- laws

Give = Callable[[NDArray[np.float32]], Any]
RECIPES = {
    "audioldm": ("16 kHz: AudioLDM", 16_000, wind, lambda x: x),
    "musicgen": ("32 kHz: MusicGen", 32_000, band, lambda x: tensor(x)[None]),
    "musicgen stereo": (
        "32 kHz: MusicGen", 32_000, band, lambda x: tensor(np.stack([x, np.roll(x, 99)])),
    ),
    "fastspeech2": (
        "22.05 kHz: FastSpeech2", 22_050, voice, lambda x: tensor(x)[None].requires_grad_(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_gives_48_kilohertz_with_the_old_band_kept_and_a_new_one(recipe: str) -> None:
    title, rate, make, give = RECIPES[recipe]
    x = make(rate)
    sound = give(x)
    extended = follow(title, sound)

    assert extended.sample_rate == RATE_OUT
    assert extended.samples.dtype == np.float32
    assert extended.samples.shape == (sound.shape[0] if sound.ndim > 1 else 1, SECONDS * RATE_OUT)

    # Whole seconds, so the bins of both transforms are the same frequencies; the rest is scale.
    before = np.fft.rfft(np.atleast_2d(np.asarray(Audio.of(sound, rate).samples, np.float64)))
    after = np.fft.rfft(extended.samples.astype(np.float64)) * (rate / RATE_OUT)
    hz = np.arange(after.shape[1]) / SECONDS
    error_db = low_band_error_db(before, after, hz, 0.85 * rate / 2)
    assert error_db < -90  # what is left at 22.05 kHz, −96 dB, is the resampler's own
    below = mean_db(after, hz, 0.7 * rate / 2, 0.85 * rate / 2)
    above = mean_db(after, hz, 1.05 * rate / 2, 1.2 * rate / 2)
    assert -30 < above - below < 10  # resampled and no more, it would be below −100


def low_band_error_db(
    before: NDArray[np.complex128],
    after: NDArray[np.complex128],
    hz: NDArray[np.float64],
    top: float,
) -> float:
    """Power of the difference below `top`, relative to all of the sound."""
    low = np.flatnonzero(hz < top)
    difference = np.sum(np.abs(after[:, low] - before[:, low]) ** 2)
    return float(10 * np.log10(difference / np.sum(np.abs(before) ** 2)))


def mean_db(
    spectrum: NDArray[np.complex128], hz: NDArray[np.float64], low: float, high: float
) -> float:
    power = np.abs(spectrum[:, (hz > low) & (hz < high)]) ** 2
    return float(10 * np.log10(power.mean()))


def test_audiosr_is_three_lines_too_and_without_its_weights_says_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(ModelError, match=r"models install audiosr-basic.*models import"):
        follow("With AudioSR instead", wind(16_000))


def test_audiosr_follows_the_same_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With made-up weights, so what is generated is anything; the rest holds all the same."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "models"))
    source = write_official(tmp_path / "pytorch_model.bin")
    import_model(source, "audiosr-basic", config=TINY.as_dict())
    x = wind(16_000)
    extended = follow("With AudioSR instead", x)
    assert extended.sample_rate == RATE_OUT
    assert extended.samples.shape == (1, SECONDS * RATE_OUT)
    before = np.fft.rfft(x[None].astype(np.float64))
    after = np.fft.rfft(extended.samples.astype(np.float64)) / 3
    assert low_band_error_db(before, after, np.arange(after.shape[1]) / SECONDS, 6_800) < -90


def test_every_recipe_of_the_page_is_tried() -> None:
    titles = re.findall(r"^## (.*)$", COOKBOOK.read_text("utf-8"), re.MULTILINE)
    tried = {title for title, *_ in RECIPES.values()} | {"With AudioSR instead"}
    assert {title for title in titles if blocks(title)} == tried
