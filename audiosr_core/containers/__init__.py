"""What lies around the samples in a file: tables of chunks, and how a new file is laid from them.

A new file is the old one with other samples in the same place:

    old   RIFF  bext  fmt  junk  [ data ........ ]  cue  LIST  xyzq
                 |     |    |                         |    |     |
    new   RIFF  bext  fmt  junk  [ new samples ... ] cue  LIST  xyzq  asrb
                  └ one CodingHistory line more                       └ our provenance record

`riff` (WAV, RF64, BW64), `aiff` (AIFF, AIFC) and `flac` each read a table and lay a new file;
`scaling` moves positions to another sample rate; `coding` turns samples into bytes; `temporary`
keeps a half-written file hidden and gives it its name in one step.

The error messages of these modules go on where a file's name ends: "is truncated: ...".
"""
