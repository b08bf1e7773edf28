"""The API description: every route and no other, every reference resolved, and true of real answers."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from jsonschema import Draft202012Validator
from starlette.routing import Route

from hexgrid.config import ServerConfig
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.server.app import create_app
from hexgrid.server.auth import LIVENESS_PATHS
from hexgrid.server.console import PATHS
from hexgrid.server.registry import Models
from tests.server.forms.bodies import BODIES
from tests.server.running import TEXT, embed

NO_INPUTS: list[Any] = [None, [], [[]], [[1], []], ["a", 1], [-1], {"a": 1}]


@pytest.fixture(scope="module")
def document(client: httpx2.Client) -> dict[str, Any]:
    """/openapi.json as it is served."""
    response = client.get("/openapi.json")
    assert response.headers["content-type"] == "application/json"
    found: dict[str, Any] = response.json()
    return found


def validator(document: dict[str, Any], name: str) -> Draft202012Validator:
    """What tells whether a body is as the schema of that name says."""
    reference = {"$ref": f"#/components/schemas/{name}"}
    return Draft202012Validator(reference | {"components": document["components"]})


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and description of each operation."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def references(value: object) -> Iterator[str]:
    """Every $ref within a document."""
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for part in value.values():
            yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


def schema(document: dict[str, Any], name: str) -> dict[str, Any]:
    """A struct's schema."""
    found: dict[str, Any] = document["components"]["schemas"][name]
    return found


def test_it_is_openapi_with_a_title_and_a_version(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert {"title", "version"} <= document["info"].keys()


def test_every_route_is_described_and_no_other(
    document: dict[str, Any], tiny_model: ServedModel
) -> None:
    app = create_app(Models([tiny_model]), ServerConfig(), Metrics())
    served = {
        (route.path, method.lower())
        for route in app.routes
        if isinstance(route, Route) and route.path not in PATHS
        for method in (route.methods or set()) - {"HEAD"}  # comes with GET
    }

    assert {(path, method) for path, method, _ in operations(document)} == served


def test_operation_ids_can_be_names_of_functions(document: dict[str, Any]) -> None:
    assert all(operation["operationId"].isidentifier() for _, _, operation in operations(document))


def test_every_body_has_an_example_that_is_answered(
    client: httpx2.Client, document: dict[str, Any]
) -> None:
    bodies = {
        path: operation["requestBody"]["content"]["application/json"]
        for path, _, operation in operations(document)
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    }

    assert BODIES.keys() < bodies.keys()
    components = {"components": document["components"]}
    for path, body in bodies.items():
        assert Draft202012Validator(body["schema"] | components).is_valid(body["example"]), path
        if path != "/v1/batches":  # which needs a file
            assert client.post(path, json=body["example"]).status_code == 200, path


@pytest.mark.parametrize("path", ["/v1/embeddings", "/pooling", "/score", "/v2/embed", "/tokenize"])
def test_a_body_that_lacks_what_is_needed_is_not_described(
    client: httpx2.Client, document: dict[str, Any], path: str
) -> None:
    content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    name = content["schema"]["$ref"].rpartition("/")[2]

    assert not validator(document, name).is_valid({"model": ""})
    assert client.post(path, json={"model": ""}).status_code == 400


def test_every_reference_resolves(document: dict[str, Any]) -> None:
    prefix = "#/components/schemas/"
    found = list(references(document))

    assert found
    assert {ref.removeprefix(prefix) for ref in found} <= document["components"]["schemas"].keys()


def test_operation_ids_are_unique(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(document)]

    assert len(set(ids)) == len(ids)


def test_every_response_has_a_description(document: dict[str, Any]) -> None:
    for _, _, operation in operations(document):
        assert all(response["description"] for response in operation["responses"].values())


def test_only_probes_need_no_key(document: dict[str, Any]) -> None:
    assert document["security"] == [{"key": []}]
    assert document["components"]["securitySchemes"]["key"] == {"type": "http", "scheme": "bearer"}
    public = {
        path for path, _, operation in operations(document) if operation.get("security") == []
    }
    assert public == LIVENESS_PATHS


def test_every_error_is_described_as_the_one_shape(document: dict[str, Any]) -> None:
    errors = [
        response
        for _, _, operation in operations(document)
        for status, response in operation["responses"].items()
        if status != "200"
    ]

    assert {ref for error in errors for ref in references(error)} == {
        "#/components/schemas/ErrorResponse"
    }
    assert schema(document, "ErrorDetail")["required"] == ["message", "type", "code"]


def test_the_request_lists_its_choices(document: dict[str, Any]) -> None:
    (choices,) = [
        option["enum"]
        for option in schema(document, "EmbeddingRequest")["properties"]["encoding_format"]["anyOf"]
        if "enum" in option
    ]

    assert set(choices) == {"float", "base64", "bytes", "bytes_only"}


def test_every_field_that_acts_is_explained(document: dict[str, Any]) -> None:
    refused = {"padding", "media_io_kwargs", "mm_processor_kwargs", "normalize", "task"}
    fields = schema(document, "EmbeddingRequest")["properties"]

    assert [name for name in fields if "description" not in fields[name]] == [
        name for name in fields if name in refused
    ]


@pytest.mark.parametrize(
    "fields",
    [
        *({"input": value} for value in NO_INPUTS),
        *({"dimensions": 0}, {"truncate_prompt_tokens": 0}, {"truncate_prompt_tokens": -2}),
        *({"cache_salt": ""}, {"cache_salt": "a" * 129}, {"cache_salt": "a/b"}),
        *({"priority": 2**63}, {"request_id": "a" * 257}, {"padding": "max_length"}),
        {"mm_processor_kwargs": {"a": 1}},
    ],
    ids=str,
)
def test_what_is_always_refused_is_not_described(
    client: httpx2.Client, document: dict[str, Any], fields: dict[str, Any]
) -> None:
    assert not validator(document, "EmbeddingRequest").is_valid({"input": "a"} | fields)
    assert client.post("/v1/embeddings", json={"input": "a"} | fields).status_code == 400


@pytest.mark.parametrize("fields", [{}, {"input": [1]}, {"input": [[1], [2]]}, {"input": ["a"]}])
def test_what_is_taken_is_described(
    client: httpx2.Client, document: dict[str, Any], fields: dict[str, Any]
) -> None:
    optional = dict.fromkeys(schema(document, "EmbeddingRequest")["properties"].keys() - {"input"})
    body = {"input": ""} | optional | fields

    assert validator(document, "EmbeddingRequest").is_valid(body)
    assert client.post("/v1/embeddings", json=body).status_code == 200
    assert "normalize" not in body


@pytest.mark.parametrize(
    ("method", "path", "body", "name"),
    [
        ("POST", "/v1/embeddings", {"input": "a"}, "EmbeddingResponse"),
        ("POST", "/pooling", {"input": "a"}, "PoolingResponse"),
        ("POST", "/v1/score", {"queries": "a", "documents": "b"}, "ScoreResponse"),
        ("POST", "/v2/rerank", {"query": "a", "documents": "b"}, "RerankResponse"),
        ("POST", "/v2/embed", {"texts": ["a"]}, "CohereEmbedResponse"),
        ("POST", "/api/embed", {"input": "a"}, "OllamaEmbedResponse"),
        ("POST", "/api/embeddings", {"prompt": "a"}, "OllamaEmbeddingsResponse"),
        ("GET", "/api/tags", None, "OllamaModels"),
        ("GET", "/info", None, "TeiInfo"),
        ("GET", "/load", None, "ServerLoad"),
        ("GET", "/v1/models", None, "ModelList"),
        ("POST", "/tokenize", {"prompt": "a"}, "TokenizeResponse"),
        ("POST", "/detokenize", {"tokens": [1]}, "DetokenizeResponse"),
        ("GET", "/version", None, "Version"),
        ("GET", "/v1/embeddings", None, "ErrorResponse"),
    ],
)
def test_answers_have_the_fields_that_are_described(
    client: httpx2.Client, document: dict[str, Any], method: str, path: str, body: Any, name: str
) -> None:
    answer = client.request(method, path, json=body).json()

    assert list(answer) == list(schema(document, name)["properties"])


@pytest.mark.parametrize("path", BODIES)
def test_answers_have_the_headers_that_are_described(
    client: httpx2.Client, document: dict[str, Any], path: str
) -> None:
    described = document["paths"][path]["post"]["responses"]["200"]["headers"]
    ours = {"x-hexgrid-prompt-tokens", "x-hexgrid-truncated", "x-hexgrid-warning"}
    assert described.keys() == {"x-request-id", "server-timing"} | ours
    if path == "/api/embeddings":
        return  # cuts nothing

    cut = {"truncate_prompt_tokens": 2, "truncate": "END", "max_tokens": 2}
    if path in ("/embed", "/similarity", "/api/embed"):
        cut = {"truncate": True, "options": {"num_ctx": 2}, "parameters": {"truncate": True}}
        if path != "/api/embed":
            cut["model"] = "short"
    body = json.loads(json.dumps(BODIES[path]).replace(TEXT, TEXT * 50))
    answer = client.post(path, json=body | cut)

    assert described.keys() - {"x-hexgrid-warning"} <= answer.headers.keys()


def test_a_body_that_may_be_one_of_several_is_described_as_such(
    document: dict[str, Any],
) -> None:
    invocations = document["paths"]["/invocations"]["post"]
    schema_ = invocations["requestBody"]["content"]["application/json"]["schema"]

    assert [each["$ref"].rpartition("/")[2] for each in schema_["anyOf"]] == [
        "EmbeddingRequest",
        "RerankRequest",
        "ScoreRequest",
    ]


def test_plain_lists_are_described_as_such(document: dict[str, Any]) -> None:
    def answer(path: str) -> Any:
        response = document["paths"][path]["post"]["responses"]["200"]
        return response["content"]["application/json"]["schema"]

    numbers = {"type": "array", "items": {"type": "number"}}
    assert answer("/similarity") == numbers
    assert answer("/embed") == {"type": "array", "items": numbers}


def test_usage_and_items_have_the_fields_that_are_described(
    client: httpx2.Client, document: dict[str, Any]
) -> None:
    answer = embed(client, "a").json()

    assert list(answer["usage"]) == list(schema(document, "Usage")["properties"])
    assert list(answer["data"][0]) == list(schema(document, "Embedding")["properties"])
    card = client.get("/v1/models").json()["data"][0]
    assert list(card) == list(schema(document, "ModelCard")["properties"])
