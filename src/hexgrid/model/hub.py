"""A MODEL argument -> a local directory: itself, the embedded model, or a download from the hub."""

import re
from collections.abc import Sequence
from pathlib import Path

from hexgrid import nano
from hexgrid.errors import CheckpointError

# Weights as safetensors and JSON beside them; never pickles, never code.
OUTLINE_FILES = ("*.json",)
ALL_FILES = (*OUTLINE_FILES, "*.safetensors")

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+$")


def resolve(
    model: str,
    *,
    revision: str | None = None,
    download_dir: Path | None = None,
    files: Sequence[str] = ALL_FILES,
) -> Path:
    """The directory that holds `model`, downloaded first (with a progress bar) where it is a hub id.

    Of a download only `files` are there: ALL_FILES, or OUTLINE_FILES where the weights are not read.

    Raises:
        CheckpointError: no such directory and no hub id; unknown, gated or unreachable repository.
    """
    if model == nano.NAME:
        return nano.DIRECTORY
    directory = Path(model).expanduser()
    if directory.is_dir():
        return directory
    if not _HUB_ID.match(model):
        raise CheckpointError(
            f"MODEL {model!r} is neither a directory nor a hub id of the form owner/name"
        )
    # Here and not above: the hub's client takes 0.1 s to import, of the start of whoever needs no download.
    from hexgrid.model.download import download  # noqa: PLC0415

    return download(model, revision=revision, download_dir=download_dir, files=files)
