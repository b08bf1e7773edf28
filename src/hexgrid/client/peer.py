"""What is known of the server: its address, what its answers have shown of it, how it is asked. No I/O."""

from collections.abc import Mapping
from typing import Any

import msgspec
import orjson

from hexgrid import headers
from hexgrid.client.batching import Limits
from hexgrid.client.exchange import Conversation, Request, exchange
from hexgrid.errors import BodyTooLargeError, RemoteError, RequestError, TooManyInputsError
from hexgrid.surrogates import error_of_surrogates
from hexgrid.wire import TokenIds

# What every server of OpenAI's API takes.
_IN_BASE64 = {"encoding_format": "base64"}
# Needs no decoding; what `usage` would say stands in a header of ours.
_IN_BYTES = {"encoding_format": "bytes_only", "endianness": "little"}


class Peer:
    """A server, as one client has come to know it."""

    def __init__(self, url: str, limits: Limits, max_retries: int) -> None:
        self.url = url
        self.limits = limits
        self.max_retries = max_retries
        self._encoding = _IN_BASE64

    def request(self, inputs: list[str] | list[TokenIds], fields: Mapping[str, Any]) -> Request:
        """What asks for the vectors of `inputs`.

        Raises:
            RequestError: one of them is no text that could be sent.
        """
        return Request("/embeddings", _json(inputs, {**fields, **self._encoding}))

    def answered(self, said: Mapping[str, str]) -> None:
        """Vectors came with these headers."""
        if headers.PROMPT_TOKENS in said:
            self._encoding = _IN_BYTES

    def refused(self, num_inputs: int, error: BodyTooLargeError | TooManyInputsError) -> None:
        """So many inputs were too many."""
        if isinstance(error, TooManyInputsError):
            self.limits.lower(max_tokens=error.max_tokens, max_inputs=error.max_inputs)
        else:
            self.limits.lower(max_tokens=None, max_inputs=num_inputs // 2)


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A name that the server serves; what only hexgrid tells is None where another server is asked."""

    id: str
    owned_by: str = ""
    root: str | None = None
    max_model_len: int | None = None
    embedding_dimension: int | None = None


class _ModelList(msgspec.Struct):
    data: list[Model]


def list_models(peer: Peer) -> Conversation[list[Model]]:
    """All of them, in the server's order.

    Raises:
        HexgridError: the server refuses, cannot be reached, or keeps no list.
    """
    request = Request("/models")
    reply = yield from exchange(request, url=peer.url, max_retries=peer.max_retries)
    try:
        return msgspec.json.decode(reply.content, type=_ModelList).data
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RemoteError(f"{peer.url} answered what is no list of models: {error}") from error


def _json(inputs: list[str] | list[TokenIds], fields: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps({"input": inputs, **fields})
    except orjson.JSONEncodeError as error:
        if (surrogates := error_of_surrogates(inputs)) is not None:
            raise surrogates from None
        raise RequestError(f"An input or option cannot be sent: {error}") from None
