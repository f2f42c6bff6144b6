"""From data to weights: `python -m audiosr_core.training --recordings DIR`.

    packages ─┐
    DIR ──────┼─ corpus ─ stage 1 ─ stage 2 ─ lite.safetensors, lite.json
    synthetic ┘

Every step is skipped when its result is there, and training resumes from its last checkpoint.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from audiosr_core.training import corpus
from audiosr_core.training.export import export
from audiosr_core.training.loop import Plan, Run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m audiosr_core.training", description=__doc__)
    parser.add_argument("--recordings", type=Path, required=True, help="folder with manifest.json")
    parser.add_argument("--work", type=Path, default=Path("training-data"), help="working folder")
    parser.add_argument("--out", type=Path, default=Path("training-data"), help="for the weights")
    parser.add_argument("--steps", type=int, nargs=2, default=(2_300, 4_400), help="of each stage")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    packed, runs = options.work / "corpus", options.work / "runs"
    if not (packed / "corpus.json").exists():
        corpus.fetch_packages(options.work / "packages")
        rows = corpus.prepare(options.work / "packages", options.recordings, packed)
        corpus.write_manifest(rows, options.out / "manifest.json")
    for stage, steps in enumerate(options.steps, 1):
        rate = 2e-3 if stage == 1 else 1e-3
        Run(packed, runs, Plan(steps=steps, stage=stage, learning_rate=rate)).train()
    print(export(runs / "stage2.pt", options.out))


if __name__ == "__main__":
    main()
