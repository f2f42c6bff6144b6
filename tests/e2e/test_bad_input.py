"""Whatever is given: one clear sentence, the right exit code, nothing lost and nothing left.

The command line runs as a subprocess; all files that cannot be used go into one call, for one
failure stops no other.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import stat
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[2]
CLI = [sys.executable, "-m", "plugin_host.cli"]


def environment(folder, **more):
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "NO_COLOR": "1",
        "XDG_CONFIG_HOME": str(folder / ".config"),
        **more,
    }


def start(folder, *arguments, **options):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([*CLI, *arguments], cwd=folder, env=environment(folder), **options)


def call(folder, *arguments, **options):
    """(exit code, JSON objects, lines for people); never a traceback, never a "bug"."""
    out, err = (process := start(folder, *arguments, **options)).communicate(timeout=120)
    err = (err or b"").decode()
    assert "Traceback" not in err
    assert "this is a bug" not in err
    lines = (out or b"").splitlines() if "--json" in arguments else []
    return process.returncode, [json.loads(line) for line in lines], err.splitlines()


def contents(folder):
    """Every name and what it holds, to see that nothing was lost and nothing left."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[str(path.relative_to(folder))] = "no file"
    return found


def noise(path, seconds=0.5, rate=16_000, subtype="PCM_16"):
    x = np.random.default_rng(0).normal(0, 0.05, int(rate * seconds))
    soundfile.write(path, x, rate, subtype=subtype, format="WAV")
    return path


def wav(channels=1, bits=16, tag=1, rate=16_000, data=bytes(3_200), size=None, riff=None):
    align = channels * bits // 8
    fmt = struct.pack(
        "<HHIIHH", tag, channels, rate, rate * align & 0xFFFFFFFF, align & 0xFFFF, bits
    )
    size = len(data) if size is None else size
    body = b"WAVEfmt " + struct.pack("<I", 16) + fmt + b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", len(body) if riff is None else riff) + body


def test_every_file_that_cannot_be_used_is_one_sentence(tmp_path):
    good = noise(tmp_path / "good.wav").read_bytes()
    flac = tmp_path / "t.flac"
    soundfile.write(flac, np.random.default_rng(0).normal(0, 0.05, 8_000), 16_000)
    nan = wav(tag=3, bits=32, data=np.array([0, np.nan, 0], "<f4").tobytes())
    bad = {
        "empty.wav": b"",
        "one.wav": b"R",
        "head.wav": good[:30],
        "half.wav": good[: len(good) // 2],
        "half.flac": flac.read_bytes()[: flac.stat().st_size // 2],
        "text.wav": b"not a sound " * 100,
        "zeros.wav": bytes(10_000),
        "junk.flac": b"fLaC" + os.urandom(1_000),
        "junk.mp3": bytes(range(1, 256)) * 20,
        "channels0.wav": wav(channels=0),
        "channels65535.wav": wav(channels=65_535),
        "channels65.wav": wav(channels=65, data=bytes(13_000)),
        "rate0.wav": wav(rate=0),
        "rate4e9.wav": wav(rate=0xFFFFFFFF),
        "bits0.wav": wav(bits=0),
        "bits7.wav": wav(bits=7),
        "huge.wav": wav(size=0xFFFFFF00),
        "pipe.wav": wav(size=0xFFFFFFFF, riff=0xFFFFFFFF, data=good[44:]),
        "unclosed.wav": wav(size=0, riff=0, data=good[44:]),
        "nodata.wav": wav()[:36],
        "tag.wav": wav(tag=0x1234),
        "nan.wav": nan,
    }
    flac.unlink()
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
    os.mkfifo(tmp_path / "fifo.wav")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    (tmp_path / "gone.wav").symlink_to("nowhere.wav")
    names = [*bad, "fifo.wav", "folder.wav", "loop.wav", "gone.wav", "missing.wav"]
    names += ["x" * 300 + ".wav", "/dev/zero", "/dev/null"]
    before = contents(tmp_path)

    code, reports, lines = call(tmp_path, "extend", *names, "good.wav", "--json", "-o", "out/")

    assert code == 1
    assert [r["input"] for r in reports] == [*names, "good.wav"]
    *failed, done = reports
    assert all(r["exit_code"] == 1 and r["error"] for r in failed)
    assert "sample 1 " in failed[names.index("nan.wav")]["error"]
    assert not done.get("error")
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == len(names)
    for name, error in zip(names, errors, strict=True):
        assert name in error
        assert len(error) < 200 + 2 * len(name) + len(str(tmp_path))
    assert {k: v for k, v in contents(tmp_path).items() if k in before} == before
    assert sorted(set(contents(tmp_path)) - set(before)) == ["out", "out/good.wav"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["a.wav", "-o", "nowhere/x.wav"], 1),
        (["a.wav", "-o", "x" * 300 + ".wav"], 1),
        (["a.wav", "-o", "fifo"], 1),
        (["a.wav", "-o", "out.mp3"], 1),
        (["a.wav", "-o", "there.wav"], 2),
        (["a.wav", "-o", "there.wav", "--dry-run"], 2),
        (["a.wav", "-o", "hard.wav", "--overwrite"], 2),
        (["a.wav", "-o", "soft.wav", "--overwrite"], 2),
        (["a.wav", "--model", "nope", "-o", "out/"], 4),
        (["a.wav", "--region", "5:6"], 2),
        (["a.wav", "--region", "0:0.2", "--rate", "48000"], 2),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_an_output_or_a_wish_that_cannot_be(tmp_path, arguments, code, capfd):
    from plugin_host.cli.app import run  # in this process: ten starts of torch cost a minute

    noise(tmp_path / "a.wav")
    (tmp_path / "there.wav").write_bytes(b"mine")
    (tmp_path / "hard.wav").hardlink_to(tmp_path / "a.wav")
    (tmp_path / "soft.wav").symlink_to("a.wav")
    os.mkfifo(tmp_path / "fifo")
    before = contents(tmp_path)
    with contextlib.chdir(tmp_path):
        assert run(["extend", *arguments]) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("error: ")
    assert "bug" not in err
    after = contents(tmp_path)
    after.pop("out", None)  # the folder that was asked for may be there, empty
    assert after == before


def test_limits_are_shown_whole(capfd):
    from plugin_host.cli.app import run

    assert run(["extend", "a.wav", "--seed", "-1"]) == 2
    assert "0 to 4294967295" in capfd.readouterr().err


def test_a_dry_run_writes_nothing_and_names_what_it_would(tmp_path):
    noise(tmp_path / "a.wav")
    code, [report], lines = call(tmp_path, "extend", "a.wav", "-o", "new/", "--dry-run", "--json")
    assert code == 0
    assert report["output"] == "new/a.wav"
    assert "new/a.wav" in lines[0]
    assert list(contents(tmp_path)) == ["a.wav"]


def test_no_permission_fails_that_file_alone(tmp_path):
    noise(tmp_path / "secret.wav").chmod(0)
    noise(tmp_path / "a.wav")
    (tmp_path / "ro").mkdir(mode=0o555)
    powers = []
    if os.getuid() == 0:  # root without the power to ignore permissions
        if shutil.which("setpriv") is None:
            pytest.skip("root needs setpriv to be refused anything")
        powers = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]

    def reports(*arguments):
        command = [*powers, *CLI, "extend", *arguments, "--json"]
        done = subprocess.run(command, cwd=tmp_path, env=environment(tmp_path), capture_output=True)
        assert done.returncode == 1
        assert b"Traceback" not in done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    failed, fine = reports("secret.wav", "a.wav", "-o", "out")
    assert "permission denied" in failed["error"]
    assert not fine.get("error")
    [failed] = reports("a.wav", "-o", "ro")
    assert "permission denied" in failed["error"]
    assert not list((tmp_path / "ro").iterdir())


def test_a_full_disk_leaves_nothing(tmp_path):
    noise(tmp_path / "a.wav", 2)
    before = contents(tmp_path)

    def small():  # Python ignores SIGXFSZ, so a write beyond the limit is an OSError, as ENOSPC is
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    code, [report], _ = call(tmp_path, "extend", "a.wav", "--json", preexec_fn=small)
    assert code == 1
    assert "cannot be written" in report["error"]
    assert contents(tmp_path) == before


def test_names_no_shell_likes(tmp_path):
    names = [b"-rf.wav", b"a\nb.wav", b"\xff\xfe.wav", b"%s {0} [b]x.wav", b"n" * 250 + b".wav"]
    for name in names:
        noise(os.fsencode(tmp_path) + b"/" + name, 0.2)
    code, reports, _ = call(tmp_path, "extend", "--json", "-o", "out", "--", *names)
    assert code == 0
    assert len(reports) == len(names)
    assert sorted(os.listdir(os.fsencode(tmp_path / "out"))) == sorted(names)
    code, [report], _ = call(tmp_path, "extend", "--json", "--", names[-1])
    assert code == 1  # NAME.extended.wav is beyond what a file system holds
    assert "too long" in report["error"]


def test_in_place_keeps_every_backup(tmp_path):
    first = noise(tmp_path / "a.wav").read_bytes()
    code, [report], _ = call(tmp_path, "extend", "a.wav", "--in-place", "--json", "--rate", "48000")
    second = (tmp_path / "a.wav").read_bytes()
    assert code == 0
    assert Path(report["backup"]).name == "a.orig.wav"
    assert (tmp_path / "a.orig.wav").read_bytes() == first != second
    arguments = ["a.wav", "--in-place", "--cutoff", "4000", "--json"]
    assert call(tmp_path, "extend", *arguments)[0] == 0
    assert (tmp_path / "a.orig.wav").read_bytes() == first
    assert (tmp_path / "a.orig.2.wav").read_bytes() == second


@pytest.fixture
def at_work(tmp_path):
    """A process in the middle of its work: its hidden output is there and grows."""
    noise(tmp_path / "long.wav", 300)
    (tmp_path / "long.extended.wav").write_bytes(b"mine")
    process = start(tmp_path, "extend", "long.wav", "--overwrite")
    limit = time.monotonic() + 90
    while time.monotonic() < limit and process.poll() is None:
        parts = list(tmp_path.glob(".*.part"))
        if parts and parts[0].stat().st_size > 1_000:
            break
        time.sleep(0.02)
    yield process
    process.kill()
    process.communicate()


def test_terminated_leaves_the_old_output(tmp_path, at_work):
    at_work.send_signal(signal.SIGTERM)
    _, err = at_work.communicate(timeout=30)
    assert at_work.returncode == 130
    assert err.decode().splitlines()[-1] == "error: interrupted"
    assert sorted(os.listdir(tmp_path)) == ["long.extended.wav", "long.wav"]
    assert (tmp_path / "long.extended.wav").read_bytes() == b"mine"


def test_killed_leaves_a_hidden_part_at_most(tmp_path, at_work):
    original = (tmp_path / "long.wav").read_bytes()
    at_work.kill()
    at_work.communicate(timeout=30)
    rest = set(os.listdir(tmp_path)) - {"long.wav", "long.extended.wav"}
    assert all(name.startswith(".long") and name.endswith(".part") for name in rest)
    assert len(rest) <= 1
    assert (tmp_path / "long.wav").read_bytes() == original
    assert (tmp_path / "long.extended.wav").read_bytes() == b"mine"


def test_a_closed_standard_output_or_error_stops_no_work(tmp_path):
    noise(tmp_path / "a.wav")
    command = 'exec "$0" -m plugin_host.cli extend a.wav --json -o out.wav >&- 2>&-'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable], cwd=tmp_path, env=environment(tmp_path), timeout=60
    )
    assert done.returncode == 0
    assert soundfile.info(tmp_path / "out.wav").samplerate == 48_000


def test_a_report_or_picture_never_takes_the_place_of_a_sound(tmp_path):
    noise(tmp_path / "a.wav")
    noise(tmp_path / "b.wav")
    (tmp_path / "album").mkdir()
    noise(tmp_path / "album" / "c.wav")
    (tmp_path / "chain.toml").write_text('schema = 1\n[[step]]\nplugin = "Gain"\n')
    (tmp_path / "link.json").symlink_to("b.wav")
    before = contents(tmp_path)
    render = ["render", "chain.toml", "a.wav", "-o", "out.wav"]
    stems = ["stems", "album", "-o", "out"]
    for arguments, code in [
        ([*render, "--report", "b.wav"], 2),
        ([*render, "--html", "chain.toml"], 2),
        ([*render, "--html", "link.json"], 2),
        ([*render, "--report", "/dev/null"], 1),
        ([*render, "--report", "nowhere/r.json"], 1),
        ([*stems, "--report", "album/c.wav"], 2),
        ([*stems, "--html", "/dev/full"], 1),
        (["compare", "a.wav", "b.wav", "--png", "b.wav"], 2),
        (["compare", "a.wav", "b.wav", "--joins", "./a.wav"], 2),
    ]:
        made = call(tmp_path, *arguments)
        assert made[0] == code, (arguments, made)
        assert contents(tmp_path) == before, arguments
        assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_interrupted_while_it_loads_is_no_traceback(tmp_path):
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [*CLI, "--version"],
        cwd=tmp_path,
        env=environment(tmp_path, PYTHONPATH=path),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, b"error: interrupted\n")
