"""What an engine has taken and not answered yet: who may come in, what waits, and what equal inputs share.

Any thread may call: a lock guards the scheduler, the result cache and all that is here. Nothing is computed
here.
"""

import math
import threading
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Items

from hexgrid.encoding import Vectors
from hexgrid.engine.result_cache import ResultCache
from hexgrid.engine.scheduler import Scheduler
from hexgrid.engine.sequence import Batch, Key, Place, Salt, Sequence, Submission, key_of
from hexgrid.errors import HexgridError, OverloadedError
from hexgrid.metrics import ModelMetrics
from hexgrid.wire import TokenIds

# A new error for each who meets it: what is raised carries the place where it was.
Refusal = Callable[[], HexgridError]


class Admission:
    """The way into one engine, and its queue."""

    def __init__(
        self,
        scheduler: Scheduler,
        results: ResultCache,
        metrics: ModelMetrics,
        *,
        max_num_queued_tokens: int,
        on_news: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_news` is called, under the lock, whenever `next_batch` may have changed its mind."""
        self.tokens_per_second = 0.0  # as the engine measures it; 0: not yet
        self._closed: Refusal | None = None  # why nothing is taken any more
        self._paused: Refusal | None = None  # why nothing is taken at the moment
        self._is_asked_for = False  # by somebody who was refused since the pause began
        self._scheduler = scheduler
        self._results = results
        self._metrics = metrics
        self._max_num_queued_tokens = max_num_queued_tokens
        self._open: dict[Key, Sequence] = {}  # what waits or runs
        self._news = threading.Condition()  # notified of what the engine's thread waits for
        self._on_news = on_news
        metrics.queue_sequences.set_function(lambda: len(scheduler))
        metrics.queue_tokens.set_function(lambda: scheduler.num_waiting_tokens)
        metrics.queue_max_tokens.set(max_num_queued_tokens)
        metrics.batch_max_tokens.set(scheduler.max_num_batched_tokens)
        metrics.tokens_per_second.set_function(lambda: self.tokens_per_second)
        metrics.result_cache_bytes.set_function(lambda: results.num_bytes)

    def take(self, token_ids: Items[TokenIds], submission: Submission, salt: Salt) -> None:
        """Answer `submission` from the cache, let it wait for what is computed anyway, or queue it.

        Raises:
            OverloadedError: too many tokens wait already.
            HexgridError: what `close` or `pause` was given.
        """
        keys = [key_of(ids, salt) for ids in token_ids]
        with self._news:
            self._refuse_all()
            self._refuse_overload(self._num_new_tokens(token_ids, keys))
            for index, (ids, key) in enumerate(zip(token_ids, keys, strict=True)):
                self._place(ids, key, Place(submission, index), salt)
            self._tell()
        submission.future.add_done_callback(lambda _: self._let_go(submission))

    @property
    def is_closed(self) -> bool:
        """Whether nothing is taken any more."""
        return self._closed is not None

    @property
    def wants_probe(self) -> bool:
        """Whether somebody asked for what is paused."""
        return self._paused is not None and self._is_asked_for

    def check_open(self) -> None:
        """Raise what `take` raises when nothing is taken."""
        with self._news:
            self._refuse_all()

    def retry_after(self) -> int:
        """Seconds in which what waits now will have been computed; at least 1."""
        waiting, rate = self._scheduler.num_waiting_tokens, self.tokens_per_second
        return max(1, round(waiting / rate)) if rate else 1

    def next_batch(self, most_tokens: float = math.inf, *, wait: bool) -> Batch:
        """What to run next; waits for something where `wait`.

        Gives nothing once closed, nor when a pause is to be probed.
        """
        with self._news:
            while True:
                batch = [] if self.is_closed else self._scheduler.next_batch(most_tokens)
                if batch or self.is_closed or self.wants_probe or not wait:
                    return batch
                self._news.wait()

    def keep(self, rows: Iterable[tuple[Sequence, Vectors]]) -> None:
        """Take what was computed into the cache; nobody else may wait for it."""
        with self._news:
            for sequence, row in rows:
                self._forget(sequence)
                self._results.put(sequence.key, row)

    def give_up(self, sequence: Sequence) -> None:
        """Let nobody else wait for `sequence`."""
        with self._news:
            self._forget(sequence)

    def close(self, refusal: Refusal) -> None:
        """Take nothing any more; the first to say so is heard."""
        with self._news:
            self._closed = self._closed or refusal
            self._tell()

    def pause(self, refusal: Refusal) -> None:
        """Take nothing until `resume`."""
        with self._news:
            self._paused, self._is_asked_for = refusal, False

    def resume(self) -> None:
        """Take what comes."""
        with self._news:
            self._paused = None
            self._tell()

    def fail_all(
        self, error_at: Callable[[int], HexgridError], taken_out: Batch | None = None
    ) -> None:
        """Answer all that waits or runs, and `taken_out`, with the error for their indices."""
        with self._news:
            everyone = [*self._open.values(), *(taken_out or [])]
            self._open.clear()
            self._scheduler.drop_all()
        for sequence in everyone:
            sequence.fail(error_at)

    def _tell(self) -> None:
        self._news.notify_all()
        self._on_news()

    def _refuse_all(self) -> None:
        refusal = self._closed or self._paused
        if refusal is not None:
            self._is_asked_for = True
            self._tell()
            raise refusal()

    def _num_new_tokens(self, token_ids: Items[TokenIds], keys: Items[Key]) -> int:
        """Tokens that a submission adds to the queue."""
        new = {
            key: len(ids)
            for ids, key in zip(token_ids, keys, strict=True)
            if key not in self._results and self._equal(key) is None
        }
        return sum(new.values())

    def _refuse_overload(self, num_tokens: int) -> None:
        waiting = self._scheduler.num_waiting_tokens
        if waiting == 0 or waiting + num_tokens <= self._max_num_queued_tokens:
            return
        raise OverloadedError(
            f"{waiting} tokens wait already and this request has {num_tokens}; at most "
            f"{self._max_num_queued_tokens} may wait. Try again later",
            retry_after=self.retry_after(),
        )

    def _place(self, token_ids: TokenIds, key: Key, place: Place, salt: Salt) -> None:
        """Answer `place` at once, let it wait for what waits or runs already, or queue a new Sequence."""
        row = self._results.get(key)
        if row is not None:
            self._metrics.result_cache_hits.inc()
            place.submission.future.num_cached += 1
            place.submission.answer(place.position, row)
            return
        equal = self._equal(key)
        if equal is None:
            self._metrics.result_cache_misses.inc()
            self._add(Sequence(token_ids, key, place, salt))
            return
        self._metrics.joined_inputs.inc()
        if place.submission.priority < equal.priority and equal in self._scheduler:
            self._add(equal.moved_up(place))
            self._scheduler.drop(equal)
        else:
            equal.wait_at(place)

    def _add(self, sequence: Sequence) -> None:
        self._open[sequence.key] = sequence
        self._scheduler.add(sequence)

    def _equal(self, key: Key) -> Sequence | None:
        """What waits or runs with these ids and will surely be answered."""
        found = self._open.get(key)
        return None if found is None or found.done else found

    def _forget(self, sequence: Sequence) -> None:
        if self._open.get(sequence.key) is sequence:
            del self._open[sequence.key]

    def _let_go(self, submission: Submission) -> None:
        """A submission is over: if it failed or was cancelled, the queue has its room again at once.

        It leads to nothing any more. Under load somebody always waits for an input of one that is over, which
        waited for an input of one before it, and so on: nothing would ever be freed.
        """
        with self._news:
            if submission.num_open:
                for sequence in submission.sequences:
                    if sequence.done:
                        self._scheduler.drop(sequence)
                        self._forget(sequence)
                self._tell()
            submission.sequences.clear()
