"""The published way with long sounds: chunks, each a run of its own, each at its own level.

    chunk 0  |--------------\\           each out peak as in: the level jumps from chunk to chunk
    chunk 1             /--------------\\      a new filter and new noise each
    chunk 2                        /--------------|
                        overlap    Hann halves; their sum is divided out

Chunks start every (chunk − overlap) seconds while there is sound; the last may be shorter.
"""

from __future__ import annotations
