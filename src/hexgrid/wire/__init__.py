"""Every request and response body, as structs that both ends share. Types only: no I/O, no rules.

Decoding is strict: a wrong type is refused, unknown fields are ignored, `null` means the default. One file a
protocol; whoever needs a struct imports it from here.
"""

from hexgrid.wire.errors import (
    ErrorDetail,
    ErrorResponse,
)
from hexgrid.wire.openai import (
    Count,
    Embedding,
    EmbeddingRequest,
    EmbeddingResponse,
    EmbedDtype,
    EncodingFormat,
    Endianness,
    Input,
    InputType,
    ModelCard,
    ModelList,
    ModelPermission,
    TokenIds,
    TruncationSide,
    Usage,
)
from hexgrid.wire.vllm import (
    DetokenizeRequest,
    DetokenizeResponse,
    TokenizeRequest,
    TokenizeResponse,
    Version,
)

__all__ = [
    "Count",
    "DetokenizeRequest",
    "DetokenizeResponse",
    "EmbedDtype",
    "Embedding",
    "EmbeddingRequest",
    "EmbeddingResponse",
    "EncodingFormat",
    "Endianness",
    "ErrorDetail",
    "ErrorResponse",
    "Input",
    "InputType",
    "ModelCard",
    "ModelList",
    "ModelPermission",
    "TokenIds",
    "TokenizeRequest",
    "TokenizeResponse",
    "TruncationSide",
    "Usage",
    "Version",
]
