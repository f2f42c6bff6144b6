"""Presets as hosts read them: settings with a name become the state of our plugin.

    preset            mix  gain_hf_db  ceiling_hz  cutoff  seed │ model  transition  sampler  …
                       │       │           │         │      │   │          │
    plugin's state    "parameters": {"mix": 1.0, "cutoff": 0, …} "settings": {"model": …}

    VST3   NAME.vstpreset   a head, the state, and a list of what is where
    LV2    a bundle         values of the control ports, and the state beside them

The state is the same text in every format (`plugin_host/shim/src/state.h`). A plugin keeps the rate
of its session, so a preset that wants another one cannot be had there.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from audiosr_core.errors import SettingsError
from audiosr_core.presets import Preset, differences
from audiosr_core.settings import Settings

PARAMETERS = {  # of the plugin, and the knob that each one is
    "mix": "mix",
    "gain_hf": "gain_hf_db",
    "ceiling": "ceiling_hz",
    "cutoff": "cutoff",
    "seed": "seed",
}
MEASURED = 0.0  # as the plugin's cutoff: it is measured all along
PRESET_SLOT = 0.0  # as the plugin's model: what the preset says
MAX_SEED = 65_535  # of the plugin: hosts hold parameters as 32-bit floats
SESSION_RATE = 48_000  # a preset made for this or less loses nothing by keeping the session's

CLASS_ID = "9A1C5E027B3D4F688E21AC54D06F37B1"  # of "AudioSR Bridge" in VST3
URIS = ("urn:audiosr-bridge:bridge#mono", "urn:audiosr-bridge:bridge#stereo")  # and in LV2
STATE_KEY = "urn:audiosr-bridge:state"
MANIFEST, PRESETS = "manifest.ttl", "presets.ttl"

_HEAD = struct.Struct("<4si32sq")  # magic, version, class, where the list begins
_ENTRY = struct.Struct("<4sqq")  # what, where, how long
_PREFIXES = {
    "lv2": "http://lv2plug.in/ns/lv2core#",
    "pset": "http://lv2plug.in/ns/ext/presets#",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "rdfs": "http://www.w3.org/2000/01/rdf-schema#",
    "state": "http://lv2plug.in/ns/ext/state#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
}
_STATE_PROPERTY = f"""<{STATE_KEY}>
\ta rdf:Property ;
\trdfs:label "state" ;
\trdfs:range xsd:string .
"""


@dataclass(frozen=True)
class HostPreset:
    """What a preset turns in the plugin."""

    name: str
    description: str
    model: str
    values: Mapping[str, float]  # plain, by the parameter's symbol
    settings: Mapping[str, Any]  # knobs that are no parameters

    @property
    def state(self) -> str:
        """The text that the plugin loads. A preset names a model, not its weights."""
        fields = {
            "audiosr_bridge_plugin": 1,
            "parameters": dict(self.values),
            "settings": dict(self.settings),
            "model": self.model,
            "model_sha256": "",
        }
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)


def host_preset(preset: Preset) -> HostPreset:
    """The preset for the plugin, or SettingsError if it cannot be had there."""
    settings = preset.settings()
    if settings.mode != "product":
        raise SettingsError(f"preset {preset.name!r} is for whole files: mode {settings.mode}")
    if isinstance(settings.rate, int) and settings.rate > SESSION_RATE:
        raise SettingsError(
            f"preset {preset.name!r} makes files of {settings.rate} Hz, and a plugin keeps the"
            " rate of its session"
        )
    if settings.seed > MAX_SEED:
        raise SettingsError(
            f"preset {preset.name!r} has the seed {settings.seed}, and the plugin's ends at"
            f" {MAX_SEED}"
        )
    values = {symbol: getattr(settings, knob) for symbol, knob in PARAMETERS.items()}
    values["cutoff"] = MEASURED if isinstance(settings.cutoff, str) else settings.cutoff
    turned = differences(settings, Settings())
    others = turned.keys() - {*PARAMETERS.values(), "rate"}
    return HostPreset(
        name=preset.name,
        description=preset.description,
        model=settings.model,
        values={**{name: float(value) for name, value in values.items()}, "model": PRESET_SLOT},
        settings={knob: turned[knob][0] for knob in sorted(others)},
    )


def vst3_preset(preset: HostPreset) -> bytes:
    """A `.vstpreset` file."""
    data = preset.state.encode()
    entry = _ENTRY.pack(b"Comp", _HEAD.size, len(data))
    head = _HEAD.pack(b"VST3", 1, CLASS_ID.encode("ascii"), _HEAD.size + len(data))
    return head + data + b"List" + struct.pack("<i", 1) + entry


def lv2_presets(presets: Iterable[HostPreset]) -> dict[str, str]:
    """The files of a bundle with these presets, mono and stereo, by name."""
    head = "".join(f"@prefix {name}: <{uri}> .\n" for name, uri in _PREFIXES.items())
    listed, described = [head], [head, _STATE_PROPERTY]
    for preset in presets:
        for plugin in URIS:
            about = f"{_lv2_uri(preset, plugin)}\n\ta pset:Preset ;\n\tlv2:appliesTo <{plugin}> ;\n"
            listed.append(f"{about}\trdfs:seeAlso <{PRESETS}> .\n")
            described.append(about + _lv2_body(preset))
    return {MANIFEST: "\n".join(listed), PRESETS: "\n".join(described)}


def _lv2_uri(preset: HostPreset, plugin: str) -> str:
    """<urn:audiosr-bridge:preset:my%20phone#stereo>"""
    return f"<urn:audiosr-bridge:preset:{quote(preset.name, safe='')}#{plugin.partition('#')[2]}>"


def _lv2_body(preset: HostPreset) -> str:
    ports = " , ".join(
        f'[\n\t\tlv2:symbol "{symbol}" ;\n\t\tpset:value {value!r}\n\t]'
        for symbol, value in preset.values.items()
    )
    return (
        f"\trdfs:label {_literal(preset.name)} ;\n"
        f"\trdfs:comment {_literal(preset.description)} ;\n"
        f"\tlv2:port {ports} ;\n"
        f"\tstate:state [\n\t\t<{STATE_KEY}> {_literal(preset.state)}\n\t] .\n"
    )


def _literal(text: str) -> str:
    """As Turtle writes it, which is as JSON does it."""
    return json.dumps(text, ensure_ascii=False)
