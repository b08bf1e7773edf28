"""Where figures are shown: as lines, as lines of JSON, or on the whole screen, drawn anew each time."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
import orjson
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from hexgrid.errors import UnreachableError
from hexgrid.monitor.figures import Figures
from hexgrid.monitor.view import Line, lines

_ALARM = "bold red"

# Is told the figures of each interval, or why there are none.
Show = Callable[[Figures | UnreachableError], None]


def in_lines(url: str, interval: float) -> Show:
    """Plain text, a block each time; trouble goes to stderr."""

    def show(news: Figures | UnreachableError) -> None:
        if isinstance(news, UnreachableError):
            click.echo(_trouble(news, interval), err=True)
            return
        click.echo(_heading(url))
        for line in lines(news):
            click.echo(line.text)
        click.echo()

    return show


def in_json(interval: float) -> Show:
    """One object a line; trouble goes to stderr."""

    def show(news: Figures | UnreachableError) -> None:
        if isinstance(news, UnreachableError):
            click.echo(_trouble(news, interval), err=True)
        else:
            click.echo(orjson.dumps(news))

    return show


@contextmanager
def on_screen(url: str, interval: float, console: Console) -> Iterator[Show]:
    """The whole screen while the block runs; what was there comes back afterwards."""
    last = Text()

    def show(news: Figures | UnreachableError) -> None:
        nonlocal last
        if isinstance(news, UnreachableError):
            trouble = Text(_trouble(news, interval), style=_ALARM)
            live.update(Group(trouble, Text(), last), refresh=True)
        else:
            last = _text([Line(_heading(url)), *lines(news, console.width)])
            live.update(last, refresh=True)

    first = Text(f"{url}: the first figures come in {interval:g} s")
    with Live(first, console=console, screen=True, auto_refresh=False) as live:
        yield show


def _heading(url: str) -> str:
    return f"{url}  {time.strftime('%H:%M:%S')}"


def _trouble(error: UnreachableError, interval: float) -> str:
    now = time.strftime("%H:%M:%S")
    return f"{now} {error.message}. Trying again every {interval:g} s"


def _text(shown: list[Line]) -> Text:
    """A line never becomes two: what does not fit is cut."""
    text = Text(no_wrap=True, overflow="ellipsis")
    for line in shown:
        text.append(line.text + "\n", style=_ALARM if line.is_alarming else None)
    return text
