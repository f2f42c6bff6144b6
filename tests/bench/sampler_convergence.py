"""How far samplers end from the exact answer, where the answer is known: tables in Markdown.

    python tests/bench/sampler_convergence.py

Every value of the latent is drawn from a Gaussian or a mixture of Gaussians, for which v and the
probability flow are known in closed form (Gaussian) or from 1000 steps of UniPC (mixture).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from audiosr_core.diffusion import (
    SAMPLERS,
    Step,
    cosine_schedule,
    sample_ddim,
    sample_dpmpp_2m,
    sample_unipc,
    steps_reference,
    steps_trailing,
)

SCHEDULE = cosine_schedule()
Part = tuple[float, float, float]  # weight, mean, deviation

WORLDS: dict[str, Sequence[Part]] = {
    "σ 0.3": [(1.0, 0.5, 0.3)],
    "σ 1.2": [(1.0, 0.5, 1.2)],
    "σ 3": [(1.0, 0.0, 3.0)],
    "two peaks": [(0.5, -1.0, 0.3), (0.5, 1.2, 0.5)],
    "three peaks": [(0.3, -2.0, 0.2), (0.4, 0.0, 0.4), (0.3, 2.0, 0.2)],
}


def mixture_v(parts: Sequence[Part]) -> Callable[[Tensor, int], Tensor]:
    """v of a world whose values are drawn from a mixture of Gaussians."""

    def predict_v(x: Tensor, t: int) -> Tensor:
        bar = float(SCHEDULE.alphas_cumprod[t])
        a, b = math.sqrt(bar), math.sqrt(1 - bar)
        logits, means = [], []
        for weight, mean, deviation in parts:
            variance = bar * deviation**2 + 1 - bar
            far = (x - a * mean) ** 2 / variance
            logits.append(math.log(weight) - 0.5 * (math.log(variance) + far))
            means.append(mean + a * deviation**2 / variance * (x - a * mean))
        x_0 = (torch.softmax(torch.stack(logits), 0) * torch.stack(means)).sum(0)
        return (a * x - x_0) / b

    return predict_v


def answer(parts: Sequence[Part], x: Tensor) -> Tensor:
    """Where the probability flow takes x from pure noise."""
    if len(parts) == 1:
        _, mean, deviation = parts[0]
        return mean + deviation * x
    return walk(sample_unipc, parts, x, steps_trailing(SCHEDULE, 1000))


def walk(
    sample: Callable[..., Tensor], parts: Sequence[Part], x: Tensor, steps: Sequence[Step]
) -> Tensor:
    return sample(mixture_v(parts), x, steps, lambda i: torch.zeros_like(x), 0.0)


def main() -> None:
    x = torch.randn(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    answers = {name: answer(parts, x) for name, parts in WORLDS.items()}

    def row(title: str, sample: Callable[..., Tensor], steps: Sequence[Step]) -> None:
        errors = [
            float((walk(sample, parts, x, steps) - answers[name]).square().mean().sqrt())
            for name, parts in WORLDS.items()
        ]
        print(f"| {title} | " + " | ".join(f"{error:.4f}" for error in errors) + " |")

    print("| sampler, steps | " + " | ".join(WORLDS) + " |")
    print("|---|" + "---|" * len(WORLDS))
    for name, counts in {
        "ddim": (10, 50, 200),
        "ddim-trailing": (10, 20, 50, 200),
        "dpm++2m": (6, 10, 20, 50),
        "unipc": (6, 10, 20, 50),
    }.items():
        for count in counts:
            row(f"{name}, {count}", SAMPLERS[name].sample, SAMPLERS[name].steps(SCHEDULE, count))

    print("\n| ten steps, power | " + " | ".join(WORLDS) + " |")
    print("|---|" + "---|" * len(WORLDS))
    for power in (1.0, 1.1, 1.2, 1.3, 1.4, 1.6, 2.0):
        for name, sample in (("dpm++2m", sample_dpmpp_2m), ("unipc", sample_unipc)):
            row(f"{name}, {power}", sample, steps_trailing(SCHEDULE, 10, power))
    for low in (2.0, 3.0, 4.0):
        row(f"unipc, even in λ from −5 to {low:.0f}", sample_unipc, even_in_log_snr(10, low))
    row("DDIM, 50 published", sample_ddim, steps_reference(SCHEDULE, 50))


def even_in_log_snr(count: int, last: float) -> list[Step]:
    """The last t, then steps evenly spaced in λ, at the nearest t."""
    bars = SCHEDULE.alphas_cumprod[:-1]
    t = [len(bars)]
    for one in torch.linspace(-5, last, count - 1).tolist():
        t.append(int(abs(bars - 1 / (1 + math.exp(-2 * one))).argmin()))
    bar = [float(SCHEDULE.alphas_cumprod[one]) for one in t]
    return [Step(*step) for step in zip(t, bar, [*bar[1:], 1.0], strict=True)]


if __name__ == "__main__":
    main()
