"""Finished vectors as the response that the client asked for: JSON numbers, base64, or raw bytes."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson
from starlette.responses import Response

from hexgrid.encoding import Vectors, itemsize, to_base64, to_bytes
from hexgrid.quantized import is_quantized, quantize
from hexgrid.wire import EmbeddingRequest


class Answer(NamedTuple):
    """What every form of the response says."""

    id: str
    created: int
    model: str
    vectors: Vectors  # [B, dimensions]
    num_tokens: int
    part_sizes: tuple[int, ...] = ()  # inputs of each part of the call
    seconds: float = 0.0  # since the request began to arrive


class Names(NamedTuple):
    """What an item of `data` is called, and where its vector stands."""

    object: str
    field: str


EMBEDDING = Names("embedding", "embedding")


def rendering(names: Names) -> Callable[[Answer, EmbeddingRequest], Response]:
    """What makes the form that `encoding_format` and `embed_dtype` ask for."""

    def render(answer: Answer, request: EmbeddingRequest) -> Response:
        dtype, endianness = request.embed_dtype or "float32", request.endianness or "native"
        match request.encoding_format:
            case None | "float":
                rows = quantize(answer.vectors, dtype) if is_quantized(dtype) else answer.vectors
                return json_response(embeddings_body(answer, list(rows), names))
            case "base64":
                texts = [to_base64(vector, dtype, endianness) for vector in answer.vectors]
                return json_response(embeddings_body(answer, texts, names))
            case "bytes" | "bytes_only":
                content = to_bytes(answer.vectors, dtype, endianness)
                response = Response(content, media_type="application/octet-stream")
                if request.encoding_format == "bytes":
                    response.headers["metadata"] = _metadata(answer, request, len(content))
                return response

    return render


def json_of(body: Any) -> bytes:
    """Plain data as JSON, with numpy's arrays and scalars; float32 takes no detour by Python."""
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def json_response(body: Any) -> Response:
    """The same as a response."""
    return Response(json_of(body), media_type="application/json")


def usage_of(answer: Answer) -> dict[str, Any]:
    """`usage` in vLLM's form."""
    return {
        "prompt_tokens": answer.num_tokens,
        "total_tokens": answer.num_tokens,
        "completion_tokens": 0,
        "prompt_tokens_details": None,
        "completion_tokens_details": None,
    }


def listing(answer: Answer, data: list[dict[str, Any]]) -> dict[str, Any]:
    """The body of vLLM's lists: of embeddings, of scores, of whatever is pooled."""
    return {
        "id": answer.id,
        "object": "list",
        "created": answer.created,
        "model": answer.model,
        "data": data,
        "usage": usage_of(answer),
    }


def embeddings_body(answer: Answer, vectors: list[Any], names: Names = EMBEDDING) -> dict[str, Any]:
    """The body of POST /v1/embeddings; `vectors` are numbers or base64 texts."""
    data = [
        {"index": index, "object": names.object, names.field: vector}
        for index, vector in enumerate(vectors)
    ]
    return listing(answer, data)


def _metadata(answer: Answer, request: EmbeddingRequest, num_bytes: int) -> str:
    """The header that says where in the body each vector lies; its form is vLLM's."""
    dtype = request.embed_dtype or "float32"
    step = num_bytes // len(answer.vectors)
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
                "shape": [step // itemsize(dtype)],
            }
            for index in range(len(answer.vectors))
        ],
        "usage": {"prompt_tokens": answer.num_tokens, "total_tokens": answer.num_tokens},
    }
    return json.dumps(metadata)
