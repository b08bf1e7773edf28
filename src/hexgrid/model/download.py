"""A hub id -> a local directory, downloaded where it is not cached; what went wrong, in words.

The hub's own variables act as everywhere: HF_HUB_OFFLINE, HF_TOKEN, HF_HOME.
"""

from collections.abc import Sequence
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hexgrid.errors import CheckpointError


def download(
    model: str, *, revision: str | None, download_dir: Path | None, files: Sequence[str]
) -> Path:
    """The directory of the hub id `model` with the `files` of these patterns; a progress bar shows.

    Raises:
        CheckpointError: unknown, gated or unreachable repository.
    """
    try:
        return Path(
            huggingface_hub.snapshot_download(
                model, revision=revision, cache_dir=download_dir, allow_patterns=list(files)
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
