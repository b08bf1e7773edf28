"""POST /embed and /similarity: the documented examples of Text Embeddings Inference, and their fields."""

from typing import Any

import httpx2
import numpy as np
import pytest

from hexgrid.encoding import Vectors
from tests.server.conftest import SHORT_MODEL_LEN
from tests.server.running import EOS, TEXT, embed, error, vectors

LONG = TEXT * 50
# https://huggingface.co/docs/text-embeddings-inference/quick_tour
SENTENCES = {
    "source_sentence": "What is Deep Learning?",
    "sentences": ["What is Machine Learning?", "What is Deep Learning?"],
}


def ask(client: httpx2.Client, inputs: Any, **fields: Any) -> httpx2.Response:
    return client.post("/embed", json={"inputs": inputs} | fields)


def found(response: httpx2.Response) -> Vectors:
    assert response.status_code == 200, response.text
    return np.array(response.json(), np.float32)


def similarity(client: httpx2.Client, inputs: Any = SENTENCES, **fields: Any) -> httpx2.Response:
    return client.post("/similarity", json={"inputs": inputs} | fields)


# The examples of its quick tour and of its OpenAPI description.
@pytest.mark.parametrize(
    "inputs",
    [
        "What is Deep Learning?",
        ["Today is a sunny day", "I like you"],
        [9707, 1879, EOS],
        [[9707], [1879, EOS]],
    ],
    ids=str,
)
def test_the_answer_is_the_vectors_and_nothing_else(client: httpx2.Client, inputs: Any) -> None:
    assert found(ask(client, inputs)).tolist() == vectors(embed(client, inputs)).tolist()


@pytest.mark.parametrize(
    ("fields", "of_v1"),
    [
        ({"normalize": True}, {}),
        ({"normalize": False}, {"use_activation": False}),
        ({"dimensions": 16}, {"dimensions": 16}),
        ({"prompt_name": "query"}, {"prompt_name": "query"}),
        ({"prompt_name": None, "truncate": None, "normalize": None}, {}),
        ({"truncate": True}, {}),
    ],
    ids=str,
)
def test_its_fields_are_those_of_v1_under_other_names(
    client: httpx2.Client, fields: dict[str, Any], of_v1: dict[str, Any]
) -> None:
    expected = vectors(embed(client, [TEXT, "a"], **of_v1))

    np.testing.assert_allclose(found(ask(client, [TEXT, "a"], **fields)), expected, atol=2e-6)


@pytest.mark.parametrize(
    ("direction", "side"),
    [(None, "right"), ("Right", "right"), ("right", "right"), ("Left", "left"), ("left", "left")],
)
def test_a_long_text_is_cut_where_that_is_asked_for(
    client: httpx2.Client, direction: str | None, side: str
) -> None:
    response = ask(client, LONG, truncate=True, truncation_direction=direction, model="short")

    cut = embed(client, LONG, truncate_prompt_tokens=-1, truncation_side=side, model="short")
    assert found(response).tolist() == vectors(cut).tolist()
    assert response.headers["x-hexgrid-truncated"] == "1"


@pytest.mark.parametrize(
    ("inputs", "fields", "param", "message"),
    [
        (LONG, {"model": "short"}, "input_tokens", f"{SHORT_MODEL_LEN} tokens"),
        (LONG, {"model": "short", "truncate": False}, "input_tokens", "Please reduce the length"),
        ([], {}, "inputs", "You must pass at least one prompt"),
        ([[]], {}, "inputs", "cannot be empty"),
        (None, {}, "body.inputs", "got null"),
        (["a", 1], {}, "body.inputs.1", "inputs must be all texts"),
        ({"source_sentence": "a"}, {}, "body.inputs", "an object of 1 fields"),
        ("a", {"prompt_name": "nope"}, "prompt_name", "Unsupported prompt_name 'nope'"),
        ("a", {"truncation_direction": "up"}, "body.truncation_direction", "literal_error"),
        ("a", {"dimensions": 0}, "dimensions", "range [1, 64], got 0"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_embedded_is_refused_by_name(
    client: httpx2.Client, inputs: Any, fields: dict[str, Any], param: str, message: str
) -> None:
    detail = error(ask(client, inputs, **fields))

    assert (detail["code"], detail["param"]) == (400, param)
    assert message in detail["message"]


def test_similarities_are_cosines_in_the_order_of_the_sentences(client: httpx2.Client) -> None:
    scores = similarity(client).json()

    source, *others = vectors(
        embed(client, [SENTENCES["source_sentence"], *SENTENCES["sentences"]])
    )
    np.testing.assert_allclose(scores, np.array(others) @ source, atol=1e-6)
    assert scores[1] == pytest.approx(1, abs=1e-6)


def test_its_prompt_stands_before_both_sides(client: httpx2.Client) -> None:
    scores = similarity(client, parameters={"prompt_name": "query"}).json()

    texts = [SENTENCES["source_sentence"], *SENTENCES["sentences"]]
    source, *others = vectors(embed(client, texts, prompt_name="query"))
    np.testing.assert_allclose(scores, np.array(others) @ source, atol=1e-5)


def test_its_sentences_are_cut_where_that_is_asked_for(client: httpx2.Client) -> None:
    inputs = {"source_sentence": LONG, "sentences": ["a", LONG]}
    parameters = {"truncate": True, "truncation_direction": "Left"}

    response = similarity(client, inputs, parameters=parameters, model="short")

    assert response.json()[1] == pytest.approx(1, abs=1e-6)
    assert response.headers["x-hexgrid-truncated"] == "2"


@pytest.mark.parametrize(
    ("inputs", "param", "message"),
    [
        ({"source_sentence": "a", "sentences": []}, "inputs.sentences", "cannot be empty"),
        ({"sentences": ["a"]}, "body.inputs.source_sentence", "missing"),
        ({"source_sentence": "a", "sentences": "b"}, "body.inputs.sentences", "'b'"),
        ("a", "body.inputs", "'a'"),
    ],
)
def test_what_cannot_be_compared_is_refused_by_name(
    client: httpx2.Client, inputs: Any, param: str, message: str
) -> None:
    detail = error(similarity(client, inputs))

    assert (detail["code"], detail["param"]) == (400, param)
    assert message in detail["message"]
