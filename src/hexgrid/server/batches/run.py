"""One batch from where it is to its end: validated, answered line after line, its results shown.

A line's outcome is appended to the results before it counts. After a crash the ids in the results tell which
lines are done, so that each is answered there once.
"""

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from hexgrid.errors import HexgridError, OverloadedError, SchemaError, UnauthorizedError
from hexgrid.server.batches.line_file import append, repaired
from hexgrid.server.batches.lines import BatchLine, Outcome, expired, parse_line
from hexgrid.server.batches.objects import Batch, BatchError, BatchErrors, Status
from hexgrid.server.batches.store import BatchStore, Work

_MOST_ERRORS_TOLD = 10

Result = TypeVar("Result")
_logger = logging.getLogger(__name__)


class Worker(Protocol):
    """Who runs batches, and what they share."""

    max_requests: int  # of a batch
    in_flight: int  # that all of them ask at a time

    async def call(self, function: Callable[..., Result], *arguments: object) -> Result:
        """A blocking call of the store."""

    async def answer(self, line: BatchLine, owner: str) -> Outcome:
        """One line in the name of the owner, when it is its turn."""


class _Id(msgspec.Struct):
    custom_id: str


class BatchRun:
    """The batch."""

    def __init__(
        self, worker: Worker, store: BatchStore, owner: str, batch: Batch, work: Work
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

    async def finish(self) -> None:
        """Raises:
        HexgridError, OSError: it can go on later.
        """
        try:
            await self._go_on()
        except (HexgridError, OSError):
            raise
        except Exception:
            # Begun again it would fail again, and its owner's other batches wait behind it.
            _logger.exception("The batch %s ends by a bug", self._batch.id)
            self._tell("internal_error", "The server failed at this batch; its log says why")
            await self._show_results("failed")

    async def _go_on(self) -> None:
        batch, call = self._batch, self._worker.call
        if batch.status == "validating":
            problems = await call(self._validate)
            if batch.status == "validating":  # not cancelled meanwhile
                if problems:
                    batch.errors = BatchErrors(data=problems)
                    await self._end("failed")
                    return
                batch.turn("in_progress")
                await call(self._store.update, batch)
        end: Status = "completed"
        if batch.status in ("in_progress", "cancelling"):
            try:
                end = await self._answer_rest()
            except (UnauthorizedError, OverloadedError) as error:
                code = "no_room" if isinstance(error, OverloadedError) else "key_invalid"
                self._tell(code, error.message)
                end = "failed"
        await self._show_results(end)

    def _tell(self, code: str, message: str) -> None:
        self._batch.errors = BatchErrors(data=[BatchError(code=code, message=message)])

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
                        waiting.append(asyncio.create_task(self._worker.answer(line, self._owner)))
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

    async def _show_results(self, end: Status) -> None:
        """Make them files of their owner, and end. May be done again after a crash."""
        batch, call = self._batch, self._worker.call
        if end == "completed":
            batch.turn("finalizing")
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
        self._batch.turn(status)
        await self._worker.call(self._store.update, self._batch)


def _ids(path: Path) -> set[str]:
    if not path.exists():
        return set()
    decode = msgspec.json.Decoder(_Id).decode
    with path.open("rb") as file:
        return {decode(line).custom_id for line in file}
