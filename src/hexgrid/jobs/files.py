"""Files that are whole or not there, after a crash of the process or of the machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A name to write to; what is there at the block's end is `path`, on the disk."""
    # By process: on a cluster two may write the same, one of which is given up for lost.
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    yield unfinished
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.replace(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """What was renamed in `directory` stays so."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
