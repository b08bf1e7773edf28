"""The store on disk: right vectors for the right model, shared, bounded, and never a reason to fail."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import numpy as np
import pytest

from hexgrid.encoding import Vectors
from hexgrid.engine import result_store
from hexgrid.engine.result_store import FILE, ResultStore
from hexgrid.errors import ConfigError

HIDDEN = 256

Opener = Callable[..., ResultStore]


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Opener]:
    stores = []

    def open_(fingerprint: str = "model", max_bytes: int = 2**24) -> ResultStore:
        store = ResultStore(
            tmp_path / "kept", fingerprint=fingerprint, hidden_size=HIDDEN, max_bytes=max_bytes
        )
        stores.append(store)
        return store

    yield open_
    for store in stores:
        if store._thread.is_alive():
            store.close()


def row(number: int) -> Vectors:
    return np.full(HIDDEN, number, np.float32)


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def numbers(store: ResultStore, *wanted: int) -> dict[int, float]:
    """Which of `wanted` are in the store, with the number that their vectors are made of."""
    found = store.get(map(key, wanted))
    return {number: float(found[key(number)][0]) for number in wanted if key(number) in found}


def fill(store: ResultStore, *kept: int) -> None:
    """Put rows and close, so that they are written."""
    store.put([(key(number), row(number)) for number in kept])
    store.close()


def edit(directory: Path, statement: str) -> None:
    with closing(sqlite3.connect(directory / "kept" / FILE)) as connection, connection:
        connection.execute(statement)


def test_what_one_wrote_the_next_finds_and_nothing_else(open_store: Opener) -> None:
    fill(open_store(), 1, 2)

    assert numbers(open_store(), 1, 2, 3) == {1: 1.0, 2: 2.0}


def test_two_share_it_while_both_are_open(open_store: Opener) -> None:
    one, other = open_store(), open_store()

    fill(one, 1)

    assert numbers(other, 1) == {1: 1.0}


def test_another_model_finds_nothing(open_store: Opener) -> None:
    fill(open_store("model"), 1)

    assert numbers(open_store("the same in bfloat16"), 1) == {}


def test_a_vector_that_was_damaged_is_not_there(open_store: Opener, tmp_path: Path) -> None:
    fill(open_store(), 1, 2)
    edit(
        tmp_path,
        f"UPDATE vectors SET hidden = zeroblob({4 * HIDDEN}) WHERE key = x'{key(1).hex()}'",
    )

    assert numbers(open_store(), 1, 2) == {2: 2.0}


def test_a_vector_of_another_width_is_not_there(open_store: Opener, tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "kept", fingerprint="model", hidden_size=8, max_bytes=2**24)
    store.put([(key(1), np.ones(8, np.float32))])
    store.close()

    assert numbers(open_store(), 1) == {}


def test_a_vector_is_copied_before_it_is_written(open_store: Opener) -> None:
    store, hidden = open_store(), row(1)
    store.put([(key(1), hidden)])
    hidden.fill(7)
    store.close()

    assert numbers(open_store(), 1) == {1: 1.0}


def test_those_unused_longest_go_when_it_is_full(open_store: Opener, tmp_path: Path) -> None:
    many = range(3_000)  # of about 1.1 kB each
    fill(open_store(), *many)
    edit(tmp_path, "UPDATE vectors SET used = used - 10")
    old = open_store(max_bytes=2**20)

    fill(old, *range(3_000, 3_400))

    left = numbers(open_store(), *range(3_400))
    assert set(range(3_000, 3_400)) <= left.keys()
    assert 400 < len(left) < 1_000
    with closing(sqlite3.connect(tmp_path / "kept" / FILE)) as connection:
        assert result_store._num_bytes(connection) <= 2**20


def test_one_that_is_asked_for_is_used(open_store: Opener, tmp_path: Path) -> None:
    fill(open_store(), 1, 2)
    edit(tmp_path, "UPDATE vectors SET used = used - 100000")
    asked = open_store()

    numbers(asked, 1)
    asked.close()

    with closing(sqlite3.connect(tmp_path / "kept" / FILE)) as connection:
        order = connection.execute("SELECT key FROM vectors ORDER BY used").fetchall()
    assert order == [(key(2),), (key(1),)]


def test_only_its_owner_can_read_it(open_store: Opener, tmp_path: Path) -> None:
    fill(open_store(), 1)

    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "kept" / FILE).stat().st_mode & 0o777 == 0o600


def test_a_store_that_breaks_in_use_says_so_once_and_gives_nothing(
    open_store: Opener, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(open_store(), 1)
    store = open_store()
    edit(tmp_path, "DROP TABLE vectors")

    assert numbers(store, 1) == {}
    assert numbers(store, 1) == {}
    store.put([(key(2), row(2))])
    store.close()

    (record,) = (record for record in caplog.records if record.levelname == "ERROR")
    assert "out of use: no such table: vectors" in record.getMessage()


def test_a_write_that_fails_puts_it_out_of_use(
    open_store: Opener, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store()
    edit(tmp_path, "DROP TABLE vectors")

    fill(store, 1)

    assert "out of use: no such table: vectors" in caplog.text


def test_what_the_writer_cannot_keep_up_with_is_not_kept(
    open_store: Opener, tmp_path: Path
) -> None:
    store = open_store()
    with closing(sqlite3.connect(tmp_path / "kept" / FILE)) as other:
        other.execute("BEGIN IMMEDIATE")  # the writer waits
        for number in range(1_000):
            store.put([(key(number), row(number))])
        other.rollback()
    store.close()

    kept = numbers(open_store(), *range(1_000))
    # What waits in the queue, and what the writer has in hand.
    assert result_store._MOST_PENDING <= len(kept) <= 2 * result_store._MOST_PENDING


class Refilled(Queue[result_store._Write | None]):
    """A queue whose caller puts one more whenever one is taken."""

    num_taken = 0

    def get(self, *args: Any, **named: Any) -> result_store._Write | None:
        self.num_taken += 1
        if self.num_taken == 1_000:
            raise Empty
        self.put(result_store._Write([], []))
        return super().get(*args, **named)


def test_the_writer_takes_no_more_at_once_than_may_wait_however_fast_more_comes() -> None:
    pending = Refilled()

    assert len(result_store._taken(pending)) == result_store._MOST_PENDING
    assert pending.num_taken == result_store._MOST_PENDING


@pytest.mark.parametrize("content", [b"no database at all " * 100])
def test_a_file_that_is_none_of_ours_is_refused_by_name(
    open_store: Opener, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / FILE).write_bytes(content)

    with pytest.raises(ConfigError, match=f"--result-cache-dir .*kept cannot be used: .*{FILE}"):
        open_store()


def test_a_directory_that_cannot_be_made_is_refused_by_name(
    open_store: Opener, tmp_path: Path
) -> None:
    (tmp_path / "kept").write_text("a file")

    with pytest.raises(ConfigError, match="kept cannot be used"):
        open_store()


def test_a_file_of_another_form_is_refused_and_left_alone(
    open_store: Opener, tmp_path: Path
) -> None:
    fill(open_store(), 1)
    edit(tmp_path, "PRAGMA user_version = 99")

    with pytest.raises(ConfigError, match="is of form 99, this version of hexgrid reads 1"):
        open_store()
