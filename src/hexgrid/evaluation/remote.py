"""Vectors of any server that speaks OpenAI's embeddings API, over HTTP.

Asked for in base64 and with `truncate_prompt_tokens: -1`, which hexgrid and vLLM take; a server that refuses
the field is asked without it.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import msgspec
import numpy as np

from hexgrid.embeddings_json import NoEmbeddingsError, read_json
from hexgrid.encoding import Vectors
from hexgrid.errors import ConfigError, RemoteError
from hexgrid.evaluation.run import Answer
from hexgrid.headers import TRUNCATED

_TIMEOUT_SECONDS = 600.0
# Overload is waited out so many times, each time as long as the server says, or else twice as long as before.
_NUM_TRIES = 8
_LONGEST_WAIT_SECONDS = 60.0
_OVERLOADED = (429, 503)
_TRUNCATE = "truncate_prompt_tokens"
_SHOWN_CHARS = 500


class _Card(msgspec.Struct):
    id: str
    owned_by: str = ""


class _Cards(msgspec.Struct):
    data: list[_Card]


class _ErrorDetail(msgspec.Struct):
    message: str


class _ErrorBody(msgspec.Struct):
    error: _ErrorDetail


@contextmanager
def opened_remote(url: str, *, model: str | None, key: str | None) -> Iterator["RemoteModel"]:
    """A model of the server at `url` (which ends in /v1 or the like) while the block runs.

    Raises:
        ConfigError: no `model` is named, and the server does not list exactly one.
        RemoteError: the server cannot be reached, or refuses.
    """
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    with httpx2.Client(headers=headers, timeout=_TIMEOUT_SECONDS) as client:
        yield RemoteModel(client, url.rstrip("/"), model)


class RemoteModel:
    """One model of one server; see `opened_remote`."""

    def __init__(self, client: httpx2.Client, url: str, model: str | None) -> None:
        self.url = url
        self._client = client
        self._options: dict[str, Any] = {"encoding_format": "base64", _TRUNCATE: -1}
        cards = self._list_models()
        self.name = model or self._only(cards)
        # hexgrid says in a header how many inputs it cut, and says nothing when there were none.
        self._says_truncated = any(c.id == self.name and c.owned_by == "hexgrid" for c in cards)

    def embed(self, texts: list[str]) -> Answer:
        """Vectors of at most 256 texts in one request; see `run.Embed`.

        Raises:
            RemoteError: the server refuses, cannot be reached, or answers what is no answer to this.
        """
        response = self._post(texts)
        if _TRUNCATE in self._options and _refuses_truncation(response):
            del self._options[_TRUNCATE]
            response = self._post(texts)
        vectors = self._vectors(self._checked(response), len(texts))
        if not self._says_truncated:
            return Answer(vectors, None)
        return Answer(vectors, int(response.headers.get(TRUNCATED, "0")))

    def _list_models(self) -> list[_Card]:
        """What the server says it serves; nothing where it keeps no list, or none for us."""
        response = self._send("GET", "/models")
        if response.status_code not in (200, 401):
            return []
        try:
            return msgspec.json.decode(self._checked(response).content, type=_Cards).data
        except msgspec.DecodeError:
            return []

    def _only(self, cards: list[_Card]) -> str:
        if len(cards) == 1:
            return cards[0].id
        names = ", ".join(card.id for card in cards[:20]) or "none"
        raise ConfigError(
            f"{self.url} lists {len(cards)} models ({names}); say which with --url-model NAME"
        )

    def _post(self, texts: list[str]) -> httpx2.Response:
        return self._send(
            "POST", "/embeddings", {"model": self.name, "input": texts} | self._options
        )

    def _send(self, method: str, path: str, body: Any = None) -> httpx2.Response:
        """The answer, after as many tries as an overloaded server needs."""
        wait = 1.0
        for tries_left in reversed(range(_NUM_TRIES)):
            try:
                response = self._client.request(method, self.url + path, json=body)
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                raise RemoteError(
                    f"{self.url} cannot be asked: {type(error).__name__}: {error}"
                ) from error
            if response.status_code not in _OVERLOADED or not tries_left:
                break
            time.sleep(_seconds(response, wait))
            wait *= 2
        return response

    def _checked(self, response: httpx2.Response) -> httpx2.Response:
        if response.status_code == 401:
            raise RemoteError(
                f"{self.url} wants another key: set HEXGRID_API_KEY or OPENAI_API_KEY "
                f"({_message(response)})"
            )
        if response.status_code == 404:
            raise RemoteError(
                f"{response.url} is not there, or no such model: {_message(response)}. The URL must be what "
                "/embeddings follows, such as http://127.0.0.1:8000/v1"
            )
        if response.status_code != 200:
            raise RemoteError(f"{self.url} answered {response.status_code}: {_message(response)}")
        return response

    def _vectors(self, response: httpx2.Response, num_texts: int) -> Vectors:
        """The vectors in the order of the texts."""
        try:
            vectors = read_json(response.content, num_texts).vectors
        except NoEmbeddingsError as error:
            raise RemoteError(f"{self.url} answered {error}") from error
        if not np.isfinite(vectors).all():
            raise RemoteError(f"{self.url} answered a vector with NaN or infinity")
        return vectors


def _refuses_truncation(response: httpx2.Response) -> bool:
    return response.status_code in (400, 422) and _TRUNCATE in response.text


def _seconds(response: httpx2.Response, otherwise: float) -> float:
    """How long to wait before the next try."""
    try:
        said = float(response.headers.get("retry-after", otherwise))
    except ValueError:  # a date
        said = otherwise
    return min(max(said, 0.0), _LONGEST_WAIT_SECONDS)


def _message(response: httpx2.Response) -> str:
    """The error's own words, where the body is of OpenAI's form."""
    try:
        text = msgspec.json.decode(response.content, type=_ErrorBody).error.message
    except msgspec.DecodeError:
        text = response.text
    return text[:_SHOWN_CHARS].strip()
