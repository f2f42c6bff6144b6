"""In place of `audiosr-bridge`, for a test of who calls it: doubles a WAV, and says so as it would.

ardour_double.py daw run REQUEST
"""

from __future__ import annotations

import sys
from pathlib import Path

import soundfile

assert sys.argv[1:3] == ["daw", "run"], sys.argv
request = Path(sys.argv[3])
asked = dict(line.split("=", 1) for line in request.read_text().splitlines())
samples, rate = soundfile.read(asked["source"], dtype="float32", always_2d=True)
assert soundfile.info(asked["source"]).subtype == "FLOAT"
soundfile.write(asked["target"], 2 * samples, rate, subtype="FLOAT")
said = ["progress 0.5", "model double", "seed 7", "added yes", f"done {asked['target']}"]
request.with_name("request.log").write_text("\n".join(said) + "\n")
