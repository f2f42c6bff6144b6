"""`audiosr-bridge models`: which models can be used, and how they come and go."""

from __future__ import annotations

import json as json_text
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiosr_core.errors import EXIT_MODEL, ModelError, UsageError
from audiosr_core.published import PUBLISHED
from plugin_host.cli.terminal import emit, say, write

if TYPE_CHECKING:
    from audiosr_core.checkpoint import Imported
    from audiosr_core.store import ModelInfo

app = typer.Typer(
    help="List, install, check and remove models.", no_args_is_help=True, rich_markup_mode=None
)

QUIET = {"HF_HUB_VERBOSITY": "error", "HF_HUB_DISABLE_TELEMETRY": "1"}

Json = Annotated[bool, typer.Option("--json", help="One JSON object a model.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a model of that name.")]
Dtype = Annotated[
    str | None, typer.Option(metavar="fp32|fp16", help="Store as this; else as in the file.")
]
Config = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Sizes of the networks as JSON, if not the published ones."),
]


@app.command("list")
def list_(json: Json = False) -> None:
    """List the models that can be used."""
    from audiosr_core.store import broken_models, list_models

    for model in list_models():
        if json:
            emit(_as_dict(model))
        else:
            size = f"{model.num_parameters / 1e6:.1f} M, {model.size_bytes / 1e6:.1f} MB"
            write(f"{model.id:14} {model.family:8} {size:20} {model.licence:8} {model.description}")
    for broken in broken_models():
        if json:
            emit({"id": broken.id, "broken": broken.reason})
        else:
            say(f"broken: {broken.reason}", "red")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint: .bin .safetensors …")],
    id: Annotated[str | None, typer.Option("--as", metavar="ID", help="The model's name.")] = None,
    force: Force = False,
    dtype: Dtype = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Convert a checkpoint file and keep it as a model. Nothing in the file is run."""
    from audiosr_core.checkpoint import import_model

    sizes = _read_config(config)
    say(f"converting {file.name} …")
    _tell(import_model(file, id, force=force, dtype=dtype, config=sizes), json)


@app.command()
def install(
    id: Annotated[str, typer.Argument(metavar="ID", help=", ".join(PUBLISHED))],
    force: Force = False,
    dtype: Dtype = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the downloaded file.")] = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Fetch a published model from the hub and keep it."""
    from audiosr_core.checkpoint import check_import, import_model

    for name, value in QUIET.items():  # read by the library when it is loaded
        os.environ.setdefault(name, value)
    from audiosr_core.hub import download

    published = PUBLISHED.get(id)
    if published is None:
        raise UsageError(f"the hub is known to have {', '.join(PUBLISHED)}, got {id!r}")
    check_import(id, force=force, dtype=dtype)
    sizes = _read_config(config)
    say(f"fetching {published.repository}/{published.file} …")
    got = download(published)
    say("converting …")
    imported = import_model(got.path, id, force=force, dtype=dtype, config=sizes, origin=got.origin)
    if not keep:
        got.remove()
    _tell(imported, json)


@app.command()
def verify(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Else all.")] = None,
    json: Json = False,
) -> None:
    """Hash the weights of models anew; exit 4 if some are not what their cards say."""
    from audiosr_core.store import broken_models, list_models, model_info

    reasons: dict[str, str] = {}
    names = ids or [*(one.id for one in list_models()), *(one.id for one in broken_models())]
    for id in dict.fromkeys(names):
        try:
            model_info(id).verify()
        except ModelError as error:
            reasons[id] = str(error)
        if json:
            emit({"id": id, "ok": id not in reasons, "detail": reasons.get(id, "verified")})
        elif id not in reasons:
            write(f"{id:14} verified")
    if reasons and json:
        raise typer.Exit(EXIT_MODEL)
    if reasons:
        raise ModelError("; ".join(reasons.values()))


@app.command()
def remove(
    id: Annotated[str, typer.Argument(metavar="ID")],
    json: Json = False,
) -> None:
    """Remove an installed model from the disk."""
    from audiosr_core.store import remove_model

    remove_model(id)
    say(f"removed {id}")
    if json:
        emit({"removed": id})


def _read_config(path: Path | None) -> Mapping[str, Any] | None:
    if path is None:
        return None
    try:
        sizes = json_text.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; check the name") from error
    except ValueError as error:
        raise UsageError(f"{path} must be JSON, but is not: {error}") from error
    if not isinstance(sizes, dict):
        raise UsageError(f"{path} must hold an object of sizes")
    return sizes


def _tell(imported: Imported, json: bool) -> None:
    info = imported.info
    for note in imported.notes:
        say(f"note: {note}")
    say(
        f"installed {info.id}: {info.num_parameters / 1e6:.1f} M parameters,"
        f" {info.size_bytes / 1e6:.1f} MB, in {info.path.parent}; licence: {info.licence}"
    )
    if json:
        emit(_as_dict(info))


def _as_dict(model: ModelInfo) -> dict[str, Any]:
    keys = (
        "id", "family", "description", "licence", "sha256", "size_bytes", "num_parameters",
        "embedded", "path", "provenance",
    )  # fmt: skip
    return {key: getattr(model, key) for key in keys}
