"""The flags of the official command, in real processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiosr_core import store
from tests.support.audiosr import install, muffled

ROOT = Path(__file__).parents[2]
FOLDER = re.compile(r"\d\d_\d\d_\d{4}_\d\d_\d\d_\d\d")

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(store.FOLDER_VARIABLE, str(folder))
        install()
    return folder


@pytest.fixture
def audiosr(models, tmp_path):
    """Run the command in a folder of its own, with no daemon near; CompletedProcess out."""
    soundfile.write(tmp_path / "a.wav", muffled(2, 15_000).T, 44_100, "PCM_24")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "AUDIOSR_"))}
    environment = {
        **kept,
        "HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        store.FOLDER_VARIABLE: str(models),
    }

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "plugin_host.cli", "compat", *map(str, arguments)],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert "Traceback" not in done.stderr
        return done

    return run


def made(folder: Path) -> list[Path]:
    return sorted(one for one in folder.rglob("*") if one.is_file())


def test_the_official_line_gives_the_official_place_and_the_products_sound(audiosr, tmp_path):
    done = audiosr("-i", "a.wav", "-d", "cpu", "--ddim_steps", 2, "-gs", 2, "--json")
    assert done.returncode == 0, done.stderr
    [path] = made(tmp_path / "output")
    assert path.name == "a_AudioSR_Processed_48K.wav"
    assert FOLDER.fullmatch(path.parent.name)
    info = soundfile.info(path)
    assert (info.samplerate, info.channels, info.subtype) == (48_000, 2, "PCM_24")
    assert info.frames == round(15_000 * 48_000 / 44_100)
    [report] = map(json.loads, done.stdout.splitlines())
    turned = {"model": "audiosr-basic", "seed": 42, "steps": 2, "guidance_scale": 2.0}
    assert turned.items() <= report["settings"].items()


def test_exact_has_the_old_habits_and_a_list_goes_on_after_a_missing_file(audiosr, tmp_path):
    (tmp_path / "list.txt").write_text("\ufeffnowhere.wav\r\n\r\n  a.wav  \n", "utf-8")
    done = audiosr(
        "-il", "list.txt", "-s", "here", "--suffix", "_x", "--ddim_steps", 2, "--seed", 7,
        "--compat-exact", "--json",
    )  # fmt: skip
    assert done.returncode == 1
    failed, report = map(json.loads, done.stdout.splitlines())
    assert failed["input"] == "nowhere.wav"
    [path] = made(tmp_path / "here")
    assert path == tmp_path / report["output"]
    assert path.name == "a_x.wav"
    info = soundfile.info(path)
    assert (info.samplerate, info.channels, info.subtype) == (48_000, 1, "PCM_16")
    assert info.frames == report["num_samples"] == round(15_000 * 48_000 / 44_100)
    assert np.abs(soundfile.read(path)[0]).max() < 0.51


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        ([], 2, "-il"),
        (["-i", "a.wav", "-il", "list.txt"], 2, "one of"),
        (["-il", "nowhere.txt"], 1, "nowhere.txt"),
        (["-i", "a.wav", "--model_name", "music"], 2, "basic or speech"),
        (["-i", "a.wav", "--model_name", "speech"], 4, "models install audiosr-speech"),
        (["-i", "a.wav", "--model_name", "speech", "--compat-exact"], 4, "models import"),
        (["-i", "a.wav", "--suffix", "/../x"], 2, "slash"),
        (["-i", "a.wav", "--ddim_steps", "0"], 2, "steps"),
        (["-i", "a.wav", "--chunk_duration", "2"], 2, "longer than the overlap"),
        (["-i", "a.wav", "--compat-exact", "--daemon"], 2, "leave out --daemon"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(audiosr, tmp_path, arguments, code, word):
    done = audiosr(*arguments)
    assert done.returncode == code
    assert len(done.stderr.splitlines()) == 1
    assert word in done.stderr
    assert made(tmp_path) == [tmp_path / "a.wav"]
