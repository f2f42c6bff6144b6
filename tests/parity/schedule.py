"""schedule.npz: the noise schedule, the sampler's tables, the draws."""

from __future__ import annotations

import re

import numpy as np
import torch

from audiosr_core.diffusion import Step, cosine_schedule, steps_reference
from audiosr_core.diffusion.samplers import fresh_noise
from audiosr_core.errors import SettingsError
from audiosr_core.lowpass import FILTER_KINDS
from audiosr_core.model.unet import time_embedding
from audiosr_core.reference import Draws
from tests.parity.recorded import AbsentError, Array, ParitySet
from tests.parity.tally import EXACT, Tally
from tests.parity.tolerances import near_zero_snr, tolerance

FILE = "schedule.npz"
NEARLY_ZERO_SNR = 0.01  # the share of the steps at the end where 1 / ᾱ explodes


def buffers(parity: ParitySet, tally: Tally) -> None:
    """The tables that a checkpoint carries, and those in float64 behind them."""
    file = parity.recording(FILE)
    allowed, reciprocal = tolerance(parity, "schedule"), near_zero_snr(parity)
    schedule = cosine_schedule(parity.info("config")["diffusion"]["steps"])
    ours: dict[str, Array | float] = dict(schedule.buffers())
    ours["logvar"] = np.zeros(len(schedule))  # of a loss that was never trained
    ours["scale_factor"] = parity.config.scale_factor
    safe = int(len(schedule) * (1 - NEARLY_ZERO_SNR))
    for name, match in file.matching(r"buffer/(.+)"):
        if match[1] not in ours:
            continue
        table = np.asarray(ours[match[1]])
        if match[1].startswith("sqrt_recip"):
            tally.compare(name, table[:safe], file[name][:safe], allowed)
            tally.compare(name, table[safe:], file[name][safe:], reciprocal)
        else:
            tally.compare(name, table, file[name], allowed)
    for name, match in file.matching(r"f64_(betas|alphas_cumprod)"):
        tally.compare(name, getattr(schedule, match[1]), file[name], allowed)


def ddim_tables(parity: ParitySet, tally: Tally) -> None:
    """Timesteps, ᾱ, ᾱ before and σ, for every recorded number of steps and eta."""
    file = parity.recording(FILE)
    allowed = tolerance(parity, "schedule")
    for name, match in file.matching(r"ddim(\d+)/timesteps"):
        steps = _upwards(parity, int(match[1]))
        tally.compare(name, [step.t for step in steps], file[name], EXACT)
    for name, match in file.matching(r"(?:f64_)?ddim(\d+)/(alphas|alphas_prev|sigmas_eta(.+))"):
        steps = _upwards(parity, int(match[1]))
        values = {
            "alphas": lambda step: step.alpha,
            "alphas_prev": lambda step: step.alpha_next,
        }.get(match[2], lambda step, eta=match[3]: float(eta) * fresh_noise(step))
        tally.compare(name, [values(step) for step in steps], file[name], allowed)


def _upwards(parity: ParitySet, count: int) -> tuple[Step, ...]:
    schedule = cosine_schedule(parity.info("config")["diffusion"]["steps"])
    return steps_reference(schedule, count)[::-1]


def step_counts(parity: ParitySet, tally: Tally) -> None:
    """Which requests the published code cannot serve, and how many steps the others get."""
    file = parity.recording(FILE)
    schedule = cosine_schedule(parity.info("config")["diffusion"]["steps"])
    counts: dict[int, int] = {}
    for count in range(1, len(schedule) + 1):
        try:
            counts[count] = len(steps_reference(schedule, count))
        except SettingsError:
            continue
    for name, _ in file.matching(r"requested_steps_that_raise_.+"):
        raising = [count for count in range(1, len(schedule) + 1) if count not in counts]
        tally.compare(name, raising, np.sort(file[name]), EXACT)
    for name, match in file.matching(r"effective_step_count_for_request_(\d+)_to_(\d+)"):
        asked = range(int(match[1]), int(match[2]) + 1)
        works = [i for i, count in enumerate(asked) if count in counts]
        tally.compare(name, [counts[asked[i]] for i in works], file[name][works], EXACT)


def embedding(parity: ParitySet, tally: Tally) -> None:
    """How the network is told the time."""
    file = parity.recording(FILE)
    for name, match in file.matching(r"(timestep_embedding.*)/out"):
        recorded = file[name]
        t = torch.from_numpy(file[f"{match[1]}/t"])
        ours = time_embedding(t, recorded.shape[-1]).numpy()
        tally.compare(name, ours, recorded, tolerance(parity, "schedule"))


def draws(parity: ParitySet, tally: Tally) -> None:
    """Filter kinds and noise by seed."""
    file = parity.recording(FILE)
    for name, match in file.matching(r"(filter_choice.*)/index"):
        seeds = file[f"{match[1]}/seed"]
        ours = [FILTER_KINDS.index(Draws(int(seed)).filter_kind()) for seed in seeds]
        tally.compare(name, ours, file[name], EXACT)
    said = re.search(r"torch\.randn\(([\d, ]+)\)", parity.description(FILE))
    for name, match in file.matching(r"torch_randn/seed(\d+)"):
        if not said:
            raise AbsentError("the shape of torch.randn in the manifest's words is not there")
        shape = tuple(int(size) for size in said[1].split(","))
        recorded = file[name]
        stream = Draws(int(match[1]))
        noises = [stream.normal(shape).ravel()[: recorded.shape[1]].numpy() for _ in recorded]
        tally.compare(name, noises, recorded, tolerance(parity, "schedule"))
