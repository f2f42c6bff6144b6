"""Join neighbouring chunks so that the join cannot be heard.

In the overlap the earlier chunk fades out while the later fades in. What must stay constant is
energy, and what two weights do to it depends on how alike the two are. With correlation ρ

    energy(a·x + b·y) = a² + b² + 2ρab     for x and y of equal energy

so the linear ramps are divided by its root: ρ = 1 gives the equal-gain, ρ = 0 the equal-power
crossfade, and everything between fits what was measured (Fink, Holters & Zölzer, "Signal-matched
power-complementary cross-fading", DAFx-16).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


def correlation(x: Samples, y: Samples) -> float:
    """Normalised correlation over all channels, 0 to 1; 1 where either is silent."""
    xy = float(np.vdot(x, y))
    energy = float(np.vdot(x, x)) * float(np.vdot(y, y))
    return min(1.0, max(0.0, xy / energy**0.5)) if energy > 0 else 1.0


def weights(num_samples: int, rho: float) -> tuple[Samples, Samples]:
    """Fade-out and fade-in with constant energy at correlation `rho`, [samples]."""
    up = (np.arange(num_samples) + 0.5) / max(num_samples, 1)
    down = 1 - up
    norm = np.sqrt(up**2 + down**2 + 2 * rho * up * down)
    return (down / norm).astype(np.float32), (up / norm).astype(np.float32)


def join(earlier: Samples, later: Samples) -> Samples:
    """Two versions of the same stretch, [channels, samples], as one."""
    if np.array_equal(earlier, later):
        return later
    fade_out, fade_in = weights(earlier.shape[1], correlation(earlier, later))
    return earlier * fade_out + later * fade_in
