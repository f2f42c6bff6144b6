"""The same batches on a Ray cluster of two nodes on this machine."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from audiosr_core.errors import UsageError
from audiosr_core.settings import Settings
from plugin_host.place import Where
from plugin_host.stems.album import read_album
from plugin_host.stems.batch import BatchReport, run_batch
from plugin_host.stems.local import LocalCrew
from plugin_host.stems.ray_crew import RayCrew, check_installed
from tests.integration.test_stems_batch import Deaf, files, sources, states
from tests.support import stem_work
from tests.support.albums import album

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed"),
]

HERE = Where(device="cpu", daemon=False)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    check_installed()
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False,
            "node_ip_address": "127.0.0.1"}  # fmt: skip
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        node.pop("include_dashboard")
        cluster.add_node(**node)
        cluster.wait_for_nodes(60)
        yield cluster.address
    finally:
        cluster.shutdown()


def run(
    top: Path, out: Path, address: str, audience: Deaf | None = None, resume: bool = False
) -> BatchReport:
    found = read_album(top, out, recursive=True)
    crew = partial(RayCrew, 2, HERE, address, stem_work.opened)
    return run_batch(found, out, Settings(), crew, audience or Deaf(), resume=resume)


def test_ray_does_what_this_machine_does(tmp_path, address):
    top = album(tmp_path / "album", "a", "b", "c", "crash", "fail", "once")
    here = run_batch(
        read_album(top, tmp_path / "here", recursive=True),
        tmp_path / "here",
        Settings(),
        partial(LocalCrew, 2, HERE, stem_work.opened),
        Deaf(),
    )
    (top / "begun.txt").unlink()  # "once" has its first time again
    there = run(top, tmp_path / "there", address)

    assert states(here) == states(there)
    assert [song.report for song in here.songs] == [song.report for song in there.songs]
    assert files(tmp_path / "here") == files(tmp_path / "there")
    assert {song.exit_code for song in there.of("failed")} == {1, 5}


def test_a_worker_that_is_killed_loses_nothing_and_what_is_done_is_not_done_again(
    tmp_path, address
):
    top, out = album(tmp_path / "album", "a", "hang", "z"), tmp_path / "out"

    class Killer(Deaf):
        def ended(self, song):
            super().ended(song)
            if song.name == "z":
                threading.Thread(target=kill).start()

    def kill() -> None:
        """The process of the actor in which the song hangs; then the song is as any other."""
        wait = threading.Event()
        while not (top / "hangs.txt").exists():
            wait.wait(0.01)
        (top / "calm.txt").touch()
        os.kill(int((top / "hangs.txt").read_text()), signal.SIGKILL)

    report = run(top, out, address, Killer())
    assert states(report) == {"a": "done", "hang": "done", "z": "done"}
    assert files(out) == sources(top)
    assert sorted(stem_work.begun(top)) == ["a", "hang", "hang", "z"]

    again = run(top, out, address, resume=True)
    assert set(states(again).values()) == {"resumed"}
    assert len(stem_work.begun(top)) == 4
    local = run_batch(
        read_album(top, out, recursive=True),
        out,
        Settings(),
        lambda: pytest.fail("nothing is to be done"),
        Deaf(),
        resume=True,
    )
    assert [song.report for song in local.songs] == [song.report for song in report.songs]


def test_an_interruption_ends_the_actors(tmp_path, address):
    top, out = album(tmp_path / "album", "hang"), tmp_path / "out"

    class Impatient(Deaf):
        def progress(self, name, fraction, whole):
            if (top / "hangs.txt").exists():
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(top, out, address, Impatient())
    assert files(out) == {}
    pid = int((top / "hangs.txt").read_text())
    if psutil.pid_exists(pid):
        psutil.Process(pid).wait(10)


def test_no_cluster_is_a_clear_sentence(tmp_path):
    with pytest.raises(UsageError, match="no Ray cluster at"):
        run(album(tmp_path / "album", "a"), tmp_path / "out", "127.0.0.1:1")
