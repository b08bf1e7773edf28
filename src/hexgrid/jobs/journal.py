"""What a job has done, on the disk: how it was begun, and a line for every window whose part is there.

The rules:
1. A part is written whole under its own name before its line is; what has no line does not count.
2. Each line is on the disk before the next window's is written. One without an end was being written when the
   process died, and does not count either.
3. A job goes on only as it was begun: the same inputs, options and model.
4. One process works on a job at a time: it holds the journal's lock.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec

from hexgrid.errors import ConfigError, DataError
from hexgrid.jobs.files import sync_directory
from hexgrid.jobs.parts import IdType
from hexgrid.jobs.rows import START, Place

_VERSION = 1
_FILE = "journal.jsonl"
_LOCK = "lock"
# How a job was begun, by the words in which a change is told.
Beginning = dict[str, Any]


class Done(msgspec.Struct, frozen=True):
    """A window whose part is on the disk."""

    window: int
    end: Place
    id_type: IdType
    num_rows: int
    num_errors: int
    num_tokens: int


class _Header(msgspec.Struct, frozen=True):
    version: int
    beginning: Beginning


class Journal:
    """The directory of one job; see `opened_journal`."""

    def __init__(self, directory: Path, file: IO[bytes], done: list[Done]) -> None:
        self.directory = directory
        self.done = done  # in the order of windows, none missing
        self._file = file

    @property
    def place(self) -> Place:
        """Where the next window begins."""
        return self.done[-1].end if self.done else START

    def part(self, window: int) -> Path:
        """Where a window's rows are."""
        return self.directory / f"part-{window:08}.arrow"

    def note(self, done: Done) -> None:
        """A window's part is on the disk."""
        assert done.window == len(self.done)
        self._file.write(msgspec.json.encode(done) + b"\n")
        os.fsync(self._file.fileno())
        self.done.append(done)

    def remove(self) -> None:
        """The job's output is where it belongs."""
        shutil.rmtree(self.directory)


@contextmanager
def opened_journal(directory: Path, beginning: Beginning, *, anew: bool) -> Iterator[Journal]:
    """The journal of the job in `directory`, which is made where it is not there, or `anew`.

    Raises:
        ConfigError: it was begun in another way, another process works on it, or it cannot be written.
        DataError: it is no journal.
    """
    try:
        with _locked(directory):
            if anew:
                for path in directory.iterdir():
                    if path.name != _LOCK:
                        path.unlink()
            path = directory / _FILE
            done = _read(path, beginning) if path.exists() else _begin(path, beginning)
            with path.open("ab", buffering=0) as file:
                yield Journal(directory, file, done)
    except OSError as error:
        raise ConfigError(f"{directory} cannot be used: {error}") from error


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / _LOCK).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"Another process works on the job in {directory}") from None
        yield


def _begin(path: Path, beginning: Beginning) -> list[Done]:
    """Write the first line; whole or not at all, since nothing can be done without it."""
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        file.write(msgspec.json.encode(_Header(_VERSION, beginning)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    sync_directory(path.parent)
    return []


def _read(path: Path, beginning: Beginning) -> list[Done]:
    content = path.read_bytes()
    whole, newline, rest = content.rpartition(b"\n")
    try:
        first, *lines = (whole + newline).splitlines()
        header = msgspec.json.decode(first, type=_Header)
        done = [msgspec.json.decode(line, type=Done) for line in lines]
    except (ValueError, msgspec.DecodeError) as error:
        raise DataError(
            f"{path} is no journal of a job ({error}); start anew with --overwrite"
        ) from error
    if header.version != _VERSION:
        raise DataError(
            f"{path} is of version {header.version} and this hexgrid writes {_VERSION}; finish the job with "
            "the hexgrid that began it, or start anew with --overwrite"
        )
    _refuse_changes(path.parent, header.beginning, beginning)
    if rest:
        os.truncate(path, len(content) - len(rest))
    return done


def _refuse_changes(directory: Path, before: Beginning, now: Beginning) -> None:
    now = msgspec.json.decode(msgspec.json.encode(now))
    changes = [
        f"{what} was {_shown(before.get(what))} and is {_shown(now.get(what))}"
        for what in dict.fromkeys([*before, *now])
        if before.get(what) != now.get(what)
    ]
    if changes:
        raise ConfigError(
            f"The job in {directory} was begun in another way: {'; '.join(changes[:10])}. Go on as it was "
            "begun, or start anew with --overwrite"
        )


def _shown(value: Any) -> str:
    return "not given" if value is None else str(value)
