"""hexgrid's own engine: one thread that takes batches from the scheduler, runs them and answers.

Every Future is answered: with vectors, with the error of its own input (a batch that fails is run again by
halves, so that one bad input fails alone), or with why none is answered: the engine was closed, no pass works
(one token, tried after an input failed alone, fails too), or a pass hangs and the watchdog answers instead.

A long input goes through the model in steps (long_pass.py), with batches in between; at most one at a time.

No input is computed twice while its vector is at hand: equal ones that wait or run share a Sequence, and what
was computed lately comes from the result cache, or from the store on disk if there is one.
"""

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, perf_counter

from hexgrid.encoding import Vectors
from hexgrid.engine.health import Health
from hexgrid.engine.long_pass import SHARE, LongPass
from hexgrid.engine.protocols import DeviceLostError, Runner
from hexgrid.engine.queued_engine import QueuedEngine, note_run, stopped, stopping
from hexgrid.engine.result_cache import ResultCache
from hexgrid.engine.result_store import ResultStore
from hexgrid.engine.scheduler import Scheduler
from hexgrid.engine.sequence import Batch, Sequence
from hexgrid.engine.watchdog import Clock, Watchdog, WatchedRunner
from hexgrid.errors import EngineError, HexgridError, InputMemoryError, NonFiniteError
from hexgrid.metrics import ModelMetrics
from hexgrid.model.pooling import finite_rows

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Running:
    """A batch on the device; `collect` waits for its hidden states or raises what the pass raised."""

    batch: Batch
    started_at: float
    collect: Callable[[], Vectors]


class NativeEngine(QueuedEngine):
    """See `protocols.Engine`."""

    def __init__(
        self,
        runner: Runner,
        scheduler: Scheduler,
        metrics: ModelMetrics,
        *,
        results: ResultCache,
        store: ResultStore | None = None,
        max_num_queued_tokens: int,
        forward_timeout: float = math.inf,
        clock: Clock = monotonic,
    ) -> None:
        """A call of `runner` that takes longer than `forward_timeout` seconds hangs (see watchdog.py)."""
        super().__init__(
            scheduler,
            metrics,
            hidden_size=runner.hidden_size,
            results=results,
            store=store,
            max_num_queued_tokens=max_num_queued_tokens,
        )
        self._max_num_batched_tokens = scheduler.max_num_batched_tokens
        self._forward_timeout = forward_timeout
        self._watchdog = Watchdog(forward_timeout, self._on_hang, clock)
        self._runner = WatchedRunner(runner, self._watchdog, scheduler.max_num_batched_tokens)
        self._long: LongPass | None = None
        self._health = Health(self._runner, self._admission)
        self._is_over = threading.Event()  # the thread has ended, or is given up
        self.death.add_done_callback(lambda _: self._is_over.set())
        self._thread = threading.Thread(target=self._loop, name="hexgrid-engine", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """See `protocols.Engine.close`."""
        self._admission.close(stopping)
        self._is_over.wait()
        self._watchdog.close()
        if self._store is not None and not self.death.done():
            self._store.close()

    def _loop(self) -> None:
        """Run until closed. On an asynchronous device one batch computes while the next is queued."""
        running: _Running | None = None
        batch: Batch = []
        try:
            while True:
                batch = self._next_batch(running)
                if self._admission.wants_probe:
                    self._health.check_again()
                seconds = perf_counter()
                started = self._start(batch) if batch else None
                if running is not None:
                    self._finish(running)
                running = started
                if running is not None and not self._runner.runs_async:
                    self._finish(running)
                    running = None
                if self._long is not None:
                    self._advance(self._long, SHARE * (perf_counter() - seconds))
                if running is None and self._admission.is_closed:
                    break
        except BaseException as error:  # whatever it is, nobody may wait for a dead thread
            _logger.critical("The engine's thread ends", exc_info=error)
            taken_out = [*batch, *([] if running is None else running.batch)]
            self._die(_cause_of_death(error), taken_out)
        else:
            self._admission.fail_all(stopped)
        finally:
            self._is_over.set()

    def _on_hang(self) -> None:
        self._die(
            f"The engine is stuck: a pass takes longer than --forward-timeout {self._forward_timeout:g} "
            "seconds"
        )

    def _next_batch(self, running: _Running | None) -> Batch:
        """What to run next; waits for it when there is nothing else to do."""
        if self._long is not None:
            return self._admission.next_batch(self._max_num_batched_tokens, wait=False)
        return self._admission.next_batch(wait=running is None)

    def _start(self, batch: Batch) -> _Running | None:
        """Start the forward pass of what the store does not have; a long one takes its steps later."""
        if self._store is not None:
            with self._watchdog.watching():  # a disk can hang, too
                batch = self._rest_of(batch)
            if not batch:
                return None
        now = perf_counter()
        self._note_start(batch, now)
        if self._is_long(batch):
            (sequence,) = batch
            self._long = LongPass(sequence, self._runner.steps(sequence.token_ids))
            return None
        return _Running(batch, now, self._run(batch))

    def _is_long(self, batch: Batch) -> bool:
        """Whether this is one input in several parts, on a device that computes nothing meanwhile."""
        num_tokens = batch[0].num_tokens
        return num_tokens > self._max_num_batched_tokens and not self._runner.runs_async

    def _advance(self, long: LongPass, seconds: float) -> None:
        """Take the long input forward for about `seconds`; at its end, answer it."""
        hidden = None
        try:
            if not long.sequence.done:
                hidden = long.advance(seconds)
                if hidden is None:
                    return
        except Exception as error:  # noqa: BLE001 (whatever it does, its callers are answered)
            self._note_failure([long.sequence], error)
            self._suspect(long.sequence, _blame(long.sequence, error))
        self._long = None
        if hidden is not None:
            self._note_computed([long.sequence], long.seconds)
            self._answer([long.sequence], hidden)

    def _run(self, batch: Batch) -> Callable[[], Vectors]:
        """Start the forward pass; an error is kept for `collect`, whose caller knows what to do."""
        try:
            return self._runner.run([s.token_ids for s in batch], [s.salt for s in batch])
        except Exception as error:  # noqa: BLE001 (whatever a batch does, its callers are answered)
            return _raiser(error)

    def _finish(self, running: _Running) -> None:
        """Wait for the batch and answer its sequences."""
        try:
            hidden = running.collect()
        except Exception as error:  # noqa: BLE001 (the same)
            self._note_failure(running.batch, error)
            note_run(running.batch, perf_counter() - running.started_at)
            self._run_by_halves(running.batch, error)
            return
        self._note_computed(running.batch, perf_counter() - running.started_at)
        self._answer(running.batch, hidden)

    def _run_by_halves(self, batch: Batch, error: Exception) -> None:
        """After a failed pass: the same sequences in smaller batches, down to the one at fault."""
        if len(batch) == 1:
            self._suspect(batch[0], _blame(batch[0], error))
            return
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            # Looked at here and not before: the first half may have failed a submission of both.
            wanted = [sequence for sequence in half if not sequence.done]
            if wanted:
                self._finish(_Running(wanted, perf_counter(), self._run(wanted)))

    def _answer(self, batch: Batch, hidden: Vectors) -> None:
        finite = finite_rows(hidden)
        rows = zip(batch, hidden, finite, strict=True)
        self._keep_and_answer([(sequence, row) for sequence, row, is_good in rows if is_good])
        for sequence, is_good in zip(batch, finite, strict=True):
            if not is_good:
                self._retry_in_float32(sequence)

    def _suspect(self, sequence: Sequence, error_at: Callable[[int], HexgridError]) -> None:
        """Fail the one input at fault; but everyone, if no pass works any more."""
        if self._health.check():
            self._admission.give_up(sequence)
            sequence.fail(error_at)

    def _retry_in_float32(self, sequence: Sequence) -> None:
        self._metrics.float32_retries.inc()
        try:
            hidden = self._runner.run_float32([sequence.token_ids])
        except Exception as error:  # noqa: BLE001 (the same)
            self._suspect(sequence, _blame(sequence, error))
            return
        if finite_rows(hidden).all():
            self._keep_and_answer([(sequence, hidden[0])])
        else:
            self._suspect(sequence, _not_finite)

    def _note_computed(self, batch: Batch, seconds: float) -> None:
        self._note_pass(batch, seconds)
        self._note_rate(sum(sequence.num_tokens for sequence in batch), seconds)

    def _note_failure(self, batch: Batch, error: Exception) -> None:
        self._metrics.failed_batches.inc()
        _logger.warning("A forward pass of %d inputs failed", len(batch), exc_info=error)


def _cause_of_death(error: BaseException) -> str:
    if isinstance(error, DeviceLostError):
        return "The device is lost"
    return f"The engine broke ({type(error).__name__})"


def _raiser(error: Exception) -> Callable[[], Vectors]:
    def collect() -> Vectors:
        raise error

    return collect


def _blame(sequence: Sequence, error: Exception) -> Callable[[int], EngineError]:
    """The error for the one input at fault: its place and the kind of failure, never its text."""

    def error_at(index: int) -> EngineError:
        which = f"input {index} ({sequence.num_tokens} tokens)"
        if isinstance(error, MemoryError):
            blame: EngineError = InputMemoryError(
                f"There is too little memory for {which} at the moment. Send a shorter one, "
                "or try again later",
                param="input",
                index=index,
            )
        else:
            blame = EngineError(
                f"The forward pass failed for {which}: {type(error).__name__}",
                param="input",
                index=index,
            )
        blame.__cause__ = error
        return blame

    return error_at


def _not_finite(index: int) -> NonFiniteError:
    return NonFiniteError(
        f"The model gave NaN or infinity for input {index}, in float32 too",
        param="input",
        index=index,
    )
