"""Client: the calls as plain functions, with httpx2 for the network and threads for requests at a time."""

import queue
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Unpack

import httpx2

from hexgrid.client.answers import Embedded
from hexgrid.client.blocking import BlockingCalls
from hexgrid.client.connection import Connection, sending_error
from hexgrid.client.exchange import Conversation, Reply, Request, Result, Wait
from hexgrid.client.job import EmbedJob
from hexgrid.client.options import EmbedOptions, Inputs
from hexgrid.client.peer import Model, list_models
from hexgrid.client.progress import Progress, told
from hexgrid.errors import DeadlineError, HexgridError, UnreachableError


class Client(Connection, BlockingCalls):
    """Vectors from a server; see `Connection` for what it can be told.

    Close it, or use it in a `with` block. Threads may share it.
    """

    def _open(self, tls: ssl.SSLContext) -> None:
        options, sockets = self._http_options(), self._socket_options(tls)
        if self._uds is None:
            self._http = httpx2.Client(**options, **sockets)
        else:
            transport = httpx2.HTTPTransport(uds=self._uds, **sockets)
            self._http = httpx2.Client(transport=transport, **options)

        self._lock = threading.Lock()
        self._num_users, self._is_closed = 0, False

    def close(self) -> None:
        """Close all connections, those that are in use once they are not."""
        with self._lock:
            self._is_closed = True
            if not self._num_users:
                self._http.close()

    def models(self) -> list[Model]:
        """What the server serves to the key."""
        return self._hold(list_models(self._peer), threading.Event())

    def embed_with_usage(
        self, inputs: Inputs, *, progress: Progress = False, **options: Unpack[EmbedOptions]
    ) -> Embedded:
        """`embed`, with how many tokens the inputs took and how many of them were cut."""
        with told(progress) as on_progress:
            job, num_workers = self._job(inputs, options, on_progress)
            if num_workers == 1:
                self._hold(job.worker(), threading.Event())
            else:
                self._work(job, num_workers)
        return job.result()

    def _work(self, job: EmbedJob, num_workers: int) -> None:
        """Several workers in threads, until all are at their end or one has failed.

        Those that wait for an answer then are left to themselves: they end when it comes, and ask no more.
        """
        ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        stopped = threading.Event()

        def work() -> None:
            try:
                self._hold(job.worker(), stopped)
            except BaseException as error:  # noqa: BLE001, raised again by the caller's thread
                ended.put(error)
            else:
                ended.put(None)

        for _ in range(num_workers):
            threading.Thread(target=work, name="hexgrid-client", daemon=True).start()
        try:
            for _ in range(num_workers):
                if (error := ended.get()) is not None:
                    raise error
        finally:
            stopped.set()

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        """No socket is closed while a thread may read from it: its number could soon be another's."""
        with self._lock:
            self._num_users += 1
        try:
            yield
        finally:
            with self._lock:
                self._num_users -= 1
                if self._is_closed and not self._num_users:
                    self._http.close()

    def _hold(self, conversation: Conversation[Result], stopped: threading.Event) -> Result:
        """Do what it asks for, until its end or until `stopped`."""
        with self._in_use():
            return self._held(conversation, stopped)

    def _held(self, conversation: Conversation[Result], stopped: threading.Event) -> Result:
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
                stopped.wait(wanted.seconds)
            if stopped.is_set():
                raise _StoppedError
            if isinstance(wanted, Request):
                try:
                    reply = self._send(wanted)
                except (UnreachableError, DeadlineError) as error:
                    failure = error

    def _send(self, request: Request) -> Reply:
        method = "GET" if request.body is None else "POST"
        try:
            response = self._http.request(
                method, self.base_url + request.path, content=request.body
            )
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise sending_error(error, self.base_url) from error
        return Reply(response.status_code, response.headers, response.content)


class _StoppedError(Exception):
    """Another worker of the same call has failed, and nobody waits for this one."""
