"""What several requests ask in one turn of the event loop, done in a row.

Requests come in flocks: while the loop was busy with some, the next ones arrived. What takes a while to get
into its stride (the tokenizer's code takes twice as long for one text between other work as for each of
several) is done for all of a flock before anything else.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class Gathering(Generic[Job, Result]):
    """Calls `work` with the jobs of a turn, once that is over; it gives a result or an error for each."""

    def __init__(self, work: Callable[[Sequence[Job]], Sequence[Result | Exception]]) -> None:
        self._work = work
        self._jobs: list[tuple[Job, asyncio.Future[Result]]] = []

    async def result_of(self, job: Job) -> Result:
        """What `work` made of `job`; raises what it gave as an error.

        The job of who is cancelled meanwhile is not done.
        """
        loop = asyncio.get_running_loop()
        if not self._jobs:
            loop.call_soon(self._end_turn)
        future: asyncio.Future[Result] = loop.create_future()
        self._jobs.append((job, future))
        return await future

    def _end_turn(self) -> None:
        wanted = [(job, future) for job, future in self._jobs if not future.done()]
        self._jobs = []
        try:
            results = self._work([job for job, _ in wanted])
        except Exception as error:  # noqa: BLE001 (nobody may wait for ever)
            results = [error] * len(wanted)
        for (_, future), result in zip(wanted, results, strict=True):
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
