"""Change the sample rate exactly: a piece with integer ends in both rates, its length exact.

The walk resamples chunk by chunk, each with context on both sides, instead of streaming through
one long filter state. So the result at a place is a function of the samples around it and not
of where the stream began (promise P5), and any chunk can be computed anywhere.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import soxr
from numpy.typing import NDArray

Real = TypeVar("Real", np.float32, np.float64)

CONTEXT_SECONDS = 0.04
"""More than half the filter of soxr's VHQ at the lowest rate; beyond it nothing is heard."""


def output_length(num_samples: int, rate_in: int, rate_out: int) -> int:
    """round(n · rate_out / rate_in), ties up, in integers."""
    return (2 * num_samples * rate_out + rate_in) // (2 * rate_in)


def resample(samples: NDArray[Real], rate_in: int, rate_out: int) -> NDArray[Real]:
    """[channels, samples] at another rate, linear phase, sample 0 on sample 0 (soxr VHQ)."""
    if rate_in == rate_out:
        return samples
    wanted = output_length(samples.shape[1], rate_in, rate_out)
    if not samples.shape[1]:
        return np.zeros((samples.shape[0], wanted), samples.dtype)
    out = soxr.resample(np.ascontiguousarray(samples.T), rate_in, rate_out, quality="VHQ").T
    if out.shape[1] < wanted:
        out = np.pad(out, ((0, 0), (0, wanted - out.shape[1])))
    return np.ascontiguousarray(out[:, :wanted])
