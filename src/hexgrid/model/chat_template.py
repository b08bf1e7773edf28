"""A checkpoint's chat template: where it may be, and what it may see. hexgrid.chat runs it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hexgrid.errors import CheckpointError
from hexgrid.model.checkpoint_files import file_in, read_json_object, read_text

MAX_TEMPLATE_BYTES = 2**17  # the published ones have 2,000 to 5,000
_FILE = "chat_template.jinja"
_CONFIG = "tokenizer_config.json"
_DEFAULT = "default"
_MAX_TOKEN_CHARS = 1024
_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token")


@dataclass(frozen=True)
class ChatTemplate:
    """A jinja2 template, and the special tokens that it may name."""

    text: str
    variables: dict[str, str] = field(default_factory=dict)


def read_chat_template(directory: Path) -> ChatTemplate | None:
    """That of chat_template.jinja, else of tokenizer_config.json, as transformers has it; None without one.

    Raises:
        CheckpointError: it is too large, or no text.
    """
    path = file_in(directory, _CONFIG)
    config = read_json_object(directory, _CONFIG) if path.exists() else {}
    if file_in(directory, _FILE).exists():
        text: Any = read_text(directory, _FILE, MAX_TEMPLATE_BYTES)
    else:
        text = config.get("chat_template")
    if isinstance(text, list):  # several, by name
        named = [each for each in text if isinstance(each, dict)]
        text = next((each.get("template") for each in named if each.get("name") == _DEFAULT), None)
    if text is None:
        return None
    if not isinstance(text, str):
        raise CheckpointError(f"{path}: chat_template must be a text, or a list of named ones")
    if len(text.encode(errors="replace")) > MAX_TEMPLATE_BYTES:
        raise CheckpointError(
            f"{path}: chat_template has more than {MAX_TEMPLATE_BYTES} bytes, the most that are taken"
        )
    return ChatTemplate(text, _special_tokens(config))


def _special_tokens(config: dict[str, Any]) -> dict[str, str]:
    found = {}
    for name in _TOKENS:
        token = config.get(name)
        if isinstance(token, dict):  # with its options
            token = token.get("content")
        if isinstance(token, str) and len(token) <= _MAX_TOKEN_CHARS:
            found[name] = token
    return found
