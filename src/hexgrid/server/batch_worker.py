"""Works off batches: validates, answers line after line, finishes; goes on where a process died.

A line's outcome is appended to the results before it counts. After a crash the ids in the results tell which
lines are done, so that each is answered there once. Batches of different keys run side by side, those of one
key one after another.
"""

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec
from starlette.types import ASGIApp

from hexgrid.errors import HexgridError, OverloadedError, SchemaError, UnauthorizedError
from hexgrid.server.auth import Client, Keys
from hexgrid.server.batch_lines import BatchLine, Outcome, expired, parse_line, run_line
from hexgrid.server.batch_objects import Batch, BatchError, BatchErrors, Status
from hexgrid.server.batch_store import BatchStore, Work, append, repaired

_MOST_ERRORS_TOLD = 10
_UPKEEP_SECONDS = 600.0
_RETRY_SECONDS = 5.0

Result = TypeVar("Result")
_logger = logging.getLogger(__name__)


class _Id(msgspec.Struct):
    custom_id: str


class BatchWorker:
    """Runs in the server's event loop from `start` to `stop`."""

    def __init__(
        self, store: BatchStore, keys: Keys, *, max_requests: int, concurrency: int
    ) -> None:
        """`max_requests` of a batch, `concurrency` of all that are asked at a time."""
        self._store = store
        self._app: ASGIApp | None = None
        self._keys = keys
        self._max_requests = max_requests
        self._in_flight = concurrency
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
            _turn(batch, "cancelling")
            await self.call(self._store.update, batch)
            running = self._running.get(batch.id)
            if running is not None and running.status in ("validating", "in_progress"):
                # It was begun at this moment, by what was read before.
                _turn(running, "cancelling")
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
                await _Run(self, self._store, owner, batch, work).run()
            except (HexgridError, OSError) as error:
                _logger.error("The batch %s waits: %s", batch.id, error)  # noqa: TRY400
                await asyncio.sleep(_RETRY_SECONDS)
            finally:
                self._running.pop(batch.id, None)

    async def answer(self, line: BatchLine, client_now: Callable[[], Client]) -> Outcome:
        """One line, when it is its turn."""
        assert self._app is not None, "batches are worked off once the server runs"
        async with self._free:
            return await run_line(line, self._app, client_now)

    def client(self, owner: str) -> Client:
        """Who asks in the name of `owner` now; raises what `Keys.named` does."""
        return self._keys.named(owner)

    @property
    def max_requests(self) -> int:
        return self._max_requests

    @property
    def in_flight(self) -> int:
        return self._in_flight


class _Run:
    """One batch from where it is to its end."""

    def __init__(
        self, worker: BatchWorker, store: BatchStore, owner: str, batch: Batch, work: Work
    ) -> None:
        self._worker = worker
        self._store = store
        self._owner = owner
        self._batch = batch
        self._work = work
        self._results = {
            True: store.content(work.output_id),
            False: store.content(work.error_id),
        }

    async def run(self) -> None:
        """Raises:
        HexgridError, OSError: it can go on later.
        """
        batch, call = self._batch, self._worker.call
        if batch.status == "validating":
            problems = await call(self._validate)
            if batch.status == "validating":  # not cancelled meanwhile
                if problems:
                    batch.errors = BatchErrors(data=problems)
                    await self._end("failed")
                    return
                _turn(batch, "in_progress")
                await call(self._store.update, batch)
        end: Status = "completed"
        if batch.status in ("in_progress", "cancelling"):
            try:
                end = await self._answer_rest()
            except (UnauthorizedError, OverloadedError) as error:
                code = "no_room" if isinstance(error, OverloadedError) else "key_invalid"
                batch.errors = BatchErrors(data=[BatchError(code=code, message=error.message)])
                end = "failed"
        await self._finish(end)

    def _validate(self) -> list[BatchError]:
        """What is wrong about the input, which then is not begun."""
        problems: list[BatchError] = []
        seen: set[str] = set()
        count = 0
        for number, content in self._lines():
            count += 1
            if count > self._worker.max_requests:
                message = f"A batch takes at most {self._worker.max_requests} requests"
                return [BatchError(code="too_many_requests", message=message, line=number)]
            try:
                line = parse_line(content)
            except SchemaError as error:
                problems.append(
                    BatchError(
                        code="invalid_request",
                        message=error.message,
                        param=error.param,
                        line=number,
                    )
                )
            else:
                if line.custom_id in seen:
                    message = f"The custom_id {line.custom_id[:100]!r} came before"
                    problems.append(
                        BatchError(
                            code="duplicate_custom_id",
                            message=message,
                            param="custom_id",
                            line=number,
                        )
                    )
                seen.add(line.custom_id)
            if len(problems) == _MOST_ERRORS_TOLD:
                break
        if not count:
            problems.append(BatchError(code="empty_file", message="The file has no requests"))
        self._batch.request_counts.total = count
        return problems

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        with self._store.content(self._batch.input_file_id).open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.isspace():
                    yield number, line

    async def _answer_rest(self) -> Status:
        """Answer what has no result yet; how it ended."""
        call = self._worker.call
        done = await call(self._done)
        lines = self._lines_without(done)
        waiting: deque[asyncio.Task[Outcome]] = deque()
        is_read = False
        try:
            while (over := self._over()) is None:
                while not is_read and len(waiting) < self._worker.in_flight:
                    line = await call(next, lines, None)
                    if line is None:
                        is_read = True
                    else:
                        waiting.append(
                            asyncio.create_task(self._worker.answer(line, self._client_now))
                        )
                if not waiting:
                    return "completed"
                await self._first_or_over(waiting[0])
                if waiting[0].done():
                    await call(self._note, waiting.popleft().result())
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        if over == "expired":
            await call(self._note_expired)
        return over

    async def _first_or_over(self, task: "asyncio.Task[Outcome]") -> None:
        """Until the first in order is answered, or a second has gone by: the batch may be over."""
        await asyncio.wait([task], timeout=1.0)

    def _lines_without(self, done: set[str]) -> Iterator[BatchLine]:
        for _, content in self._lines():
            line = parse_line(content)
            if line.custom_id not in done:
                yield line

    def _over(self) -> Status | None:
        if self._batch.status == "cancelling":
            return "cancelled"
        return "expired" if time.time() >= self._batch.expires_at else None

    def _client_now(self) -> Client:
        return self._worker.client(self._owner)

    def _done(self) -> set[str]:
        """The ids in the results of an earlier process, whose counts are taken over."""
        counts = self._batch.request_counts
        self._store.release(self._batch.id)
        found: set[str] = set()
        sizes = {}
        for is_good, path in self._results.items():
            self._store.reserve(self._batch.id, repaired(path))
            ids = _ids(path)
            sizes[is_good] = len(ids)
            found |= ids
        counts.completed, counts.failed = sizes[True], sizes[False]
        return found

    def _note(self, outcome: Outcome) -> None:
        is_good = outcome.status == 200
        line = outcome.line(error_apart=False)
        self._store.reserve(self._batch.id, len(line))
        append(self._results[is_good], line)
        counts = self._batch.request_counts
        counts.completed += is_good
        counts.failed += not is_good

    def _note_expired(self) -> None:
        for line in self._lines_without(self._done()):
            append(self._results[False], expired(line.custom_id))
            self._batch.request_counts.failed += 1

    async def _finish(self, end: Status) -> None:
        """Show the results to their owner. May be done again after a crash."""
        batch, call = self._batch, self._worker.call
        if end == "completed":
            _turn(batch, "finalizing")
            await call(self._store.update, batch)
        batch.output_file_id = await call(self._publish, True, "output")
        batch.error_file_id = await call(self._publish, False, "error")
        await call(self._store.release, batch.id)
        await self._end(end)

    def _publish(self, is_good: bool, what: str) -> str | None:  # noqa: FBT001
        path = self._results[is_good]
        if not repaired(path):
            path.unlink(missing_ok=True)
            return None
        with path.open("rb") as file:
            os.fsync(file.fileno())
        self._store.add_file(
            self._owner,
            "batch_output",
            f"{self._batch.id}_{what}.jsonl",
            seconds=self._work.output_seconds,
            file_id=path.name,
        )
        return path.name

    async def _end(self, status: Status) -> None:
        _turn(self._batch, status)
        await self._worker.call(self._store.update, self._batch)


def _turn(batch: Batch, status: Status) -> None:
    """Change the status, and note when."""
    batch.status = status
    if status != "validating":
        setattr(batch, f"{status}_at", int(time.time()))


def _ids(path: Path) -> set[str]:
    if not path.exists():
        return set()
    decode = msgspec.json.Decoder(_Id).decode
    with path.open("rb") as file:
        return {decode(line).custom_id for line in file}
