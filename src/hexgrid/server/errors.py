"""Every error as a response, in the one shape that all of them have; nothing else makes error bodies."""

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from hexgrid.errors import HexgridError

# nginx's number for it; nobody is left to read the answer, but the metrics are.
CLIENT_CLOSED_REQUEST = 499
_HTTP_TYPES = {404: "NotFoundError", 405: "MethodNotAllowedError"}


def error_response(error: HexgridError) -> Response:
    """The answer to a request that ended in `error`."""
    return _response(error.status, error.message, error.type, error.param, error.headers)


async def on_hexgrid_error(_: Request, error: Exception) -> Response:
    """Starlette's handler for our own errors."""
    assert isinstance(error, HexgridError)
    return error_response(error)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's handler for what its router raises: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    kind = _HTTP_TYPES.get(error.status_code, "BadRequestError")
    message = f"{error.detail}: {request.method} {request.url.path[:200]}"
    return _response(error.status_code, message, kind, None, dict(error.headers or {}))


async def on_client_gone(_: Request, __: Exception) -> Response:
    """Starlette's handler for a connection that was closed before the body had arrived."""
    return Response(status_code=CLIENT_CLOSED_REQUEST)


async def on_bug(_: Request, __: Exception) -> Response:
    """Starlette's handler for everything else: our own fault, told without its insides."""
    return error_response(HexgridError("Internal error; the server's log says more"))


def _response(
    status: int, message: str, kind: str, param: str | None, headers: dict[str, str]
) -> Response:
    body = {"error": {"message": message, "type": kind, "param": param, "code": status}}
    return Response(orjson.dumps(body), status, headers, media_type="application/json")
