"""What a request to embed asks for, whichever API it came by: one form, and the checks that all share.

server/forms/ makes these from the bodies; nothing here knows those. No model is needed to make one;
`with_prompt` and `truncation_of` need it.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from hexgrid.engine.served_model import ServedModel, instruction_prompt
from hexgrid.errors import RequestError, SchemaError
from hexgrid.server.conversations import Chat
from hexgrid.tokenizer import Inputs, Truncation
from hexgrid.wire import TruncationSide

MAX_REQUEST_ID_CHARS = 256
MAX_CACHE_SALT_CHARS = 128


class Prompt(NamedTuple):
    """What is put before each text: an instruction, or the first of `names` that the checkpoint has."""

    param: str  # the field that asks for it
    names: tuple[str, ...] = ()
    instruction: str | None = None

    def text(self, model: ServedModel) -> str:
        """The prompt itself.

        Raises:
            RequestError: the checkpoint has none of that name.
        """
        if self.instruction is not None:
            return instruction_prompt(self.instruction)
        known = next((name for name in self.names if name in model.prompts), self.names[0])
        return model.prompt(known, param=self.param)


class Cut(NamedTuple):
    """Cut what is longer than `max_tokens`; None or -1 is the model's maximum."""

    max_tokens: int | None = None
    side: TruncationSide = "right"
    param: str = "truncate_prompt_tokens"
    # Whether more than the model takes is the model's maximum, too, and not an error.
    at_most: bool = False


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Inputs that are treated alike: those of one field of the request."""

    inputs: Inputs | Chat
    field: str = "input"  # what errors call it
    prompt: Prompt | None = None
    cut: Cut | None = None
    max_tokens: int | None = None  # where nothing is cut, the most that are taken

    def __len__(self) -> int:
        return len(self.inputs)


class EmbeddingCall(msgspec.Struct, frozen=True, kw_only=True):
    """A request after parsing; what else is optional depends on the model.

    Raises:
        RequestError: `priority` or `cache_salt` is not one.
    """

    id: str
    model: str | None = None
    parts: tuple[Part, ...]
    add_special_tokens: bool = True
    dimensions: int | None = None
    packs_bits: bool = False  # so that the dimensions must divide by 8
    normalize: bool = True
    priority: int = 0
    cache_salt: str | None = None
    may_be_empty: bool = False  # whether no inputs are answered with no vectors
    created: int = msgspec.field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        if not -(2**63) <= self.priority < 2**63:
            raise RequestError(
                f"priority must fit in 64 bits, got {self.priority}", param="priority"
            )
        _check_cache_salt(self.cache_salt)

    def __len__(self) -> int:
        return sum(map(len, self.parts))


class RequestIds(NamedTuple):
    """Where an answer's id comes from: the header, else the body, else one that is made for the request."""

    header: str | None
    new: str

    def of(self, prefix: str, in_body: str | None = None) -> str:
        """The answer's id.

        Raises:
            RequestError: that of the body is too long.
        """
        if in_body is not None and len(in_body) > MAX_REQUEST_ID_CHARS:
            raise RequestError(
                f"request_id takes at most {MAX_REQUEST_ID_CHARS} characters, got {len(in_body)}",
                param="request_id",
            )
        if self.header is not None:
            return f"{prefix}-{self.header}"
        return f"{prefix}-{self.new if in_body is None else in_body}"


def with_prompt(part: Part, model: ServedModel) -> Inputs:
    """The inputs with their prompt in front, where there is one; a conversation must be text by now.

    Raises:
        RequestError: the prompt is none, or there is no text for it to stand before.
    """
    assert not isinstance(part.inputs, Chat)
    if part.prompt is None:
        return part.inputs
    prompt = part.prompt.text(model)
    texts = [prompt + text for text in part.inputs if isinstance(text, str)]
    if len(texts) != len(part.inputs):
        raise RequestError(
            f"{part.prompt.param} puts text before text; token-ID input must carry its own prompt",
            param=part.prompt.param,
        )
    return texts


def truncation_of(cut: Cut | None, model: ServedModel) -> Truncation | None:
    """How far inputs are cut.

    Raises:
        RequestError, SchemaError: the count is not one that the model can be held to.
    """
    if cut is None:
        return None
    count, most = cut.max_tokens, model.max_model_len
    if count is None or count == -1 or (cut.at_most and count > most):
        return Truncation(most, cut.side)
    if count > most:
        raise RequestError(
            f"{cut.param} value ({count}) is greater than max_model_len ({most}). "
            "Please request a smaller truncation size.",
            param=cut.param,
        )
    if count < 1:
        raise SchemaError(
            f"body.{cut.param}: expected -1 (the model's maximum) or a number of tokens "
            f"from 1 to {most}, got {count} (greater_than_equal)",
            param=f"body.{cut.param}",
        )
    return Truncation(count, cut.side)


def as_inputs(value: str | Sequence[object], field: str = "input") -> Inputs:
    """One text, texts, ids or lists of ids, as a list of texts or of id lists.

    Raises:
        SchemaError: they are mixed in one list.
    """
    if isinstance(value, str):
        return [value]
    kinds = {type(item) for item in value}
    if len(kinds) > 1:
        odd = next(i for i, item in enumerate(value) if type(item) is not type(value[0]))
        raise SchemaError(
            f"body.{field}.{odd}: {field} must be all texts, all token ids or all lists of token ids, "
            f"but item {odd} is not of the kind of item 0",
            param=f"body.{field}.{odd}",
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
