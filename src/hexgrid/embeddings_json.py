"""The JSON answer of anybody's POST /v1/embeddings -> vectors, without a Python float on the way. No I/O.

It is a stranger's: what is not exactly one vector for each input is no answer.
"""

import binascii
from typing import NamedTuple

import msgspec
import numpy as np

from hexgrid.encoding import Vectors, from_base64


class NoEmbeddingsError(Exception):
    """What was answered is no answer to what was asked; the text goes on from "the server answered"."""


class Answered(NamedTuple):
    """Vectors float32 [N, D] in the order of the inputs; rows may hold NaN or infinity."""

    vectors: Vectors
    num_tokens: int  # 0 where it is not told


def read_json(body: bytes, num_inputs: int) -> Answered:
    """The answer to `num_inputs` inputs, at least one.

    Raises:
        NoEmbeddingsError: it is none.
    """
    try:
        answer = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NoEmbeddingsError(f"what is no embeddings response: {error}") from error
    items = answer.data
    if len(items) != num_inputs:
        raise NoEmbeddingsError(f"{len(items)} vectors to {num_inputs} inputs")
    if {item.index for item in items} != set(range(num_inputs)):
        raise NoEmbeddingsError("vectors that are wrongly numbered: not one for each input")
    rows = [_vector(item) for item in items]
    width = len(rows[0])
    for row in rows:
        if len(row) != width:
            raise NoEmbeddingsError(f"vectors of {width} and of {len(row)} dimensions")
    if not width:
        raise NoEmbeddingsError("vectors without a number")
    vectors = np.empty((num_inputs, width), np.float32)
    for item, row in zip(items, rows, strict=True):
        vectors[item.index] = row
    return Answered(vectors, answer.usage.prompt_tokens)


class _Item(msgspec.Struct):
    index: int
    embedding: msgspec.Raw


def _vector(item: _Item) -> Vectors:
    try:
        return _numbers_of(item.embedding)
    except (msgspec.DecodeError, ValueError) as error:
        raise NoEmbeddingsError(
            f"what is no embeddings response: an embedding that is no vector: {error}"
        ) from error


def _numbers_of(raw: msgspec.Raw) -> Vectors:
    """Numbers or base64: some servers give numbers whatever they are asked for."""
    view = memoryview(raw)
    if view[0] != ord('"'):
        return np.array(_numbers.decode(view), dtype=np.float32)
    try:
        return from_base64(view[1:-1], endianness="little")
    except binascii.Error:  # perhaps because of JSON's escapes
        return from_base64(_text.decode(view), endianness="little")


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0


class _Embeddings(msgspec.Struct):
    data: list[_Item]
    usage: _Usage = msgspec.field(default_factory=_Usage)


_decoder = msgspec.json.Decoder(_Embeddings)
_numbers = msgspec.json.Decoder(list[float])
_text = msgspec.json.Decoder(str)
