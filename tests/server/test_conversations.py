"""`messages` on /v1/embeddings: the text that the template makes, embedded as it is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from hexgrid.config import ServerConfig
from hexgrid.engine.served_model import ServedModel
from hexgrid.errors import ConfigError
from hexgrid.metrics import Metrics
from hexgrid.model.chat_template import ChatTemplate
from hexgrid.server.app import create_app
from hexgrid.server.registry import Models
from tests.chat.templates import CHATML, HELLO, PUBLISHED
from tests.server.running import embed, error, metric, num_tokens, serving, variant, vectors

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is gravity?"},
    {"role": "assistant", "content": "A force"},
]
TALK_TEXT = (
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is gravity?<|im_end|>\n"
    "<|im_start|>assistant\nA force<|im_end|>\n"
)
OPEN_PROMPT = "<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def chat(tiny_model: ServedModel) -> Iterator[httpx2.Client]:
    """A server whose first model has plain ChatML; others have Qwen's template, a bad one, or none."""
    metrics = Metrics()
    templates = {
        "chatml": ChatTemplate(CHATML),
        "published": ChatTemplate(PUBLISHED["Qwen3-Embedding-4B"], {"eos_token": "<|im_end|>"}),
        "hostile": ChatTemplate("{{ messages.__class__.__mro__ }}"),
        "plain": None,
    }
    models = [
        variant(tiny_model, metrics, name, chat_template=template)
        for name, template in templates.items()
    ]
    with serving(models, metrics) as client:
        yield client


def ask(client: httpx2.Client, messages: Any, **fields: Any) -> httpx2.Response:
    return client.post("/v1/embeddings", json={"messages": messages} | fields)


def test_a_message_is_the_rendered_text_without_an_eos(chat: httpx2.Client) -> None:
    response = ask(chat, HELLO)

    text = "<|im_start|>user\nhello<|im_end|>\n"
    assert num_tokens(response) == 6
    assert (
        vectors(response).tolist() == vectors(embed(chat, text, add_special_tokens=False)).tolist()
    )


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, TALK_TEXT),
        ({"add_generation_prompt": True}, TALK_TEXT + OPEN_PROMPT),
        ({"continue_final_message": True}, TALK_TEXT.removesuffix("<|im_end|>\n")),
    ],
    ids=str,
)
@pytest.mark.parametrize("special", [False, True, None])
def test_the_fields_of_chats_change_the_text_as_the_template_says(
    chat: httpx2.Client, fields: dict[str, bool], text: str, *, special: bool | None
) -> None:
    response = ask(chat, TALK, add_special_tokens=special, **fields)

    expected = embed(chat, text, add_special_tokens=bool(special))
    assert num_tokens(response) == num_tokens(expected)
    assert vectors(response).tolist() == vectors(expected).tolist()


@pytest.mark.parametrize("field", ["messages", "input"])
def test_a_conversation_and_several_come_by_either_field(chat: httpx2.Client, field: str) -> None:
    one = chat.post("/v1/embeddings", json={field: TALK})
    several = chat.post("/v1/embeddings", json={field: [TALK, HELLO]})

    expected = embed(
        chat, [TALK_TEXT, "<|im_start|>user\nhello<|im_end|>\n"], add_special_tokens=False
    )
    assert vectors(several).tolist() == vectors(expected).tolist()
    np.testing.assert_allclose(vectors(one), vectors(expected)[:1], atol=1e-5)
    assert num_tokens(several) == num_tokens(expected)


def test_messages_win_over_input(chat: httpx2.Client) -> None:
    both = chat.post("/v1/embeddings", json={"messages": HELLO, "input": "something else"})

    assert vectors(both).tolist() == vectors(ask(chat, HELLO)).tolist()


def test_parts_of_text_are_lines(chat: httpx2.Client) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]

    response = ask(chat, [{"role": "user", "content": parts}])

    expected = ask(chat, [{"role": "user", "content": "one\ntwo"}])
    assert vectors(response).tolist() == vectors(expected).tolist()


def test_the_template_is_that_of_the_model_which_is_named(chat: httpx2.Client) -> None:
    response = ask(chat, HELLO, model="published")

    text = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nhello<|im_end|>\n"
    )
    assert (
        vectors(response).tolist() == vectors(embed(chat, text, add_special_tokens=False)).tolist()
    )


def test_dimensions_truncation_and_encodings_work_as_with_text(chat: httpx2.Client) -> None:
    fields = {"dimensions": 8, "truncate_prompt_tokens": 4, "truncation_side": "left"}

    response = ask(chat, TALK, **fields)

    expected = embed(chat, TALK_TEXT, add_special_tokens=False, **fields)
    assert vectors(response).tolist() == vectors(expected).tolist()
    assert response.headers["x-hexgrid-truncated"] == "1"
    assert num_tokens(response) == 4


def test_it_is_counted_like_any_other(tiny_model: ServedModel) -> None:
    metrics = Metrics()
    model = variant(tiny_model, metrics, "m", chat_template=ChatTemplate(CHATML))
    with serving([model], metrics) as client:
        vectors(ask(client, [HELLO, HELLO]))

        assert metric(client, "inputs_total") == 2
        assert metric(client, "prompt_tokens_total") == 12


def test_chat_template_kwargs_reach_the_template(tiny_model: ServedModel) -> None:
    metrics = Metrics()
    template = ChatTemplate("{{ messages[0].content }}{{ eos }}{{ extra }}", {"eos": "<|im_end|>"})
    model = variant(tiny_model, metrics, "m", chat_template=template)
    with serving([model], metrics) as client:
        response = ask(client, HELLO, chat_template_kwargs={"extra": " world"})

        expected = embed(client, "hello<|im_end|> world", add_special_tokens=False)
        assert vectors(response).tolist() == vectors(expected).tolist()


IMAGE = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"model": "plain"}, "messages", "has no chat template"),
    ({"model": "hostile"}, "messages", "The chat template fails: SecurityError"),
    (
        {"add_generation_prompt": True, "continue_final_message": True},
        "continue_final_message",
        "Cannot set both `continue_final_message` and `add_generation_prompt` to True",
    ),
    (
        {"chat_template": "{{ messages }}"},
        "chat_template",
        "--trust-request-chat-template is not set",
    ),
    ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs", "cannot set 'messages'"),
    ({"media_io_kwargs": {"a": 1}}, "media_io_kwargs", "must be empty"),
    ({"messages": [{"role": "user", "content": IMAGE}]}, "messages", "the model reads text only"),
    ({"messages": [HELLO[0] | {"tool_calls": [1]}]}, "messages", "tool_calls"),
    ({"input_type": "query"}, "input_type", "a conversation must carry its own prompt"),
    ({"messages": [HELLO] * 2049}, "messages", "at most 2048 inputs, got 2049"),
    ({"messages": [HELLO[0] | {"content": "a b " * 40_000}]}, "input_tokens", "Please reduce"),
]


@pytest.mark.parametrize(
    ("fields", "param", "message"), REFUSED, ids=[str(fields)[:50] for fields, _, _ in REFUSED]
)
def test_what_cannot_be_honoured_is_refused_by_name(
    chat: httpx2.Client, fields: dict[str, Any], param: str, message: str
) -> None:
    detail = error(chat.post("/v1/embeddings", json={"messages": HELLO} | fields))

    assert (detail["code"], detail["param"]) == (400, param)
    assert message in detail["message"]


def test_a_request_may_bring_a_template_where_that_is_allowed(tiny_model: ServedModel) -> None:
    metrics = Metrics()
    models = [variant(tiny_model, metrics, "m", chat_template=None)]
    with serving(models, metrics, trust_request_chat_template=True) as client:
        own = ask(client, HELLO, chat_template="{{ messages[0].content }}")
        large = ask(client, HELLO, chat_template="a" * (2**17 + 1))

        assert num_tokens(own) == 1
        assert "at most 131072 bytes" in error(large)["message"]


def test_the_operators_template_stands_in_place_of_the_checkpoints(
    tiny_model: ServedModel, tmp_path: Path
) -> None:
    file = tmp_path / "template.jinja"
    file.write_text("{{ messages[0].content }}")
    metrics = Metrics()
    models = [
        variant(tiny_model, metrics, "none", chat_template=None),
        variant(tiny_model, metrics, "chatml", chat_template=ChatTemplate(CHATML)),
    ]
    with serving(models, metrics, chat_template=file) as client:
        for name in ("none", "chatml"):
            assert num_tokens(ask(client, HELLO, model=name)) == 1


@pytest.mark.parametrize("content", [None, b"\xff", b"a" * (2**17 + 1)])
def test_a_template_that_cannot_be_read_stops_the_start(
    tiny_model: ServedModel, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "template.jinja"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(ConfigError, match="--chat-template"):
        create_app(Models([tiny_model]), ServerConfig(chat_template=file), Metrics())


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, TALK_TEXT + OPEN_PROMPT),
        ({"add_generation_prompt": False}, TALK_TEXT),
        (
            {"add_generation_prompt": False, "continue_final_message": True},
            TALK_TEXT.removesuffix("<|im_end|>\n"),
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("special", [False, True, None])
def test_tokenize_counts_a_conversation(
    chat: httpx2.Client, fields: dict[str, bool], text: str, *, special: bool | None
) -> None:
    asked = {"messages": TALK, "add_special_tokens": special} | fields

    found = chat.post("/tokenize", json=asked).json()

    expected = {"prompt": text, "add_special_tokens": bool(special)}
    assert found == chat.post("/tokenize", json=expected).json()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "body.prompt"),
        ({"messages": []}, "body.messages"),
        ({"messages": [HELLO]}, "body.messages.0"),
        ({"messages": HELLO, "model": "plain"}, "messages"),
        ({"messages": HELLO, "continue_final_message": True}, "continue_final_message"),
        ({"messages": HELLO, "chat_template": "a"}, "chat_template"),
    ],
    ids=str,
)
def test_tokenize_refuses_what_embedding_refuses(
    chat: httpx2.Client, fields: dict[str, Any], param: str
) -> None:
    assert error(chat.post("/tokenize", json=fields))["param"] == param
