"""What a request asks for, field by field: defaults, truncation, ids, prompts, and what is refused."""

import re
from typing import Any

import httpx2
import msgspec
import numpy as np
import pytest

from hexgrid.wire import EmbeddingRequest
from tests.server.conftest import SHORT_MODEL_LEN
from tests.server.running import EOS, TEXT, embed, error, num_tokens, vectors

VOCAB_SIZE = 151_669
TASK = "Given a web search query, retrieve relevant passages that answer the query"
# `normalize` is refused whatever it holds, as in vLLM.
OPTIONAL_FIELDS = {f.name for f in msgspec.structs.fields(EmbeddingRequest)} - {
    "input",
    "normalize",
}


@pytest.mark.parametrize("field", sorted(OPTIONAL_FIELDS))
def test_null_means_the_default(client: httpx2.Client, field: str) -> None:
    assert (
        vectors(embed(client, TEXT, **{field: None})).tolist()
        == vectors(embed(client, TEXT)).tolist()
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"user": "user_123"},
        {"priority": -(2**63)},
        {"priority": 2**63 - 1},
        {"padding": "do_not_pad"},
        {"cache_salt": "tenant-7"},
        {"mm_processor_kwargs": {}},
        {"task": "embed"},
        {"embed_dtype": "float16", "endianness": "big"},  # these act on raw encodings only
        {"truncation_side": "left"},  # acts with truncate_prompt_tokens only
        {"foo": [{"bar": 1}], "temperature": 0.5, "stream": True},
    ],
    ids=str,
)
def test_accepted_fields_change_nothing(client: httpx2.Client, fields: dict[str, Any]) -> None:
    response = embed(client, TEXT, **fields)

    np.testing.assert_allclose(vectors(response), vectors(embed(client, TEXT)), atol=1e-6)


@pytest.mark.parametrize(("side", "first"), [("right", True), (None, True), ("left", False)])
@pytest.mark.parametrize("count", [1, 2, 8])
def test_a_text_is_truncated_to_its_own_tokens_and_the_eos(
    client: httpx2.Client, own_ids: list[int], side: str | None, count: int, *, first: bool
) -> None:
    kept = own_ids[: count - 1] if first else own_ids[len(own_ids) - (count - 1) :]

    response = embed(client, TEXT, truncate_prompt_tokens=count, truncation_side=side)

    assert num_tokens(response) == count
    assert vectors(response).tolist() == vectors(embed(client, [*kept, EOS])).tolist()


def test_without_special_tokens_truncation_keeps_own_tokens_only(
    client: httpx2.Client, own_ids: list[int]
) -> None:
    response = embed(client, TEXT, truncate_prompt_tokens=4, add_special_tokens=False)

    assert vectors(response).tolist() == vectors(embed(client, own_ids[:4])).tolist()


@pytest.mark.parametrize(("side", "kept"), [("right", [1, 2]), (None, [1, 2]), ("left", [3, 4])])
def test_token_ids_are_truncated_by_a_plain_slice(
    client: httpx2.Client, side: str | None, kept: list[int]
) -> None:
    response = embed(client, [1, 2, 3, 4], truncate_prompt_tokens=2, truncation_side=side)

    assert vectors(response).tolist() == vectors(embed(client, kept)).tolist()


@pytest.mark.parametrize("side", ["left", "right"])
def test_minus_one_truncates_to_the_models_maximum(client: httpx2.Client, side: str) -> None:
    response = embed(
        client, TEXT * 50, model="short", truncate_prompt_tokens=-1, truncation_side=side
    )

    assert num_tokens(response) == SHORT_MODEL_LEN


def test_a_header_says_how_many_inputs_were_truncated(client: httpx2.Client) -> None:
    response = embed(client, [[1, 2, 3], [1, 2], [1, 2, 3, 4]], truncate_prompt_tokens=2)

    assert num_tokens(response) == 6
    assert response.headers["x-hexgrid-truncated"] == "2"


def test_no_header_where_nothing_was_truncated(client: httpx2.Client) -> None:
    assert "x-hexgrid-truncated" not in embed(client, [1, 2], truncate_prompt_tokens=2).headers


def test_an_id_is_made_for_each_request(client: httpx2.Client) -> None:
    first, second = (embed(client, TEXT).json()["id"] for _ in range(2))

    assert re.fullmatch("embd-[0-9a-f]{16}", first)
    assert first != second


@pytest.mark.parametrize(
    ("fields", "headers", "expected"),
    [
        ({"request_id": "mine"}, {}, "embd-mine"),
        ({"request_id": ""}, {}, "embd-"),
        ({}, {"X-Request-Id": "theirs"}, "embd-theirs"),
        ({"request_id": "mine"}, {"X-Request-Id": "theirs"}, "embd-theirs"),
    ],
)
def test_a_given_id_is_echoed_the_headers_first(
    client: httpx2.Client, fields: dict[str, str], headers: dict[str, str], expected: str
) -> None:
    response = client.post("/v1/embeddings", json={"input": TEXT} | fields, headers=headers)

    assert response.json()["id"] == expected


@pytest.mark.parametrize(
    ("fields", "prompt"),
    [
        ({"input_type": "query"}, f"Instruct: {TASK}\nQuery:"),
        ({"input_type": "document"}, ""),
        ({"prompt_name": "query"}, f"Instruct: {TASK}\nQuery:"),
        ({"instruction": "Find duplicates"}, "Instruct: Find duplicates\nQuery:"),
    ],
    ids=str,
)
def test_a_prompt_field_equals_sending_the_prefixed_text(
    client: httpx2.Client, fields: dict[str, str], prompt: str
) -> None:
    texts = [TEXT, "", "重力"]
    asked, prefixed = embed(client, texts, **fields), embed(client, [prompt + t for t in texts])

    assert num_tokens(asked) == num_tokens(prefixed)
    # The second time, the prompt comes from the prefix cache, which may change the last bits.
    np.testing.assert_allclose(vectors(asked), vectors(prefixed), rtol=0, atol=2e-6)


# Fields, the param that is named, and what the message says besides.
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"input": []}, "input", "You must pass at least one prompt"),
    ({"input": [[]]}, "input", "The decoder prompt cannot be empty (input 0"),
    ({"input": [[1], []]}, "input", "The decoder prompt cannot be empty (input 1"),
    ({"input": "", "add_special_tokens": False}, "input", "The decoder prompt cannot be empty"),
    ({"input": [-1]}, "input", "Token id -1 is out of vocabulary"),
    ({"input": [VOCAB_SIZE]}, "input", f"Token id {VOCAB_SIZE} is out of vocabulary"),
    ({"input": [[1], [2, 2**40]]}, "input", f"Token id {2**40} is out of vocabulary (input 1)"),
    ({"input": [2**80]}, "input", f"Token id {2**80} is out of vocabulary"),
    ({"input": [[1]] * 2049}, "input", "at most 2048 inputs, got 2049"),
    ({"dimensions": 0}, "dimensions", "range [1, 64], got 0"),
    ({"dimensions": -1}, "dimensions", "range [1, 64], got -1"),
    ({"dimensions": 65}, "dimensions", "range [1, 64], got 65"),
    ({"model": "listed", "dimensions": 64}, "dimensions", "Matryoshka dimensions [16, 32], got 64"),
    ({"model": "listed", "dimensions": 65}, "dimensions", "range [1, 64], got 65"),
    ({"truncate_prompt_tokens": 32_769}, "truncate_prompt_tokens", "(32769) is greater than"),
    ({"truncate_prompt_tokens": 0}, "body.truncate_prompt_tokens", "got 0 (greater_than_equal)"),
    ({"truncate_prompt_tokens": -2}, "body.truncate_prompt_tokens", "got -2 (greater_than_equal)"),
    ({"normalize": True}, "normalize", "Parameter `normalize` was removed; use `use_activation`"),
    ({"normalize": None}, "normalize", "Parameter `normalize` was removed"),
    ({"task": "encode"}, "task", "(parameter=task)"),
    ({"task": "score"}, "task", "(parameter=task)"),
    ({"messages": [{"role": "user", "content": "hi"}]}, "messages", "has no chat template"),
    ({"mm_processor_kwargs": {"a": 1}}, "mm_processor_kwargs", "must be empty"),
    ({"padding": "max_length"}, "padding", "not supported"),
    ({"cache_salt": ""}, "cache_salt", "must be a non-empty string"),
    ({"cache_salt": "a" * 129}, "cache_salt", "at most 128 characters"),
    ({"cache_salt": "a/b"}, "cache_salt", "must not contain '@', '/'"),
    ({"priority": 2**63}, "priority", f"64 bits, got {2**63}"),
    ({"request_id": "a" * 257}, "request_id", "at most 256 characters, got 257"),
    (
        {"prompt_name": "nope"},
        "prompt_name",
        "Unsupported prompt_name 'nope'. Supported values: doc",
    ),
    ({"prompt_name": "query", "instruction": "x"}, "prompt_name", "Only one of"),
    ({"input": [1], "instruction": "x"}, "instruction", "token-ID input must carry its own prompt"),
    ({"input": [[1]], "input_type": "query"}, "input_type", "token-ID input must carry"),
]


@pytest.mark.parametrize(
    ("fields", "param", "message"), REFUSED, ids=[f"{str(f)[:60]}" for f, _, _ in REFUSED]
)
def test_what_cannot_be_honoured_is_refused_by_name(
    client: httpx2.Client, fields: dict[str, Any], param: str, message: str
) -> None:
    detail = error(client.post("/v1/embeddings", json={"input": TEXT} | fields))

    assert detail["code"] == 400
    assert detail["type"] == ("Bad Request" if param.startswith("body.") else "BadRequestError")
    assert detail["param"] == param
    assert message in detail["message"]


def test_a_cut_to_more_than_the_maximum_is_refused_by_the_maximum(client: httpx2.Client) -> None:
    cards = client.get("/v1/models").json()["data"]
    (limit,) = {card["max_model_len"] for card in cards if card["id"] == "tiny"}

    detail = error(embed(client, TEXT, truncate_prompt_tokens=limit + 1))

    assert f"({limit + 1}) is greater than max_model_len ({limit})" in detail["message"]
    assert "Please request a smaller truncation size." in detail["message"]
