"""What is known of one HTTP request while it is answered: for the log, the headers and the traces.

request_middleware.py makes it; who learns something writes it down.
"""

import os
import re
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from starlette.types import Scope

from hexgrid.headers import header_of
from hexgrid.server.timing import Timing
from hexgrid.wire import TokenIds

_IN_SCOPE = "hexgrid.request"
# What a client's id may be to be taken over: it stands in logs and headers, so nothing in it may act there.
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._~:/+=@|-]{1,128}")
_REQUEST_ID_BYTES = 8
_METHODS = frozenset("GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH".split())
REQUEST_ID_HEADER = b"x-request-id"
# Asked every few seconds by machines, or many at once for a page: logged at debug level only, not traced.
_PROBES = frozenset({"/health", "/ping", "/live", "/ready", "/metrics", "/console"})
# In the scope: an id that was made for this request by what stands in front of the application.
MADE_ID = "hexgrid.made_id"


@dataclass(slots=True)
class RequestRecord:
    """One request; fields are None until they are known. No text is among them, unless asked for."""

    method: str
    path: str  # a known one, or "other"
    client_id: str | None  # the request's own id, if that will do
    request_id: str
    timing: Timing
    status: int | None = None
    error: str | None = None  # its type
    reason: str | None = None  # what it is counted under
    key: str | None = None  # the name of the stored key
    model: str | None = None  # its first served name
    num_inputs: int | None = None
    num_tokens: int | None = None
    num_truncated: int | None = None
    has_foreign_ids: bool = False  # token ids of another tokenizer, it seems
    inputs: list[str] | None = None  # their beginnings, with --log-inputs
    # Of tracing.py, where there is any.
    trace_id: str | None = None
    span: Any = None
    began_at: int = 0  # Unix nanoseconds

    @property
    def is_probe(self) -> bool:
        return self.path in _PROBES


# Of the request whose task this is; uvicorn's messages about it are logged in the same one.
_current: ContextVar[RequestRecord | None] = ContextVar("request", default=None)


def new_record(scope: Scope, path: str) -> RequestRecord:
    """Begin the record of a request; from now on `record_of` finds it, and messages carry its ids."""
    client_id = _client_id(scope["headers"])
    record = scope[_IN_SCOPE] = RequestRecord(
        scope["method"] if scope["method"] in _METHODS else "other",
        path,
        client_id,
        client_id or scope.get(MADE_ID) or os.urandom(_REQUEST_ID_BYTES).hex(),
        Timing(perf_counter()),
    )
    _current.set(record)
    return record


def record_of(scope: Scope) -> RequestRecord:
    """The record of the request that `scope` is part of."""
    record: RequestRecord = scope[_IN_SCOPE]
    return record


def current_ids() -> dict[str, str | None]:
    """What a message that is logged now should carry; nothing outside of requests."""
    record = _current.get()
    if record is None:
        return {}
    return {"request_id": record.request_id, "trace_id": record.trace_id}


def beginnings(inputs: Iterable[str | TokenIds], most: int) -> list[str]:
    """The first `most` characters of a request's inputs, input by input; ids as numbers."""
    shown: list[str] = []
    for each in inputs:
        text = each if isinstance(each, str) else " ".join(map(str, each[:most]))
        shown.append(text[:most])
        most -= max(1, len(text))
        if most <= 0:
            break
    return shown


def _client_id(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The request's own X-Request-Id; None if it will not do."""
    value = header_of(headers, REQUEST_ID_HEADER)
    return None if value is None or not _REQUEST_ID.fullmatch(value) else value.decode()
