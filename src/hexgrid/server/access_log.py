"""The line that the log has for every request."""

import functools
import logging
from time import perf_counter, time

from hexgrid.server.log_lines import Event, Render, printable
from hexgrid.server.log_writer import LineWriter
from hexgrid.server.request_record import RequestRecord

_LOGGER = "hexgrid.access"


class RequestLog:
    """Writes the lines of requests that are over: at level info, those of probes at debug.

    The event loop only hands them over. They are made by the writer's thread, many at once: that takes less
    time than to make them one by one, each between other work.
    """

    def __init__(self, writer: LineWriter, render: Render, *, level: int) -> None:
        self._writer = writer
        self._render = render
        self._level = level

    def write(self, record: RequestRecord) -> None:
        """Let the line of `record`, whose answer has just ended, be written."""
        level = logging.DEBUG if record.is_probe else logging.INFO
        if level >= self._level:
            seconds = perf_counter() - record.timing.started
            self._writer.write_soon(functools.partial(self._line, record, level, time(), seconds))

    def _line(self, record: RequestRecord, level: int, now: float, seconds: float) -> str:
        message = f"{record.method} {record.path} {record.status or '-'}"
        fields = _fields(record, seconds)
        return self._render(
            Event(now, logging.getLevelName(level).lower(), _LOGGER, message, fields)
        )


def _fields(record: RequestRecord, seconds: float) -> dict[str, object]:
    """What a line says of a request; None: not known."""
    took = {name: each for name, _, each in record.timing}
    return {
        "request_id": record.request_id,
        "method": record.method,
        "path": record.path,
        "status": record.status,
        "error": record.error,
        "duration_ms": _ms(seconds),
        "queue_ms": _ms(took.get("queue")),
        "forward_ms": _ms(took.get("forward")),
        "model": record.model,
        "inputs": record.num_inputs,
        "tokens": record.num_tokens,
        "truncated": record.num_truncated,
        "cached": record.timing.num_cached,
        "key": record.key,
        "trace_id": record.trace_id,
        "text": None if record.inputs is None else list(map(printable, record.inputs)),
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e3, 2)
