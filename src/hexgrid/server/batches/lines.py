"""One line of a batch file -> one request to the server's own application -> one line of the results.

The form is OpenAI's: {"custom_id", "method", "url", "body"} in, {"id", "custom_id", "response", "error"} out.
"""

import asyncio
import secrets
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import orjson
from starlette.types import ASGIApp

from hexgrid import headers
from hexgrid.errors import HexgridError, SchemaError
from hexgrid.server.auth import Client
from hexgrid.server.internal_call import Reply, post

URLS = ("/v1/embeddings",)
# Of a request that says nothing of priority: after all that people wait for.
LOW_PRIORITY = 1_000_000
_MAX_CUSTOM_ID_CHARS = 512
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 1.0, 60.0
# Passing: the key's limits, a full queue, a model that cannot answer at the moment.
_PASSING = (429, 503)


class BatchLine(msgspec.Struct, frozen=True):
    """A request of a batch file."""

    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class Outcome(NamedTuple):
    """What became of a line: the server's answer, or why there was none to ask for."""

    custom_id: str | None
    status: int
    request_id: str
    body: bytes  # JSON

    @property
    def num_tokens(self) -> int:
        """Those of a good answer."""
        if self.status != 200:
            return 0
        return int(_decode_usage(self.body).usage.prompt_tokens)

    def line(self, *, error_apart: bool) -> bytes:
        """The line of results.

        OpenAI's server has an error as the response's body. With `error_apart` it is under "error" and the
        body is null, as `vllm run-batch` writes it.
        """
        is_apart = error_apart and self.status != 200
        body = orjson.Fragment(self.body)
        return orjson.dumps(
            {
                "id": f"batch_req_{secrets.token_hex(12)}",
                "custom_id": self.custom_id,
                "response": {
                    "status_code": self.status,
                    "request_id": self.request_id,
                    "body": None if is_apart else body,
                },
                "error": body if is_apart else None,
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )


def expired(custom_id: str) -> bytes:
    """The line of results of a request whose batch was over before its turn."""
    return orjson.dumps(
        {
            "id": f"batch_req_{secrets.token_hex(12)}",
            "custom_id": custom_id,
            "response": None,
            "error": {
                "code": "batch_expired",
                "message": "This request could not be executed before the completion window expired.",
            },
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0


class _Answer(msgspec.Struct):
    usage: _Usage = msgspec.field(default_factory=_Usage)


_decode_usage = msgspec.json.Decoder(_Answer).decode
_decode_line = msgspec.json.Decoder(BatchLine).decode
_decode_id = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def parse_line(content: bytes) -> BatchLine:
    """The request that a line holds.

    Raises:
        SchemaError: it holds none, or one that batches do not answer.
    """
    try:
        content.decode()
        line = _decode_line(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SchemaError(
            f"The line is no request of a batch: {error}", param="custom_id"
        ) from None
    if not 1 <= len(line.custom_id) <= _MAX_CUSTOM_ID_CHARS:
        raise SchemaError(
            f"custom_id must have 1 to {_MAX_CUSTOM_ID_CHARS} characters, got {len(line.custom_id)}",
            param="custom_id",
        )
    if line.method != "POST":
        raise SchemaError(f"method must be POST, got {line.method[:100]!r}", param="method")
    if line.url not in URLS:
        raise SchemaError(
            f"URL {line.url[:200]} was used. Supported endpoints: {', '.join(URLS)}.", param="url"
        )
    return line


def custom_id_of(content: bytes) -> str | None:
    """The id of a line that may be wrong otherwise."""
    try:
        return msgspec.json.decode(_decode_id(content)["custom_id"], type=str)
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
        return None


def refused(content: bytes, error: HexgridError) -> Outcome:
    """What a line comes to that is no request."""
    detail = {
        "message": error.message,
        "type": error.type,
        "param": error.param,
        "code": error.status,
    }
    body = orjson.dumps({"error": detail})
    return Outcome(custom_id_of(content), error.status, secrets.token_hex(8), body)


async def run_line(
    line: BatchLine,
    app: ASGIApp,
    client_now: Callable[[], Client],
    *,
    wait: Callable[[float], Any] = asyncio.sleep,
) -> Outcome:
    """Ask `app`, and again for as long as it is busy or the key's limits are used up.

    `client_now` says in whose name; what it raises ends the line.
    """
    body = _with_low_priority(bytes(line.body))
    pause = _FIRST_WAIT_SECONDS
    while True:
        reply = await post(app, line.url, body, client_now())
        if reply.status not in _PASSING or headers.INDEX in reply.headers:
            break
        await wait(_seconds(reply, pause))
        pause = min(2 * pause, _LONGEST_WAIT_SECONDS)
    return Outcome(line.custom_id, reply.status, reply.headers["x-request-id"], reply.body)


def _with_low_priority(body: bytes) -> bytes:
    try:
        fields = _decode_id(body)
    except msgspec.DecodeError:  # told by the route, in its own words
        return body
    if fields.get("priority", b"null") != b"null":
        return body
    return msgspec.json.encode(fields | {"priority": LOW_PRIORITY})


def _seconds(reply: Reply, otherwise: float) -> float:
    said = reply.headers.get("retry-after", "")
    return min(float(said), _LONGEST_WAIT_SECONDS) if said.isdecimal() else otherwise
