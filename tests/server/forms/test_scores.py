"""POST /score and /rerank: cosines of the embeddings, as vLLM answers for an embedding model."""

from typing import Any

import httpx2
import numpy as np
import pytest

from hexgrid.server.forms.scores import PAIRS
from tests.server.conftest import SHORT_MODEL_LEN
from tests.server.running import TEXT, embed, error, num_tokens, vectors

QUERY = "What is gravity?"
DOCUMENTS = ["The capital of China is Beijing.", TEXT, QUERY, "重力是吸引两个物体的力。"]
SCORE_PATHS = ["/score", "/v1/score"]
RERANK_PATHS = ["/rerank", "/v1/rerank", "/v2/rerank"]


def score(client: httpx2.Client, **fields: Any) -> httpx2.Response:
    return client.post("/score", json=fields)


def rerank(client: httpx2.Client, **fields: Any) -> httpx2.Response:
    return client.post("/rerank", json={"query": QUERY, "documents": DOCUMENTS} | fields)


def scores_of(response: httpx2.Response) -> list[float]:
    assert response.status_code == 200, response.text
    return [item["score"] for item in response.json()["data"]]


def cosines(client: httpx2.Client, queries: list[str], documents: list[str]) -> list[float]:
    left, right = vectors(embed(client, queries)), vectors(embed(client, documents))
    products: list[float] = (left * right).sum(axis=1).tolist()
    return products


@pytest.mark.parametrize("path", SCORE_PATHS)
@pytest.mark.parametrize("pair", PAIRS, ids=" and ".join)
@pytest.mark.parametrize(
    ("queries", "documents"),
    [
        (QUERY, DOCUMENTS[0]),
        ([QUERY], DOCUMENTS),
        (QUERY, DOCUMENTS),
        (DOCUMENTS[::-1], DOCUMENTS),
    ],
    ids=["1:1", "1:N", "1:N, a string", "N:N"],
)
def test_scores_are_cosines_of_the_pairs(
    client: httpx2.Client, path: str, pair: tuple[str, str], queries: Any, documents: Any
) -> None:
    response = client.post(path, json=dict(zip(pair, (queries, documents), strict=True)))

    left, right = ([x] if isinstance(x, str) else x for x in (queries, documents))
    np.testing.assert_allclose(scores_of(response), cosines(client, left, right), atol=1e-5)
    assert response.json()["model"] == "tiny"


def test_a_score_has_vllms_keys(client: httpx2.Client) -> None:
    body = score(client, queries=QUERY, documents=DOCUMENTS).json()

    assert list(body) == ["id", "object", "created", "model", "data", "usage"]
    assert body["id"].startswith("score-")
    assert body["object"] == "list"
    assert [list(item) for item in body["data"]] == [["index", "object", "score"]] * 4
    assert [item["index"] for item in body["data"]] == [0, 1, 2, 3]
    assert list(body["usage"]) == list(embed(client, "a").json()["usage"])


def test_identical_texts_have_one(client: httpx2.Client) -> None:
    assert scores_of(score(client, text_1=TEXT, text_2=TEXT)) == [pytest.approx(1, abs=1e-6)]


def test_the_one_query_of_many_documents_is_counted_once(client: httpx2.Client) -> None:
    response = score(client, queries=QUERY, documents=DOCUMENTS)

    assert num_tokens(response) == num_tokens(embed(client, [QUERY, *DOCUMENTS]))


@pytest.mark.parametrize("fields", [{"use_activation": False}, {"user": "u"}, {"foo": 1}])
def test_accepted_fields_change_no_score(client: httpx2.Client, fields: dict[str, Any]) -> None:
    asked = scores_of(score(client, queries=QUERY, documents=DOCUMENTS, **fields))

    assert asked == pytest.approx(cosines(client, [QUERY] * 4, DOCUMENTS), abs=1e-5)


def test_an_instruction_stands_before_the_queries_alone(client: httpx2.Client) -> None:
    asked = scores_of(score(client, queries=QUERY, documents=DOCUMENTS, instruction="Find"))

    prefixed = f"Instruct: Find\nQuery:{QUERY}"
    assert asked == pytest.approx(cosines(client, [prefixed] * 4, DOCUMENTS), abs=1e-5)


@pytest.mark.parametrize(
    ("fields", "query_tokens", "document_tokens"),
    [
        ({"max_tokens_per_query": 2}, 2, None),
        ({"max_tokens_per_doc": 3}, None, 3),
        ({"max_tokens_per_query": 2, "max_tokens_per_doc": 3}, 2, 3),
        ({"truncate_prompt_tokens": 3}, 3, 3),
        ({"truncate_prompt_tokens": 3, "max_tokens_per_query": 2}, 2, 3),
        ({"max_tokens_per_query": 0, "max_tokens_per_doc": 0}, None, None),
    ],
    ids=str,
)
def test_each_side_is_cut_by_its_own_limit(
    client: httpx2.Client,
    fields: dict[str, Any],
    query_tokens: int | None,
    document_tokens: int | None,
) -> None:
    response = score(client, queries=QUERY, documents=TEXT, **fields)

    cut_query = embed(client, QUERY, truncate_prompt_tokens=query_tokens)
    cut_document = embed(client, TEXT, truncate_prompt_tokens=document_tokens)
    expected = float((vectors(cut_query) * vectors(cut_document)).sum())
    assert scores_of(response) == [pytest.approx(expected, abs=1e-5)]
    assert num_tokens(response) == num_tokens(cut_query) + num_tokens(cut_document)
    num_cut = (query_tokens is not None) + (document_tokens is not None)
    assert response.headers.get("x-hexgrid-truncated", "0") == str(num_cut)


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"queries": [], "documents": []}, "queries", "At least one text_pair element"),
        ({"queries": "a", "documents": []}, "documents", "At least one text_pair element"),
        (
            {"queries": ["a", "b"], "documents": ["c"]},
            "documents",
            "Input lengths must be either 1:1, 1:N or N:N, got 2:1",
        ),
        (
            {"queries": ["a", "b"], "documents": ["c", "d", "e"]},
            "documents",
            "Input lengths must be either 1:1, 1:N or N:N",
        ),
        ({}, "body", "one pair of queries and documents"),
        ({"queries": "a"}, "body", "missing"),
        ({"queries": "a", "data_2": "b"}, "body", "missing"),
        ({"queries": [1], "documents": "b"}, "body.queries.0", "got 1"),
        ({"queries": "a", "documents": [[1]]}, "body.documents.0", "a list of 1 items"),
        (
            {"queries": "a", "documents": TEXT * 50, "model": "short"},
            "input_tokens",
            "Please reduce the length of the input prompt",
        ),
        (
            {"queries": "a", "documents": "b", "truncate_prompt_tokens": 10**6},
            "truncate_prompt_tokens",
            "Please request a smaller truncation size.",
        ),
        (
            {"queries": "a", "documents": "b", "max_tokens_per_doc": 10**6},
            "max_tokens_per_doc",
            "Please request a smaller truncation size.",
        ),
        (
            {"queries": "a", "documents": "b", "max_tokens_per_query": -2},
            "body.max_tokens_per_query",
            "greater_than_equal",
        ),
        (
            {"queries": "a", "documents": ["b"] * 2048},
            "documents",
            "at most 2048 inputs, got 2049",
        ),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_cannot_be_scored_is_refused_by_name(
    client: httpx2.Client, fields: dict[str, Any], param: str, message: str
) -> None:
    detail = error(score(client, **fields))

    assert (detail["code"], detail["param"]) == (400, param)
    assert message in detail["message"]


@pytest.mark.parametrize("path", RERANK_PATHS)
def test_documents_come_best_first_with_their_cosines(client: httpx2.Client, path: str) -> None:
    response = client.post(path, json={"query": QUERY, "documents": DOCUMENTS})

    expected = np.array(cosines(client, [QUERY] * 4, DOCUMENTS))
    body = response.json()
    order = [result["index"] for result in body["results"]]
    found = [result["relevance_score"] for result in body["results"]]
    assert order[0] == DOCUMENTS.index(QUERY)
    assert found == sorted(found, reverse=True)
    np.testing.assert_allclose(found, expected[order], atol=1e-5)
    assert sorted(order) == [0, 1, 2, 3]


def test_a_ranking_has_vllms_keys(client: httpx2.Client) -> None:
    body = rerank(client).json()

    assert list(body) == ["id", "model", "usage", "results"]
    assert body["id"].startswith("score-")
    assert list(body["usage"]) == ["prompt_tokens", "total_tokens"]
    assert body["usage"]["prompt_tokens"] == num_tokens(embed(client, [QUERY, *DOCUMENTS]))
    assert [list(r) for r in body["results"]] == [["index", "document", "relevance_score"]] * 4
    assert body["results"][0]["document"] == {"text": QUERY, "multi_modal": None}


@pytest.mark.parametrize(("top_n", "count"), [(0, 4), (None, 4), (1, 1), (3, 3), (100, 4)])
def test_top_n_keeps_the_best(client: httpx2.Client, top_n: int | None, count: int) -> None:
    found = rerank(client, top_n=top_n).json()["results"]

    assert found == rerank(client).json()["results"][:count]


def test_equal_documents_keep_their_order(client: httpx2.Client) -> None:
    results = rerank(client, documents=["a", QUERY] * 50).json()["results"]

    assert [result["index"] for result in results] == [*range(1, 100, 2), *range(0, 100, 2)]


def test_one_document_may_be_a_string(client: httpx2.Client) -> None:
    results = rerank(client, documents=TEXT, return_documents=False).json()["results"]

    assert [result["document"]["text"] for result in results] == [TEXT]


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"top_n": -1}, "body.top_n", "got -1"),
        ({"documents": []}, "documents", "At least one document"),
        ({"documents": [{"text": "a"}]}, "body.documents.0", "an object of 1 fields"),
        ({"documents": None}, "body.documents", "got null"),
        ({"query": ["a"]}, "body.query", "a list of 1 items"),
        ({"query": TEXT * 50, "model": "short"}, "input_tokens", "Please reduce the length"),
        (
            {"truncate_prompt_tokens": SHORT_MODEL_LEN + 1, "model": "short"},
            "truncate_prompt_tokens",
            "Please request a smaller truncation size.",
        ),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_cannot_be_ranked_is_refused_by_name(
    client: httpx2.Client, fields: dict[str, Any], param: str, message: str
) -> None:
    detail = error(rerank(client, **fields))

    assert (detail["code"], detail["param"]) == (400, param)
    assert message in detail["message"]
