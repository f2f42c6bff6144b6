"""What `plugins show` says of a plugin is what a chain may turn on it, at both ends."""

from __future__ import annotations

import pytest

from plugin_host.errors import PluginError
from plugin_host.lv2 import Lv2Plugin
from plugin_host.plugins import load_plugin
from tests.support.command import ended, start
from tests.support.plugins import COMPRESSOR, LV2_COMPRESSOR, lv2, vst3

pytestmark = pytest.mark.timeout(120)


def told(folder, *arguments):
    code, lines, err = ended(start(folder, "plugins", *arguments, "--json"), 60)
    assert code == 0, err
    return lines


def test_every_parameter_of_an_lv2_plugin_takes_its_ends_and_nothing_beyond(tmp_path):
    uri = lv2(LV2_COMPRESSOR)
    shown = told(tmp_path, "show", uri)
    assert {"thr", "rat"} <= {one["name"] for one in shown}
    for one in shown:
        for value in one["words"] or (one["minimum"], one["maximum"]):
            assert Lv2Plugin(uri, {one["name"]: value}).parameters == {one["name"]: value}
        with pytest.raises(PluginError, match=one["name"]):
            Lv2Plugin(uri, {one["name"]: 1e9})


def test_every_parameter_of_a_vst3_plugin_takes_what_it_has(tmp_path):
    path = vst3(COMPRESSOR)
    assert {"name": path.stem, "path": str(path)} in told(tmp_path, "list")
    shown = told(tmp_path, "show", path.stem)
    assert {one["name"]: one["unit"] for one in shown}["threshold_db"] == "dB"
    loaded = load_plugin(path, parameters={one["name"]: one["value"] for one in shown})
    for one in shown:
        value = getattr(loaded, one["name"])
        if one["words"]:
            assert value == one["value"]
        else:  # pedalboard asks a plugin for the texts of a thousand steps, and takes the nearest
            step = (one["maximum"] - one["minimum"]) / 1000
            assert value == pytest.approx(one["value"], abs=step)


def test_what_is_not_there_is_one_sentence(tmp_path):
    code, lines, err = ended(start(tmp_path, "plugins", "show", "NoSuchPlugin", "--json"), 60)
    assert (code, lines) == (1, [])
    assert err.startswith("error: no VST3 plugin 'NoSuchPlugin'")
