"""What a call may ask for, and its inputs: checked as far as no server is needed."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict, cast, get_type_hints

from hexgrid.errors import RequestError
from hexgrid.wire import InputType, TokenIds, TruncationSide

# One text or one list of token ids counts as a list of one.
Inputs = str | Iterable[str] | Sequence[int] | Iterable[Sequence[int]]


class CommonOptions(TypedDict, total=False):
    """Fields of POST /v1/embeddings under their own names (docs/api.md); None is the server's default."""

    model: str | None
    dimensions: int | None
    truncate_prompt_tokens: int | None
    truncation_side: TruncationSide | None
    add_special_tokens: bool | None
    use_activation: bool | None
    priority: int | None
    cache_salt: str | None
    user: str | None


class EmbedOptions(CommonOptions, total=False):
    """With what puts a prompt in front of each text; at most one of the three."""

    input_type: InputType | None
    prompt_name: str | None
    instruction: str | None


def fields_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are given, as fields of a request.

    Raises:
        TypeError: there is no such option.
    """
    known = get_type_hints(EmbedOptions)
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise TypeError(f"{name!r} is no option of a call for embeddings{hint}")
    return {name: value for name, value in options.items() if value is not None}


def as_queries(options: CommonOptions, instruction: str | None) -> EmbedOptions:
    """With what makes inputs queries: the instruction, or else the checkpoint's own prompt for them."""
    prompt = {"input_type": "query"} if instruction is None else {"instruction": instruction}
    return cast("EmbedOptions", {**options, **prompt})


def as_documents(options: CommonOptions) -> EmbedOptions:
    """With the checkpoint's own prompt for documents."""
    return cast("EmbedOptions", {**options, "input_type": "document"})


def input_list(inputs: Inputs) -> list[str] | list[TokenIds]:
    """`inputs` as a list of texts, or of lists of token ids.

    Raises:
        RequestError: an input is neither, or not of the kind of the first one.
    """
    if isinstance(inputs, str):
        return [inputs]
    found = [_plain(each) for each in inputs]
    if found and all(type(each) is int for each in found):
        return [cast("TokenIds", found)]
    kind = type(found[0]) if found else str
    for index, each in enumerate(found):
        if type(each) is not kind or kind not in (str, list):
            raise RequestError(
                f"Inputs must be all texts or all lists of token ids, but input {index} is of type "
                f"{type(each).__name__}",
                param="input",
                index=index,
            )
    return cast("list[str] | list[TokenIds]", found)


def _plain(value: Any) -> Any:
    """Texts, lists and ints of Python for what arrays and their like hold."""
    if type(value) is str:
        return value
    if isinstance(value, str):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value
