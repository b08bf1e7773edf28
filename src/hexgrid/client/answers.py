"""An answer of POST /v1/embeddings -> vectors, without a Python float on the way.

Raw bytes, which only hexgrid is asked for, base64, or what a server sends in its place: numbers.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from hexgrid import headers
from hexgrid.embeddings_json import NoEmbeddingsError, read_json
from hexgrid.encoding import Vectors, from_bytes
from hexgrid.errors import RemoteError

_BYTES = "application/octet-stream"


class Embedded(NamedTuple):
    """Vectors [N, D] of N inputs, and what the model read of them.

    `num_tokens` counts after truncation. `num_truncated` is 0 for servers that do not tell of it.
    """

    vectors: Vectors
    num_tokens: int
    num_truncated: int


def read_embeddings(content: bytes, said: Mapping[str, str], num_inputs: int, url: str) -> Embedded:
    """The vectors in the order of the inputs; `said` are the headers.

    Raises:
        RemoteError: that is no answer to `num_inputs` inputs, or holds NaN or infinity.
    """
    try:
        if said.get("content-type") == _BYTES:
            vectors, num_tokens = _raw(content, said, num_inputs)
        else:
            vectors, num_tokens = read_json(content, num_inputs)
        num_truncated = int(said.get(headers.TRUNCATED, "0"))
    except NoEmbeddingsError as error:
        raise RemoteError(f"{url} answered {error}") from error
    except ValueError as error:
        raise RemoteError(f"{url} answered what is no embeddings response: {error}") from error
    if not np.isfinite(vectors).all():
        raise RemoteError(f"{url} answered a vector with NaN or infinity")
    return Embedded(vectors, num_tokens, num_truncated)


def _raw(content: bytes, said: Mapping[str, str], num_inputs: int) -> tuple[Vectors, int]:
    """The encoding `bytes_only`: numbers, and in a header how many tokens they are of."""
    vectors = from_bytes(content, endianness="little").reshape(num_inputs, -1)
    if not vectors.shape[1]:
        raise NoEmbeddingsError("vectors without a number")
    return vectors, int(said.get(headers.PROMPT_TOKENS, "0"))
