"""What a server's refusal is in the caller's hands: the class of the error, its input, its words.

hexgrid's one error shape is read, and what OpenAI, vLLM, TEI or a proxy may send instead.
"""

from collections.abc import Mapping

import msgspec

from hexgrid import headers
from hexgrid.errors import (
    BodyTooLargeError,
    DeadlineError,
    EngineError,
    ForbiddenError,
    HexgridError,
    InputMemoryError,
    ModelNotFoundError,
    RateLimitedError,
    RemoteError,
    RequestError,
    SchemaError,
    SlowRequestError,
    TooManyInputsError,
    UnauthorizedError,
    UnreachableError,
)

_SHOWN_CHARS = 500
_CLASSES: dict[int, type[HexgridError]] = {
    400: RequestError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: ModelNotFoundError,
    408: SlowRequestError,
    413: BodyTooLargeError,
    422: RequestError,
    502: UnreachableError,
    503: UnreachableError,
    504: DeadlineError,
}


class _Detail(msgspec.Struct):
    message: str
    type: str | None = None
    param: str | None = None


class _Body(msgspec.Struct):
    error: _Detail | str  # TEI's is a text


def error_of(status: int, said: Mapping[str, str], content: bytes, url: str) -> HexgridError:
    """The error that an answer other than 200 stands for, `said` being its headers.

    Its `index` counts within the request.
    """
    message, kind, param = _read(content)
    index = _number(said, headers.INDEX)
    max_inputs, max_tokens = _number(said, headers.MAX_INPUTS), _number(said, headers.MAX_TOKENS)
    if status == 429:
        return RateLimitedError(message, retry_after=_number(said, "retry-after") or 1)
    if status == 400 and (max_inputs, max_tokens) != (None, None):
        return TooManyInputsError(message, max_inputs=max_inputs, max_tokens=max_tokens)
    if status == 400 and kind == SchemaError.type:
        return SchemaError(message, param=param, index=index)
    if index is not None and status in (500, 503):
        blamed = EngineError if status == 500 else InputMemoryError
        return blamed(message, param=param, index=index)
    found = _CLASSES.get(status, RemoteError)
    if status == 401:
        message = f"{url} wants another key: {message}"
    elif status == 404:
        message = f"{url} has no such model, or no /embeddings behind it: {message}"
    elif not issubclass(found, RequestError):
        message = f"{url} answered {status}: {message}{_request_id(said)}"
    return found(message, param=param, index=index)


def in_call(error: HexgridError, start: int, stop: int, num_inputs: int) -> HexgridError:
    """The error of a request with the inputs from `start` on, in terms of the call that it belongs to."""
    if stop - start == num_inputs:
        return error
    if error.index is None:
        note = f"said of a request with the call's inputs {start} to {stop - 1}"
    else:
        note = f"counted from the call's input {start}; it is its input {start + error.index}"
        error.index += start
    error.message = f"{error.message} ({note})"
    error.args = (error.message,)
    return error


def _read(content: bytes) -> tuple[str, str, str | None]:
    """Message, type and param."""
    try:
        detail = msgspec.json.decode(content, type=_Body).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = content.decode(errors="replace").strip()
        return text[:_SHOWN_CHARS] or "(an empty answer)", "", None
    if isinstance(detail, str):
        return detail[:_SHOWN_CHARS], "", None
    return detail.message, detail.type or "", detail.param


def _number(said: Mapping[str, str], name: str) -> int | None:
    text = said.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else None


def _request_id(said: Mapping[str, str]) -> str:
    text = said.get("x-request-id")
    return "" if text is None else f" (request {text[:_SHOWN_CHARS]})"
