"""Which tensor of a file is which tensor of the model.

    file                                            model
    _orig_mod. / module.  ── taken off ─┐
    model.diffusion_model.*  ───────────┼────────── model.diffusion_model.*
    model_ema.*  (dots gone) ── if that is absent ──┘
    first_stage_model.*  ───────────────┬────────── first_stage_model.*
    cond_stage_models.0.vae.*  ── if that is absent, else compared with it
    scale_factor  ───────────────────────────────── scale_factor
    clap.*, schedule buffers, …  ── ignored

A pure function of names and shapes; whatever does not fit is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from audiosr_core.errors import ModelError

Shape = tuple[int, ...]

SCALE_FACTOR = "scale_factor"
UNET = "model.diffusion_model."
AVERAGED = "model_ema."
AUTOENCODER = "first_stage_model."
CONDITIONER = "cond_stage_models.0.vae."

UNUSED_PREFIXES = ("clap.", AVERAGED, "cond_stage_models.", "cond_stage_model.")
UNUSED = frozenset(
    {
        "logvar",
        "betas",
        "alphas_cumprod",
        "alphas_cumprod_prev",
        "sqrt_alphas_cumprod",
        "sqrt_one_minus_alphas_cumprod",
        "log_one_minus_alphas_cumprod",
        "sqrt_recip_alphas_cumprod",
        "sqrt_recipm1_alphas_cumprod",
        "posterior_variance",
        "posterior_log_variance_clipped",
        "posterior_mean_coef1",
        "posterior_mean_coef2",
    }
)

NAMED = 3  # how many keys a sentence names
LONGEST_NAME = 90


@dataclass(frozen=True)
class Match:
    """How a file feeds a model."""

    keys: dict[str, str]  # official key → key in the file
    copies: dict[str, str]  # official key → key of the file's second copy of it
    scale_factor: str | None  # key in the file
    notes: list[str] = field(default_factory=list)


def match(wanted: Mapping[str, Shape], found: Mapping[str, Shape]) -> Match:
    """Find every wanted tensor in a file.

    Args:
        wanted: official key → shape
        found: key in the file → shape

    Raises:
        ModelError: tensors are missing, unexpected or misshapen; the first few are named
    """
    names = _plain_names(found)
    notes = []
    if not any(key.startswith(AUTOENCODER) for key in names) and any(
        key.startswith(CONDITIONER) for key in names
    ):
        notes.append("autoencoder and vocoder taken from the conditioner's copy")
        names = {_moved(key, CONDITIONER, AUTOENCODER): name for key, name in names.items()}
    if not any(key.startswith(UNET) for key in names) and any(
        key.startswith(AVERAGED) for key in names
    ):
        notes.append("U-Net taken from its moving average: the file has no other")
        names |= {key: names[old] for key in wanted if (old := averaged_name(key)) in names}
    if not any(key in names for key in wanted):
        raise ModelError(
            f"this is no AudioSR checkpoint: of its {len(found)} tensors none has a name like"
            f" {next(iter(wanted))}"
        )
    missing = [key for key in wanted if key not in names]
    misshapen = [key for key in wanted if key in names and found[names[key]] != wanted[key]]
    unexpected = [key for key in names if key not in wanted and not _is_unused(key)]
    if missing or misshapen or unexpected:
        raise ModelError(_misfit(wanted, found, names, missing, unexpected, misshapen))
    copies = {
        key: names[copy]
        for key in wanted
        if key.startswith(AUTOENCODER) and (copy := _moved(key, AUTOENCODER, CONDITIONER)) in names
    }
    return Match({key: names[key] for key in wanted}, copies, names.get(SCALE_FACTOR), notes)


def averaged_name(key: str) -> str:
    """What the moving average of a U-Net's tensor is called: registered without dots."""
    return AVERAGED + key.removeprefix("model.").replace(".", "")


def _plain_names(found: Iterable[str]) -> dict[str, str]:
    """Name without what wrappers put before it → name in the file."""
    names: dict[str, str] = {}
    for name in found:
        plain = name.replace("_orig_mod.", "")
        while plain.startswith("module."):
            plain = plain.removeprefix("module.")
        if plain in names:
            raise ModelError(f"the file has the tensor {shown(plain)} twice; import another copy")
        names[plain] = name
    return names


def _moved(key: str, old: str, new: str) -> str:
    return new + key.removeprefix(old) if key.startswith(old) else key


def _is_unused(key: str) -> bool:
    return key == SCALE_FACTOR or key in UNUSED or key.startswith(UNUSED_PREFIXES)


def _misfit(
    wanted: Mapping[str, Shape],
    found: Mapping[str, Shape],
    names: Mapping[str, str],
    missing: list[str],
    unexpected: list[str],
    misshapen: list[str],
) -> str:
    parts = []
    if missing:
        parts.append(f"{len(missing)} missing ({_some(missing)})")
    if unexpected:
        parts.append(f"{len(unexpected)} unexpected ({_some(unexpected)})")
    if misshapen:
        key = misshapen[0]
        parts.append(
            f"{len(misshapen)} of another shape ({_some(misshapen)}: must be {list(wanted[key])},"
            f" is {list(found[names[key]])})"
        )
    return (
        f"the checkpoint does not fit: of the {len(wanted)} tensors of the model,"
        f" {', '.join(parts)}; import the published file or a complete copy of it"
    )


def shown(key: str) -> str:
    """A name from a file, as a sentence can bear it."""
    plain = "".join(c if c.isprintable() else "?" for c in key)
    return plain if len(plain) <= LONGEST_NAME else plain[:LONGEST_NAME] + "…"


def _some(keys: list[str]) -> str:
    return ", ".join(shown(key) for key in keys[:NAMED]) + (", …" if len(keys) > NAMED else "")
