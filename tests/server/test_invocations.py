"""POST /invocations: SageMaker's path is whichever the body's fields say."""

from typing import Any

import httpx2
import pytest

from tests.server.running import error

HELLO = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": "a", "dimensions": 16}),
        ("/v1/embeddings", {"input": [[1, 2], [3]], "encoding_format": "base64"}),
        ("/v1/embeddings", {"input": "a", "query": "b", "documents": ["c"]}),
        ("/rerank", {"query": "a", "documents": ["b", "a"], "top_n": 1}),
        ("/score", {"queries": "a", "documents": ["b", "a"]}),
        ("/score", {"queries": "a", "items": ["b", "a"]}),
        ("/score", {"data_1": "a", "data_2": ["b", "a"]}),
        ("/score", {"text_1": "a", "text_2": ["b", "a"]}),
    ],
    ids=str,
)
def test_a_body_is_answered_as_on_the_path_it_is_for(
    client: httpx2.Client, path: str, body: dict[str, Any]
) -> None:
    invoked, direct = (client.post(each, json=body).json() for each in ("/invocations", path))

    for answer in (invoked, direct):
        assert answer.pop("id")
        answer.pop("created", None)
    assert invoked == direct


def test_a_conversation_is_for_embeddings(client: httpx2.Client) -> None:
    detail = error(client.post("/invocations", json={"messages": HELLO}))

    assert detail["param"] == "messages"  # this model has no template


@pytest.mark.parametrize("body", [{}, {"text": "a"}, {"query": "a"}, {"queries": "a"}])
def test_a_body_for_no_path_is_refused(client: httpx2.Client, body: dict[str, Any]) -> None:
    detail = error(client.post("/invocations", json=body))

    assert (detail["code"], detail["param"]) == (400, "body")
    assert (
        "Cannot find suitable handler for request. Expected the fields of one of: input or"
        in (detail["message"])
    )


@pytest.mark.parametrize("body", [b"", b"{", b"{'a'", b"[]", b"null"])
def test_what_is_no_object_is_refused(client: httpx2.Client, body: bytes) -> None:
    json, text = (
        client.post("/invocations", content=body, headers={"content-type": content_type})
        for content_type in ("application/json", "text/plain")
    )

    assert error(json)["type"] == "Bad Request"
    assert "Only 'application/json' is allowed" in error(text)["message"]


def test_a_wrong_field_is_named_as_on_the_path_itself(client: httpx2.Client) -> None:
    detail = error(client.post("/invocations", json={"query": 5, "documents": "a"}))

    assert detail["param"] == "body.query"
