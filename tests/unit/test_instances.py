"""Named sets of knobs: owned, checked, and the same from a fader as in numbers."""

from __future__ import annotations

import contextlib
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiosr_core.errors import SettingsError
from audiosr_core.settings import KNOBS, Settings
from bridge.errors import BusyError, JobError
from bridge.instances import (
    MONITORS,
    MOST,
    RESERVED,
    Instances,
    from_fader,
    knob_of,
    natural,
    to_fader,
)

pytestmark = pytest.mark.timeout(60)

FADERS = [knob for knob in KNOBS.values() if knob.choices or not knob.is_text]
NUMBERS = [knob for knob in FADERS if not knob.choices]


@given(st.sampled_from(FADERS), st.floats(0, 1))
def test_every_place_of_a_fader_is_a_value(knob, position):
    value = from_fader(knob, position)
    Settings().replace(**{knob.name: value})
    back = to_fader(knob, value)
    width = 1 if not knob.choices else len(knob.choices)
    coarse = 0.5 / (knob.maximum - knob.minimum) if knob.whole else 1 / width if knob.choices else 0
    assert back == pytest.approx(position, abs=coarse + 1e-9)
    assert from_fader(knob, back) == pytest.approx(value) if knob in NUMBERS else True


@pytest.mark.parametrize("knob", FADERS, ids=lambda knob: knob.name)
def test_the_ends_of_a_fader_are_the_ends_of_the_knob(knob):
    ends = (from_fader(knob, 0.0), from_fader(knob, 1.0))
    assert ends == (
        (knob.choices[0], knob.choices[-1]) if knob.choices else (knob.minimum, knob.maximum)
    )


@given(st.sampled_from(list(KNOBS.values())), st.floats() | st.integers() | st.text(max_size=9))
def test_any_value_is_a_setting_or_refused(knob, value):
    with contextlib.suppress(SettingsError):
        Settings().replace(**{knob.name: natural(knob, value)})
    if isinstance(value, float | int):
        try:
            Settings().replace(**{knob.name: from_fader(knob, value)})
        except SettingsError:
            assert not 0 <= value <= 1 or knob.is_text


def test_choices_by_number_and_text():
    sampler = KNOBS["sampler"]
    for n, word in enumerate(sampler.choices):
        assert natural(sampler, n) == natural(sampler, float(n)) == natural(sampler, word) == word
    for wrong in (-1, len(sampler.choices), 0.5, float("nan"), float("inf"), "x"):
        with pytest.raises(SettingsError, match="sampler"):
            natural(sampler, wrong)
    assert natural(KNOBS["steps"], 12.4) == 12
    assert natural(KNOBS["mix"], True) == 1.0
    assert natural(KNOBS["cutoff"], "follow") == "follow"
    assert to_fader(KNOBS["cutoff"], "follow") is None
    with pytest.raises(SettingsError, match="no knob 'x'"):
        knob_of("x")


def test_a_name_has_one_owner():
    all_of = Instances()
    all_of.open("vox", {"mix": 0.5}, "s1")
    with pytest.raises(BusyError, match="vox"):
        all_of.open("vox", {}, "s2")
    for ask in (lambda: all_of.change("vox", {}, "s2"), lambda: all_of.close("vox", "s2")):
        with pytest.raises(JobError, match="another client"):
            ask()
    assert all_of.change("vox", {"seed": 3}).settings == Settings(mix=0.5, seed=3)
    assert all_of.open("vox", {"seed": 4}, "s1").settings == Settings(seed=4)
    all_of.open("bass", {}, "s1")
    all_of.open("drums", {}, "s2")
    all_of.close_all_of("s1")
    assert [one.name for one in all_of] == ["drums"]
    all_of.close("drums", "s2")
    with pytest.raises(JobError, match="open are: none"):
        all_of.change("vox", {})
    all_of.open("vox", {}, "s2")


@pytest.mark.parametrize(
    "name", ["", "Vox", "a/b", "../x", "a b", "ü", "x" * 33, *sorted(RESERVED)]
)
def test_names(name):
    with pytest.raises(SettingsError, match="name must be"):
        Instances().open(name, {}, "s")


def test_a_wrong_knob_changes_nothing():
    all_of = Instances()
    before = all_of.open("vox", {}, "s")
    for changes in ({"mix": 2}, {"nope": 1}, {"mix": 0.5, "seed": -1}):
        with pytest.raises(SettingsError):
            all_of.change("vox", changes)
    with pytest.raises(SettingsError, match="mode"):
        all_of.monitor("vox", "loud", True)
    assert all_of.get("vox") == before


def test_every_change_is_seen_in_the_version():
    all_of = Instances()
    seen = [all_of.version]
    for change in (
        lambda: all_of.open("vox", {}, "s"),
        lambda: all_of.change("vox", {"mix": 0.5}),
        *(lambda mode=mode: all_of.monitor("vox", mode, True) for mode in MONITORS),
        lambda: all_of.job_state("vox", {"state": "running"}),
        lambda: all_of.close("vox"),
    ):
        change()
        seen.append(all_of.version)
    assert seen == sorted(set(seen))
    all_of.job_state("vox", {"state": "done"})  # closed meanwhile
    assert all_of.version == seen[-1]


def test_there_is_a_limit():
    all_of = Instances()
    for n in range(MOST):
        all_of.open(f"i{n}", {}, "s")
    with pytest.raises(BusyError, match=str(MOST)):
        all_of.open("more", {}, "s")


def test_threads_lose_no_change():
    all_of = Instances()
    all_of.open("vox", {}, "s")

    def turn(mode: str) -> None:
        for n in range(501):
            all_of.monitor("vox", mode, n % 2 == 0)

    threads = [threading.Thread(target=turn, args=(mode,)) for mode in MONITORS]
    for one in threads:
        one.start()
    for one in threads:
        one.join(20)
    assert dict(all_of.get("vox").monitors) == dict.fromkeys(MONITORS, True)
    assert all_of.version == 1 + 3 * 501
