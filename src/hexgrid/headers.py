"""Headers: names of our own, which the server writes and the client reads, and how a request's is found."""

from collections.abc import Iterable

# Of an answer with vectors: tokens that the model read, as in `usage`, and how many inputs were cut, if any.
PROMPT_TOKENS = "x-hexgrid-prompt-tokens"
TRUNCATED = "x-hexgrid-truncated"
# Of an answer whose vectors may not be what the client wanted: why.
WARNING = "x-hexgrid-warning"
# Of an error: the one input of the request that is at fault.
INDEX = "x-hexgrid-index"
# Of a refusal because of the inputs' number, or of all their tokens: what one request may have of them.
MAX_INPUTS = "x-hexgrid-max-inputs"
MAX_TOKENS = "x-hexgrid-max-tokens"


def header_of(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """The first of that name (in lower case), where there is one, of those of an ASGI scope."""
    for each, value in headers:
        if each == name:
            return value
    return None
