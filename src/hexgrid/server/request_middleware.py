"""Around all that answers: each request's record, its id and times in the answer, its count, line and trace.

It also answers what nobody else did: a bug of ours is a 500 to the client and a traceback in the log.
"""

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hexgrid.metrics import Metrics
from hexgrid.server.access_log import RequestLog
from hexgrid.server.errors import bug_response
from hexgrid.server.request_record import REQUEST_ID_HEADER, RequestRecord, new_record
from hexgrid.server.tracing import Tracing

_logger = logging.getLogger(__name__)


class RequestMiddleware:
    """See above; `names` are what metrics and the log call each path, `patterns` those of paths with ids.

    Unknown paths share one name, so that clients can add none.

    Without `log` there are no lines, without `tracing` no traces. Answers of `timed_paths` have
    Server-Timing.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        names: Mapping[str, str],
        patterns: Sequence[tuple[re.Pattern[str], str]] = (),
        timed_paths: Collection[str],
        log: RequestLog | None,
        tracing: Tracing | None,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._names = names
        self._patterns = patterns
        self._timed_paths = frozenset(timed_paths)
        self._log = log
        self._tracing = tracing
        self._num_running = 0
        metrics.in_flight.set_function(lambda: self._num_running)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = new_record(scope, self._name(scope["path"]))
        if self._tracing is not None:
            self._tracing.begin(record, scope["headers"])

        async def telling_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                message["headers"] = [*message["headers"], *self._headers(record)]
            await send(message)

        self._num_running += 1
        try:
            await self._app(scope, receive, telling_send)
        except Exception as error:
            # Too late for another answer: uvicorn logs it, and hangs up.
            if record.status is not None:
                raise
            _logger.error("A request failed by a bug", exc_info=error)  # noqa: TRY400 (with its id)
            await bug_response()(scope, receive, telling_send)
        finally:
            self._num_running -= 1
            self._count(record)
            if self._tracing is not None:
                self._tracing.end(record)
            if self._log is not None:
                self._log.write(record)

    def _name(self, path: str) -> str:
        name = self._names.get(path)
        if name is None:
            name = next((name for pattern, name in self._patterns if pattern.match(path)), "other")
        return name

    def _count(self, record: RequestRecord) -> None:
        seconds = perf_counter() - record.timing.started
        self._metrics.http_request(record.path, record.status or 500, seconds)
        if record.reason is not None:
            self._metrics.rejected(record.model or "", record.reason)

    def _headers(self, record: RequestRecord) -> list[tuple[bytes, bytes]]:
        headers = [(REQUEST_ID_HEADER, record.request_id.encode())]
        if record.path in self._timed_paths:
            headers.append((b"server-timing", record.timing.header(perf_counter()).encode()))
        return headers
