"""AsyncClient: the calls as coroutines of asyncio, with httpx2 for the network."""

import asyncio
import ssl
from collections.abc import Sequence
from types import TracebackType
from typing import Self, Unpack

import httpx2

from hexgrid.client.answers import Embedded
from hexgrid.client.connection import Connection, sending_error
from hexgrid.client.exchange import Conversation, Reply, Request, Result, Wait
from hexgrid.client.options import CommonOptions, EmbedOptions, Inputs, as_documents, as_queries
from hexgrid.client.peer import Model, list_models
from hexgrid.client.progress import Progress, told
from hexgrid.client.ranking import Match, cosines, is_vectors, ranked
from hexgrid.encoding import Vectors
from hexgrid.errors import DeadlineError, HexgridError, UnreachableError


class AsyncClient(Connection):
    """Vectors from a server, for asyncio; see `Connection` for what it can be told.

    Close it with `aclose`, or use it in `async with`. A call that is cancelled gives up its requests. All
    calls raise a HexgridError; `index` on it is the input at fault, where one is.
    """

    def _open(self, tls: ssl.SSLContext) -> None:
        options, sockets = self._http_options(), self._socket_options(tls)
        if self._uds is None:
            self._http = httpx2.AsyncClient(**options, **sockets)
        else:
            transport = httpx2.AsyncHTTPTransport(uds=self._uds, **sockets)
            self._http = httpx2.AsyncClient(transport=transport, **options)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def models(self) -> list[Model]:
        """What the server serves to the key."""
        return await self._hold(list_models(self._peer))

    async def embed(
        self, inputs: Inputs, *, progress: Progress = False, **options: Unpack[EmbedOptions]
    ) -> Vectors:
        """The vectors [N, D] of texts or lists of token ids, in their order, as float32."""
        found = await self.embed_with_usage(inputs, progress=progress, **options)
        return found.vectors

    async def embed_with_usage(
        self, inputs: Inputs, *, progress: Progress = False, **options: Unpack[EmbedOptions]
    ) -> Embedded:
        """The same with how many tokens they took and how many of them were cut."""
        with told(progress) as on_progress:
            job, num_workers = self._job(inputs, options, on_progress)
            workers = [asyncio.create_task(self._hold(job.worker())) for _ in range(num_workers)]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
        return job.result()

    async def embed_queries(
        self,
        queries: Inputs,
        *,
        instruction: str | None = None,
        progress: Progress = False,
        **options: Unpack[CommonOptions],
    ) -> Vectors:
        """Vectors [N, D] of questions, behind the instruction or else the checkpoint's prompt for them."""
        return await self.embed(queries, progress=progress, **as_queries(options, instruction))

    async def embed_documents(
        self, documents: Inputs, *, progress: Progress = False, **options: Unpack[CommonOptions]
    ) -> Vectors:
        """Vectors [N, D] of what questions are asked about, behind the checkpoint's prompt for it."""
        return await self.embed(documents, progress=progress, **as_documents(options))

    async def rank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        top: int | None = None,
        instruction: str | None = None,
        **options: Unpack[CommonOptions],
    ) -> list[Match]:
        """The documents, nearest to `query` first; only the `top` nearest where that is given."""
        asked, found = await asyncio.gather(
            self.embed_queries(query, instruction=instruction, **options),
            self.embed_documents(documents, **options),
        )
        return ranked(asked, found, documents, top)

    async def similarity(
        self, left: Inputs | Vectors, right: Inputs | Vectors, **options: Unpack[EmbedOptions]
    ) -> Vectors:
        """Cosines [N, M] of inputs, or vectors that you have, with others."""
        one, other = [
            side if is_vectors(side) else await self.embed(side, **options)
            for side in (left, right)
        ]
        return cosines(one, other)

    async def _hold(self, conversation: Conversation[Result]) -> Result:
        """Do what it asks for, until its end."""
        reply: Reply | None = None
        failure: HexgridError | None = None
        while True:
            try:
                wanted = conversation.throw(failure) if failure else conversation.send(reply)
            except StopIteration as end:
                result: Result = end.value
                return result
            reply = failure = None
            if isinstance(wanted, Wait):
                await asyncio.sleep(wanted.seconds)
            else:
                try:
                    reply = await self._send(wanted)
                except (UnreachableError, DeadlineError) as error:
                    failure = error

    async def _send(self, request: Request) -> Reply:
        method = "GET" if request.body is None else "POST"
        try:
            response = await self._http.request(
                method, self.base_url + request.path, content=request.body
            )
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise sending_error(error, self.base_url) from error
        return Reply(response.status_code, response.headers, response.content)
