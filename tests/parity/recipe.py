"""Weights of the full size by arithmetic: the recipe in the manifest, read and followed.

key ── crc32 ─┐
seed ─────────┴─ base ─ splitmix64 (Steele et al. 2014) of 1, 2, 3 ... ─ u in [-1, 1)
u ── scaled by the kind of tensor ── float32
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.parity.recorded import AbsentError, Array
from tests.support.recipe import uniform

NUMBER = r"(-?\d+(?:\.\d+)?)"


@dataclass(frozen=True)
class Recipe:
    """The numbers in the manifest's words."""

    seed: int
    bias: float  # of u, in biases
    gain: float  # of u, around 1, in other vectors
    constants: dict[str, float]  # key → every value
    factors: dict[str, float]  # key → what it is multiplied by
    inputs: dict[str, tuple[float, float]]  # name → scale, offset

    def tensor(self, key: str, shape: tuple[int, ...]) -> Array:
        """One tensor of the networks, float32."""
        if key in self.constants:
            return np.full(shape, self.constants[key], np.float32)
        value = _uniform(key, self.seed, math.prod(shape))
        if key.endswith(".bias"):
            value *= self.bias
        elif len(shape) == 1:
            value *= self.gain
            value += 1
        else:
            fan = 2 * shape[0] if ".vocoder.ups." in key else math.prod(shape[1:])
            value *= math.sqrt(3 / fan)
        whole = value.astype(np.float32)
        if key in self.factors:
            whole *= np.float32(self.factors[key])
        return whole.reshape(shape)

    def input(self, name: str, shape: tuple[int, ...]) -> Array:
        """One input, float32."""
        scale, offset = self.inputs[name]
        value = _uniform(f"input/{name}", self.seed, math.prod(shape)) * math.sqrt(3)
        return (value * scale + offset).astype(np.float32).reshape(shape)


def read_recipe(manifest: dict[str, Any]) -> Recipe:
    """What manifest.json says under "full_config_recipe"."""
    if "full_config_recipe" not in manifest:
        raise AbsentError("manifest.json has no full_config_recipe")
    text = manifest["full_config_recipe"]
    value, inputs = text["value"], text["inputs"]
    return Recipe(
        seed=int(text["global_seed"]),
        bias=float(_found(r"'\.bias': " + NUMBER + r"\*u", value)),
        gain=float(_found(r"1-D tensors: 1\+" + NUMBER + r"\*u", value)),
        constants={
            key: float(number)
            for key, number in re.findall(r"(\S+) := " + NUMBER + " everywhere", value)
        },
        factors={key: float(number) for key, number in re.findall(r"(\S+) \*= " + NUMBER, value)},
        inputs={
            name: (float(scale), float(offset))
            for name, scale, offset in re.findall(rf"(\w+) {NUMBER},{NUMBER}(?:;|$)", inputs)
        },
    )


def _uniform(key: str, seed: int, count: int) -> Array:
    """u of the elements 0 .. count − 1 of a tensor, float64."""
    return np.concatenate(list(uniform(key, count, seed)))


def _found(pattern: str, words: str) -> str:
    match = re.search(pattern, words)
    if not match:
        raise ValueError(f"the recipe must say {pattern!r}, got {words!r}")
    return match[1]
