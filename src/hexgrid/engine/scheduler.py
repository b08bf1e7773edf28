"""Which Sequences run next. Plain ints: no torch, no I/O, no clock, no threads (the engine holds a lock).

The rules:
1. A batch holds at most `max_num_seqs` sequences and `max_num_batched_tokens` tokens. A sequence longer than
   that runs alone.
2. Sequences go in order of (priority, arrival), lower priority numbers first.
3. A sequence that does not fit is passed over and later ones that fit are taken (skip-ahead), so that a batch
   leaves as full as it can. The first in order is never passed over.
4. A sequence that has seen `max_batches_waited` batches go by is overdue: overdue ones come first, oldest
   first, whatever their priority. So nobody starves.
5. A sequence that nobody waits for any more never runs.
"""

import heapq
import itertools
import math
from collections import OrderedDict
from collections.abc import Generator
from contextlib import closing

from hexgrid.engine.sequence import Batch, Sequence

# How many sequences that do not fit are looked past for one batch: bounds the work of a call.
MAX_PASSED_OVER = 256


class Scheduler:
    """The waiting sequences of one engine."""

    def __init__(
        self, *, max_num_batched_tokens: int, max_num_seqs: int, max_batches_waited: int = 16
    ) -> None:
        self.max_num_batched_tokens = max_num_batched_tokens
        self.max_num_seqs = max_num_seqs
        self.max_batches_waited = max_batches_waited
        self.num_waiting_tokens = 0
        self._num_batches = 0
        self._arrivals = itertools.count()
        # Who waits, in order of arrival, each with the number of batches that had left by then.
        self._waiting: OrderedDict[Sequence, int] = OrderedDict()
        # The same by (priority, arrival); entries that no longer wait are skipped when met.
        self._by_priority: list[tuple[int, int, Sequence]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence in self._waiting

    def add(self, sequence: Sequence) -> None:
        """Let `sequence` wait."""
        self._waiting[sequence] = self._num_batches
        self.num_waiting_tokens += sequence.num_tokens
        heapq.heappush(self._by_priority, (sequence.priority, next(self._arrivals), sequence))
        if len(self._by_priority) > 2 * len(self._waiting) + MAX_PASSED_OVER:
            self._forget_stale_entries()

    def drop(self, sequence: Sequence) -> None:
        """Forget `sequence`, if it still waits."""
        if self._waiting.pop(sequence, None) is not None:
            self.num_waiting_tokens -= sequence.num_tokens

    def drop_all(self) -> list[Sequence]:
        """Forget everyone and return them, for the engine to answer."""
        dropped = list(self._waiting)
        for sequence in dropped:
            self.drop(sequence)
        self._by_priority.clear()
        return dropped

    def next_batch(self, most_tokens: float = math.inf) -> Batch:
        """Take the next batch out of the waiting, of sequences of at most `most_tokens` tokens each.

        Empty only when none of those waits, or too many longer ones come before them.
        """
        batch: Batch = []
        num_tokens = 0
        with closing(self._candidates()) as candidates:
            for sequence in candidates:
                if sequence.done:
                    self.drop(sequence)
                    continue
                if sequence.num_tokens > most_tokens:
                    continue
                if batch and num_tokens + sequence.num_tokens > self.max_num_batched_tokens:
                    continue
                self.drop(sequence)
                batch.append(sequence)
                num_tokens += sequence.num_tokens
                if len(batch) == self.max_num_seqs or num_tokens >= self.max_num_batched_tokens:
                    break
        self._num_batches += bool(batch)
        return batch

    def check_integrity(self) -> None:
        """Assert that the two views and the token count agree."""
        assert self.num_waiting_tokens == sum(s.num_tokens for s in self._waiting)
        assert self._waiting.keys() <= {entry[2] for entry in self._by_priority}

    def _candidates(self) -> Generator[Sequence]:
        """Everyone worth a look, best first; who is taken must be dropped before the next is drawn."""
        yield from self._overdue(self.max_num_seqs + MAX_PASSED_OVER)
        passed_over: list[tuple[int, int, Sequence]] = []
        try:
            while self._by_priority and len(passed_over) < MAX_PASSED_OVER:
                entry = heapq.heappop(self._by_priority)
                if entry[2] not in self._waiting:
                    continue
                yield entry[2]
                if entry[2] in self._waiting:
                    passed_over.append(entry)
        finally:  # the caller stops drawing when its batch is full
            for entry in passed_over:
                heapq.heappush(self._by_priority, entry)

    def _overdue(self, most: int) -> list[Sequence]:
        """The oldest overdue ones; those that nobody waits for any more are dropped, and do not count."""
        overdue: list[Sequence] = []
        gone: list[Sequence] = []
        for sequence in itertools.takewhile(self._is_overdue, self._waiting):
            (gone if sequence.done else overdue).append(sequence)
            if len(overdue) == most:
                break
        for sequence in gone:
            self.drop(sequence)
        return overdue

    def _forget_stale_entries(self) -> None:
        """Rebuild the heap without those who left as overdue or were dropped below its top."""
        self._by_priority = [entry for entry in self._by_priority if entry[2] in self._waiting]
        heapq.heapify(self._by_priority)

    def _is_overdue(self, sequence: Sequence) -> bool:
        return self._num_batches - self._waiting[sequence] >= self.max_batches_waited
