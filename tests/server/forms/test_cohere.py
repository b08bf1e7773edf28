"""POST /v2/embed: Cohere's form, as vLLM's server answers it, and the integers that it does not know."""

import base64
import json
from typing import Any

import httpx2
import numpy as np
import orjson
import pytest

from hexgrid.encoding import Vectors
from hexgrid.quantized import quantize
from tests.server.conftest import SHORT_MODEL_LEN
from tests.server.running import TEXT, embed, error, num_tokens, vectors

LONG = TEXT * 50
TYPES = ["float", "int8", "uint8", "binary", "ubinary", "base64"]


def ask(client: httpx2.Client, **fields: Any) -> httpx2.Response:
    if not fields.keys() & {"texts", "inputs", "images"}:
        fields["texts"] = [TEXT, "hello"]
    return client.post("/v2/embed", json=fields)


def floats(response: httpx2.Response) -> Vectors:
    assert response.status_code == 200, response.text
    return np.array(response.json()["embeddings"]["float"], np.float32)


def billed(response: httpx2.Response) -> int:
    assert response.status_code == 200, response.text
    count: int = response.json()["meta"]["billed_units"]["input_tokens"]
    return count


def test_it_has_vllms_shape_and_the_vectors_of_v1(client: httpx2.Client) -> None:
    response = ask(client, model="alias")

    body, v1 = response.json(), embed(client, [TEXT, "hello"])
    assert list(body) == ["id", "embeddings", "texts", "meta", "response_type"]
    assert body["id"].startswith("embd-")
    assert body["texts"] == [TEXT, "hello"]
    assert body["response_type"] == "embeddings_by_type"
    assert body["meta"] == {
        "api_version": {"version": "2"},
        "billed_units": {"input_tokens": num_tokens(v1), "image_tokens": 0},
    }
    assert list(body["embeddings"]) == ["float"]
    assert floats(response).tolist() == vectors(v1).tolist()


@pytest.mark.parametrize("types", [None, [], ["float"]])
def test_floats_are_the_default(client: httpx2.Client, types: list[str] | None) -> None:
    assert list(ask(client, embedding_types=types).json()["embeddings"]) == ["float"]


@pytest.mark.parametrize("types", [TYPES, *([kind] for kind in TYPES)], ids=str)
def test_every_type_is_made_of_the_same_floats(client: httpx2.Client, types: list[str]) -> None:
    found = ask(client, embedding_types=types).json()["embeddings"]

    exact = vectors(embed(client, [TEXT, "hello"]))
    expected = {
        "float": json.loads(orjson.dumps(exact, option=orjson.OPT_SERIALIZE_NUMPY)),
        "int8": quantize(exact, "int8").tolist(),
        "uint8": quantize(exact, "uint8").tolist(),
        "binary": quantize(exact, "binary").tolist(),
        "ubinary": quantize(exact, "ubinary").tolist(),
        "base64": [base64.b64encode(v.astype("<f4").tobytes()).decode() for v in exact],
    }
    assert found == {kind: expected[kind] for kind in types}


def test_binary_has_an_eighth_of_the_numbers(client: httpx2.Client) -> None:
    found = ask(client, embedding_types=["binary", "ubinary"], output_dimension=32).json()

    assert [len(v) for kind in found["embeddings"].values() for v in kind] == [4, 4, 4, 4]


@pytest.mark.parametrize("dimensions", [1, 10, 64])
def test_output_dimension_cuts_and_normalises_again(client: httpx2.Client, dimensions: int) -> None:
    found = floats(ask(client, output_dimension=dimensions))

    expected = vectors(embed(client, [TEXT, "hello"], dimensions=dimensions))
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("input_type", "prompt_name"),
    [
        ("query", "query"),
        ("document", "document"),
        ("search_query", "query"),
        ("search_document", "document"),
    ],
)
def test_an_input_type_is_the_checkpoints_prompt(
    client: httpx2.Client, input_type: str, prompt_name: str
) -> None:
    asked = ask(client, input_type=input_type)

    prompted = embed(client, [TEXT, "hello"], prompt_name=prompt_name)
    np.testing.assert_allclose(floats(asked), vectors(prompted), atol=2e-6)
    assert billed(asked) == num_tokens(prompted)


@pytest.mark.parametrize("fields", [{}, {"truncate": "END"}, {"truncate": "START"}])
def test_a_long_text_is_cut_and_a_header_says_so(
    client: httpx2.Client, fields: dict[str, str]
) -> None:
    response = ask(client, texts=[LONG, "a"], model="short", **fields)

    side = "left" if fields.get("truncate") == "START" else "right"
    cut = embed(client, [LONG, "a"], model="short", truncate_prompt_tokens=-1, truncation_side=side)
    assert floats(response).tolist() == vectors(cut).tolist()
    assert billed(response) == num_tokens(cut) == SHORT_MODEL_LEN + 2
    assert response.headers["x-hexgrid-truncated"] == "1"


def test_start_and_end_keep_different_ends(client: httpx2.Client) -> None:
    start, end = (
        floats(ask(client, texts=[LONG], model="short", truncate=side)) for side in ("START", "END")
    )

    assert (start * end).sum() < 0.99


@pytest.mark.parametrize("max_tokens", [1, 3, 100_000])
def test_max_tokens_is_where_a_text_is_cut(client: httpx2.Client, max_tokens: int) -> None:
    response = ask(client, texts=[TEXT], max_tokens=max_tokens)

    expected = embed(client, TEXT, truncate_prompt_tokens=min(max_tokens, 100))
    assert floats(response).tolist() == vectors(expected).tolist()


def test_inputs_of_text_are_texts(client: httpx2.Client) -> None:
    response = ask(
        client,
        inputs=[
            {"content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
            {"content": "hello"},
        ],
    )

    assert floats(response).tolist() == vectors(embed(client, ["one\ntwo", "hello"])).tolist()
    assert "texts" not in response.json()


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"texts": None}, "body", "Exactly one of texts, images, or inputs must be provided"),
        ({"texts": []}, "body", "it must be non-empty; got none"),
        ({"texts": ["a"], "images": ["x"]}, "body", "got texts and images"),
        ({"images": ["data:image/png;base64,AAAA"]}, "images", "the model reads text only"),
        ({"inputs": [{"content": [IMAGE]}]}, "inputs", "the model reads text only"),
        ({"input_type": "classification"}, "input_type", "Unsupported input_type 'classification'"),
        ({"input_type": "image"}, "input_type", "Supported values: document, query"),
        ({"embedding_types": ["int4"]}, "body.embedding_types.0", "literal_error"),
        ({"truncate": "MIDDLE"}, "body.truncate", "literal_error"),
        (
            {"embedding_types": ["binary"], "output_dimension": 10},
            "dimensions",
            "Embedding dimension must be a multiple of 8 for binary embedding types, but got 10.",
        ),
        ({"output_dimension": 65}, "dimensions", "range [1, 64], got 65"),
        ({"texts": [LONG], "model": "short", "truncate": "NONE"}, "input_tokens", "Please reduce"),
        (
            {"texts": ["a", TEXT], "max_tokens": 3, "truncate": "NONE"},
            "texts",
            "exceeds max_tokens=3 with truncate=NONE (input 1). Set truncate to END or START to allow",
        ),
        ({"max_tokens": 0}, "max_tokens", "at least 1, got 0"),
        ({"texts": ["a"] * 2049}, "texts", "at most 2048 inputs, got 2049"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_cannot_be_embedded_is_refused_by_name(
    client: httpx2.Client, fields: dict[str, Any], param: str, message: str
) -> None:
    detail = error(ask(client, **fields))

    assert (detail["code"], detail["param"]) == (400, param)
    assert message in detail["message"]
