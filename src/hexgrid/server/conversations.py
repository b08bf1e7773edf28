"""Conversations as input: what of them is taken, and the text that a chat template makes of them."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hexgrid.chat.renderer import Job, TemplateRenderer
from hexgrid.engine.served_model import ServedModel
from hexgrid.errors import ConfigError, RequestError, SchemaError
from hexgrid.model.chat_template import MAX_TEMPLATE_BYTES, ChatTemplate
from hexgrid.server.waiting import in_thread
from hexgrid.text_reader import Check
from hexgrid.wire import ContentPart, Message

# What a request may set for a template are names of its own, none of these.
_RESERVED = frozenset({"messages", "chat_template", "tokenize", "add_generation_prompt", "tools"})


@dataclass(frozen=True, kw_only=True)
class Chat:
    """Conversations of a request, and how it wants them as text.

    Raises:
        RequestError: the options contradict each other.
    """

    conversations: list[list[dict[str, str]]]  # messages: role, content, perhaps name
    add_generation_prompt: bool = False
    continue_final_message: bool = False
    template: str | None = None
    template_kwargs: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.add_generation_prompt and self.continue_final_message:
            raise RequestError(
                "Cannot set both `continue_final_message` and `add_generation_prompt` to True: the one "
                "leaves the final message open, the other begins a new one",
                param="continue_final_message",
            )
        for name in self.template_kwargs or {}:
            if name in _RESERVED:
                raise RequestError(
                    f"chat_template_kwargs cannot set {name!r}: it has a field of its own, or none",
                    param="chat_template_kwargs",
                )

    def __len__(self) -> int:
        return len(self.conversations)

    def contents(self) -> list[str]:
        """What each conversation says, without its template: for the log."""
        return ["\n".join(message["content"] for message in each) for each in self.conversations]


def conversations_of(
    messages: Sequence[Message | list[Message]], field: str
) -> list[list[dict[str, str]]]:
    """A conversation, or several, as the plain data that templates read.

    Raises:
        SchemaError: messages and lists of them are mixed, or one is of the wrong form.
        RequestError: something in them is no text.
    """
    if not messages or not all(messages):
        raise SchemaError(
            f"body.{field}: there is no message in it (too_short)", param=f"body.{field}"
        )
    one = [each for each in messages if isinstance(each, Message)]
    several = [each for each in messages if not isinstance(each, Message)]
    if one and several:
        raise SchemaError(
            f"body.{field}: it must be messages, or lists of messages, but holds both",
            param=f"body.{field}",
        )
    return [[_plain(message, field) for message in each] for each in (several or [one])]


def _plain(message: Message, field: str) -> dict[str, str]:
    if message.tool_calls:
        raise RequestError(f"tool_calls in {field} are not supported: send text", param=field)
    content = message.content
    text = content if isinstance(content, str) else text_of(content or [], field)
    named = {} if message.name is None else {"name": message.name}
    return {"role": message.role, "content": text} | named


def text_of(parts: list[ContentPart], field: str) -> str:
    """The text of a content of several parts, one a line.

    Raises:
        RequestError: a part is something else.
    """
    for part in parts:
        if part.type != "text" or part.text is None:
            raise RequestError(
                f"A part of type '{part.type[:50]}' in {field}: the model reads text only",
                param=field,
            )
    return "\n".join(part.text or "" for part in parts)


class Chats:
    """Makes text of conversations, in a thread that waits for the process that does it."""

    def __init__(self, template: Path | None, *, trust_requests: bool) -> None:
        """Raises:
        ConfigError: the file of the template cannot be used.
        """
        self._own = None if template is None else _read(template)
        self._trust_requests = trust_requests
        self._renderer = TemplateRenderer()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hexgrid-chat")

    async def texts(self, chat: Chat, model: ServedModel) -> list[str]:
        """The text of each conversation.

        Raises:
            RequestError: there is no template that may be used, or it fails.
        """
        template = self._template(chat, model)
        if chat.template is not None:
            template = ChatTemplate(chat.template, template.variables if template else {})
        if template is None:
            raise RequestError(
                f"The model `{model.name}` has no chat template, so that `messages` cannot be made a text. "
                "Send the text as `input`, or start the server with --chat-template",
                param="messages",
            )
        return await in_thread(self._thread, self._render, list(_jobs(chat, template)))

    def close(self) -> None:
        """End the process."""
        self._thread.shutdown()
        self._renderer.close()

    def _template(self, chat: Chat, model: ServedModel) -> ChatTemplate | None:
        if chat.template is not None and not self._trust_requests:
            raise RequestError(
                "Chat template is passed with request, but --trust-request-chat-template is not set. "
                "Refused request with untrusted chat template.",
                param="chat_template",
            )
        if chat.template is not None and len(chat.template.encode()) > MAX_TEMPLATE_BYTES:
            raise RequestError(
                f"chat_template takes at most {MAX_TEMPLATE_BYTES} bytes, got "
                f"{len(chat.template.encode())}",
                param="chat_template",
            )
        if self._own is None:
            return model.chat_template
        return ChatTemplate(self._own, model.chat_template.variables if model.chat_template else {})

    def _render(self, check: Check, jobs: list[Job]) -> list[str]:
        return self._renderer.render(jobs, check)


def _jobs(chat: Chat, template: ChatTemplate) -> Iterator[Job]:
    for messages in chat.conversations:
        variables = {
            **template.variables,
            **(chat.template_kwargs or {}),
            "messages": messages,
            "add_generation_prompt": chat.add_generation_prompt,
        }
        yield Job(template.text, variables, chat.continue_final_message)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TEMPLATE_BYTES + 1)
        if len(data) <= MAX_TEMPLATE_BYTES:
            return data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--chat-template {path} cannot be read: {error}") from error
    raise ConfigError(f"--chat-template {path} has more than {MAX_TEMPLATE_BYTES} bytes")
