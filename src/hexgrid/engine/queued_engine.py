"""What every engine of ours shares, whatever computes the vectors: the way in, what is at hand, the answers.

Who may come in and what equal inputs share is `admission.py`'s; where batches are computed, and what is done
when that fails, is the subclass's. It takes batches from `_admission`, hands each to `_rest_of` before it is
computed, and answers with `_keep_and_answer` or by failing the Sequences.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from collections.abc import Sequence as Items
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from time import perf_counter

from hexgrid.encoding import Vectors
from hexgrid.engine.admission import Admission
from hexgrid.engine.result_cache import ResultCache
from hexgrid.engine.result_store import ResultStore
from hexgrid.engine.scheduler import Scheduler
from hexgrid.engine.sequence import NO_SALT, Batch, Salt, Sequence, Submission
from hexgrid.errors import EngineClosedError, EngineDeadError
from hexgrid.metrics import ModelMetrics
from hexgrid.wire import TokenIds

# Weight of the newest batch in the running token rate: about the last ten batches count.
_RATE_SMOOTHING = 0.2

_logger = logging.getLogger(__name__)


class QueuedEngine(ABC):
    """See `protocols.Engine`."""

    def __init__(
        self,
        scheduler: Scheduler,
        metrics: ModelMetrics,
        *,
        hidden_size: int,
        results: ResultCache,
        store: ResultStore | None = None,
        max_num_queued_tokens: int,
        on_news: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_news` is called, from any thread, when `_admission.next_batch` may have changed its mind."""
        self.hidden_size = hidden_size
        self.death: Future[str] = Future()  # see `protocols.Engine`
        self._metrics = metrics
        self._store = store
        self._admission = Admission(
            scheduler,
            results,
            metrics,
            max_num_queued_tokens=max_num_queued_tokens,
            on_news=on_news,
        )

    def submit(
        self, token_ids: Items[TokenIds], *, priority: int = 0, salt: Salt = NO_SALT
    ) -> Future[Vectors]:
        """See `protocols.Engine.submit`."""
        assert token_ids, "a submission without inputs would never be answered"
        submission = Submission(
            len(token_ids),
            priority=priority,
            hidden_size=self.hidden_size,
            submitted_at=perf_counter(),
        )
        self._admission.take(token_ids, submission, salt)
        return submission.future

    def retry_after(self) -> int:
        """See `protocols.Engine.retry_after`."""
        return self._admission.retry_after()

    def check_health(self) -> None:
        """See `protocols.Engine.check_health`."""
        self._admission.check_open()

    @abstractmethod
    def close(self) -> None:
        """See `protocols.Engine.close`."""

    def _die(self, reason: str, taken_out: Batch | None = None) -> None:
        """Answer everyone, from any thread, and let nobody in any more.

        `taken_out` may be known to nobody but the caller; those that were answered already stay so.
        """
        _logger.critical("%s: nothing can be answered any more", reason)
        message = f"{reason}; the server must be started again"
        self._admission.close(lambda: EngineDeadError(message))
        self._admission.fail_all(lambda _: EngineDeadError(message), taken_out)
        with suppress(InvalidStateError):  # it died of something else at this moment
            self.death.set_result(reason)

    def _rest_of(self, batch: Batch) -> Batch:
        """Answer what the store on disk has, if there is one; what is left is to be computed."""
        if self._store is None:
            return batch
        found = self._store.get([sequence.key for sequence in batch])
        self._metrics.result_store_hits.inc(len(found))
        now = perf_counter()
        for sequence in batch:
            if sequence.key in found:
                sequence.note_cached(now)
        self._answer_with([(s, found[s.key]) for s in batch if s.key in found])
        return [sequence for sequence in batch if sequence.key not in found]

    def _keep_and_answer(self, rows: list[tuple[Sequence, Vectors]]) -> None:
        """Answer with what was computed."""
        if self._store is not None:
            self._store.put([(sequence.key, row) for sequence, row in rows])
        self._answer_with(rows)

    def _note_start(self, batch: Batch, now: float) -> None:
        """Tell the figures of a batch that begins to be computed."""
        self._metrics.batch_sequences.observe(len(batch))
        self._metrics.batch_tokens.observe(sum(s.num_tokens for s in batch))
        for sequence in batch:
            self._metrics.phase("queue", now - sequence.places[0].submission.submitted_at)

    def _note_pass(self, batch: Batch, seconds: float) -> None:
        """Tell the figures of a batch that was computed just now, in so many seconds."""
        self._metrics.phase("forward", seconds)
        note_run(batch, seconds)

    def _note_rate(self, num_tokens: int, seconds: float) -> None:
        """Take into the running rate that all together so many tokens were computed in so many seconds."""
        rate = num_tokens / seconds
        old = self._admission.tokens_per_second or rate
        self._admission.tokens_per_second = old + _RATE_SMOOTHING * (rate - old)

    def _answer_with(self, rows: list[tuple[Sequence, Vectors]]) -> None:
        self._admission.keep(rows)
        for sequence, row in rows:
            sequence.answer(row)


def note_run(batch: Batch, seconds: float) -> None:
    """Let everyone who waits for some of `batch` know that it ran until now."""
    now = perf_counter()
    for sequence in batch:
        sequence.note_run(now - seconds, now)


def stopping() -> EngineClosedError:
    """Why a submission is refused after `close`."""
    return EngineClosedError("The server is shutting down")


def stopped(_: int) -> EngineClosedError:
    """The answer to whoever still waits then."""
    return EngineClosedError("The server stopped before it reached this request")
