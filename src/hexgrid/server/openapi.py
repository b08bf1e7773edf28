"""/openapi.json, made from the wire structs: the description cannot drift from what is decoded."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson

from hexgrid import __version__, wire


@dataclass(frozen=True)
class Operation:
    """One method of one path; without a request it takes no body, without a response it answers none."""

    method: str
    path: str
    summary: str
    request: type[msgspec.Struct] | None = None
    response: type[msgspec.Struct] | None = None
    content_type: str = "application/json"
    public: bool = False


OPERATIONS = (
    Operation(
        "post",
        "/v1/embeddings",
        "Embed one text, many texts, or token ids",
        wire.EmbeddingRequest,
        wire.EmbeddingResponse,
    ),
    Operation("get", "/v1/models", "The served models", response=wire.ModelList),
    Operation(
        "post", "/tokenize", "Token ids of a text", wire.TokenizeRequest, wire.TokenizeResponse
    ),
    Operation(
        "post",
        "/detokenize",
        "Text of token ids",
        wire.DetokenizeRequest,
        wire.DetokenizeResponse,
    ),
    Operation("get", "/health", "200 when requests can be answered, else 503", public=True),
    Operation("get", "/ping", "The same, for SageMaker"),
    Operation("post", "/ping", "The same, for SageMaker"),
    Operation("get", "/live", "200 unless only a new process helps, then 503", public=True),
    Operation("get", "/ready", "200 once requests can be answered, else 503", public=True),
    Operation("get", "/version", "The server's version", response=wire.Version),
    Operation("get", "/metrics", "Prometheus metrics", content_type="text/plain"),
    Operation("get", "/openapi.json", "This document"),
)
_ERRORS = {
    "400": "A field is wrong; the message names it, the limit and what was found",
    "401": "No valid API key",
    "403": "The API key is not for this model",
    "404": "No such model or path",
    "408": "The request did not arrive in time; the connection is closed",
    "413": "The body is too large",
    "414": "The path and query are too long; the connection is closed",
    "429": "The key's limit is used up, or the server has too much to do; see Retry-After",
    "431": "The headers are too many or too long; the connection is closed",
    "500": "The model failed for this input",
    "503": "The server is stopping, cannot read its keys, has too many connections, or no forward pass works",
    "504": "Not answered in time",
}
_REQUEST_ID = {
    "description": "The request's own X-Request-Id if that will do, else one of ours",
    "schema": {"type": "string"},
}
_EMBEDDING_HEADERS = {
    "server-timing": {
        "description": "Milliseconds of each phase; absent where the operator hides it",
        "schema": {"type": "string"},
    },
    "x-hexgrid-truncated": {
        "description": "How many inputs were cut; absent when none was",
        "schema": {"type": "integer", "minimum": 1},
    },
    "x-hexgrid-warning": {
        "description": "Token ids look like those of another tokenizer; absent when they do not",
        "schema": {"type": "string"},
    },
}
_REFERENCE = "#/components/schemas/{name}"


def openapi_document(root_path: str = "") -> bytes:
    """The OpenAPI 3.1 description as JSON; `root_path` is where a proxy serves the paths."""
    structs = [s for op in OPERATIONS for s in (op.request, op.response) if s is not None]
    _, schemas = msgspec.json.schema_components(
        [*structs, wire.ErrorResponse], ref_template=_REFERENCE
    )
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _describe(operation)
    servers = {"servers": [{"url": root_path}]} if root_path else {}
    document = servers | {
        "openapi": "3.1.0",
        "info": {
            "title": "hexgrid",
            "version": __version__,
            "description": "Embeddings with Qwen3-Embedding, over the API of OpenAI and vLLM.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}],
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def _describe(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": operation.method + operation.path.replace("/", "_").replace(".", "_"),
        "responses": dict(_responses(operation)),
    }
    if operation.request is not None:
        described["requestBody"] = {"required": True, "content": _content(operation.request)}
    if operation.public:
        described["security"] = []
    return described


def _responses(operation: Operation) -> Iterator[tuple[str, Any]]:
    ok: dict[str, Any] = {"description": "OK", "headers": {"x-request-id": _REQUEST_ID}}
    if operation.response is not None:
        ok["content"] = _content(operation.response)
    elif operation.content_type != "application/json":
        ok["content"] = {operation.content_type: {"schema": {"type": "string"}}}
    if operation.request is wire.EmbeddingRequest:
        raw = {"schema": {"type": "string", "format": "binary"}}
        ok["content"]["application/octet-stream"] = raw  # the encodings bytes and bytes_only
        ok["headers"] |= _EMBEDDING_HEADERS
    yield "200", ok
    for status, text in _ERRORS.items():
        body_only = status in ("400", "403", "404", "413", "500", "504")
        if body_only and operation.request is None:
            continue
        if status in ("401", "429") and operation.public:
            continue
        yield status, {"description": text, "content": _content(wire.ErrorResponse)}


def _content(struct: type[msgspec.Struct]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REFERENCE.format(name=struct.__name__)}}}
