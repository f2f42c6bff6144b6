"""Laws of the lite model: what it may depend on, and what it must not."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from audiosr_core import store
from audiosr_core.errors import ModelError
from audiosr_core.families import Condition
from audiosr_core.families.lite import LiteModel
from audiosr_core.model.excitation import COHERENT_BINS, band_weights, copy_map, unit
from audiosr_core.model.lite import Lite, LiteConfig
from audiosr_core.settings import Settings
from audiosr_core.store import list_models, load_model, model_info


@pytest.fixture(scope="module")
def model() -> LiteModel:
    loaded = load_model("lite")
    assert isinstance(loaded, LiteModel)
    return loaded


def told(cutoff_hz: float, seed: int) -> Condition:
    return Condition(cutoff_hz, Settings(seed=seed))


def sound(n: int, seed: int = 0, channels: int = 1) -> NDArray[np.float32]:
    x = np.random.default_rng(seed).normal(size=(channels, n))
    spectrum = np.fft.rfft(x)
    spectrum[:, n // 8 :] = 0
    return (0.1 * np.fft.irfft(spectrum, n)).astype(np.float32)


def test_the_embedded_model_is_what_its_card_says() -> None:
    info = model_info("lite")
    info.verify()
    assert info.embedded
    assert info.size_bytes == info.path.stat().st_size <= 8_000_000
    assert 2_000_000 <= info.num_parameters <= 3_000_000
    assert [one.id for one in list_models()] == ["lite"]


@pytest.mark.parametrize("start", [-12_345, 0, 777, 10**9 + 1])
def test_a_gain_at_the_input_is_the_same_gain_at_the_output(model: LiteModel, start: int) -> None:
    x = sound(40_000)
    y = model.generate(x, start, told(5_500.0, 1))
    for gain in (1 / 64, 0.3, 2.5):  # levels go through a logarithm: -94 dB of rounding
        scaled = model.generate(x * np.float32(gain), start, told(5_500.0, 1))
        np.testing.assert_allclose(scaled, y * gain, atol=2e-5 * gain * np.abs(y).max())


def test_what_lies_outside_the_declared_context_has_no_say(model: LiteModel) -> None:
    n, a, b = 90_000, 45_000, 50_000
    x, z = sound(n), sound(n, 1)
    mixed = z.copy()
    first, last = a - model.past_samples, b + model.future_samples
    mixed[:, first:last] = x[:, first:last]
    one, two = (model.generate(s, 0, told(5_500.0, 1))[:, a:b] for s in (x, mixed))
    np.testing.assert_allclose(one, two, atol=1e-5 * np.abs(one).max())
    mixed[:, last - 1 - model.future_samples] += 0.1  # inside, it has
    assert not np.allclose(model.generate(mixed, 0, told(5_500.0, 1))[:, a:b], one)


def test_a_place_is_the_same_in_every_slice(model: LiteModel) -> None:
    x = sound(120_000)
    whole = model.generate(x, 0, told(5_500.0, 3))
    for start in (256, 10_001, 33_333):
        part = model.generate(x[:, start:], start, told(5_500.0, 3))
        inner = slice(model.past_samples, 60_000)
        expected = whole[:, start:][:, inner]
        np.testing.assert_allclose(part[:, inner], expected, atol=1e-5 * np.abs(expected).max())


def test_channels_do_not_hear_each_other_and_share_the_noise(model: LiteModel) -> None:
    x = sound(30_000, channels=2)
    both = model.generate(x, 0, told(5_500.0, 1))
    for c in range(2):
        alone = model.generate(x[c : c + 1], 0, told(5_500.0, 1))
        np.testing.assert_allclose(both[c : c + 1], alone, atol=1e-5 * np.abs(alone).max())
    same = model.generate(np.repeat(x[:1], 2, axis=0), 0, told(5_500.0, 1))
    np.testing.assert_allclose(same[0], same[1], atol=1e-5 * np.abs(same).max())


def test_seeds_differ_and_silence_stays_silence(model: LiteModel) -> None:
    x = sound(30_000)
    assert not np.array_equal(
        model.generate(x, 0, told(5_500.0, 1)),
        model.generate(x, 0, told(5_500.0, 2)),
    )
    assert not model.generate(np.zeros_like(x), 0, told(5_500.0, 1)).any()


def test_it_continues_a_spectrum_rather_than_falling_silent_or_shouting(model: LiteModel) -> None:
    y = model.generate(sound(96_000), 0, told(6_000.0, 1))
    power = np.abs(np.fft.rfft(y[0])) ** 2
    f = np.fft.rfftfreq(y.shape[1], 1 / 48_000)
    known = np.abs(np.fft.rfft(sound(96_000)[0])) ** 2
    reference = known[(f > 3_000) & (f < 5_800)].mean()
    level = 10 * np.log10(power[(f > 6_200) & (f < 8_000)].mean() / reference)
    assert -30 < level < 6  # white noise up to 6 kHz: anything natural goes on somewhat below it


def test_one_set_of_weights_has_a_bounded_latency(model: LiteModel) -> None:
    assert model.latency_samples / model.sample_rate < 0.12


# ---- excitation


@pytest.mark.parametrize("cutoff_bin", [8, 30, 81, 170, 340, 500])
def test_copies_come_from_the_top_of_the_low_band_by_coherent_steps(cutoff_bin: int) -> None:
    bins = torch.arange(513)
    source = copy_map(513, cutoff_bin)
    assert torch.equal(source[:cutoff_bin], bins[:cutoff_bin])
    moved = (bins - source)[cutoff_bin:]
    assert (moved % COHERENT_BINS == 0).all()
    assert (source[cutoff_bin:] < cutoff_bin).all()
    assert (source[cutoff_bin:] >= cutoff_bin // 2 - COHERENT_BINS).all()


def test_band_weights_share_every_bin_completely() -> None:
    weights = band_weights(LiteConfig())
    assert weights.shape == (32, 513)
    np.testing.assert_allclose(weights.sum(0).numpy(), 1, atol=1e-5)


def test_unit_brings_every_bin_to_one_and_leaves_nothing_alone() -> None:
    x = torch.tensor([3 + 4j, 0j, -2e-9j])
    y = x * unit(x.real, x.imag)
    np.testing.assert_allclose(y.numpy(), [0.6 + 0.8j, 0, -1j], atol=1e-6)


def test_padding_is_a_setting() -> None:
    """The low-latency variant: with no look-ahead at all, the future has no say."""
    config = dataclasses.replace(LiteConfig(), look_ahead=0, level_future=0, num_blocks=2, dim=16)
    torch.manual_seed(0)
    network = Lite(config).eval()
    assert config.future_frames == 0
    power, known = torch.rand(1, 60, 513), torch.ones(1, 513)
    later = power.clone()
    later[:, 41:] = torch.rand(1, 19, 513)
    with torch.inference_mode():
        a, b = network(power, known, known)[0], network(later, known, known)[0]
    assert torch.equal(a[:, :41], b[:, :41])
    assert not torch.equal(a[:, 41:], b[:, 41:])


# ---- the store


def test_a_missing_model_is_exit_code_four() -> None:
    with pytest.raises(ModelError, match="no model 'nosuch'; installed: lite") as caught:
        load_model("nosuch")
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("harm", ["weights", "card", "missing", "shape"])
def test_damaged_models_are_refused(
    harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = model_info("lite")
    weights = bytearray(info.path.read_bytes())
    card = json.loads(info.path.with_suffix(".json").read_text())
    if harm == "weights":
        weights[-1] ^= 1
    target = tmp_path / "other.safetensors"
    if harm == "shape":
        from safetensors.torch import save_file

        save_file({"norm.bias": torch.zeros(3)}, target, {"config": "{}"})
        card["sha256"] = store.hash_file(target)
    elif harm != "missing":
        target.write_bytes(weights)
    text = json.dumps(card)
    (tmp_path / "other.json").write_text(text[: len(text) // 2] if harm == "card" else text)
    monkeypatch.setattr(store, "EMBEDDED", tmp_path)
    with pytest.raises(ModelError):
        load_model("other")
