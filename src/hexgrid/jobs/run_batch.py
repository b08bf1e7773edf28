"""A whole batch file through a model of this process: what `hexgrid run-batch` does.

Each line is answered as the server would; a line that is none harms no other.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from starlette.applications import Starlette

from hexgrid.errors import SchemaError
from hexgrid.jobs.files import atomic
from hexgrid.jobs.inputs import InputFile
from hexgrid.jobs.lines import opened_lines
from hexgrid.server.auth import ANYONE
from hexgrid.server.batches.lines import Outcome, parse_line, refused, run_line

# So many requests are with the engine, or wait to be written in their order.
_IN_FLIGHT = 64


class Answered(NamedTuple):
    """How many lines there were, how many of them failed, and the tokens of the others."""

    num_lines: int
    num_failed: int
    num_tokens: int


async def run_batch(
    app: Starlette, source: Path, target: Path, *, report: Callable[[int], None] = lambda _: None
) -> Answered:
    """Answer the lines of `source` in `target`, in their order; `target` is whole or not there.

    `report` is told how many bytes have been read.

    Raises:
        DataError: the file cannot be read.
    """
    answered = Answered(0, 0, 0)
    waiting: deque[asyncio.Task[Outcome]] = deque()
    file = InputFile(str(source), "jsonl", 0, 0)
    async with app.router.lifespan_context(app):
        with (
            opened_lines(file) as lines,
            atomic(target) as unfinished,
            unfinished.open("wb") as output,
        ):

            async def write_first() -> None:
                nonlocal answered
                outcome = await waiting.popleft()
                output.write(outcome.line(error_apart=True))
                answered = Answered(
                    answered.num_lines + 1,
                    answered.num_failed + (outcome.status != 200),
                    answered.num_tokens + outcome.num_tokens,
                )
                report(lines.raw_offset)

            try:
                for line in lines:
                    if line.isspace():
                        continue
                    waiting.append(asyncio.create_task(_answer(app, line)))
                    if len(waiting) == _IN_FLIGHT:
                        await write_first()
                while waiting:
                    await write_first()
            finally:
                for task in waiting:
                    task.cancel()
    return answered


async def _answer(app: Starlette, content: bytes) -> Outcome:
    try:
        line = parse_line(content)
    except SchemaError as error:
        return refused(content, error)
    return await run_line(line, app, lambda: ANYONE)
