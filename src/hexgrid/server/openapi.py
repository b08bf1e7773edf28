"""/openapi.json, made from the wire structs: the description cannot drift from what is decoded."""

import re
import types
import typing
from collections.abc import Iterator
from typing import Any

import msgspec
import orjson

from hexgrid import __version__, headers, wire
from hexgrid.server.batches.objects import (
    BATCHES_AT_ONCE,
    BATCHES_BY_DEFAULT,
    EXPIRES_SECONDS,
    FILES_AT_ONCE,
)
from hexgrid.server.embedding_call import MAX_CACHE_SALT_CHARS, MAX_REQUEST_ID_CHARS
from hexgrid.server.field_texts import FIELD_TEXTS
from hexgrid.server.forms.scores import PAIRS
from hexgrid.server.operations import OPERATIONS, Operation

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
# What is only said of a body, and of what it asks for.
_OF_BODIES = ("400", "403", "404", "413", "500", "504")
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
# Where a struct's fields are all optional, though some must be there: those that are enough.
_ALTERNATIVES = {
    "EmbeddingRequest": (("input",), ("messages",)),
    "PoolingRequest": (("input",), ("messages",)),
    "ScoreRequest": PAIRS,
    "CohereEmbedRequest": (("texts",), ("inputs",)),
    "TokenizeRequest": (("prompt",), ("messages",)),
}
_UPLOAD = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {
        "file": {
            "type": "string",
            "format": "binary",
            "description": "A line a request, in the form of OpenAI's batches",
        },
        "purpose": {"const": "batch", "description": "What the file is for"},
        "expires_after[anchor]": {
            "const": "created_at",
            "description": "From when on the seconds count",
        },
        "expires_after[seconds]": {
            "type": "integer",
            "minimum": EXPIRES_SECONDS[0],
            "maximum": EXPIRES_SECONDS[1],
            "description": "How long the file is kept; as long as the server keeps any by default",
        },
    },
}
_AFTER = {
    "name": "after",
    "description": "The id after which the list goes on; from its beginning by default",
    "schema": {"type": "string"},
}
_ORDER = {
    "name": "order",
    "description": "By when they were made; the newest first by default",
    "schema": {"enum": ["asc", "desc"]},
}
_PURPOSE = {
    "name": "purpose",
    "description": "Only those of this purpose",
    "schema": {"type": "string"},
}


def _limit(most: int, default: int) -> dict[str, Any]:
    bounds = {"type": "integer", "minimum": 1, "maximum": most, "default": default}
    return {"name": "limit", "description": "How many at most", "schema": bounds}


# Of lists, by their paths.
_QUERIES = {
    "/v1/files": (_AFTER, _limit(FILES_AT_ONCE, FILES_AT_ONCE), _ORDER, _PURPOSE),
    "/v1/batches": (_AFTER, _limit(BATCHES_AT_ONCE, BATCHES_BY_DEFAULT)),
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
    for name, alternatives in _ALTERNATIVES.items():
        schemas[name]["anyOf"] = [{"required": list(fields)} for fields in alternatives]
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


def _describe(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": re.sub(r"\W+", "_", operation.method + operation.path).rstrip("_"),
        "responses": dict(_responses(operation)),
    }
    if operation.request is not None:
        content = _content(operation.request)
        content["application/json"]["example"] = operation.example
        described["requestBody"] = {"required": True, "content": content}
    if operation.takes_form:
        content = {"multipart/form-data": {"schema": _UPLOAD}}
        described["requestBody"] = {"required": True, "content": content}
    if operation.public:
        described["security"] = []
    if parameters := list(_parameters(operation)):
        described["parameters"] = parameters
    return described


def _parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"\{(\w+)\}", operation.path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
    if operation.method == "get":
        for query in _QUERIES.get(operation.path, ()):
            yield {"in": "query"} | query


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
        if _may_answer(operation, status):
            yield status, {"description": text, "content": _content(wire.ErrorResponse)}


def _may_answer(operation: Operation, status: str) -> bool:
    if status in ("401", "429"):
        return not operation.public
    if operation.of_batches and status in ("400", "404", "500"):
        return True
    if operation.method == "post" and operation.of_batches and status == "413":
        return True
    return status not in _OF_BODIES or operation.request is not None


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
