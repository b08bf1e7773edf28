"""What is put under load: a model of this process, or a server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import httpx2
import msgspec

from hexgrid.benchmark.load import Ask
from hexgrid.engine.served_model import ServedModel
from hexgrid.errors import RemoteError
from hexgrid.model import pooling

_TIMEOUT_SECONDS = 600.0
_SHOWN_CHARS = 200


class _Usage(msgspec.Struct):
    prompt_tokens: int


class _Embeddings(msgspec.Struct):
    data: list[msgspec.Raw]  # the server's work is measured, not ours on its vectors
    usage: _Usage


class Server(NamedTuple):
    """A model of a server at `url`, which /embeddings follows."""

    url: str
    model: str
    key: str | None
    encoding_format: str


def in_process(model: ServedModel) -> Ask:
    """Every hop of a request but HTTP."""

    async def ask(texts: list[str]) -> int:
        encoded = await asyncio.to_thread(model.tokenizer.encode, texts)
        hidden = await asyncio.wrap_future(model.engine.submit(encoded.token_ids))
        pooling.finish(hidden, dimensions=None, normalize=True)
        return encoded.num_tokens

    return ask


@asynccontextmanager
async def over_http(server: Server) -> AsyncIterator[Ask]:
    """Requests to `server`, on as many connections as there are callers."""
    headers = {} if server.key is None else {"authorization": f"Bearer {server.key}"}
    limits = httpx2.Limits(max_connections=None)
    url = server.url.rstrip("/") + "/embeddings"
    async with httpx2.AsyncClient(
        headers=headers, timeout=_TIMEOUT_SECONDS, limits=limits
    ) as client:

        async def ask(texts: list[str]) -> int:
            body = {
                "model": server.model,
                "input": texts,
                "encoding_format": server.encoding_format,
            }
            try:
                response = await client.post(url, json=body)
            except httpx2.HTTPError as error:
                raise RemoteError(f"{type(error).__name__}: {error}") from error
            if response.status_code != 200:
                raise RemoteError(f"{response.status_code}: {response.text[:_SHOWN_CHARS]}")
            return _num_tokens(response.content, len(texts))

        yield ask


def _num_tokens(content: bytes, num_texts: int) -> int:
    try:
        answer = msgspec.json.decode(content, type=_Embeddings)
    except msgspec.DecodeError as error:
        raise RemoteError(f"no embeddings response: {error}") from error
    if len(answer.data) != num_texts:
        raise RemoteError(f"{len(answer.data)} vectors to {num_texts} texts")
    return answer.usage.prompt_tokens
