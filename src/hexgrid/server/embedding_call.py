"""What a request to /v1/embeddings asks for: checked as far as the types could not, texts told from ids.

`parse` needs no model; `with_prompt` and `truncation_of` do.
"""

import time
from dataclasses import dataclass

import msgspec

from hexgrid.engine.served_model import ServedModel, instruction_prompt
from hexgrid.errors import RequestError, SchemaError
from hexgrid.tokenizer import Inputs, Truncation
from hexgrid.wire import EmbeddingRequest, Input

MAX_REQUEST_ID_CHARS = 256
MAX_CACHE_SALT_CHARS = 128


@dataclass(frozen=True, kw_only=True)
class EmbeddingCall:
    """A request after parsing; what else is optional depends on the model."""

    request: EmbeddingRequest
    inputs: Inputs
    id: str
    created: int


def parse(request: EmbeddingRequest, *, header_id: str | None, new_id: str) -> EmbeddingCall:
    """Check what the types could not say, and tell one text, texts, ids and lists of ids apart.

    The answer's id is that of the header, else of the body, else `new_id`.

    Raises:
        SchemaError, RequestError: naming the field.
    """
    _refuse_known_but_unsupported(request)
    if request.input is None:
        raise SchemaError("body.input: Field required (missing)", param="body.input")
    request_id = request.request_id
    if request_id is not None and len(request_id) > MAX_REQUEST_ID_CHARS:
        raise RequestError(
            f"request_id takes at most {MAX_REQUEST_ID_CHARS} characters, got {len(request_id)}",
            param="request_id",
        )
    if header_id is not None:
        request_id = header_id
    elif request_id is None:
        request_id = new_id
    if not -(2**63) <= (request.priority or 0) < 2**63:
        raise RequestError(
            f"priority must fit in 64 bits, got {request.priority}", param="priority"
        )
    return EmbeddingCall(
        request=request,
        inputs=_as_inputs(request.input),
        id=f"embd-{request_id}",
        created=int(time.time()),
    )


def _refuse_known_but_unsupported(request: EmbeddingRequest) -> None:
    """A field that others honour and we would not is an error, so that nobody believes it acted."""
    if request.normalize is not msgspec.UNSET:
        raise RequestError(
            "Parameter `normalize` was removed; use `use_activation` instead. (parameter=normalize)",
            param="normalize",
        )
    if request.task is not msgspec.UNSET and bytes(request.task) in (b'"encode"', b'"score"'):
        raise RequestError(
            "Parameter `task` takes neither encode nor score here: this path always embeds. "
            "(parameter=task)",
            param="task",
        )
    if request.messages is not msgspec.UNSET and bytes(request.messages) != b"null":
        raise RequestError(
            "messages is not supported; send the text as `input` (parameter=messages)",
            param="messages",
        )
    if request.mm_processor_kwargs:
        raise RequestError(
            "mm_processor_kwargs must be empty: the model reads text only "
            "(parameter=mm_processor_kwargs)",
            param="mm_processor_kwargs",
        )
    if request.padding == "max_length":
        raise RequestError(
            "padding 'max_length' is not supported: nothing is ever padded here. Leave it out "
            "(parameter=padding)",
            param="padding",
        )
    _check_cache_salt(request.cache_salt)


def with_prompt(inputs: Inputs, request: EmbeddingRequest, model: ServedModel) -> Inputs:
    """The inputs with the prompt in front that `input_type`, `prompt_name` or `instruction` names."""
    asked = {
        name: value
        for name in ("input_type", "prompt_name", "instruction")
        if (value := getattr(request, name)) is not None
    }
    if not asked:
        return inputs
    if len(asked) > 1:
        raise RequestError(
            f"Only one of {', '.join(asked)} can be given; each puts a prompt before the input",
            param=next(iter(asked)),
        )
    ((param, value),) = asked.items()
    prompt = (
        instruction_prompt(value) if param == "instruction" else model.prompt(value, param=param)
    )
    texts = [prompt + text for text in inputs if isinstance(text, str)]
    if len(texts) != len(inputs):
        raise RequestError(
            f"{param} puts text before text; token-ID input must carry its own prompt", param=param
        )
    return texts


def truncation_of(request: EmbeddingRequest, model: ServedModel) -> Truncation | None:
    """What `truncate_prompt_tokens` and `truncation_side` ask for; -1 is the model's maximum."""
    count, most = request.truncate_prompt_tokens, model.max_model_len
    if count is None:
        return None
    if count > most:
        raise RequestError(
            f"truncate_prompt_tokens value ({count}) is greater than max_model_len ({most}). "
            "Please request a smaller truncation size.",
            param="truncate_prompt_tokens",
        )
    if count < -1 or count == 0:
        raise SchemaError(
            "body.truncate_prompt_tokens: expected -1 (the model's maximum) or a number of tokens "
            f"from 1 to {most}, got {count} (greater_than_equal)",
            param="body.truncate_prompt_tokens",
        )
    return Truncation(most if count == -1 else count, request.truncation_side or "right")


def _as_inputs(value: Input) -> Inputs:
    """One list of texts, or one of id lists.

    Raises:
        SchemaError: texts, ids and id lists in one list.
    """
    if isinstance(value, str):
        return [value]
    kinds = {type(item) for item in value}
    if len(kinds) > 1:
        odd = next(i for i, item in enumerate(value) if type(item) is not type(value[0]))
        raise SchemaError(
            f"body.input.{odd}: input must be all texts, all token ids or all lists of token ids, "
            f"but item {odd} is not of the kind of item 0",
            param=f"body.input.{odd}",
        )
    return [value] if kinds == {int} else value  # type: ignore[return-value]


def _check_cache_salt(salt: str | None) -> None:
    if salt is None:
        return
    if not salt:
        raise RequestError(
            "Parameter 'cache_salt' must be a non-empty string if provided. (parameter=cache_salt)",
            param="cache_salt",
        )
    if len(salt) > MAX_CACHE_SALT_CHARS or any(c in salt for c in "@/\\\0"):
        raise RequestError(
            f"Parameter 'cache_salt' must be at most {MAX_CACHE_SALT_CHARS} characters and must not "
            "contain '@', '/', '\\\\', or NUL. (parameter=cache_salt)",
            param="cache_salt",
        )
