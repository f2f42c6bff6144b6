"""The plugin for DAWs: where its bundles are.

<bundles>/
├─ AudioSRBridge.vst3/Contents/<machine>-linux/AudioSRBridge.so
├─ audiosr-bridge.lv2/{manifest.ttl, audiosr-bridge.ttl, audiosr-bridge.so}
├─ AudioSRBridge.clap
├─ parameters.json        every knob and port, as the plugin has them
└─ plain/                 the description of the LV2 for hosts that know no atom ports
"""

from __future__ import annotations

import os
from pathlib import Path

from plugin_host.errors import PluginError

VST3, LV2, CLAP = "AudioSRBridge.vst3", "audiosr-bridge.lv2", "AudioSRBridge.clap"
VARIABLE = "AUDIOSR_BRIDGE_PLUGINS"


def bundles() -> Path:
    """The folder with the three bundles, built as this package was installed.

    Raises:
        PluginError: there are none
    """
    named = os.environ.get(VARIABLE)
    for folder in [Path(named)] if named else [Path(path) / "bundles" for path in __path__]:
        if all((folder / name).exists() for name in (VST3, LV2, CLAP)):
            return folder
    if named:
        raise PluginError(f"{VARIABLE} is {named}, and the plugin's bundles are not there")
    raise PluginError(
        "this installation has no plugin for DAWs: it could not be built when that was made, most "
        "likely for want of a C++ compiler; install g++, and then audiosr-bridge anew, in its "
        "folder: pip install --force-reinstall --no-deps ."
    )
