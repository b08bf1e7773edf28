"""Texts that are no Unicode: a lone surrogate can stand in a str, but not be sent or tokenized."""

from collections.abc import Iterable

from hexgrid.errors import RequestError


def error_of_surrogates(inputs: Iterable[object]) -> RequestError | None:
    """What is wrong about the first text that holds a lone surrogate; None where none does."""
    for index, text in enumerate(inputs):
        if isinstance(text, str) and not _is_unicode(text):
            return RequestError(
                f"Input {index} holds a lone surrogate, which is no valid Unicode text",
                param="input",
                index=index,
            )
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
