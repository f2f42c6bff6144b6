"""What can go wrong between two processes, and how an error travels.

    AudioSRError
    └─ BridgeError            3   anything about daemon, wire or worker
       ├─ ProtocolError           bytes that are no message of ours
       │  ├─ VersionError         the other side speaks another major version
       │  └─ UnsupportedError     a well-formed message of a type that this side does not know
       ├─ NoDaemonError           nobody answers
       ├─ BusyError               a limit is reached; later it may work
       ├─ JobError                no such job, or another sound under the same name
       ├─ WorkerError             the process that held the model died
       └─ CancelledError    130   somebody cancelled the job

`CODES` is the one table of error codes: it is what goes over the wire and over OSC, what a plugin
shows, and it knows the exit code. An exception becomes a code at the daemon (`code_of`) and the
same exception, with the same sentence, at the client (`error_from`).
"""

from __future__ import annotations

from dataclasses import dataclass

from audiosr_core import errors
from audiosr_core.errors import EXIT_DAEMON, EXIT_INTERRUPTED, AudioSRError


class BridgeError(AudioSRError):
    """The daemon, the wire or the worker."""

    exit_code = EXIT_DAEMON


class ProtocolError(BridgeError):
    """These bytes are no message of ours."""

    answers: int | None = None  # the number of the authentic message that this is about


class VersionError(ProtocolError):
    """The other side speaks another major version of the protocol."""


class UnsupportedError(ProtocolError):
    """A well-formed, authentic message of a type that this side does not know."""


class NoDaemonError(BridgeError):
    """No daemon answers."""


class BusyError(BridgeError):
    """A limit is reached; the same request may succeed later."""


class JobError(BridgeError):
    """There is no such job, or the request does not fit its state."""


class WorkerError(BridgeError):
    """The process that held the model died at this job, twice."""


class CancelledError(BridgeError):
    """The job was cancelled."""

    exit_code = EXIT_INTERRUPTED


@dataclass(frozen=True)
class Code:
    """One line of the table."""

    name: str
    raises: type[AudioSRError]
    meaning: str
    retryable: bool = False

    @property
    def exit_code(self) -> int:
        return self.raises.exit_code


_ALL = (
    Code("E_PROTOCOL", ProtocolError, "the message is malformed"),
    Code("E_SEQUENCE", ProtocolError, "a message was lost, repeated or reordered", True),
    Code("E_VERSION", VersionError, "the two sides are of different major versions"),
    Code("E_UNSUPPORTED", UnsupportedError, "this side does not know such a message"),
    Code("E_CREDIT", ProtocolError, "more audio came than was granted"),
    Code("E_NO_DAEMON", NoDaemonError, "no daemon answers", True),
    Code("E_TIMEOUT", NoDaemonError, "the daemon did not answer in time", True),
    Code("E_BUSY", BusyError, "a limit is reached: sessions, jobs, spool", True),
    Code("E_STOPPING", BusyError, "the daemon is stopping", True),
    Code("E_JOB", JobError, "no such job, or not in this state"),
    Code("E_WORKER", WorkerError, "the worker died at this job, twice"),
    Code("E_CANCELLED", CancelledError, "the job was cancelled"),
    Code("E_SETTINGS", errors.SettingsError, "a knob is out of range or unknown"),
    Code("E_REGION", errors.RegionError, "a region is empty or outside the sound"),
    Code("E_USAGE", errors.UsageError, "the request makes no sense"),
    Code("E_NOT_FINITE", errors.NotFiniteError, "a sample is NaN or infinite"),
    Code("E_FILE", errors.FileError, "a file cannot be read"),
    Code("E_EXISTS", errors.OutputExistsError, "the output is there already"),
    Code("E_AUDIO", errors.AudioError, "the sound cannot be used"),
    Code("E_MODEL", errors.ModelError, "a model is missing or broken"),
    Code("E_DEVICE", errors.DeviceError, "the device or its memory gave up", True),
    Code("E_FAILED", AudioSRError, "it did not work; the text says why"),
    Code("E_INTERNAL", BridgeError, "a bug in the daemon; its log has the details"),
)

CODES: dict[str, Code] = {one.name: one for one in _ALL}

_BY_CLASS: dict[type[BaseException], str] = {one.raises: one.name for one in reversed(_ALL)}
"""Of several codes with one class the first in the table."""


class CodedError(BridgeError):
    """Raised at the daemon where the class alone does not say which code is meant."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.exit_code = CODES[code].exit_code


def code_of(error: BaseException) -> str:
    """The code under which an exception travels."""
    code = getattr(error, "code", None)  # some know better than their class
    if isinstance(code, str) and code in CODES:
        return code
    if isinstance(error, MemoryError):
        return "E_DEVICE"
    for kind in type(error).__mro__:
        if kind in _BY_CLASS:
            return _BY_CLASS[kind]
    return "E_INTERNAL"


def error_from(code: str, text: str) -> AudioSRError:
    """The exception that a code stands for; an unknown code is a `BridgeError`."""
    known = CODES.get(code)
    if known is None:
        return BridgeError(f"{text} ({code})")
    kind = known.raises
    error = kind.__new__(kind)  # some constructors want more than the sentence, which has it all
    error.args = (text,)
    vars(error)["code"] = code
    return error
