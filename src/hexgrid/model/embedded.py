"""Where the embedded model `hexgrid/nano` lies.

Its weights are not trained yet: a seeded random checkpoint of the tiny shape stands in for it.
"""

import functools
import tempfile
from pathlib import Path

from hexgrid import nano
from hexgrid.model.synthetic import make_checkpoint

NOTICE = (
    f"{nano.NAME} is a stand-in with random weights for now: its vectors mean nothing. "
    "Name a MODEL for vectors that do."
)


def directory() -> Path:
    """A directory with the checkpoint, the same for the whole process and gone with it."""
    return Path(_made().name) / "nano"


@functools.cache
def _made() -> "tempfile.TemporaryDirectory[str]":
    """Made on first use; the object removes the directory when the interpreter ends."""
    temporary = tempfile.TemporaryDirectory(prefix="hexgrid-nano-")
    make_checkpoint(Path(temporary.name) / "nano", "tiny")
    return temporary
