"""The published AudioSR pipeline, number for number, with its faults: `--mode reference`.

    sound ─ channel 1 ─ 48 kHz ─ level ─ pad      front     rolloff 1: where the sound ends
          ─ low-pass of a random kind ─ log-mel             low-passed wave, low-passed mel
          ─ encode ─ sample ─┐                    pipeline  the condition
    draws ─ x_T ─────────────┴ DDIM ─ decode                a mel
          ─ low mel bins from the low-passed      back      rolloff 2
          ─ vocoder                               pipeline
          ─ low STFT bins from the low-passed     back      rolloff 3, a gain
          ─ peak 0.5, mean 0                                480 · T + 16 samples

For comparison with papers and for parity tests; what is wrong here is right in the product's own
mode. Facts from the public repository of Liu et al. 2023 (arXiv 2309.07314), not its code.
"""

from audiosr_core.reference.draws import Draws
from audiosr_core.reference.long import run_reference_long
from audiosr_core.reference.pipeline import run_reference

__all__ = ["Draws", "run_reference", "run_reference_long"]
