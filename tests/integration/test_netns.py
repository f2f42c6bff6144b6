"""Two real hosts: a daemon in one network namespace, a client in another, a wire between them."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bridge import keys
from tests.support.attack import RATE
from tests.support.daemon import ROOT, RunningDaemon

pytestmark = pytest.mark.timeout(180)

STUDIO, LAPTOP = "10.97.13.1", "10.97.13.2"

CLIENT = """
import sys
from pathlib import Path
import numpy as np
from audiosr_core.audio import Audio
from audiosr_core.errors import AudioSRError
from audiosr_core.settings import Settings
from bridge.client import connect
try:
    with connect(Path(sys.argv[1]), timeout_seconds=float(sys.argv[4])) as client:
        made = client.extend(Audio(np.load(sys.argv[2]), 48_000), Settings(seed=7), timeout=90)
        np.save(sys.argv[3], made.samples)
except AudioSRError as error:
    sys.exit(str(error))
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=10)


@pytest.fixture
def hosts() -> Iterator[tuple[list[str], list[str]]]:
    """How to run something in the studio, and on the laptop."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("only root can make network namespaces, with the command ip")
    mark = secrets.token_hex(2)
    studio, laptop = f"asb-studio-{mark}", f"asb-laptop-{mark}"
    with contextlib.ExitStack() as stack:
        try:
            for host in (studio, laptop):
                ip("netns", "add", host)
                stack.callback(ip, "netns", "delete", host)
            ends = f"asb{mark}0", f"asb{mark}1"
            ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
            for host, end, address in ((studio, ends[0], STUDIO), (laptop, ends[1], LAPTOP)):
                ip("link", "set", end, "netns", host)
                ip("-n", host, "address", "add", f"{address}/24", "dev", end)
                ip("-n", host, "link", "set", end, "up")
                ip("-n", host, "link", "set", "lo", "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this system makes no network namespaces: {error.stderr.decode()[:200]}")
        yield ["ip", "netns", "exec", studio], ["ip", "netns", "exec", laptop]


def extend(host: list[str], connection: Path, tmp_path: Path, seconds: float = 20) -> str:
    """Extend the sound there; what went wrong, or nothing."""
    done = subprocess.run(
        [*host, sys.executable, "-c", CLIENT, connection, tmp_path / "in.npy",
         tmp_path / "out.npy", str(seconds)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr.strip()


def test_a_laptop_uses_the_studios_machine_and_the_sound_is_the_same(hosts, tmp_path):
    from audiosr_core.audio import Audio
    from audiosr_core.engine import Engine
    from audiosr_core.settings import Settings

    studio, laptop = hosts
    x = np.random.default_rng(0).standard_normal((2, 7 * RATE))
    spectrum = np.fft.rfft(x, axis=1)
    spectrum[:, np.fft.rfftfreq(x.shape[1], 1 / RATE) > 6_000] = 0
    sound = (0.2 * np.fft.irfft(spectrum, x.shape[1], axis=1)).astype(np.float32)
    np.save(tmp_path / "in.npy", sound)
    wanted = Engine("cpu").extend(Audio(sound, RATE), Settings(seed=7)).samples

    with tempfile.TemporaryDirectory(prefix="asb") as folder:  # short, for the sockets
        one = RunningDaemon(
            Path(folder), "--listen", f"tcp://{STUDIO}:0", "--device", "cpu", engine=None
        )
        one.start(prefix=studio)
        try:
            tcp = one.connection().tcp
            assert tcp is not None
            card = tmp_path / "laptop.json"
            card.write_text(keys.create(one.folder / "config", "laptop", tcp))
            card.chmod(0o600)

            assert extend(laptop, card, tmp_path) == ""
            np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), wanted)

            (tmp_path / "out.npy").unlink()
            stranger = tmp_path / "stranger.json"  # a key that another daemon gave out
            stranger.write_text(keys.create(tmp_path / "elsewhere", "laptop", tcp))
            stranger.chmod(0o600)
            assert extend(laptop, stranger, tmp_path, seconds=3) != ""
            keys.revoke(one.folder / "config", "laptop")
            assert extend(laptop, card, tmp_path, seconds=3) != ""
            assert not (tmp_path / "out.npy").exists()
        finally:
            one.stop()
