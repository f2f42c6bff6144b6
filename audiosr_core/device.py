"""Where a large model runs, and in which numbers.

`auto` takes the first CUDA device there is, else the CPU, and float32 on either: nothing less was
measured to be the same. Torch is asked only when a model is about to be loaded.
"""

from __future__ import annotations

from audiosr_core.errors import DeviceError, UsageError

PRECISIONS = ("auto", "fp32", "bf16", "fp16")


def choose_device(name: str) -> str:
    """A device that exists.

    Raises:
        UsageError: not the name of a device
        DeviceError: this machine has no such device
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not index.isdecimal()):
        raise UsageError(f"a device must be auto, cpu, cuda, cuda:N or mps, got {name!r}")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"this machine has no device {name!r}; use --device cpu")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("this machine has no device 'mps'; use --device cpu")
    return name


def choose_precision(device: str, name: str) -> str:
    """A precision of the table above; UsageError for an unknown one."""
    if name not in PRECISIONS:
        raise UsageError(f"a precision must be one of {', '.join(PRECISIONS)}, got {name!r}")
    return "fp32" if name == "auto" else name
