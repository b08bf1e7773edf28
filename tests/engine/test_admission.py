"""What an engine has taken: here without an engine, batch by batch."""

import gc
import weakref
from concurrent.futures import Future

import numpy as np
import pytest

from hexgrid.encoding import Vectors
from hexgrid.engine.admission import Admission
from hexgrid.engine.result_cache import ResultCache
from hexgrid.engine.scheduler import MAX_PASSED_OVER, Scheduler
from hexgrid.engine.sequence import NO_SALT, Submission
from hexgrid.metrics import Metrics, ModelMetrics
from hexgrid.wire import TokenIds

ROW = np.ones(4, np.float32)
NUM_LINKS = 1_000
# What the last one shares with, and what the scheduler has not looked at since it was dropped.
MOST_ALIVE = 10 + MAX_PASSED_OVER


class Desk:
    """An Admission, and one sequence a batch."""

    def __init__(self) -> None:
        self.admission = Admission(
            Scheduler(max_num_batched_tokens=100, max_num_seqs=1),
            ResultCache(0),
            ModelMetrics(Metrics(), "m"),
            max_num_queued_tokens=1_000,
        )

    def submit(self, *token_ids: TokenIds, priority: int = 0) -> Future[Vectors]:
        submission = Submission(len(token_ids), priority=priority, hidden_size=4, submitted_at=0.0)
        self.admission.take(token_ids, submission, NO_SALT)
        return submission.future

    def answer_one(self) -> None:
        (sequence,) = self.admission.next_batch(wait=False)
        self.admission.keep([(sequence, ROW)])
        sequence.answer(ROW)


@pytest.mark.parametrize("more_urgent", [0, 1])
@pytest.mark.parametrize("ending", ["answered", "cancelled"])
def test_what_is_over_is_freed_while_inputs_are_shared_without_end(
    ending: str, more_urgent: int
) -> None:
    """Each submission shares an input with the one before it, and with the one after it."""
    desk = Desk()
    alive = weakref.WeakSet[Future[Vectors]]()
    last = desk.submit([0], [1])
    for number in range(1, NUM_LINKS):
        alive.add(last)
        shares = desk.submit([number], [number + 1], priority=-number * more_urgent)
        if ending == "answered":
            desk.answer_one()
        else:
            last.cancel()
        last = shares
    gc.collect()

    assert not last.done()
    assert len(alive) <= MOST_ALIVE
