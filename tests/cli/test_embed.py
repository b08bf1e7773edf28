"""hexgrid embed: texts from arguments or lines, prompts before them, the API's JSON out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from hexgrid.encoding import Vectors
from hexgrid.engine.served_model import ServedModel
from tests.cli.conftest import Command, one_line
from tests.reference import Reference

TASK = "Given a web search query, retrieve relevant passages that answer the query"
TEXTS = ["Explain gravity", "重力", ""]


@pytest.fixture
def model(tiny_checkpoint: Path) -> tuple[str, ...]:
    """The options that every command here takes."""
    return ("--model", str(tiny_checkpoint), "--dtype", "float32")


def answer(result: Result) -> Any:
    """The JSON of a command that went well."""
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def vectors(result: Result) -> Vectors:
    """The vectors [B, D] in it."""
    return np.array([item["embedding"] for item in answer(result)["data"]], dtype=np.float32)


@pytest.fixture
def expected(tiny_checkpoint: Path, tiny_model: ServedModel) -> Any:
    """What the reference makes of texts."""

    def embed(texts: list[str]) -> Vectors:
        ids = [tiny_model.tokenizer.tokenize(text) for text in texts]
        found: Vectors = Reference(tiny_checkpoint).embed(ids).numpy()
        return found

    return embed


def test_each_argument_is_embedded(command: Command, model: tuple[str, ...], expected: Any) -> None:
    result = command("embed", *TEXTS, *model)

    np.testing.assert_allclose(vectors(result), expected(TEXTS), atol=2e-5)


def test_the_answer_is_that_of_the_api(
    command: Command, tiny_checkpoint: Path, tiny_model: ServedModel
) -> None:
    body = answer(command("embed", *TEXTS, "--model", f"some/name={tiny_checkpoint}"))

    count = sum(len(tiny_model.tokenizer.tokenize(text)) for text in TEXTS)
    assert list(body) == ["id", "object", "created", "model", "data", "usage"]
    assert (body["object"], body["model"]) == ("list", "some/name")
    assert [item["index"] for item in body["data"]] == [0, 1, 2]
    assert [list(item) for item in body["data"]] == [["index", "object", "embedding"]] * 3
    assert body["usage"]["prompt_tokens"] == body["usage"]["total_tokens"] == count
    assert body["usage"]["completion_tokens"] == 0


def test_without_arguments_each_line_of_stdin_is_embedded(
    command: Command, model: tuple[str, ...], expected: Any
) -> None:
    lines = ["one", "two\N{LINE SEPARATOR}is one line", "", "four"]

    result = command("embed", *model, input="\n".join(lines))

    np.testing.assert_allclose(vectors(result), expected(lines), atol=2e-5)


def test_nothing_to_embed_is_a_usage_error(command: Command, model: tuple[str, ...]) -> None:
    result = command("embed", *model, input="")

    assert result.exit_code == 2
    assert "Nothing to embed: give TEXT, or lines on standard input" in result.stderr


@pytest.mark.parametrize(
    ("options", "prompt"),
    [
        (["--query"], f"Instruct: {TASK}\nQuery:"),
        (["--instruction", "Find duplicates"], "Instruct: Find duplicates\nQuery:"),
        (["--query", "--instruction", "Find duplicates"], "Instruct: Find duplicates\nQuery:"),
    ],
)
def test_a_prompt_stands_before_each_text(
    command: Command, model: tuple[str, ...], expected: Any, options: list[str], prompt: str
) -> None:
    result = command("embed", *TEXTS, *model, *options)

    np.testing.assert_allclose(vectors(result), expected([prompt + t for t in TEXTS]), atol=2e-5)


def test_dimensions_cuts_and_renormalises(
    command: Command, model: tuple[str, ...], expected: Any
) -> None:
    cut = expected(TEXTS)[:, :10]

    result = command("embed", *TEXTS, *model, "--dimensions", "10")

    np.testing.assert_allclose(
        vectors(result), cut / np.linalg.norm(cut, axis=1, keepdims=True), atol=2e-5
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dimensions", "65"], "range [1, 64], got 65"),
        (["--max-model-len", "1"], "maximum context length is 1 tokens. However, input 0"),
    ],
)
def test_what_the_model_cannot_do_is_one_line(
    command: Command, model: tuple[str, ...], options: list[str], message: str
) -> None:
    result = command("embed", *TEXTS, *model, *options)

    assert result.exit_code == 1
    assert message in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_settings_come_from_variables_and_flags_beat_them(
    command: Command, model: tuple[str, ...]
) -> None:
    variables = {"HEXGRID_MAX_MODEL_LEN": "1"}

    assert command("embed", *TEXTS, *model, env=variables).exit_code == 1
    assert command("embed", *TEXTS, *model, "--max-model-len", "9", env=variables).exit_code == 0


def test_without_a_model_the_embedded_one_answers(command: Command) -> None:
    result = command("embed", "Explain gravity")

    assert answer(result)["model"] == "hexgrid/nano"
    assert vectors(result).shape == (1, 256)


def test_a_hub_id_that_is_not_here_is_one_line(command: Command) -> None:
    result = command("embed", "text", "--model", "no-such-owner/no-such-model")

    assert result.exit_code == 1
    assert "no-such-owner/no-such-model" in one_line(result)
