"""In place of `audiosr-bridge`, for a test of who calls it: doubles a WAV, and says so as it would.

ardour_double.py extend IN -o OUT --json --quiet
"""

from __future__ import annotations

import json
import sys

import soundfile

_, source, _, target, *flags = sys.argv[1:]
assert flags == ["--json", "--quiet"], flags
samples, rate = soundfile.read(source, dtype="float32", always_2d=True)
assert soundfile.info(source).subtype == "FLOAT"
soundfile.write(target, 2 * samples, rate, subtype="FLOAT")
print(json.dumps({"input": source, "output": target, "model": "double", "seed": 7}))
