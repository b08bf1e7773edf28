"""Time and bookkeeping of every HTTP request, as plain ASGI middlewares."""

import asyncio
from collections.abc import Collection
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hexgrid.errors import DeadlineError, EngineClosedError
from hexgrid.metrics import Metrics
from hexgrid.server.errors import error_response


class DeadlineMiddleware:
    """Answers 504 when a request, its body's arrival included, takes longer than `seconds`.

    And 503 when it is given up because the server stops.
    """

    def __init__(self, app: ASGIApp, *, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def noting_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            async with asyncio.timeout(self._seconds) as deadline:
                await self._app(scope, receive, noting_send)
        except TimeoutError:
            # A response that has begun cannot become an error any more: the connection is closed.
            if started or not deadline.expired():
                raise
            error = DeadlineError(f"Not answered within {self._seconds:g} seconds")
            await error_response(error)(scope, receive, send)
        except asyncio.CancelledError:  # when a request outlasts --drain-timeout
            if started:
                raise
            closed = EngineClosedError("The server stopped before it could answer")
            await error_response(closed)(scope, receive, send)


class MetricsMiddleware:
    """Counts and times every request; unknown paths share one label, so that clients cannot add any."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, known_paths: Collection[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._known_paths = frozenset(known_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = perf_counter()
        status = 500

        async def noting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, noting_send)
        finally:
            self._metrics.in_flight.dec()
            path = scope["path"] if scope["path"] in self._known_paths else "other"
            self._metrics.http_request(path, status, perf_counter() - start)
