"""Waiting without blocking the event loop: for threads, and for the engine while the client listens."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import TypeVar, TypeVarTuple

from starlette.types import Receive

from hexgrid.text_reader import Check

Result = TypeVar("Result")
Work = TypeVar("Work")
Parameters = TypeVarTuple("Parameters")


class ClientGoneError(Exception):
    """The client closed the connection before its answer was ready."""


class NotWantedError(Exception):
    """Nobody waits any more for what a thread is doing."""


async def in_thread(
    threads: Executor,
    function: Callable[[Check, *Parameters], Result],
    *parameters: *Parameters,
    after: "Callable[[Future[Result]], None]" = lambda _: None,
) -> Result:
    """Call a blocking function in one of `threads`.

    Its first parameter raises when nobody waits for it any more; `after` is then told how it ended.
    """
    given_up = threading.Event()

    def check() -> None:
        if given_up.is_set():
            raise NotWantedError

    job = threads.submit(function, check, *parameters)
    try:
        return await asyncio.wrap_future(job)
    except asyncio.CancelledError:
        given_up.set()
        job.add_done_callback(after)
        raise


async def started_in_thread(
    threads: Executor,
    start: "Callable[[Check, *Parameters], tuple[Result, Future[Work]]]",
    *parameters: *Parameters,
) -> "tuple[Result, Future[Work]]":
    """Call `start` as `in_thread` does: what it gives, and the future of the work that it began.

    If nobody waits for it any more, the work is cancelled as soon as it has begun.
    """
    return await in_thread(threads, start, *parameters, after=_cancel_work)


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
