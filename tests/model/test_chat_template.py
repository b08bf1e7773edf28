"""Where a checkpoint has its chat template, and what is refused there."""

import json
from pathlib import Path
from typing import Any

import pytest

from hexgrid.errors import CheckpointError
from hexgrid.model.chat_template import MAX_TEMPLATE_BYTES, ChatTemplate, read_chat_template


def config(directory: Path, **content: Any) -> Path:
    (directory / "tokenizer_config.json").write_text(json.dumps(content))
    return directory


def test_none_is_fine(tmp_path: Path) -> None:
    assert read_chat_template(tmp_path) is None
    assert read_chat_template(config(tmp_path, eos_token="x")) is None


def test_tokenizer_config_has_it_and_the_special_tokens(tmp_path: Path) -> None:
    directory = config(
        tmp_path,
        chat_template="a",
        eos_token="<|im_end|>",
        pad_token={"content": "<pad>", "lstrip": False},
        bos_token=None,
        unk_token="x" * 2000,
    )

    found = read_chat_template(directory)

    assert found == ChatTemplate("a", {"eos_token": "<|im_end|>", "pad_token": "<pad>"})


def test_a_file_of_its_own_wins(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("from the file é")

    found = read_chat_template(config(tmp_path, chat_template="a", eos_token="e"))

    assert found == ChatTemplate("from the file é", {"eos_token": "e"})


def test_of_several_the_default_is_taken(tmp_path: Path) -> None:
    several = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]

    assert read_chat_template(config(tmp_path, chat_template=several)) == ChatTemplate("d")
    assert read_chat_template(config(tmp_path, chat_template=several[:1])) is None


@pytest.mark.parametrize("template", [5, {"a": 1}, [{"name": "default", "template": 5}]])
def test_what_is_no_text_is_refused(tmp_path: Path, template: Any) -> None:
    with pytest.raises(CheckpointError, match="must be a text"):
        read_chat_template(config(tmp_path, chat_template=template))


def test_a_large_one_is_refused_wherever_it_is(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="chat_template has more than"):
        read_chat_template(config(tmp_path, chat_template="a" * (MAX_TEMPLATE_BYTES + 1)))
    (tmp_path / "chat_template.jinja").write_text("a" * (MAX_TEMPLATE_BYTES + 1))
    with pytest.raises(CheckpointError, match="more than 131072 bytes"):
        read_chat_template(tmp_path)


def test_a_link_out_of_the_directory_is_refused(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret").write_text("secret")
    (inside / "chat_template.jinja").symlink_to(tmp_path / "secret")

    with pytest.raises(CheckpointError, match="outside of the checkpoint's directory"):
        read_chat_template(inside)
