"""Cohere's POST /v2/embed."""

from typing import Literal

import msgspec

from hexgrid.wire.shared import Asked, ContentPart, QuantizedDtype

CohereEmbeddingType = Literal["float", "base64"] | QuantizedDtype


class CohereInput(msgspec.Struct, kw_only=True):
    """One input of several parts; anything but text is refused."""

    content: str | list[ContentPart]


class CohereEmbedRequest(Asked, kw_only=True):
    """Body of POST /v2/embed."""

    texts: list[str] | None = None
    images: list[str] | None = None  # refused: the model reads text only
    inputs: list[CohereInput] | None = None
    input_type: str | None = None
    embedding_types: list[CohereEmbeddingType] | None = None
    output_dimension: int | None = None
    truncate: Literal["NONE", "START", "END"] | None = None
    max_tokens: int | None = None


# Named here: within the struct `float` is a field.
_Floats = list[list[float]]


class CohereEmbeddings(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One vector an input in each form that was asked for."""

    float: _Floats | None = None
    int8: list[list[int]] | None = None
    uint8: list[list[int]] | None = None
    binary: list[list[int]] | None = None
    ubinary: list[list[int]] | None = None
    base64: list[str] | None = None


class CohereApiVersion(msgspec.Struct, kw_only=True):
    """The API's version."""

    version: Literal["2"] = "2"


class CohereBilledUnits(msgspec.Struct, kw_only=True):
    """Tokens run through the model."""

    input_tokens: int
    image_tokens: int = 0


class CohereMeta(msgspec.Struct, kw_only=True):
    """What was used."""

    api_version: CohereApiVersion
    billed_units: CohereBilledUnits


class CohereEmbedResponse(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Answer of POST /v2/embed; `texts` are those of the request."""

    id: str
    embeddings: CohereEmbeddings
    texts: list[str] | None = None
    meta: CohereMeta
    response_type: str
