"""/openapi.json, made from the wire structs: the description cannot drift from what is decoded."""

import re
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson

from hexgrid import __version__, headers, wire
from hexgrid.server import batch_objects
from hexgrid.server.embedding_call import MAX_CACHE_SALT_CHARS, MAX_REQUEST_ID_CHARS
from hexgrid.server.field_texts import FIELD_TEXTS


@dataclass(frozen=True)
class Operation:
    """One method of one path; without a request it takes no body, without a response it answers none."""

    method: str
    path: str
    summary: str
    request: Any = None
    response: Any = None
    content_type: str = "application/json"
    public: bool = False
    embeds: bool = False  # so that its answers have the headers of those
    raw: bool = False  # so that the answer can be raw bytes, too

    @property
    def of_batches(self) -> bool:
        """Whether it is not there without --batch-dir, or without what it names."""
        return self.path.startswith(("/v1/files", "/v1/batches"))


OPERATIONS = (
    Operation(
        "post",
        "/v1/embeddings",
        "Embed one text, many texts, token ids, or conversations",
        wire.EmbeddingRequest,
        wire.EmbeddingResponse,
        embeds=True,
        raw=True,
    ),
    Operation(
        "post",
        "/pooling",
        "The same in the form of vLLM's pooling",
        wire.PoolingRequest,
        wire.PoolingResponse,
        embeds=True,
        raw=True,
    ),
    *(
        Operation(
            "post",
            path,
            "Cosines of pairs of texts",
            wire.ScoreRequest,
            wire.ScoreResponse,
            embeds=True,
        )
        for path in ("/score", "/v1/score")
    ),
    *(
        Operation(
            "post",
            path,
            "Documents by their cosine with a query, best first",
            wire.RerankRequest,
            wire.RerankResponse,
            embeds=True,
        )
        for path in ("/rerank", "/v1/rerank", "/v2/rerank")
    ),
    Operation(
        "post",
        "/v2/embed",
        "Embed in the form of Cohere",
        wire.CohereEmbedRequest,
        wire.CohereEmbedResponse,
        embeds=True,
    ),
    Operation(
        "post",
        "/invocations",
        "SageMaker's path: embeds, reranks or scores, as the body's fields say",
        wire.EmbeddingRequest | wire.RerankRequest | wire.ScoreRequest,
        wire.EmbeddingResponse | wire.RerankResponse | wire.ScoreResponse,
        embeds=True,
        raw=True,
    ),
    Operation(
        "post",
        "/embed",
        "Embed in the form of Text Embeddings Inference",
        wire.TeiEmbedRequest,
        list[list[float]],
        embeds=True,
    ),
    Operation(
        "post",
        "/similarity",
        "Cosines of one sentence with others, in the form of Text Embeddings Inference",
        wire.TeiSimilarityRequest,
        list[float],
        embeds=True,
    ),
    Operation(
        "post",
        "/api/embed",
        "Embed in the form of Ollama",
        wire.OllamaEmbedRequest,
        wire.OllamaEmbedResponse,
        embeds=True,
    ),
    Operation(
        "post",
        "/api/embeddings",
        "One text in the older form of Ollama: the hidden state, not normalised",
        wire.OllamaEmbeddingsRequest,
        wire.OllamaEmbeddingsResponse,
        embeds=True,
    ),
    Operation(
        "get", "/api/tags", "The served models in the form of Ollama", response=wire.OllamaModels
    ),
    Operation("get", "/api/version", "The server's version, for Ollama", response=wire.Version),
    Operation(
        "get",
        "/info",
        "Model and limits in the form of Text Embeddings Inference",
        response=wire.TeiInfo,
    ),
    Operation(
        "get", "/load", "Requests to embed that are being answered", response=wire.ServerLoad
    ),
    Operation("get", "/v1/models", "The served models", response=wire.ModelList),
    Operation(
        "post", "/v1/files", "Upload a batch's requests (form)", response=batch_objects.FileObject
    ),
    Operation("get", "/v1/files", "The key's files", response=batch_objects.FileList),
    Operation("get", "/v1/files/{file_id}", "A file", response=batch_objects.FileObject),
    Operation("delete", "/v1/files/{file_id}", "Delete a file", response=batch_objects.FileDeleted),
    Operation(
        "get",
        "/v1/files/{file_id}/content",
        "What is in a file",
        content_type="application/octet-stream",
    ),
    Operation(
        "post",
        "/v1/batches",
        "Begin a batch",
        batch_objects.BatchRequest,
        batch_objects.Batch,
    ),
    Operation("get", "/v1/batches", "The key's batches", response=batch_objects.BatchList),
    Operation("get", "/v1/batches/{batch_id}", "A batch", response=batch_objects.Batch),
    Operation(
        "post", "/v1/batches/{batch_id}/cancel", "Cancel a batch", response=batch_objects.Batch
    ),
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
    headers.PROMPT_TOKENS: {
        "description": "Tokens that the model read, as in `usage`; bytes_only has no other place for it",
        "schema": {"type": "integer", "minimum": 0},
    },
    headers.TRUNCATED: {
        "description": "How many inputs were cut; absent when none was",
        "schema": {"type": "integer", "minimum": 1},
    },
    headers.WARNING: {
        "description": "Token ids look like those of another tokenizer; absent when they do not",
        "schema": {"type": "string"},
    },
}
_REFERENCE = "#/components/schemas/{name}"
_IDS = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
_MESSAGES = {
    "type": "array",
    "items": {"$ref": _REFERENCE.format(name="Message")},
    "minItems": 1,
}
# What is asked of a request beyond the types of its struct.
_INPUT = [
    {"type": "string"},
    {"type": "array", "items": {"type": "string"}, "minItems": 1},
    _IDS,
    {"type": "array", "items": _IDS, "minItems": 1},
    _MESSAGES,
    {"type": "array", "items": _MESSAGES, "minItems": 1},
]
_BOUNDS: dict[str, dict[str, Any]] = {
    "dimensions": {"minimum": 1},
    "truncate_prompt_tokens": {"minimum": -1, "not": {"const": 0}},
    "request_id": {"maxLength": MAX_REQUEST_ID_CHARS},
    "cache_salt": {"minLength": 1, "maxLength": MAX_CACHE_SALT_CHARS, "pattern": r"^[^@/\\\x00]+$"},
    "priority": {"minimum": -(2**63), "maximum": 2**63 - 1},
    "padding": {"enum": ["do_not_pad"]},
    "mm_processor_kwargs": {"maxProperties": 0},
}
# Refused whatever it holds.
_UNSUPPORTED = "normalize"


def openapi_document(root_path: str = "") -> bytes:
    """The OpenAPI 3.1 description as JSON; `root_path` is where a proxy serves the paths."""
    bodies = [t for op in OPERATIONS for t in (op.request, op.response) if t is not None]
    parts = {part for each in bodies for part in structs_of(each)} | {wire.ErrorResponse}
    _, schemas = msgspec.json.schema_components(
        sorted(parts, key=lambda part: part.__name__), ref_template=_REFERENCE
    )
    for name, texts in FIELD_TEXTS.items():
        for field, text in texts.items():
            schemas[name]["properties"][field]["description"] = text
    _bound(schemas["EmbeddingRequest"])
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _describe(operation)
    servers = {"servers": [{"url": root_path}]} if root_path else {}
    document = servers | {
        "openapi": "3.1.0",
        "info": {
            "title": "hexgrid",
            "version": __version__,
            "description": "Embeddings with Qwen3-Embedding, over the APIs of OpenAI, vLLM, Cohere, "
            "Text Embeddings Inference and Ollama.",
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


def _bound(schema: dict[str, Any]) -> None:
    """Say of EmbeddingRequest what its types do not."""
    fields = schema["properties"]
    del fields[_UNSUPPORTED]
    for name, bounds in _BOUNDS.items():
        fields[name]["anyOf"][0] |= bounds  # the other one is null
    fields["input"] |= {"anyOf": _INPUT}
    del fields["input"]["default"]
    schema["anyOf"] = [{"required": ["input"]}, {"required": ["messages"]}]


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
    names = re.findall(r"\{(\w+)\}", operation.path)
    if names:
        described["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in names
        ]
    return described


def _responses(operation: Operation) -> Iterator[tuple[str, Any]]:
    ok: dict[str, Any] = {"description": "OK", "headers": {"x-request-id": _REQUEST_ID}}
    if operation.response is not None:
        ok["content"] = _content(operation.response)
    elif operation.content_type != "application/json":
        ok["content"] = {operation.content_type: {"schema": {"type": "string"}}}
    if operation.raw:
        raw = {"schema": {"type": "string", "format": "binary"}}
        ok["content"]["application/octet-stream"] = raw  # the encodings bytes and bytes_only
    if operation.embeds:
        ok["headers"] |= _EMBEDDING_HEADERS
    yield "200", ok
    for status, text in _ERRORS.items():
        body_only = status in ("400", "403", "404", "413", "500", "504")
        if (
            body_only
            and operation.request is None
            and (status, operation.of_batches) != ("404", True)
        ):
            continue
        if status in ("401", "429") and operation.public:
            continue
        yield status, {"description": text, "content": _content(wire.ErrorResponse)}


def _content(kind: Any) -> dict[str, Any]:
    return {"application/json": {"schema": _schema(kind)}}


def _schema(kind: Any) -> dict[str, Any]:
    """Of a struct, of several of which it is one, or of plain lists and numbers."""
    parts = structs_of(kind)
    if not parts:
        return msgspec.json.schema(kind)
    references = [{"$ref": _REFERENCE.format(name=part.__name__)} for part in parts]
    return references[0] if len(references) == 1 else {"anyOf": references}


def structs_of(kind: Any) -> tuple[type[msgspec.Struct], ...]:
    """The structs of which a body is one."""
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    return tuple(k for k in kinds if isinstance(k, type) and issubclass(k, msgspec.Struct))
