"""The API description: every route and no other, every reference resolved, and true of real answers."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from starlette.routing import Route

from hexgrid.config import ServerConfig
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.server.app import create_app
from hexgrid.server.auth import LIVENESS_PATHS
from hexgrid.server.registry import Models
from tests.eval_texts import cl100k_ids
from tests.server.running import embed


@pytest.fixture(scope="module")
def document(client: httpx2.Client) -> dict[str, Any]:
    """/openapi.json as it is served."""
    response = client.get("/openapi.json")
    assert response.headers["content-type"] == "application/json"
    found: dict[str, Any] = response.json()
    return found


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
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}  # comes with GET
    }

    assert {(path, method) for path, method, _ in operations(document)} == served


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


@pytest.mark.parametrize(
    ("method", "path", "body", "name"),
    [
        ("POST", "/v1/embeddings", {"input": "a"}, "EmbeddingResponse"),
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


def test_answers_have_the_headers_that_are_described(
    client: httpx2.Client, document: dict[str, Any]
) -> None:
    described = document["paths"]["/v1/embeddings"]["post"]["responses"]["200"]["headers"]
    foreign = max(cl100k_ids(), key=len)
    answer = embed(client, foreign, truncate_prompt_tokens=len(foreign) - 1)

    assert described.keys() == {
        "x-request-id",
        "server-timing",
        "x-hexgrid-truncated",
        "x-hexgrid-warning",
    }
    assert described.keys() <= answer.headers.keys()


def test_usage_and_items_have_the_fields_that_are_described(
    client: httpx2.Client, document: dict[str, Any]
) -> None:
    answer = embed(client, "a").json()

    assert list(answer["usage"]) == list(schema(document, "Usage")["properties"])
    assert list(answer["data"][0]) == list(schema(document, "Embedding")["properties"])
    card = client.get("/v1/models").json()["data"][0]
    assert list(card) == list(schema(document, "ModelCard")["properties"])
