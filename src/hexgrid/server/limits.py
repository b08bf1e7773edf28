"""How long a request may take, and how many there may be at a time, as plain ASGI middlewares."""

import asyncio
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hexgrid.errors import DeadlineError, EngineClosedError, OverloadedError
from hexgrid.server.errors import error_response
from hexgrid.server.request_record import record_of


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
        try:
            async with asyncio.timeout(self._seconds) as deadline:
                await self._app(scope, receive, send)
        except TimeoutError:
            # A response that has begun cannot become an error any more: the connection is closed.
            if _has_begun(scope) or not deadline.expired():
                raise
            error = DeadlineError(f"Not answered within {self._seconds:g} seconds")
            await error_response(error)(scope, receive, send)
        except asyncio.CancelledError:  # when a request outlasts --drain-timeout
            if _has_begun(scope):
                raise
            closed = EngineClosedError("The server stopped before it could answer")
            await error_response(closed)(scope, receive, send)


class AdmissionMiddleware:
    """Answers 429 where too many requests with a body, or too many bytes of them, are there already.

    It stands before the body is read, so that what is refused costs next to nothing. GET asks for little, and
    /ping is a probe's: they always pass.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_requests: int,
        max_bytes: int,
        retry_after: Callable[[], int],
    ) -> None:
        self._app = app
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._retry_after = retry_after
        self._num_requests = self._num_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] == "/ping":
            await self._app(scope, receive, send)
        elif self._num_requests >= self._max_requests:
            error = self._overloaded(
                f"{self._num_requests} requests are being answered; at most {self._max_requests} may be"
            )
            await error_response(error)(scope, receive, send)
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        own_bytes = 0

        async def counting_receive() -> Message:
            nonlocal own_bytes
            message = await receive()
            num_bytes = len(message.get("body", b""))
            own_bytes += num_bytes
            self._num_bytes += num_bytes
            if self._num_bytes > max(self._max_bytes, own_bytes):
                raise self._overloaded(
                    f"The bodies of all requests that are being answered have {self._num_bytes} bytes; at "
                    f"most {self._max_bytes} are held"
                )
            return message

        self._num_requests += 1
        try:
            await self._app(scope, counting_receive, send)
        finally:
            self._num_requests -= 1
            self._num_bytes -= own_bytes

    def _overloaded(self, found: str) -> OverloadedError:
        return OverloadedError(f"{found}. Try again later", retry_after=self._retry_after())


def _has_begun(scope: Scope) -> bool:
    """Whether the first of an answer is sent."""
    return record_of(scope).status is not None
