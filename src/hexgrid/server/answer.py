"""Finished vectors as the response that the client asked for: JSON numbers, base64, or raw bytes."""

import json
from typing import Any, NamedTuple

import orjson
from starlette.responses import Response

from hexgrid.encoding import Vectors, itemsize, to_base64, to_bytes
from hexgrid.wire import EmbeddingRequest


class Answer(NamedTuple):
    """What every form of the response says."""

    id: str
    created: int
    model: str
    vectors: Vectors  # [B, dimensions]
    num_tokens: int


def render(answer: Answer, request: EmbeddingRequest) -> Response:
    """The response in the form of `encoding_format`; float32 goes out without a detour by Python."""
    dtype, endianness = request.embed_dtype or "float32", request.endianness or "native"
    match request.encoding_format:
        case None | "float":
            return _json(answer, list(answer.vectors))
        case "base64":
            return _json(answer, [to_base64(v, dtype, endianness) for v in answer.vectors])
        case "bytes" | "bytes_only":
            content = to_bytes(answer.vectors, dtype, endianness)
            response = Response(content, media_type="application/octet-stream")
            if request.encoding_format == "bytes":
                response.headers["metadata"] = _metadata(answer, request)
            return response


def json_body(answer: Answer, embeddings: list[Any]) -> bytes:
    """The answer of POST /v1/embeddings as JSON; `embeddings` are vectors or base64 texts."""
    body = {
        "id": answer.id,
        "object": "list",
        "created": answer.created,
        "model": answer.model,
        "data": [
            {"index": index, "object": "embedding", "embedding": embedding}
            for index, embedding in enumerate(embeddings)
        ],
        "usage": {
            "prompt_tokens": answer.num_tokens,
            "total_tokens": answer.num_tokens,
            "completion_tokens": 0,
            "prompt_tokens_details": None,
            "completion_tokens_details": None,
        },
    }
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def _json(answer: Answer, embeddings: list[Any]) -> Response:
    return Response(json_body(answer, embeddings), media_type="application/json")


def _metadata(answer: Answer, request: EmbeddingRequest) -> str:
    """The header that says where in the body each vector lies; its form is vLLM's."""
    dtype = request.embed_dtype or "float32"
    length = answer.vectors.shape[1]
    step = length * itemsize(dtype)
    metadata = {
        "id": answer.id,
        "created": answer.created,
        "model": answer.model,
        "data": [
            {
                "index": index,
                "embed_dtype": dtype,
                "endianness": request.endianness or "native",
                "start": index * step,
                "end": (index + 1) * step,
                "shape": [length],
            }
            for index in range(len(answer.vectors))
        ],
        "usage": {"prompt_tokens": answer.num_tokens, "total_tokens": answer.num_tokens},
    }
    return json.dumps(metadata)
