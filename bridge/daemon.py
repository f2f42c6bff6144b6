"""The daemon: holds the lock, binds the sockets, runs two threads and a worker until it is told.

    python -m bridge.daemon [--detach] ...      what `audiosr-bridge daemon start` runs

Torch is the worker's business: nothing here imports it, so a daemon answers in a third of a second.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

import psutil
import zmq

from audiosr_core import __version__
from audiosr_core.errors import EXIT_OK, AudioSRError
from bridge import runtime_dir
from bridge.connection import Connection, DaemonLock
from bridge.errors import NoDaemonError
from bridge.keys import Authenticator, Keys
from bridge.lifecycle import detach, notify, reset_inherited
from bridge.log import log_to
from bridge.protocol import VERSION
from bridge.server.control import Control
from bridge.server.shared import Options, Shared
from bridge.server.sockets import Curve, Listener, Sockets
from bridge.server.work import Work

log = logging.getLogger("audiosr-bridge.daemon")

STOP_SECONDS = 1.5
KINDS = ("control", "work", "events")
