"""What was used, by name, model and hour: counted before an answer is sent, and never twice.

The rules:
1. A line for every answered request is appended to a journal of this process: one write, which a crash of
   the process cannot take back. (A crash of the machine can take the last seconds: nothing is synced.) A
   thread of its own writes: a slow disk delays answers, but never the event loop.
2. From time to time, and at the end, the journal is folded into an SQLite file that processes share: its sums
   are added and its name is noted in one transaction, then the journal is removed. So each is added once,
   whenever a process dies.
3. A journal is locked by its process. One that nobody locks was left by a process that died; the next one to
   start folds it.
4. A disk that takes nothing more costs no request: what could not be written waits in memory until it can.
"""

import fcntl
import json
import logging
import os
import secrets
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, NamedTuple

from hexgrid.errors import UsageError
from hexgrid.server.waiting import in_thread
from hexgrid.text_reader import Check

FILE = "usage.sqlite3"
_JOURNALS = "journal-*.jsonl"
_TABLES = """
CREATE TABLE IF NOT EXISTS usage (
    hour INTEGER NOT NULL, name TEXT NOT NULL, model TEXT NOT NULL,
    requests INTEGER NOT NULL, inputs INTEGER NOT NULL, tokens INTEGER NOT NULL,
    PRIMARY KEY (hour, name, model)
) STRICT;
CREATE TABLE IF NOT EXISTS folded (journal TEXT PRIMARY KEY) STRICT;
"""
_ADD = """
INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    requests = requests + excluded.requests, inputs = inputs + excluded.inputs,
    tokens = tokens + excluded.tokens
"""
_HOUR = 3_600
_FOLD_SECONDS = 60.0
_BUSY_SECONDS = 5.0
_MOST_TRIES = 10  # to read while others fold

_logger = logging.getLogger(__name__)


class Slot(NamedTuple):
    """What is counted apart."""

    hour: int  # Unix seconds of its beginning
    name: str  # of the key; empty for the operator's own keys and for nobody
    model: str


class Used(NamedTuple):
    """How much."""

    requests: int
    inputs: int
    tokens: int

    def plus(self, other: "Used") -> "Used":
        return Used(*(a + b for a, b in zip(self, other, strict=True)))


Sums = dict[Slot, Used]


class UsageMeter:
    """Counts for one server process. `record` may be called from any thread."""

    def __init__(self, directory: Path, *, fold_seconds: float = _FOLD_SECONDS) -> None:
        """Raises:
        UsageError: the directory cannot be used.
        """
        self._directory = directory
        self._lock = threading.Lock()
        self._waiting: list[bytes] = []  # what the disk did not take
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="hexgrid-usage-write")
        self._failing = False
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with closing(_connect(directory)):
                pass
            self._journal = _new_journal(directory)
        except (OSError, sqlite3.Error) as error:
            raise UsageError(f"--usage-dir {directory} cannot be used: {error}") from error
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._fold_now_and_then, args=(fold_seconds,), name="hexgrid-usage", daemon=True
        )
        self._thread.start()

    async def count(self, name: str | None, model: str, *, inputs: int, tokens: int) -> None:
        """`record`, without blocking the event loop; done when the line is written."""

        def record(_: Check) -> None:  # written also when nobody waits any more
            self.record(name, model, inputs=inputs, tokens=tokens)

        await in_thread(self._writer, record)

    def record(self, name: str | None, model: str, *, inputs: int, tokens: int) -> None:
        """Count one request that is about to be answered."""
        hour = _now() // _HOUR * _HOUR
        line = _line(Slot(hour, name or "", model), Used(1, inputs, tokens))
        with self._lock:
            self._waiting.append(line)
            self._write()

    def close(self) -> None:
        """Fold what this process counted."""
        self._writer.shutdown()
        self._stop.set()
        self._thread.join()

    def _write(self) -> None:
        data = b"".join(self._waiting)
        try:
            _append(self._journal, data)
        except OSError as error:
            if not self._failing:
                _logger.error("Usage cannot be written and is kept in memory: %s", error)  # noqa: TRY400
            self._failing = True
            self._waiting = _added_up(data)
            return
        self._failing = False
        self._waiting.clear()

    def _fold_now_and_then(self, seconds: float) -> None:
        _fold_left_ones(self._directory)
        while not self._stop.wait(seconds):
            self._change_journal()
        self._change_journal(last=True)

    def _change_journal(self, *, last: bool = False) -> None:
        """Fold the journal, and begin another."""
        try:
            with self._lock:
                self._write()
                if self._waiting or (not last and self._journal.tell() == 0):
                    return
                full = self._journal
                if not last:
                    self._journal = _new_journal(self._directory)
            with full:
                _fold(self._directory, Path(full.name))
        except (OSError, sqlite3.Error) as error:
            _logger.warning("Usage is not folded yet: %s", error)


def read(directory: Path) -> Sums:
    """All that was used, that of running servers up to now included.

    Raises:
        UsageError: there is none, or it cannot be read.
    """
    if not (directory / FILE).is_file():
        raise UsageError(
            f"{directory} has no {FILE}; a server with --usage-dir {directory} makes it"
        )
    try:
        for _ in range(_MOST_TRIES):
            with suppress(FileNotFoundError), closing(_connect(directory)) as database:
                return _read_once(directory, database)
    except (OSError, sqlite3.Error) as error:
        raise UsageError(f"{directory} cannot be read: {error}") from error
    raise UsageError(f"{directory} changes all the time; try again")


def _read_once(directory: Path, database: sqlite3.Connection) -> Sums:
    """Sums of one moment: a journal that is folded meanwhile is not found, and the caller tries again."""
    journals = sorted(directory.glob(_JOURNALS))
    contents = {path.name: path.read_bytes() for path in journals}
    database.execute("BEGIN")
    folded = {name for (name,) in database.execute("SELECT journal FROM folded")}
    sums = {Slot(*row[:3]): Used(*row[3:]) for row in database.execute("SELECT * FROM usage")}
    for name, content in contents.items():
        if name not in folded:
            _add_up(sums, content)
    if set(contents) != {path.name for path in directory.glob(_JOURNALS)} | (
        set(contents) & folded
    ):
        raise FileNotFoundError
    return sums


def _fold_left_ones(directory: Path) -> None:
    """Fold the journals of processes that died."""
    for path in sorted(directory.glob(_JOURNALS)):
        try:
            with path.open("rb") as journal:
                fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _fold(directory, path)
        except (BlockingIOError, FileNotFoundError):
            continue  # of a running process, or folded by another one just now
        except (OSError, sqlite3.Error) as error:
            _logger.warning("Usage in %s is not folded yet: %s", path.name, error)


def _fold(directory: Path, journal: Path) -> None:
    """Add a journal, which nobody writes to any more, to the sums; once."""
    sums: Sums = {}
    _add_up(sums, journal.read_bytes())
    with closing(_connect(directory)) as database:
        database.execute("BEGIN IMMEDIATE")
        known = database.execute("SELECT 1 FROM folded WHERE journal = ?", (journal.name,))
        if known.fetchone() is None:
            database.executemany(_ADD, [(*slot, *used) for slot, used in sums.items()])
            database.execute("INSERT INTO folded VALUES (?)", (journal.name,))
        database.execute("COMMIT")
        journal.unlink()
        database.execute("DELETE FROM folded WHERE journal = ?", (journal.name,))


def _add_up(sums: Sums, content: bytes) -> None:
    """Add the lines of a journal; one without an end was being written when its process died."""
    for line in content.split(b"\n")[:-1]:
        hour, name, model, *used = json.loads(line)
        slot = Slot(hour, name, model)
        sums[slot] = sums.get(slot, Used(0, 0, 0)).plus(Used(*used))


def _now() -> int:
    return int(time.time())


def _added_up(lines: bytes) -> list[bytes]:
    """The same in as few lines as there are slots, however long a disk takes nothing."""
    sums: Sums = {}
    _add_up(sums, lines)
    return [_line(slot, used) for slot, used in sums.items()]


def _line(slot: Slot, used: Used) -> bytes:
    return json.dumps([*slot, *used]).encode() + b"\n"


def _connect(directory: Path) -> sqlite3.Connection:
    database = sqlite3.connect(
        directory / FILE, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(_TABLES)
    except sqlite3.Error:
        database.close()
        raise
    return database


def _new_journal(directory: Path) -> IO[bytes]:
    path = directory / f"journal-{os.getpid()}-{secrets.token_hex(8)}.jsonl"
    journal = path.open("xb", buffering=0)
    fcntl.flock(journal, fcntl.LOCK_EX)
    return journal


def _append(journal: IO[bytes], data: bytes) -> None:
    """Write all of `data`, or nothing of it."""
    before = journal.tell()
    written = journal.write(data)
    if written != len(data):  # the disk is full
        journal.truncate(before)
        journal.seek(before)
        raise OSError("no space is left")
