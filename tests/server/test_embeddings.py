"""POST /v1/embeddings: whose vectors come back, in which order, and of which length."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from hexgrid.engine.served_model import ServedModel
from tests.reference import Reference
from tests.server.conftest import SHORT_MODEL_LEN
from tests.server.running import EOS, TEXT, embed, error, num_tokens, vectors

TEXTS = [
    "Beijing",
    "",
    "Die Schwerkraft hält die Planeten auf ihrer Bahn.",
    "重力是吸引两个物体的力。",
    "def cosine(a, b):\n    return a @ b\n",
    "\N{ROCKET} " * 40,
    TEXT * 30,
]


def test_vectors_are_those_of_the_reference(
    client: httpx2.Client, tiny_checkpoint: Path, tiny_model: ServedModel
) -> None:
    ids = [tiny_model.tokenizer.tokenize(text) for text in TEXTS]

    found = vectors(embed(client, TEXTS))

    np.testing.assert_allclose(found, Reference(tiny_checkpoint).embed(ids).numpy(), atol=2e-5)


def test_usage_counts_every_token_and_one_eos_a_text(
    client: httpx2.Client, tiny_model: ServedModel
) -> None:
    own = [tiny_model.tokenizer.tokenize(text, add_special_tokens=False) for text in TEXTS]

    assert num_tokens(embed(client, TEXTS)) == sum(map(len, own)) + len(TEXTS)


@pytest.mark.parametrize("ids", [[9707, 1879], [9707, 1879, EOS]])
def test_token_ids_are_taken_as_they_are(client: httpx2.Client, ids: list[int]) -> None:
    assert num_tokens(embed(client, ids)) == len(ids)


def test_a_text_is_its_ids_and_an_eos(client: httpx2.Client, own_ids: list[int]) -> None:
    as_text, as_ids = embed(client, TEXT), embed(client, [*own_ids, EOS])

    assert vectors(as_text).tolist() == vectors(as_ids).tolist()


def test_without_special_tokens_a_text_has_no_eos(
    client: httpx2.Client, own_ids: list[int]
) -> None:
    response = embed(client, TEXT, add_special_tokens=False)

    assert num_tokens(response) == len(own_ids)
    assert vectors(response).tolist() == vectors(embed(client, own_ids)).tolist()


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1, 0], [3, 3, 0, 6, 3]])
def test_a_batch_gives_each_text_the_vector_it_has_alone(
    client: httpx2.Client, order: list[int]
) -> None:
    alone = np.concatenate([vectors(embed(client, TEXTS[i])) for i in order])

    together = vectors(embed(client, [TEXTS[i] for i in order]))

    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_each_of_many_concurrent_requests_gets_its_own_vectors(
    client: httpx2.Client, callers: ThreadPoolExecutor
) -> None:
    inputs = [
        [[1000 * i + j for j in range(1, 2 + (i + k) % 7)] for k in range(3)] for i in range(64)
    ]
    alone = [vectors(embed(client, each)) for each in inputs]

    together = list(callers.map(lambda each: vectors(embed(client, each)), inputs))

    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_as_many_inputs_as_documented_are_taken(client: httpx2.Client) -> None:
    response = embed(client, [[id_] for id_ in range(2048)], dimensions=1, use_activation=False)

    assert vectors(response).shape == (2048, 1)
    assert [item["index"] for item in response.json()["data"]] == list(range(2048))


def test_vectors_have_length_one_and_the_models_width(client: httpx2.Client) -> None:
    found = vectors(embed(client, TEXTS))

    assert found.shape == (len(TEXTS), 64)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("dimensions", [1, 7, 32, 64])
def test_dimensions_cuts_the_vector_and_renormalises_it(
    client: httpx2.Client, dimensions: int
) -> None:
    cut = vectors(embed(client, TEXT))[:, :dimensions]

    found = vectors(embed(client, TEXT, dimensions=dimensions))

    np.testing.assert_allclose(found, cut / np.linalg.norm(cut), atol=1e-6)


@pytest.mark.parametrize("dimensions", [16, 32, None])
def test_a_model_that_lists_its_dimensions_gives_those(
    client: httpx2.Client, dimensions: int | None
) -> None:
    found = vectors(embed(client, TEXT, model="listed", dimensions=dimensions))

    assert found.shape == (1, dimensions or 64)


def test_without_activation_the_hidden_state_comes_as_it_is(client: httpx2.Client) -> None:
    raw = vectors(embed(client, TEXT, use_activation=False))

    assert np.linalg.norm(raw) > 1.5
    np.testing.assert_allclose(
        raw / np.linalg.norm(raw), vectors(embed(client, TEXT, use_activation=True)), atol=1e-6
    )


def test_without_activation_dimensions_only_cuts(client: httpx2.Client) -> None:
    raw = vectors(embed(client, TEXT, use_activation=False))

    cut = vectors(embed(client, TEXT, use_activation=False, dimensions=10))

    assert cut.tolist() == raw[:, :10].tolist()


@pytest.mark.parametrize(
    ("model", "echoed"),
    [("tiny", "tiny"), ("alias", "tiny"), (None, "tiny"), ("", "tiny"), ("other", "other")],
)
def test_the_model_named_answers_under_its_first_name(
    client: httpx2.Client, model: str | None, echoed: str
) -> None:
    assert embed(client, TEXT, model=model).json()["model"] == echoed


def test_models_side_by_side_give_their_own_vectors(client: httpx2.Client) -> None:
    tiny, alias, other = (vectors(embed(client, TEXT, model=m)) for m in ("tiny", "alias", "other"))

    assert tiny.tolist() == alias.tolist()
    assert np.abs(tiny - other).max() > 0.01


@pytest.mark.parametrize("inputs", ["", [""]])
def test_an_empty_text_is_its_eos(client: httpx2.Client, inputs: object) -> None:
    response = embed(client, inputs)

    assert num_tokens(response) == 1
    assert vectors(response).tolist() == vectors(embed(client, [EOS])).tolist()


def test_texts_that_look_like_numbers_are_texts(client: httpx2.Client) -> None:
    assert num_tokens(embed(client, ["1", "2"])) == 4


@pytest.mark.parametrize("inputs", [[1] * SHORT_MODEL_LEN, " a" * (SHORT_MODEL_LEN - 1)])
def test_exactly_the_maximum_length_is_taken(client: httpx2.Client, inputs: object) -> None:
    assert num_tokens(embed(client, inputs, model="short")) == SHORT_MODEL_LEN


@pytest.mark.parametrize(
    ("long", "found"),
    [
        ([1] * (SHORT_MODEL_LEN + 1), "33 input tokens"),
        ([1] * 3000, "3000 input tokens"),
        (" a" * SHORT_MODEL_LEN, "33 input tokens"),
    ],
    ids=["ids", "many ids", "text"],
)
def test_one_token_more_is_refused_by_limit_count_and_index(
    client: httpx2.Client, long: object, found: str
) -> None:
    good = "fine" if isinstance(long, str) else [1]

    detail = error(embed(client, [good, good, long], model="short"))

    assert (detail["code"], detail["type"], detail["param"]) == (
        400,
        "BadRequestError",
        "input_tokens",
    )
    assert "maximum context length is 32 tokens" in detail["message"]
    assert f"input 2 of your prompt contains {found}" in detail["message"]
    assert "Please reduce the length of the input prompt" in detail["message"]


def test_a_text_far_too_long_is_refused_by_its_characters(client: httpx2.Client) -> None:
    detail = error(embed(client, "a" * 300_000, model="short"))

    assert (detail["code"], detail["param"]) == (400, "input_text")
    assert "maximum context length is 32 tokens" in detail["message"]
    assert "input 0 of your prompt contains 300000 characters" in detail["message"]


@pytest.mark.parametrize(
    "fields",
    [{}, {"truncate_prompt_tokens": 0}, {"dimensions": 0}, {"input": []}, {"input": [-1]}],
    ids=str,
)
def test_an_unknown_model_is_told_before_any_later_fault(
    client: httpx2.Client, fields: dict[str, Any]
) -> None:
    detail = error(client.post("/v1/embeddings", json={"input": TEXT, "model": "nope"} | fields))

    assert (detail["code"], detail["type"], detail["param"]) == (404, "NotFoundError", None)
    assert "The model `nope` does not exist" in detail["message"]


def test_a_wrong_type_is_told_before_an_unknown_model(client: httpx2.Client) -> None:
    assert error(embed(client, 5, model="nope"))["param"] == "body.input"
