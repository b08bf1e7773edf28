"""A server whose log a test reads."""

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from tests.server.running import (
    serving,
    variant,
)

OWN_ID = re.compile(r"[0-9a-f]{16}")  # of a request


class Log:
    """A server with a log, and after its end the lines of that."""

    def __init__(self, model: ServedModel, metrics: Metrics, **settings: Any) -> None:
        self._stream = io.StringIO()
        settings = {"log_format": "json"} | settings
        self.server = serving([model], metrics, self._stream, **settings)

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    def lines(self, logger: str = "hexgrid.access") -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.text.splitlines()]
        return [line for line in found if line["logger"] == logger]

    def line(self) -> dict[str, Any]:
        (line,) = self.lines()
        return line


@contextmanager
def logged(model: ServedModel, **settings: Any) -> Iterator[tuple[httpx2.Client, Log]]:
    """A server of `tiny`, a client of it, and its log."""
    metrics = Metrics()
    log = Log(variant(model, metrics, "tiny"), metrics, **settings)
    with log.server as client:
        yield client, log
