"""Laws of the `audiosr` family by itself, on networks that were never trained.

Most tests shrink the window from 5.12 s to 0.64 s, which changes how much is computed, not what.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from audiosr_core.errors import DeviceError, SettingsError
from audiosr_core.families import Condition, audiosr
from audiosr_core.families.audiosr import AudioSRModel
from audiosr_core.lowpass import lowpass
from audiosr_core.model.audiosr import AudioSR, build
from audiosr_core.model.config import AudioSRConfig
from audiosr_core.noise import latent_noise
from audiosr_core.settings import Settings
from tests.support.audiosr import SMALL, muffled, small_model
from tests.support.recipe import recipe_weights

HOP = SMALL.latent_hop
CUTOFF = 4_000.0
SAMPLERS = ("dpm++2m", "unipc", "ddim", "ddim-trailing")

Sound = NDArray[np.float32]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model() -> AudioSRModel:
    return small_model()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of 0.64 s; joint ones overlap by a quarter, as the real ones do."""
    monkeypatch.setattr(audiosr, "WINDOW", 8)
    monkeypatch.setattr(audiosr, "JOINT_STRIDE", 6)


def sound(channels: int = 1, num_samples: int = 8 * HOP, seed: int = 0) -> Sound:
    return muffled(channels, num_samples, CUTOFF, 48_000, seed)


def made(
    model: AudioSRModel, low: Sound, start: int = 0, peak: float = 0.3, **knobs: object
) -> Sound:
    settings = Settings(**{"steps": 2, **knobs})  # type: ignore[arg-type]
    return model.generate(low, start, Condition(CUTOFF, settings, peak))


def rows_seen(model: AudioSRModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the rows of every call of the U-Net from now on."""
    seen: list[int] = []
    network = model.networks.unet

    def spied(x: Tensor, t: Tensor) -> Tensor:
        seen.append(len(x))
        out: Tensor = network(x, t)
        return out

    monkeypatch.setattr(model, "_unet", spied)
    return seen


# ---- shape


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("start", [-2 * HOP, -1, 1])
@pytest.mark.parametrize("num_samples", [1, 99, 8 * HOP - 1, 48_056])
def test_any_length_at_any_time(model: AudioSRModel, num_samples: int, start: int) -> None:
    low = sound(1, 9 * HOP)[:, :num_samples]
    out = made(model, low, start, steps=1)
    assert out.shape == low.shape
    assert out.dtype == np.float32
    assert np.isfinite(out).all()


def test_a_whole_window_of_many_channels(model: AudioSRModel) -> None:
    low = sound(3, 64 * HOP)
    out = made(model, low, -2 * HOP, steps=1)
    assert out.shape == low.shape
    assert np.isfinite(out).all()
    spectrum = np.abs(np.fft.rfft(out, axis=1)) ** 2
    top = spectrum[:, round(CUTOFF * 64 * HOP / 48_000) :].sum() / spectrum.sum()
    assert top > 0.1  # a band was added, and not only the low one given back


@pytest.mark.usefixtures("short")
def test_silence_and_dc_are_no_reason_to_fail(model: AudioSRModel) -> None:
    for level in (0.0, 0.3):
        out = made(model, np.full((1, 8 * HOP), level, np.float32))
        assert np.isfinite(out).all()


# ---- what the networks hear (D6, D11, D18)


@pytest.mark.usefixtures("short")
def test_the_condition_is_filtered_as_in_the_paper_every_time(
    model: AudioSRModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[object, ...]] = []

    def spied(wave: Sound, *how: object) -> Sound:
        asked.append(how)
        return lowpass(wave, *how)  # type: ignore[arg-type]

    monkeypatch.setattr(audiosr, "lowpass", spied)
    for seed in range(3):
        made(model, sound(), seed=seed, steps=1)
    assert asked == [(CUTOFF, "cheby1", 48_000)] * 3


@pytest.mark.usefixtures("short")
def test_what_is_short_is_filled_with_silence(model: AudioSRModel) -> None:
    low = sound(1, 3 * HOP + 17)
    filled = np.pad(low, ((0, 0), (0, 8 * HOP - low.shape[1])))
    assert np.array_equal(made(model, filled)[:, : low.shape[1]], made(model, low))


@pytest.mark.usefixtures("short")
def test_the_condition_is_the_mean_of_the_posterior(model: AudioSRModel) -> None:
    weights = recipe_weights(SMALL)
    spread = slice(SMALL.autoencoder.embed_dim, None)  # the rows that say how sure it is
    weights["first_stage_model.quant_conv.bias"][spread] += 3
    unsure = AudioSRModel(build(SMALL, weights), "unsure")
    assert np.array_equal(made(unsure, sound()), made(model, sound()))


# ---- purity, seeds, channels


@pytest.mark.usefixtures("short")
def test_what_was_asked_before_changes_nothing(model: AudioSRModel) -> None:
    low, other = sound(2), sound(2, seed=1)
    first = made(model, low)
    made(model, other, 7 * HOP, sampler="ddim-trailing", eta=1.0, guidance_scale=7.0)
    assert np.array_equal(made(model, low), first)
    assert np.array_equal(made(small_model(), low), first)


@pytest.mark.usefixtures("short")
def test_the_input_is_left_alone(model: AudioSRModel) -> None:
    low = sound(2)
    before = low.copy()
    made(model, low)
    assert np.array_equal(low, before)


@pytest.mark.usefixtures("short")
def test_no_global_generator_is_touched(model: AudioSRModel) -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    wanted = torch.rand(1), np.random.rand()
    torch.manual_seed(3)
    np.random.seed(3)
    made(model, sound(), eta=1.0)
    assert (torch.rand(1), np.random.rand()) == wanted


@pytest.mark.usefixtures("short")
def test_seeds_differ(model: AudioSRModel) -> None:
    a, b = (made(model, sound(), seed=seed) for seed in (0, 1))
    assert not np.allclose(a, b, atol=1e-3 * np.abs(a).max())


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_equal_channels_stay_equal(model: AudioSRModel, sampler: str) -> None:
    low = sound(2)[[0, 1, 0]]
    out = made(model, low, sampler=sampler, eta=1.0)
    # rows of a batch may be added up in another order; the walk asks for equal ones only once
    assert np.abs(out[0] - out[2]).max() < 1e-4 * np.abs(out).max()
    assert np.abs(out[0] - out[1]).max() > 0.1 * np.abs(out).max()


@pytest.mark.usefixtures("short")
def test_a_channel_does_not_hear_its_neighbours(model: AudioSRModel) -> None:
    low = sound(2)
    both, alone = made(model, low), made(model, low[1:])
    # one field of noise for all; a batch of another size adds in another order: float32 rounding
    assert np.abs(both[1:] - alone).max() < 1e-4 * np.abs(alone).max()


@pytest.mark.usefixtures("short")
def test_two_threads_at_once_give_what_one_gives(model: AudioSRModel) -> None:
    jobs = [(sound(1, seed=i), i * HOP) for i in range(4)]
    alone = [made(model, *job) for job in jobs]
    ticks = [0] * len(jobs)
    together: list[Sound | None] = [None] * len(jobs)

    def work(i: int) -> None:
        def count() -> None:
            ticks[i] += 1

        low, start = jobs[i]
        condition = Condition(CUTOFF, Settings(steps=2), 0.3, count)
        together[i] = model.generate(low, start, condition)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, together, strict=True):
        assert other is not None
        assert np.array_equal(one, other)
    assert len(set(ticks)) == 1, "every job is asked about itself"


# ---- level


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("halvings", [1, 7, 40])
def test_half_the_level_gives_half_the_result(model: AudioSRModel, halvings: int) -> None:
    low, scale = sound(2), np.float32(2.0**-halvings)
    whole = made(model, low, peak=0.3)
    assert np.array_equal(made(model, low * scale, peak=0.3 * float(scale)), whole * scale)


@pytest.mark.usefixtures("short")
def test_the_peak_is_only_how_loud_the_networks_hear_it(model: AudioSRModel) -> None:
    low = sound()
    a, b = (np.abs(made(model, low, peak=peak)).max() for peak in (0.3, 0.15))
    assert abs(20 * np.log10(a / b)) < 6  # were the level not undone, 6 dB would be added


# ---- absolute time


@pytest.mark.usefixtures("short")
def test_a_later_place_is_other_noise_and_nothing_else(
    model: AudioSRModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    low, frames = sound(), 11
    here = made(model, low, 0, eta=1.0)
    there = made(model, low, frames * HOP, eta=1.0)
    assert not np.allclose(here, there, atol=1e-3 * np.abs(here).max())

    def moved(seed: int, first_frame: int, *rest: int) -> NDArray[np.float32]:
        return latent_noise(seed, first_frame - frames, *rest)

    monkeypatch.setattr(audiosr, "latent_noise", moved)
    assert np.array_equal(made(model, low, frames * HOP, eta=1.0), here)


@pytest.mark.usefixtures("short")
def test_off_the_grid_the_noise_stays_where_it_is(model: AudioSRModel) -> None:
    low = sound(1, 8 * HOP)
    low[:, :1_000] = 0
    whole = made(model, low, 3 * HOP)
    part = made(model, low[:, 1_000:], 3 * HOP + 1_000)
    assert np.array_equal(part, whole[:, 1_000:])


def test_neighbouring_windows_start_from_the_same_noise(
    model: AudioSRModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[tuple[int, int], NDArray[np.float32]] = {}

    def spied(seed: int, first_frame: int, num_frames: int, c: int, b: int, draw: int) -> Sound:
        field = latent_noise(seed, first_frame, num_frames, c, b, draw)
        asked[first_frame, draw] = field
        return field

    monkeypatch.setattr(audiosr, "latent_noise", spied)
    stride = round(model.stride_seconds(Settings()) * 48_000)
    for k in range(2):
        made(model, sound(1, 64 * HOP), k * stride, steps=1, sampler="ddim-trailing", eta=1.0)
    shared = 64 - stride // HOP
    assert shared == audiosr.OVERLAP + 2 * audiosr.MARGIN
    for draw in {draw for _, draw in asked}:
        early, late = asked[0, draw], asked[stride // HOP, draw]
        assert np.array_equal(early[:, -shared:], late[:, :shared])


# ---- sampling


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_at_few_steps(
    model: AudioSRModel, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    calls = rows_seen(model, monkeypatch)
    for steps in range(1, 8):
        calls.clear()
        if sampler == "ddim" and steps == 3:  # the published timesteps run past their table
            with pytest.raises(SettingsError, match="3 steps"):
                made(model, sound(), sampler=sampler, steps=steps)
            continue
        assert np.isfinite(made(model, sound(), sampler=sampler, steps=steps, eta=1.0)).all()
        published = -(-1000 // (1000 // steps))  # 7 for 6, and 8 for 7
        assert len(calls) == (published if sampler == "ddim" else steps)


@pytest.mark.usefixtures("short")
def test_auto_is_the_sampler_that_was_measured(model: AudioSRModel) -> None:
    auto = made(model, sound(), steps="auto")
    given = made(model, sound(), sampler="unipc", steps=10, eta=0.0)
    assert np.array_equal(auto, given)


@pytest.mark.usefixtures("short")
def test_guidance_costs_rows_only_where_it_is_asked_for(
    model: AudioSRModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_seen(model, monkeypatch)
    low = sound(2)
    knobs = {"sampler": "ddim-trailing", "steps": 4}  # t = 999, 749, 499, 249

    def seen(**more: float) -> list[int]:
        rows.clear()
        made(model, low, **knobs, **more)
        return list(rows)

    assert seen(guidance_scale=1.0) == [2, 2, 2, 2]
    assert seen() == [3, 4, 4, 4]  # at first both channels share the branch without condition
    assert seen(guidance_from=0.8, guidance_to=0.3) == [2, 4, 4, 2]
    assert seen(guidance_from=0.2, guidance_to=0.2) == [2, 2, 2, 2]
    bare = made(model, low, **knobs, guidance_scale=1.0)
    assert np.array_equal(made(model, low, **knobs, guidance_from=0.0), bare)
    assert not np.allclose(made(model, low, **knobs), bare, atol=1e-3 * np.abs(bare).max())


# ---- joins


@pytest.mark.usefixtures("short")
def test_within_one_window_there_is_nothing_to_join(model: AudioSRModel) -> None:
    low = sound(2)
    assert np.array_equal(made(model, low, joins="joint"), made(model, low))


@pytest.mark.usefixtures("short")
def test_joint_windows_cover_the_slice_and_meet(
    model: AudioSRModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_seen(model, monkeypatch)
    low = sound(1, 26 * HOP)
    together = made(model, low, joins="joint", guidance_scale=1.0)
    assert together.shape == low.shape
    assert np.isfinite(together).all()
    assert sum(rows) == 2 * 4  # steps × windows
    assert max(rows) <= 2 * model.rows
    assert not np.array_equal(together, made(model, low, guidance_scale=1.0))


def test_chunks_of_joint_windows_fill_them(model: AudioSRModel) -> None:
    for joins, frames in (("crossfade", 64), ("joint", 64 + 3 * 48)):
        seconds = model.stride_seconds(Settings(joins=joins)) + model.overlap_seconds
        whole = round(seconds * 48_000 / HOP) + 2 * audiosr.MARGIN
        assert whole == frames
        [*_, last] = model._windows(whole, joins == "joint")
        assert last.stop == frames


# ---- cancel


class Stop(Exception):
    pass


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_raising_from_on_step_ends_it_there(model: AudioSRModel, share: float) -> None:
    asked = 0

    def count() -> None:
        nonlocal asked
        asked += 1
        if asked == limit:
            raise Stop

    limit = -1
    condition = Condition(CUTOFF, Settings(steps=3), 0.3, count)
    whole = model.generate(sound(2), 0, condition)
    limit, asked = int(share * asked) + 1, 0
    with pytest.raises(Stop):
        model.generate(sound(2), 0, condition)
    assert asked == limit, "nobody goes on after a cancel"
    limit = -1
    assert np.array_equal(model.generate(sound(2), 0, condition), whole)


def test_at_full_size_a_second_lies_between_two_questions() -> None:
    """Counted in operations: two cores do 160 thousand million of them in a second."""
    with torch.device("meta"):
        networks = AudioSR(AudioSRConfig()).eval()
    audiosr._tick_inside(networks)
    marks = [0]
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:

        def tick() -> None:
            marks.append(counter.get_total_flops())

        with audiosr._telling(tick):
            window = torch.empty(2, 1, 512, 256, device="meta")
            networks.autoencoder.encode(window)
            tick()
            latent = torch.empty(4, 32, 64, 32, device="meta")  # two channels, two branches
            networks.unet(latent, torch.empty(4, device="meta"))
            tick()
            networks.autoencoder.decode(latent[:1, :16])
            tick()
            networks.vocoder(torch.empty(1, 256, 512, device="meta"))
            tick()
    assert marks[-1] > 5e12
    assert np.diff(marks).max() < 160e9


# ---- what is no number


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("key", "stage"),
    [
        ("first_stage_model.encoder.conv_in.bias", "autoencoder"),
        ("model.diffusion_model.out.2.bias", "diffusion"),
        ("first_stage_model.decoder.conv_out.bias", "autoencoder"),
        ("first_stage_model.vocoder.conv_post.bias", "vocoder"),
    ],
)
def test_a_network_that_gives_no_numbers_is_named(key: str, stage: str) -> None:
    weights = recipe_weights(SMALL)
    weights[key][0] = float("nan")
    broken = AudioSRModel(build(SMALL, weights), "broken")
    with pytest.raises(DeviceError, match=f"the {stage} network must give finite numbers"):
        made(broken, sound())
