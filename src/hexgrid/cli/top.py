"""hexgrid top: what a running server does at the moment, drawn anew every few seconds."""

import os
import sys
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING

import click

from hexgrid.cli.options import hide_secrets, key_option, server_key
from hexgrid.config.settings import Secret
from hexgrid.errors import UnreachableError

if TYPE_CHECKING:
    from hexgrid.monitor.display import Show
    from hexgrid.monitor.source import Source


@click.command()
@click.argument("url")
@key_option
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=2.0,
    help="Seconds between two looks; rates and latencies are those of so long.  [default: 2]",
)
@click.option("--once", is_flag=True, help="Look twice, print what happened in between, and end.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON each time.")
def command(
    url: str, api_key: Secret | None, interval: float, *, once: bool, as_json: bool
) -> None:
    """Watch a running server: rates, queue, batches, latencies, caches, refusals.

    URL is that of a hexgrid server, such as http://127.0.0.1:8000 (its key is read from HEXGRID_API_KEY or
    OPENAI_API_KEY). A server that is gone is asked again until it is back; Ctrl-C ends. Where the output is
    no terminal, plain lines are printed.
    """
    if api_key is not None:
        hide_secrets(api_key)
    from hexgrid.monitor.source import opened_source

    key = server_key(os.environ) if api_key is None else api_key.value
    leaving = nullcontext() if once else suppress(KeyboardInterrupt)
    with (
        opened_source(url, key) as source,
        leaving,
        _display(source.url, interval, once=once, as_json=as_json) as show,
    ):
        _watch(source, interval, show, once=once)


def _display(
    url: str, interval: float, *, once: bool, as_json: bool
) -> "AbstractContextManager[Show]":
    from rich.console import Console

    from hexgrid.monitor.display import in_json, in_lines, on_screen

    if as_json:
        return nullcontext(in_json(interval))
    console = Console()
    if once or not sys.stdout.isatty() or console.is_dumb_terminal:
        return nullcontext(in_lines(url, interval))
    return on_screen(url, interval, console)


def _watch(source: "Source", interval: float, show: "Show", *, once: bool) -> None:
    """Show each change; with `once` the first, or fail with what keeps it from being known."""
    from hexgrid.monitor.figures import figures
    from hexgrid.monitor.source import changes

    for news in changes(source.read, lambda: time.sleep(interval)):
        if not isinstance(news, UnreachableError):
            show(figures(news, time.time()))
        elif once:
            raise news
        else:
            show(news)
        if once:
            return
