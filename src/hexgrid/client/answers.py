"""An answer of POST /v1/embeddings -> vectors, without a Python float on the way."""

import binascii
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import numpy as np

from hexgrid.encoding import Vectors, from_base64
from hexgrid.errors import RemoteError
from hexgrid.wire import TRUNCATED_HEADER


class Embedded(NamedTuple):
    """Vectors [N, D] of N inputs, and what the model read of them.

    `num_tokens` counts after truncation. `num_truncated` is 0 for servers that do not tell of it.
    """

    vectors: Vectors
    num_tokens: int
    num_truncated: int
    model: str


class _Item(msgspec.Struct):
    index: int
    embedding: msgspec.Raw  # text or numbers: some servers give numbers whatever they are asked for


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0


class _Embeddings(msgspec.Struct):
    data: list[_Item]
    model: str = ""
    usage: _Usage = msgspec.field(default_factory=_Usage)


_decoder = msgspec.json.Decoder(_Embeddings)
_numbers = msgspec.json.Decoder(list[float])
_text = msgspec.json.Decoder(str)


def read_embeddings(
    content: bytes, headers: Mapping[str, str], num_inputs: int, url: str
) -> Embedded:
    """The vectors in the order of the inputs.

    Raises:
        RemoteError: that is no answer to `num_inputs` inputs, or holds NaN or infinity.
    """
    try:
        answer = _decoder.decode(content)
        rows = _rows(answer.data, num_inputs)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise RemoteError(f"{url} answered what is no embeddings response: {error}") from error
    if not np.isfinite(rows).all():
        raise RemoteError(f"{url} answered a vector with NaN or infinity")
    cut = headers.get(TRUNCATED_HEADER, "0")
    return Embedded(
        rows, answer.usage.prompt_tokens, int(cut) if cut.isdecimal() else 0, answer.model
    )


def _rows(items: list[_Item], num_inputs: int) -> Vectors:
    if sorted(item.index for item in items) != list(range(num_inputs)):
        raise ValueError(f"{len(items)} vectors to {num_inputs} inputs, or not one for each")
    first = _vector(items[0].embedding)
    rows = np.empty((num_inputs, len(first)), np.float32)
    for item in items:
        vector = _vector(item.embedding)
        if len(vector) != len(first) or not len(first):
            raise ValueError("vectors of different lengths, or empty ones")
        rows[item.index] = vector
    return rows


def _vector(raw: msgspec.Raw) -> Vectors:
    view = memoryview(raw)
    if view[0] != ord('"'):
        return np.array(_numbers.decode(view), dtype=np.float32)
    try:
        return from_base64(view[1:-1], endianness="little")
    except binascii.Error:  # perhaps JSON's escapes
        return from_base64(_text.decode(view), endianness="little")
