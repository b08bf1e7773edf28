"""/tokenize and /detokenize: ids, pieces and counts, and the way back."""

import httpx2
import pytest

from tests.server.running import error

EOS = 151_643


def test_a_text_is_told_as_ids_with_the_eos(client: httpx2.Client) -> None:
    body = client.post("/tokenize", json={"prompt": "Hello world"}).json()

    assert list(body.items()) == [
        ("count", 3),
        ("max_model_len", 32_768),
        ("tokens", [9707, 1879, EOS]),
        ("token_strs", None),
    ]


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({"add_special_tokens": False}, [9707, 1879]),
        ({"add_special_tokens": True}, [9707, 1879, EOS]),
        ({"add_special_tokens": None, "model": None, "return_token_strs": None}, [9707, 1879, EOS]),
    ],
)
def test_the_eos_can_be_left_out(
    client: httpx2.Client, fields: dict[str, object], tokens: list[int]
) -> None:
    body = client.post("/tokenize", json={"prompt": "Hello world"} | fields).json()

    assert (body["tokens"], body["count"]) == (tokens, len(tokens))


def test_pieces_come_where_asked_for(client: httpx2.Client) -> None:
    body = client.post(
        "/tokenize", json={"prompt": "Hello world", "return_token_strs": True}
    ).json()

    assert body["token_strs"] == [
        "Hello",
        "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}world",
        "<|endoftext|>",
    ]


def test_a_text_of_any_length_is_counted(client: httpx2.Client) -> None:
    body = client.post("/tokenize", json={"prompt": " a" * 1000, "model": "short"}).json()

    assert (body["count"], body["max_model_len"]) == (1001, 32)


@pytest.mark.parametrize("text", ["Hello world", "", "重力\N{ROCKET}\n", "<|im_start|>user"])
def test_detokenize_gives_the_text_back_with_its_eos(client: httpx2.Client, text: str) -> None:
    tokens = client.post("/tokenize", json={"prompt": text}).json()["tokens"]

    assert client.post("/detokenize", json={"tokens": tokens}).json() == {
        "prompt": f"{text}<|endoftext|>"
    }


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ([], ""),
        ([9707, 200_000], "Hello"),
        ([9707, 2**32 - 1], "Hello"),
        ([11162], " \N{REPLACEMENT CHARACTER}"),
    ],
    ids=["nothing", "an unknown id", "the largest id", "half a character"],
)
def test_detokenize_takes_any_ids(client: httpx2.Client, tokens: list[int], text: str) -> None:
    assert client.post("/detokenize", json={"tokens": tokens}).json() == {"prompt": text}


@pytest.mark.parametrize("wrong", [-1, 2**32, 2**40, 2**80])
def test_what_can_be_no_id_is_refused_by_its_place(client: httpx2.Client, wrong: int) -> None:
    detail = error(client.post("/detokenize", json={"tokens": [1, wrong]}))

    assert (detail["code"], detail["type"], detail["param"]) == (400, "BadRequestError", "tokens")
    assert f"tokens[1] must be from 0 to {2**32 - 1}, got {wrong}" in detail["message"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "body.prompt"),
        ("/tokenize", {"prompt": ["a"]}, "body.prompt"),
        ("/tokenize", {"prompt": "a", "add_special_tokens": 1}, "body.add_special_tokens"),
        ("/detokenize", {}, "body.tokens"),
        ("/detokenize", {"tokens": "a"}, "body.tokens"),
        ("/detokenize", {"tokens": [1, "2"]}, "body.tokens.1"),
    ],
)
def test_a_wrong_field_is_refused_by_name(
    client: httpx2.Client, path: str, body: dict[str, object], param: str
) -> None:
    detail = error(client.post(path, json=body))

    assert (detail["code"], detail["type"], detail["param"]) == (400, "Bad Request", param)


@pytest.mark.parametrize(("path", "field"), [("/tokenize", "prompt"), ("/detokenize", "tokens")])
def test_an_unknown_model_is_a_404(client: httpx2.Client, path: str, field: str) -> None:
    value = "a" if field == "prompt" else [1]

    detail = error(client.post(path, json={field: value, "model": "nope"}))

    assert (detail["code"], detail["type"]) == (404, "NotFoundError")
