"""The REAPER scripts in a Lua interpreter, against a stand-in of the calls they make, real sounds
and the real command. REAPER itself was not at hand."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "plugin_host" / "daw" / "reaper"
STAND_IN = ROOT / "tests" / "support" / "reaper.lua"
RATE = 44_100

LUA = shutil.which("lua5.4") or shutil.which("lua5.3") or shutil.which("lua")
pytestmark = pytest.mark.skipif(LUA is None, reason="no Lua is here; install lua5.4")


class Reaper:
    """A project folder with the scripts installed in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scripts = folder / "Scripts"
        shutil.copytree(SCRIPTS, self.scripts)
        program = folder / "a program"
        program.write_text(
            f'#!/bin/sh\nexport PYTHONPATH="{ROOT}" AUDIOSR_BRIDGE_RUNTIME_DIR="{folder}/run"\n'
            f'exec "{sys.executable}" -m plugin_host.cli "$@"\n'
        )
        program.chmod(0o755)
        (self.scripts / "program.txt").write_text(f"{program}\n")

    def run(self, lua: str, script: str, after: str) -> dict[str, object]:
        """What `after` puts into the table `out`, once the script has come to its end."""
        code = f"""
            local stand = dofile("{STAND_IN}")
            stand.folder = "{self.folder}"
            local out = {{}}
            {lua}
            stand.run("{self.scripts}/{script}.lua", 100)
            {after}
            local lines = {{}}
            for name, value in pairs(out) do
                local text = type(value) == "string" and ("%q"):format(value) or tostring(value)
                lines[#lines + 1] = ("%q:%s"):format(name, text:gsub("\\\\\\n", "\\\\n"))
            end
            print("{{" .. table.concat(lines, ",") .. "}}")
        """
        assert LUA is not None
        done = subprocess.run([LUA, "-"], input=code, capture_output=True, text=True, timeout=150)
        assert done.returncode == 0, done.stderr
        values: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
        return values

    def sound(self, name: str, seconds: float = 1.5) -> tuple[Path, np.ndarray]:
        """Noise up to 6 kHz."""
        rng = np.random.default_rng(len(name))
        spectrum = np.fft.rfft(rng.standard_normal((2, int(seconds * RATE))))
        spectrum[:, int(6000 * seconds) :] = 0
        samples = 0.1 * np.fft.irfft(spectrum, int(seconds * RATE)).T.astype(np.float32)
        path = self.folder / name
        sf.write(path, samples, RATE, subtype="FLOAT")
        return path, samples

    def left_behind(self) -> list[str]:
        return [path.name for path in self.folder.rglob(".request-*")]


@pytest.fixture
def reaper(tmp_path: Path) -> Reaper:
    return Reaper(tmp_path)


def high_share(samples: np.ndarray) -> float:
    """Energy above 7 kHz over all."""
    power = np.abs(np.fft.rfft(samples[:, 0])) ** 2
    return float(power[int(7000 * len(samples) / RATE) :].sum() / power.sum())


def test_every_call_of_reaper_is_in_the_stand_in() -> None:
    called = set()
    for script in SCRIPTS.glob("*.lua"):
        called |= set(re.findall(r"\breaper\.(\w+)\(", script.read_text()))
    known = set(re.findall(r"^function r\.(\w+)", STAND_IN.read_text(), re.MULTILINE))
    assert called <= known
    assert known <= called, "contracts of calls that nobody makes"


def test_items_get_takes_each_file_is_extended_once_and_one_undo_step(reaper: Reaper) -> None:
    path, samples = reaper.sound('odd "name" $HOME 100 %.wav')
    path = Path(str(path))
    quoted = str(path).replace("\\", "\\\\").replace('"', '\\"')
    found = reaper.run(
        f"""
        local item, take = stand.add_item("{quoted}", "verse", 0, 1)
        take.values.D_STARTOFFS = 0.25
        take.effects = {{ "EQ" }}
        local other = stand.add_item("{quoted}", "chorus", 5, 1)
        stand.answer = "|7|1|0"
        """,
        "AudioSR - Extend as new take",
        """
        out.started, out.boxes = stand.started, #stand.boxes
        out.undo = table.concat(stand.undo, ";")
        out.takes, out.others = #item.takes, #other.takes
        out.name, out.other = item.active.strings.P_NAME, other.active.strings.P_NAME
        out.offset, out.effects = item.active.values.D_STARTOFFS, item.active.effects[1]
        out.file = item.active.source.path
        out.same = out.file == other.active.source.path
        out.old, out.ours = take.source.path, item.active ~= take
        out.seed, out.selected = stand.ext["AudioSR Bridge/seed"], reaper.CountSelectedMediaItems(0)
        """,
    )
    assert (found["started"], found["boxes"]) == (1, 0)
    assert found["undo"] == "AudioSR: 2 new takes"
    assert (found["takes"], found["others"]) == (2, 2)
    assert found["name"] == "verse [AudioSR lite, seed 7]"
    assert found["other"] == "chorus [AudioSR lite, seed 7]"
    assert (found["offset"], found["effects"]) == (0.25, "EQ")
    assert found["old"] == str(path)
    assert found["ours"] is True
    assert found["same"] is True
    assert (found["seed"], found["selected"]) == ("7", 2)
    made, rate = sf.read(str(found["file"]), dtype="float32")
    assert rate == RATE
    assert made.shape == samples.shape
    assert high_share(samples) < 1e-6 < high_share(made)
    assert reaper.left_behind() == []


def test_a_file_that_fails_is_told_and_the_others_get_their_takes(reaper: Reaper) -> None:
    good, _ = reaper.sound("good.wav")
    (reaper.folder / "bad.wav").write_bytes(b"RIFF, but no more")
    found = reaper.run(
        f"""
        local bad = stand.add_item("{reaper.folder}/bad.wav", "bad", 0, 1)
        local good = stand.add_item("{good}", "good", 0, 1)
        stand.answer = ""
        """,
        "AudioSR - Extend as new take",
        "out.bad, out.good, out.box = #bad.takes, #good.takes, stand.boxes[1]",
    )
    assert (found["bad"], found["good"]) == (1, 2)
    assert "bad.wav" in str(found["box"])


@pytest.mark.parametrize(
    ("lua", "words"),
    [
        ("", "Select one item"),
        ('stand.add_item("/nowhere/a.wav", "gone", 0, 1)', "no sound file"),
        ('stand.add_item("@", "notes", 0, 1, "MIDI")', "no sound file"),
        ('stand.add_item("@", "back", 0, 1, "SECTION")', "glue the item first"),
        ('stand.add_item("@", "a", 0, 1); os.remove("#")', "daw install reaper"),
        ('stand.add_item("@", "a", 0, 1); stand.answer = "no such|0|1|0"', "no such"),
        ('stand.add_item("@", "a", 0, 1); stand.answer = "|-3|1|0"', "seed"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_box_and_changes_nothing(
    reaper: Reaper, lua: str, words: str
) -> None:
    path, _ = reaper.sound("a.wav", 0.5)
    lua = lua.replace("@", str(path)).replace("#", str(reaper.scripts / "program.txt"))
    found = reaper.run(
        f'stand.answer = ""\n{lua}',
        "AudioSR - Extend as new take",
        """
        out.box, out.count, out.takes = stand.boxes[1], #stand.boxes, 0
        for _, item in ipairs(stand.items) do out.takes = math.max(out.takes, #item.takes) end
        """,
    )
    assert words in str(found["box"])
    assert found["count"] == 1
    assert int(str(found["takes"])) <= 1
    assert reaper.left_behind() == []


def test_nobody_answers_the_question_and_nothing_happens(reaper: Reaper) -> None:
    path, _ = reaper.sound("a.wav", 0.5)
    found = reaper.run(
        f'stand.add_item("{path}", "a", 0, 1)',
        "AudioSR - Extend as new take",
        "out.started, out.boxes = stand.started or 0, #stand.boxes",
    )
    assert found == {"started": 0, "boxes": 0}


@pytest.mark.parametrize("key", [27, -1])
def test_escape_or_a_closed_window_cancels(reaper: Reaper, key: int) -> None:
    path, _ = reaper.sound("long.wav", 60)
    found = reaper.run(
        f"""
        local item = stand.add_item("{path}", "a", 0, 1)
        stand.answer = ""
        local looks = 0
        stand.key = function() looks = looks + 1 return looks > 3 and {key} or 0 end
        """,
        "AudioSR - Extend as new take",
        """
        out.takes, out.boxes, out.undo = #item.takes, #stand.boxes, #stand.undo
        local left = "x" -- the process ends by itself, and tidies up
        for _ = 1, 600 do
            local pipe = io.popen('ls -A "' .. stand.folder .. '/AudioSR"')
            left = pipe:read("a")
            pipe:close()
            if left == "" then break end
            os.execute("sleep 0.05")
        end
        out.left = left
        """,
    )
    assert found == {"takes": 1, "boxes": 0, "undo": 0, "left": ""}


def test_delta_plus_original_is_the_extended(reaper: Reaper) -> None:
    path, samples = reaper.sound("a.wav")
    files = {}
    for script in ("AudioSR - Extend as new take", "AudioSR - Only what is added as new take"):
        found = reaper.run(
            f'local item = stand.add_item("{path}", "a", 0, 1) stand.answer = ""',
            script,
            "out.file, out.name = item.active.source.path, item.active.strings.P_NAME",
        )
        files[script[10:14]] = sf.read(str(found["file"]), dtype="float32")[0]
    assert found["name"] == "a [AudioSR delta lite, seed 0]"
    assert np.abs(samples + files["Only"] - files["Exte"]).max() < 1e-6


def test_an_audition_is_wet_only_at_the_cursor(reaper: Reaper) -> None:
    path, samples = reaper.sound("a.wav", 10)
    found = reaper.run(
        f"""
        local item, take = stand.add_item("{path}", "a", 100, 9)
        take.values.D_STARTOFFS, stand.cursor, stand.answer = 0.5, 102, ""
        """,
        "AudioSR - Audition at edit cursor",
        """
        out.takes, out.undo = #item.takes, #stand.undo
        out.from, out.to = stand.range[1], stand.range[2]
        for i, one in ipairs(item.takes) do
            if one ~= take then
                out["name" .. i], out["file" .. i] = one.strings.P_NAME, one.source.path
            end
        end
        """,
    )
    assert (found["takes"], found["undo"]) == (3, 1)
    assert (found["from"], found["to"]) == (102, 108)
    names = [value for key, value in found.items() if key.startswith("name")]
    assert set(names) == {f"a [AudioSR audition lite, seed {seed}]" for seed in (0, 1)}
    for file in (value for key, value in found.items() if key.startswith("file")):
        made = sf.read(str(file), dtype="float32")[0]
        changed = np.flatnonzero((made != samples).any(axis=1)) / RATE
        assert 2.4 < changed.min() < 2.7
        assert 8.3 < changed.max() <= 8.51


def test_a_b_switches_there_and_back_and_works_on_the_original(reaper: Reaper) -> None:
    path, _ = reaper.sound("a.wav", 0.5)
    found = reaper.run(
        f"""
        local item, take = stand.add_item("{path}", "a", 0, 1) stand.answer = ""
        stand.run("{reaper.scripts}/AudioSR - Extend as new take.lua")
        local extended = item.active
        stand.run("{reaper.scripts}/AudioSR - Toggle original and extended.lua")
        out.original = item.active == take
        stand.run("{reaper.scripts}/AudioSR - Toggle original and extended.lua")
        out.extended = item.active == extended
        """,
        "AudioSR - Extend as new take",
        """
        out.takes, out.name = #item.takes, item.active.strings.P_NAME
        out.box = stand.boxes[1] or ''
        """,
    )
    assert found["box"] == ""
    assert found["original"] is True
    assert found["extended"] is True
    assert (found["takes"], found["name"]) == (3, "a [AudioSR lite, seed 0]")
