"""How fast and how exact the `audiosr` family is, as docs/performance.md shows it.

    python -m tests.bench.audiosr [PART ...] --size full --weights FOLDER

stages      published against ours, stage by stage; --whole runs all of both pipelines
samplers    distance of few steps from 200 steps
memory      peak of `audiosr-bridge extend`, loading included
precision   error and speed of each network in bfloat16 and float16
cuda        time, arithmetic a second and parity on a CUDA device; nothing where there is none

The weights of a size are made on first use and kept in FOLDER (full: 2.7 GB, half a minute).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

PARTS = ("stages", "samplers", "memory", "precision", "cuda")


def main() -> None:
    if sys.argv[1:2] == ["--job"]:  # a child of `memory`, which holds no more than it must
        from tests.bench.audiosr.memory import job

        job(*sys.argv[2:])
        return
    options = _options()
    import torch

    from tests.bench.audiosr.subject import subject
    from tests.bench.audiosr.tables import Table

    torch.set_num_threads(options.threads)
    model = subject(options.size, options.weights, options.parity)

    def stages() -> list[Table]:
        from tests.bench.audiosr.stages import measure

        o = options
        return measure(model, o.seconds, o.stages, o.rounds, o.timed_steps, o.whole)

    def samplers() -> Iterable[Table]:
        from tests.bench.audiosr.samplers import measure

        return measure(model, options.latent_frames, options.starts)

    def memory() -> list[Table]:
        from tests.bench.audiosr.memory import measure

        return measure(model, options.lengths, options.memory_steps, options.threads)

    def precision() -> Iterable[Table]:
        from tests.bench.audiosr.precision import measure

        o = options
        return measure(model, o.latent_frames, o.rounds, o.precisions)

    def cuda() -> list[Table]:
        from tests.bench.audiosr.cuda import measure

        o = options
        tables = measure(model, o.precisions, o.rounds, o.peak_tflops, o.compile)
        if not tables:
            print("cuda: this machine has no CUDA device", file=sys.stderr)
        return tables

    parts: dict[str, Callable[[], Iterable[Table]]] = {
        "stages": stages, "samplers": samplers, "memory": memory, "precision": precision,
        "cuda": cuda,
    }  # fmt: skip
    made = []
    for name in options.parts or PARTS:
        for table in parts[name]():
            print(table.markdown(), end="\n\n", flush=True)
            made.append(table.as_dict())
            if options.json:
                options.json.write_text(json.dumps(made, indent=2) + "\n")


def _options() -> argparse.Namespace:
    from tests.bench.audiosr.stages import STAGES

    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.audiosr",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    add = parser.add_argument
    add("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; none: all")
    add("--size", choices=("tiny", "parity", "full"), default="tiny")
    add("--parity", type=Path, metavar="DIR", help="a parity set, for --size parity")
    add("--weights", type=Path, default=Path("build/bench-models"), metavar="FOLDER")
    add("--threads", type=int, default=2)
    add("--rounds", type=int, default=3, help="the least time of so many is shown")
    add("--json", type=Path, metavar="FILE", help="write the tables here as well")
    add("--seconds", type=float, default=5.12, help="stages: a multiple of 5.12")
    add("--stages", nargs="+", choices=STAGES, default=STAGES)
    add("--timed-steps", type=int, default=3, help="stages: of the 50, scaled to all")
    add("--whole", action="store_true", help="stages: run both pipelines to the end")
    add("--latent-frames", type=int, default=64, help="samplers, precision: 64 are 5.12 s")
    add("--starts", type=int, default=1, help="samplers: how many x_T")
    add("--lengths", type=int, nargs="+", default=[5, 15], help="memory: seconds of stereo")
    add("--memory-steps", type=int, default=1)
    add("--precisions", nargs="+", default=["fp32", "bf16", "fp16"])
    add("--peak-tflops", type=float, default=790.0, help="cuda: of the device, dense bf16")
    add("--compile", metavar="MODE", help="cuda: torch.compile, e.g. reduce-overhead")
    options = parser.parse_args()
    unknown = [name for name in options.parts if name not in PARTS]
    if unknown:
        parser.error(f"a part must be one of {', '.join(PARTS)}, got {unknown[0]}")
    return options


if __name__ == "__main__":
    main()
