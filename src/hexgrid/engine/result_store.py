"""Vectors of earlier runs and of other processes, in one SQLite file that they share.

The rules:
1. A vector belongs to a fingerprint of weights, dtype and device, and to one list of token ids: what is found
   is never stale. Each has a checksum; one that does not fit is not there.
2. Reading is the caller's, from one thread. Writing is left to a thread of its own, which the caller never
   waits for: what it cannot keep up with is not kept.
3. The file holds at most `max_bytes`. Those that nobody asked for longest go first.
4. A store that fails while it is used says so once in the log and is out of use. No request fails by it.
"""

import logging
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from queue import Empty, Full, Queue
from typing import NamedTuple

import numpy as np

from hexgrid.encoding import Vectors
from hexgrid.engine.sequence import Key
from hexgrid.errors import ConfigError

FILE = "vectors.sqlite3"
_FORM = 1  # of the table; in the file's user_version
_TABLE = """
CREATE TABLE IF NOT EXISTS vectors (
    model TEXT NOT NULL, key BLOB NOT NULL, used INTEGER NOT NULL, checksum INTEGER NOT NULL,
    hidden BLOB NOT NULL, UNIQUE (model, key)
)
"""
_INDEX = "CREATE INDEX IF NOT EXISTS by_use ON vectors (used)"
_SELECT = "SELECT used, checksum, hidden FROM vectors WHERE model = ? AND key = ?"
_INSERT = "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?, ?)"
_TOUCH = "UPDATE vectors SET used = ? WHERE model = ? AND key = ?"
_EVICT = "DELETE FROM vectors WHERE rowid IN (SELECT rowid FROM vectors ORDER BY used LIMIT ?)"
_EVICTED_AT_ONCE = 256
_BUSY_SECONDS = 5.0  # that the writing thread waits for another process's transaction
_USED_SECONDS = 3600  # how exact "used" is: a finer one would be a write for every read
_MOST_PENDING = 64  # batches

_logger = logging.getLogger(__name__)


class _Write(NamedTuple):
    """Rows to keep, and keys that were asked for."""

    rows: list[tuple[Key, Vectors]]
    touched: list[Key]


class ResultStore:
    """Hidden states [H] by key, of one model."""

    def __init__(
        self, directory: Path, *, fingerprint: str, hidden_size: int, max_bytes: int
    ) -> None:
        """Open the store in `directory`, which is made where it is not there.

        Raises:
            ConfigError: it cannot be made or opened, or is none of ours.
        """
        self._file = directory / FILE
        self._fingerprint = fingerprint
        self._num_row_bytes = 4 * hidden_size
        self._max_bytes = max_bytes
        self._failed = False
        self._reader, self._writer = self._open(directory), self._connect()
        self._pending: Queue[_Write | None] = Queue(_MOST_PENDING)
        self._thread = threading.Thread(
            target=self._write_all, name="hexgrid-result-store", daemon=True
        )
        self._thread.start()

    def get(self, keys: Iterable[Key]) -> dict[Key, Vectors]:
        """The vectors that are here."""
        found: dict[Key, Vectors] = {}
        if self._failed:
            return found
        touched = []
        now = int(time.time())
        try:
            for key in keys:
                entry = self._reader.execute(_SELECT, (self._fingerprint, key)).fetchone()
                if entry is None or not self._is_whole(key, *entry[1:]):
                    continue
                found[key] = np.frombuffer(entry[2], np.float32)
                if now - entry[0] > _USED_SECONDS:
                    touched.append(key)
        except sqlite3.Error as error:
            self._give_up(error)
        if touched:
            self._leave(_Write([], touched))
        return found

    def put(self, rows: list[tuple[Key, Vectors]]) -> None:
        """Keep copies of hidden states, soon; if too many wait already, not these."""
        if not self._failed:
            self._leave(_Write([(key, np.array(hidden)) for key, hidden in rows], []))

    def close(self) -> None:
        """Write what waits, and close the file."""
        self._pending.put(None)
        self._thread.join()
        self._reader.close()
        self._writer.close()

    def _open(self, directory: Path) -> sqlite3.Connection:
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file.touch(mode=0o600)  # a vector tells of its text
            connection = self._connect()
            (form,) = connection.execute("PRAGMA user_version").fetchone()
            if form not in (0, _FORM):
                raise ConfigError(
                    f"{self._file} is of form {form}, this version of hexgrid reads {_FORM}: "
                    "delete it, or name another --result-cache-dir"
                )
            with connection:
                connection.execute(_TABLE)
                connection.execute(_INDEX)
                connection.execute(f"PRAGMA user_version = {_FORM}")
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(
                f"--result-cache-dir {directory} cannot be used: {error}. It must be a directory that "
                f"this user may write to; a broken {FILE} in it may be deleted"
            ) from error
        return connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._file, timeout=_BUSY_SECONDS, check_same_thread=False)
        connection.execute(
            "PRAGMA journal_mode = WAL"
        )  # readers and the writer never wait for each other
        connection.execute(
            "PRAGMA synchronous = NORMAL"
        )  # a crash may cost the last vectors, no more
        return connection

    def _is_whole(self, key: Key, checksum: int, hidden: bytes) -> bool:
        return len(hidden) == self._num_row_bytes and checksum == _checksum(key, hidden)

    def _leave(self, write: _Write) -> None:
        try:
            self._pending.put_nowait(write)
        except Full:
            _logger.debug("The result store is behind: %d vectors are not kept", len(write.rows))

    def _write_all(self) -> None:
        """The thread: one transaction for all that waits, until told to stop."""
        stopping = False
        while not stopping:
            writes = _taken(self._pending)
            stopping = writes[-1] is None
            if self._failed:
                continue
            try:
                self._write([write for write in writes if write is not None])
            except sqlite3.Error as error:
                self._give_up(error)

    def _write(self, writes: list[_Write]) -> None:
        connection, now = self._writer, int(time.time())
        with connection:
            for write in writes:
                connection.executemany(
                    _TOUCH, [(now, self._fingerprint, key) for key in write.touched]
                )
                connection.executemany(
                    _INSERT,
                    [
                        (self._fingerprint, key, now, _checksum(key, data), data)
                        for key, data in ((key, row.tobytes()) for key, row in write.rows)
                    ],
                )
        while _num_bytes(connection) > self._max_bytes:
            with connection:
                if not connection.execute(_EVICT, (_EVICTED_AT_ONCE,)).rowcount:
                    return

    def _give_up(self, error: sqlite3.Error) -> None:
        self._failed = True
        _logger.error("The result store %s is out of use: %s", self._file, error)


def _taken(pending: "Queue[_Write | None]") -> list[_Write | None]:
    """What waits, at least one and at most as many as may wait; what comes after None is left."""
    writes = [pending.get()]
    try:
        while writes[-1] is not None and len(writes) < _MOST_PENDING:
            writes.append(pending.get_nowait())
    except Empty:
        pass
    return writes


def _checksum(key: Key, hidden: bytes) -> int:
    return zlib.crc32(hidden, zlib.crc32(key))


def _num_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of the file that hold something."""
    numbers = {
        name: connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    }
    num_bytes: int = (numbers["page_count"] - numbers["freelist_count"]) * numbers["page_size"]
    return num_bytes
