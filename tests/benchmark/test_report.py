"""A plot is drawn along what was varied most."""

from pathlib import Path

import pytest

from hexgrid.benchmark.load import Measured, Point
from hexgrid.benchmark.report import plot


def measured(num_tokens: int, concurrency: int) -> Measured:
    return Measured(Point(num_tokens, concurrency, 1), seconds=1.0, latencies=[0.1], num_tokens=9)


@pytest.mark.parametrize(
    ("lengths", "concurrencies", "label", "line"),
    [
        ((16, 64, 256), (1, 8), "tokens of a text", "8 callers at a time"),
        ((64,), (1, 8, 64), "callers at a time", "64 tokens of a text"),
        ((64,), (1,), "tokens of a text", "1 callers at a time"),
    ],
)
def test_the_axis_is_what_has_more_values(
    tmp_path: Path, lengths: tuple[int, ...], concurrencies: tuple[int, ...], label: str, line: str
) -> None:
    file = tmp_path / "plot.svg"

    plot([measured(n, c) for n in lengths for c in concurrencies], "title", file)

    drawn = (
        file.read_text()
    )  # matplotlib draws letters as shapes, and writes them beside as comments
    assert f"<!-- {label} -->" in drawn
    assert f"<!-- {line} -->" in drawn


def test_what_was_never_answered_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "plot.svg"
    silent = Measured(Point(128, 32, 1), seconds=1.0)

    plot([measured(16, 1), silent], "title", file)

    assert "32 callers" not in file.read_text()
