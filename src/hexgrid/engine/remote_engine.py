"""An engine whose vectors are computed elsewhere: by servers over HTTP, by replicas of a cluster.

The queue, its order and its bound stay here, and little is handed out at a time, so that an urgent input
need not wait behind what was handed out before it. One thread with an event loop does it all; who computes,
and how its failures are met, is the `Remote`'s.

As in our own engine, inputs that fail together are tried again by halves, so that one bad input fails alone.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Items
from contextlib import suppress
from itertools import groupby
from time import perf_counter
from typing import Protocol

from hexgrid.encoding import Vectors
from hexgrid.engine.queued_engine import QueuedEngine, note_run, stopped, stopping
from hexgrid.engine.result_cache import ResultCache
from hexgrid.engine.result_store import ResultStore
from hexgrid.engine.scheduler import Scheduler
from hexgrid.engine.sequence import Batch, Salt, Sequence
from hexgrid.errors import (
    EngineUnwellError,
    HexgridError,
    NonFiniteError,
    OverloadedError,
    UpstreamError,
)
from hexgrid.metrics import ModelMetrics
from hexgrid.model.pooling import finite_rows
from hexgrid.wire import TokenIds

# Tokens handed out for each call that may run at a time, in batches: one computes while one is on its way.
_BATCHES_AHEAD = 2
# Seconds over which the token rate is taken, where several calls may end at the same moment.
_RATE_SECONDS = 0.05

_logger = logging.getLogger(__name__)


class RemoteDownError(Exception):
    """What a Remote raises when nobody it knows of can compute at the moment."""


class RemoteBusyError(Exception):
    """What a Remote raises when everyone it knows of has too much to do; `retry_after` is in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"busy for {retry_after} s")
        self.retry_after = retry_after


class InputsRefusedError(Exception):
    """What a Remote raises when whoever computes works, but not for these inputs."""


class Remote(Protocol):
    """Whoever computes. Everything is called in the engine's event loop."""

    hidden_size: int

    @property
    def num_workers(self) -> int:
        """How many can compute at the moment, independently of each other."""
        ...

    @property
    def is_down(self) -> bool:
        """Whether nobody can, nor is just being asked whether it can again."""
        ...

    async def watch(self, on_change: Callable[[], None]) -> str:
        """Follow who can compute, until cancelled; `on_change` is called when that has changed.

        Returns why nobody ever will again in this process, if that becomes certain.
        """
        ...

    async def compute(self, token_ids: Items[TokenIds], salt: Salt) -> Vectors:
        """Hidden states float32 [len(token_ids), hidden_size]; rows may hold NaN. Can be cancelled.

        Raises:
            RemoteDownError, RemoteBusyError, InputsRefusedError.
        """
        ...

    def close(self) -> None:
        """Give up what it holds; called last, when the event loop is closed."""
        ...


class RemoteEngine(QueuedEngine):
    """See `protocols.Engine`."""

    def __init__(
        self,
        remote: Remote,
        scheduler: Scheduler,
        metrics: ModelMetrics,
        *,
        loop: asyncio.AbstractEventLoop,
        max_calls: int,
        batches_ahead: int = _BATCHES_AHEAD,
        results: ResultCache,
        store: ResultStore | None = None,
        max_num_queued_tokens: int,
    ) -> None:
        """The engine's thread runs `loop` and closes it.

        Each worker gets `max_calls` at a time, of no more tokens than `batches_ahead` full batches have.
        """
        super().__init__(
            scheduler,
            metrics,
            hidden_size=remote.hidden_size,
            results=results,
            store=store,
            max_num_queued_tokens=max_num_queued_tokens,
            on_news=self._wake,
        )
        self._remote = remote
        self._loop = loop
        self._max_calls = max_calls
        self._tokens_ahead = batches_ahead * scheduler.max_num_batched_tokens
        self._news = asyncio.Event()
        self._calls: dict[asyncio.Task[None], Batch] = {}
        self._rate_tokens, self._rate_start = 0, perf_counter()
        self._is_paused = False
        self._thread = threading.Thread(target=self._run, name="hexgrid-remote-engine", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """See `protocols.Engine.close`."""
        self._admission.close(stopping)
        self._thread.join()
        self._remote.close()
        if self._store is not None:
            self._store.close()

    def _wake(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: there is nobody to wake
            self._loop.call_soon_threadsafe(self._news.set)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._main())
        except BaseException as error:  # whatever it is, nobody may wait for a dead thread
            _logger.critical("The engine's thread ends", exc_info=error)
            taken_out = [sequence for batch in self._calls.values() for sequence in batch]
            self._die(f"The engine broke ({type(error).__name__})", taken_out)
        else:
            self._admission.fail_all(stopped)
        finally:
            self._loop.close()

    async def _main(self) -> None:
        """Hand out what waits until closed; then wait for what runs."""
        watch = asyncio.create_task(self._remote.watch(self._news.set))
        watch.add_done_callback(lambda _: self._news.set())
        try:
            while not self._admission.is_closed:
                self._pause_or_resume()
                self._hand_out()
                await self._news.wait()
                self._news.clear()
                self._cancel_unwanted()
                if watch.done():
                    self._die(watch.result())
            if self._calls:
                await asyncio.wait(self._calls)
        finally:
            for task in (watch, *self._calls):
                task.cancel()
            await asyncio.gather(watch, *self._calls, return_exceptions=True)

    def _pause_or_resume(self) -> None:
        """Let nobody in, and nobody wait, while nobody computes."""
        if self._remote.is_down and not self._is_paused:
            _logger.error("Nobody computes vectors at the moment: not ready")
            self._is_paused = True
            self._admission.pause(_down)
            self._admission.fail_all(lambda _: _down())
        elif self._is_paused and not self._remote.is_down:
            _logger.warning("Vectors are computed again: ready")
            self._is_paused = False
            self._admission.resume()

    def _hand_out(self) -> None:
        while self._has_room():
            batch = self._admission.next_batch(wait=False)
            if not batch:
                return
            for part in _by_salt(self._rest_of(batch)):
                self._begin(part)

    def _has_room(self) -> bool:
        workers = self._remote.num_workers
        tokens = sum(s.num_tokens for batch in self._calls.values() for s in batch)
        return (
            len(self._calls) < workers * self._max_calls and tokens < workers * self._tokens_ahead
        )

    def _begin(self, batch: Batch) -> None:
        self._note_start(batch, perf_counter())
        task = asyncio.create_task(self._compute(batch))
        self._calls[task] = batch
        task.add_done_callback(self._end)

    def _end(self, task: "asyncio.Task[None]") -> None:
        batch = self._calls.pop(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _logger.critical("A bug in the engine", exc_info=error)
            self._die(f"The engine broke ({type(error).__name__})", batch)
        self._news.set()

    def _cancel_unwanted(self) -> None:
        for task, batch in self._calls.items():
            if all(sequence.done for sequence in batch):
                task.cancel()

    async def _compute(self, batch: Batch) -> None:
        """Answer `batch`, in vectors or errors."""
        started = perf_counter()
        try:
            hidden = await self._remote.compute([s.token_ids for s in batch], batch[0].salt)
        except InputsRefusedError as error:
            self._note_failure(batch, started)
            await self._halves(batch, error)
        except RemoteBusyError as error:
            self._note_failure(batch, started)
            self._fail(batch, _busy(error.retry_after))
        except RemoteDownError:
            self._note_failure(batch, started)
            self._fail(batch, lambda _: _down())
        except asyncio.CancelledError:  # nobody waits any more, or the loop ends
            for sequence in batch:
                self._admission.give_up(sequence)
            raise
        else:
            now = perf_counter()
            self._note_pass(batch, now - started)
            self._take_into_rate(sum(s.num_tokens for s in batch), started, now)
            await self._answer(batch, hidden)

    async def _halves(self, batch: Batch, error: InputsRefusedError) -> None:
        if len(batch) == 1:
            _logger.warning("An input of %d tokens failed: %s", batch[0].num_tokens, error)
            self._fail(batch, _refused)
            return
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            # Looked at here and not before: the first half may have failed a submission of both.
            wanted = [sequence for sequence in half if not sequence.done]
            if wanted:
                await self._compute(wanted)

    async def _answer(self, batch: Batch, hidden: Vectors) -> None:
        finite = finite_rows(hidden)
        rows = zip(batch, hidden, finite, strict=True)
        self._keep_and_answer([(sequence, row) for sequence, row, is_good in rows if is_good])
        bad = [s for s, is_good in zip(batch, finite, strict=True) if not is_good]
        for sequence in bad:
            if len(batch) == 1:
                self._fail([sequence], _not_finite)
            else:  # its company may have been at fault
                await self._compute([sequence])

    def _fail(self, batch: Batch, error_at: Callable[[int], HexgridError]) -> None:
        for sequence in batch:
            self._admission.give_up(sequence)
            sequence.fail(error_at)

    def _note_failure(self, batch: Batch, started: float) -> None:
        self._metrics.failed_batches.inc()
        note_run(batch, perf_counter() - started)

    def _take_into_rate(self, num_tokens: int, started: float, now: float) -> None:
        """Count what ended `now`; idle time before `started` is none of the rate's."""
        if not self._rate_tokens and self._rate_start < started:
            self._rate_start = started
        self._rate_tokens += num_tokens
        if now - self._rate_start >= _RATE_SECONDS:
            self._note_rate(self._rate_tokens, now - self._rate_start)
            self._rate_tokens, self._rate_start = 0, now


def _by_salt(batch: Batch) -> Iterator[Batch]:
    """Parts of one salt each: whoever computes is told one salt a call."""

    def salt(sequence: Sequence) -> Salt:
        return sequence.salt

    for _, part in groupby(sorted(batch, key=salt), key=salt):
        yield list(part)


def _down() -> EngineUnwellError:
    return EngineUnwellError(
        "Nobody computes vectors for this model at the moment; the server's log says more. Try again later"
    )


def _busy(retry_after: int) -> Callable[[int], OverloadedError]:
    def error_at(_: int) -> OverloadedError:
        return OverloadedError(
            "Everyone who computes vectors for this model has too much to do. Try again later",
            retry_after=retry_after,
        )

    return error_at


def _refused(index: int) -> UpstreamError:
    return UpstreamError(
        f"No vector could be computed for input {index}; the server's log says more",
        param="input",
        index=index,
    )


def _not_finite(index: int) -> NonFiniteError:
    return NonFiniteError(
        f"The model gave NaN or infinity for input {index}", param="input", index=index
    )
