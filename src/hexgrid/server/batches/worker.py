"""Works off batches: those of different keys side by side, those of one key one after another."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from starlette.types import ASGIApp

from hexgrid.errors import HexgridError
from hexgrid.server.auth import Client, Keys
from hexgrid.server.batches.lines import BatchLine, Outcome, run_line
from hexgrid.server.batches.objects import Batch
from hexgrid.server.batches.run import BatchRun
from hexgrid.server.batches.store import BatchStore

_UPKEEP_SECONDS = 600.0
_RETRY_SECONDS = 5.0

Result = TypeVar("Result")
_logger = logging.getLogger(__name__)


class BatchWorker:
    """Runs in the server's event loop from `start` to `stop`."""

    def __init__(
        self, store: BatchStore, keys: Keys, *, max_requests: int, concurrency: int
    ) -> None:
        """`max_requests` of a batch, `concurrency` of all that are asked at a time."""
        self._store = store
        self._app: ASGIApp | None = None
        self._keys = keys
        self.max_requests = max_requests
        self.in_flight = concurrency
        self._free = asyncio.Semaphore(concurrency)
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="hexgrid-batches")
        self._owners: dict[str, asyncio.Task[None]] = {}
        self._running: dict[str, Batch] = {}
        self._upkeep: asyncio.Task[None] | None = None

    def start(self, app: ASGIApp) -> None:
        """Go on with what is unfinished, by asking `app`, and keep house from now on."""
        self._app = app
        self._upkeep = asyncio.create_task(self._keep_house())

    async def stop(self) -> None:
        """Leave batches as they are; the next process goes on."""
        tasks = [*self._owners.values(), *([] if self._upkeep is None else [self._upkeep])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown()

    async def call(self, function: Callable[..., Result], *arguments: object) -> Result:
        """A blocking call of the store, in the one thread that makes them."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, function, *arguments)

    def wake(self, owner: str) -> None:
        """An owner has a new batch."""
        task = self._owners.get(owner)
        if task is None or task.done():
            self._owners[owner] = asyncio.create_task(self._work_for(owner))

    def current(self, batch: Batch) -> Batch:
        """The same with counts up to now."""
        return self._running.get(batch.id, batch)

    async def cancel(self, owner: str, batch: Batch) -> Batch:
        """Begin to cancel; what is done is kept."""
        batch = self.current(batch)
        if batch.status in ("validating", "in_progress"):
            batch.turn("cancelling")
            await self.call(self._store.update, batch)
            running = self._running.get(batch.id)
            if running is not None and running.status in ("validating", "in_progress"):
                # It was begun at this moment, by what was read before.
                running.turn("cancelling")
                await self.call(self._store.update, running)
            self.wake(owner)
        return batch

    async def _keep_house(self) -> None:
        while True:
            try:
                await self.call(self._store.remove_expired)
                for _, owner, _ in await self.call(self._store.unfinished):
                    self.wake(owner)
            except HexgridError as error:
                _logger.error("Batches cannot be looked after: %s", error.message)  # noqa: TRY400
            await asyncio.sleep(_UPKEEP_SECONDS)

    async def _work_for(self, owner: str) -> None:
        """One batch of an owner after another, until none is left."""
        while True:
            unfinished = await self.call(self._store.unfinished)
            mine = [(batch, work) for batch, its, work in unfinished if its == owner]
            if not mine:
                return
            batch, work = mine[0]
            self._running[batch.id] = batch
            try:
                await BatchRun(self, self._store, owner, batch, work).finish()
            except (HexgridError, OSError) as error:
                _logger.error("The batch %s waits: %s", batch.id, error)  # noqa: TRY400
                await asyncio.sleep(_RETRY_SECONDS)
            finally:
                self._running.pop(batch.id, None)

    async def answer(self, line: BatchLine, owner: str) -> Outcome:
        """One line in the name of the owner, when it is its turn."""
        assert self._app is not None, "batches are worked off once the server runs"

        def client_now() -> Client:
            return self._keys.named(owner)

        async with self._free:
            return await run_line(line, self._app, client_now)
