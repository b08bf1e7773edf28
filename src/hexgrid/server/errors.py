"""Every error as a response, in the one shape that all of them have, and the reason that it is counted under.

Nothing else makes error bodies, so that none is missed, and none counted twice.
"""

import logging

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hexgrid import headers
from hexgrid.errors import HexgridError, RequestError
from hexgrid.server.request_record import record_of

# nginx's number for it; nobody is left to read the answer, but the metrics are.
_CLIENT_CLOSED_REQUEST = 499
_INTERNAL = "Internal error; the server's log says more"
_HTTP_TYPES = {404: "NotFoundError", 405: "MethodNotAllowedError"}
_HTTP_REASONS = {404: "unknown_path", 405: "wrong_method"}
CLIENT_GONE = "client_gone"
# Of all rejections that no HexgridError stands for.
OTHER_REASONS = (*_HTTP_REASONS.values(), CLIENT_GONE)

_logger = logging.getLogger(__name__)


class _Rejection(Response):
    """A response that puts the error's type and reason into the request's record when it is sent."""

    def __init__(
        self,
        status: int,
        reason: str,
        kind: str | None,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(body, status, headers, media_type="application/json" if body else None)
        self._reason = reason
        self._kind = kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = record_of(scope)
        record.error, record.reason = self._kind, self._reason
        await super().__call__(scope, receive, send)


def error_response(error: HexgridError) -> Response:
    """The answer to a request that ended in `error`; what is for the operator is told to the log only."""
    message, kind, param, added = error.message, error.type, error.param, error.headers
    if error.for_operator:
        _logger.error("A request failed: %s", error.message)
        message, kind, param = _INTERNAL, HexgridError.type, None
    elif error.index is not None:
        added = {**added, headers.INDEX: str(error.index)}
    body = _body(error.status, message, kind, param)
    return _Rejection(error.status, error.reason, kind, body, added)


def bug_response() -> Response:
    """The answer to a request that met a bug of ours, told without its insides."""
    return error_response(HexgridError(_INTERNAL))


async def on_hexgrid_error(_: Request, error: Exception) -> Response:
    """Starlette's handler for our own errors; the log has the insides of those that are our fault."""
    assert isinstance(error, HexgridError)
    if error.status == 500 and not error.for_operator:
        _logger.error("A request failed", exc_info=error)
    return error_response(error)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's handler for what its router raises: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    status = error.status_code
    message = f"{error.detail}: {request.method} {request.url.path[:200]}"
    kind = _HTTP_TYPES.get(status, "BadRequestError")
    body = _body(status, message, kind, None)
    reason = _HTTP_REASONS.get(status, RequestError.reason)
    return _Rejection(status, reason, kind, body, dict(error.headers or {}))


async def on_client_gone(_: Request, __: Exception) -> Response:
    """Starlette's handler for a connection that was closed before its body, or its answer, was there."""
    return _Rejection(_CLIENT_CLOSED_REQUEST, CLIENT_GONE, None)


def _body(status: int, message: str, kind: str, param: str | None) -> bytes:
    detail = {"message": message, "type": kind, "param": param, "code": status}
    return orjson.dumps({"error": detail})
