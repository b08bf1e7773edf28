"""An event of the log as one line: text for people, or JSON.

What does not print is escaped in both, so that nothing from outside begins a line or moves a cursor.
"""

import functools
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import orjson

# Of a request: in text its message says them already.
_IN_MESSAGE = frozenset({"method", "path", "status"})
_is_plain = re.compile(r"[!#-<>-~]+").fullmatch  # visible ASCII without quotes and "="
_NUMBERS = (int, float)
_INDENT = "\n    "


class Event(NamedTuple):
    """What is said, by whom and when; `fields` that are None are left out."""

    seconds: float  # Unix time
    level: str
    logger: str
    message: str
    fields: Mapping[str, object]
    traceback: str | None = None


Render = Callable[[Event], str]


def json_line(event: Event) -> str:
    """`time`, `level`, `logger`, `message`, then the fields; a traceback is one string, `exception`."""
    line: dict[str, object] = {
        "time": _time(event.seconds),
        "level": event.level,
        "logger": event.logger,
        "message": printable(event.message),
    }
    for name, value in event.fields.items():
        if value is not None:
            line[name] = printable(value) if isinstance(value, str) else value
    if event.traceback is not None:
        line["exception"] = "\n".join(map(printable, event.traceback.split("\n")))
    return orjson.dumps(line).decode()


def text_line(event: Event) -> str:
    """Time, level, logger, message, and `name=value` of the fields; a traceback follows, indented."""
    line = f"{_time(event.seconds)} {event.level.upper():<7} {event.logger}: {printable(event.message)}"
    for name, value in event.fields.items():
        if value is None or name in _IN_MESSAGE:
            continue
        is_clear = type(value) in _NUMBERS or (isinstance(value, str) and _is_plain(value))
        line += f" {name}={value if is_clear else _quoted(value)}"
    if event.traceback is not None:
        line += _INDENT + _INDENT.join(map(printable, event.traceback.split("\n")))
    return line


def printable(text: str) -> str:
    """`text` with escapes in place of what moves a cursor, ends a line, or cannot be encoded."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _time(seconds: float) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    whole = int(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1e3):03d}Z"


@functools.lru_cache(maxsize=2)  # of thousands of lines a second
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _quoted(value: object) -> str:
    return orjson.dumps(printable(value) if isinstance(value, str) else value).decode()
