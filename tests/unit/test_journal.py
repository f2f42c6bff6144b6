"""The journal remembers what it was told, survives what happens to it, and is in nobody's way."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import BridgeError
from bridge.jobs import ENDED, State
from bridge.journal import Entry, Journal

ROOT = Path(__file__).parents[2]


def entry(job: str = "a", **other) -> Entry:
    fields = {
        "client": "one", "spec": {"seed": 1, "settings": {"model": "lite"}}, "state": State.QUEUED,
        "priority": "batch", "source_kind": "inline", **other,
    }  # fmt: skip
    return Entry(job, **fields)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite"


def test_what_was_put_is_there_after_the_next_start(path):
    one = entry(source_path="/a/b.wav", chunks_total=7, error_code="E_FILE", error_text="why")
    with Journal(path, Clock()) as journal:
        journal.put(one)
    with Journal(path) as journal:
        assert journal.get("a") == replace(one, created=1001.0, updated=1001.0)
        assert journal.get("b") is None
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_other_files_of_the_journal_are_ours_alone_too(path):
    with Journal(path) as journal:
        journal.put(entry())
        for one in path.parent.iterdir():
            assert one.stat().st_mode & 0o777 == 0o600, one


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "state", "progress", "interrupt", "reopen"]),
        st.sampled_from("abc"),
        st.sampled_from(list(State)),
        st.integers(0, 50),
    ),
    max_size=25,
)


@given(steps=_STEPS)
@settings(max_examples=40, deadline=None)
def test_the_journal_says_what_a_dictionary_would(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("journal") / "journal.sqlite"
    journal = Journal(path)
    told: dict[str, Entry] = {}
    for what, job, state, number in steps:
        if what == "put":
            told[job] = entry(job, state=state, chunks_done=number)
            journal.put(told[job])
        elif what == "state":
            journal.set_state(job, state, "E_JOB", "text")
            if job in told:
                told[job] = replace(told[job], state=state, error_code="E_JOB", error_text="text")
        elif what == "progress":
            journal.set_progress(job, number, 50)
            if job in told:
                told[job] = replace(told[job], chunks_done=number, chunks_total=50)
        elif what == "interrupt":
            stays = {*ENDED, State.INTERRUPTED}
            running = [one for one in told if told[one].state not in stays]
            assert journal.interrupt_running() == len(running)
            told.update({one: replace(told[one], state=State.INTERRUPTED) for one in running})
        else:
            journal.close()
            journal = Journal(path)
    found = {one.job: replace(one, created=0.0, updated=0.0) for one in journal.list()}
    journal.close()
    assert found == told


def test_the_list_is_newest_first_and_may_be_of_some_states(path):
    with Journal(path, Clock()) as journal:
        states = {"a": State.DONE, "b": State.FAILED, "c": State.RUNNING, "d": State.DONE}
        for job, state in states.items():
            journal.put(entry(job, state=state))
        journal.set_progress("b", 1, 2)
        assert [one.job for one in journal.list()] == ["b", "d", "c", "a"]
        assert [one.job for one in journal.list([State.DONE])] == ["d", "a"]
        assert [one.job for one in journal.list([])] == []
        assert [one.job for one in journal.list(limit=2)] == ["b", "d"]
        assert journal.get("b").created < journal.get("d").created


def test_what_ended_is_forgotten_by_age_and_by_number_and_the_rest_never(path):
    clock = Clock()
    with Journal(path, clock) as journal:
        for number in range(10):
            journal.put(entry(f"done-{number}", state=State.DONE))
            journal.put(entry(f"running-{number}", state=State.RUNNING))
        assert journal.prune(1e9, keep=4) == 6
        assert [one.job for one in journal.list([State.DONE])] == [
            "done-9", "done-8", "done-7", "done-6",
        ]  # fmt: skip
        clock.now += 100
        journal.put(entry("late", state=State.CANCELLED))
        assert journal.prune(50, keep=4) == 4
        assert [one.job for one in journal.list(ENDED)] == ["late"]
        assert len(journal.list([State.RUNNING])) == 10


def _newer(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.execute("CREATE TABLE things (x)")
    database.commit()
    database.close()


def _other_table(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 1")
    database.execute("CREATE TABLE jobs (x)")
    database.commit()
    database.close()


def _torn(path: Path) -> None:
    with Journal(path) as journal:
        for number in range(500):
            journal.put(entry(f"{number}", client="x" * 200))
    data = bytearray(path.read_bytes())
    for place in range(4096, len(data), 512):
        data[place : place + 64] = random.Random(place).randbytes(64)
    path.write_bytes(data)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"this is no database" * 100),
        lambda path: path.write_bytes(b"SQLite format 3\0" + bytes(100)),
        _newer,
        _other_table,
        _torn,
    ],
    ids=["garbage", "header only", "newer", "other table", "torn"],
)
def test_a_file_that_cannot_be_used_is_moved_aside(spoil, path, caplog):
    spoil(path)
    with Journal(path) as journal:
        assert journal.list() == []
        journal.put(entry())
        assert journal.get("a") is not None
    aside = [one for one in path.parent.iterdir() if one.name.startswith("journal.sqlite.")]
    assert aside
    assert "begins anew" in caplog.text


def test_damage_that_comes_while_it_is_open_costs_the_memory_and_nothing_else(path):
    with Journal(path) as journal:
        for number in range(500):
            journal.put(entry(f"{number}", client="x" * 200))
        journal._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        path.write_bytes(b"no database any more" * 5000)
        journal._database.execute("PRAGMA shrink_memory")
        for number in range(20):
            journal.put(entry(f"new-{number}"))
            journal.list()
        journal.put(entry("last"))
        assert journal.get("last") is not None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_a_disk_that_is_full_costs_the_memory_and_nothing_else(path, caplog):
    with Journal(path) as journal:
        journal.put(entry())
        (pages,) = journal._database.execute("PRAGMA page_count").fetchone()
        journal._database.execute(f"PRAGMA max_page_count = {pages}")
        for number in range(200):
            journal.put(entry(f"{number}", client="x" * 500))
        assert journal.get("a") is not None
        journal._database.execute("PRAGMA max_page_count = 100000")
        journal.put(entry("later"))
        assert journal.get("later") is not None
    assert "could not be used" in caplog.text


def test_a_closed_journal_says_nothing(path):
    journal = Journal(path)
    journal.close()
    journal.close()
    journal.put(entry())
    journal.set_state("a", State.DONE)
    assert journal.list() == []


def test_a_place_where_nothing_can_be_written_is_told(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for path in (tmp_path / "missing" / "j.sqlite", tmp_path / "folder", tmp_path / "link"):
        with pytest.raises(BridgeError, match="cannot be opened"):
            Journal(path)


@pytest.mark.timeout(60)
def test_threads_and_a_second_daemon_may_write_at_once(path):
    def write(journal: Journal, name: str) -> None:
        for number in range(50):
            journal.put(entry(f"{name}-{number}"))
            journal.set_progress(f"{name}-{number}", number, 50)

    with Journal(path) as one, Journal(path) as two:
        threads = [
            threading.Thread(target=write, args=(journal, f"{index}"))
            for index, journal in enumerate((one, one, two, two))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(50)
        assert len(one.list()) == len(two.list()) == 200


WRITE = """
import sys
from pathlib import Path
from bridge.jobs import State
from bridge.journal import Entry, Journal
journal, number = Journal(Path(sys.argv[1])), int(sys.argv[2])
while True:
    journal.put(Entry(f"{number:09}", "c", {}, State.RUNNING, "batch", "inline"))
    journal.set_progress(f"{number:09}", number, number)
    print(number, flush=True)
    number += 1
"""


@pytest.mark.timeout(120)
def test_nothing_that_was_told_is_lost_by_a_kill(path):
    rng = random.Random(4)
    number = 0
    for _ in range(20):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITE, str(path), str(number)],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        with writer:
            for _ in range(rng.randrange(1, 60)):  # how far it gets before it is killed
                number = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            rest = writer.stdout.read().split("\n")[:-1]
            writer.wait(20)
        number = int(rest[-1]) if rest else number
        with Journal(path) as journal:
            found = {int(one.job): one for one in journal.list()}
            assert set(found) >= set(range(number + 1))
            assert all(found[one].chunks_done == one for one in range(number + 1))
        number += 1
    assert [one.name for one in path.parent.iterdir()] == ["journal.sqlite"]  # none set aside
