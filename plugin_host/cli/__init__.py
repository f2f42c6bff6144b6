"""The command line: `audiosr-bridge`.

    app         the command and its sub-commands; errors become one sentence and an exit code
    commands    extend compare evaluate presets models daemon keys doctor paths, a module each
    knobs       flags read off `Settings`
    targets     which output belongs to which input
    region      START:END in seconds
    terminal    stdout for machines, stderr for people

Nothing here loads torch or scipy before a command needs them, so that `--help` is quick.
"""

from plugin_host.cli.app import main

__all__ = ["main"]
