"""Hold this code against a folder of recorded numbers: `python -m tests.parity.check DIR`.

    manifest.json ─► config, tolerances ─┐
    *.npz ─► names ─► stages ────────────┴─► one line each:

    ok      log-mel        3.1e-05 of 2.0e-03    10 compared  mel/speech/log_mel_bins_by_frames
    state   stage          error   allowed                    where it is the largest share

Everything comes from the folder: sizes, seeds, steps, rates. What is not in it is `absent`; what
is in it and no stage asks for is listed. Exit 0: all within tolerance; 1: something is out; 2: no
parity set.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from tests.parity import cutoff, dsp, e2e, fullsize, nets, official, schedule
from tests.parity.recorded import AbsentError, NotASetError, ParitySet
from tests.parity.report import Result
from tests.parity.tally import Tally

EXIT_OK, EXIT_OUT, EXIT_NO_SET = 0, 1, 2


class Stage(NamedTuple):
    name: str
    compare: Callable[[ParitySet, Tally], None]
    slow: bool = False


STAGES = (
    Stage("schedule buffers", schedule.buffers),
    Stage("ddim tables", schedule.ddim_tables),
    Stage("step counts", schedule.step_counts),
    Stage("time embedding", schedule.embedding),
    Stage("draws", schedule.draws),
    Stage("filterbank", dsp.filterbank),
    Stage("log-mel", dsp.log_mel),
    Stage("level", dsp.level),
    Stage("resample", dsp.resample),
    Stage("low-pass", dsp.low_pass),
    Stage("wave replacement", dsp.wave_replacement),
    Stage("mel replacement", dsp.mel_replacement),
    Stage("cutoff table", cutoff.table),
    *(
        Stage(f"{name}{words}", partial(compare, planes=planes))
        for planes, words in ((False, ""), (True, ", channels last"))
        for name, compare in (
            ("autoencoder, encode", nets.encode),
            ("autoencoder, decode", nets.decode),
            ("u-net", nets.unet),
            ("vocoder", nets.vocoder),
            ("ddim walks", nets.walks),
        )
    ),
    Stage("end to end", e2e.whole_run),
    Stage("long sound", e2e.long_run),
    Stage("official run, front end", official.front_end),
    Stage("official run, networks", official.networks),
    Stage("full size, layout", fullsize.layout_file),
    Stage("full size, recipe", fullsize.first_values),
    Stage("full size, networks", fullsize.networks, slow=True),
)


def check(parity: ParitySet, stages: Iterable[Stage] = STAGES) -> Iterator[Result]:
    """The result of each stage as it is known."""
    for stage in stages:
        yield run(parity, stage)


def run(parity: ParitySet, stage: Stage) -> Result:
    """One stage; whatever it raises is its result."""
    tally, said, state = Tally(), "", "ok"
    try:
        with torch.backends.cudnn.flags(allow_tf32=False):
            stage.compare(parity, tally)
    except AbsentError as error:
        said = str(error)
        state = "ok" if tally.names else "absent"
    except Exception as error:
        said, state = f"{type(error).__name__}: {error}", "OUT"
    if not tally.names and state == "ok":
        said, state = "nothing of this is there", "absent"
    if tally.out:
        state = "OUT"
        worst = tally.worst.name if tally.worst else ""
        others = [name for name in dict.fromkeys(one.name for one in tally.out) if name != worst]
        said = "; ".join([*([said] if said else []), *(f"{name} too" for name in others)])
    return Result(stage.name, state, len(tally.names), tally.worst, said)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.parity.check", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--skip-slow", action="store_true", help="leave the full size out")
    parser.add_argument("--device", default="cpu", help="where the networks run")
    parser.add_argument(
        "--weights", type=Path, help="model.safetensors of audiosr-basic, as imported"
    )
    given = parser.parse_args(arguments)
    try:
        parity = ParitySet(given.folder, given.device, given.weights)
    except NotASetError as error:
        print(error, file=sys.stderr)
        return EXIT_NO_SET
    results = []
    for result in check(parity, (one for one in STAGES if not (one.slow and given.skip_slow))):
        print(result.line(), flush=True)
        results.append(result)
    for name in parity.missing():
        print(f"absent  {name}: listed in manifest.json, but not there")
    for name in parity.not_compared():
        print(f"not compared  {name}")
    if all(result.state == "absent" for result in results):
        print(f"{given.folder} is not a parity set: nothing in it can be compared", file=sys.stderr)
        return EXIT_NO_SET
    return EXIT_OUT if any(result.state == "OUT" for result in results) else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
