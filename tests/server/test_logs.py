"""What goes through the log, and that nothing else does: loggers, warnings, tracebacks, in both formats."""

import io
import json
import logging
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

import pytest

from hexgrid.config import ServerConfig
from hexgrid.server.logs import Logs
from hexgrid.server.request_record import new_record


@contextmanager
def logging_to(stream: io.StringIO, **settings: Any) -> Iterator[Logs]:
    """The log while the block runs; what was said is in `stream` after it."""
    logs = Logs(ServerConfig(**settings), stream)
    try:
        yield logs
    finally:
        logs.close()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def raised(message: str) -> ValueError:
    """An error with a traceback."""

    def fail() -> None:
        raise ValueError(message)

    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        fail()
    return caught.value


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_loggers_message_is_a_line_of_text(stream: io.StringIO) -> None:
    with logging_to(stream):
        logging.getLogger("hexgrid.engine").warning("%d inputs\nfailed", 3)

    line = stream.getvalue()
    assert line.endswith(" WARNING hexgrid.engine: 3 inputs\\nfailed\n")
    assert line.count("\n") == 1


@pytest.mark.parametrize("logger", ["hexgrid.engine", "uvicorn.error", "somebody.else"])
def test_any_loggers_message_is_a_json_object_with_its_time(
    stream: io.StringIO, logger: str
) -> None:
    with logging_to(stream, log_format="json"):
        logging.getLogger(logger).warning("said")

    (line,) = lines(stream)
    assert line.pop("time").endswith("Z")
    assert line == {"level": "warning", "logger": logger, "message": "said"}


@pytest.mark.parametrize(
    ("level", "said"),
    [
        ("debug", {"debug", "info", "warning", "error"}),
        ("info", {"info", "warning", "error"}),
        ("error", {"error"}),
    ],
)
def test_the_level_is_that_of_the_settings(stream: io.StringIO, level: str, said: set[str]) -> None:
    with logging_to(stream, log_format="json", log_level=level):
        for name in ("debug", "info", "warning", "error"):
            logging.getLogger("hexgrid.x").log(getattr(logging, name.upper()), "said")

    assert {line["level"] for line in lines(stream)} == said


@pytest.mark.parametrize(("level", "said"), [("debug", 2), ("info", 1), ("warning", 0)])
def test_requests_are_held_to_the_level_too(stream: io.StringIO, level: str, said: int) -> None:
    with logging_to(stream, log_level=level) as logs:
        for path in ("/health", "/version"):
            scope = {"method": "GET", "headers": []}
            logs.requests.write(copy_context().run(new_record, scope, path))

    assert len(stream.getvalue().splitlines()) == said


def test_other_libraries_are_asked_for_warnings_only(stream: io.StringIO) -> None:
    with logging_to(stream, log_level="debug"):
        logging.getLogger("somebody.else").info("chatter")

    assert stream.getvalue() == ""


def test_a_python_warning_is_a_line(stream: io.StringIO) -> None:
    with warnings.catch_warnings(), logging_to(stream, log_format="json"):
        warnings.simplefilter("always")
        warnings.warn("old ways", UserWarning, stacklevel=1)

    (line,) = lines(stream)
    assert (line["level"], line["logger"]) == ("warning", "py.warnings")
    assert "UserWarning: old ways" in line["message"]


def test_a_traceback_is_part_of_its_line(stream: io.StringIO) -> None:
    with logging_to(stream, log_format="json"):
        logging.getLogger("hexgrid.x").error("failed", exc_info=raised("secret\ninsides"))

    (line,) = lines(stream)
    assert line["message"] == "failed"
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert line["exception"].endswith("ValueError: secret\ninsides")


def test_what_nobody_catches_is_a_line(stream: io.StringIO) -> None:
    with logging_to(stream, log_format="json"):
        error = raised("insides")
        sys.excepthook(type(error), error, error.__traceback__)

    (line,) = lines(stream)
    assert line["level"] == "critical"
    assert line["exception"].endswith("ValueError: insides")


def test_a_thread_that_dies_is_a_line(stream: io.StringIO) -> None:
    def fail() -> None:
        raise ValueError("insides")

    with logging_to(stream, log_format="json"):
        thread = threading.Thread(target=fail, name="worker")
        thread.start()
        thread.join()

    (line,) = lines(stream)
    assert line["message"] == "The thread worker died"
    assert line["exception"].endswith("ValueError: insides")


def test_an_exception_in_a_destructor_is_a_line(stream: io.StringIO) -> None:
    class Careless:
        def __del__(self) -> None:
            raise ValueError("insides")

    with logging_to(stream, log_format="json"):
        Careless()

    (line,) = lines(stream)
    assert line["level"] == "error"
    assert line["exception"].endswith("ValueError: insides")


def test_afterwards_everything_is_as_before() -> None:
    def state() -> list[object]:
        levels = [logging.getLogger(name).level for name in ("hexgrid", "uvicorn")]
        handlers = [*logging.root.handlers]
        hooks = [sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning]
        return [*levels, *handlers, *hooks]

    before = state()
    with logging_to(io.StringIO(), log_level="debug"):
        assert state() != before

    assert state() == before
