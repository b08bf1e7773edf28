"""What several protocols' requests have in common."""

from typing import Any, Literal

import msgspec

QuantizedDtype = Literal["int8", "uint8", "binary", "ubinary"]
TokenIds = list[int]
Texts = str | list[str]


class Asked(msgspec.Struct, kw_only=True):
    """Fields that every request to embed may have; those that a protocol lacks are ours there."""

    model: str | None = None
    priority: int | None = None
    cache_salt: str | None = None


class ContentPart(msgspec.Struct, kw_only=True):
    """A part of a message; anything but text is refused by its `type`."""

    type: str
    text: str | None = None


class Message(msgspec.Struct, kw_only=True):
    """One message of a conversation."""

    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[Any] | None = None  # refused if there are any
