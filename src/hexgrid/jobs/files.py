"""Files that are whole or not there, after a crash of the process or of the machine."""

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_UNFINISHED = ".unfinished"


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A name to write to; what is there at the block's end is `path`, on the disk; after an error nothing."""
    # By process: on a cluster two may write the same, one of which is given up for lost.
    unfinished = path.with_name(f"{path.name}.{os.getpid()}{_UNFINISHED}")
    try:
        yield unfinished
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def remove_unfinished(path: Path) -> None:
    """What killed processes began to write as `path`; for who knows that no other is at it."""
    for left in path.parent.glob(f"{glob.escape(path.name)}.*{_UNFINISHED}"):
        left.unlink()


def sync_directory(directory: Path) -> None:
    """What was renamed in `directory` stays so."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
