"""Published against ours, stage by stage in one run, with the largest difference of the results.

    sound ─ front ─ encode ─ k of 50 steps ─ decode ─ vocoder ─ back ─ wave

Both are given the same inputs at every stage, those of the published way. A stage of k steps is
scaled to all of them; `whole` runs both pipelines from end to end instead, and the product's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from audiosr_core.diffusion import cosine_schedule, sample_ddim, steps_reference
from audiosr_core.families import Condition
from audiosr_core.families.audiosr import AudioSRModel
from audiosr_core.mel import LogMel
from audiosr_core.model.audiosr import AudioSR
from audiosr_core.model.autoencoder import sample
from audiosr_core.reference import Draws, run_reference
from audiosr_core.reference.back import final_level, replace_low_mel, replace_low_wave
from audiosr_core.reference.front import prepare
from audiosr_core.reference.pipeline import guided_network
from audiosr_core.settings import Settings
from tests.bench.audiosr.published import as_published
from tests.bench.audiosr.subject import EDGE_HZ, Subject, sound
from tests.bench.audiosr.tables import Table
from tests.bench.audiosr.timing import Difference, clocked, race

STAGES = ("front", "encode", "steps", "decode", "vocoder", "back")
STEPS, PRODUCT_STEPS, GUIDANCE = 50, 10, 3.5
SEED = 42
FEW_STEPS = 4  # of a whole run for the difference alone


@torch.inference_mode()
def measure(
    subject: Subject, seconds: float, names: Sequence[str], rounds: int, k: int, whole: bool
) -> list[Table]:
    published, ours = as_published(subject.plain()), subject.ours()
    wave = sound(seconds)
    stages = _Stages(published, ours, wave)
    rows, sums = [], {"published": 0.0, "ours": 0.0}
    once = 0.0  # seconds of ours that every sampler takes
    for name in STAGES:
        ways = stages.ways(name, k)
        if name not in names:
            stages.go_on(name, ways["published"]())
            continue
        timed = race(ways, rounds)
        stages.go_on(name, timed["published"].result)
        factor = STEPS / k if name == "steps" else 1.0
        took = {way: one.seconds * factor for way, one in timed.items()}
        for way in sums:
            sums[way] += took[way]
        if name != "steps":
            once += took["ours"]
        shown = f"{STEPS} steps (measured: {k})" if name == "steps" else name
        gap = Difference.between(_plain(timed["ours"].result), _plain(timed["published"].result))
        rows.append((shown, took["published"], took["ours"], _ratio(took), gap.largest, gap.snr_db))
    if set(names) == set(STAGES):
        rows.append(("sum", sums["published"], sums["ours"], _ratio(sums), None, None))
        few = {
            "published": sums["published"],
            "ours": once + (sums["ours"] - once) * PRODUCT_STEPS / STEPS,
        }
        name = f"sum, ours with {PRODUCT_STEPS} steps"
        rows.append((name, few["published"], few["ours"], _ratio(few), None, None))
    rows += _whole(published, ours, wave) if whole else _few(published, ours, wave)
    columns = (
        "stage",
        "published, s",
        "ours, s",
        "times faster",
        "largest difference",
        "SNR, dB",
    )
    note = (
        f"{seconds:g} s of mono, float32, {torch.get_num_threads()} threads, the least of"
        f" {rounds} rounds."
    )
    return [Table(f"Stage by stage, {subject.id}", columns, rows, note)]


def _ratio(took: dict[str, float]) -> float:
    return took["published"] / took["ours"]


def _plain(result: Any) -> Any:
    """The one array of a stage's result by which two ways are compared."""
    return result.low_mel if hasattr(result, "low_mel") else result


class _Stages:
    """The inputs of every stage, as they become known."""

    def __init__(self, published: AudioSR, ours: AudioSR, wave: Any) -> None:
        self.networks = {"published": published, "ours": ours}
        self.wave = wave
        self.draws = Draws(SEED)
        self.kind = self.draws.filter_kind()

    def ways(self, name: str, k: int) -> dict[str, Callable[[], Any]]:
        stage = getattr(self, f"_{name}")
        return {
            way: lambda networks=networks: stage(networks, k)
            for way, networks in self.networks.items()
        }

    def go_on(self, name: str, result: Any) -> None:
        """Make the next stage's inputs of the published result."""
        if name == "front":
            self.front = result
        elif name == "encode":
            mean, logvar = result.chunk(2)
            self.shape = tuple(mean.shape)
            self.draws.normal(self.shape)
            self.condition = sample(mean, logvar, self.draws.normal(self.shape))
            self.x = self.draws.normal(self.shape)
            self.noise = [self.draws.normal(self.shape) for _ in range(STEPS)]
        elif name == "steps":
            self.latent = result  # not denoised to the end, which changes no time
        elif name == "decode":
            self.mel = replace_low_mel(result[0, 0].numpy(), self.front.low_mel).mel
        elif name == "vocoder":
            self.made = result[0].numpy()

    def _front(self, networks: AudioSR, k: int) -> Any:
        return prepare(self.wave[0], 48_000, LogMel(networks.config.mel), self.kind)

    def _encode(self, networks: AudioSR, k: int) -> Any:
        return torch.cat(
            networks.autoencoder.encode(torch.from_numpy(self.front.low_mel)[None, None])
        )

    def _steps(self, networks: AudioSR, k: int) -> Any:
        predict = guided_network(networks, self.condition, GUIDANCE)
        steps = steps_reference(cosine_schedule(), STEPS)[:k]
        return sample_ddim(predict, self.x, steps, lambda i: self.noise[i], 1.0)

    def _decode(self, networks: AudioSR, k: int) -> Any:
        return networks.autoencoder.decode(self.latent / networks.config.scale_factor)

    def _vocoder(self, networks: AudioSR, k: int) -> Any:
        return networks.vocoder(torch.from_numpy(self.mel).mT[None])

    def _back(self, networks: AudioSR, k: int) -> Any:
        return final_level(replace_low_wave(self.made, self.front.low_wave).wave)


def _few(published: AudioSR, ours: AudioSR, wave: Any) -> list[tuple[Any, ...]]:
    """The difference at the end, after few steps; untimed, for nobody takes so few."""
    made = [_run(one, wave, FEW_STEPS) for one in (ours, published)]
    gap = Difference.between(*made)
    return [(f"whole, {FEW_STEPS} steps", None, None, None, gap.largest, gap.snr_db)]


def _whole(published: AudioSR, ours: AudioSR, wave: Any) -> list[tuple[Any, ...]]:
    """Each pipeline once, from end to end; the product's own makes another sound of it."""
    first, theirs = clocked(lambda: _run(published, wave, STEPS))
    second, same = clocked(lambda: _run(ours, wave, STEPS))
    gap = Difference.between(same, theirs)
    rows: list[tuple[Any, ...]] = [
        (f"whole, {STEPS} steps", first, second, first / second, gap.largest, gap.snr_db)
    ]
    model = AudioSRModel(ours, "ours")
    for steps in (STEPS, PRODUCT_STEPS):
        condition = Condition(EDGE_HZ, Settings(steps=steps, guidance_scale=GUIDANCE), PEAK)
        took, _ = clocked(lambda condition=condition: model.generate(wave, 0, condition))
        rows.append((f"whole, product, {steps} steps", first, took, first / took, None, None))
    return rows


PEAK = 0.3  # of `sound`


def _run(networks: AudioSR, wave: Any, steps: int) -> Any:
    return run_reference(
        networks, wave, 48_000, draws=Draws(SEED), steps=steps, guidance_scale=GUIDANCE
    )
