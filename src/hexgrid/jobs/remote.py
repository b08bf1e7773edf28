"""A server as the source of a job's vectors: any of OpenAI's embeddings API, through hexgrid's client."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from hexgrid.client.asynchronous import AsyncClient
from hexgrid.jobs.embedding import Embedded
from hexgrid.jobs.source import Origin, Source, Wish

# An overloaded server, or one that starts anew, is waited for about an hour.
_NUM_RETRIES = 60
_CONCURRENCY = 4
_PROBE = "hexgrid"


@contextmanager
def remote_source(url: str, model: str | None, key: str | None, wish: Wish) -> Iterator[Source]:
    """A model of the server at `url` while the block runs; one short text is embedded to see what it gives.

    Raises:
        HexgridError: the server refuses, or cannot be reached.
    """
    fields = {
        name: value for name, value in msgspec.structs.asdict(wish).items() if value is not None
    }
    with _running_loop() as loop:
        client = AsyncClient(
            url, api_key=key, model=model, max_retries=_NUM_RETRIES, concurrency=_CONCURRENCY
        )

        def embed(texts: list[str]) -> Embedded:
            found = asyncio.run_coroutine_threadsafe(
                client.embed_with_usage(texts, **fields), loop
            ).result()
            # Of several texts a server tells the sum.
            each = found.num_tokens if len(texts) == 1 else None
            return Embedded(found.vectors, [each] * len(texts), found.num_tokens)

        async def probe() -> tuple[str, int]:
            found = await client.embed([_PROBE], **fields)
            return model or (await client.models())[0].id, found.shape[1]

        try:
            name, dimensions = asyncio.run_coroutine_threadsafe(probe(), loop).result()
            yield Source(Origin(name, None, None, dimensions), embed, _CONCURRENCY)
        finally:
            asyncio.run_coroutine_threadsafe(client.aclose(), loop).result()


@contextmanager
def _running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="hexgrid-bulk-http", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
