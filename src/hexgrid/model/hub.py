"""A MODEL argument -> a local directory: itself, the embedded model, or a download from the hub.

The hub's own variables act as everywhere: HF_HUB_OFFLINE, HF_TOKEN, HF_HOME.
"""

import re
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hexgrid import nano
from hexgrid.errors import CheckpointError
from hexgrid.model import embedded

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+$")
# Weights as safetensors and JSON beside them; never pickles, never code.
_FILES = ["*.json", "*.safetensors"]


def resolve(model: str, *, revision: str | None = None, download_dir: Path | None = None) -> Path:
    """The directory that holds `model`, downloaded first (with a progress bar) where it is a hub id.

    Raises:
        CheckpointError: no such directory and no hub id; unknown, gated or unreachable repository.
    """
    if model == nano.NAME:
        return embedded.directory()
    directory = Path(model).expanduser()
    if directory.is_dir():
        return directory
    if not _HUB_ID.match(model):
        raise CheckpointError(
            f"MODEL {model!r} is neither a directory nor a hub id of the form owner/name"
        )
    try:
        return Path(
            huggingface_hub.snapshot_download(
                model, revision=revision, cache_dir=download_dir, allow_patterns=_FILES
            )
        )
    except Exception as error:
        raise CheckpointError(_explain(model, revision, error)) from error


def _explain(model: str, revision: str | None, error: Exception) -> str:
    if isinstance(error, GatedRepoError):
        return f"{model} is gated on the hub: accept its terms there and set HF_TOKEN"
    if isinstance(error, RevisionNotFoundError):
        return f"{model} has no revision {revision!r} on the hub"
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"{model} is no directory here and no public repository on the hub "
            "(a private one needs HF_TOKEN)"
        )
    if isinstance(error, LocalEntryNotFoundError):
        return (
            f"{model} is not in the local hub cache and the hub cannot be reached "
            "(HF_HUB_OFFLINE set, or no network)"
        )
    kind = "the hub answered" if isinstance(error, HfHubHTTPError) else type(error).__name__
    return f"{model} could not be downloaded: {kind}: {error}"
