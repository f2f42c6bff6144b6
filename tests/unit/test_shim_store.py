"""Where the plugin looks, what it keeps, and what it starts: as the Python side has it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge import lifecycle, runtime_dir
from bridge.cache import ChunkCache
from bridge.errors import BridgeError
from plugin_host.plugin_files import start_command
from tests.support.native import build

pytestmark = [
    pytest.mark.timeout(60, func_only=True),  # a build has its own limit
    pytest.mark.skipif(sys.platform != "linux", reason="the plugin is for Linux"),
]
KEY = "5" * 64
MAX = 1 << 20
FOLDERS = (
    runtime_dir.runtime_folder, runtime_dir.cache_folder,
    runtime_dir.state_folder, runtime_dir.config_folder,
)  # fmt: skip
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


@pytest.fixture(scope="session")
def places() -> Path:
    return build("places", "places", "starter", "json", sanitize=True)


@pytest.fixture(scope="session")
def store() -> Path:
    return build("store", "store", "places", "json", "sha256", sanitize=True)


def said(program: Path, *words: object, **environment: str) -> str:
    done = subprocess.run(
        [program, *map(str, words)], capture_output=True, text=True, timeout=30,
        env={"HOME": "/nowhere", **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- places


ENVIRONMENTS = [
    {},
    {"HOME": "/home/she"},
    {"HOME": "/home/she/"},
    {"HOME": "/"},
    {"HOME": "relative"},
    {"HOME": ""},
    {"XDG_CACHE_HOME": "/c", "XDG_STATE_HOME": "/s/", "XDG_CONFIG_HOME": "/k//"},
    {"XDG_CACHE_HOME": "c", "XDG_STATE_HOME": "", "XDG_CONFIG_HOME": "./k"},
    {"XDG_RUNTIME_DIR": "{ours}"},
    {"XDG_RUNTIME_DIR": "{ours}/"},
    {"XDG_RUNTIME_DIR": "{link}"},
    {"XDG_RUNTIME_DIR": "{file}"},
    {"XDG_RUNTIME_DIR": "/not/there"},
    {"XDG_RUNTIME_DIR": "relative"},
    {"XDG_RUNTIME_DIR": "{ours}", "AUDIOSR_BRIDGE_RUNTIME_DIR": "/r/"},
    {"XDG_RUNTIME_DIR": "{ours}", "AUDIOSR_BRIDGE_RUNTIME_DIR": ""},
    {"AUDIOSR_BRIDGE_CACHE_DIR": "/c/d", "AUDIOSR_BRIDGE_STATE_DIR": "/s d/é"},
    {"AUDIOSR_BRIDGE_RUNTIME_DIR": "r", "AUDIOSR_BRIDGE_CONFIG_DIR": "~/k"},
    {"XDG_CACHE_HOME": "/c", "AUDIOSR_BRIDGE_CACHE_DIR": "/other"},
]


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=str)
def test_both_sides_look_in_the_same_folders(environment, places, tmp_path, monkeypatch):
    (tmp_path / "ours").mkdir()
    (tmp_path / "link").symlink_to("ours")
    (tmp_path / "file").touch()
    names = {name: str(tmp_path / name) for name in ("ours", "link", "file")}
    environment = {name: text.format(**names) for name, text in environment.items()}
    for name in [one for one in os.environ if one.startswith(("XDG_", "AUDIOSR_BRIDGE_", "HOME"))]:
        monkeypatch.delenv(name)
    for name, text in environment.items():
        monkeypatch.setenv(name, text)

    done = subprocess.run([places, "folders"], capture_output=True, text=True, timeout=30)

    assert done.returncode == 0, done.stderr
    for line, python in zip(done.stdout.split("\n"), FOLDERS, strict=False):
        try:
            assert line.startswith("/")
            assert Path(line) == python()
        except BridgeError:
            assert line == ""
        except AssertionError:
            with pytest.raises(BridgeError):
                python()
            assert line == ""


@as_root
def test_the_session_of_another_user_is_not_used(places, tmp_path):
    (tmp_path / "session").mkdir()
    os.chown(tmp_path / "session", 12345, -1)
    found = said(places, "folders", XDG_RUNTIME_DIR=str(tmp_path / "session")).split("\n")
    assert found[0] == "/nowhere/.cache/audiosr-bridge/run"


def private(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_only_a_private_plain_file_is_read(places, tmp_path):
    path = private(tmp_path / "file", "secret")
    assert said(places, "read", path, 6) == "read secret\n"
    assert said(places, "read", path, 5) == "refused\n"
    (tmp_path / "link").symlink_to(path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for other in ("link", "pipe", "missing", "."):
        assert said(places, "read", tmp_path / other, 100) == "refused\n"
    for mode in (0o640, 0o604, 0o620):
        path.chmod(mode)
        assert said(places, "read", path, 100) == "refused\n"


@as_root
def test_the_file_of_another_user_is_not_read(places, tmp_path):
    path = private(tmp_path / "file", "secret")
    os.chown(path, 12345, -1)
    assert said(places, "read", path, 100) == "refused\n"


DEFAULT_BYTES = str(4 << 30)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('{"start": ["/bin/true", "a b"], "cache_bytes": 7}', ["7", "/bin/true", "a b"]),
        ('{"start": null}', [DEFAULT_BYTES]),
        ('{"start": "sh", "cache_bytes": -1}', [DEFAULT_BYTES]),
        ('{"start": ["/bin/true", 1], "cache_bytes": 0}', ["0"]),
        ('{"start": ["a\\u0000b"]}', [DEFAULT_BYTES]),
        ('{"start": ' + json.dumps(["x"] * 65) + "}", [DEFAULT_BYTES]),
        ("[]", [DEFAULT_BYTES]),
        ("nonsense", [DEFAULT_BYTES]),
        ("", [DEFAULT_BYTES]),
    ],
    ids=lambda one: one[:40] if isinstance(one, str) else "",
)
def test_the_configuration_is_read_or_left(text, lines, places, tmp_path):
    path = private(tmp_path / "plugin.json", text)
    assert said(places, "config", AUDIOSR_BRIDGE_CONFIG_DIR=str(tmp_path)).split() == (
        " ".join(lines).split()
    )
    path.chmod(0o644)
    assert said(places, "config", AUDIOSR_BRIDGE_CONFIG_DIR=str(tmp_path)).split() == [
        DEFAULT_BYTES
    ]


# ---- the log


def test_the_log_holds_a_few_lines_a_second_and_nothing_but_lines(places, tmp_path):
    folder = tmp_path / "a" / "state"
    said(places, "log", "one\ntwo\x1b[2J" + "x" * 5000, 1000, AUDIOSR_BRIDGE_STATE_DIR=str(folder))
    log = folder / "plugin.log"
    lines = log.read_text().splitlines()
    assert 1 <= len(lines) <= 10  # five a second, and a second may begin meanwhile
    assert all("one two [2Jxxx" in line and len(line) < 1200 for line in lines)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert (
        stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    )


def test_a_full_log_becomes_the_older_one(places, tmp_path):
    tmp_path.chmod(0o700)
    private(tmp_path / "plugin.log", "x" * (1 << 20))
    private(tmp_path / "plugin.log.1", "older")
    said(places, "log", "new", 1, AUDIOSR_BRIDGE_STATE_DIR=str(tmp_path))
    assert (tmp_path / "plugin.log").read_text().endswith("] new\n")
    assert (tmp_path / "plugin.log").stat().st_size < 100
    assert (tmp_path / "plugin.log.1").stat().st_size == 1 << 20


def test_nothing_is_logged_through_a_link_or_into_an_open_folder(places, tmp_path):
    tmp_path.chmod(0o700)
    foreign = private(tmp_path / "foreign", "")
    (tmp_path / "plugin.log").symlink_to(foreign)
    said(places, "log", "new", 1, AUDIOSR_BRIDGE_STATE_DIR=str(tmp_path))
    assert foreign.read_text() == ""
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)
    for state in (
        tmp_path / "open",
        tmp_path / "foreign",
        "/proc/nowhere",
        "relative",
        "/dev/full",
    ):
        said(places, "log", "new", 1, AUDIOSR_BRIDGE_STATE_DIR=str(state))
    assert list((tmp_path / "open").iterdir()) == []


# ---- the starter

TELL = """
import json, os, resource, signal, sys
sys.stderr.write("first\\nlast word\\n")
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
limits = [resource.getrlimit(one) for one in (resource.RLIMIT_FSIZE, resource.RLIMIT_CPU)]
text = json.dumps({
    "blocked": int(status["SigBlk"], 16), "ignored": int(status["SigIgn"], 16),
    "open": sorted(int(one) for one in os.listdir("/proc/self/fd")),
    "leads": os.getsid(0) == os.getpid(), "cwd": os.getcwd(), "limits": limits,
    "policy": os.sched_getscheduler(0),
    "links": [os.readlink(f"/proc/self/fd/{one}") for one in (0, 1)],
    "environment": dict(os.environ),
})
with open(sys.argv[1] + ".new", "w") as file:
    file.write(text)
os.rename(sys.argv[1] + ".new", sys.argv[1])
sys.exit(int(sys.argv[2]))
"""


def rough_thread() -> None:
    """What a thread of a host may look like, as far as we may."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, hard))
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(5))


def test_the_command_has_nothing_of_the_host(places, tmp_path):
    command = [sys.executable, "-c", TELL, tmp_path / "told", "0"]
    done = subprocess.run(
        [places, "start_as_a_rough_host", "20000", *map(str, command)],
        capture_output=True, text=True, timeout=30, preexec_fn=rough_thread,
        env={"HOME": "/nowhere", "LD_LIBRARY_PATH": "/host", "PYTHONPATH": "/host", "KEPT": "1",
             "AUDIOSR_BRIDGE_STATE_DIR": str(tmp_path)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "started\nreaped\n"), done.stderr
    told = json.loads((tmp_path / "told").read_text())
    libraries = {signal.SIGPIPE, signal.SIGXFSZ, 32, 33}  # Python's, and posix_spawn's of glibc
    own = sum(1 << (number - 1) for number in libraries)
    assert told["blocked"] == 0
    assert told["ignored"] & ~own == 0
    assert set(told["open"]) <= {0, 1, 2, 3}  # 3: the listing itself
    assert told["leads"]
    assert told["cwd"] == "/"
    assert told["links"] == ["/dev/null", "/dev/null"]
    assert all(soft == hard for soft, hard in told["limits"])
    assert told["policy"] == os.SCHED_OTHER
    assert told["environment"]["KEPT"] == "1"
    assert not {"LD_LIBRARY_PATH", "PYTHONPATH"} & set(told["environment"])


def test_a_command_that_fails_is_told_with_its_last_words(places, tmp_path):
    state = tmp_path / "state"
    out = said(
        places, "start", 20000, sys.executable, "-c", TELL, tmp_path / "told", 3,
        AUDIOSR_BRIDGE_STATE_DIR=str(state),
    )  # fmt: skip
    assert out == "failed\nreaped\n"
    assert "could not be started: last word" in (state / "plugin.log").read_text()


@pytest.mark.parametrize("command", [["/not/there"], ["true"], ["/"], [""]])
def test_what_cannot_be_run_fails_at_once(command, places, tmp_path):
    out = said(places, "start", 20000, *command, AUDIOSR_BRIDGE_STATE_DIR=str(tmp_path / "state"))
    assert out == "failed\nreaped\n"


def test_a_command_that_hangs_is_not_waited_for(places, tmp_path):
    begun = time.monotonic()
    out = said(
        places, "start", 200, "/bin/sh", "-c", "trap '' TERM; sleep 30; sleep 30",
        AUDIOSR_BRIDGE_STATE_DIR=str(tmp_path / "state"),
    )  # fmt: skip
    assert out == "failed\nreaped\n"
    assert time.monotonic() - begun < 25  # not the command's own 60


def test_the_command_that_install_writes_starts_a_daemon_that_outlives_us(places, monkeypatch):
    with tempfile.TemporaryDirectory(prefix="asb") as name:  # short, for sockets
        for part in ("RUNTIME", "CACHE", "STATE", "CONFIG"):
            monkeypatch.setenv(f"AUDIOSR_BRIDGE_{part}_DIR", f"{name}/{part}")
        done = subprocess.run(
            [places, "start_as_a_rough_host", "40000", *start_command(), "--idle-exit", "1m"],
            capture_output=True, text=True, timeout=50,
        )  # fmt: skip
        daemon = lifecycle.find()
        try:
            assert done.stdout == "started\nreaped\n", Path(f"{name}/STATE/plugin.log").read_text()
            assert daemon is not None
        finally:
            if daemon is not None:
                lifecycle.stop(daemon)


# ---- the store


def noise(channels: int, samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((channels, samples)).astype(np.float32)


class Kept:
    """A store in a folder, word by word."""

    def __init__(self, program: Path, folder: Path, files: Path, max_bytes: int = MAX) -> None:
        self.program, self.folder, self.files, self.max_bytes = program, folder, files, max_bytes

    def say(self, *words: object) -> str:
        state = str(self.files / "state")
        return said(
            self.program, self.folder, self.max_bytes, *words, AUDIOSR_BRIDGE_STATE_DIR=state
        )

    def keep(self, key: str, samples: np.ndarray) -> None:
        samples.tofile(self.files / "in")
        self.say("keep", key, *samples.shape, self.files / "in")

    def find(self, key: str, channels: int, samples: int) -> np.ndarray | None:
        if self.say("find", key, channels, samples, self.files / "out") == "missed\n":
            return None
        return np.fromfile(self.files / "out", np.float32).reshape(channels, samples)

    def key(self, x: np.ndarray, **other: object) -> str:
        x.tofile(self.files / "in")
        words = {
            "settings": "{}", "model": "ab", "rate": 48000, "channels": x.shape[0], "stride": 10,
            "past": 3, "first_end": x.shape[1] - 3, "index": 0, **other,
        }  # fmt: skip
        return self.say("key", *words.values(), self.files / "in").strip()

    @property
    def names(self) -> list[str]:
        return sorted(one.name for one in self.folder.iterdir() if one.is_file())


@pytest.fixture
def kept(store, tmp_path) -> Kept:
    return Kept(store, tmp_path / "cache" / "plugin", tmp_path)


SLOW = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@SLOW
@given(channels=st.integers(1, 2), samples=st.integers(0, 3000), seed=st.integers(0, 99))
def test_either_side_reads_what_the_other_kept(channels, samples, seed, kept):
    x = noise(channels, samples, seed)
    python = ChunkCache(kept.folder, MAX)
    kept.keep(KEY, x)
    np.testing.assert_array_equal(python.get(KEY), x)
    python.put(KEY, -x)
    np.testing.assert_array_equal(kept.find(KEY, channels, samples), -x)
    assert stat.S_IMODE(kept.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((kept.folder / KEY).stat().st_mode) == 0o600


def test_a_name_is_of_everything_that_the_samples_depend_on(kept):
    x = noise(2, 13)
    names = [
        kept.key(x, **other)
        for other in (
            {}, {"settings": '{"seed":1}'}, {"settings": "{}a", "model": "b"}, {"model": "abc"},
            {"rate": 44100}, {"stride": 11}, {"past": 4, "first_end": 9}, {"index": 1},
        )
    ]  # fmt: skip
    names += [kept.key(y) for y in (-x, x[::-1].copy(), x[:1].copy(), noise(2, 14))]
    assert len(set(names)) == len(names)
    assert all(len(name) == 64 and set(name) <= set("0123456789abcdef") for name in names)
    assert kept.key(x) == names[0]
    assert not kept.folder.exists()  # asking for a name makes nothing


@SLOW
@given(data=st.data())
def test_a_damaged_file_is_a_miss_and_goes(data, kept):
    x = noise(2, 50)
    kept.keep(KEY, x)
    path = kept.folder / KEY
    whole = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    else:
        whole = whole[: data.draw(st.integers(0, len(whole) - 1))]
    path.write_bytes(whole)
    assert kept.find(KEY, 2, 50) is None
    assert not path.exists()


def test_a_chunk_of_another_size_is_a_miss(kept):
    kept.keep(KEY, noise(2, 50))
    assert kept.find(KEY, 1, 100) is None
    assert kept.find(KEY, 2, 50) is None  # it is gone


def test_a_link_is_not_followed(kept, tmp_path):
    x = noise(1, 50)
    kept.keep(KEY, x)
    (kept.folder / KEY).rename(tmp_path / "elsewhere")
    (kept.folder / KEY).symlink_to(tmp_path / "elsewhere")
    assert kept.find(KEY, 1, 50) is None
    kept.keep(KEY, -x)  # takes the place of the link
    np.testing.assert_array_equal(np.fromfile(tmp_path / "elsewhere", "<f4", 50, offset=16), x[0])
    np.testing.assert_array_equal(kept.find(KEY, 1, 50), -x)


@pytest.mark.parametrize("how", ["open", "link", "file", "foreign"])
def test_a_folder_that_is_not_ours_alone_is_left(how, kept, tmp_path):
    x = noise(1, 50)
    kept.keep(KEY, x)
    if how == "open":
        kept.folder.chmod(0o750)
    elif how == "link":
        kept.folder.rename(tmp_path / "elsewhere")
        kept.folder.symlink_to(tmp_path / "elsewhere")
    elif how == "file":
        kept.folder.rename(tmp_path / "elsewhere")
        kept.folder.write_text("")
    elif os.geteuid() != 0:
        pytest.skip("only root may give files away")
    else:
        os.chown(kept.folder, 12345, -1)
    assert kept.find(KEY, 1, 50) is None
    assert kept.say("find_plan", "{}", 48000, 1) == "missed\n"
    kept.keep("6" * 64, x)
    kept.say("keep_plan", "{}", 48000, 1, 1, 1, 1, 1, "ab")
    kept.say("trim")
    assert "no longer kept" in (tmp_path / "state" / "plugin.log").read_text()
    for folder in (kept.folder, tmp_path / "elsewhere"):
        if folder.is_dir():
            assert [one.name for one in folder.iterdir()] == [KEY]


def test_the_least_recently_used_go_first(kept):
    kept.max_bytes = 10 * (400 + 48)
    names = [f"{i:064x}" for i in range(12)]
    for age, name in enumerate(names[:9]):
        kept.keep(name, noise(1, 100))
        os.utime(kept.folder / name, (age + 1e9, age + 1e9))
    assert kept.find(names[0], 1, 100) is not None  # used again
    for name in names[9:]:
        kept.keep(name, noise(1, 100))
    assert names[0] in kept.names
    assert names[1] not in kept.names
    assert set(names[9:]) <= set(kept.names)
    assert sum((kept.folder / name).stat().st_size for name in kept.names) <= kept.max_bytes


def test_what_is_not_ours_stays_and_what_was_left_goes(kept):
    kept.keep(KEY, noise(1, 100))
    kept.say("keep_plan", "{}", 48000, 1, 1, 1, 1, 1, "ab")
    old, new = kept.folder / f".new-{'0' * 16}", kept.folder / f".new-{'1' * 16}"
    for path in (old, new, kept.folder / "notes.txt"):
        path.write_bytes(b"x" * 5000)
    os.utime(old, (1e9, 1e9))
    kept.max_bytes = 100
    kept.say("trim")
    assert kept.names == [new.name, "notes.txt"]
    assert len(list((kept.folder / "plans").iterdir())) == 1


def test_nothing_is_kept_where_nothing_may_be(kept):
    kept.max_bytes = 0
    kept.keep(KEY, noise(1, 100))
    kept.say("keep_plan", "{}", 48000, 1, 1, 1, 1, 1, "ab")
    assert not kept.folder.exists()
    kept.max_bytes = 400
    kept.keep(KEY, noise(1, 100))  # larger than all together
    assert not kept.folder.exists()


def test_a_disk_that_is_full_leaves_nothing_behind(store, kept, tmp_path):
    x = noise(1, 100_000)
    x.tofile(tmp_path / "in")
    done = subprocess.run(
        [store, kept.folder, str(MAX), "keep", KEY, "1", "100000", tmp_path / "in"],
        env={"AUDIOSR_BRIDGE_STATE_DIR": str(tmp_path / "state")}, timeout=30,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )  # fmt: skip
    assert done.returncode == 0
    assert kept.names == []
    assert "no longer kept" in (tmp_path / "state" / "plugin.log").read_text()


def test_a_plan_is_found_again_by_settings_rate_and_channels(kept):
    assert kept.say("find_plan", "{}", 48000, 2) == "missed\n"
    kept.say("keep_plan", "{}", 48000, 2, 215040, 122880, 246000, 250000, "ab" * 32)
    assert kept.say("find_plan", "{}", 48000, 2) == f"215040 122880 246000 250000 {'ab' * 32}\n"
    for other in (['{"a":1}', 48000, 2], ["{}", 44100, 2], ["{}", 48000, 1]):
        assert kept.say("find_plan", *other) == "missed\n"


def test_a_damaged_plan_is_a_miss_and_goes(kept):
    kept.say("keep_plan", "{}", 48000, 2, 10, 5, 20, 30, "ab")
    (path,) = (kept.folder / "plans").iterdir()
    whole = path.read_bytes()
    body = json.dumps({"stride": 0, "past": 5, "first_end": 20, "latency": 30}).encode()
    hostile = body + b"\n" + hashlib.sha256(body).hexdigest().encode()
    for text in (b"", whole[:-1], whole.replace(b"10", b"11"), whole + b"0" * 9999, hostile):
        path.write_bytes(text)
        assert kept.say("find_plan", "{}", 48000, 2) == "missed\n"
        assert not path.exists()


def test_many_who_keep_and_find_at_once_see_whole_chunks(store, kept, tmp_path):
    x = noise(1, 20_000)
    x.tofile(tmp_path / "in")
    words = [str(kept.folder), str(MAX)]
    keeps = [store, *words, "keep", KEY, "1", "20000", str(tmp_path / "in")]
    finds = [store, *words, "find", KEY, "1", "20000"]
    environment = {"AUDIOSR_BRIDGE_STATE_DIR": str(tmp_path / "state")}
    crew = [
        subprocess.Popen(
            [*finds, str(tmp_path / f"out{i}")] if i % 2 else keeps,
            env=environment, stdout=subprocess.DEVNULL,
        )
        for i in range(16)
    ]  # fmt: skip
    assert [one.wait(30) for one in crew] == [0] * 16
    for path in tmp_path.glob("out*"):
        np.testing.assert_array_equal(np.fromfile(path, "<f4"), x[0])
    assert kept.names == [KEY]
