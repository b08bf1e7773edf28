"""Windows: runs of rows that are read, embedded, written and noted together. A job in flight holds a few.

Where windows end depends on the input and the limits alone, so that a job that goes on cuts the same ones.
"""

from collections.abc import Generator, Iterable
from typing import NamedTuple

from hexgrid.jobs.rows import Place, Row

# Texts of a window, in characters: bounds memory where rows are long.
MAX_WINDOW_CHARS = 16 * 2**20


class Window(NamedTuple):
    """Some rows in their order, and the place after the last."""

    number: int  # counted from 0
    rows: list[Row]
    end: Place

    @property
    def num_bytes(self) -> int:
        """Of the last row's file, up to the window's end."""
        return self.rows[-1].num_bytes


def windows(rows: Iterable[Row], *, first_number: int, most_rows: int) -> Generator[Window]:
    """`rows` in windows of at most `most_rows` rows and about MAX_WINDOW_CHARS characters."""
    number, window, num_chars = first_number, list[Row](), 0
    for row in rows:
        window.append(row)
        num_chars += len(row.text or "")
        if len(window) == most_rows or num_chars >= MAX_WINDOW_CHARS:
            yield Window(number, window, row.after)
            number, window, num_chars = number + 1, [], 0
    if window:
        yield Window(number, window, window[-1].after)
