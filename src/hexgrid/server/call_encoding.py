"""A call's inputs -> the token ids that an engine takes, in the order in which mistakes are told."""

from itertools import chain

from hexgrid.engine.served_model import ServedModel
from hexgrid.errors import RequestError, SchemaError, TooManyInputsError
from hexgrid.server.conversations import Chat
from hexgrid.server.embedding_call import EmbeddingCall, Part, truncation_of, with_prompt
from hexgrid.text_reader import Check
from hexgrid.tokenizer import Encoded

# So few inputs and characters (or ids), prompts included, are encoded sooner than a thread is reached.
_SHORT_INPUTS, _SHORT_CHARS = 4, 512
_BYTE_BITS = 8


def encode(call: EmbeddingCall, model: ServedModel, max_num_inputs: int, check: Check) -> Encoded:
    """The ids of all parts, one after another; blocking. Conversations must be texts by now.

    Raises:
        RequestError: something is too long or too many, no such prompt, or not valid Unicode.
    """
    truncations = [truncation_of(part.cut, model) for part in call.parts]
    _check_count(call, max_num_inputs)
    parts = []
    for part, truncation in zip(call.parts, truncations, strict=True):
        inputs = with_prompt(part, model)
        if not inputs:
            continue
        try:
            encoded = model.tokenizer.encode(
                inputs,
                add_special_tokens=call.add_special_tokens,
                truncation=truncation,
                check=check,
            )
        except RequestError as error:
            raise _of_part(error, part) from None
        if truncation is None and part.max_tokens is not None:
            _check_length(encoded, part, part.max_tokens)
        parts.append(encoded)
    if len(parts) == 1:
        return parts[0]
    return Encoded(
        list(chain.from_iterable(part.token_ids for part in parts)),
        sum(part.num_truncated for part in parts),
    )


def check_encoded(call: EmbeddingCall, model: ServedModel, encoded: Encoded) -> None:
    """Refuse what the model cannot be cut to, and ids that it does not know.

    Raises:
        RequestError: either of them.
    """
    model.check_dimensions(call.dimensions)
    model.check_activation(call.normalize)
    width = call.dimensions or model.embedding_dimension
    if call.packs_bits and width % _BYTE_BITS:
        raise RequestError(
            f"Embedding dimension must be a multiple of 8 for binary embedding types, but got {width}.",
            param="dimensions",
        )
    try:
        model.tokenizer.check_ids(encoded.token_ids)
    except RequestError as error:
        raise _of_part(error, call.parts[0]) from None
    except (
        TypeError
    ):  # ids are compared there; what else the wire lets into their lists is a message
        field = call.parts[0].field
        raise SchemaError(
            f"body.{field}: messages and something else in one list", param=f"body.{field}"
        ) from None


def is_short(call: EmbeddingCall, model: ServedModel) -> bool:
    """Whether encoding a call takes less time than reaching a thread."""
    num_inputs = len(call)
    if num_inputs > _SHORT_INPUTS:
        return False
    num_chars = 0
    for part in call.parts:
        assert not isinstance(part.inputs, Chat)
        num_chars += sum(map(len, part.inputs))
        if part.prompt is not None:
            num_chars += len(part.inputs) * max(
                len(part.prompt.instruction or ""), *map(len, model.prompts.values()), 0
            )
    return num_chars <= _SHORT_CHARS


def _check_count(call: EmbeddingCall, most: int) -> None:
    num_inputs, field = len(call), call.parts[-1].field
    if num_inputs == 0 and not call.may_be_empty:
        raise RequestError(f"You must pass at least one prompt ({field} is empty)", param=field)
    if num_inputs > most:
        raise TooManyInputsError(
            f"A request takes at most {most} inputs, got {num_inputs}. Send them in several requests",
            param=field,
            max_inputs=most,
        )


def _check_length(encoded: Encoded, part: Part, most: int) -> None:
    for index, ids in enumerate(encoded.token_ids):
        if len(ids) > most:
            raise RequestError(
                f"Input of {len(ids)} tokens exceeds max_tokens={most} with truncate=NONE (input {index}). "
                "Set truncate to END or START to allow truncation.",
                param=part.field,
                index=index,
            )


def _of_part(error: RequestError, part: Part) -> RequestError:
    """The same, but that it names the field by which the inputs came."""
    if error.param == "input":
        error.param = part.field
    return error
