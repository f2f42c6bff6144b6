"""The command line: `audiosr-bridge`.

    app         the command and its sub-commands; errors become one sentence and an exit code
    commands    extend compare evaluate presets models daemon keys doctor paths, a module each
    knobs       flags read off `Settings`
    targets     which output belongs to which input
    region      START:END in seconds
    terminal    stdout for machines, stderr for people

Nothing here loads torch or scipy before a command needs them, so that `--help` is quick.
"""

import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line and leave with its exit code; also when interrupted while it loads."""
    try:
        from plugin_host.cli.app import main as run

        run()
    except KeyboardInterrupt:
        if sys.stderr is not None:
            sys.stderr.write("error: interrupted\n")
        sys.exit(130)
