"""What is asked of an upstream server and what it may answer: bodies, and every check of them. No I/O.

Answers are a stranger's. What is not exactly an answer to what was asked is no answer.
"""

from collections.abc import Mapping
from collections.abc import Sequence as Items
from typing import Any, NamedTuple

import msgspec
import numpy as np
import orjson

from hexgrid.embeddings_json import NoEmbeddingsError, read_json
from hexgrid.encoding import Vectors
from hexgrid.wire import TokenIds

# Of a vector that an upstream has normalised: some do so in 16 bits.
NORM_TOLERANCE = 1e-2
# An upstream is asked no input of exactly its longest length: vLLM has hung on those.
SPARE_TOKENS = 1
# Bytes of an answer: for each number as text, for each vector and for the rest.
_NUMBER_BYTES, _ITEM_BYTES, _BODY_BYTES = 26, 512, 65_536
_SHOWN_CHARS = 300


class BadAnswerError(Exception):
    """What an upstream answered is no answer to what it was asked."""


class Asking(NamedTuple):
    """How one upstream is asked for vectors."""

    model: str
    hidden_size: int
    # Whether it gives hidden states as they are, where it is told to, and is.
    raw: bool

    def body(self, token_ids: Items[TokenIds], salt: bytes = b"") -> bytes:
        """The request for the vectors of `token_ids`."""
        fields: dict[str, Any] = {
            "model": self.model,
            "input": token_ids,
            "encoding_format": "base64",
        }
        if self.raw:
            fields["use_activation"] = False
        if salt:
            fields["cache_salt"] = salt.hex()
        return orjson.dumps(fields)

    def most_bytes(self, num_inputs: int) -> int:
        """Longer than any answer of that many vectors."""
        return _BODY_BYTES + num_inputs * (_ITEM_BYTES + self.hidden_size * _NUMBER_BYTES)

    def read(self, body: bytes, num_inputs: int) -> Vectors:
        """The vectors float32 [num_inputs, hidden_size]; rows may hold NaN or infinity.

        Raises:
            BadAnswerError: it is anything else, or a vector has not the length that it must have.
        """
        try:
            vectors = read_json(body, num_inputs).vectors
        except NoEmbeddingsError as error:
            raise BadAnswerError(str(error)) from error
        width = vectors.shape[1]
        if width != self.hidden_size:
            raise BadAnswerError(
                f"a vector of {width} numbers; the model's config.json says {self.hidden_size}"
            )
        self._check_norms(vectors)
        return vectors

    def _check_norms(self, vectors: Vectors) -> None:
        norms = np.linalg.norm(vectors, axis=1)
        norms = norms[np.isfinite(norms)]
        if self.raw and (norms == 0).any():
            raise BadAnswerError("a vector of zeros")
        if not self.raw and (abs(norms - 1) > NORM_TOLERANCE).any():
            worst = norms[np.argmax(abs(norms - 1))]
            raise BadAnswerError(f"a vector of length {worst:.3g}; 1 was expected")


class Card(msgspec.Struct):
    """One entry of /v1/models."""

    id: str
    max_model_len: int | None = None


def read_cards(body: bytes) -> list[Card]:
    """The models that an upstream lists.

    Raises:
        BadAnswerError: it is no such list.
    """
    try:
        return _card_decoder.decode(body).data
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadAnswerError(f"a list of models that is none: {error}") from error


def message_of(body: bytes) -> str:
    """What an error's body says, cut, in one line: for the log, never for a client."""
    try:
        text = _error_decoder.decode(body).error.message
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = body.decode(errors="replace")
    return " ".join(text[:_SHOWN_CHARS].split())


def seconds_of(headers: Mapping[str, str], most: int) -> int:
    """Retry-After in seconds, from 1 to `most`; 1 where it says nothing that we read."""
    try:
        said = int(headers.get("retry-after", "1"))
    except ValueError:  # a date
        return 1
    return min(max(said, 1), most)


class _Cards(msgspec.Struct):
    data: list[Card]


class _ErrorDetail(msgspec.Struct):
    message: str


class _ErrorBody(msgspec.Struct):
    error: _ErrorDetail


_card_decoder = msgspec.json.Decoder(_Cards)
_error_decoder = msgspec.json.Decoder(_ErrorBody)
