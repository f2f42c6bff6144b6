"""Digital audio workstations, and what is put into each.

Each has a module here with one value: `DAW`, a `files.Daw`.
"""

DAWS = {
    "ardour": "plugin_host.daw.ardour",
    "audacity": "plugin_host.daw.audacity",
    "reaper": "plugin_host.daw.reaper",
}
