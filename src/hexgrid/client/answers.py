"""An answer of POST /v1/embeddings -> vectors, without a Python float on the way.

Raw bytes, which only hexgrid is asked for, base64, or what a server sends in its place: numbers.
"""

import binascii
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import numpy as np

from hexgrid import headers
from hexgrid.encoding import Vectors, from_base64, from_bytes
from hexgrid.errors import RemoteError

_BYTES = "application/octet-stream"


class Embedded(NamedTuple):
    """Vectors [N, D] of N inputs, and what the model read of them.

    `num_tokens` counts after truncation. `num_truncated` is 0 for servers that do not tell of it.
    """

    vectors: Vectors
    num_tokens: int
    num_truncated: int


class _Item(msgspec.Struct):
    index: int
    embedding: msgspec.Raw


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0


class _Embeddings(msgspec.Struct):
    data: list[_Item]
    usage: _Usage = msgspec.field(default_factory=_Usage)


_decoder = msgspec.json.Decoder(_Embeddings)
_numbers = msgspec.json.Decoder(list[float])
_text = msgspec.json.Decoder(str)


def read_embeddings(content: bytes, said: Mapping[str, str], num_inputs: int, url: str) -> Embedded:
    """The vectors in the order of the inputs; `said` are the headers.

    Raises:
        RemoteError: that is no answer to `num_inputs` inputs, or holds NaN or infinity.
    """
    try:
        if said.get("content-type") == _BYTES:
            vectors = from_bytes(content, endianness="little").reshape(num_inputs, -1)
            num_tokens = int(said.get(headers.PROMPT_TOKENS, "0"))
        else:
            answer = _decoder.decode(content)
            vectors, num_tokens = _rows(answer.data, num_inputs), answer.usage.prompt_tokens
        num_truncated = int(said.get(headers.TRUNCATED, "0"))
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise RemoteError(f"{url} answered what is no embeddings response: {error}") from error
    if not vectors.shape[1]:
        raise RemoteError(f"{url} answered vectors without a number")
    if not np.isfinite(vectors).all():
        raise RemoteError(f"{url} answered a vector with NaN or infinity")
    return Embedded(vectors, num_tokens, num_truncated)


def _rows(items: list[_Item], num_inputs: int) -> Vectors:
    if sorted(item.index for item in items) != list(range(num_inputs)):
        raise ValueError(f"{len(items)} vectors to {num_inputs} inputs, or not one for each")
    first = _vector(items[0].embedding)
    rows = np.empty((num_inputs, len(first)), np.float32)
    for item in items:
        vector = _vector(item.embedding)
        if len(vector) != len(first):
            raise ValueError(f"vectors of {len(first)} and of {len(vector)} dimensions")
        rows[item.index] = vector
    return rows


def _vector(raw: msgspec.Raw) -> Vectors:
    view = memoryview(raw)
    if view[0] != ord('"'):
        return np.array(_numbers.decode(view), dtype=np.float32)
    try:
        return from_base64(view[1:-1], endianness="little")
    except binascii.Error:  # perhaps because of JSON's escapes
        return from_base64(_text.decode(view), endianness="little")
