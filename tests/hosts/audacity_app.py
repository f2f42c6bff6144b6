"""A real Audacity on a screen that nobody sees, driven by its script pipe."""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from plugin_host.daw.audacity.pipe import FOLDER, Pipe
from tests.hosts import bench as at
from tests.hosts.bench import LV2, Bench
from tests.support.display import screen

LV2_FOLDER = Path("/usr/lib/lv2")  # Audacity sets LV2_PATH by itself
MODULE = Path("/usr/lib/audacity/modules/mod-script-pipe.so")
LIMIT_SECONDS = 60.0
SCAN_SECONDS = 240.0  # of every LV2 of the machine, where they cannot be hidden

SETTINGS = """\
PrefsVersion=1.1.1r1
NewPrefsInitialized=1
[Version]
Major=3
Minor=2
Micro=4
[Directories]
TempDir={temporary}
[GUI]
ShowSplashScreen=0
[Module]
mod-script-pipe=1
[ModulePath]
mod-script-pipe={module}
[ModuleDateTime]
mod-script-pipe={changed}
[Update]
DefaultUpdatesChecking=0
UpdateNoticeShown=1
[SamplingRate]
DefaultProjectSampleRate={rate}
[Quality]
HQDitherAlgorithmChoice=None
[FileFormats]
ExportFormat_SF1=65542
[FileFormats/ExportFormat_SF1_Type]
WAV_10000=6
"""


class Audacity:
    """Owns its settings; started and ended by `running`, any number of times."""

    def __init__(self, bench: Bench, display: str) -> None:
        self.display = display
        self._environment = {**bench.environment, "DISPLAY": display}
        self._command = _without_plugins_of(LV2_FOLDER, bench.specifications, ["audacity"])
        self._settings = bench.home / ".config" / "audacity"
        self._settings.mkdir(parents=True)
        self._temporary = bench.folder / "audacity"
        changed = datetime.datetime.fromtimestamp(MODULE.stat().st_mtime)
        (self._settings / "audacity.cfg").write_text(
            SETTINGS.format(
                temporary=self._temporary,
                module=MODULE,
                changed=changed.strftime("%Y-%m-%dT%H:%M:%S"),
                rate=at.RATE,
            )
        )

    @property
    def registry(self) -> Path:
        """What it found when it looked for plugins."""
        return self._settings / "pluginregistry.cfg"

    @property
    def plugin_settings(self) -> Path:
        """Where the values of effects are kept between two starts."""
        return self._settings / "pluginsettings.cfg"

    def scan(self) -> bool:
        """Look for plugins; whether ours was found.

        A window may come up about other plugins, so it is ended when its registry is written.
        """
        with self._process():
            found = at.wait_until(
                lambda: self.registry.exists() and LV2[2] in self.registry.read_text(),
                SCAN_SECONDS,
            )
            size = -1
            while size != (size := self.registry.stat().st_size if found else -1):
                at.wait_until(lambda: False, 3)
        return found

    @contextlib.contextmanager
    def running(self) -> Iterator[Pipe]:
        for pipe in FOLDER.glob(f"audacity_script_pipe.*.{os.getuid()}"):
            pipe.unlink()
        with self._process() as process, Pipe(LIMIT_SECONDS) as pipe:
            yield pipe
            with contextlib.suppress(Exception):
                pipe.do("Exit:", 5)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)

    @contextlib.contextmanager
    def _process(self) -> Iterator[subprocess.Popen[bytes]]:
        """With an empty folder for its projects: else it offers to recover one."""
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir()
        settings = self._settings / "audacity.cfg"
        lines = settings.read_text().splitlines()
        kept = [line for line in lines if not line.endswith(".aup3unsaved")]
        settings.write_text("\n".join(kept) + "\n")
        null = subprocess.DEVNULL
        process = subprocess.Popen(self._command, env=self._environment, stdout=null, stderr=null)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(10)


def _without_plugins_of(folder: Path, instead: Path, command: list[str]) -> list[str]:
    """The command, with another folder in the place of this one where we may do that."""
    mount = f"mount --bind '{instead}' '{folder}'"
    may = subprocess.run(["unshare", "--mount", "sh", "-c", mount], capture_output=True)
    if may.returncode:
        return command
    return ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh", *command]


@contextlib.contextmanager
def audacity(bench: Bench) -> Iterator[Audacity]:
    """One at a time on this machine, for its pipes lie in one place."""
    lock = FileLock(Path(tempfile.gettempdir()) / f"audiosr-bridge-audacity-{os.getuid()}.lock")
    with lock.acquire(timeout=300), screen() as display:
        yield Audacity(bench, display)
