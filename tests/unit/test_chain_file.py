"""Chain files: what is written is what is built, and what is wrong is said with its step."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import numpy as np
import pedalboard
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audiosr_core import text_file
from audiosr_core.errors import AudioSRError
from plugin_host import chain_file, probe
from plugin_host.chain import Chain
from plugin_host.chain_file import load_chain
from plugin_host.errors import ChainError, PluginError
from plugin_host.super_resolution import SuperResolution
from tests.support.plugins import COMPRESSOR, LV2_COMPRESSOR, lv2, vst3

pytestmark = pytest.mark.timeout(60)

PAGE = Path(__file__).parents[2] / "docs" / "chain-files.md"
RATE = 48_000


@pytest.fixture(autouse=True, scope="module")
def _own_memory(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("proven")
        patch.setattr(probe, "folder", lambda: folder)
        yield


@pytest.fixture
def chain(tmp_path):
    """A chain from the text of its steps."""

    def load(text: str, head: str = "schema = 1\n") -> Chain:
        path = tmp_path / "chain.toml"
        path.write_text(head + text, encoding="utf-8")
        return load_chain(path)

    return load


def test_a_whole_file_in_order(chain):
    made = chain(
        """
        [chain]
        name = "Master"
        description = "For the tests"
        [[step]]
        plugin = "HighpassFilter"
        cutoff_frequency_hz = 20
        [[step]]
        super_resolution = "subtle-air"
        gain_hf_db = -2
        mix = [[0, 0.0], [10, 1.0]]
        [[step]]
        super_resolution = true
        [[step]]
        plugin = "BrickwallLimiter"
        true_peak = true
        """
    )
    high, air, plain, limiter = made
    assert isinstance(high, pedalboard.HighpassFilter)
    assert high.cutoff_frequency_hz == 20
    assert isinstance(air, SuperResolution)
    assert air.gain_hf_db == -2
    assert [tuple(point) for point in air.automation["mix"]] == [(0, 0.0), (10, 1.0)]
    assert plain.settings == SuperResolution().settings
    assert limiter.true_peak is True


def test_no_steps_are_a_chain_that_does_nothing(chain):
    assert len(chain("")) == 0


@pytest.mark.parametrize("name", sorted(set(chain_file._effects()) - {"Convolution"}))
def test_every_effect_takes_its_own_values_back(chain, name):
    defaults = chain_file._defaults(getattr(pedalboard, name))
    lines = [f"{key} = {_toml(value)}" for key, value in defaults.items()]
    (made,) = chain(f'[[step]]\nplugin = "{name}"\n' + "\n".join(lines))
    assert type(made) is getattr(pedalboard, name)
    for key, value in defaults.items():
        got = getattr(made, key)
        assert got == (pytest.approx(value) if isinstance(value, float) else value)


def test_what_loads_code_or_holds_others_is_no_effect():
    names = set(chain_file._effects())
    assert {"Gain", "Reverb", "PeakFilter", "Convolution", "Resample"} <= names
    assert not names & {"VST3Plugin", "ExternalPlugin", "Chain", "Mix", "Pedalboard", "Plugin"}
    assert "IIRFilter" not in names  # a base of others


def test_words_choose_a_mode(chain):
    (made,) = chain('[[step]]\nplugin = "LadderFilter"\nmode = "HPF24"')
    assert made.mode == pedalboard.LadderFilter.Mode.HPF24
    with pytest.raises(ChainError, match="'HPF99'; there are: LPF12, "):
        chain('[[step]]\nplugin = "LadderFilter"\nmode = "HPF99"')


def test_an_impulse_response_lies_beside_the_file(chain, tmp_path):
    impulse = np.random.default_rng(0).uniform(-0.1, 0.1, (500, 2)).astype(np.float32)
    soundfile.write(tmp_path / "hall.wav", impulse, 44_100, subtype="FLOAT")
    text = '[[step]]\nplugin = "Convolution"\nimpulse_response_filename = "hall.wav"\nmix = 0.5'
    (made,) = chain(text)
    x = np.random.default_rng(1).uniform(-0.5, 0.5, (2, 4000)).astype(np.float32)
    expected = pedalboard.Convolution(str(tmp_path / "hall.wav"), 0.5)
    np.testing.assert_array_equal(made(x, RATE), expected(x, RATE))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("none.wav", "no such file"),
        ("text.wav", r"text\.wav"),
        ("six.wav", "one or two channels"),
        ("empty.wav", r"0 s"),
        ("", "must be a path"),
    ],
)
def test_what_is_no_impulse_response_is_said(chain, tmp_path, name, says):
    (tmp_path / "text.wav").write_text("no sound at all")
    soundfile.write(tmp_path / "six.wav", np.zeros((10, 6)), RATE)
    soundfile.write(tmp_path / "empty.wav", np.zeros((0, 1)), RATE)
    with pytest.raises(AudioSRError, match=f"step 1: .*{says}"):
        chain(f'[[step]]\nplugin = "Convolution"\nimpulse_response_filename = "{name}"')


WRONG = [
    ('plugin = "Nonesuch"', "unknown plugin: 'Nonesuch'; there are: .*Gain"),
    ('plugin = ["Gain"]', r"unknown plugin: \['Gain'\]"),
    ('plugin = "VST3Plugin"', "unknown plugin"),
    ('plugin = "Gain"\nvolume = 1', "unknown argument of Gain: 'volume'; there are: gain_db"),
    ('plugin = "Gain"\ngain_db = "loud"', "gain_db must be a number, got 'loud'"),
    ('plugin = "Gain"\ngain_db = true', "gain_db must be a number, got True"),
    ('plugin = "Gain"\ngain_db = nan', "gain_db must be a number, got nan"),
    ('plugin = "BrickwallLimiter"\ntrue_peak = 1', "true_peak must be true or false, got 1"),
    ('plugin = "Chorus"\nmix = 3', "Chorus cannot be made so: .*Mix"),
    ('plugin = "Convolution"', "Convolution needs impulse_response_filename"),
    ('plugin = "Gain"\nlv2 = "urn:x"', "one of .*, got plugin and lv2"),
    ("gain_db = 1", "one of plugin, super_resolution, vst3, lv2, got none"),
    ("super_resolution = false", "super_resolution must be a preset, or true"),
    ('super_resolution = "nonesuch"', "no preset 'nonesuch'; there are"),
    ('super_resolution = "none.toml"', r"none\.toml"),
    ("super_resolution = true\nengine = 1", "unknown knob of super_resolution: 'engine'"),
    ("super_resolution = true\nmix = 7", "mix must be 0 to 1"),
    ("super_resolution = true\nmix = [[0]]", "mix"),
    ("super_resolution = true\nseed = [[0, 1]]", "seed"),
    ("super_resolution = true\nmix = {a = 1}", "mix"),
    ('vst3 = "none.vst3"', "there is no plugin"),
    ('vst3 = "Nonesuch"', "no VST3 plugin 'Nonesuch'"),
    ('vst3 = "x.vst3"\neach_channel = 1', "each_channel must be true or false, got 1"),
    ("vst3 = 3", "vst3 must be a name or path, got 3"),
    ('vst3 = "x.vst3"\nthr = 1', "unknown key of a vst3 step: 'thr'; there are: .*parameters"),
    ('vst3 = "x.vst3"\nparameters = 1', "parameters must be a table"),
    ('vst3 = "x.vst3"\n[step.parameters]\nthr = [1]', "thr must be a number, true, false or text"),
    ("lv2 = 1", "lv2 must be a URI, got 1"),
    ('lv2 = "urn:x"\npreset = "x"', "unknown key of an lv2 step: 'preset'"),
]


@pytest.mark.parametrize(("step", "says"), WRONG)
def test_what_is_wrong_is_said_with_its_step(chain, step, says):
    with pytest.raises((ChainError, PluginError), match=f"chain.toml, step 2: .*{says}"):
        chain(f'[[step]]\nplugin = "Gain"\n[[step]]\n{step}')


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must say 'schema = 1', got None"),
        ("schema = 2", "has schema 2, this version reads 1"),
        ('schema = "1"', "must say 'schema = 1', got '1'"),
        ("schema = true", "got True"),
        ("schema = ", "must be TOML"),
        ("a = " + "[" * 5000, "must be TOML"),
        ("schema = 1\nstep = 3", r"under \[\[step\]\]"),
        ("schema = 1\nstep = [1]", r"under \[\[step\]\]"),
        ("schema = 1\nchain = 3", r"\[chain\] must be a table"),
    ],
)
def test_a_text_that_is_no_chain_is_refused(chain, text, says):
    with pytest.raises(ChainError, match=says):
        chain(text, head="")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "chain.toml"
    with pytest.raises(ChainError, match="No such file"):
        load_chain(path)
    with pytest.raises(ChainError, match=r"must be a file|directory"):
        load_chain(tmp_path)
    path.write_bytes(b"schema = 1\n# \xff")
    with pytest.raises(ChainError, match="UTF-8"):
        load_chain(path)
    path.write_bytes(b"#" * (text_file.MAX_BYTES + 1))
    with pytest.raises(ChainError, match="at most"):
        load_chain(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "chain.toml")
    with pytest.raises(ChainError, match="must be a file"):
        load_chain(tmp_path / "chain.toml")


def test_unknown_keys_are_noted(tmp_path):
    path = tmp_path / "chain.toml"
    path.write_text('schema = 1\ncolour = "red"\n[chain]\nauthor = "me"\n')
    notes: list[str] = []
    assert len(load_chain(path, note=notes.append)) == 0
    assert [re.findall("'(.*)'", text) for text in notes] == [["colour"], ["chain.author"]]


def test_a_preset_file_lies_beside_the_chain(chain, tmp_path):
    (tmp_path / "mine.toml").write_text("schema = 1\n[settings]\nmix = 0.25\n")
    (step,) = chain('[[step]]\nsuper_resolution = "mine.toml"')
    assert step.mix == 0.25


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    kind=st.sampled_from(["plugin", "super_resolution", "vst3", "lv2"]),
    value=st.sampled_from(
        ["1", "true", "[]", "{}", '""', '"\\u0000"', '"/"', "1979-05-27", '".vst3"']
    ),
    key=st.sampled_from(["mix", "gain_db", "parameters", "preset", "state", "plugin_name", "self"]),
    beside=st.sampled_from(
        ["1", "inf", "[[1, 2], 3]", '""', '"a"', "{a = {}}", "12:00:00", "[[0, 1]]"]
    ),
)
def test_any_odd_step_is_a_chain_or_one_of_our_errors(chain, kind, value, key, beside):
    with contextlib.suppress(ChainError, PluginError):
        chain(f"[[step]]\n{kind} = {value}\n{key} = {beside}")


@pytest.mark.parametrize(
    "text", re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
)
def test_the_chains_of_the_page_are_chains(chain, text):
    if "vst3" in text:
        vst3(COMPRESSOR)
    if "lv2" in text:
        lv2(LV2_COMPRESSOR)
    assert len(chain(text, head="")) == text.count("[[step]]")


def test_the_page_names_every_effect():
    page = PAGE.read_text(encoding="utf-8")
    assert all(re.search(rf"\b{name}\b", page) for name in chain_file._effects())


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, float) else f'"{value.name}"'  # type: ignore[attr-defined]


@pytest.mark.parametrize("digits", ["9" * 400, "0x" + "f" * 20_000], ids=["decimal", "hexadecimal"])
@pytest.mark.parametrize(
    "step",
    [
        'plugin = "Gain"\ngain_db = {}',
        "plugin = {}",
        "super_resolution = {}",
        "super_resolution = true\nseed = {}",
        "super_resolution = true\nmix = [[{}, 1]]",
        'vst3 = "none"\n[step.parameters]\nx = {}',
    ],
)
def test_numbers_larger_than_any_are_a_sentence(chain, step, digits):
    with pytest.raises(ChainError, match="64 bits"):
        chain("[[step]]\n" + step.format(digits))


def test_a_mono_plugin_takes_stereo_where_each_channel_has_its_own(chain):
    step = f'[[step]]\nvst3 = "{vst3(COMPRESSOR)}"\n'
    parameters = "[step.parameters]\nmakeup_db = 6.0\n"
    x = np.random.default_rng(0).normal(0, 0.01, (2, 5_000)).astype(np.float32)
    with pytest.raises(PluginError, match=f"each_channel = true for {COMPRESSOR} in the chain"):
        chain(step + parameters)(x, RATE)
    both = chain(step + "each_channel = true\n" + parameters)(x, RATE)
    mono = [chain(step + parameters)(row, RATE) for row in x]
    np.testing.assert_array_equal(both, np.stack(mono))
