"""Vectors of any server that speaks OpenAI's embeddings API, by hexgrid's own client.

Asked for with `truncate_prompt_tokens: -1`, which hexgrid and vLLM take; a server that refuses the field is
asked without it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from hexgrid.client.options import EmbedOptions
from hexgrid.client.peer import Model
from hexgrid.client.synchronous import Client
from hexgrid.errors import (
    ConfigError,
    DeadlineError,
    HexgridError,
    RateLimitedError,
    RequestError,
    UnauthorizedError,
    UnreachableError,
)
from hexgrid.evaluation.run import Answer

# An evaluation of hours outlasts an overload, and a server that starts anew.
_MAX_RETRIES = 7


@contextmanager
def opened_remote(url: str, *, model: str | None, key: str | None) -> Iterator["RemoteModel"]:
    """A model of a server while the block runs; `url` is a bare address, or ends in /v1 or the like.

    Raises:
        ConfigError: no `model` is named, and the server does not list exactly one.
        HexgridError: the server cannot be reached, or refuses.
    """
    # Asked once: a server that is not there should be told at once.
    with Client(url, api_key=key or "", max_retries=0) as client:
        cards = _listed(client)
        name = model or _only(cards, client.base_url)
    # hexgrid says in a header how many inputs it cut, and says nothing when there were none.
    says_truncated = any(card.id == name and card.owned_by == "hexgrid" for card in cards)
    with Client(url, api_key=key or "", model=name, max_retries=_MAX_RETRIES) as client:
        yield RemoteModel(client, name, says_truncated=says_truncated)


class RemoteModel:
    """One model of one server; see `opened_remote`."""

    def __init__(self, client: Client, name: str, *, says_truncated: bool) -> None:
        self.url = client.base_url
        self.name = name
        self._client = client
        self._says_truncated = says_truncated
        self._options: EmbedOptions = {"truncate_prompt_tokens": -1}

    def embed(self, texts: list[str]) -> Answer:
        """Vectors of at most 256 texts; see `run.Embed`.

        Raises:
            HexgridError: the server refuses, cannot be reached, or answers what is no answer to this.
        """
        try:
            found = self._client.embed_with_usage(texts, **self._options)
        except RequestError as error:
            if not self._options or "truncate_prompt_tokens" not in error.message:
                raise
            self._options = {}
            found = self._client.embed_with_usage(texts)
        return Answer(found.vectors, found.num_truncated if self._says_truncated else None)


def _listed(client: Client) -> list[Model]:
    """What the server says it serves; nothing where it keeps no list, or none for us."""
    try:
        return client.models()
    except UnauthorizedError as error:
        message = f"{error.message} (set HEXGRID_API_KEY or OPENAI_API_KEY)"
        raise UnauthorizedError(message) from None
    except (UnreachableError, DeadlineError, RateLimitedError):
        raise
    except HexgridError:
        return []


def _only(cards: list[Model], url: str) -> str:
    if len(cards) == 1:
        return cards[0].id
    names = ", ".join(card.id for card in cards[:20]) or "none"
    raise ConfigError(f"{url} lists {len(cards)} models ({names}); say which with --url-model NAME")
