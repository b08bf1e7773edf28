"""The log of a server: one line an event, as text for people or as JSON, whoever wrote it.

Our own loggers, uvicorn's, other libraries', warnings and tracebacks all come by way of the standard
library's root logger. The lines of requests, of which there may be thousands a second, do without it.
"""

import logging
import sys
import threading
from types import TracebackType
from typing import Any, TextIO

from hexgrid.config import ServerConfig
from hexgrid.server.access_log import RequestLog
from hexgrid.server.log_lines import Event, Render, json_line, text_line
from hexgrid.server.log_writer import LineWriter
from hexgrid.server.request_record import current_ids

# Others are asked for warnings only.
_CHATTY = ("hexgrid", "uvicorn")

_logger = logging.getLogger(__name__)


class Logs:
    """Hears the root logger, warnings, and what nobody catches, until it is closed."""

    def __init__(self, config: ServerConfig, stream: TextIO) -> None:
        level = logging.getLevelNamesMapping()[config.log_level.upper()]
        render = json_line if config.log_format == "json" else text_line
        self._writer = LineWriter(stream, _tell_dropped)
        self.requests = RequestLog(self._writer, render, level=level)
        self._handler = logging.StreamHandler(self._writer)
        self._handler.terminator = ""  # the writer ends lines
        self._handler.setFormatter(_Formatter(render))
        self._levels = {name: logging.getLogger(name).level for name in _CHATTY}
        self._hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
        logging.root.addHandler(self._handler)
        for name in _CHATTY:
            logging.getLogger(name).setLevel(level)
        logging.captureWarnings(capture=True)
        sys.excepthook, threading.excepthook = _log_uncaught, _log_uncaught_in_thread
        sys.unraisablehook = _log_unraisable

    def close(self) -> None:
        """Leave everything as it was found, and write what waits."""
        sys.excepthook, threading.excepthook, sys.unraisablehook = self._hooks
        logging.captureWarnings(capture=False)
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)
        logging.root.removeHandler(self._handler)
        self._writer.close()


class _Formatter(logging.Formatter):
    """A record of `logging` as a line; one that is made while a request is answered carries its ids."""

    def __init__(self, render: Render) -> None:
        super().__init__()
        self._render = render

    def format(self, record: logging.LogRecord) -> str:
        traceback = self.formatException(record.exc_info) if record.exc_info else None
        return self._render(
            Event(
                record.created,
                record.levelname.lower(),
                record.name,
                record.getMessage().rstrip(),
                current_ids(),
                traceback or record.stack_info,
            )
        )


def _tell_dropped(count: int) -> None:
    _logger.warning("%d lines of requests were dropped: the log's reader is too slow", count)


def _log_uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
    else:
        _logger.critical("Nothing caught this", exc_info=(kind, error, traceback))


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit:
        name = None if args.thread is None else args.thread.name
        _logger.critical("The thread %s died", name, exc_info=args.exc_value)


def _log_unraisable(unraisable: Any) -> None:
    _logger.error(
        "%s %s",
        unraisable.err_msg or "Exception ignored in",
        type(unraisable.object).__qualname__,
        exc_info=unraisable.exc_value,
    )
