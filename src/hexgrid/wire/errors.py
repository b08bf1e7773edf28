"""The one shape of every error."""

import msgspec


class ErrorDetail(msgspec.Struct, kw_only=True):
    """`type` is a stable word, `param` the request field at fault, `code` the HTTP status."""

    message: str
    type: str
    param: str | None = None
    code: int


class ErrorResponse(msgspec.Struct, kw_only=True):
    """Body of every error."""

    error: ErrorDetail
