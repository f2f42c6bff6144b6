"""Fetch a published checkpoint from the model hub, when the user asks for it and never otherwise.

    the hub's own cache ── is it there? ──────────────────────────────► path
                               │ no
    hub ── HEAD: hash, size ── as published? ── GET, resumed if cut ──► path in our cache

The library `huggingface_hub` does the fetching (HF_ENDPOINT, HF_TOKEN and proxies as it says); it
is an optional extra.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from audiosr_core.errors import ModelError
from audiosr_core.published import Published
from audiosr_core.store import hash_file

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Download:
    """A file from the hub."""

    path: Path
    origin: str  # repository/file@revision
    removable: Path | None  # our folder that holds it; None if it lies in the hub's own cache

    def remove(self) -> None:
        """Free the space, if it is ours to free."""
        if self.removable is not None:
            shutil.rmtree(self.removable, ignore_errors=True)


def download_folder() -> Path:
    """Where downloads lie until they are imported; it need not exist."""
    return platformdirs.user_cache_path("audiosr-bridge", appauthor=False) / "downloads"


def download(published: Published) -> Download:
    """Fetch a checkpoint, or find it in the hub's cache; a cut connection is taken up again.

    Raises:
        ModelError: the library is not installed, the hub does not answer or gives another file,
            or there is no room for it
    """
    try:
        import huggingface_hub as hub
    except ImportError as error:
        raise ModelError(
            "installing from the hub needs huggingface_hub; run"
            " \"pip install 'audiosr-bridge[hub]'\", or fetch the file by other means and run"
            f" 'audiosr-bridge models import FILE --as {published.id}'"
        ) from error
    where = (published.repository, published.file)
    cached = hub.try_to_load_from_cache(*where, revision=published.revision)
    if isinstance(cached, str):
        revision = Path(cached).parent.name
        found = Download(Path(cached), _origin(published, revision), None)
        _check_whole(published, found, _told_hash(found.path))
        return found
    folder = download_folder()
    try:
        url = hub.hf_hub_url(*where, revision=published.revision)
        told = hub.get_hf_file_metadata(url)
        _check(published, _as_hash(told.etag), told.size, folder)
        revision = told.commit_hash or published.revision
        path = hub.hf_hub_download(*where, revision=revision, cache_dir=folder)
    except ModelError:
        raise
    except Exception as error:  # of the library, of its HTTP client, of the system
        raise ModelError(_sentence(published, error)) from error
    mine = folder / f"models--{published.repository.replace('/', '--')}"
    fetched = Download(Path(path), _origin(published, revision), mine)
    _check_whole(published, fetched, _as_hash(told.etag))
    return fetched


def _check(published: Published, sha256: str | None, size: int | None, folder: Path) -> None:
    """Before gigabytes are moved: is it the file that is known, and is there room for it?"""
    if published.sha256 and sha256 and sha256 != published.sha256:
        raise ModelError(
            f"{_where(published)} must have SHA-256 {published.sha256[:16]}…, but the hub has"
            f" {sha256[:16]}…; if you trust that file, fetch it and run"
            f" 'audiosr-bridge models import FILE --as {published.id}'"
        )
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if size is not None and free < size:
        raise ModelError(
            f"{_where(published)} has {size / 1e9:.2f} GB, but {free / 1e9:.2f} GB are free in"
            f" {folder}; free some space and try again"
        )


def _check_whole(published: Published, got: Download, told: str | None) -> None:
    """The file has the hash that is known, or that the hub told; else it goes."""
    wanted = published.sha256 or told
    if wanted is not None and (found := hash_file(got.path)) != wanted:
        got.remove()
        raise ModelError(
            f"{_where(published)} must have SHA-256 {wanted[:16]}…, but {got.path} has"
            f" {found[:16]}…; remove it if it is still there, and try again"
        )


def _told_hash(path: Path) -> str | None:
    """The cache keeps large files under their SHA-256, and links to them."""
    return _as_hash(path.resolve().name)


def _as_hash(etag: str | None) -> str | None:
    return etag if etag is not None and _SHA256.fullmatch(etag) else None


def _origin(published: Published, revision: str) -> str:
    return f"{published.repository}/{published.file}@{revision}"


def _where(published: Published) -> str:
    return f"{published.file} of {published.repository}"


def _sentence(published: Published, error: Exception) -> str:
    return (
        f"cannot fetch {_where(published)} from the hub: {_reason(error)}; try again, or run"
        f" 'audiosr-bridge models import FILE --as {published.id}' with a file from elsewhere"
    )


def _reason(error: Exception) -> str:
    from huggingface_hub import errors

    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE forbids it"
    if isinstance(error, errors.GatedRepoError):
        return "the repository asks for a login (HF_TOKEN)"
    if isinstance(error, errors.HfHubHTTPError) and error.response is not None:
        status = error.response.status_code
        known = {401: "not authorised, or no such repository", 404: "there is no such file"}
        return f"{known.get(status, 'the hub refused')} (HTTP {status})"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    first = " ".join(str(error).split())
    return f"{type(error).__name__}: {first[:160] or 'no answer'}"
