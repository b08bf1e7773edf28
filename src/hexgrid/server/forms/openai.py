"""POST /v1/embeddings, and /pooling, which asks the same and is answered under other names."""

from collections.abc import Sequence

import msgspec

from hexgrid.errors import RequestError, SchemaError
from hexgrid.server.answer import EMBEDDING, Names, rendering
from hexgrid.server.conversations import Chat, conversations_of
from hexgrid.server.embedding_call import Cut, EmbeddingCall, Part, Prompt, RequestIds, as_inputs
from hexgrid.server.forms.form import Form
from hexgrid.tokenizer import Inputs
from hexgrid.wire import EmbeddingRequest, Message, PoolingRequest

_PROMPT_FIELDS = ("input_type", "prompt_name", "instruction")
_TASK = "embed"


def parse_embeddings(body: EmbeddingRequest, ids: RequestIds) -> EmbeddingCall:
    """Check what the types could not say, and tell text, ids and conversations apart."""
    _refuse_known_but_unsupported(body)
    if body.task is not msgspec.UNSET and bytes(body.task) in (b'"encode"', b'"score"'):
        raise RequestError(
            "Parameter `task` takes neither encode nor score here: this path always embeds. "
            "(parameter=task)",
            param="task",
        )
    return _parse(body, ids.of("embd", body.request_id))


def parse_pooling(body: PoolingRequest, ids: RequestIds) -> EmbeddingCall:
    """The same, but that there are no `dimensions`, and that a `task` is one."""
    _refuse_known_but_unsupported(body)
    if body.task not in (None, _TASK):
        raise RequestError(
            f"Unsupported task: '{body.task[:50]}' Supported tasks: ['{_TASK}'] (parameter=task)",
            param="task",
        )
    if body.dimensions is not None:
        raise RequestError(
            "dimensions is currently not supported (parameter=dimensions); /v1/embeddings takes it",
            param="dimensions",
        )
    return _parse(body, ids.of("pooling", body.request_id))


def _parse(body: EmbeddingRequest, call_id: str) -> EmbeddingCall:
    inputs = _inputs(body)
    is_chat = isinstance(inputs, Chat)
    if body.embed_dtype in ("int8", "uint8") and body.use_activation is False:
        raise RequestError(
            f"embed_dtype {body.embed_dtype} keeps a vector's direction only, so use_activation false, "
            "which asks for its length too, cannot be honoured",
            param="embed_dtype",
        )
    count = body.truncate_prompt_tokens
    return EmbeddingCall(
        id=call_id,
        model=body.model,
        parts=(
            Part(
                inputs=inputs,
                field="messages" if is_chat else "input",
                prompt=_prompt(body, is_chat=is_chat),
                cut=None if count is None else Cut(count, body.truncation_side or "right"),
            ),
        ),
        add_special_tokens=bool(body.add_special_tokens)
        if is_chat
        else body.add_special_tokens is not False,
        dimensions=body.dimensions,
        packs_bits=body.embed_dtype in ("binary", "ubinary"),
        normalize=body.use_activation is not False,
        priority=body.priority or 0,
        cache_salt=body.cache_salt,
    )


def _inputs(body: EmbeddingRequest) -> Inputs | Chat:
    if body.messages is not None:
        return _chat(body, body.messages, "messages")
    if body.input is None:
        raise SchemaError("body.input: Field required (missing)", param="body.input")
    if isinstance(body.input, list) and _holds_messages(body.input):
        return _chat(body, body.input, "input")
    return as_inputs(body.input)


def _holds_messages(value: Sequence[object]) -> bool:
    """Whether a list begins with a message, or one of its lists does.

    No more is looked at, as there may be a million ids: `as_inputs` and `check_encoded` find mixed ones.
    """
    if value and isinstance(value[0], list):
        firsts = (each[0] for each in value if isinstance(each, list) and each)
        return any(isinstance(first, Message) for first in firsts)
    return bool(value) and isinstance(value[0], Message)


def _chat(body: EmbeddingRequest, messages: Sequence[object], field: str) -> Chat:
    for each in messages:
        for item in each if isinstance(each, list) else [each]:
            if not isinstance(item, Message):
                raise SchemaError(
                    f"body.{field}: messages and something else in one list", param=f"body.{field}"
                )
    return Chat(
        conversations=conversations_of(messages, field),  # type: ignore[arg-type]
        add_generation_prompt=bool(body.add_generation_prompt),
        continue_final_message=bool(body.continue_final_message),
        template=body.chat_template,
        template_kwargs=body.chat_template_kwargs,
    )


def _prompt(body: EmbeddingRequest, *, is_chat: bool) -> Prompt | None:
    """That which `input_type`, `prompt_name` or `instruction` names."""
    asked = {name: value for name in _PROMPT_FIELDS if (value := getattr(body, name)) is not None}
    if not asked:
        return None
    if len(asked) > 1:
        raise RequestError(
            f"Only one of {', '.join(asked)} can be given; each puts a prompt before the input",
            param=next(iter(asked)),
        )
    ((param, value),) = asked.items()
    if is_chat:
        raise RequestError(
            f"{param} puts text before text; a conversation must carry its own prompt", param=param
        )
    if param == "instruction":
        return Prompt(param, instruction=value)
    return Prompt(param, (value,))


def _refuse_known_but_unsupported(body: EmbeddingRequest) -> None:
    """A field that others honour and we would not is an error, so that nobody believes it acted."""
    if body.normalize is not msgspec.UNSET:
        raise RequestError(
            "Parameter `normalize` was removed; use `use_activation` instead. (parameter=normalize)",
            param="normalize",
        )
    for name in ("mm_processor_kwargs", "media_io_kwargs"):
        if getattr(body, name):
            raise RequestError(
                f"{name} must be empty: the model reads text only (parameter={name})", param=name
            )
    if body.padding == "max_length":
        raise RequestError(
            "padding 'max_length' is not supported: nothing is ever padded here. Leave it out "
            "(parameter=padding)",
            param="padding",
        )


EMBEDDINGS = Form(EmbeddingRequest, parse_embeddings, rendering(EMBEDDING))
POOLING = Form(PoolingRequest, parse_pooling, rendering(Names("pooling", "data")))
