"""POST /api/embed and /api/embeddings: the documented examples of Ollama, and their fields."""

import json
from typing import Any

import httpx2
import numpy as np
import pytest

from hexgrid.encoding import Vectors
from tests.server.conftest import SHORT_MODEL_LEN
from tests.server.running import TEXT, embed, error, num_tokens, vectors

LONG = TEXT * 50
# https://github.com/ollama/ollama/blob/main/docs/api.md#generate-embeddings
SKY = "Why is the sky blue?"
GRASS = "Why is the grass green?"


def ask(client: httpx2.Client, **fields: Any) -> httpx2.Response:
    return client.post("/api/embed", json={"model": "tiny", "input": [SKY, GRASS]} | fields)


def found(response: httpx2.Response) -> Vectors:
    assert response.status_code == 200, response.text
    return np.array(response.json()["embeddings"], np.float32)


@pytest.mark.parametrize("inputs", [SKY, [SKY, GRASS]])
def test_the_documented_examples_work_without_a_content_type(
    client: httpx2.Client, inputs: Any
) -> None:
    body = json.dumps({"model": "tiny", "input": inputs})
    # As curl -d sends it.
    headers = {"content-type": "application/x-www-form-urlencoded"}

    response = client.post("/api/embed", content=body, headers=headers)

    answer, v1 = response.json(), embed(client, inputs)
    assert list(answer) == [
        "model",
        "embeddings",
        "total_duration",
        "load_duration",
        "prompt_eval_count",
    ]
    assert answer["model"] == "tiny"
    assert answer["prompt_eval_count"] == num_tokens(v1)
    assert answer["total_duration"] > 0
    assert answer["load_duration"] == 0
    assert found(response).tolist() == vectors(v1).tolist()


@pytest.mark.parametrize("name", ["tiny", "tiny:latest", "alias", "alias:latest"])
def test_a_name_may_have_the_tag_latest_and_is_echoed(client: httpx2.Client, name: str) -> None:
    assert ask(client, model=name).json()["model"] == name


@pytest.mark.parametrize(
    "fields",
    [
        {"keep_alive": "5m"},
        {"keep_alive": 0},
        {"keep_alive": -1},
        {"options": {"temperature": 0.5, "num_gpu": 1, "stop": ["x"]}},
        {"options": {"num_ctx": 4096}},
        {"truncate": None, "dimensions": 0},
    ],
    ids=str,
)
def test_what_concerns_loading_and_generation_changes_nothing(
    client: httpx2.Client, fields: dict[str, Any]
) -> None:
    assert found(ask(client, **fields)).tolist() == found(ask(client)).tolist()


def test_dimensions_cut_and_normalise_again(client: httpx2.Client) -> None:
    expected = vectors(embed(client, [SKY, GRASS], dimensions=16))

    assert found(ask(client, dimensions=16)).tolist() == expected.tolist()


@pytest.mark.parametrize("fields", [{}, {"truncate": True}, {"options": {"num_ctx": 10**6}}])
def test_a_long_text_is_cut_at_its_end_and_a_header_says_so(
    client: httpx2.Client, fields: dict[str, Any]
) -> None:
    response = ask(client, input=LONG, model="short", **fields)

    cut = embed(client, LONG, model="short", truncate_prompt_tokens=-1)
    assert found(response).tolist() == vectors(cut).tolist()
    assert response.json()["prompt_eval_count"] == SHORT_MODEL_LEN
    assert response.headers["x-hexgrid-truncated"] == "1"


def test_num_ctx_is_where_a_text_is_cut(client: httpx2.Client) -> None:
    response = ask(client, input=TEXT, options={"num_ctx": 4})

    assert response.json()["prompt_eval_count"] == 4


@pytest.mark.parametrize("inputs", ["", [], None])
def test_no_input_only_asks_whether_the_model_is_there(client: httpx2.Client, inputs: Any) -> None:
    answer = ask(client, input=inputs, keep_alive=0).json()

    assert answer["embeddings"] == []
    assert answer["prompt_eval_count"] == 0
    assert ask(client, input=inputs, model="nope").status_code == 404


def test_an_empty_text_among_others_is_a_text(client: httpx2.Client) -> None:
    assert (
        found(ask(client, input=["", SKY])).tolist() == vectors(embed(client, ["", SKY])).tolist()
    )


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"input": 5}, "body.input", "got 5"),
        ({"input": [5]}, "body.input.0", "got 5"),
        ({"input": LONG, "model": "short", "truncate": False}, "input_tokens", "Please reduce"),
        (
            {"input": TEXT, "truncate": False, "options": {"num_ctx": 4}},
            "input",
            "exceeds max_tokens=4",
        ),
        ({"options": {"num_ctx": 0}}, "options.num_ctx", "at least 1, got 0"),
        ({"options": {"num_ctx": "x"}}, "body.options.num_ctx", "int_type"),
        ({"dimensions": 65}, "dimensions", "range [1, 64], got 65"),
        ({"dimensions": -1}, "dimensions", "range [1, 64], got -1"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_cannot_be_embedded_is_refused_by_name(
    client: httpx2.Client, fields: dict[str, Any], param: str, message: str
) -> None:
    detail = error(ask(client, **fields))

    assert (detail["code"], detail["param"]) == (400, param)
    assert message in detail["message"]


def test_a_body_that_is_no_json_is_refused(client: httpx2.Client) -> None:
    response = client.post("/api/embed", content=b"input=a")

    assert error(response)["type"] == "Bad Request"


def test_the_older_path_gives_one_vector_that_is_not_normalised(client: httpx2.Client) -> None:
    body = json.dumps({"model": "tiny:latest", "prompt": "Here is an article about llamas..."})

    answer = client.post("/api/embeddings", content=body).json()

    raw = vectors(embed(client, "Here is an article about llamas...", use_activation=False))
    assert list(answer) == ["embedding"]
    assert np.array([answer["embedding"]], np.float32).tolist() == raw.tolist()


@pytest.mark.parametrize("prompt", ["", None])
def test_the_older_path_gives_nothing_for_nothing(
    client: httpx2.Client, prompt: str | None
) -> None:
    response = client.post("/api/embeddings", json={"model": "tiny", "prompt": prompt})

    assert response.json() == {"embedding": []}


def test_the_older_path_cuts_nothing(client: httpx2.Client) -> None:
    long = client.post("/api/embeddings", json={"model": "short", "prompt": LONG})
    short = client.post("/api/embeddings", json={"prompt": TEXT, "options": {"num_ctx": 4}})

    assert error(long)["param"] == "input_tokens"
    assert error(short)["param"] == "prompt"
