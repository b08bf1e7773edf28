"""Waiting without blocking the event loop: for threads, and for the engine while the client listens."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import TypeVar, TypeVarTuple

from starlette.types import Receive

Result = TypeVar("Result")
Work = TypeVar("Work")
Parameters = TypeVarTuple("Parameters")


class ClientGoneError(Exception):
    """The client closed the connection before its answer was ready."""


async def in_thread(
    threads: Executor, function: Callable[[*Parameters], Result], *parameters: *Parameters
) -> Result:
    """Call a blocking function in one of `threads`."""
    return await asyncio.get_running_loop().run_in_executor(threads, function, *parameters)


async def started_in_thread(
    threads: Executor,
    start: "Callable[[*Parameters], tuple[Result, Future[Work]]]",
    *parameters: *Parameters,
) -> "tuple[Result, Future[Work]]":
    """Call `start` in one of `threads`: what it gives, and the future of the work that it began.

    If nobody waits for it any more, the work is cancelled as soon as it has begun.
    """
    job = threads.submit(start, *parameters)
    try:
        return await asyncio.wrap_future(job)
    except asyncio.CancelledError:
        job.add_done_callback(_cancel_work)
        raise


def _cancel_work(job: "Future[tuple[Result, Future[Work]]]") -> None:
    if not job.cancelled() and job.exception() is None:
        job.result()[1].cancel()


async def result_unless_gone(future: "Future[Result]", receive: Receive) -> Result:
    """The future's result; it is cancelled, and its work with it, when the client goes away first.

    Raises:
        ClientGoneError: that happened.
    """
    if future.done():  # from a cache: there is nothing to wait for
        return future.result()
    answer = asyncio.wrap_future(future)
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientGoneError
        return answer.result()
    finally:  # also when the deadline cancels us here
        answer.cancel()
        gone.cancel()


async def _disconnected(receive: Receive) -> None:
    """Return when the client has closed the connection (the body has been read already)."""
    while (await receive())["type"] != "http.disconnect":
        pass
