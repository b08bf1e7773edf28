"""Uploaded files and batches on the disk, each with the name of the key that it belongs to.

Objects are rows of one SQLite file, contents are files beside it. A content that no row names was being
written when a process died, or is still being written by a batch; the next process to start removes the
former. One process has the directory at a time. All calls block.
"""

import fcntl
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from hexgrid.config import ServerConfig
from hexgrid.errors import BatchStoreError, OverloadedError, RequestError, ResourceNotFoundError
from hexgrid.server.batches.objects import UNFINISHED, Batch, FileObject, Purpose

_TABLES = """
CREATE TABLE IF NOT EXISTS files (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
    purpose TEXT NOT NULL, bytes INTEGER NOT NULL, expires INTEGER NOT NULL, object BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS batches (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
    status TEXT NOT NULL, expires INTEGER NOT NULL, object BLOB NOT NULL, work BLOB NOT NULL
) STRICT;
"""
_FIND = {
    "files": "SELECT object FROM files WHERE id = ? AND owner = ?",
    "batches": "SELECT object FROM batches WHERE id = ? AND owner = ?",
}
_COUNT = {
    "files": "SELECT count(*) FROM files WHERE owner = ? AND purpose = 'batch'",
    "batches": "SELECT count(*) FROM batches WHERE owner = ?",
}
# Pages are walked by number, which is the key of the tables: nothing else is read, nothing sorted.
_NEWEST = {
    "files": """
        SELECT object FROM files
        WHERE number < coalesce((SELECT number FROM files WHERE id = :after), 9223372036854775807)
        AND owner = :owner AND (:purpose IS NULL OR purpose = :purpose)
        ORDER BY number DESC LIMIT :most
    """,
    "batches": """
        SELECT object FROM batches
        WHERE number < coalesce((SELECT number FROM batches WHERE id = :after), 9223372036854775807)
        AND owner = :owner
        ORDER BY number DESC LIMIT :most
    """,
}
_OLDEST = {
    "files": """
        SELECT object FROM files
        WHERE number > coalesce((SELECT number FROM files WHERE id = :after), 0)
        AND owner = :owner AND (:purpose IS NULL OR purpose = :purpose)
        ORDER BY number LIMIT :most
    """,
}
_UNFINISHED = msgspec.json.encode(UNFINISHED).decode()
_FULL_RETRY_SECONDS = 3_600
Object = TypeVar("Object", FileObject, Batch)


class Work(msgspec.Struct, frozen=True):
    """What a batch needs beside what its owner is shown."""

    output_id: str
    error_id: str
    output_seconds: int  # that its results are kept for


class Room(NamedTuple):
    """What is kept at most."""

    max_files: int  # of one owner
    max_batches: int  # of one owner
    max_bytes: int  # of all
    seconds: int  # and for how long


def room_of(config: ServerConfig) -> Room:
    """What the settings allow."""
    return Room(
        config.max_batch_files,
        config.max_batches,
        config.max_batch_dir_bytes,
        config.batch_retention,
    )


class BatchStore:
    """The directory; see above. Any thread may call."""

    def __init__(self, directory: Path, room: Room) -> None:
        """Raises:
        BatchStoreError: the directory cannot be used, or another process has it.
        """
        self.room = room
        self._contents = directory / "contents"
        self._lock = threading.RLock()
        self._reserved: dict[str, int] = {}  # bytes of results that are no files yet, by batch
        try:
            self._contents.mkdir(parents=True, exist_ok=True)
            self._holder = (directory / "lock").open("ab")
            fcntl.flock(self._holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._database = sqlite3.connect(
                directory / "batches.sqlite3", isolation_level=None, check_same_thread=False
            )
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.executescript(_TABLES)
            self._remove_strays()
        except BlockingIOError:
            raise BatchStoreError(f"--batch-dir {directory} is in use by another server") from None
        except (OSError, sqlite3.Error) as error:
            raise BatchStoreError(f"--batch-dir {directory} cannot be used: {error}") from error

    def close(self) -> None:
        """Let another process have it."""
        with self._lock:
            self._database.close()
            self._holder.close()

    def content(self, file_id: str) -> Path:
        """Where a file's content is, or will be."""
        return self._contents / file_id

    def add_file(
        self, owner: str, purpose: Purpose, filename: str, *, seconds: int | None, file_id: str
    ) -> FileObject:
        """Make a file of the content that is there under `file_id`; again is no harm.

        Raises:
            RequestError: the owner has too many.
        """
        path = self.content(file_id)
        now = int(time.time())
        kept = min(seconds or self.room.seconds, self.room.seconds)
        found = FileObject(
            id=file_id,
            bytes=path.stat().st_size,
            created_at=now,
            expires_at=now + kept,
            filename=filename,
            purpose=purpose,
        )
        with self._changing() as database:
            if purpose == "batch":
                self._refuse_too_many("files", owner, self.room.max_files)
            database.execute(
                "INSERT OR REPLACE INTO files (id, owner, purpose, bytes, expires, object) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (file_id, owner, purpose, found.bytes, now + kept, msgspec.json.encode(found)),
            )
        return found

    def check_room(self, num_bytes: int) -> None:
        """Raises OverloadedError where so many bytes more are too many."""
        with self._reading() as database:
            (used,) = database.execute("SELECT coalesce(sum(bytes), 0) FROM files").fetchone()
            used += sum(self._reserved.values())
        if used + num_bytes > self.room.max_bytes:
            raise OverloadedError(
                f"The files of all keys have {used} bytes and this one {num_bytes} more; at most "
                f"{self.room.max_bytes} are kept. Delete some, or try again later",
                retry_after=_FULL_RETRY_SECONDS,
            )

    def reserve(self, batch_id: str, num_bytes: int) -> None:
        """Count results that are about to be written; raises as `check_room` does."""
        with self._lock:
            self.check_room(num_bytes)
            self._reserved[batch_id] = self._reserved.get(batch_id, 0) + num_bytes

    def release(self, batch_id: str) -> None:
        """They are files now, or will be counted anew."""
        with self._lock:
            self._reserved.pop(batch_id, None)

    def file(self, owner: str, file_id: str) -> FileObject:
        """The owner's file of that id.

        Raises:
            ResourceNotFoundError: there is none.
        """
        return self._find("files", owner, file_id, FileObject)

    def files(
        self, owner: str, *, after: str | None, limit: int, newest_first: bool, purpose: str | None
    ) -> tuple[list[FileObject], bool]:
        """The owner's files, and whether there are more."""
        pages = _NEWEST if newest_first else _OLDEST
        return self._list(
            pages, "files", FileObject, owner, after=after, limit=limit, purpose=purpose or None
        )

    def delete_file(self, owner: str, file_id: str) -> None:
        """Raises:
        ResourceNotFoundError: there is none.
        RequestError: a batch needs it.
        """
        self.file(owner, file_id)
        for batch, _, _ in self.unfinished():
            if batch.input_file_id == file_id:
                raise RequestError(
                    f"{file_id} is the input of {batch.id}, which is {batch.status}; cancel that first",
                    param="file_id",
                )
        self._delete(file_id)

    def add_batch(self, owner: str, batch: Batch, work: Work) -> None:
        """Raises:
        RequestError: the owner has too many.
        """
        with self._changing() as database:
            self._refuse_too_many("batches", owner, self.room.max_batches)
            database.execute(
                "INSERT INTO batches (id, owner, status, expires, object, work) VALUES (?, ?, ?, ?, ?, ?)",
                (
                    *(batch.id, owner, batch.status, batch.created_at + self.room.seconds),
                    *(msgspec.json.encode(batch), msgspec.json.encode(work)),
                ),
            )

    def batch(self, owner: str, batch_id: str) -> Batch:
        """The owner's batch of that id; raises like `file`."""
        return self._find("batches", owner, batch_id, Batch)

    def batches(self, owner: str, *, after: str | None, limit: int) -> tuple[list[Batch], bool]:
        """The owner's batches, newest first, and whether there are more."""
        return self._list(_NEWEST, "batches", Batch, owner, after=after, limit=limit)

    def update(self, batch: Batch) -> None:
        """Keep what has become of a batch."""
        with self._changing() as database:
            database.execute(
                "UPDATE batches SET status = ?, object = ? WHERE id = ?",
                (batch.status, msgspec.json.encode(batch), batch.id),
            )

    def unfinished(self) -> list[tuple[Batch, str, Work]]:
        """Batches that are to go on, oldest first, with their owners."""
        with self._reading() as database:
            rows = database.execute(
                "SELECT object, owner, work FROM batches "
                "WHERE status IN (SELECT value FROM json_each(?)) ORDER BY number",
                (_UNFINISHED,),
            ).fetchall()
        return [
            (msgspec.json.decode(found, type=Batch), owner, msgspec.json.decode(work, type=Work))
            for found, owner, work in rows
        ]

    def remove_expired(self) -> None:
        """Files and batches whose time is over; those that a batch still needs stay."""
        now = int(time.time())
        needed = {batch.input_file_id for batch, _, _ in self.unfinished()}
        with self._reading() as database:
            rows = database.execute("SELECT id FROM files WHERE expires <= ?", (now,)).fetchall()
        for (file_id,) in rows:
            if file_id not in needed:
                self._delete(file_id)
        with self._changing() as database:
            database.execute(
                "DELETE FROM batches "
                "WHERE expires <= ? AND status NOT IN (SELECT value FROM json_each(?))",
                (now, _UNFINISHED),
            )

    def _delete(self, file_id: str) -> None:
        with self._changing() as database:
            database.execute("DELETE FROM files WHERE id = ?", (file_id,))
        self.content(file_id).unlink(missing_ok=True)

    def _find(self, table: str, owner: str, own_id: str, kind: type[Object]) -> Object:
        with self._reading() as database:
            row = database.execute(_FIND[table], (own_id, owner)).fetchone()
        if row is None:
            what = {"files": "file", "batches": "batch"}[table]
            raise ResourceNotFoundError(f"No such {what}: {own_id[:100]}", param=f"{what}_id")
        return msgspec.json.decode(row[0], type=kind)

    def _list(
        self,
        pages: Mapping[str, str],
        table: str,
        kind: type[Object],
        owner: str,
        *,
        after: str | None,
        limit: int,
        purpose: str | None = None,
    ) -> tuple[list[Object], bool]:
        with self._reading() as database:
            if after is not None:
                self._find(table, owner, after, kind)
            values = {"owner": owner, "purpose": purpose, "after": after, "most": limit + 1}
            rows = database.execute(pages[table], values).fetchall()
        found = [msgspec.json.decode(row[0], type=kind) for row in rows[:limit]]
        return found, len(rows) > limit

    def _refuse_too_many(self, table: str, owner: str, most: int) -> None:
        (count,) = self._database.execute(_COUNT[table], (owner,)).fetchone()
        if count >= most:
            raise RequestError(
                f"This key has {count} {table}; at most {most} are kept. "
                + ("Delete some" if table == "files" else "Old ones go away by themselves")
            )

    def _remove_strays(self) -> None:
        known = {name for (name,) in self._database.execute("SELECT id FROM files")}
        for _, _, work in self.unfinished():
            known |= {work.output_id, work.error_id}
        for path in self._contents.iterdir():
            if path.name not in known:
                path.unlink()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._database
            except (OSError, sqlite3.Error) as error:
                raise BatchStoreError(f"--batch-dir cannot be used: {error}") from error

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
            except BaseException:
                database.execute("ROLLBACK")
                raise
            database.execute("COMMIT")
