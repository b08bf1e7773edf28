"""One request and as many tries as it needs: what is sent, what came back, how long to wait. No I/O.

A conversation is a generator: it yields what it wants done, and whoever has a network does it.
"""

import email.utils
import random
import time
from collections.abc import Generator, Mapping
from typing import NamedTuple, TypeVar

from hexgrid.client.failures import error_of
from hexgrid.errors import DeadlineError, HexgridError, UnreachableError

Result = TypeVar("Result")

# Overload, a proxy whose server is away, a server that starts or stops. To embed twice does no harm.
_PASSING = (429, 502, 503, 504)
_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 60.0


class Request(NamedTuple):
    """What is to be sent; a body is JSON."""

    path: str
    body: bytes | None = None


class Reply(NamedTuple):
    """What the server answered; names of headers are lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Wait(NamedTuple):
    """Nothing for so long."""

    seconds: float


# Sent a Reply for a Request, or thrown an UnreachableError or DeadlineError; sent None for a Wait.
Conversation = Generator[Request | Wait, Reply | None, Result]


def exchange(request: Request, *, url: str, max_retries: int) -> Conversation[Reply]:
    """The good answer to `request`, sent again while its failure may pass.

    Raises:
        HexgridError: the last failure.
    """
    failure: HexgridError
    for num_tries in range(max_retries + 1):
        said: float | None = None
        try:
            reply = yield request
            assert reply is not None
        except (UnreachableError, DeadlineError) as error:
            failure = error
        else:
            if reply.status == 200:
                return reply
            failure = error_of(reply.status, reply.headers, reply.content, url)
            if reply.status not in _PASSING or failure.index is not None:
                raise failure
            said = _retry_after(reply.headers)
        if num_tries == max_retries:
            break
        yield Wait(_pause(num_tries, said))
    raise failure


def _pause(num_tries: int, said: float | None) -> float:
    """Seconds: twice as long each time and never less than the server says, shared out by chance."""
    own = min(_FIRST_WAIT_SECONDS * 2.0**num_tries, _LONGEST_WAIT_SECONDS)
    least = own / 2 if said is None else min(said, _LONGEST_WAIT_SECONDS)
    return least + random.random() * own / 2  # noqa: S311, no secret hangs on it


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from now, whether the header has seconds or a date."""
    said = headers.get("retry-after")
    if said is None:
        return None
    if said.isascii() and said.isdigit():
        return float(said)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - time.time())
    except ValueError:
        return None
