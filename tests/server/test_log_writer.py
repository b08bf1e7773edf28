"""The thread that writes: order, a reader that stalls, and the end."""

import io
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from hexgrid.server.log_writer import MOST_WAITING, LineWriter
from tests.server.running import DEADLINE


class Reader(io.StringIO):
    """A stream that takes nothing while its gate is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.stalled = threading.Event()

    def write(self, text: str) -> int:
        if not self.gate.is_set():
            self.stalled.set()
            assert self.gate.wait(DEADLINE)
        return super().write(text)


@pytest.fixture
def reader() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.gate.set()


def refuse(count: int) -> None:
    raise AssertionError(count)


def test_a_line_is_out_when_write_returns_and_those_before_it_too(reader: Reader) -> None:
    writer = LineWriter(reader, refuse)

    writer.write_soon(lambda: "a")
    writer.write("b")

    assert reader.getvalue() == "a\nb\n"
    writer.close()


def test_what_is_left_to_the_thread_is_out_when_it_is_closed(reader: Reader) -> None:
    writer = LineWriter(reader, refuse)

    for number in range(1_000):
        writer.write_soon(partial(str, number))
    writer.close()

    assert reader.getvalue().split() == [str(number) for number in range(1_000)]


def test_what_is_left_to_the_thread_comes_out_by_itself(reader: Reader) -> None:
    writer = LineWriter(reader, refuse)
    reader.gate.clear()

    writer.write_soon(lambda: "a")

    assert reader.stalled.wait(DEADLINE)
    reader.gate.set()
    writer.close()


def test_lines_of_many_threads_stay_whole(reader: Reader) -> None:
    writer = LineWriter(reader, refuse)

    def write(letter: str) -> None:
        for number in range(200):
            if number % 7 == 0:
                writer.write(letter * 50)
            else:
                writer.write_soon(lambda: letter * 50)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    writer.close()

    lines = reader.getvalue().splitlines()
    assert sorted(lines) == sorted([letter * 50 for letter in "abcd" for _ in range(200)])


def test_a_reader_that_stalls_stops_nobody_and_costs_lines_that_are_counted(
    reader: Reader,
) -> None:
    dropped: list[int] = []
    told = threading.Event()

    def tell(count: int) -> None:
        dropped.append(count)
        told.set()

    writer = LineWriter(reader, tell)
    reader.gate.clear()
    writer.write_soon(lambda: "first")
    assert reader.stalled.wait(DEADLINE)

    for _ in range(MOST_WAITING + 3):
        writer.write_soon(lambda: "x")
    reader.gate.set()

    assert told.wait(DEADLINE)
    writer.close()
    assert dropped == [3]
    assert reader.getvalue().count("x") == MOST_WAITING


def test_a_stream_that_is_closed_raises_nothing() -> None:
    stream = io.StringIO()
    writer = LineWriter(stream, refuse)
    stream.close()

    writer.write_soon(lambda: "a")
    writer.write("b")
    writer.close()
