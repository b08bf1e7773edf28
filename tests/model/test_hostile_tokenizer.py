"""A tokenizer.json of somebody who wishes us ill: refused by an error of ours, in bounded time."""

import contextlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hexgrid import nano
from hexgrid.errors import CheckpointError
from hexgrid.tokenizer import Tokenizer
from hexgrid.tokenizer_file import MAX_FILE_BYTES
from tests.model.hostile import EXAMPLES, hostile_values

VOCAB_SIZE = 151_669


def open_tokenizer(path: Path) -> Tokenizer:
    return Tokenizer(path, vocab_size=VOCAB_SIZE, max_model_len=32_768)


@cache
def small_tokenizer() -> str:
    """Qwen's, without all that is learnt."""
    document: dict[str, Any] = json.loads(nano.TOKENIZER.read_text())
    document |= {"added_tokens": [], "post_processor": None}
    alphabet = {token: id_ for token, id_ in document["model"]["vocab"].items() if id_ < 256}
    document["model"] |= {"vocab": alphabet, "merges": []}
    return json.dumps(document)


def tokenizer_of(changes: Callable[[dict[str, Any]], object], path: Path) -> None:
    """The small tokenizer, changed."""
    document: dict[str, Any] = json.loads(small_tokenizer())
    changes(document)
    path.write_text(json.dumps(document))


def set_in(*keys: Any) -> Callable[[dict[str, Any]], object]:
    """A change: the last of `keys` is put where those before it lead."""
    *path, last, value = keys

    def change(document: dict[str, Any]) -> None:
        inner: Any = document
        for key in path:
            inner = inner[key]
        inner[last] = value

    return change


TOKENIZERS = {
    "a token of a megabyte": (
        set_in("model", "vocab", "x" * 2**20, 300),
        "longest token has 1048576",
    ),
    "no tokens": (set_in("model", "vocab", {}), "tokenizer"),
    "an id past the table": (set_in("model", "vocab", "xx", 2**31), "knows ids up to"),
    "an id past all ids": (set_in("model", "vocab", "xx", 2**60), "cannot be read as a tokenizer"),
    "a negative id": (set_in("model", "vocab", "xx", -1), "cannot be read as a tokenizer"),
    "merges of nothing": (set_in("model", "merges", [["no", "such"]]), "cannot be read"),
    "merges of another form": (set_in("model", "merges", [[[]]]), "cannot be read"),
    "a broken expression": (
        set_in("pre_tokenizer", "pretokenizers", 0, "pattern", {"Regex": "((("}),
        "cannot be read",
    ),
    "a post-processor that loses the text": (
        set_in(
            "post_processor",
            {"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}},
        ),
        "cannot be read|must be among",
    ),
    "a post-processor of an unknown token": (
        set_in(
            "post_processor",
            {
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "x", "type_id": 0}}],
                "pair": [],
                "special_tokens": {},
            },
        ),
        "cannot be read",
    ),
    "a normaliser that leaves nothing": (
        set_in("normalizer", {"type": "Replace", "pattern": {"Regex": "[\\s\\S]"}, "content": ""}),
        "must be among",
    ),
    "an unknown model": (set_in("model", "type", "Code"), "cannot be read as a tokenizer"),
}


@pytest.mark.parametrize(("change", "message"), TOKENIZERS.values(), ids=TOKENIZERS)
def test_a_false_tokenizer_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    tokenizer_of(change, tmp_path / "tokenizer.json")

    with pytest.raises(CheckpointError, match=message):
        open_tokenizer(tmp_path / "tokenizer.json")


def test_a_tokenizer_that_gives_up_only_at_some_texts_fails_those(tmp_path: Path) -> None:
    """The Rust side then raises what is not even an Exception."""
    tokenizer_of(set_in("normalizer", [""]), tmp_path / "tokenizer.json")
    tokenizer = open_tokenizer(tmp_path / "tokenizer.json")

    with pytest.raises(CheckpointError, match="cannot read a text"):
        tokenizer.encode(["any text"])


def test_the_small_tokenizer_itself_is_taken(tmp_path: Path) -> None:
    tokenizer_of(lambda _: None, tmp_path / "tokenizer.json")

    assert open_tokenizer(tmp_path / "tokenizer.json").encode(["ab"]).num_tokens == 2


def test_a_tokenizer_nested_past_all_reason_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text('{"version":' + "[" * 200_000 + "]" * 200_000 + "}")

    with pytest.raises(CheckpointError, match="cannot be read as a tokenizer"):
        open_tokenizer(path)


def test_a_tokenizer_larger_than_any_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    with path.open("wb") as file:
        file.truncate(10**12)

    with pytest.raises(
        CheckpointError, match=rf"{10**12} bytes; at most {MAX_FILE_BYTES} are read"
    ):
        open_tokenizer(path)


@given(data=st.data())
@EXAMPLES
def test_any_part_of_a_tokenizer_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "tokenizer.json"
    parts = ["truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer"]
    part = data.draw(st.sampled_from([*parts, "post_processor", "decoder", "model", "version"]))
    tokenizer_of(set_in(part, data.draw(hostile_values)), path)
    with contextlib.suppress(CheckpointError):
        open_tokenizer(path).encode(["any text"])
