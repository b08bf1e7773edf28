"""POST /pooling: /v1/embeddings under vLLM's other names."""

import base64

import httpx2
import numpy as np
import pytest

from tests.server.running import TEXT, embed, error, vectors


def pool(client: httpx2.Client, **fields: object) -> httpx2.Response:
    return client.post("/pooling", json={"input": [TEXT, "hello"]} | fields)


def test_it_has_vllms_keys_and_the_vectors_of_v1(client: httpx2.Client) -> None:
    body = pool(client, task="embed").json()

    expected = embed(client, [TEXT, "hello"])
    assert list(body) == ["id", "object", "created", "model", "data", "usage"]
    assert body["id"].startswith("pooling-")
    assert body["usage"] == expected.json()["usage"]
    assert [list(item) for item in body["data"]] == [["index", "object", "data"]] * 2
    assert {item["object"] for item in body["data"]} == {"pooling"}
    found = np.array([item["data"] for item in body["data"]], np.float32)
    assert found.tolist() == vectors(expected).tolist()


def test_encodings_are_those_of_v1(client: httpx2.Client) -> None:
    floats = np.array([item["data"] for item in pool(client).json()["data"]], np.float32)

    encoded = pool(client, encoding_format="base64").json()["data"]
    raw = pool(client, encoding_format="bytes_only")

    assert [base64.b64decode(item["data"]) for item in encoded] == [v.tobytes() for v in floats]
    assert raw.content == floats.tobytes()


def test_an_id_of_the_client_is_kept(client: httpx2.Client) -> None:
    assert pool(client, request_id="mine").json()["id"] == "pooling-mine"


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        (
            {"task": "classify"},
            "task",
            "Unsupported task: 'classify' Supported tasks: ['embed'] (parameter=task)",
        ),
        ({"task": "token_embed"}, "task", "Unsupported task: 'token_embed'"),
        ({"task": "plugin"}, "task", "Unsupported task: 'plugin'"),
        ({"dimensions": 16}, "dimensions", "dimensions is currently not supported"),
        ({"normalize": True}, "normalize", "use `use_activation` instead"),
        ({"padding": "max_length"}, "padding", "not supported"),
    ],
)
def test_what_it_cannot_do_is_refused_as_by_vllm(
    client: httpx2.Client, fields: dict[str, object], param: str, message: str
) -> None:
    detail = error(pool(client, **fields))

    assert (detail["code"], detail["param"]) == (400, param)
    assert message in detail["message"]
