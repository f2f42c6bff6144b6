"""When memory runs out: less at once, then the CPU, then one sentence with numbers."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiosr_core.cutoff import Cutoff
from audiosr_core.decision import Decision
from audiosr_core.errors import DeviceError, SettingsError
from audiosr_core.settings import Settings
from bridge import worker_engine
from bridge.errors import CancelledError
from bridge.worker_engine import (
    RealEngine,
    as_dict,
    decision_from,
    follow,
    is_broken_device,
    is_out_of_memory,
    patient,
)

pytestmark = pytest.mark.timeout(60)

DECISION = Decision(48_000, Cutoff(8_000.0, 0.7, False, "x"), True, False, (False, True), -1.5, "")


class OutOfMemoryError(RuntimeError):
    """As torch names its own."""


class Hungry:
    """A model that needs one row at a time and has no room for more than `room` of them."""

    id, sample_rate, device = "lite", 48_000, "cuda:0"

    def __init__(self, rows: int, room: int) -> None:
        self.rows, self.room = rows, room
        self.asked: list[int] = []

    def need_less(self) -> bool:
        fewer, self.rows = self.rows > 1, max(1, self.rows // 2)
        return fewer

    def compute(self) -> np.ndarray:
        self.asked.append(self.rows)
        if self.rows > self.room:
            raise DeviceError("too little memory") from OutOfMemoryError("CUDA out of memory")
        return np.ones((1, 1), np.float32)


class Engine(RealEngine):
    """With that model on its device, and another on the CPU."""

    def __init__(self, model: Hungry, **values: Any) -> None:
        super().__init__("cuda", **values)
        self.hungry, self.on_cpu = model, Hungry(1, 1)
        self.on_cpu.device = "cpu"

    def _model(self, settings: Settings) -> Any:
        return self.on_cpu if settings.model in self._on_cpu else self.hungry

    def high_band(self, *_: Any) -> np.ndarray:
        made = self._model(Settings()).compute()
        self._emptied.discard("lite")
        return made

    def memory_text(self, settings: Settings) -> str:
        return "9.0 GiB are needed and 1.0 GiB are free on cuda"


def compute(engine: Engine, on_step: Any = lambda: None) -> np.ndarray:
    one: Any = patient(engine, Settings())
    return one(None, None, 3, None, None, Settings(), on_step)


def test_rows_are_halved_until_they_fit():
    engine = Engine(Hungry(rows=16, room=3))
    assert compute(engine).any()
    assert engine.hungry.asked == [16, 8, 4, 2]
    assert compute(engine).any()
    assert engine.hungry.asked == [16, 8, 4, 2, 2]  # what was learnt is kept


@pytest.mark.parametrize("allow_cpu", [True, False])
def test_then_the_cpu_if_that_is_allowed_and_then_nothing(allow_cpu):
    engine = Engine(Hungry(rows=2, room=0), allow_cpu=allow_cpu)
    if allow_cpu:
        assert compute(engine).any()
        assert engine.on_cpu.asked == [1]
    else:
        with pytest.raises(DeviceError, match=r"chunk 3 .*9.0 GiB are needed and 1.0 GiB are free"):
            compute(engine)
    assert engine.hungry.asked == [2, 1, 1]  # once more as it was, with what was freed


def test_a_cancel_is_heard_between_two_tries():
    def cancel() -> None:
        raise CancelledError("no more")

    with pytest.raises(CancelledError):
        compute(Engine(Hungry(16, 1)), cancel)


@pytest.mark.parametrize(
    ("error", "ran_out", "broken"),
    [
        (MemoryError(), True, False),
        (OutOfMemoryError("CUDA out of memory"), True, False),
        (RuntimeError("[enforce fail] can't allocate memory: 12 bytes"), True, False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False, True),
        (RuntimeError("shapes do not match"), False, False),
        (DeviceError("the vocoder gave NaN"), False, False),
    ],
)
def test_an_error_is_known_for_what_it_is(error, ran_out, broken):
    assert is_out_of_memory(error) is ran_out
    assert is_broken_device(error) is broken


def test_what_cannot_fit_is_refused_before_it_is_loaded(monkeypatch):
    monkeypatch.setitem(worker_engine.WORKING_BYTES, "lite", 1 << 50)
    with pytest.raises(DeviceError, match=r"needs about 1048576\.\d GiB, and \d+\.\d GiB are free"):
        RealEngine().load(Settings())


@given(
    rate=st.sampled_from([8_000, 44_100, 192_000]),
    hz=st.floats(100, 96_000),
    confidence=st.floats(0, 1),
    flags=st.lists(st.booleans(), min_size=3, max_size=3),
    skipped=st.lists(st.booleans(), min_size=1, max_size=8),
    gain=st.floats(-60, 60),
    peak=st.floats(1e-6, 4),
    note=st.text(max_size=40),
)
def test_a_decision_survives_the_wire(rate, hz, confidence, flags, skipped, gain, peak, note):
    import json

    full_band, extends, follows = flags
    cutoff = Cutoff(hz, confidence, full_band, note)
    decision = Decision(rate, cutoff, extends, follows, tuple(skipped), gain, note, peak)
    sent = json.loads(json.dumps(as_dict(decision)))
    assert decision_from(sent, len(skipped)) == decision


BAD = [
    {"rate_out": 1}, {"rate_out": 48_000.0}, {"rate_out": True}, {"rate_out": None},
    {"cutoff": None}, {"cutoff": {}}, {"cutoff": {"hz": "x"}}, {"extends": 1}, {"follow": None},
    {"skipped": [False]}, {"skipped": [0, 1]}, {"skipped": "ab"}, {"gain_db": 1e9},
    {"gain_db": float("nan")}, {"peak": 0}, {"peak": -1}, {"peak": float("inf")}, {"note": 3},
]  # fmt: skip


@pytest.mark.parametrize("change", BAD)
def test_a_decision_that_cannot_be_names_its_field(change):
    with pytest.raises(SettingsError) as caught:
        decision_from({**as_dict(DECISION), **change}, 2)
    name = next(iter(change))
    assert name in str(caught.value) or name == "cutoff"


def test_a_stream_measures_its_cutoff_all_along_and_keeps_its_rate():
    settings, decision = follow(44_100, 2, Settings())
    assert decision.follow
    assert decision.extends
    assert decision.rate_out == 44_100
    assert (decision.gain_db, decision.peak) == (0.0, 1.0)
    assert decision.skipped == (False, False)
    again, same = follow(44_100, 2, settings)
    assert (again, same) == (settings, decision)

    settings, decision = follow(22_050, 1, Settings(cutoff=8_000, rate=48_000))
    assert not decision.follow
    assert decision.rate_out == 48_000
    assert dataclasses.replace(settings) == Settings(cutoff=8_000, rate=48_000)


def test_importing_it_is_light():
    import subprocess
    from pathlib import Path

    code = (
        "import bridge.worker, bridge.worker_link, tests.support.bridge_engines, sys;"
        "print([m for m in ('torch', 'scipy', 'soundfile', 'zmq') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True,
        text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "[]\n", done.stderr


@given(
    values=st.lists(
        st.tuples(st.sampled_from([0.0, -0.0, 1.0, -0.5, 3e-40]),
                  st.sampled_from([0.0, -0.0, 0.5, -1.0, 1e-9])),
        min_size=1, max_size=30,
    ),
    dtype=st.sampled_from([np.float32, np.float64]),
)  # fmt: skip
def test_where_nothing_is_added_the_original_stays_to_the_bit(values, dtype):
    from bridge.worker import _sum

    original = np.array([[one for one, _ in values]], dtype)
    high = np.array([[two for _, two in values]], np.float32)
    expected = np.where(high == 0, original, original + high)
    assert _sum(original, high).tobytes() == expected.tobytes()
