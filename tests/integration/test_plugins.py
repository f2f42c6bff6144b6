"""Plugins of others: found, tried in a child first, refused in one sentence, on their place."""

from __future__ import annotations

import functools
import shutil
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugin_host import lv2, plugins, probe
from plugin_host.chain import Chain
from plugin_host.errors import PluginError
from plugin_host.lv2 import Lv2Plugin
from plugin_host.plugins import find_plugin, load_plugin
from tests.support.plugins import (
    ABORTS,
    COMPRESSOR,
    CRASHES,
    EXITS,
    HANGS,
    LV2_COMPRESSOR,
    LV2_CRASHING,
    LV2_LIMITER,
    LV2_MAXIMIZER,
    MAXIMIZER,
    counting,
    make_broken_vst3,
    vst3,
)
from tests.support.plugins import lv2 as installed_lv2

pytestmark = pytest.mark.timeout(60)

RATE = 48_000


@pytest.fixture(autouse=True, scope="module")
def _own_memory(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("proven")
        patch.setattr(probe, "folder", lambda: folder)
        patch.setattr(probe, "_proven", set())
        yield


@pytest.fixture
def trials(monkeypatch):
    """Every child that was started."""
    calls: list[object] = []
    monkeypatch.setattr(probe, "_try", counting(probe._try, calls))
    return calls


# ---- VST3


def test_a_plugin_changes_no_arithmetic_but_its_own():
    load_plugin(vst3(COMPRESSOR))
    smallest = np.array([5e-324])
    assert (smallest * 1.0)[0] > 0


def test_a_plugin_is_found_by_name_by_path_and_in_our_own_folders(tmp_path, monkeypatch):
    path = vst3(COMPRESSOR)
    assert find_plugin(COMPRESSOR) == path
    assert find_plugin(path) == path
    shutil.copytree(path, tmp_path / "vendor" / "Mine.vst3")
    monkeypatch.setenv(plugins.FOLDERS_VARIABLE, str(tmp_path))
    assert find_plugin("Mine") == tmp_path / "vendor" / "Mine.vst3"
    assert find_plugin(COMPRESSOR) == path


def test_ours_comes_before_the_systems(tmp_path, monkeypatch):
    shutil.copytree(vst3(COMPRESSOR), tmp_path / f"{COMPRESSOR}.vst3")
    monkeypatch.setenv(plugins.FOLDERS_VARIABLE, str(tmp_path))
    assert find_plugin(COMPRESSOR).parent == tmp_path


def test_parameters_are_set():
    plugin = load_plugin(vst3(COMPRESSOR), parameters={"threshold_db": -20, "sidechain": True})
    assert plugin.threshold_db == pytest.approx(-20, abs=0.05)  # its own steps


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"thr": -20}, r"no parameter 'thr'; there are: .*threshold_db"),
        ({"threshold_db": -2000}, "threshold_db.*-2000"),
        ({"threshold_db": float("nan")}, "finite"),
        ({"threshold_db": "loud"}, "'loud'"),
        ({"current_program": "Nope"}, "PoppySnare"),
    ],
)
def test_what_a_parameter_does_not_take_is_said(parameters, says):
    with pytest.raises(PluginError, match=says):
        load_plugin(vst3(COMPRESSOR), parameters=parameters)


def test_a_preset_and_a_state_bring_the_knobs_back(tmp_path):
    first = load_plugin(vst3(COMPRESSOR), parameters={"threshold_db": -33})
    first.process(np.zeros((1, 512), np.float32), RATE)  # only then does it know them itself
    (tmp_path / "a.vstpreset").write_bytes(first.preset_data)
    (tmp_path / "a.state").write_bytes(first.raw_state)
    for given_ in ({"preset": tmp_path / "a.vstpreset"}, {"state": tmp_path / "a.state"}):
        again = load_plugin(vst3(COMPRESSOR), **given_)
        assert again.threshold_db == first.threshold_db
    both = load_plugin(
        vst3(COMPRESSOR), state=tmp_path / "a.state", parameters={"threshold_db": -10}
    )
    assert both.threshold_db == pytest.approx(-10, abs=0.05)


@pytest.mark.parametrize("kind", ["preset", "state"])
def test_what_is_no_preset_or_state_is_said(tmp_path, kind):
    bad = tmp_path / "bad"
    with pytest.raises(PluginError, match=f"cannot read the {kind}"):
        load_plugin(vst3(COMPRESSOR), **{kind: bad})
    for content in (b"", b"garbage" * 100, b"VST3" + bytes(200)):
        bad.write_bytes(content)
        with pytest.raises(PluginError, match=r"bad must (be|hold)"):
            load_plugin(vst3(COMPRESSOR), **{kind: bad})
    with pytest.raises(PluginError, match="must be a file"):
        load_plugin(vst3(COMPRESSOR), **{kind: tmp_path})


def test_what_is_no_plugin_is_said(tmp_path):
    with pytest.raises(PluginError, match="there is no plugin"):
        load_plugin(tmp_path / "none.vst3")
    with pytest.raises(PluginError, match=r"ends in \.vst3"):
        load_plugin(tmp_path)
    with pytest.raises(PluginError, match=r"no VST3 plugin 'Nonesuch 2000'"):
        load_plugin("Nonesuch 2000")
    (tmp_path / "text.vst3").write_text("no plugin")
    with pytest.raises(PluginError, match="must be a VST3 plugin"):
        load_plugin(tmp_path / "text.vst3")
    (tmp_path / "empty.vst3").mkdir()
    with pytest.raises(PluginError, match="must be a VST3 plugin"):
        load_plugin(tmp_path / "empty.vst3")


def test_a_near_miss_and_a_wrong_name_in_a_bundle_are_told_what_there_is():
    path = vst3(COMPRESSOR)
    with pytest.raises(PluginError, match=f"did you mean {COMPRESSOR}"):
        load_plugin("ZamCmp")
    with pytest.raises(PluginError, match=f"no 'Other', but {COMPRESSOR}"):
        load_plugin(path, plugin_name="Other")
    assert load_plugin(path, plugin_name=COMPRESSOR).name == COMPRESSOR


@pytest.mark.parametrize(
    ("does", "says"),
    [(CRASHES, "crashed.*SIGSEGV"), (ABORTS, "crashed.*SIGABRT"), (EXITS, "crashed.*exit code 3")],
)
def test_a_plugin_that_crashes_takes_nobody_with_it(tmp_path, does, says):
    bundle = make_broken_vst3(tmp_path, does)
    for _ in range(2):  # a failure is never remembered as a success
        with pytest.raises(PluginError, match=says):
            load_plugin(bundle)


def test_a_plugin_that_hangs_is_given_up(tmp_path):
    bundle = make_broken_vst3(tmp_path, HANGS)
    with pytest.raises(PluginError, match=r"must load within 1\.5 s"):
        load_plugin(bundle, timeout_seconds=1.5)


def test_a_proven_plugin_is_tried_again_only_when_it_has_changed(tmp_path, trials, monkeypatch):
    bundle = tmp_path / f"{COMPRESSOR}.vst3"
    shutil.copytree(vst3(COMPRESSOR), bundle)
    load_plugin(bundle)
    load_plugin(bundle, parameters={"threshold_db": -3})
    assert len(trials) == 1
    monkeypatch.setattr(probe, "_proven", set())  # as in another process
    load_plugin(bundle)
    assert len(trials) == 1
    (bundle / "Contents" / "moduleinfo.json").write_text("{}")
    load_plugin(bundle)
    assert len(trials) == 2


def test_where_nothing_can_be_remembered_it_still_loads(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(probe, "folder", lambda: tmp_path / "file" / "proven")
    monkeypatch.setattr(probe, "_proven", set())
    assert load_plugin(vst3(COMPRESSOR)).name == COMPRESSOR


# ---- both formats, at work


LATE = [
    lambda: load_plugin(vst3(MAXIMIZER)),
    lambda: Lv2Plugin(installed_lv2(LV2_MAXIMIZER)),
    lambda: Lv2Plugin(installed_lv2(LV2_LIMITER)),
]


@pytest.mark.parametrize("make", LATE)
@pytest.mark.parametrize("length", [1, 511, 30_011])
def test_an_impulse_stays_on_its_place(make, length):
    x = np.zeros((2, length), np.float32)
    at = length * 2 // 3
    x[:, at] = 0.5
    y = Chain([make()]).process(x, RATE, layout="channels_first")
    assert y.shape == x.shape
    assert np.abs(y).argmax(axis=1).tolist() == [at, at]


@functools.cache
def limiter() -> Lv2Plugin:
    return Lv2Plugin(installed_lv2(LV2_LIMITER), {"limit": -20})


@settings(deadline=None, max_examples=8)
@given(length=st.integers(0, 4000), block=st.integers(1, 3000), tail=st.integers(0, 2000))
def test_the_size_of_the_blocks_changes_no_bit(length, block, tail):
    plugin = limiter()
    x = np.random.default_rng(length).uniform(-1, 1, (2, length)).astype(np.float32)

    def run(block: int) -> np.ndarray:
        stage = plugin.open(RATE, 2)
        made = [stage.push(x[:, i : i + block]) for i in range(0, length, block)]
        return np.concatenate([*made, stage.flush(tail)], axis=1)

    whole = run(max(1, length))
    assert whole.shape == (2, length + tail)
    np.testing.assert_array_equal(run(block), whole)


# ---- LV2


def test_a_mono_plugin_serves_every_channel_by_itself():
    plugin = Lv2Plugin(installed_lv2(LV2_COMPRESSOR), {"thr": -40, "rat": 8})
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (3, 5000)).astype(np.float32)
    x[1] *= 0.01
    y = Chain([plugin])(x, RATE)
    for channel in range(3):
        alone = Chain([plugin])(x[channel : channel + 1], RATE)
        np.testing.assert_array_equal(y[channel], alone[0])
    assert np.abs(y[0]).mean() < 0.7 * np.abs(x[0]).mean()


def test_a_stereo_plugin_takes_mono_and_refuses_surround():
    plugin = Lv2Plugin(installed_lv2(LV2_LIMITER))
    assert plugin.open(RATE, 1).push(np.zeros((1, 1000), np.float32)).shape[0] == 1
    with pytest.raises(PluginError, match=r"takes 2 channels and gives 2, .* sound has 6"):
        plugin.open(RATE, 6)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"threshold": -3}, "no parameter 'threshold'; there are: att, .*thr"),
        ({"thr": -200}, "thr from -80 to 0, got -200"),
        ({"thr": float("nan")}, "got nan"),
        ({"thr": "loud"}, "'loud'"),
        ({"sidech": "maybe"}, "one of Off, On, got 'maybe'"),
    ],
)
def test_what_an_lv2_parameter_does_not_take_is_said(parameters, says):
    with pytest.raises(PluginError, match=says):
        Lv2Plugin(installed_lv2(LV2_COMPRESSOR), parameters)


@pytest.mark.parametrize("uri", ["urn:nobody:nothing", "/usr/lib/lv2/ZamComp.lv2", "", '"<&'])
def test_what_is_no_lv2_plugin_is_said(uri):
    installed_lv2(LV2_COMPRESSOR)
    with pytest.raises(PluginError, match="must be the URI of an LV2 plugin"):
        Lv2Plugin(uri)


def test_an_lv2_plugin_that_crashes_takes_nobody_with_it():
    with pytest.raises(PluginError, match=r"crashed.*SIGSEGV"):
        Lv2Plugin(installed_lv2(LV2_CRASHING))


def test_without_minihost_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "minihost", None)
    with pytest.raises(PluginError, match=r"pip install 'audiosr-bridge\[lv2\]'"):
        Lv2Plugin("urn:any")


def test_an_absurd_latency_is_refused(monkeypatch):
    monkeypatch.setattr(lv2, "MAX_LATENCY_SECONDS", 0.001)
    stage = Lv2Plugin(installed_lv2(LV2_MAXIMIZER)).open(RATE, 2)
    with pytest.raises(PluginError, match="says 480 samples"):
        stage.push(np.zeros((2, 1000), np.float32))
